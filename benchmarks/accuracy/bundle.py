# SPDX-License-Identifier: Apache-2.0
"""What the pretraining bundle itself gains: its default, and two views, by a linear probe with few labels.

    python benchmarks/accuracy/bundle.py --sets busi --seeds 3 --runs runs --results docs/results/accuracy_bundle.jsonl

The training images become PNG files, ``monai.bundle run pretrain`` trains on them with all keys as they are but the
patch and the number of epochs, which makes the images through the encoder the same for both, and the encoder that it
leaves is probed as by ``run.py`` (last map, the same draws of labels). ``random`` is an encoder that nobody trained.
Goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from evaluation import Effort, evaluate
from labelled_sets import LabelledSet, load_set
from PIL import Image
from run import add, git_commit, machine, read

from monai_mixssl.data.normalize import NormalizeByModality
from monai_mixssl.networks import build_encoder, load_encoder

WORKFLOWS = {"default": "PretrainWorkflow", "two_views": "TwoViewsWorkflow"}
VIEWS = {"default": 1, "two_views": 2}
EFFORT = Effort(labels=("5", "20"), finetune_labels=(), taps=("last",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="busi", help="with commas between them")
    parser.add_argument("--configs", default="random,default,two_views", help="with commas between them")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=32, help="pixels along a side, and of a patch")
    parser.add_argument("--images", type=int, default=24_000, help="images through the encoder, each view counted")
    parser.add_argument("--runs", type=Path, required=True, help="folder for images and runs")
    parser.add_argument("--results", type=Path, required=True, help="JSON lines; lines are added")
    arguments = parser.parse_args()
    for name in arguments.sets.split(","):
        data = load_set(name, arguments.size)
        folder = write_pictures(data, arguments.runs / f"{data.name}_{arguments.size}")
        for seed in range(arguments.seeds):
            for config in arguments.configs.split(","):
                asked = {"set": data.name, "config": config, "seed": seed, "size": arguments.size}
                asked["images"] = arguments.images
                if any(all(line.get(key) == value for key, value in asked.items()) for line in read(arguments.results)):
                    continue
                lines = make(data, folder, config, seed, arguments)
                more = {"commit": git_commit(), "machine": machine()}
                add(arguments.results, [{**asked, **line, **more} for line in lines])
                shown = (f"{line['labels']} {line['split']} {line['value']:.3f}" for line in lines)
                print(f"{data.name} {config} seed {seed}: {', '.join(shown)}", flush=True)


def make(
    data: LabelledSet, folder: Path, config: str, seed: int, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Pretrain and probe; top-1 accuracy of the linear probe alone."""
    seconds = 0.0
    if config == "random":
        torch.manual_seed(seed)
        encoder, record = build_encoder("resnet10_s8_thin", 2, 1)
    else:
        output = arguments.runs / f"{data.name}_{arguments.size}_{config}_{seed}"
        targets = len(data.images["train"])
        keys = {
            "dataset_dir": folder, "output_dir": output, "seed": seed, "patch_size": arguments.size, "num_workers": 0,
            "max_epochs": round(arguments.images / (0.9 * targets * VIEWS[config])),  # a tenth is for validation
            "val_interval": 1000, "pictures": False, "progress": False, "resume": output.exists(),
        }  # fmt: skip
        argv = ["run", "pretrain", "--workflow_name", f"monai_mixssl.{WORKFLOWS[config]}"]
        argv += [text for key, value in keys.items() for text in (f"--{key}", str(value))]
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "monai.bundle", *argv], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        encoder, metadata = load_encoder(output / "encoder.safetensors")
        record = metadata["record"]
    normalize = NormalizeByModality("auto")
    seen = {name: torch.stack([normalize(image) for image in images]) for name, images in data.images.items()}
    rows, _ = evaluate(encoder, record, replace(data, images=seen), seed, EFFORT, precision="none")
    chosen = [row for row in rows if row["protocol"] == "linear" and row["metric"] == "top1"]
    return [{**row, "seconds": round(seconds, 1)} for row in chosen]


def write_pictures(data: LabelledSet, folder: Path) -> Path:
    """The training images as 8-bit PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(data.images["train"]):
        path = folder / f"{number:05d}.png"
        if not path.exists():
            Image.fromarray((image[0] * 255).round().clamp(0, 255).to(torch.uint8).numpy()).save(path)
    return folder


if __name__ == "__main__":
    main()
