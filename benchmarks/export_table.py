# SPDX-License-Identifier: Apache-2.0
"""Export every family of networks to TorchScript and ONNX, run what was exported, and print a table.

    python benchmarks/export_table.py

One Markdown row for each backbone family, number of axes and network, with the largest difference between the outputs
of the exported network and those of the network itself, as a share of the largest output. TorchScript is also run at
twice the size, where it takes that. Needs onnx, onnxscript and onnxruntime; about ten minutes on one CPU core.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import onnxruntime
import torch
from monai.networks.utils import convert_to_onnx, convert_to_torchscript
from torch import nn

from monai_mixssl.networks import EncoderEmbedding, build_classifier, build_encoder, build_segmenter
from monai_mixssl.workflows import exportable

SIZE = (64, 32, 32)
FAMILIES = {"resnet10_s8_thin": {}, "resnet18": {}, "efficientnet-b0": {}, "swin_unetr": {"feature_size": 12}}


def main() -> None:
    """Export one after the other and print a row each."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print("| backbone | axes | network | TorchScript | at twice the size | ONNX | seconds to ONNX |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for backbone, more in FAMILIES.items():
        for dims in (2, 3):
            arguments = {"spatial_dims": dims, "backbone": backbone, **more}
            encoder, record = build_encoder(backbone, dims, 1, **more)
            networks = {
                "embedding": EncoderEmbedding(encoder),
                "classifier": build_classifier(3, **arguments),
                "segmenter, U-Net": build_segmenter(3, **arguments),
                "segmenter, light": build_segmenter(3, decoder="light", **arguments),
            }
            for name, network in networks.items():
                cells = row(lively(network, SIZE[:dims]), record, SIZE[:dims])
                print(f"| {backbone} | {dims} | {name} | {' | '.join(cells)} |", flush=True)


def lively(network: nn.Module, size: Sequence[int]) -> nn.Module:
    """Give batch norms statistics of images: with those of a new network, deep ones put out next to nothing."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        network.train()(torch.rand(2, 1, *size))
    return network.eval()


def row(network: nn.Module, record: Mapping[str, Any], size: Sequence[int]) -> list[str]:
    """Differences of TorchScript at both sizes and of ONNX, and how long the latter took."""
    changed = exportable(copy.deepcopy(network), size, record)
    image, larger = torch.rand(1, 1, *size), torch.rand(1, 1, *(2 * side for side in size))
    script = convert_to_torchscript(changed)
    cells = [difference(script, network, image)]
    try:
        cells.append(difference(script, network, larger))
    except torch.jit.Error:
        cells.append("refused")
    began = time.perf_counter()
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing):
        model = convert_to_onnx(changed, [image], use_trace=False)
    seconds = time.perf_counter() - began
    session = onnxruntime.InferenceSession(model.SerializeToString())
    name = session.get_inputs()[0].name
    cells.append(difference(lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0]), network, image))
    return [*cells, f"{seconds:.0f}"]


@torch.no_grad()
def difference(exported: Callable[[torch.Tensor], torch.Tensor], network: nn.Module, image: torch.Tensor) -> str:
    """The largest difference of any output, as a share of the largest output."""
    expected = network(image)
    return f"{float((exported(image) - expected).abs().max() / expected.abs().max()):.0e}"


if __name__ == "__main__":
    sys.exit(main())
