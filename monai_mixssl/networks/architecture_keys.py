# SPDX-License-Identifier: Apache-2.0
"""Which encoder a fine-tuned network gets: what is asked for, else what the pretrained file says, else the default."""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from monai_mixssl.networks.encoders import build_encoder
from monai_mixssl.networks.normalization import NormSpec
from monai_mixssl.networks.weights import read_encoder_metadata

__all__ = ["encoder_for_task"]

_DEFAULT_BACKBONE = "resnet10_s8_thin"


def encoder_for_task(
    encoder_file: str | os.PathLike[str] | None,
    default_dims: int,
    spatial_dims: int | None = None,
    in_channels: int | None = None,
    backbone: str | None = None,
    norm: NormSpec | None = None,
    feature_size: int | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the encoder of a network for a task, with random weights.

    Args:
        encoder_file: an ``encoder.safetensors``, of which only the record is read.
        default_dims: spatial dimensions where neither argument nor file says.
        spatial_dims: 2 or 3, in place of the file's.
        in_channels: channels of the image, in place of the file's; 1 without a file.
        backbone: in place of the file's; norm and feature size of the file are then left aside too.
        norm: in place of the file's.
        feature_size: in place of the file's.

    Returns:
        Encoder and record, see :func:`~monai_mixssl.networks.encoders.build_encoder`.

    Raises:
        DataError: when the file cannot be read.
        ConfigError: when the arguments do not fit each other.
    """
    record = {} if encoder_file is None else read_encoder_metadata(encoder_file)["record"]
    name = backbone or record.get("backbone", _DEFAULT_BACKBONE)
    same = name == record.get("backbone")
    return build_encoder(
        name,
        record.get("spatial_dims", default_dims) if spatial_dims is None else spatial_dims,
        record.get("in_channels", 1) if in_channels is None else in_channels,
        record["norm"] if norm is None and same else norm,
        record["feature_size"] if feature_size is None and same else feature_size,
    )
