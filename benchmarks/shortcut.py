# SPDX-License-Identifier: Apache-2.0
"""How much of the transparency can be read off a blend without looking at the picture: a regression on its moments.

    MIXSSL_TEST_DATA=<folder of the provided data> python benchmarks/shortcut.py --write docs/shortcut.md

For each set, source and treatment: the held-out R² of a linear regression of t and of |t − ½| on the blend's mean and
standard deviation, and on its first four standardised moments, each with its square. Prints Markdown, and with
``--write`` puts it between the marks in that file.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from monai_mixssl.data import LoadPreparedd
from monai_mixssl.data.prepared_data import prepare_data
from monai_mixssl.data.shares import spread
from monai_mixssl.mixing import blend
from monai_mixssl.sources import DeadLeaves, PowerLawNoise

SIZE, CELLS = 32, 4
SLICES = 40  # of a scan at most
TREATMENTS = {
    "raw": {"match": None, "renormalize": False},
    "matched": {"renormalize": False},
    "renormalised only": {"match": None},
    "**matched, renormalised (default)**": {},
    "histogram, renormalised": {"match": "histogram"},
}
SCORES = "t: mean, std | \\|t - ½\\| | t: four moments | \\|t - ½\\|"
BEGIN, END = "<!-- written by benchmarks/shortcut.py -->\n", "<!-- end -->\n"


def main() -> None:
    """Read the arguments, measure, print or write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000, help="blends per set, source, treatment and seed")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", help="words of the titles of some sets, with commas between them; default: all")
    parser.add_argument("--write", type=Path, help="Markdown file with the marks to write between")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    if arguments.sets and arguments.write:
        parser.error("--write takes all sets: the page holds a table of each")
    words = arguments.sets.split(",") if arguments.sets else [""]
    report = "\n".join(tables(Path(os.environ["MIXSSL_TEST_DATA"]), arguments.samples, arguments.seeds, words))
    command = f"python benchmarks/shortcut.py --samples {arguments.samples} --seeds {arguments.seeds}"
    command += f" --sets {arguments.sets}" if arguments.sets else " --write docs/shortcut.md"
    report = (
        f"By `{command}`, seeds 0 to {arguments.seeds - 1}, "
        f"{time.perf_counter() - start:.0f} s on one core of {machine()}. Mean ± standard deviation over the seeds, "
        f"each with its own images, transparencies, sources and split. Below 0 is worse than guessing the mean.\n\n"
        f"{report}\n"
    )
    print(report)
    if arguments.write:
        before, _, rest = arguments.write.read_text().partition(BEGIN)
        arguments.write.write_text(before + BEGIN + "\n" + report + "\n" + END + rest.partition(END)[2])


def tables(root: Path, samples: int, seeds: int, words: list[str]) -> list[str]:
    """One table for each set whose title holds one of the words, then one for maps."""
    readers: dict[str, Callable[[], Tensor]] = {
        "PneumoniaMNIST (chest X-ray)": lambda: npz_images(root / "pneumoniamnist.npz"),
        "BUSI (breast ultrasound)": lambda: npz_images(root / "busi128.npz"),
        "MedNIST (six kinds)": lambda: npz_images(root / "mednist64.npz"),
        "Hippocampus (MR slices)": lambda: hippocampus_slices(root / "hippocampus" / "imagesTr"),
        "Folder `nifti` (spinal cord MR, small CT)": lambda: prepared_slices(root / "nifti"),
        "Folder `dicom` (CT, MR, ultrasound)": lambda: prepared_slices(root / "dicom"),
    }
    targets = {title: read() for title, read in readers.items() if any(word in title for word in words)}
    with np.load(root / "natural_cifar10.npz") as data:
        photographs = torch.as_tensor(data["images"].mean(-1)[:, None] / 255)
    sources: dict[str, Callable[[int, int], Tensor]] = {
        "dead leaves": lambda n, seed: draw(DeadLeaves(), n, seed),
        "1/f noise": lambda n, seed: draw(PowerLawNoise(), n, seed),
        "photographs": lambda n, seed: photographs[np.random.RandomState(seed).randint(0, len(photographs), n)],
    }
    drawn = {name: [source(samples, seed) for seed in range(seeds)] for name, source in sources.items()}
    lines = []
    for title, images in targets.items():
        lines += ["", f"### {title}, {len(images)} images at {SIZE}²", ""]
        lines += [
            f"| source | blend | {SCORES} |",
            "|---|---|---|---|---|---|",
        ]
        for name, batches in drawn.items():
            for treatment, options in TREATMENTS.items():
                scores = [number_scores(images, batch, options, seed) for seed, batch in enumerate(batches)]
                lines.append(f"| {name} | {treatment} | {cells(scores)} |")
    lines += [
        "",
        f"### A map of {CELLS} by {CELLS} cells: each cell's t from its own moments (default blend)",
        "",
    ]
    lines += [
        f"| set | source | {SCORES} |",
        "|---|---|---|---|---|---|",
    ]
    for title, images in targets.items():
        for name, batches in drawn.items():
            scores = [map_scores(images, batch, seed) for seed, batch in enumerate(batches)]
            lines.append(f"| {title} | {name} | {cells(scores)} |")
    return lines


