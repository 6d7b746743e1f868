# SPDX-License-Identifier: Apache-2.0
"""Linear probe: logistic regression on frozen features."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from monai_mixssl.probes.features import FeatureTable
from monai_mixssl.probes.scores import check_labels, choose, evaluate, require_sklearn, standardised

__all__ = ["STRENGTHS", "linear_probe"]

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_DEFAULT_STRENGTH = 0.01


def linear_probe(
    train: FeatureTable,
    validation: FeatureTable | None,
    test: FeatureTable | None,
    num_classes: int,
    pooling: str = "last",
    strengths: Sequence[float] = STRENGTHS,
    keep_probabilities: bool = False,
) -> dict[str, Any]:
    """Fit scikit-learn's ``LogisticRegression`` to standardised features.

    The inverse strength ``C`` of its penalty is the one whose probabilities are nearest to the validation labels (Brier
    score); the test images have no part in any choice. Several labels get a regression each, all with one ``C``.

    Args:
        train: labelled images to fit to.
        validation: images to choose ``C`` on; None: it is 0.01.
        test: images to report on.
        num_classes: number of classes or labels; those without a training image are predicted with probability 0.
        pooling: which features of the tables.
        strengths: values of ``C`` to choose from.
        keep_probabilities: return them, too.

    Returns:
        ``{"strength": C, "validation": scores, "test": scores}``, scores as in
        :func:`~monai_mixssl.probes.scores.class_scores`, over images (slices of a volume averaged), None where there
        are no such images. With ``keep_probabilities`` also ``"probabilities"``, a dictionary of arrays (M, K), a row
        an image, by the same names.

    Raises:
        ConfigError: when scikit-learn is not installed, or the labels do not fit the number of classes.
    """
    require_sklearn()
    check_labels(train, num_classes)
    scale = standardised(train, pooling)
    features, labels = scale(train), train.labels.numpy()
    models: dict[float, Any] = {}

    def predict(strength: float, table: FeatureTable) -> np.ndarray:
        if strength not in models:
            models[strength] = _fit(features, labels, num_classes, strength)
        return models[strength](scale(table))

    strength = choose(sorted(strengths), predict, validation, default=_DEFAULT_STRENGTH)
    scores = evaluate(
        lambda table: predict(strength, table), {"validation": validation, "test": test}, keep_probabilities
    )
    return {"strength": float(strength), **scores}


def _fit(features: np.ndarray, labels: np.ndarray, num_classes: int, strength: float) -> Any:
    """A function from features (N, D) to probabilities (N, K)."""
    if labels.ndim == 2:
        columns = [_fit(features, labels[:, k].astype(np.int64), 2, strength) for k in range(num_classes)]
        return lambda values: np.stack([column(values)[:, 1] for column in columns], axis=1)
    classes = np.unique(labels)
    if len(classes) == 1:  # nothing to tell apart
        return lambda values: np.tile(np.eye(num_classes)[classes[0]], (len(values), 1))

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of weak penalties, which validation then does not choose
        model.fit(features, labels)

    def probabilities(values: np.ndarray) -> np.ndarray:
        result = np.zeros((len(values), num_classes))
        result[:, classes] = model.predict_proba(values)
        return result

    return probabilities
