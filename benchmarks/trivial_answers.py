# SPDX-License-Identifier: Apache-2.0
"""Does pretraining beat the trivial answers on unseen patients? Trains by the bundle and compares, over seeds.

    python benchmarks/trivial_answers.py phantoms dicom hippocampus nifti cifar10 --write docs/results.md

The trivial answers: for the reconstruction, the blend as it was put in, and the mean training image; for the
transparency, a regression on four moments of the blend and their squares, fitted on training blends. Real scans are
those that MIXSSL_TEST_DATA names; a set without its data is left out with a word. Complete runs are used again.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).parent))

from provided_sets import PRETRAINING, unlabelled

from monai_mixssl.data.seeded_dataset import SeededDataset
from monai_mixssl.engines.metrics import structural_similarity
from monai_mixssl.workflows import PretrainWorkflow

# what differs from the bundle's defaults; data below the folder that MIXSSL_TEST_DATA names
SETS: dict[str, dict[str, Any]] = {
    "phantoms": {},
    "dicom": {"dataset_dir": "dicom", "samples_per_image": 4, "max_epochs": 16, "val_fraction": 0.2},
    "nifti": {"dataset_dir": "nifti", "samples_per_image": 4, "max_epochs": 16, "val_fraction": 0.2},
    "cifar10": {"dataset_dir": "natural_cifar10", "patch_size": 32, "max_epochs": 30},
    # pretrained as for benchmarks/finetuning.py, whose test images stay apart
    **PRETRAINING,
}
DRAWS = 600
MARK = "<!-- written by benchmarks/trivial_answers.py -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=SETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--skip_connections", action="store_true", help="a decoder that sees the encoder's larger maps")
    parser.add_argument("--max_epochs", type=int, help="in place of the set's own")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for the runs")
    parser.add_argument("--write", type=Path, help="a Markdown file whose part below the mark is replaced")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.sets:
        different: dict[str, Any] = {"skip_connections": True} if arguments.skip_connections else {}
        if arguments.max_epochs:
            different["max_epochs"] = arguments.max_epochs
        scores = [measure(name, seed, arguments.runs, **different) for seed in range(arguments.seeds)]
        words = {"skip_connections": "skip connections", "max_epochs": f"{arguments.max_epochs} epochs"}
        shown = ", ".join([name, *(words[key] for key in different)])
        rows.append(row(shown, [score for score in scores if score]))
        print(rows[-1], flush=True)
    if arguments.write:
        head = arguments.write.read_text().split(MARK)[0] if arguments.write.exists() else ""
        arguments.write.write_text(head + "\n".join([MARK, "", described(arguments), "", *table(rows), ""]))


def measure(name: str, seed: int, runs: Path, **different: Any) -> dict[str, float] | None:
    """Train once, or take the finished run, and score it on held-out images; with other keys than the set's own."""
    keys = {**SETS[name], **different}
    root = os.environ.get("MIXSSL_TEST_DATA")
    if name != "phantoms" and not root:
        print(f"{name}: left out, MIXSSL_TEST_DATA is unset")
        return None
    if name in PRETRAINING:
        keys["dataset_dir"] = unlabelled(name, runs / "sets")
    elif root and "dataset_dir" in keys:
        keys["dataset_dir"] = str(Path(root) / keys["dataset_dir"])
    folder = runs / "_".join([name, *(f"{key}_{value}" for key, value in different.items()), str(seed)])
    workflow = PretrainWorkflow(logging_file=False, output_dir=str(folder), seed=seed, resume=True, **keys)
    workflow.initialize()
    workflow.run()
    network = workflow.parser.get_parsed_content("network").eval()
    train = draw(workflow.parser.get_parsed_content("train#dataset"), DRAWS)
    held_out = draw(workflow.parser.get_parsed_content("validate#dataset"), DRAWS)
    with torch.no_grad():
        pieces = [network(part) for part in held_out["blend"].split(16)]
    reconstruction = torch.cat([piece["reconstruction"] for piece in pieces])
    predicted = torch.cat([piece["transparency"] for piece in pieces])
    dims = held_out["blend"].ndim - 2
    answers = {
        "reconstruction": reconstruction,
        "blend": held_out["blend"],
        "mean": train["target"].mean(0, keepdim=True).expand_as(reconstruction),
    }
    scores = {"r2_head": r2_score(held_out["t"], predicted)}
    for answer, images in answers.items():
        scores[f"mse_{answer}"] = float((images - held_out["target"]).pow(2).mean())
        scores[f"ssim_{answer}"] = float(structural_similarity(images, held_out["target"], dims).mean())
    regression = make_pipeline(StandardScaler(), LinearRegression()).fit(moments(train["blend"]), train["t"])
    scores["r2_moments"] = r2_score(held_out["t"], regression.predict(moments(held_out["blend"])))
    return scores


def draw(dataset: SeededDataset, count: int) -> dict[str, torch.Tensor]:
    """Blends of a data set, in epochs that training never reached, so that sources and transparencies are new."""
    samples = []
    for number in range(count):
        epoch, index = divmod(number, len(dataset))
        dataset.set_epoch(10_000 + epoch)
        samples.append(dataset[index])
    return {
        name: torch.stack([torch.as_tensor(sample[key]) for sample in samples])
        for name, key in (("blend", "image"), ("target", "image_target"), ("t", "image_transparency"))
    }


def moments(blends: torch.Tensor) -> np.ndarray:
    """Mean, standard deviation, skewness and kurtosis of each blend, and their squares: (N, 8)."""
    pixels = blends.flatten(1).double().numpy()
    mean, deviation = pixels.mean(1), pixels.std(1)
    z = (pixels - mean[:, None]) / deviation.clip(1e-9)[:, None]
    four = np.column_stack([mean, deviation, (z**3).mean(1), (z**4).mean(1)])
    return np.column_stack([four, four**2])


def row(name: str, scores: list[dict[str, float]]) -> str:
    """One set's line of the table: mean ± standard deviation over seeds."""
    if not scores:
        return f"| {name} | not run: no data |"

    def cell(key: str, digits: int = 3) -> str:
        values = np.array([score[key] for score in scores])
        spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
        return f"{values.mean():.{digits}f}{spread}"

    similarity = " | ".join(cell(f"ssim_{answer}") for answer in ("reconstruction", "blend", "mean"))
    error = " | ".join(cell(f"mse_{answer}", 4) for answer in ("reconstruction", "blend", "mean"))
    return f"| {name} | {similarity} | {error} | {cell('r2_head')} | {cell('r2_moments')} |"


def table(rows: list[str]) -> list[str]:
    return [
        "| set | SSIM: reconstruction | blend | mean image | squared error: reconstruction | blend | mean image "
        "| R² of t: head | four moments |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def described(arguments: argparse.Namespace) -> str:
    return (
        f"By `python benchmarks/trivial_answers.py {' '.join(arguments.sets)} --seeds {arguments.seeds} "
        f"--write {arguments.write}`, seeds 0 to {arguments.seeds - 1}, mean ± standard deviation over them, each with "
        f"its own held-out patients (else series, else files); {DRAWS} blends of held-out images with sources and "
        f"transparencies never seen in training; {os.cpu_count()} cores of a {platform.machine()} machine, "
        f"torch {torch.__version__}."
    )


if __name__ == "__main__":
    main()
