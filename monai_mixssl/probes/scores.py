# SPDX-License-Identifier: Apache-2.0
"""How well predicted probabilities fit the labels, and what both probes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.utils import optional_import

from monai_mixssl.errors import ConfigError
from monai_mixssl.probes.features import FeatureTable

__all__ = ["average_by_id", "brier_score", "class_scores", "one_hot", "require_sklearn", "standardised"]


def require_sklearn() -> None:
    """Refuse to go on without scikit-learn, before any long work.

    Raises:
        ConfigError: when it is not installed.
    """
    if not optional_import("sklearn")[1]:
        raise ConfigError(
            "probes and the scores of classes need scikit-learn; install it with pip install 'monai-mixssl[bundle]'."
        )


def class_scores(true: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    """Accuracy, balanced accuracy and area under the ROC curve, by scikit-learn.

    Args:
        true: (N,) class numbers; or (N, K) of 0 and 1, where an image may have several labels.
        probabilities: (N, K), in [0, 1].

    Returns:
        ``accuracy`` (of the most probable class; with several labels: the mean over labels, each decided at 0.5),
        ``balanced_accuracy`` (mean recall over the classes that occur; with several labels: the mean over labels that
        occur and are absent) and ``auc`` (mean over classes or labels of one against the rest, those left out that
        occur always or never). None where nothing is left to average.

    Raises:
        ConfigError: when scikit-learn is not installed.
    """
    require_sklearn()
    from sklearn.metrics import roc_auc_score

    truth = one_hot(true, probabilities.shape[1])
    varied = [k for k in range(truth.shape[1]) if 0 < truth[:, k].sum() < len(truth)]
    if true.ndim == 2:
        decided = probabilities >= 0.5
        accuracy = (decided == truth).mean()
        recalls = [_balanced(truth[:, k], decided[:, k]) for k in varied]
    else:
        decided = probabilities.argmax(axis=1)
        accuracy = (decided == true).mean()
        recalls = [(decided[true == k] == k).mean() for k in np.unique(true)]
    areas = [roc_auc_score(truth[:, k], probabilities[:, k]) for k in varied]
    return {"accuracy": float(accuracy), "balanced_accuracy": _mean(recalls), "auc": _mean(areas)}


def one_hot(labels: np.ndarray, width: int) -> np.ndarray:
    """(N, width) of 0.0 and 1.0 from class numbers (N,); labels of several columns are returned as they are."""
    return labels.astype(np.float64) if labels.ndim == 2 else np.eye(width)[labels]


def brier_score(true: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean squared difference between probabilities (N, K) and labels: smaller is better, and 0 is perfect."""
    return float(((probabilities - one_hot(true, probabilities.shape[1])) ** 2).sum(axis=1).mean())


def average_by_id(table: FeatureTable, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and mean probabilities of each image, the slices of a volume taken together.

    Args:
        table: whose labels and ids; the slices of one id have the same label.
        probabilities: (N, K), a row of the table each.

    Returns:
        Labels (M,) or (M, K) and probabilities (M, K) of the M ids, in the order of their first rows.
    """
    _, first, group = np.unique(np.asarray(table.ids), return_index=True, return_inverse=True)
    sums = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(sums, group, probabilities)
    means = sums / np.bincount(group)[:, None]
    order = np.argsort(first)
    return table.labels.numpy()[first[order]], means[order]


def standardised(train: FeatureTable, pooling: str) -> Callable[[FeatureTable], np.ndarray]:
    """What scales features to mean 0 and deviation 1 over the training images: wide channels then do not decide alone.

    Args:
        train: the training images.
        pooling: name of the pooling.

    Returns:
        Function from a table to its scaled features, float64 (N, D); features that do not vary become 0.
    """
    values = train.features[pooling].double().numpy()
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    varies = deviation > 1e-9 * max(1.0, float(np.abs(values).max()))
    scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
    return lambda table: (table.features[pooling].double().numpy() - mean) * scale


def choose(
    options: Sequence[Any],
    predict: Callable[[Any, FeatureTable], np.ndarray],
    validation: FeatureTable | None,
    default: Any,
) -> Any:
    """The option whose probabilities are nearest to the validation labels; the default where there are none."""
    if validation is None or len(options) == 1:
        return options[0] if len(options) == 1 else default

    def distance(option: Any) -> float:
        return brier_score(*average_by_id(validation, predict(option, validation)))

    return min(options, key=distance)  # the first of equals


def evaluate(
    predict: Callable[[FeatureTable], np.ndarray],
    tables: dict[str, FeatureTable | None],
    keep_probabilities: bool = False,
) -> dict[str, Any]:
    """The scores of each table by its name; None for one that is not there.

    With ``keep_probabilities`` also ``"probabilities"``: (M, K) by the table's name, a row an image.
    """
    predicted = {name: average_by_id(table, predict(table)) for name, table in tables.items() if table is not None}
    scores: dict[str, Any] = {name: class_scores(*predicted[name]) if name in predicted else None for name in tables}
    if keep_probabilities:
        scores["probabilities"] = {name: probabilities for name, (_, probabilities) in predicted.items()}
    return scores


def check_labels(train: FeatureTable, num_classes: int) -> None:
    """Refuse labels that do not fit the number of classes.

    Raises:
        ConfigError: when a label is out of range.
    """
    labels = train.labels
    fits = (
        labels.shape[1] == num_classes if train.multi_label else bool(torch.all((labels >= 0) & (labels < num_classes)))
    )
    if not fits:
        raise ConfigError(f"the labels do not fit {num_classes} classes; give as many classes as the labels have.")


def _balanced(true: np.ndarray, decided: np.ndarray) -> float:
    present = true == 1
    return float((decided[present].mean() + (~decided[~present]).mean()) / 2)


def _mean(values: Sequence[Any]) -> float | None:
    return float(np.mean(values)) if len(values) else None
