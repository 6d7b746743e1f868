# SPDX-License-Identifier: Apache-2.0
"""From an encoder's feature maps to one vector an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from monai_mixssl.errors import ConfigError

__all__ = ["EncoderEmbedding", "Pooling", "embedding_size", "pool_features"]

Pooling = Literal["last", "all", "last2x2"]

_POOLINGS = ("last", "all", "last2x2")


def pool_features(features: Sequence[torch.Tensor], pooling: Pooling = "last") -> torch.Tensor:
    """Pool feature maps into one vector an image.

    Args:
        features: feature maps (B, C_i, *spatial_i), first to last.
        pooling: ``"last"``, the last map averaged over its positions; ``"all"``, every map averaged, one after the
            other; ``"last2x2"``, the last map averaged to two positions an axis, flattened.

    Returns:
        float32 (B, D), with D = C_last, the sum of all C_i, or C_last · 2^spatial_dims.

    Raises:
        ConfigError: when the pooling is none of these.
    """
    if pooling == "last":
        return features[-1].flatten(2).float().mean(dim=2)
    if pooling == "all":
        return torch.cat([feature.flatten(2).float().mean(dim=2) for feature in features], dim=1)
    if pooling == "last2x2":
        last = features[-1].float()
        for axis in range(2, last.ndim):
            last = _halved(last, axis)
        return last.flatten(1)
    raise ConfigError(f"pooling must be one of {', '.join(_POOLINGS)}, not {pooling!r}.")


def _halved(values: torch.Tensor, axis: int) -> torch.Tensor:
    """Means of both halves of an axis; the middle of an odd one counts in both.

    Axis by axis this is torch's adaptive average pooling, which ONNX does not know in 3D, and whose gradient is not
    deterministic on a GPU.
    """
    size = values.shape[axis]
    half = (size + 1) // 2
    first, second = values.narrow(axis, 0, half), values.narrow(axis, size // 2, half)
    return torch.cat([part.mean(dim=axis, keepdim=True) for part in (first, second)], dim=axis)


def embedding_size(record: Mapping[str, Any], pooling: Pooling = "last") -> int:
    """Length D of the vector that :func:`pool_features` gives.

    Args:
        record: the encoder's record, see :func:`~monai_mixssl.networks.encoders.build_encoder`.
        pooling: see :func:`pool_features`.

    Raises:
        ConfigError: when the pooling is not known.
    """
    channels = record["feature_channels"]
    if pooling == "last":
        return int(channels[-1])
    if pooling == "all":
        return int(sum(channels))
    if pooling == "last2x2":
        return int(channels[-1]) * 2 ** int(record["spatial_dims"])
    raise ConfigError(f"pooling must be one of {', '.join(_POOLINGS)}, not {pooling!r}.")


class EncoderEmbedding(nn.Module):
    """An encoder as a plain network: images in, one tensor out. This is the bundle's inference network.

    Args:
        encoder: an encoder, or a network that holds one as its attribute ``encoder`` (such as ``MixSSLNet``).
        pooling: where the embedding is taken, see :func:`pool_features`. Which is best depends on the task: they
            differ by several points of accuracy.

    Raises:
        ConfigError: when the pooling is not known.
    """

    def __init__(self, encoder: nn.Module, pooling: Pooling = "last") -> None:
        super().__init__()
        if pooling not in _POOLINGS:
            raise ConfigError(f"pooling must be one of {', '.join(_POOLINGS)}, not {pooling!r}.")
        self.encoder: nn.Module = getattr(encoder, "encoder", encoder)
        self.pooling: Pooling = pooling

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Embed images (B, C, *spatial) as float32 vectors (B, D)."""
        return pool_features(self.encoder(image), self.pooling)
