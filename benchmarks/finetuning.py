# SPDX-License-Identifier: Apache-2.0
"""Does pretraining help a task? Pretrains by the bundle, fine-tunes from scratch and pretrained, and compares.

    python benchmarks/finetuning.py phantoms --runs runs --write docs/results/finetuning.md
    python benchmarks/finetuning.py busi --runs runs --parts few --seeds 3

Each set has parts, comparisons of their own that may run beside each other (``--parts``). The same command goes on
after an interruption. Pretraining runs that are complete in ``--runs`` as ``<set>_<seed>`` are used again; test images
are never pretrained on. Real sets are those that MIXSSL_TEST_DATA names.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

from provided_sets import PRETRAINING, npz_path, split_hippocampus, unlabelled

from monai_mixssl.compare import Comparison, Plan, compare, parse_amounts, parse_protocols
from monai_mixssl.compare.picture import draw_comparison
from monai_mixssl.compare.records import Records
from monai_mixssl.compare.report import compared, verdict_and_tables
from monai_mixssl.handlers import latest_iteration
from monai_mixssl.networks import MixSSLNet, read_encoder_metadata, save_decoder
from monai_mixssl.workflows import PretrainWorkflow

# keys beside the bundles' defaults. "decoder_file": take the pretrained decoder, too
SETS: dict[str, dict[str, Any]] = {
    "phantoms": {
        "task": "classification",
        "seeds": 5,
        # the bundle's defaults when the tables were made
        "pretraining": {"batch_size": 16, "max_epochs": 20, "learning_rate": 0.002},
        "parts": {
            "few": {
                "labels": "10",
                "keys": {"max_epochs": 20, "val_fraction": 0.2, "test_fraction": 0.4},
                # the label holds for every slice, and 288 of them tell more than 24 scans
                "metrics": ("slice_auc", "slice_balanced_accuracy", "auc", "balanced_accuracy"),
            }
        },
    },
    "hippocampus": {
        "task": "segmentation",
        "seeds": 3,
        "pretraining_seeds": 1,
        "pretraining": PRETRAINING["hippocampus"],
        "parts": {
            # about as many steps for each amount of labels
            "few": {"labels": "5%", "keys": {"batch_size": 2, "max_epochs": 12, "min_steps_per_epoch": 20}},
            "some": {
                "labels": "20%",
                "keys": {"batch_size": 2, "max_epochs": 6, "val_interval": 3, "min_steps_per_epoch": 20},
            },
            "all": {"labels": "all", "keys": {"batch_size": 2, "max_epochs": 2, "val_interval": 1}},
            "light": {
                "labels": "5%",
                "keys": {"batch_size": 2, "max_epochs": 12, "min_steps_per_epoch": 20, "decoder": "light"},
            },
            "light_pretrained": {
                "labels": "5%",
                "keys": {"batch_size": 2, "max_epochs": 12, "min_steps_per_epoch": 20, "decoder": "light"},
                "decoder_file": True,
            },
        },
    },
    "pneumoniamnist": {
        "task": "classification",
        "seeds": 3,
        "pretraining_seeds": 2,
        "pretraining": PRETRAINING["pneumoniamnist"],
        "parts": {
            "few": {
                "labels": "5,20",
                "protocols": "finetune,linear,knn",
                "keys": {"max_epochs": 15, "val_interval": 3},
            },
            "all": {"labels": "all", "protocols": "finetune,linear,knn", "keys": {"batch_size": 64, "max_epochs": 4}},
        },
    },
    "busi": {
        "task": "classification",
        "seeds": 3,
        "pretraining_seeds": 2,
        "pretraining": PRETRAINING["busi"],
        "parts": {
            "few": {
                "labels": "5,20",
                "protocols": "finetune,linear,knn",
                "keys": {"max_epochs": 10, "val_interval": 3},
            },
            "all": {"labels": "all", "protocols": "finetune,linear,knn", "keys": {"max_epochs": 5}},
        },
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--parts", help="some parts of the set, with commas between them; default: all")
    parser.add_argument("--seeds", type=int, help="pretraining and fine-tuning seeds; default: the set's")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for the runs")
    parser.add_argument("--num_workers", type=int, default=0, help="loader processes of a run")
    parser.add_argument("--write", type=Path, help="a Markdown file whose part on this set is replaced; pictures too")
    parser.add_argument("--no_runs", action="store_true", help="make no run; write what there is")
    arguments = parser.parse_args()
    parts = SETS[arguments.set]["parts"]
    chosen = arguments.parts.split(",") if arguments.parts else list(parts)
    if unknown := set(chosen) - set(parts):
        parser.error(f"no part {', '.join(sorted(unknown))} of {arguments.set}; there are {', '.join(parts)}")
    seeds = arguments.seeds or SETS[arguments.set]["seeds"]
    to_pretrain, labelled = data_of(arguments.set, arguments.runs / "sets")
    if not arguments.no_runs:
        for seed in range(pretraining_seeds(arguments.set, seeds)):
            pretrain(arguments.set, seed, arguments.runs, to_pretrain, arguments.num_workers)
        for part in chosen:
            plan = plan_of(arguments.set, part, seeds, arguments.runs, labelled, arguments.num_workers)
            compare(plan, folder_of(arguments.set, part, arguments.runs))
    if arguments.write:
        done = {
            (part, metric): read(arguments, part, metric, seeds, labelled)
            for part in parts
            for metric in parts[part].get("metrics", ("",))
        }
        write(arguments, seeds, done)


def pretraining_seeds(name: str, seeds: int) -> int:
    """How many pretraining runs a set's fine-tuning seeds take turns with."""
    return min(seeds, SETS[name].get("pretraining_seeds", seeds))


