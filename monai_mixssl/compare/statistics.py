# SPDX-License-Identifier: Apache-2.0
"""Mean and spread of each arm over seeds, and the paired difference with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Difference", "Spread", "paired_difference", "spread"]

_CONFIDENCE = 0.95
_NO_SPREAD = 1e-9  # differences that agree this closely, on a scale of 0 to 1, are equal but for rounding


@dataclass(frozen=True)
class Spread:
    """Scores of one arm.

    Attributes:
        mean: over seeds; None without a score.
        deviation: standard deviation over seeds, of a sample (n − 1); None with fewer than two scores.
        count: number of scores.
    """

    mean: float | None
    deviation: float | None
    count: int


@dataclass(frozen=True)
class Difference:
    """Pretrained minus scratch, paired by seed.

    Attributes:
        mean: mean difference; None without a pair.
        low: lower end of the two-sided 95 % interval by Student's t; None where there are fewer than two pairs, or
            where all pairs differ by the same amount, which leaves no spread to judge by.
        high: its upper end.
        p: two-sided p of the paired t-test; None where there is no interval.
        seeds: the seeds that both arms have, in order.
        values: their differences.
    """

    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    seeds: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def verdict(self) -> str:
        """``"helps"`` or ``"hurts"`` where the interval excludes 0, else ``"not shown"``."""
        if self.low is not None and self.low > 0:
            return "helps"
        return "hurts" if self.high is not None and self.high < 0 else "not shown"


def spread(scores: Mapping[int, float]) -> Spread:
    """Mean and standard deviation.

    Args:
        scores: score by seed.
    """
    values = np.array(list(scores.values()), dtype=float)
    return Spread(
        float(values.mean()) if len(values) else None,
        float(values.std(ddof=1)) if len(values) > 1 else None,
        len(values),
    )


def paired_difference(pretrained: Mapping[int, float], scratch: Mapping[int, float]) -> Difference:
    """The difference over the seeds that both arms have.

    Args:
        pretrained: score by seed.
        scratch: score by seed.

    Returns:
        The mean difference with its 95 % t interval and the p of the paired t-test.
    """
    seeds = tuple(sorted(set(pretrained) & set(scratch)))
    values = np.array([pretrained[seed] - scratch[seed] for seed in seeds], dtype=float)
    mean = float(values.mean()) if len(values) else None
    if len(values) < 2 or np.ptp(values) <= _NO_SPREAD:
        return Difference(mean, None, None, None, seeds, tuple(values.tolist()))
    test = stats.ttest_rel([pretrained[seed] for seed in seeds], [scratch[seed] for seed in seeds])
    interval = test.confidence_interval(_CONFIDENCE)
    return Difference(
        mean, float(interval.low), float(interval.high), float(test.pvalue), seeds, tuple(values.tolist())
    )
