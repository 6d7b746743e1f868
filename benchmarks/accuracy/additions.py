# SPDX-License-Identifier: Apache-2.0
"""What the seventh and eighth search add to the objectives, as modules and functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from teacher import falling_share, follow, teacher_of
from torch import Tensor, nn
from torch.nn.functional import layer_norm, log_softmax, mse_loss, normalize

from monai_mixssl.networks import LightDecoder, TransparencyHead

__all__ = [
    "BlendedMaps",
    "FeatureTarget",
    "amplitude_error",
    "decoder_behind_projector",
    "decoder_from_embedding",
    "head_behind_projector",
    "soft_agreement",
]


def soft_agreement(blends: Tensor, targets: Tensor, sources: Tensor, t: Tensor, temperature: float) -> Tensor:
    """The transparency predicted by contrast: a blend is its target by t, and its source by 1 - t.

    After Kim et al., "MixCo: mix-up contrastive learning for visual representation", 2020, and Lee et al., "i-Mix",
    ICLR 2021, who blend images of one domain.

    Args:
        blends: projections (B, P); blend i is of target i and of source i // (B / S).
        targets: projections of another view of each target, unblended, (B, P).
        sources: of another view of each source, (S, P).
        t: (B,).
        temperature: above 0.
    """
    with torch.autocast(blends.device.type, enabled=False):
        keys = normalize(torch.cat([targets, sources]).float(), dim=1)
        scores = log_softmax(normalize(blends.float(), dim=1) @ keys.T / temperature, dim=1)
    each = torch.arange(len(blends), device=blends.device)
    of_source = len(targets) + each // (len(blends) // len(sources))
    return -(t * scores[each, each] + (1 - t) * scores[each, of_source]).mean()


class FeatureTarget(nn.Module):
    """From a blend's last map, predict the map that a slowly following encoder has of the unblended target.

    After Baevski et al., "data2vec", ICML 2022: its maps are normalised over channels.
    """

    def __init__(self, encoder: nn.Module, channels: int, spatial_dims: int) -> None:
        super().__init__()
        self.teacher = teacher_of(encoder)
        self.predictor = _projector(spatial_dims, channels)

    def forward(self, last: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            taught = _over_channels(self.teacher[0](targets)[-1])
        return mse_loss(_over_channels(self.predictor(last)), taught)

    def after_step(self, encoder: nn.Module, progress: float) -> None:
        follow(self.teacher, encoder, share=falling_share(progress))


class BlendedMaps:
    """Hook of an encoder's first stage: the maps of targets and sources, halves of a batch, are blended there."""

    def __init__(self) -> None:
        self.transparency: Tensor | None = None

    def __call__(self, stage: nn.Module, images: tuple[Tensor], maps: Tensor) -> Tensor:
        if self.transparency is None:
            return maps
        targets, sources = maps.chunk(2)
        t = self.transparency.view(-1, *[1] * (maps.ndim - 1)).to(maps.dtype)
        return t * targets + (1 - t) * sources


def amplitude_error(images: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference of the amplitudes of two batches (B, C, *size); half of a spectrum, the rest mirrors it.

    ``monai.losses.JukeboxLoss`` compares the same; its square root has no finite gradient at an amplitude of 0.
    """
    axes = tuple(range(2, images.ndim))
    ours, theirs = (torch.fft.rfftn(one.float(), dim=axes, norm="ortho").abs() for one in (images, wanted))
    return mse_loss(ours, theirs)


class _Behind(nn.Module):
    """A decoder that sees the last map through a projector of its own."""

    def __init__(self, projector: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.projector, self.decoder = projector, decoder

    def forward(self, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        return self.decoder([*features[:-1], self.projector(features[-1])], size)


def decoder_behind_projector(decoder: LightDecoder, channels: int, spatial_dims: int) -> nn.Module:
    return _Behind(_projector(spatial_dims, channels), decoder)


class _FromEmbedding(nn.Module):
    """A decoder that sees nothing of the last map but its mean, the embedding that probes see."""

    def __init__(self, decoder: nn.Module, channels: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.decoder, self.shape = decoder, (channels, *grid)
        self.spread = nn.Linear(channels, math.prod(self.shape))

    def forward(self, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        embedding = features[-1].flatten(2).mean(dim=2)
        return self.decoder([*features[:-1], self.spread(embedding).view(-1, *self.shape)], size)


def decoder_from_embedding(decoder: LightDecoder, channels: int, grid: Sequence[int]) -> nn.Module:
    return _FromEmbedding(decoder, channels, grid)


def head_behind_projector(head: TransparencyHead, channels: int, spatial_dims: int) -> nn.Module:
    return nn.Sequential(_projector(spatial_dims, channels), head)


def _projector(spatial_dims: int, channels: int) -> nn.Sequential:
    convolution, norm = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}[spatial_dims]
    return nn.Sequential(
        convolution(channels, channels, 1, bias=False), norm(channels), nn.ReLU(), convolution(channels, channels, 1)
    )


def _over_channels(maps: Tensor) -> Tensor:
    last = maps.float().movedim(1, -1)
    return layer_norm(last, last.shape[-1:])
