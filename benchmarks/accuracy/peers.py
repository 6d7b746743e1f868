# SPDX-License-Identifier: Apache-2.0
"""Other self-supervised methods on the same encoder, with lightly's losses and heads, by name."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from lightly_import import heads, losses
from source_pool import SourcePool
from torch import Tensor, nn
from torch.nn import functional
from views import crop_and_flip, jitter

from monai_mixssl.networks import LightDecoder, build_encoder, pool_features

__all__ = ["PEERS", "Peer"]

JITTER = 0.4
Batch = tuple[Tensor, ...]


class Peer(nn.Module):
    """Base of the peers: an encoder, how a batch is prepared, and a loss.

    Args:
        backbone: name of the encoder.
        pool: images of another domain, for the controls that are given them.
    """

    views = 2

    def __init__(self, backbone: str, pool: SourcePool | None) -> None:
        super().__init__()
        self.encoder, self.record = build_encoder(backbone, 2, 1)
        self.width = int(self.record["feature_channels"][-1])
        self.pool = pool

    def embed(self, images: Tensor) -> Tensor:
        return pool_features(self.encoder(images))

    def prepare(self, targets: Tensor, generator: torch.Generator) -> Batch:
        return (jitter(crop_and_flip(targets.repeat(2, 1, 1, 1), generator), generator, JITTER),)

    def after_step(self, progress: float) -> None:
        """What follows a step; ``progress`` goes from 0 to 1."""


class _Projected(Peer):
    """Both views through encoder and projector; a loss between them."""

    def __init__(
        self, backbone: str, pool: SourcePool | None, head: Callable[..., nn.Module], sizes: tuple, loss
    ) -> None:
        super().__init__(backbone, pool)
        self.projector = head(self.width, *sizes)
        self.criterion = loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        first, second = self.projector(self.embed(batch[0])).float().chunk(2)
        return {"loss": self.criterion(first, second)}


def _simclr(backbone: str, pool: SourcePool | None) -> Peer:
    return _Projected(backbone, pool, heads.SimCLRProjectionHead, (512, 128), losses.NTXentLoss(temperature=0.2))


def _vicreg(backbone: str, pool: SourcePool | None) -> Peer:
    return _Projected(backbone, pool, heads.VICRegProjectionHead, (512, 512), losses.VICRegLoss())


def _barlow_twins(backbone: str, pool: SourcePool | None) -> Peer:
    return _Projected(backbone, pool, heads.BarlowTwinsProjectionHead, (512, 512), losses.BarlowTwinsLoss())


class _SimCLRBlended(_Projected):
    """SimCLR that is given our blends as one more augmentation: the control for the extra images."""

    def prepare(self, targets: Tensor, generator: torch.Generator) -> Batch:
        (views,) = super().prepare(targets, generator)
        assert self.pool is not None
        t = torch.empty(len(views), 1, 1, 1).uniform_(0.5, 1.0, generator=generator)
        return (t * views + (1 - t) * self.pool.draw(len(views), generator),)


def _simclr_blended(backbone: str, pool: SourcePool | None) -> Peer:
    return _SimCLRBlended(backbone, pool, heads.SimCLRProjectionHead, (512, 128), losses.NTXentLoss(temperature=0.2))


class _SimCLRExtra(_Projected):
    """SimCLR that is trained on the other domain's images, too, a half of each batch."""

    def prepare(self, targets: Tensor, generator: torch.Generator) -> Batch:
        half = len(targets) // 2
        assert self.pool is not None
        return super().prepare(torch.cat([targets[:half], self.pool.draw(len(targets) - half, generator)]), generator)


def _simclr_extra(backbone: str, pool: SourcePool | None) -> Peer:
    return _SimCLRExtra(backbone, pool, heads.SimCLRProjectionHead, (512, 128), losses.NTXentLoss(temperature=0.2))


