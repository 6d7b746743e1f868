# SPDX-License-Identifier: Apache-2.0
"""What other self-supervised methods have in common."""

from __future__ import annotations

import torch
from source_pool import SourcePool
from torch import Tensor, nn
from views import crop_and_flip, jitter

from monai_mixssl.networks import build_encoder, pool_features

__all__ = ["WITH_OUR_IMAGES", "Batch", "Peer"]

JITTER = 0.4
# controls: peers that are given the same extra images as our method, and which
WITH_OUR_IMAGES = {
    "simclr_blended": "dead_leaves",
    "vicreg_blended": "dead_leaves",
    "byol_blended": "dead_leaves",
    "simclr_extra": "dead_leaves",
    "simclr_photographs": "photographs",
    "simclr_no_jitter_photographs": "photographs",
    "simclr_no_jitter_installed": "installed",
}
Batch = tuple[Tensor, ...]


class Peer(nn.Module):
    """Base of the peers: an encoder, how a batch is prepared, and a loss.

    Args:
        backbone: name of the encoder.
        pool: images of another domain, for the controls that are given them.
        spatial_dims: of the images.
    """

    views = 2
    jitter = JITTER

    def __init__(self, backbone: str, pool: SourcePool | None = None, spatial_dims: int = 2) -> None:
        super().__init__()
        self.encoder, self.record = build_encoder(backbone, spatial_dims, 1)
        self.width = int(self.record["feature_channels"][-1])
        self.pool = pool

    def embed(self, images: Tensor) -> Tensor:
        return pool_features(self.encoder(images))

    def prepare(self, targets: Tensor, generator: torch.Generator) -> Batch:
        return (jitter(crop_and_flip(torch.cat([targets, targets]), generator), generator, self.jitter),)

    def after_step(self, progress: float) -> None:
        """What follows a step; ``progress`` goes from 0 to 1."""
