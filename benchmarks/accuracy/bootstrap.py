# SPDX-License-Identifier: Apache-2.0
"""How far a difference depends on which images the test set happens to hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
        self, key: Key, ours: str, peer: str, seeds: Sequence[int], difference: float
    ) -> tuple[float, float] | None:
        """Low and high, in points, of ours minus the peer's; None where neither classes nor a kept line are at hand.

        Args:
            difference: the mean over seeds that the interval is of, as a share: a kept one of other runs is not used.
        """
        asked = {**dict(zip(("set", "labels", "protocol", "tap", "split"), key, strict=True)), "ours": ours}
        asked |= {"peer": peer, "seeds": list(seeds), "points": round(100 * difference, 2)}
        found = self._computed(key, ours, peer, seeds)
        if found is None:
            same = [line for line in self.lines if all(line[name] == value for name, value in asked.items())]
            return (same[-1]["low"], same[-1]["high"]) if same else None
        line = {**asked, "low": round(found[0], 2), "high": round(found[1], 2)}
        if line not in self.lines:
            self.lines.append(line)
            with open(self.kept, "a") as file:
                file.write(json.dumps(line) + "\n")
        return line["low"], line["high"]

    def _computed(self, key: Key, ours: str, peer: str, seeds: Sequence[int]) -> tuple[float, float] | None:
        name, labels, protocol, tap, split = key
        if self.runs is None or name not in KNOWN:
            return None
        truth = load_set(name, self.size).labels[split]
        right = []
        for method in (ours, peer):
            files = [self.runs / f"{name}_{method}_{seed}.npz" for seed in seeds]
            if not all(file.is_file() for file in files):
                return None
            per_seed = [(np.load(file)[f"{protocol} {labels} {tap} {split}"] == truth).mean(axis=0) for file in files]
            right.append(np.mean(per_seed, axis=0))
        gain = right[0] - right[1]
        drawn = np.random.RandomState(0).randint(len(gain), size=(RESAMPLES, len(gain)))
        low, high = np.percentile(gain[drawn].mean(axis=1), [2.5, 97.5]) * 100
        return float(low), float(high)
