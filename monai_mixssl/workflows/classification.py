# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning for classification: keys, image size, network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from monai.utils import ensure_tuple_rep

from monai_mixssl.data.labels import LabelledData
from monai_mixssl.errors import ConfigError
from monai_mixssl.networks import EncoderClassifier, build_classifier, encoder_stride
from monai_mixssl.networks.embedding import Pooling
from monai_mixssl.probes import require_sklearn
from monai_mixssl.workflows.finetune_rules import FINETUNE_RULES, check_finetune_keys
from monai_mixssl.workflows.task_settings import FineTuneSettings, weights_drawn_from
from monai_mixssl.workflows.values import Rule, boolean, choice, number, optional, size

__all__ = [
    "CLASSIFICATION_RULES",
    "cached_items",
    "check_classification_keys",
    "classifier_network",
    "common_size",
]

POOLINGS = ("last", "all", "last2x2")
_LARGEST = {2: 256, 3: 96}  # pixels, voxels along an axis where the user does not say

CLASSIFICATION_RULES: dict[str, Rule] = {
    **FINETUNE_RULES,
    "image_size": optional(size),
    "pooling": choice(*POOLINGS),
    "dropout": number(0),
    "augment": boolean,
    "cache_gb": number(0),
}


def check_classification_keys(config: Mapping[str, Any]) -> None:
    """Check the keys that must fit one another; see :py:func:`~monai_mixssl.workflows.check_finetune_keys`.

    Raises:
        ConfigError: besides, a dropout of 1 or more, an image size with another number of axes than the images, or
            scikit-learn is missing.
    """
    check_finetune_keys(config)
    require_sklearn()  # for the metrics
    dropout = config.get("dropout")
    if isinstance(dropout, int | float) and dropout >= 1:
        raise ConfigError(f"dropout must be from 0 to below 1, not {dropout!r}")
    dims, sizes = config.get("spatial_dims"), config.get("image_size")
    if isinstance(dims, int) and isinstance(sizes, list) and len(sizes) != dims:
        raise ConfigError(f"image_size has {len(sizes)} axes and spatial_dims is {dims}; give one number per axis")


def classifier_network(
    data: LabelledData, settings: FineTuneSettings, *, pooling: Pooling = "last", dropout: float = 0.0, seed: int = 0
) -> EncoderClassifier:
    """A classifier with one logit for each class of the data, its random weights drawn from the seed alone.

    Args:
        data: the labelled data.
        settings: with the architecture.
        pooling: where features are tapped: ``"last"``, ``"all"`` or ``"last2x2"``.
        dropout: share of features dropped in front of the last layer, in [0, 1).
        seed: of the random weights.
    """
    with weights_drawn_from(seed):
        return build_classifier(len(data.classes), pooling=pooling, dropout=dropout, **settings.architecture)


def common_size(
    largest: Sequence[int],
    record: Mapping[str, Any],
    image_size: int | Sequence[int] | None = None,
    main: bool = True,
) -> list[int]:
    """The one size that all images are brought to, and a sentence about it on the console.

    Args:
        largest: the largest image along each axis, pixels or voxels.
        record: the encoder's record: sizes are rounded up to multiples of its stride.
        image_size: no axis is longer than this (rounded up likewise): larger images are shrunk, with their proportions
            kept. None: 256 in 2D, 96 in 3D.
        main: whether this process prints it (the first of several).

    Returns:
        One size an axis. Smaller images are padded to it, on all sides.

    Raises:
        ConfigError: where ``image_size`` has another number of axes than the images.
    """
    dims, stride = len(largest), encoder_stride(dict(record))
    given = _LARGEST[dims] if image_size is None else image_size
    try:
        most = [int(value) for value in ensure_tuple_rep(given, dims)]
    except ValueError:
        raise ConfigError(f"image_size has another number of axes than the images, {dims}; give one per axis") from None
    sizes = [stride * math.ceil(min(side, bound) / stride) for side, bound in zip(largest, most, strict=True)]
    shown, target = (" x ".join(str(value) for value in values) for values in (largest, sizes))
    if not main:
        return sizes
    if any(side > bound for side, bound in zip(largest, sizes, strict=True)):
        how = f"are larger than image_size: they are shrunk, proportions kept, to fit {target}, then padded to it"
    else:
        how = f"are padded to {target}"
    print(f"Images of up to {shown} {how}.", flush=True)
    return sizes


def cached_items(size: Sequence[int], in_channels: int, cache_gb: float) -> int:
    """How many loaded images of a size fit into so much memory (float32).

    Args:
        size: pixels or voxels along each axis.
        in_channels: channels of an image.
        cache_gb: gibibytes; 0: nothing is kept in memory.
    """
    return int(cache_gb * 2**30 / (4 * in_channels * math.prod(size)))
