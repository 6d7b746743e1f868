# SPDX-License-Identifier: Apache-2.0
"""A recipe as a method: the package's own blend, network and loss on batches."""

from __future__ import annotations

import numpy as np
import torch
from recipes import Recipe
from source_pool import SourcePool
from torch import Tensor, nn
from views import crop_and_flip, jitter

from monai_mixssl.losses import DualObjectiveLoss
from monai_mixssl.mixing import blend
from monai_mixssl.networks import MixSSLNet
from monai_mixssl.transforms.transparency import TransparencySampler

__all__ = ["MixingMethod"]

PROJECTION = 128


class MixingMethod(nn.Module):
    """Targets (B, 1, H, W) in, losses out.

    Args:
        recipe: what to do.
        backbone: name of the encoder.
        pool: where sources are drawn from.
        seed: of the transparencies.
    """

    def __init__(self, recipe: Recipe, backbone: str, pool: SourcePool, seed: int) -> None:
        super().__init__()
        self.recipe, self.pool, self.views = recipe, pool, recipe.views
        self.network = MixSSLNet(
            backbone=backbone,
            transparency="map" if recipe.transparency_map_cells else "number",
            projection_size=PROJECTION if recipe.agreement_weight else None,
        )
        self.loss = DualObjectiveLoss(
            recipe.reconstruction_weight,
            recipe.transparency_weight,
            agreement_weight=recipe.agreement_weight,
            agreement=recipe.agreement,
            temperature=recipe.temperature,
        )
        self.sampler = TransparencySampler(recipe.transparency, recipe.transparency_map_cells)
        self.random = np.random.RandomState(seed)

    @property
    def encoder(self) -> nn.Module:
        return self.network.encoder

    def prepare(self, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Views, blends and transparencies."""
        recipe = self.recipe
        x = crop_and_flip(targets.repeat(recipe.views, 1, 1, 1), generator)
        if recipe.jitter:
            x = jitter(x, generator, recipe.jitter)
        blended = min(recipe.blended_views, recipe.views) * len(targets)
        size = x.shape[2:]
        drawn = [self.sampler.draw(self.random, size) for _ in range(blended)]
        t = torch.stack(drawn + [self.sampler.opaque(size)] * (len(x) - blended))
        s = self.pool.draw(len(x), generator)
        m = blend(x, s, t, match=recipe.match, renormalize=recipe.renormalize, batch=True)
        return m, {"image": x, "transparency": t}

    def forward(self, batch: tuple[Tensor, dict[str, Tensor]]) -> dict[str, Tensor]:
        blends, wanted = batch
        return self.loss(self.network(blends), wanted)

    def after_step(self, progress: float) -> None:
        """Nothing to follow the network."""