def data_of(name: str, folder: Path) -> tuple[str | None, str | None]:
    """What a set is pretrained on and what it is fine-tuned on; None for phantoms."""
    if name == "phantoms":
        return None, None
    labelled = split_hippocampus(folder / name)[1] if name == "hippocampus" else npz_path(name)
    return unlabelled(name, folder), str(labelled)


def pretrain(name: str, seed: int, runs: Path, dataset: str | None, num_workers: int) -> None:
    """Pretrain, or leave a complete run as it is."""
    folder = runs / f"{name}_{seed}"
    state = folder / "run.json"
    keys = dict(SETS[name]["pretraining"])
    if state.is_file() and json.loads(state.read_text())["status"] == "complete":
        made = json.loads((folder / "config.json").read_text())
        other = [key for key, value in keys.items() if made[key] != value]
        if other:
            raise SystemExit(f"{folder.name} in --runs was made with another {other[0]}; choose another folder.")
        return
    if dataset is not None:
        keys["dataset_dir"] = dataset
    workflow = PretrainWorkflow(
        logging_file=False, output_dir=str(folder), seed=seed, resume=True, num_workers=num_workers, **keys
    )
    workflow.initialize()
    workflow.run()


def decoder_file(run: Path) -> Path:
    """A run's decoder; made from its checkpoint where the run is of a time when only encoders were kept."""
    if (run / "decoder.safetensors").is_file():
        return run / "decoder.safetensors"
    made = run.parent / "decoders" / run.name / "decoder.safetensors"
    if not made.is_file():
        newest = run / "checkpoints" / f"checkpoint_{latest_iteration(run / 'checkpoints')}.pt"
        record = read_encoder_metadata(run / "encoder.safetensors")["record"]
        network = MixSSLNet(
            **{key: record[key] for key in ("spatial_dims", "in_channels", "backbone", "norm", "feature_size")}
        )
        network.load_state_dict(torch.load(newest, map_location="cpu", weights_only=True)["network"])
        made.parent.mkdir(parents=True, exist_ok=True)
        save_decoder(made, network)
    return made


def folder_of(name: str, part: str, runs: Path) -> Path:
    return runs / f"compare_{name}_{part}"