class _BYOL(Peer):
    """Grill et al. 2020; momentum 0.99, rising to 1 by a cosine."""

    def __init__(self, backbone: str, pool: SourcePool | None) -> None:
        super().__init__(backbone, pool)
        self.projector = heads.BYOLProjectionHead(self.width, 512, 128)
        self.predictor = heads.BYOLPredictionHead(128, 512, 128)
        self.teacher = _frozen_copy(nn.ModuleList([self.encoder, self.projector]))
        self.criterion = losses.NegativeCosineSimilarity()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        views = batch[0]
        p1, p2 = self.predictor(self.projector(self.embed(views))).float().chunk(2)
        with torch.no_grad():
            encoder, projector = self.teacher
            z1, z2 = projector(pool_features(encoder(views))).float().chunk(2)
        return {"loss": (self.criterion(p1, z2) + self.criterion(p2, z1)) / 2}

    def after_step(self, progress: float) -> None:
        momentum = 1 - 0.01 * (math.cos(math.pi * progress) + 1) / 2
        _follow(self.teacher, nn.ModuleList([self.encoder, self.projector]), momentum)


class _MoCo(Peer):
    """He et al. 2020, version 2: a queue of 1,024 keys (less than the smallest training set's views), momentum 0.99."""

    def __init__(self, backbone: str, pool: SourcePool | None) -> None:
        super().__init__(backbone, pool)
        self.projector = heads.MoCoProjectionHead(self.width, 512, 128)
        self.teacher = _frozen_copy(nn.ModuleList([self.encoder, self.projector]))
        self.criterion = losses.NTXentLoss(temperature=0.1, memory_bank_size=(1024, 128))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        first, second = batch[0].chunk(2)
        query = self.projector(self.embed(first)).float()
        with torch.no_grad():
            encoder, projector = self.teacher
            order = torch.randperm(len(second))  # else batch statistics give the answer away
            key = projector(pool_features(encoder(second[order]))).float()[order.argsort()]
        return {"loss": self.criterion(query, key)}

    def after_step(self, progress: float) -> None:
        _follow(self.teacher, nn.ModuleList([self.encoder, self.projector]), 0.99)


class _SimSiam(Peer):
    """Chen and He 2021."""

    def __init__(self, backbone: str, pool: SourcePool | None) -> None:
        super().__init__(backbone, pool)
        self.projector = heads.SimSiamProjectionHead(self.width, 512, 512)
        self.predictor = heads.SimSiamPredictionHead(512, 128, 512)
        self.criterion = losses.NegativeCosineSimilarity()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = self.projector(self.embed(batch[0])).float()
        (z1, z2), (p1, p2) = z.detach().chunk(2), self.predictor(z).float().chunk(2)
        return {"loss": (self.criterion(p1, z2) + self.criterion(p2, z1)) / 2}


