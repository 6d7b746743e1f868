# SPDX-License-Identifier: Apache-2.0
"""A light decoder: from the encoder's last feature map back to an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks.normalization import BATCH_INDEPENDENT_NORM, NormSpec, norm_argument, parse_norm

__all__ = ["LightDecoder"]

_FULL_RESOLUTION_CHANNELS = 16
_MOST_CHANNELS = 64


class LightDecoder(nn.Module):
    """One convolution a level, then nearest-neighbour upsampling to the size of the level above.

    A heavy decoder would do the encoder's work in pretraining and be thrown away after it. Convolving before upsampling
    costs a quarter (2D) or an eighth (3D) of the usual order. Each level is upsampled to the size that the encoder had
    there, not by a factor of two, so that odd sizes come back exactly. Nearest-neighbour upsampling is deterministic on
    every device.

    By default only the last map is used: skip connections let the decoder copy the blend, in which nothing is masked.

    Args:
        spatial_dims: 2 or 3.
        feature_channels: channels of the encoder's maps, first (largest) to last.
        out_channels: channels of the image.
        decoder_channels: channels after each convolution, from the last map upwards, one a feature map; None for
            16 · 2^level, at most 64.
        skip_connections: whether each level also gets the encoder's map of its size.
        norm: normalisation of the convolutions.

    Attributes:
        arguments: the last three arguments as JSON types, from which an equal decoder can be built.

    Raises:
        ConfigError: when ``decoder_channels`` has not one positive number a feature map, or norm does not fit it.
    """

    def __init__(
        self,
        spatial_dims: int,
        feature_channels: Sequence[int],
        out_channels: int,
        decoder_channels: Sequence[int] | None = None,
        skip_connections: bool = False,
        norm: NormSpec = "batch",
    ) -> None:
        super().__init__()
        levels = len(feature_channels)
        if decoder_channels is None:
            decoder_channels = [min(_MOST_CHANNELS, _FULL_RESOLUTION_CHANNELS * 2**k) for k in reversed(range(levels))]
        if len(decoder_channels) != levels or any(width < 1 for width in decoder_channels):
            raise ConfigError(
                f"decoder_channels must hold {levels} positive numbers, one a feature map, "
                f"not {list(decoder_channels)}."
            )
        self.skip_connections = skip_connections
        self.arguments = {
            "decoder_channels": list(decoder_channels),
            "skip_connections": skip_connections,
            "norm": parse_norm(norm),
        }
        skips = [0, *reversed(feature_channels[:-1])] if skip_connections else [0] * levels
        inputs = [feature_channels[-1], *decoder_channels[:-1]]
        try:
            self.blocks = nn.ModuleList(
                Convolution(spatial_dims, width + skip, out, norm=norm_argument(norm), act="RELU", bias=False)
                for width, skip, out in zip(inputs, skips, decoder_channels, strict=True)
            )
        except (TypeError, ValueError) as error:
            raise ConfigError(f"The decoder cannot be built with norm {norm!r}: {error}") from error
        self.head = Conv[Conv.CONV, spatial_dims](decoder_channels[-1], out_channels, kernel_size=3, padding=1)

    @staticmethod
    def norm_beside(record: Mapping[str, Any]) -> NormSpec:
        """The normalisation that goes with an encoder.

        Args:
            record: the encoder's record, see :func:`~monai_mixssl.networks.encoders.build_encoder`.

        Returns:
            The norm that was chosen for the encoder; else batch norm, or group norm beside the transformer, whose own
            layer norm does not depend on the batch either.
        """
        if record["norm"] is not None:
            return list(record["norm"])
        return BATCH_INDEPENDENT_NORM if record["family"] == "swin_unetr" else "batch"

    def forward(self, features: Sequence[torch.Tensor], size: Sequence[int]) -> torch.Tensor:
        """Decode.

        Args:
            features: the encoder's maps, first (largest) to last, (B, C_i, *spatial_i).
            size: spatial size of the image.

        Returns:
            Image (B, out_channels, *size), any real value.
        """
        larger = [*reversed(features[:-1])]
        sizes = [*(feature.shape[2:] for feature in larger), size]
        x = features[-1]
        for level, block in enumerate(self.blocks):
            if level and self.skip_connections:
                x = torch.cat([x, larger[level - 1]], dim=1)
            x = functional.interpolate(block(x), size=tuple(sizes[level]), mode="nearest")
        return self.head(x)
