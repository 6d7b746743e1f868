# SPDX-License-Identifier: Apache-2.0
"""A recipe as a method: the package's own blend, network and loss on batches."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from monai.losses import SSIMLoss
from recipes import Recipe
from source_pool import SourcePool
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from variants import blend_spectra, with_differences
from views import crop_and_flip, jitter

from monai_mixssl.losses import DualObjectiveLoss, TransparencyLoss
from monai_mixssl.mixing import blend
from monai_mixssl.networks import LightDecoder, MixSSLNet, TransparencyHead, pool_features
from monai_mixssl.transforms.transparency import TransparencySampler

__all__ = ["MixingMethod"]

PROJECTION = 128


class MixingMethod(nn.Module):
    """Targets (B, 1, *size) in, losses out.

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
            len(pool.images.shape) - 2,
            backbone=backbone,
            transparency="map" if recipe.transparency_map_cells else "number",
            skip_connections=recipe.skip_connections,
            decoder_channels=recipe.decoder_channels,
            projection_size=PROJECTION if recipe.agreement_weight else None,
        )
        dims, channels = len(pool.images.shape) - 2, self.network.record["feature_channels"]
        self.larger_maps: list[Tensor] = []
        self.heads_of_larger_maps = nn.ModuleList(
            TransparencyHead(dims, channels[-1 - scale], "map") for scale in range(1, recipe.map_scales)
        )
        if self.heads_of_larger_maps:
            self.network.encoder.register_forward_hook(self._keep_larger_maps)
        self.similarity = SSIMLoss(dims) if recipe.similarity_weight else None
        if recipe.reconstruct_source:
            self.network.decoder = LightDecoder(dims, channels, 2, norm=LightDecoder.norm_beside(self.network.record))
        taught = recipe.agreement == "teacher"
        self.objectives = bool(recipe.reconstruction_weight or recipe.transparency_weight)
        self.loss = DualObjectiveLoss(
            recipe.reconstruction_weight,
            recipe.transparency_weight if self.objectives else 1.0,
            agreement_weight=0.0 if taught else recipe.agreement_weight,
            agreement="infonce" if taught else recipe.agreement,
            temperature=recipe.temperature,
        )
        self.teacher: nn.ModuleList | None = None
        if taught:
            self.predictor = nn.Sequential(
                nn.Linear(PROJECTION, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Linear(512, PROJECTION)
            )
            self.teacher = copy.deepcopy(self._taught()).requires_grad_(False)
        self.sampler = TransparencySampler(recipe.transparency, recipe.transparency_map_cells)
        self.random = np.random.RandomState(seed)

    @property
    def encoder(self) -> nn.Module:
        return self.network.encoder

    def prepare(self, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Views, blends and transparencies."""
        recipe = self.recipe
        x = crop_and_flip(torch.cat([targets] * recipe.views), generator)
        if recipe.jitter:
            x = jitter(x, generator, recipe.jitter)
        blended = min(recipe.blended_views, recipe.views) * len(targets)
        size = x.shape[2:]
        drawn = [self.sampler.draw(self.random, size) for _ in range(blended)]
        t = torch.stack(drawn + [self.sampler.opaque(size)] * (len(x) - blended))
        s = torch.stack([self.pool.draw(len(x), generator) for _ in range(recipe.sources)]).mean(dim=0)
        if recipe.spectra:
            m = blend_spectra(x, s, t)
        else:
            m = blend(x, s, t, match=recipe.match, renormalize=recipe.renormalize, batch=True)
        return m, {"image": torch.cat([x, s], dim=1) if recipe.reconstruct_source else x, "transparency": t}

    def forward(self, batch: tuple[Tensor, dict[str, Tensor]]) -> dict[str, Tensor]:
        blends, wanted = batch
        prediction = self.network(blends)
        if self.recipe.reconstruct_differences:
            prediction["reconstruction"] = with_differences(prediction["reconstruction"].float())
            wanted = {**wanted, "image": with_differences(wanted["image"])}
        parts = self.loss(prediction, wanted)
        if self.heads_of_larger_maps:
            each = [
                TransparencyLoss()(head(one), wanted["transparency"])
                for head, one in zip(self.heads_of_larger_maps, self.larger_maps, strict=True)
            ]
            parts["loss"] = parts["loss"] + self.recipe.transparency_weight * torch.stack(each).mean()
        if self.similarity is not None:
            apart = self.similarity(prediction["reconstruction"].float(), wanted["image"].float())
            parts["loss"] = parts["loss"] + self.recipe.similarity_weight * apart
        if self.teacher is None:
            return parts
        encoder, projector = self.teacher
        with torch.no_grad():
            taught = projector(pool_features(encoder(wanted["image"]))).float()
        other_view = taught.roll(len(taught) // 2, 0)
        agreement = 1 - cosine_similarity(self.predictor(prediction["projection"]).float(), other_view).mean()
        return {"loss": self.recipe.agreement_weight * agreement + (parts["loss"] if self.objectives else 0.0)}

    def _keep_larger_maps(self, encoder: nn.Module, images: tuple[Tensor], maps: list[Tensor]) -> None:
        self.larger_maps = [maps[-1 - scale] for scale in range(1, self.recipe.map_scales)]

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Let the teacher follow; momentum 0.99, rising to 1 by a cosine."""
        if self.teacher is None:
            return
        momentum = 1 - 0.01 * (math.cos(math.pi * progress) + 1) / 2
        for old, new in zip(self.teacher.parameters(), self._taught().parameters(), strict=True):
            old.lerp_(new, 1 - momentum)

    def _taught(self) -> nn.ModuleList:
        return nn.ModuleList([self.network.encoder, self.network.projector])