class _Restoring(Peer):
    """Restores the image from a distorted one, with the decoder that our method has."""

    views = 1

    def __init__(self, backbone: str, pool: SourcePool | None) -> None:
        super().__init__(backbone, pool)
        channels = self.record["feature_channels"]
        self.decoder = LightDecoder(2, channels, 1)

    def prepare(self, targets: Tensor, generator: torch.Generator) -> Batch:
        images = crop_and_flip(targets, generator)
        return (self.distort(images, generator), images)

    def distort(self, images: Tensor, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        distorted, images = batch[:2]
        return {"loss": functional.mse_loss(self.decoder(self.encoder(distorted), images.shape[2:]).float(), images)}


class _Masked(_Restoring):
    """Masked reconstruction: 60 % of the 4×4 patches are set to the mean; the loss is taken on those alone."""

    def prepare(self, targets: Tensor, generator: torch.Generator) -> Batch:
        images = crop_and_flip(targets, generator)
        cells = [-(-size // 4) for size in images.shape[2:]]
        hidden = (torch.rand(len(images), 1, *cells, generator=generator) < 0.6).float()
        hidden = hidden.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., : images.shape[2], : images.shape[3]]
        mean = images.mean(dim=(2, 3), keepdim=True)
        return (images * (1 - hidden) + mean * hidden, images, hidden)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        masked, images, hidden = batch
        error = (self.decoder(self.encoder(masked), images.shape[2:]).float() - images).square()
        return {"loss": (error * hidden).sum() / hidden.sum().clamp(min=1)}


class _Denoising(_Restoring):
    """Denoising autoencoder: Gaussian noise of deviation 0.2."""

    def distort(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return images + 0.2 * torch.randn(images.shape, generator=generator)


class _Genesis(_Restoring):
    """Distortions in the style of Models Genesis: a monotone intensity curve, local shuffling, in- or out-painting."""

    def distort(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        power = torch.empty(count, 1, 1, 1).uniform_(-1, 1, generator=generator).exp2()
        curved = images.clamp(0, 1) ** power
        upside_down = (torch.rand(count, 1, 1, 1, generator=generator) < 0.5).float()
        result = curved * (1 - upside_down) + (1 - curved) * upside_down
        for _ in range(20):  # local shuffling: pixels of a small window are mirrored in place
            size = int(torch.randint(2, 5, (), generator=generator))
            top = int(torch.randint(0, height - size, (), generator=generator))
            left = int(torch.randint(0, width - size, (), generator=generator))
            chosen = torch.rand(count, generator=generator) < 0.5
            window = result[chosen, :, top : top + size, left : left + size]
            result[chosen, :, top : top + size, left : left + size] = window.flip(2, 3)
        for number in range(count):
            h, w = (int(torch.randint(size // 4, size // 2, (), generator=generator)) for size in (height, width))
            top = int(torch.randint(0, height - h, (), generator=generator))
            left = int(torch.randint(0, width - w, (), generator=generator))
            noise = torch.rand(1, height, width, generator=generator)
            if torch.rand((), generator=generator) < 0.8:
                result[number, :, top : top + h, left : left + w] = noise[:, top : top + h, left : left + w]
            else:
                inside = result[number, :, top : top + h, left : left + w].clone()
                result[number] = noise
                result[number, :, top : top + h, left : left + w] = inside
        return result


class _VolumeFusion(Peer):
    """In-domain mixing in the style of VolumeFusion: the class of the mix weight, of five, at every pixel."""

    views = 1
    CLASSES = 5

    def __init__(self, backbone: str, pool: SourcePool | None) -> None:
        super().__init__(backbone, pool)
        self.decoder = LightDecoder(2, self.record["feature_channels"], self.CLASSES)

    def prepare(self, targets: Tensor, generator: torch.Generator) -> Batch:
        images = crop_and_flip(targets, generator)
        count, _, height, width = images.shape
        others = images[torch.randperm(count, generator=generator)]
        classes = torch.zeros(count, 1, height, width, dtype=torch.long)
        for number in range(count):
            for _ in range(8):
                h, w = (int(torch.randint(size // 6, size // 2, (), generator=generator)) for size in (height, width))
                top = int(torch.randint(0, height - h, (), generator=generator))
                left = int(torch.randint(0, width - w, (), generator=generator))
                classes[number, :, top : top + h, left : left + w] = torch.randint(
                    1, self.CLASSES, (), generator=generator
                )
        weight = classes.float() / (self.CLASSES - 1)
        return (weight * others + (1 - weight) * images, classes)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        fused, classes = batch
        logits = self.decoder(self.encoder(fused), fused.shape[2:]).float()
        return {"loss": functional.cross_entropy(logits, classes[:, 0])}


def _frozen_copy(module: nn.Module) -> nn.Module:
    twin = copy.deepcopy(module)
    return twin.requires_grad_(False)


@torch.no_grad()
def _follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.lerp_(new, 1 - momentum)


PEERS: dict[str, Callable[[str, SourcePool | None], Peer]] = {
    "simclr": _simclr,
    "moco_v2": _MoCo,
    "byol": _BYOL,
    "simsiam": _SimSiam,
    "barlow_twins": _barlow_twins,
    "vicreg": _vicreg,
    "masked": _Masked,
    "denoising": _Denoising,
    "volume_fusion": _VolumeFusion,
    "genesis": _Genesis,
    # controls: the same extra images as our method has
    "simclr_blended": _simclr_blended,
    "simclr_extra": _simclr_extra,
}
