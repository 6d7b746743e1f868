# SPDX-License-Identifier: Apache-2.0
"""Images through a frozen encoder: one row of numbers each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor
from torch import nn

from monai_mixssl.errors import ConfigError, DataError, TrainingError
from monai_mixssl.networks.embedding import Pooling, pool_features

__all__ = ["FeatureTable", "extract_features"]


@dataclass(frozen=True)
class FeatureTable:
    """The features of some images under one or more poolings.

    Attributes:
        features: float32 (N, D) on the CPU, by name of the pooling.
        labels: (N,) whole numbers from 0, one class an image; or (N, K) of 0 and 1, one column a label.
        ids: N ids. The slices of a volume share its id: their predictions are averaged.
    """

    features: dict[str, torch.Tensor]
    labels: torch.Tensor
    ids: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.labels.ndim == 2


@torch.no_grad()
def extract_features(
    network: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    device: torch.device | str = "cpu",
    poolings: Sequence[Pooling] = ("last",),
) -> FeatureTable:
    """Compute the features of labelled images in evaluation mode; every module is left in the mode that it was in.

    Args:
        network: an encoder (images to the list of its feature maps), or a network that holds one as its attribute
            ``encoder``, such as ``MixSSLNet`` and ``EncoderClassifier``; it may be wrapped for several processes.
        batches: a data loader whose batches hold ``image`` (B, C, \\*spatial), ``label`` (B,) or (B, K), and ``id``.
        device: where the network stands.
        poolings: where the features are taken, see :func:`~monai_mixssl.networks.embedding.pool_features`; all of them
            come from one pass over the images.

    Returns:
        The table, rows in the order of the batches.

    Raises:
        DataError: when there are no images.
        ConfigError: when no pooling is given, or one is not known.
        TrainingError: when features are not finite; the message names the image by its id.
    """
    if not poolings:
        raise ConfigError("poolings is empty; give at least one of last, all, last2x2.")
    whole = getattr(network, "module", network)
    encoder: nn.Module = getattr(whole, "encoder", whole)
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in poolings}
    labels: list[torch.Tensor] = []
    ids: list[str] = []
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        for batch in batches:
            maps = encoder(_plain(batch["image"]).to(device))
            names = [str(name) for name in batch["id"]]
            for name in poolings:
                values = pool_features(maps, name).cpu()
                _refuse_non_finite(values, names)
                rows[name].append(values)
            labels.append(_plain(torch.as_tensor(batch["label"])).cpu())
            ids += names
    finally:
        for module, training in modes:
            module.training = training
    if not ids:
        raise DataError("there are no labelled images to take features of; give labelled data.")
    joined = torch.cat(labels)
    if joined.ndim == 2 and joined.shape[1] == 1 and not joined.is_floating_point():  # that is one label, 0 or 1
        joined = joined.squeeze(1)
    labels_ = joined.float() if joined.ndim == 2 else joined.long()
    return FeatureTable({name: torch.cat(parts) for name, parts in rows.items()}, labels_, ids)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Without MONAI's metadata, whose bookkeeping costs time in every operation."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


def _refuse_non_finite(values: torch.Tensor, ids: Sequence[str]) -> None:
    finite = torch.isfinite(values).all(dim=1)
    if not finite.all():
        raise TrainingError(
            f"the features of image {ids[int(finite.int().argmin())]} are not finite; the encoder's weights are "
            "damaged, or training has diverged."
        )
