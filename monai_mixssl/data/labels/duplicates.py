# SPDX-License-Identifier: Apache-2.0
"""Counts images of the same content, and says which of them are a problem."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["contradictions", "count_duplicates", "describe_duplicates"]


def contradictions(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns the ids of images whose content occurs with another label, too: nobody can tell which one is right."""
    labels: dict[str, set[str]] = defaultdict(set)
    for record in records.values():
        labels[record["content"]].add(str(record["label"]))
    return [one for one, record in records.items() if len(labels[record["content"]]) > 1]


def count_duplicates(records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Counts exact duplicates among images, by the hash of their content.

    Returns:
        "duplicates": images that are copies of another (of three alike: two); "duplicates_across_splits": contents that
        occur in more than one split; "test_duplicates": test images whose content occurs in training or validation.
    """
    alike: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        alike[record["content"]].append(record)
    several = [same for same in alike.values() if len(same) > 1]
    across = [same for same in several if len({record["split"] for record in same}) > 1]
    return {
        "duplicates": sum(len(same) - 1 for same in several),
        "duplicates_across_splits": len(across),
        "test_duplicates": sum(record["split"] == "test" for same in across for record in same),
    }


def describe_duplicates(counts: Mapping[str, int]) -> str:
    """Returns the counts as a sentence."""
    if not counts["duplicates"]:
        return "No two images have the same content."
    text = f"{counts['duplicates']} images are exact copies of another"
    if counts["duplicates_across_splits"]:
        text += f"; {counts['duplicates_across_splits']} images occur in more than one split"
        if counts["test_duplicates"]:
            text += f", and {counts['test_duplicates']} test images are known from training or validation"
    return text + "."
