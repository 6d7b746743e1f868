# SPDX-License-Identifier: Apache-2.0
"""The pretraining network: one encoder, two objectives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_mixssl.networks.decoder import LightDecoder
from monai_mixssl.networks.embedding import pool_features
from monai_mixssl.networks.encoders import build_encoder
from monai_mixssl.networks.normalization import NormSpec
from monai_mixssl.networks.projector import Projector
from monai_mixssl.networks.transparency_head import TransparencyHead, TransparencyKind

__all__ = ["MixSSLNet"]


class MixSSLNet(nn.Module):
    """Reconstructs the target from a blend and predicts the blend's transparency, both from one encoder.

    The two objectives are those of Zhang et al., "Mix-up Self-Supervised Learning for Contrast-agnostic Applications",
    ICME 2022; the architecture is ours.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        backbone: name of the encoder, see :func:`~monai_mixssl.networks.encoders.backbone_names`.
        skip_connections: whether the decoder sees the encoder's larger maps too. Off: they let it copy the blend.
        transparency: ``"number"`` predicts one value an image, ``"map"`` one a position of the last feature map.
        norm: normalisation of encoder and decoder in place of the backbone's own. ``["group", {"num_groups": 8}]`` does
            not depend on the batch, so several processes step exactly as one does.
        decoder_channels: see :class:`~monai_mixssl.networks.decoder.LightDecoder`.
        feature_size: width of the backbone ``"swin_unetr"``.
        projection_size: P, length of the projection that two views agree in; None for no projector. An objective that
            acts behind a projector shapes the embedding less.

    Attributes:
        encoder: the encoder; its forward gives the list of feature maps.
        record: dictionary from which the encoder can be built again.
        embedding_size: D, length of the embedding.

    Raises:
        ConfigError: when an argument is not known or does not fit the backbone.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet10_s8_thin",
        skip_connections: bool = False,
        transparency: TransparencyKind = "number",
        norm: NormSpec | None = None,
        decoder_channels: Sequence[int] | None = None,
        feature_size: int | None = None,
        projection_size: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.record = build_encoder(backbone, spatial_dims, in_channels, norm, feature_size)
        channels = self.record["feature_channels"]
        self.embedding_size = int(channels[-1])
        decoder_norm = LightDecoder.norm_beside(self.record)
        self.decoder = LightDecoder(
            spatial_dims, channels, in_channels, decoder_channels, skip_connections, decoder_norm
        )
        self.transparency_head = TransparencyHead(spatial_dims, self.embedding_size, transparency)
        self.projector = None if projection_size is None else Projector(self.embedding_size, projection_size)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run both objectives on a batch of blends.

        Args:
            image: blends, (B, in_channels, *spatial).

        Returns:
            ``reconstruction`` (B, in_channels, *spatial), any real value; ``transparency`` in (0, 1), (B,) or
            (B, 1, *grid); ``embedding`` (B, D), the last feature map averaged over its positions; with a projector
            ``projection`` (B, P).
        """
        features = self.encoder(image)
        prediction = {
            "reconstruction": self.decoder(features, image.shape[2:]),
            "transparency": self.transparency_head(features[-1]),
            "embedding": pool_features(features),
        }
        if self.projector is not None:
            prediction["projection"] = self.projector(prediction["embedding"])
        return prediction
