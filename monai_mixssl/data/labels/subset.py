# SPDX-License-Identifier: Apache-2.0
"""Keeps a few labels of the training split, as if the others had never been given."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from monai_mixssl.data.labels.split import Unit
from monai_mixssl.errors import ConfigError

__all__ = ["check_subset", "describe_shortage", "label_subset"]


def check_subset(labels_per_class: int | None, label_fraction: float | None) -> None:
    """Refuses a size of the label subset that cannot be.

    Raises:
        ConfigError: both are given, or one is out of its range.
    """
    if labels_per_class is not None and label_fraction is not None:
        raise ConfigError("labels_per_class and label_fraction are both given; give one of them.")
    if labels_per_class is not None and (labels_per_class < 1 or labels_per_class != int(labels_per_class)):
        raise ConfigError(f"labels_per_class is {labels_per_class!r}; use a whole number of at least 1.")
    if label_fraction is not None and not 0 < label_fraction <= 1:
        raise ConfigError(f"label_fraction is {label_fraction!r}; use a share above 0 and up to 1.")


def label_subset(
    training: Sequence[Unit],
    groups: dict[str, str],
    labels_per_class: int | None,
    label_fraction: float | None,
    label_seed: int,
) -> set[str]:
    """Chooses the images of the training split whose labels are used.

    For each class, patients (series, files) that show it are put in a random order, and the first of them are taken,
    with all their images of that class: the first 5 of a seed are among its first 20. Images of no class (of several
    that may hold, or in segmentation) count as a class of their own.

    Args:
        training: images of the training split, in the order of the scan.
        groups: patient, series or file of each image, by id.
        labels_per_class: how many patients a class; all of them where there are fewer.
        label_fraction: or which share of them, at least one.
        label_seed: of the order.

    Returns:
        Ids of the images that are used; all of them where neither size is given.

    Raises:
        ConfigError: see `check_subset`.
    """
    check_subset(labels_per_class, label_fraction)
    if labels_per_class is None and label_fraction is None:
        return {unit.id for unit in training}
    members: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for unit in training:
        for label in unit.labels or (-1,):
            members[label][groups[unit.id]].append(unit.id)
    used: set[str] = set()
    for label, by_group in members.items():
        order = np.random.RandomState([label_seed, label + 1]).permutation(len(by_group))
        # one part in a billion: 0.2 × 5 is 1, however it is rounded
        count = labels_per_class or math.ceil((label_fraction or 0) * len(by_group) * (1 - 1e-9))
        names = list(by_group)
        for number in order[: max(1, count)]:
            used.update(by_group[names[number]])
    return used


def describe_shortage(
    training: Sequence[Unit], groups: dict[str, str], labels_per_class: int | None, classes: Sequence[str]
) -> list[str]:
    """Returns a sentence for each class that has fewer patients (series, files) than are asked for.

    Args:
        training, groups, labels_per_class: see `label_subset`.
        classes: names of the classes; empty in segmentation.
    """
    if labels_per_class is None:
        return []
    members: dict[int, set[str]] = {number: set() for number in range(len(classes))}
    for unit in training:
        for label in unit.labels or (-1,):
            members.setdefault(label, set()).add(groups[unit.id])
    return [
        f"{_named(label, classes)} has only {len(own)} of the {labels_per_class} asked for in training."
        for label, own in sorted(members.items())
        if len(own) < labels_per_class
    ]


def _named(label: int, classes: Sequence[str]) -> str:
    if label >= 0:
        return f"Class {classes[label]!r}"
    return "What shows no class" if classes else "The data set"
