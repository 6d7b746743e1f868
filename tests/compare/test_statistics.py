# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest

from monai_mixssl.compare import paired_difference, spread

SCRATCH = {0: 0.60, 1: 0.63, 2: 0.58, 3: 0.66}
PRETRAINED = {0: 0.70, 1: 0.69, 2: 0.70, 3: 0.72}


def test_mean_and_deviation_are_those_worked_out_by_hand() -> None:
    # (0.1 + 0.2 + 0.6) / 3 = 0.3; squares of the residuals 0.04 + 0.01 + 0.09 = 0.14; 0.14 / 2 = 0.07
    result = spread({0: 0.1, 1: 0.2, 2: 0.6})
    assert (result.mean, result.deviation, result.count) == (pytest.approx(0.3), pytest.approx(math.sqrt(0.07)), 3)


def test_the_interval_is_that_of_a_table_of_students_t() -> None:
    # differences 0.10, 0.06, 0.12, 0.06: mean 0.085, sum of squares 0.0027, deviation 0.03, error 0.015
    result = paired_difference(PRETRAINED, SCRATCH)
    assert result.mean == pytest.approx(0.085)
    half = 3.182446 * 0.015  # t of 3 degrees of freedom, 97.5 %
    assert (result.low, result.high) == (pytest.approx(0.085 - half, abs=1e-7), pytest.approx(0.085 + half, abs=1e-7))


def test_p_is_that_of_two_degrees_of_freedom_in_closed_form() -> None:
    # for 2 degrees of freedom P(|T| > t) = 1 - t / sqrt(t² + 2); differences 0.1, 0.2, 0.6: t = 0.3 / sqrt(0.07 / 3)
    t = 0.3 / math.sqrt(0.07 / 3)
    result = paired_difference({0: 0.2, 1: 0.4, 2: 0.9}, {0: 0.1, 1: 0.2, 2: 0.3})
    assert result.p == pytest.approx(1 - t / math.sqrt(t**2 + 2))


def test_seeds_are_paired_by_number_and_not_by_place() -> None:
    shuffled = {seed: PRETRAINED[seed] for seed in (3, 1, 0, 2)}
    assert paired_difference(shuffled, SCRATCH) == paired_difference(PRETRAINED, SCRATCH)


def test_a_seed_without_its_partner_is_left_out() -> None:
    result = paired_difference({**PRETRAINED, 4: 0.1}, {**SCRATCH, 5: 0.9})
    assert result == paired_difference(PRETRAINED, SCRATCH)
    assert result.seeds == (0, 1, 2, 3)


def test_verdicts_follow_the_interval() -> None:
    assert paired_difference(PRETRAINED, SCRATCH).verdict == "helps"
    assert paired_difference(SCRATCH, PRETRAINED).verdict == "hurts"
    assert paired_difference({0: 0.5, 1: 0.7}, {0: 0.6, 1: 0.5}).verdict == "not shown"


def test_without_a_spread_there_is_no_interval_and_no_verdict() -> None:
    one = paired_difference({0: 0.9}, {0: 0.1})
    equal = paired_difference({0: 0.6, 1: 0.7, 2: 0.8}, {0: 0.5, 1: 0.6, 2: 0.7})
    for result in (one, equal):
        assert (result.low, result.high, result.p, result.verdict) == (None, None, None, "not shown")
    assert equal.mean == pytest.approx(0.1)
    assert spread({0: 0.9}).deviation is None


def test_without_a_pair_there_is_no_difference() -> None:
    result = paired_difference({0: 0.9}, {1: 0.1})
    assert (result.mean, result.seeds, result.verdict) == (None, (), "not shown")
    assert spread({}).mean is None
