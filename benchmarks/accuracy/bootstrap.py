# SPDX-License-Identifier: Apache-2.0
"""How far a difference depends on which images the test set happens to hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from labelled_sets import KNOWN, load_set

__all__ = ["Bootstraps"]

RESAMPLES = 2000
Key = tuple[str, str, str, str, str]  # set, labels, protocol, tap, split


class Bootstraps:
    """95 % intervals of mean differences when test images are drawn anew; seeds and draws of labels stay.

    They need every image's predicted class, which ``run.py --runs`` leaves and nobody wants to keep: so an interval,
    once computed, is kept as a line of ``kept``, and is used again for the same methods, seeds and difference.

    Args:
        kept: JSON lines; made and added to where needed.
        runs: folder of predicted classes, or None for what is kept alone.
        size: pixels along a side of the images.
    """

    def __init__(self, kept: Path, runs: Path | None, size: int) -> None:
        self.kept, self.runs, self.size = kept, runs, size
        self.lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []

    def interval(
        self, key: Key, ours: str, peer: str, differences: Mapping[int, float]
    ) -> tuple[float, float, tuple[int, ...]] | None:
        """Low and high, in points, of ours minus the peer's, and of which seeds.

        Those are the most whose classes are at hand, or for which a line was kept; None where there are none.

        Args:
            differences: of each seed, as a share; a kept line of runs with another mean is not used.
        """
        asked = {**dict(zip(("set", "labels", "protocol", "tap", "split"), key, strict=True)), "ours": ours}
        asked["peer"] = peer
        at_hand = [seed for seed in sorted(differences) if self._files(key, ours, peer, seed)]
        same = [
            line
            for line in self.lines
            if all(line[name] == value for name, value in asked.items())
            and set(line["seeds"]) <= set(differences)
            and line["points"] == _points(differences, line["seeds"])
        ]
        line = max(same, key=lambda line: len(line["seeds"]), default=None)
        if at_hand and (line is None or len(line["seeds"]) < len(at_hand)):
            low, high = self._computed(key, ours, peer, at_hand)
            found = {"seeds": at_hand, "points": _points(differences, at_hand), "low": low, "high": high}
            line = {**asked, **found}
            self.lines.append(line)
            with open(self.kept, "a") as file:
                file.write(json.dumps(line) + "\n")
        return (line["low"], line["high"], tuple(line["seeds"])) if line else None

    def _files(self, key: Key, ours: str, peer: str, seed: int) -> list[Path]:
        """The predicted classes of both methods; empty where one is missing."""
        if self.runs is None or key[0] not in KNOWN:
            return []
        files = [self.runs / f"{key[0]}_{method}_{seed}.npz" for method in (ours, peer)]
        return files if all(file.is_file() for file in files) else []

    def _computed(self, key: Key, ours: str, peer: str, seeds: Sequence[int]) -> tuple[float, float]:
        name, labels, protocol, tap, split = key
        truth = load_set(name, self.size).labels[split]
        right = []
        for number in range(2):
            files = [self._files(key, ours, peer, seed)[number] for seed in seeds]
            per_seed = [(np.load(file)[f"{protocol} {labels} {tap} {split}"] == truth).mean(axis=0) for file in files]
            right.append(np.mean(per_seed, axis=0))
        gain = right[0] - right[1]
        drawn = np.random.RandomState(0).randint(len(gain), size=(RESAMPLES, len(gain)))
        low, high = np.percentile(gain[drawn].mean(axis=1), [2.5, 97.5]) * 100
        return round(float(low), 2), round(float(high), 2)


def _points(differences: Mapping[int, float], seeds: Sequence[int]) -> float:
    return round(100 * float(np.mean([differences[seed] for seed in seeds])), 2)
