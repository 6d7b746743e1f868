# SPDX-License-Identifier: Apache-2.0
"""Nearest neighbours: what are the labels of the training images that look most alike?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from monai_mixssl.probes.features import FeatureTable
from monai_mixssl.probes.scores import check_labels, choose, evaluate, one_hot, standardised

__all__ = ["NEIGHBOURS", "knn_probe"]

NEIGHBOURS = (1, 3, 5, 10, 20, 50, 100, 200)
_DEFAULT_NEIGHBOURS = 20
_TEMPERATURE = 0.07  # of Wu et al., Unsupervised feature learning via non-parametric instance discrimination, 2018
_ROWS = 1024  # images compared at a time: the matrix of similarities stays small


def knn_probe(
    train: FeatureTable,
    validation: FeatureTable | None,
    test: FeatureTable | None,
    num_classes: int,
    pooling: str = "last",
    neighbours: Sequence[int] = NEIGHBOURS,
    keep_probabilities: bool = False,
) -> dict[str, Any]:
    """Let the nearest training images vote, each with weight exp(cosine / 0.07), on standardised features.

    The number of neighbours is at most the mean number of training images a class (more would have to vote for other
    classes, however good the features); among those it is the one whose votes are nearest to the validation labels
    (Brier score). The test images have no part in any choice.

    Args:
        train: labelled images.
        validation: images to choose the number of neighbours on; None: it is 20, or what the limit leaves.
        test: images to report on.
        num_classes: number of classes or labels.
        pooling: which features of the tables.
        neighbours: numbers to choose from.
        keep_probabilities: return them, too.

    Returns:
        ``{"neighbours": k, "validation": scores, "test": scores}``, as in
        :func:`~monai_mixssl.probes.linear.linear_probe`.

    Raises:
        ConfigError: when scikit-learn (for the scores) is not installed, or the labels do not fit the number of
            classes.
    """
    check_labels(train, num_classes)
    scale = standardised(train, pooling)
    references = _directions(scale(train))
    votes = torch.from_numpy(one_hot(train.labels.numpy(), num_classes))
    limit = max(1, len(train) // num_classes)

    def predict(count: int, table: FeatureTable) -> np.ndarray:
        parts = []
        for rows in _directions(scale(table)).split(_ROWS):
            # a stable sort: equally near images (duplicates) are taken in the order of the training images
            similar, which = torch.sort(rows @ references.T, dim=1, descending=True, stable=True)
            weights = torch.softmax(similar[:, :count] / _TEMPERATURE, dim=1)
            parts.append((weights[:, :, None] * votes[which[:, :count]]).sum(dim=1))
        return torch.cat(parts).clamp(0.0, 1.0).numpy()

    options = [count for count in sorted(neighbours) if count <= limit] or [1]
    count = choose(options, predict, validation, default=min(_DEFAULT_NEIGHBOURS, limit))
    scores = evaluate(lambda table: predict(count, table), {"validation": validation, "test": test}, keep_probabilities)
    return {"neighbours": int(count), **scores}


def _directions(features: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(features), dim=1)
