# SPDX-License-Identifier: Apache-2.0
"""A recipe as a method: the package's own blend, network and loss on batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from additions import (
    BlendedMaps,
    FeatureTarget,
    amplitude_error,
    decoder_behind_projector,
    decoder_from_embedding,
    head_behind_projector,
    soft_agreement,
)
from monai.losses import SSIMLoss
from recipes import Recipe
from source_pool import SourcePool
from teacher import falling_share, follow, teacher_of
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from variants import blend_spectra, with_differences
from views import FLIP, crop_and_flip, jitter

from monai_mixssl.losses import DualObjectiveLoss, TransparencyLoss
from monai_mixssl.mixing import blend
from monai_mixssl.networks import LightDecoder, MixSSLNet, TransparencyHead, pool_features
from monai_mixssl.networks.projector import Projector
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
        self.kept_maps: list[Tensor] = []
        self.heads_of_larger_maps = nn.ModuleList(
            TransparencyHead(dims, channels[-1 - scale], "map") for scale in range(1, recipe.map_scales)
        )
        self.similarity = SSIMLoss(dims) if recipe.similarity_weight else None
        if recipe.reconstruct_source:
            self.network.decoder = LightDecoder(dims, channels, 2, norm=LightDecoder.norm_beside(self.network.record))
        if recipe.own_projectors:
            self.network.decoder = decoder_behind_projector(self.network.decoder, channels[-1], dims)
            self.network.transparency_head = head_behind_projector(self.network.transparency_head, channels[-1], dims)
        if recipe.from_embedding:
            with torch.no_grad():
                grid = self.network.encoder.eval()(pool.images[:1])[-1].shape[2:]
            self.network.encoder.train()
            self.network.decoder = decoder_from_embedding(self.network.decoder, channels[-1], grid)
        if recipe.projector_width:
            self.network.projector = Projector(channels[-1], PROJECTION, recipe.projector_width)
        self.blended_maps = BlendedMaps() if recipe.blend_maps else None
        if self.blended_maps:
            self.network.encoder.layer1.register_forward_hook(self.blended_maps)
        self.feature_target: FeatureTarget | None = None
        if recipe.feature_target_weight:
            self.feature_target = FeatureTarget(self.network.encoder, channels[-1], dims)
        if self.heads_of_larger_maps or self.feature_target is not None:
            self.network.encoder.register_forward_hook(self._keep_maps)
        taught, self.soft = recipe.agreement in ("teacher", "both"), recipe.agreement == "soft"
        if self.soft:
            self.views = 2 + 1 / recipe.share_sources
        self.objectives = bool(recipe.reconstruction_weight or recipe.transparency_weight)
        self.loss = DualObjectiveLoss(
            recipe.reconstruction_weight,
            recipe.transparency_weight if self.objectives else 1.0,
            agreement_weight=0.0 if recipe.agreement in ("teacher", "soft") else recipe.agreement_weight,
            agreement="vicreg" if recipe.agreement == "vicreg" else "infonce",
            temperature=recipe.temperature,
        )
        self.teacher: nn.ModuleList | None = None
        if taught:
            self.predictor = nn.Sequential(
                nn.Linear(PROJECTION, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Linear(512, PROJECTION)
            )
            self.teacher = teacher_of(self.network.encoder, self.network.projector)
        self.sampler = TransparencySampler(recipe.transparency, recipe.transparency_map_cells)
        self.random = np.random.RandomState(seed)

    @property
    def encoder(self) -> nn.Module:
        return self.network.encoder

    def prepare(self, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Views, blends and transparencies."""
        recipe = self.recipe
        whole = torch.cat([targets] * recipe.views)
        if recipe.reconstruct_whole:
            whole = crop_and_flip(whole, generator, area=(1.0, 1.0))
        x = crop_and_flip(whole, generator, flips=0.0 if recipe.reconstruct_whole else FLIP)
        if recipe.jitter:
            x = jitter(x, generator, recipe.jitter)
        blended = min(recipe.blended_views, recipe.views) * len(targets)
        size = x.shape[2:]
        drawn = [self.sampler.draw(self.random, size) for _ in range(blended)]
        t = torch.stack(drawn + [self.sampler.opaque(size)] * (len(x) - blended))
        count = len(x) // recipe.share_sources
        s = torch.stack([self.pool.draw(count, generator) for _ in range(recipe.sources)]).mean(dim=0)
        once, s = s, s.repeat_interleave(recipe.share_sources, dim=0)
        if recipe.spectra:
            m = blend_spectra(x, s, t)
        elif recipe.blend_maps:
            m = torch.cat([x, s])
        else:
            m = blend(x, s, t, match=recipe.match, renormalize=recipe.renormalize, batch=True)
        if self.soft:
            keys = crop_and_flip(once[: len(targets) // recipe.share_sources], generator)
            m = torch.cat([m, jitter(keys, generator, recipe.jitter)])
        wanted = whole if recipe.reconstruct_whole else x
        return m, {"image": torch.cat([x, s], dim=1) if recipe.reconstruct_source else wanted, "transparency": t}

    def forward(self, batch: tuple[Tensor, dict[str, Tensor]]) -> dict[str, Tensor]:
        blends, wanted = batch
        if self.blended_maps:
            self.blended_maps.transparency = wanted["transparency"]
        prediction = self.network(blends)
        if self.blended_maps:
            self.blended_maps.transparency = None
        if self.recipe.reconstruct_differences:
            prediction["reconstruction"] = with_differences(prediction["reconstruction"].float())
            wanted = {**wanted, "image": with_differences(wanted["image"])}
        if self.soft:
            return self._soft(prediction, wanted)
        parts = self.loss(prediction, wanted)
        for weight, addition in self._additions(prediction, wanted):
            parts["loss"] = parts["loss"] + weight * addition
        self.kept_maps = []  # of the graph, which nothing that copies the encoder could copy
        if self.teacher is None:
            return parts
        encoder, projector = self.teacher
        with torch.no_grad():
            taught = projector(pool_features(encoder(wanted["image"]))).float()
        other_view = taught.roll(len(taught) // 2, 0)
        agreement = 1 - cosine_similarity(self.predictor(prediction["projection"]).float(), other_view).mean()
        return {"loss": self.recipe.agreement_weight * agreement + (parts["loss"] if self.objectives else 0.0)}

    def _additions(self, prediction: dict[str, Tensor], wanted: dict[str, Tensor]) -> Iterator[tuple[float, Tensor]]:
        """Weight and value of what a recipe adds to the loss."""
        recipe = self.recipe
        reconstruction, image = prediction["reconstruction"].float(), wanted["image"].float()
        if self.heads_of_larger_maps:
            each = [
                TransparencyLoss()(head(one), wanted["transparency"])
                for head, one in zip(self.heads_of_larger_maps, self.kept_maps[1:], strict=True)
            ]
            yield recipe.transparency_weight, torch.stack(each).mean()
        if self.similarity is not None:
            yield recipe.similarity_weight, self.similarity(reconstruction, image)
        if recipe.spectral_weight:
            yield recipe.spectral_weight, amplitude_error(reconstruction, image)
        if self.feature_target is not None:
            yield recipe.feature_target_weight, self.feature_target(self.kept_maps[0], wanted["image"])

    def _soft(self, prediction: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
        """Both objectives on the blends alone, and their agreement with unblended targets and sources."""
        count = len(wanted["image"]) // 2
        blends = {name: value[:count] for name, value in prediction.items()}
        own = {name: value[:count] for name, value in wanted.items()}
        keys = prediction["projection"][count:]
        agreement = soft_agreement(
            blends["projection"], keys[:count], keys[count:], own["transparency"], self.recipe.temperature
        )
        return {"loss": self.loss(blends, own)["loss"] + self.recipe.agreement_weight * agreement}

    def _keep_maps(self, encoder: nn.Module, images: tuple[Tensor], maps: list[Tensor]) -> None:
        self.kept_maps = [maps[-1 - scale] for scale in range(self.recipe.map_scales)]

    def after_step(self, progress: float) -> None:
        """Let teachers follow."""
        if self.teacher is not None:
            follow(self.teacher, self.network.encoder, self.network.projector, share=falling_share(progress))
        if self.feature_target is not None:
            self.feature_target.after_step(self.network.encoder, progress)
