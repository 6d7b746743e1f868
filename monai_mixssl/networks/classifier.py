# SPDX-License-Identifier: Apache-2.0
"""An encoder with one linear layer: classification, linear probe, fine-tuning."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks.architecture_keys import encoder_for_task
from monai_mixssl.networks.embedding import Pooling, embedding_size, pool_features
from monai_mixssl.networks.normalization import NormSpec

__all__ = ["EncoderClassifier", "build_classifier"]


class EncoderClassifier(nn.Module):
    """Images in, one logit a class out.

    Args:
        encoder: network from images to the list of its feature maps.
        record: from which the encoder can be built again.
        num_classes: number of logits, at least 1.
        pooling: where features are tapped, see :func:`~monai_mixssl.networks.embedding.pool_features`.
        dropout: share of features dropped in training, in front of the linear layer; from 0 to below 1.

    Attributes:
        encoder: the encoder.
        head: the linear layer.
        record: the encoder's record.
        model_record: dictionary of JSON types from which the whole network can be built again.

    Raises:
        ConfigError: when an argument is out of its range.
    """

    def __init__(
        self,
        encoder: nn.Module,
        record: Mapping[str, Any],
        num_classes: int,
        pooling: Pooling = "last",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(num_classes, int) or isinstance(num_classes, bool) or num_classes < 1:
            raise ConfigError(f"num_classes must be a whole number of at least 1, not {num_classes!r}.")
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout must be from 0 to below 1, not {dropout!r}.")
        self.record = dict(record)
        self.pooling: Pooling = pooling
        self.model_record = {
            "kind": "classifier",
            "encoder": self.record,
            "arguments": {"num_classes": num_classes, "pooling": pooling, "dropout": dropout},
        }
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(embedding_size(self.record, pooling), num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Classify images (B, C, *spatial) as logits (B, num_classes)."""
        logits: torch.Tensor = self.head(self.dropout(self.embed(image)))
        return logits

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """Features of images (B, C, *spatial) that the linear layer sees: float32 (B, D)."""
        return pool_features(self.encoder(image), self.pooling)


def build_classifier(
    num_classes: int,
    *,
    encoder_file: str | os.PathLike[str] | None = None,
    spatial_dims: int | None = None,
    in_channels: int | None = None,
    backbone: str | None = None,
    norm: NormSpec | None = None,
    feature_size: int | None = None,
    pooling: Pooling = "last",
    dropout: float = 0.0,
) -> EncoderClassifier:
    """Build a classifier with random weights; :func:`~monai_mixssl.networks.loading.load_pretrained` fills it.

    Args:
        num_classes: number of logits, at least 1.
        encoder_file: an ``encoder.safetensors``: the architecture is that of its record. Each of the next five
            arguments, where it is given, takes the place of the record's.
        spatial_dims: 2 or 3; None for the record's, 2 without a file.
        in_channels: channels of the image; None for the record's, 1 without a file.
        backbone: see :func:`~monai_mixssl.networks.encoders.backbone_names`; None for the record's,
            ``"resnet10_s8_thin"`` without a file.
        norm: see :func:`~monai_mixssl.networks.encoders.build_encoder`.
        feature_size: likewise.
        pooling: where features are tapped, see :func:`~monai_mixssl.networks.embedding.pool_features`.
        dropout: share of features dropped in training, in front of the linear layer.

    Returns:
        Network from images (B, in_channels, *spatial) to logits (B, num_classes).

    Raises:
        DataError: when the file cannot be read.
        ConfigError: when an argument is not known or does not fit the others.
    """
    encoder, record = encoder_for_task(encoder_file, 2, spatial_dims, in_channels, backbone, norm, feature_size)
    return EncoderClassifier(encoder, record, num_classes, pooling, dropout)