def number_scores(images: Tensor, sources: Tensor, options: dict, seed: int) -> list[float]:
    """The four R² for one transparency per image."""
    random = np.random.RandomState(seed)
    chosen = random.randint(0, len(images), len(sources))
    t = random.uniform(0, 1, len(sources))
    blends = blend(images[chosen], sources, torch.as_tensor(t), batch=True, **options)
    return scores_of(moments(blends.flatten(1).numpy()), t, held_out(images, chosen, random))


def map_scores(images: Tensor, sources: Tensor, seed: int) -> list[float]:
    """The four R² for one transparency per cell, from that cell alone."""
    random = np.random.RandomState(seed)
    chosen = random.randint(0, len(images), len(sources))
    t = random.uniform(0, 1, (len(sources), 1, CELLS, CELLS))
    weights = interpolate(torch.as_tensor(t), size=(SIZE, SIZE), mode="nearest")
    blends = blend(images[chosen], sources, weights, batch=True)
    side = SIZE // CELLS
    patches = blends.unfold(2, side, side).unfold(3, side, side).reshape(-1, side * side)
    held = np.repeat(held_out(images, chosen, random), CELLS**2)
    return scores_of(moments(patches.numpy()), t.ravel(), held)


def scores_of(features: np.ndarray, t: np.ndarray, held: np.ndarray) -> list[float]:
    """R² of t and |t − ½| on mean and deviation, then on all four moments."""
    return [held_out_r2(features[:, :n], wanted, held) for n in (2, 4) for wanted in (t, np.abs(t - 0.5))]


def moments(pixels: np.ndarray) -> np.ndarray:
    """Mean, standard deviation, skewness and kurtosis of each row: (N, pixels) to (N, 4)."""
    mean, std = pixels.mean(1), pixels.std(1)
    z = (pixels - mean[:, None]) / np.where(std > 1e-9, std, 1)[:, None]
    return np.column_stack([mean, std, (z**3).mean(1), (z**4).mean(1)])


def held_out_r2(features: np.ndarray, wanted: np.ndarray, held: np.ndarray) -> float:
    """R², on the rows in ``held``, of a least-squares fit with intercept to the others; features and their squares."""
    features = np.column_stack([features, features**2])
    features = (features - features[~held].mean(0)) / features[~held].std(0).clip(1e-12)
    design = np.column_stack([np.ones(len(features)), features])
    weights = np.linalg.lstsq(design[~held], wanted[~held], rcond=None)[0]
    residual = wanted[held] - design[held] @ weights
    return float(1 - (residual**2).mean() / wanted[held].var())


def held_out(images: Tensor, chosen: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Half of the images are held out, with all of their blends."""
    return random.permutation(len(images))[chosen] % 2 == 0


def draw(source: DeadLeaves | PowerLawNoise, count: int, seed: int) -> Tensor:
    """Images of a procedural source, (count, 1, SIZE, SIZE)."""
    source.set_random_state(seed)
    return torch.stack([source((1, SIZE, SIZE))[0] for _ in range(count)]).double()


def npz_images(path: Path) -> Tensor:
    """All images of a set in [0, 1], resized to (N, 1, SIZE, SIZE)."""
    with np.load(path) as data:
        images = np.concatenate([data[f"{part}_images"] for part in ("train", "val", "test")])
    resized = interpolate(torch.as_tensor(images[:, None] / 255.0), size=(SIZE, SIZE), mode="bilinear", antialias=True)
    return usable(resized)


def hippocampus_slices(folder: Path) -> Tensor:
    """The middle slice of each volume, resized, with its 0.5th to 99.5th percentile brought to [0, 1]."""
    slices = []
    for path in sorted(folder.glob("*.nii*")):
        volume = torch.as_tensor(nib.load(path).get_fdata())
        low, high = np.percentile(volume.numpy(), [0.5, 99.5])
        middle = ((volume[:, :, volume.shape[2] // 2] - low) / (high - low)).clamp(0, 1)
        slices.append(interpolate(middle[None, None], size=(SIZE, SIZE), mode="bilinear", antialias=True)[0])
    return usable(torch.stack(slices))


def prepared_slices(folder: Path) -> Tensor:
    """Slices of all scans of a folder as the bundle prepares them, resized; of each scan so many, evenly spread."""
    with tempfile.TemporaryDirectory() as output:
        data = prepare_data(folder, output, patch_size=SIZE, val_fraction=None, num_workers=0, progress=False)
        load = LoadPreparedd("image", data.folder)
        slices = []
        for scan in data.records:
            for item in spread([item for item in data.train if item["id"] == scan], SLICES):
                image = load(item)["image"].as_tensor()[None].double()
                slices.append(interpolate(image, size=(SIZE, SIZE), mode="bilinear", antialias=True)[0])
    return usable(torch.stack(slices))


def usable(images: Tensor) -> Tensor:
    """The images that are not constant."""
    return images[images.flatten(1).std(1) > 0]


def cells(scores: list[list[float]]) -> str:
    """Mean ± standard deviation over the seeds, a table cell each."""
    return " | ".join(
        f"{mean:.2f} ± {std:.2f}" for mean, std in zip(np.mean(scores, 0), np.std(scores, 0), strict=True)
    )


def machine() -> str:
    """What this ran on, in words."""
    names = [line.split(":")[1].strip() for line in cpu_lines() if line.startswith("model name")]
    cpu = names[0] if names else platform.processor()
    return f"a {os.cpu_count()}-core machine ({cpu}), Python {platform.python_version()}, torch {torch.__version__}"


def cpu_lines() -> list[str]:
    """What Linux says of its processor; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
