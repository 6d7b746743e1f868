# SPDX-License-Identifier: Apache-2.0
"""Training, validation and test: as the list of labels says, the rest drawn by patient and stratified by class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from monai_mixssl.data.labels.table import SPLITS
from monai_mixssl.errors import ConfigError, DataError

__all__ = ["Unit", "check_fractions", "draw_splits"]


class Unit(NamedTuple):
    """One labelled image, as far as splitting is concerned.

    Attributes:
        id: its id.
        patient: hashed patient, "" where unknown.
        series: hashed series or file.
        labels: its class numbers.
        given: split that the list of labels names, or "".
        content: the same for images of the same content.
        is_file: the series is a file.
    """

    id: str
    patient: str
    series: str
    labels: tuple[int, ...]
    given: str = ""
    content: str = ""
    is_file: bool = True


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Refuses shares that leave nothing for training.

    Raises:
        ConfigError: a share is out of [0, 1), or their sum is.
    """
    for name, value in {"val_fraction": val_fraction, "test_fraction": test_fraction}.items():
        if not 0 <= value < 1:
            raise ConfigError(f"{name} is {value!r}; use a share from 0 to below 1, such as 0.1.")
    if val_fraction + test_fraction >= 1:
        raise ConfigError("val_fraction and test_fraction leave nothing for training; use smaller shares.")


def draw_splits(
    units: Sequence[Unit], val_fraction: float = 0.1, test_fraction: float = 0.2, seed: int = 0
) -> tuple[dict[str, str], str]:
    """Decides which split each image is in.

    What the list says stands; a split that it does not name is drawn from what it calls training or says nothing of.
    Whole patients are drawn (series or files where none is named, or all name the same one), with every image of the
    same content, and in each class the same share as near as whole patients allow; a class that has a single patient
    stays in training. What the list does not name follows a given copy: test before validation before training. The
    draw depends on the seed and the order of the images, not on their ids.

    Args:
        units: the images, in the order of the scan.
        val_fraction, test_fraction: shares of all images; 0: that split is not drawn.
        seed: of the draw.

    Returns:
        The split of each image, by id; and "patient", "series" or "file" (with "given, " in front where nothing was
        left to draw).

    Raises:
        ConfigError: a share is out of its range.
        DataError: a patient is in two of the given splits, or there are too few.
    """
    check_fractions(val_fraction, test_fraction)
    by, group_of = _groups(units)
    given: dict[str, set[str]] = defaultdict(set)
    for unit in units:
        given[group_of[unit.id]].add(unit.given)
    torn = sorted(group for group, splits in given.items() if len(splits - {""}) > 1)
    if torn:
        raise DataError(
            f"{len(torn)} of {len(given)} {_plural(by)} are in more than one split of the list of labels (such as "
            f"{torn[0]}); put all images of a patient into one split."
        )
    named = {unit.given for unit in units} - {""}
    fixed = {group: max(splits) for group, splits in given.items()}  # "" sorts first
    to_draw = [
        (split, share)
        for split, share in (("test", test_fraction), ("validation", val_fraction))
        if split not in named and share
    ]
    together = _together(units, group_of)
    given_together: dict[str, set[str]] = defaultdict(set)
    for group, split in fixed.items():
        given_together[together[group]].add(split)
    pool = [group for group, several in given_together.items() if several <= {"", "training"}]
    if to_draw and len(pool) < len(to_draw) + 1:
        raise DataError(
            f"{len(pool)} usable {_plural(by)} cannot be split into training, {' and '.join(s for s, _ in to_draw)}; "
            "give more images, or the splits themselves."
        )
    drawn: dict[str, str] = {}
    strata, weights = _strata(units, group_of, together, pool, seed)
    total = sum(weights.values())
    for split, share in to_draw:
        held_out = _hold_out([[one for one in s if one not in drawn] for s in strata], weights, share * total)
        drawn |= dict.fromkeys(held_out, split)
    # what the list does not name follows its copies: what is in the test must not be trained on
    copies = {one: next((s for s in reversed(SPLITS) if s in given_together[one]), "") for one in given_together}
    splits = {
        one: drawn.get(together[group]) or fixed[group] or copies[together[group]] or "training"
        for one, group in group_of.items()
    }
    return splits, by if to_draw or not named else f"given, {by}"


def _plural(by: str) -> str:
    return by if by == "series" else f"{by}s"


def _groups(units: Sequence[Unit]) -> tuple[str, dict[str, str]]:
    """Returns what must stay together: "patient", "series" or "file", and the name of each image's."""
    by_patient = {unit.id: unit.patient or unit.series for unit in units}
    if any(unit.patient for unit in units) and len(set(by_patient.values())) > 1:
        return "patient", by_patient
    return "file" if all(unit.is_file for unit in units) else "series", {unit.id: unit.series for unit in units}


def _together(units: Sequence[Unit], group_of: dict[str, str]) -> dict[str, str]:
    """Returns for each group the first of those that share an image with it, directly or through others."""
    leader = {group: group for group in group_of.values()}

    def find(group: str) -> str:
        while leader[group] != group:
            leader[group] = leader[leader[group]]
            group = leader[group]
        return group

    first: dict[str, str] = {}
    for unit in units:
        if unit.content:
            group = find(group_of[unit.id])
            leader[group] = find(first.setdefault(unit.content, group))
    return {group: find(group) for group in leader}


def _strata(
    units: Iterable[Unit], group_of: dict[str, str], together: dict[str, str], pool: Iterable[str], seed: int
) -> tuple[list[list[str]], dict[str, int]]:
    """Returns the groups that can be drawn, by their classes and in random order, and how many images each has."""
    labels: dict[str, set[int]] = {group: set() for group in pool}
    weights = dict.fromkeys(labels, 0)
    for unit in units:
        group = together[group_of[unit.id]]
        if group in weights:
            labels[group].update(unit.labels)
            weights[group] += 1
    order = list(weights)
    by_labels: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for number in np.random.RandomState(seed).permutation(len(order)):
        by_labels[tuple(sorted(labels[order[number]]))].append(order[number])
    rare = [key for key in sorted(by_labels) if len(key) != 1 and len(by_labels[key]) == 1]
    strata = [by_labels[key] for key in sorted(by_labels) if key not in rare]
    # combinations of labels that occur once are drawn from as one: alone, none of them would ever be held out
    return [*strata, [by_labels[key][0] for key in rare]], weights


def _hold_out(strata: Sequence[Sequence[str]], weights: dict[str, int], wanted: float) -> list[str]:
    """Takes the wanted number of images out of the strata, in proportion, in whole groups; leaves each at least one."""
    total = sum(weights[group] for stratum in strata for group in stratum)
    held_out: list[str] = []
    lacking = 0.0  # carried from stratum to stratum, so that roundings do not add up
    for stratum in strata:
        lacking += wanted * sum(weights[group] for group in stratum) / total
        left = len(stratum)
        for group in stratum:
            if left > 1 and weights[group] / 2 <= lacking:
                held_out.append(group)
                lacking -= weights[group]
                left -= 1
    if not held_out:  # every group is larger than twice the share: the smallest that another can stand in for
        spare = [group for stratum in strata if len(stratum) > 1 for group in stratum]
        held_out = [min(spare or [g for stratum in strata for g in stratum], key=lambda group: weights[group])]
    return held_out
