# SPDX-License-Identifier: Apache-2.0
"""The pretrained decoder as a file, for a segmentation network that starts from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks.decoder import LightDecoder
from monai_mixssl.networks.tensor_file import read_header, read_tensors, write_tensors

__all__ = ["read_decoder_arguments", "read_decoder_tensors", "save_decoder"]


def save_decoder(path: str | os.PathLike[str], net: nn.Module, metadata: Mapping[str, Any] | None = None) -> None:
    """Write the light decoder of a network, all or nothing, with what is needed to build it again.

    Args:
        path: the file, usually ``decoder.safetensors`` beside ``encoder.safetensors``.
        net: a network with ``decoder``, a :class:`~monai_mixssl.networks.decoder.LightDecoder`, and ``record``, such
            as ``MixSSLNet`` (not wrapped for several processes).
        metadata: JSON types, as for :func:`~monai_mixssl.networks.weights.save_encoder`.

    Raises:
        ConfigError: when the network has no light decoder, or the metadata cannot be written.
    """
    decoder = getattr(net, "decoder", None)
    if not isinstance(decoder, LightDecoder):
        raise ConfigError("save_decoder writes the decoder of a pretraining network; this network has none.")
    write_tensors(path, decoder, {"decoder": decoder.arguments, "record": net.record}, metadata, "decoder")


def read_decoder_arguments(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Arguments of ``LightDecoder`` (``decoder_channels``, ``skip_connections``, ``norm``) that a file describes.

    Raises:
        DataError: when the file is missing, damaged, or of another kind.
    """
    return dict(read_header(path, "decoder", "decoder")["decoder"])


def read_decoder_tensors(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Tensors of a file of :func:`save_decoder` by their names in the decoder, on the CPU.

    Raises:
        DataError: when the file is missing, damaged, or of another kind.
    """
    return read_tensors(path, "decoder", "decoder")[0]
