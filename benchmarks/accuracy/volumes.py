# SPDX-License-Identifier: Apache-2.0
"""3D: hippocampus segmentation with few labels, after pretraining by each method on the same volumes.

    python benchmarks/accuracy/volumes.py --runs runs --results docs/results/accuracy.jsonl

Every method pretrains one encoder on patches of the images (test patients left out), with the same number of patches
through it; the segmentation bundle fine-tunes from each, and from scratch, with the same patients' labels and seeds.
The same command goes on where it was interrupted. The set is the one that MIXSSL_TEST_DATA names.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1]))

from patches import Patches
from pretraining import METHODS_WITHOUT_TRAINING, Budget, pretrain
from provided_sets import split_hippocampus
from run import add, git_commit, read
from torch import nn

from monai_mixssl.compare.child import run_in_child
from monai_mixssl.compare.plan import Amount, Cell
from monai_mixssl.compare.records import read_scores
from monai_mixssl.data.prepared_data import prepare_data
from monai_mixssl.data.prepared_transforms import LoadPrepared
from monai_mixssl.networks import save_encoder

NAME = "hippocampus"
METHODS = ("scratch", "mixssl", "mixssl_plain", "masked", "volume_fusion", "genesis")
PATCH = 32
CHOSEN = ("precision", "max_epochs", "pretraining_seeds")
FINETUNING = {"batch_size": 2, "max_epochs": 12, "val_interval": 4, "progress": False, "pictures": False}


class Finished(nn.Module):
    """What ``save_encoder`` wants: an encoder and its record."""

    def __init__(self, encoder: nn.Module, record: dict[str, Any]) -> None:
        super().__init__()
        self.encoder, self.record = encoder, record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS), help="with commas between them")
    parser.add_argument("--seeds", type=int, default=3, help="of fine-tuning, from 0")
    parser.add_argument(
        "--pretraining_seeds", type=int, default=1, help="that the seeds of fine-tuning take turns with"
    )
    parser.add_argument("--label_fraction", type=float, default=0.05, help="of the training patients")
    parser.add_argument("--images", type=int, default=2_400, help="patches through the encoder")
    parser.add_argument("--batch_size", type=int, default=8, help="target patches a step")
    parser.add_argument("--learning_rate", type=float, default=2e-3, help="of pretraining")
    parser.add_argument("--precision", default="none", choices=("none", "bf16"), help="of both trainings")
    parser.add_argument("--max_epochs", type=int, default=FINETUNING["max_epochs"], help="of fine-tuning")
    parser.add_argument("--runs", type=Path, required=True, help="folder for data, encoders and fine-tuning runs")
    parser.add_argument("--results", type=Path, required=True, help="JSON lines; lines are added")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--progress", action="store_true")
    arguments = parser.parse_args()
    unlabelled, labelled = split_hippocampus(arguments.runs / "sets")
    budget = Budget(arguments.images, arguments.batch_size, arguments.learning_rate, precision=arguments.precision)
    asked = {
        "set": NAME, "labels": f"{100 * arguments.label_fraction:g}%", "images": budget.images,
        "batch_size": budget.batch_size, "learning_rate": budget.learning_rate, "backbone": budget.backbone,
    }  # fmt: skip
    # a line has these where they differ from the default, and those that differ from it are other lines
    other = {name: getattr(arguments, name) for name in CHOSEN if getattr(arguments, name) != parser.get_default(name)}
    asked |= other
    same = {**dict.fromkeys(CHOSEN), **asked}
    lines = (line for line in read(arguments.results) if all(line.get(name) == same[name] for name in same))
    made = {(line["method"], line["seed"]) for line in lines}
    arguments.runs.mkdir(parents=True, exist_ok=True)
    used = arguments.runs / "asked.json"
    if used.is_file() and json.loads(used.read_text()) != asked:
        raise SystemExit("The folder of --runs holds runs that were asked for otherwise: choose another one.")
    used.write_text(json.dumps(asked))
    for seed in range(arguments.seeds):
        for method in arguments.methods.split(","):
            if (method, seed) not in made:
                line = finetune(method, seed, unlabelled, labelled, budget, arguments)
                add(arguments.results, [{**line, **asked}])
                print(f"{method} seed {seed}: mean Dice {line['value']:.4f}", flush=True)


def encoder_file(method: str, seed: int, unlabelled: Path, budget: Budget, arguments: argparse.Namespace) -> Path:
    """Pretrain, or take what is there; beside the encoder stand the effort's numbers."""
    folder = arguments.runs / f"{NAME}_{method}_{seed}"
    path = folder / "encoder.safetensors"
    if path.is_file():
        return path
    data = prepare_data(
        str(unlabelled), arguments.runs / f"{NAME}_data", spatial_dims=3, patch_size=PATCH, val_fraction=None,
        num_workers=0, progress=False, resume=True, report=lambda _: None,
    )  # fmt: skip
    load = LoadPrepared(data.folder)
    volumes = [load(image_id).numpy() for image_id in data.records]
    found = pretrain(method, Patches(volumes, PATCH, seed), seed, budget, arguments.device, arguments.progress)
    folder.mkdir(parents=True, exist_ok=True)
    effort = {"images_seen": found.images_seen, "seconds": round(found.seconds, 1), "last_loss": found.last_loss}
    (folder / "effort.json").write_text(json.dumps(effort))
    metadata = {"preparation": data.settings.as_dict(), "data_hash": data.data_hash, "axis_order": "RAS"}
    save_encoder(path, Finished(found.encoder.cpu(), found.record), metadata)
    return path


