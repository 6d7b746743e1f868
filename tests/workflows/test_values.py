# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_mixssl.errors import ConfigError
from monai_mixssl.workflows import PRETRAIN_RULES, check_pretrain_keys, values
from monai_mixssl.workflows.values import optional, path, paths


@pytest.mark.parametrize("value", ["true", "True", "1", True, 1])
def test_every_spelling_of_true_is_true(value: Any) -> None:
    assert values.boolean(value) is True


@pytest.mark.parametrize("value", ["false", "False", "0", False, 0])
def test_every_spelling_of_false_is_false(value: Any) -> None:
    assert values.boolean(value) is False


@pytest.mark.parametrize("value", ["TRUE", "yes", "no", "", " true", "off", 2, -1, 1.0, 0.0, None, [], [True], "2"])
def test_anything_else_is_no_boolean(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^must be true or false, not "):
        values.boolean(value)


@pytest.mark.parametrize(("value", "result"), [(1, 1), ("7", 7), (5.0, 5), (10, 10)])
def test_a_whole_number_is_taken_however_it_is_written(value: Any, result: int) -> None:
    checked = values.integer(1, 10)(value)
    assert checked == result
    assert type(checked) is int


@pytest.mark.parametrize("value", [0, 11, 1.5, True, None, "x", float("nan"), float("inf"), [1], "1e999"])
def test_a_whole_number_out_of_range_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^must be a whole number from 1 to 10, not "):
        values.integer(1, 10)(value)


@pytest.mark.parametrize(("cores", "most"), [(1, 32), (8, 32), (96, 384)])
def test_no_more_processes_than_the_machine_bears_are_taken(
    cores: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert values.workers(str(most)) == most
    with pytest.raises(ConfigError, match=rf"^must be a whole number from 0 to {most}, not 100000$"):
        values.workers(100000)


def test_a_number_may_be_bounded_with_or_without_its_bound() -> None:
    assert values.number(0)(0) == 0.0
    assert values.number(0, above=True)("1e-3") == 0.001
    with pytest.raises(ConfigError, match=r"^must be a number above 0, not 0$"):
        values.number(0, above=True)(0)
    with pytest.raises(ConfigError, match=r"^must be a number of at least 1, not 0.5$"):
        values.number(1)(0.5)


def test_a_fraction_may_leave_its_ends_out() -> None:
    assert [values.fraction()(v) for v in (0, 0.5, 1)] == [0.0, 0.5, 1.0]
    for end in (0, 1):
        with pytest.raises(ConfigError, match="above 0 and below 1"):
            values.fraction(ends=False)(end)


@pytest.mark.parametrize(("value", "result"), [(0.3, 0.3), (1, 1.0), ((0, 1), [0.0, 1.0]), ([0.2, 0.2], [0.2, 0.2])])
def test_a_span_is_one_number_or_two(value: Any, result: Any) -> None:
    assert values.span(value) == result


@pytest.mark.parametrize("value", [1.2, -0.1, [0, 1.2], [-0.1, 1], [0.1], [0, 0.5, 1], "0.2,0.8", [0.8, 0.2], None, {}])
def test_a_span_outside_zero_to_one_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^must be .*\[low, high\]"):
        values.span(value)


def test_a_size_is_one_number_or_one_per_axis() -> None:
    assert values.size(32) == 32
    assert values.size((32, "48")) == [32, 48]
    for wrong in ([32], [8, 8, 8, 8], [8, 0], 0, "x"):
        with pytest.raises(ConfigError, match=r"^must be "):
            values.size(wrong)


def test_a_choice_suggests_the_near_one() -> None:
    rule = values.choice("none", "bf16", "fp16")
    assert [rule(v) for v in ("bf16", "none", None)] == ["bf16", "none", "none"]
    with pytest.raises(ConfigError) as error:
        rule("bf61")
    assert str(error.value) == "must be none, bf16 or fp16, not 'bf61'; did you mean 'bf16'?"


def test_a_choice_of_numbers_gives_the_number_back() -> None:
    assert [values.choice(2, 3)(v) for v in (2, "3")] == [2, 3]
    for wrong in (4, True, 2.5, None):
        with pytest.raises(ConfigError, match=r"^must be 2 or 3, not "):
            values.choice(2, 3)(wrong)


@pytest.mark.parametrize("value", [None, "none", "None", "null", ""])
def test_nothing_may_be_spelt_in_several_ways(value: Any) -> None:
    assert values.optional(values.integer(1))(value) is None


def test_an_optional_value_is_checked_and_the_message_offers_none() -> None:
    assert values.optional(values.integer(1))("3") == 3
    with pytest.raises(ConfigError, match=r"^must be none or a whole number of at least 1, not 0$"):
        values.optional(values.integer(1))(0)


@pytest.mark.parametrize("rule", [path, paths, optional(path), optional(paths)])
def test_an_empty_path_is_not_taken_for_none(rule: Any) -> None:
    for empty in ("", " "):
        with pytest.raises(ConfigError, match="not an empty text; give one, or leave the key out"):
            rule(empty)


def test_the_home_folder_is_written_out_in_paths(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path("~/run") == str(tmp_path / "run")
    assert paths(["~/a", "b"]) == [str(tmp_path / "a"), "b"]


def test_a_path_may_look_like_a_number_and_is_never_shown() -> None:
    assert [values.path(v) for v in ("a/b", Path("a"), 2024)] == ["a/b", "a", "2024"]
    for wrong in ("", None, 1.5, True, {"jane": "doe"}, ["jane", "doe"]):
        with pytest.raises(ConfigError) as error:
            values.path(wrong)
        assert "jane" not in str(error.value)


def test_a_device_is_one_that_the_machine_has() -> None:
    assert values.device("cpu") == "cpu"
    assert values.device(torch.device("cpu")) == "cpu"
    for wrong in ("gpu", "cuda:99", 0, "meta"):
        with pytest.raises(ConfigError, match=r"^must be a device of this machine \(cpu.*\), not "):
            values.device(wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^must be a device of this machine \(cpu.*\), not 'cuda'$"):
        values.device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_a_gpu_that_is_there_is_taken() -> None:
    last = f"cuda:{torch.cuda.device_count() - 1}"
    assert [values.device(v) for v in ("cuda", last)] == ["cuda", last]


GOOD = {
    "dataset_dir": [None, "scans", ("a", "b")],
    "init_weights": ["none", "encoder.safetensors"],
    "device": ["cpu"],
    "spatial_dims": [2, 3],
    "patch_size": [64, [64, 64, 32]],
    "transparency": [0.5, [0.2, 0.8]],
    "match": ["mean_std", "histogram", "none"],
    "norm": [None, "batch", ["group", {"num_groups": 4}]],
    "backbone": ["resnet10_s8_thin", "resnet18", "swin_unetr"],
    "source": ["dead_leaves", "noise", "fractal", "folder", "installed", "same_domain"],
    "resume": ["true", False],
}
BAD = {
    "dataset_dir": [1.5, []],
    "backbone": ["resnet10_s8_thn"],
    "source": ["dead_leaf", None],
    "device": ["cuda:99", None],
    "norm": ["bach", ["group"]],
    "transparency": [1.5],
    "spatial_dims": [4],
    "in_channels": [2],
    "val_fraction": [0, 1],
    "max_epochs": [0],
    "learning_rate": [0],
    "max_pad_factor": [0.5],
    "checkpoint_minutes": [0],
    "resume": ["yes"],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in GOOD.items() for v in vs])
def test_the_pretraining_keys_take_what_they_should(key: str, value: Any) -> None:
    PRETRAIN_RULES[key](value)


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, vs in BAD.items() for v in vs])
def test_the_pretraining_keys_refuse_what_they_should(key: str, value: Any) -> None:
    with pytest.raises(ConfigError):
        PRETRAIN_RULES[key](value)


def test_no_matching_becomes_the_none_that_blend_takes() -> None:
    assert PRETRAIN_RULES["match"]("none") is None


def test_a_checked_value_passes_again_unchanged() -> None:
    for key, given in GOOD.items():
        for value in given:
            once = PRETRAIN_RULES[key](value)
            assert PRETRAIN_RULES[key](once) == once


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"spatial_dims": 3, "patch_size": [64, 64]}, "patch_size has 2 axes"),
        ({"source": "folder", "source_dir": None}, "needs source_dir"),
        ({"source": "noise", "source_dir": "x"}, "is not used by source 'noise'"),
        (
            {"reconstruction_weight": 0.0, "transparency_weight": 0.0, "agreement_weight": 0.0},
            "are all 0",
        ),
        ({"agreement_weight": 1.0, "views": 1}, "set views to 2"),
        ({"transparency": 0.0}, "leaves nothing of the target"),
        ({"transparency": [1.0, 1.0], "agreement_weight": 0.0}, "leaves nothing to undo"),
        ({"agreement_weight": 1.0, "views": 2, "batch_size": 1}, "batch_size is 1"),
    ],
)
def test_keys_that_do_not_fit_one_another_are_refused(config: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        check_pretrain_keys(config)


def test_keys_that_fit_one_another_pass() -> None:
    check_pretrain_keys({"spatial_dims": 2, "patch_size": [64, 64], "source": "folder", "source_dir": "x"})
    check_pretrain_keys({"spatial_dims": 3, "patch_size": 64, "source": "$later", "source_dir": "x"})
    check_pretrain_keys({"reconstruction_weight": 0.0, "transparency_weight": 1.0})
