# SPDX-License-Identifier: Apache-2.0
"""Time one training step of a segmentation network: forward, backward, AdamW, on random volumes.

    python benchmarks/segmenter_time.py
    python benchmarks/segmenter_time.py --backbone resnet10_s16_thin --memory-format channels_last

Prints one JSON line: milliseconds a step, by the clock and in processor time (medians of the repeats after two to warm
up), and the numbers of parameters. Where others use the machine too, processor time is the number to trust.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch

from monai_mixssl.networks import build_segmenter


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet10_s8_thin")
    parser.add_argument("--decoder", default="unet", choices=["unet", "light"])
    parser.add_argument("--decoder-channels", type=int, nargs="+", default=None)
    parser.add_argument("--spatial-dims", type=int, default=3)
    parser.add_argument("--patch", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-format", default="contiguous", choices=["contiguous", "channels_last"])
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    network = build_segmenter(
        2,
        spatial_dims=arguments.spatial_dims,
        backbone=arguments.backbone,
        decoder=arguments.decoder,
        decoder_channels=arguments.decoder_channels,
    ).to(arguments.device)
    if arguments.memory_format == "channels_last":
        layout = torch.channels_last if arguments.spatial_dims == 2 else torch.channels_last_3d
        network = network.to(memory_format=layout)
    image = torch.rand(arguments.batch, 1, *[arguments.patch] * arguments.spatial_dims, device=arguments.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    wall, processor = [], []
    for _ in range(2 + arguments.repeats):
        started, started_processor = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        network(image).square().mean().backward()
        optimizer.step()
        if arguments.device.startswith("cuda"):
            torch.cuda.synchronize()
        wall.append(1000 * (time.perf_counter() - started))
        processor.append(1000 * (time.process_time() - started_processor))
    report = {
        **vars(arguments),
        "wall_ms": round(statistics.median(wall[2:]), 1),
        "cpu_ms": round(statistics.median(processor[2:]), 1),
        "parameters": {
            "encoder": sum(p.numel() for p in network.encoder.parameters()),
            "all": sum(p.numel() for p in network.parameters()),
        },
        "decoder_arguments": network.model_record["arguments"]["decoder_arguments"],
        "torch": torch.__version__,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