def finetune(
    method: str, seed: int, unlabelled: Path, labelled: Path, budget: Budget, arguments: argparse.Namespace
) -> dict[str, Any]:
    """One line of results: the test patients' mean Dice."""
    scratch = method in METHODS_WITHOUT_TRAINING
    # from scratch takes the way of preparing images from a file, too
    pretraining = "mixssl" if scratch else method
    path = encoder_file(pretraining, seed % arguments.pretraining_seeds, unlabelled, budget, arguments)
    amount = f"{100 * arguments.label_fraction:g}%"
    folder = arguments.runs / f"{NAME}_finetuned_{method}_{seed}"
    shared = arguments.runs / f"{NAME}_finetuned_first"  # whose data and split all others take
    keys = {
        **FINETUNING, "dataset_dir": str(labelled), "pretrained": str(path), "from_scratch": scratch, "seed": seed,
        "label_seed": seed, "label_fraction": arguments.label_fraction, "num_workers": 0, "resume": True,
        "device": f"$torch.device('{arguments.device}')", "max_epochs": arguments.max_epochs,
        "amp": arguments.precision,
    }  # fmt: skip
    cell = Cell("scratch" if scratch else "pretrained", Amount(amount, {}), seed)
    if not (shared / "metrics.json").is_file():
        first = {**keys, "output_dir": str(shared), "max_epochs": 1, "val_interval": 1}
        run_in_child("segmentation", "finetune", first, arguments.runs / "traceback.txt")
    keys = {**keys, "output_dir": str(folder), "data_from": str(shared)}
    run_in_child("segmentation", "finetune", keys, arguments.runs / "traceback.txt")
    scores = read_scores(folder, cell)
    effort = json.loads((path.parent / "effort.json").read_text()) if not scratch else {}
    return {
        "set": NAME, "method": method, "seed": seed, "labels": amount, "protocol": "finetune", "tap": "all",
        "split": "test", "metric": "dice", "value": round(scores["scores"]["finetune"]["mean_dice"], 5),
        "images_seen": effort.get("images_seen", 0), "seconds": effort.get("seconds", 0.0),
        "threads": torch.get_num_threads(), "device": arguments.device, "size": PATCH, "images": budget.images,
        "batch_size": budget.batch_size, "learning_rate": budget.learning_rate, "backbone": budget.backbone,
        "pretraining_seed": None if scratch else seed % arguments.pretraining_seeds, "commit": git_commit(),
    }  # fmt: skip


if __name__ == "__main__":
    main()
