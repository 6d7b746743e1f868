# SPDX-License-Identifier: Apache-2.0
"""Pretrained networks for tests, and the file of their encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from monai_mixssl.networks import MixSSLNet, save_decoder, save_encoder

__all__ = ["pretrained"]


def pretrained(folder: Path, **arguments: Any) -> tuple[MixSSLNet, Path]:
    """A network whose weights and statistics are not the initial ones, and its ``encoder.safetensors`` in `folder`.

    ``decoder.safetensors`` lies beside it.
    """
    torch.manual_seed(0)
    net = MixSSLNet(**arguments)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():  # variances of batch norm must stay above 0
                tensor.copy_(tensor + 0.05 * torch.rand_like(tensor) * (1 if "running_var" in name else 0.2))
    save_encoder(folder / "encoder.safetensors", net)
    save_decoder(folder / "decoder.safetensors", net)
    return net.eval(), folder / "encoder.safetensors"
