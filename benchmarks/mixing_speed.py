# SPDX-License-Identifier: Apache-2.0
"""Is it faster to blend a batch on the training device than each sample in the loader's workers?

    OMP_NUM_THREADS=1 python benchmarks/mixing_speed.py --write docs/mixing_speed.md
    OMP_NUM_THREADS=1 python benchmarks/mixing_speed.py --device cuda --workers 0 4 8

Both ways draw the source and the transparency in the workers and call the same ``blend``; the second hands the source
over beside the target and blends in the training process. Measures the parts, then whole epochs both ways in turn.
Prints Markdown, and with ``--write`` puts it between the marks of the device in that file.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from torch import Tensor

from monai_mixssl.losses import DualObjectiveLoss
from monai_mixssl.mixing import blend
from monai_mixssl.networks import MixSSLNet
from monai_mixssl.sources import DeadLeaves
from monai_mixssl.transforms import RandCrossDomainMixup, RandCrossDomainMixupd

CASES = {"2D, 16 × 64²": (16, (1, 64, 64)), "3D, 1 × 32³": (1, (1, 32, 32, 32))}  # noqa: RUF001 (a times sign)


def main() -> None:
    """Read the arguments, measure, print or write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--batches", type=int, default=4, help="batches an epoch")
    parser.add_argument("--repeats", type=int, default=5, help="epochs each way")
    parser.add_argument("--write", type=Path, help="Markdown file with the marks to write between")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    report = "\n".join([*parts(device), "", *epochs(device, arguments)])
    report = f"On {machine(device)}, {time.strftime('%B %Y')}.\n\n{report}\n"
    print(report)
    if arguments.write:
        begin, end = f"<!-- written by benchmarks/mixing_speed.py on {device.type} -->\n", "<!-- end -->\n"
        before, _, rest = arguments.write.read_text().partition(begin)
        arguments.write.write_text(before + begin + "\n" + report + "\n" + end + rest.partition(end)[2])


def parts(device: torch.device) -> list[str]:
    """Milliseconds a batch of each part, and the blend's share of a training step."""
    lines = [
        "Milliseconds a batch, one thread; median of 9:",
        "",
        "| batch | draw the sources | blend, one by one | blend, as a batch | copy sources | training step | share |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (size, shape) in CASES.items():
        targets, t = torch.rand(size, *shape), torch.rand(size)
        draw = RandCrossDomainMixup(DeadLeaves()).set_random_state(seed=0)
        sources = torch.stack([draw.source(shape)[0] for _ in range(size)])
        there = [part.to(device) for part in (targets, sources, t)]
        step = training_step(device, len(shape) - 1)
        drawing = median_ms(lambda: [draw.randomize(x) for x in targets], device)  # noqa: B023 (called at once)
        one_by_one = median_ms(lambda: [blend(x, s, w) for x, s, w in zip(targets, sources, t, strict=True)], device)  # noqa: B023 (called at once)
        as_batch = median_ms(lambda: blend(*there, batch=True), device)  # noqa: B023 (called at once)
        copying = median_ms(lambda: sources.to(device), device) if device.type != "cpu" else 0.0  # noqa: B023 (called at once)
        whole = median_ms(lambda: step(there[0], there[0], there[2]), device)  # noqa: B023 (called at once)
        lines.append(
            f"| {name} | {drawing:.1f} | {one_by_one:.2f} | {as_batch:.2f} | {copying:.2f} | {whole:.1f} "
            f"| {one_by_one / whole:.1%} / {as_batch / whole:.1%} |"
        )
    return lines


def epochs(device: torch.device, arguments: argparse.Namespace) -> list[str]:
    """Images a second of whole epochs, both ways in turn, so that other load on the machine hits both."""
    lines = [
        f"Epochs of {arguments.batches} batches, images a second; median of {arguments.repeats} (lowest to highest):",
        "",
        "| batch | workers | blend in the workers | blend the batch | ratio |",
        "|---|---|---|---|---|",
    ]
    for name, (size, shape) in CASES.items():
        step = training_step(device, len(shape) - 1)
        items = [{"image": MetaTensor(torch.rand(shape))} for _ in range(size * arguments.batches)]
        for workers in arguments.workers:
            loaders = [
                DataLoader(
                    Dataset(items, RandCrossDomainMixupd("image", DeadLeaves(), blend=blends)),
                    batch_size=size,
                    num_workers=workers,
                    persistent_workers=workers > 0,
                    pin_memory=device.type == "cuda",
                )
                for blends in (True, False)
            ]
            for way, loader in enumerate(loaders):
                epoch_seconds(loader, bool(way), step, device)  # to warm up and to start the workers
            seconds = np.array(
                [
                    [epoch_seconds(loader, bool(way), step, device) for way, loader in enumerate(loaders)]
                    for _ in range(arguments.repeats)
                ]
            )
            rates = len(items) / seconds
            ratio = rates[:, 1] / rates[:, 0]
            lines.append(f"| {name} | {workers} | {span(rates[:, 0])} | {span(rates[:, 1])} | {span(ratio, 2)} |")
    return lines


def epoch_seconds(loader: DataLoader, as_batch: bool, step: Callable, device: torch.device) -> float:
    """Seconds of one epoch of training."""
    start = time.perf_counter()
    for target, mixed, t in batches(loader, as_batch, device):
        step(mixed, target, t)
    synchronize(device)
    return time.perf_counter() - start


def batches(loader: DataLoader, as_batch: bool, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Target, blend and transparency of each batch, on the device."""
    for batch in loader:
        t = batch["image_transparency"].to(device, non_blocking=True)
        # plain tensors both ways: a network that runs on MetaTensors is slower, which is another matter
        image = batch["image"].as_tensor().to(device, non_blocking=True)
        if as_batch:
            yield image, blend(image, batch["image_source"].to(device, non_blocking=True), t, batch=True), t
        else:
            yield batch["image_target"].as_tensor().to(device, non_blocking=True), image, t


def training_step(device: torch.device, spatial_dims: int) -> Callable[[Tensor, Tensor, Tensor], None]:
    """Forward, backward and AdamW of the default network."""
    torch.manual_seed(0)
    net = MixSSLNet(spatial_dims=spatial_dims, backbone="resnet10_s8_thin").to(device)
    optimizer, objective = torch.optim.AdamW(net.parameters()), DualObjectiveLoss()

    def step(mixed: Tensor, target: Tensor, t: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        objective(net(mixed), {"image": target, "transparency": t})["loss"].backward()
        optimizer.step()

    return step


def median_ms(action: Callable[[], object], device: torch.device, repeats: int = 9) -> float:
    """Median milliseconds after three runs to warm up."""
    times = []
    for _ in range(repeats + 3):
        synchronize(device)
        start = time.perf_counter()
        action()
        synchronize(device)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[3:]))


def synchronize(device: torch.device) -> None:
    """Wait for the device to finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def span(values: np.ndarray, digits: int = 0) -> str:
    """Median (lowest to highest)."""
    return f"{np.median(values):.{digits}f} ({values.min():.{digits}f} to {values.max():.{digits}f})"


def machine(device: torch.device) -> str:
    """What this ran on, in words."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cpu = f"{os.cpu_count()} cores, {names[0] if names else platform.processor()}, torch {torch.__version__}"
    return f"{torch.cuda.get_device_name(device)}, {cpu}" if device.type == "cuda" else cpu


if __name__ == "__main__":
    main()