def plan_of(
    name: str, part: str, seeds: int, runs: Path, labelled: str | None, num_workers: int, metric: str = ""
) -> Plan:
    """The comparison of a part: fine-tuning seed i starts from pretraining seed i."""
    chosen = SETS[name]["parts"][part]
    pretrained = [runs / f"{name}_{seed}" for seed in range(pretraining_seeds(name, seeds))]
    per_file = {"pretrain_run": [str(run) for run in pretrained]}
    if chosen.get("decoder_file"):
        per_file["pretrained_decoder"] = [str(decoder_file(run)) for run in pretrained]
    keys = {"progress": False, "num_workers": num_workers, **chosen.get("keys", {})}
    return Plan(
        task=SETS[name]["task"],
        pretrained=[str(run / "encoder.safetensors") for run in pretrained],
        amounts=parse_amounts(chosen["labels"]),
        seeds=seeds,
        metric=metric,
        protocols=parse_protocols(chosen.get("protocols", "finetune")),
        per_file=per_file,
        keys=keys if labelled is None else {**keys, "dataset_dir": labelled},
    )


def read(arguments: argparse.Namespace, part: str, metric: str, seeds: int, labelled: str | None) -> Comparison | str:
    """The results of a part by one metric, or why there are none."""
    folder = folder_of(arguments.set, part, arguments.runs)
    if not (folder / "compare.jsonl").is_file():
        return "not run"
    plan = plan_of(arguments.set, part, seeds, arguments.runs, labelled, arguments.num_workers, metric)
    lines = Records(folder, plan).lines()
    made = sum(lines.get(cell.name, {}).get("status") == "complete" for cell in plan.cells)
    if made < len(plan.cells):
        return f"not complete: {made} of {len(plan.cells)} runs made"
    return compared(plan, lines)


def write(arguments: argparse.Namespace, seeds: int, done: Mapping[tuple[str, str], Comparison | str]) -> None:
    """Replace the set's part of the page, and the pictures beside it."""
    name, page = arguments.set, arguments.write
    lines = [f"## {name}", "", described(arguments, seeds)]
    for (part, metric), result in done.items():
        keys = SETS[name]["parts"][part].get("keys", {})
        said = ", ".join(f"{key} {value}" for key, value in keys.items()) or "the bundle's defaults"
        decoder = "; the pretrained decoder too" if SETS[name]["parts"][part].get("decoder_file") else ""
        title = f"### {name}, {part}" + (f": {metric.replace('_', ' ')}" if metric else "")
        lines += ["", title, "", f"Keys: {said}{decoder}.", ""]
        if isinstance(result, str):
            lines.append(f"{result.capitalize()}.")
            continue
        picture = page.with_name("_".join(word for word in (page.stem, name, part, metric) if word) + ".png")
        page.parent.mkdir(parents=True, exist_ok=True)
        draw_comparison(picture, result)
        lines += [*verdict_and_tables(result, level=4), "", f"![{name}, {part}]({picture.name})"]
        lines += [f"\nLeakage guard: {text}" for text in result.leakage]
    begin, end = (f"<!-- {word} of {name}, by benchmarks/finetuning.py -->" for word in ("begin", "end"))
    section = "\n".join([begin, *lines, end])
    text = page.read_text() if page.exists() else "# Fine-tuning: pretrained against from scratch\n"
    found = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    # not the section itself, whose backslashes would be expanded
    text = found.sub(lambda _: section, text) if found.search(text) else f"{text.rstrip()}\n\n{section}\n"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text)


def described(arguments: argparse.Namespace, seeds: int) -> str:
    keys = SETS[arguments.set]["pretraining"]
    said = ", ".join(f"{key} {value}" for key, value in keys.items()) or "the bundle's defaults"
    made = pretraining_seeds(arguments.set, seeds)
    start = "each with its own pretraining" if made == seeds else f"in turn from {made} pretraining run(s)"
    return (
        f"By `python benchmarks/finetuning.py {arguments.set} --seeds {seeds}`, mean ± standard deviation over seeds 0 "
        f"to {seeds - 1}, {start} ({said}), without the test images, which are the same "
        f"for all. {os.cpu_count()} cores of a {platform.machine()} machine, torch {torch.__version__}."
    )


if __name__ == "__main__":
    main()
