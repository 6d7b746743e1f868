# SPDX-License-Identifier: Apache-2.0
"""Peers that restore an image, or say what was done to it, voxel by voxel; 2D and 3D, with our method's decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from peer import Batch, Peer
from source_pool import SourcePool
from torch import Tensor
from torch.nn import functional
from views import crop_and_flip

from monai_mixssl.networks import LightDecoder

__all__ = ["RESTORING"]

Box = tuple[slice, ...]


class _Restoring(Peer):
    """An encoder and a decoder that gives ``outputs`` values a voxel."""

    views = 1
    outputs = 1

    def __init__(self, backbone: str, pool: SourcePool | None = None, spatial_dims: int = 2) -> None:
        super().__init__(backbone, pool, spatial_dims)
        self.decoder = LightDecoder(spatial_dims, self.record["feature_channels"], self.outputs)

    def decoded(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images), images.shape[2:]).float()


class _Masked(_Restoring):
    """Masked reconstruction: 60 % of the patches, 4 along an edge, are set to the mean; the loss is on those alone."""

    def prepare(self, targets: Tensor, generator: torch.Generator) -> Batch:
        images = crop_and_flip(targets, generator)
        cells = [-(-size // 4) for size in images.shape[2:]]
        hidden = (torch.rand(len(images), 1, *cells, generator=generator) < 0.6).float()
        for axis, size in enumerate(images.shape[2:], 2):
            hidden = hidden.repeat_interleave(4, axis).narrow(axis, 0, size)
        mean = images.flatten(1).mean(dim=1).view(-1, *[1] * (images.ndim - 1))
        return (images * (1 - hidden) + mean * hidden, images, hidden)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        masked, images, hidden = batch
        error = (self.decoded(masked) - images).square()
        return {"loss": (error * hidden).sum() / hidden.sum().clamp(min=1)}


class _Distorting(_Restoring, ABC):
    """Restores the whole image from a distorted one."""

    def prepare(self, targets: Tensor, generator: torch.Generator) -> Batch:
        images = crop_and_flip(targets, generator)
        return (self.distort(images, generator), images)

    @abstractmethod
    def distort(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The images as the encoder sees them."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        distorted, images = batch
        return {"loss": functional.mse_loss(self.decoded(distorted), images)}


class _Denoising(_Distorting):
    """Denoising autoencoder: Gaussian noise of deviation 0.2."""

    def distort(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images + 0.2 * torch.randn(images.shape, generator=generator)


class _Genesis(_Distorting):
    """Distortions in the style of Models Genesis: a monotone intensity curve, local shuffling, in- or out-painting."""

    def distort(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, each = len(images), (len(images), *[1] * (images.ndim - 1))
        power = torch.empty(each).uniform_(-1, 1, generator=generator).exp2()
        curved = images.clamp(0, 1) ** power
        upside_down = (torch.rand(each, generator=generator) < 0.5).float()
        result = curved * (1 - upside_down) + (1 - curved) * upside_down
        size = images.shape[2:]
        for _ in range(20):  # local shuffling: a small window is mirrored in place along every axis
            box = _box(size, [(2, 5)] * len(size), generator)
            chosen = torch.nonzero(torch.rand(count, generator=generator) < 0.5).flatten()
            index = (slice(None), slice(None), *box)
            window = result[chosen][index].flip(*range(2, images.ndim))
            changed = result[chosen]
            changed[index] = window
            result[chosen] = changed
        for number in range(count):
            index = (slice(None), *_box(size, [(edge // 4, edge // 2) for edge in size], generator))
            noise = torch.rand(1, *size, generator=generator)
            if torch.rand((), generator=generator) < 0.8:
                result[number][index] = noise[index]
            else:
                inside = result[number][index].clone()
                result[number] = noise
                result[number][index] = inside
        return result


class _VolumeFusion(_Restoring):
    """In-domain mixing in the style of VolumeFusion: the class of the mix weight, of five, at every voxel."""

    outputs = 5

    def prepare(self, targets: Tensor, generator: torch.Generator) -> Batch:
        images = crop_and_flip(targets, generator)
        others = images[torch.randperm(len(images), generator=generator)]
        classes = torch.zeros(images.shape, dtype=torch.long)
        size = images.shape[2:]
        for number in range(len(images)):
            for _ in range(8):
                index = (slice(None), *_box(size, [(edge // 6, edge // 2) for edge in size], generator))
                classes[number][index] = torch.randint(1, self.outputs, (), generator=generator)
        weight = classes.float() / (self.outputs - 1)
        return (weight * others + (1 - weight) * images, classes)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        fused, classes = batch
        return {"loss": functional.cross_entropy(self.decoded(fused), classes[:, 0])}


def _box(size: torch.Size, edges: list[tuple[int, int]], generator: torch.Generator) -> Box:
    """A box within an image of ``size``; ``edges`` gives, for each axis, the range of its edge, the end left out."""
    lengths = [int(torch.randint(low, high, (), generator=generator)) for low, high in edges]
    starts = [int(torch.randint(0, have - n, (), generator=generator)) for have, n in zip(size, lengths, strict=True)]
    return tuple(slice(start, start + length) for start, length in zip(starts, lengths, strict=True))


RESTORING = {
    "masked": _Masked,
    "denoising": _Denoising,
    "volume_fusion": _VolumeFusion,
    "genesis": _Genesis,
}
