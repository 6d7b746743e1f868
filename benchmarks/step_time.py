# SPDX-License-Identifier: Apache-2.0
"""Time one training step of the pretraining network: forward, backward, AdamW, on random images.

    python benchmarks/step_time.py
    python benchmarks/step_time.py --threads 2 --backbone resnet18_s8 --precision bf16 --memory-format channels_last

Prints one JSON line: milliseconds a step for the whole network and for the encoder alone (medians of the repeats, by
the clock and in processor time), the share of decoder and heads, and parameter counts. Where others use the machine
too, processor time is the number to trust; on a GPU, the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from monai_mixssl.losses import DualObjectiveLoss
from monai_mixssl.networks import EncoderEmbedding, MixSSLNet


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet10_s8_thin")
    parser.add_argument("--spatial-dims", type=int, default=2)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--norm", default=None, choices=["batch", "group", "instance"])
    parser.add_argument("--transparency", default="number", choices=["number", "map"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"])
    parser.add_argument("--memory-format", default="contiguous", choices=["contiguous", "channels_last"])
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    net = MixSSLNet(
        spatial_dims=arguments.spatial_dims,
        backbone=arguments.backbone,
        norm=arguments.norm,
        transparency=arguments.transparency,
    ).to(arguments.device)
    image = torch.rand(arguments.batch, 1, *[arguments.patch] * arguments.spatial_dims, device=arguments.device)
    if arguments.memory_format == "channels_last":
        layout = torch.channels_last if arguments.spatial_dims == 2 else torch.channels_last_3d
        net, image = net.to(memory_format=layout), image.to(memory_format=layout)
    true = torch.rand(arguments.batch, *([1, *image.shape[2:]] if arguments.transparency == "map" else []))
    target = {"image": image, "transparency": true.to(arguments.device)}
    objective = DualObjectiveLoss()
    embedding = EncoderEmbedding(net)

    whole = measure(net, lambda: objective(net(image), target)["loss"], arguments)
    encoder = measure(embedding, lambda: embedding(image).square().mean(), arguments)
    basis = "wall_ms" if arguments.device.startswith("cuda") else "cpu_ms"
    report = {
        **vars(arguments),
        "step": whole,
        "encoder_alone": encoder,
        "decoder_and_heads_share": round(1 - encoder[basis] / whole[basis], 3),
        "images_per_second": round(1000 * arguments.batch / whole["wall_ms"], 1),
        "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()},
        "torch": torch.__version__,
    }
    print(json.dumps(report))


def measure(module: nn.Module, loss: Callable[[], torch.Tensor], arguments: argparse.Namespace) -> dict[str, float]:
    """Median milliseconds of a step, by the clock and in processor time of all threads, after three to warm up."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    device = torch.device(arguments.device)
    wall, processor = [], []
    for _ in range(3 + arguments.repeats):
        start, start_processor = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=arguments.precision == "bf16"):
            value = loss()
        value.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        wall.append(1000 * (time.perf_counter() - start))
        processor.append(1000 * (time.process_time() - start_processor))
    return {"wall_ms": round(statistics.median(wall[3:]), 1), "cpu_ms": round(statistics.median(processor[3:]), 1)}


if __name__ == "__main__":
    main()
