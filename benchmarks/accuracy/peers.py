# SPDX-License-Identifier: Apache-2.0
"""Other self-supervised methods on the same encoder, with lightly's losses and heads, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lightly_import import heads, losses
from peer import Batch, Peer
from source_pool import SourcePool
from teacher import falling_share, follow, teacher_of
from torch import Tensor, nn

from monai_mixssl.networks import pool_features

__all__ = ["PEERS"]


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


def _simclr_t05(backbone: str, pool: SourcePool | None) -> Peer:
    return _Projected(backbone, pool, heads.SimCLRProjectionHead, (512, 128), losses.NTXentLoss(temperature=0.5))


def _vicreg(backbone: str, pool: SourcePool | None) -> Peer:
    return _Projected(backbone, pool, heads.VICRegProjectionHead, (512, 512), losses.VICRegLoss())


def _barlow_twins(backbone: str, pool: SourcePool | None) -> Peer:
    return _Projected(backbone, pool, heads.BarlowTwinsProjectionHead, (512, 512), losses.BarlowTwinsLoss())


class _Blended(Peer):
    """A peer that is given our blends as one more augmentation: the control for the extra images."""

    def prepare(self, targets: Tensor, generator: torch.Generator) -> Batch:
        (views,) = super().prepare(targets, generator)
        assert self.pool is not None
        t = torch.empty(len(views), 1, 1, 1).uniform_(0.5, 1.0, generator=generator)
        return (t * views + (1 - t) * self.pool.draw(len(views), generator),)


class _ProjectedBlended(_Blended, _Projected):
    """SimCLR or VICReg on blends."""


def _simclr_blended(backbone: str, pool: SourcePool | None) -> Peer:
    return _ProjectedBlended(backbone, pool, heads.SimCLRProjectionHead, (512, 128), losses.NTXentLoss(temperature=0.2))


def _vicreg_blended(backbone: str, pool: SourcePool | None) -> Peer:
    return _ProjectedBlended(backbone, pool, heads.VICRegProjectionHead, (512, 512), losses.VICRegLoss())


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
        self.teacher = teacher_of(self.encoder, self.projector)
        self.criterion = losses.NegativeCosineSimilarity()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        views = batch[0]
        p1, p2 = self.predictor(self.projector(self.embed(views))).float().chunk(2)
        with torch.no_grad():
            encoder, projector = self.teacher
            z1, z2 = projector(pool_features(encoder(views))).float().chunk(2)
        return {"loss": (self.criterion(p1, z2) + self.criterion(p2, z1)) / 2}

    def after_step(self, progress: float) -> None:
        follow(self.teacher, self.encoder, self.projector, share=falling_share(progress))


class _BYOLBlended(_Blended, _BYOL):
    """BYOL on blends; its teacher sees them, too."""


class _MoCo(Peer):
    """He et al. 2020, version 2: a queue of 1,024 keys (less than the smallest training set's views), momentum 0.99."""

    def __init__(self, backbone: str, pool: SourcePool | None) -> None:
        super().__init__(backbone, pool)
        self.projector = heads.MoCoProjectionHead(self.width, 512, 128)
        self.teacher = teacher_of(self.encoder, self.projector)
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
        follow(self.teacher, self.encoder, self.projector, share=0.01)


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


def _without_jitter(build: Callable[[str, SourcePool | None], Peer]) -> Callable[[str, SourcePool | None], Peer]:
    def built(backbone: str, pool: SourcePool | None) -> Peer:
        peer = build(backbone, pool)
        peer.jitter = 0.0
        return peer

    return built


PEERS: dict[str, Callable[[str, SourcePool | None], Peer]] = {
    "simclr": _simclr,
    "simclr_t05": _simclr_t05,
    "moco_v2": _MoCo,
    "byol": _BYOL,
    "simsiam": _SimSiam,
    "barlow_twins": _barlow_twins,
    "vicreg": _vicreg,
    "simclr_no_jitter": _without_jitter(_simclr),
    "byol_no_jitter": _without_jitter(_BYOL),
    "vicreg_no_jitter": _without_jitter(_vicreg),
    # controls
    "simclr_blended": _simclr_blended,
    "vicreg_blended": _vicreg_blended,
    "byol_blended": _BYOLBlended,
    "simclr_extra": _simclr_extra,
    "simclr_photographs": _simclr_blended,
    "simclr_no_jitter_photographs": _without_jitter(_simclr_blended),
    "simclr_no_jitter_installed": _without_jitter(_simclr_blended),
}
