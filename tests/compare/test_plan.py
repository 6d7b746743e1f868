# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from made_up_runs import plan

from monai_mixssl.compare import parse_amounts, parse_protocols
from monai_mixssl.compare.command import parse_keys
from monai_mixssl.errors import ConfigError


def test_every_arm_amount_and_seed_is_run_and_pairs_stand_together(tmp_path: Path) -> None:
    names = [cell.name for cell in plan(tmp_path, amounts=parse_amounts("5,20%,all"), seeds=2).cells]
    assert names[:2] == ["scratch_5_0", "pretrained_5_0"]
    assert len(set(names)) == len(names) == 2 * 3 * 2
    assert "pretrained_20pct_1" in names
    assert all(names[i + 1] == names[i].replace("scratch", "pretrained") for i in range(0, len(names), 2))


def test_amounts_become_the_keys_of_the_config() -> None:
    assert [dict(amount.keys) for amount in parse_amounts("5, 2.5%,all")] == [
        {"labels_per_class": 5},
        {"label_fraction": 0.025},
        {},
    ]


def test_the_arms_of_a_seed_differ_in_from_scratch_alone(tmp_path: Path) -> None:
    comparison = plan(tmp_path, keys={"max_epochs": 3})
    scratch, pretrained = (comparison.overrides(cell) for cell in comparison.cells[:2])
    assert scratch.pop("from_scratch") is True
    assert pretrained.pop("from_scratch") is False
    assert scratch == pretrained
    assert (scratch["seed"], scratch["label_seed"], scratch["max_epochs"]) == (0, 0, 3)


def test_seeds_go_round_the_encoder_files_and_their_pretraining_runs(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for file in files:
        file.write_bytes(b"")
    comparison = plan(
        tmp_path, pretrained=[str(file) for file in files], per_file={"pretrain_run": ["x", "y"]}, seeds=3
    )
    used = {
        cell.seed: (Path(keys["pretrained"]).stem, keys["pretrain_run"])
        for cell in comparison.cells
        for keys in [comparison.overrides(cell)]
    }
    assert used == {0: ("a", "x"), 1: ("b", "y"), 2: ("a", "x")}


def test_both_probes_come_from_one_run(tmp_path: Path) -> None:
    comparison = plan(tmp_path, protocols=parse_protocols("knn,linear"), seeds=1, amounts=parse_amounts("all"))
    assert [(cell.name, cell.run_id) for cell in comparison.cells] == [
        ("scratch_probe_all_0", "probe"),
        ("pretrained_probe_all_0", "probe"),
    ]


@pytest.mark.parametrize("text", ["", "0", "-5", "5,", "many", "0%", "120%", "5,5", "1e3"])
def test_amounts_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^labels "):
        parse_amounts(text)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"metric": "auk"}, "metric of a classification must be .*did you mean 'auc'"),
        ({"metric": "mean_dice"}, "metric of a classification must be"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"pretrained": ["absent.safetensors"]}, "file 1 of 1 does not exist"),
        ({"pretrained": []}, "pretrained is missing"),
        ({"keys": {"seed": 3}}, "'seed' is set by the comparison .*--seeds"),
        ({"keys": {"from_scratch": True}}, "'from_scratch' is set by the comparison"),
        ({"task": "segmentation", "protocols": ["knn"]}, "protocols linear and knn are for classification"),
        ({"per_file": {"pretrain_run": ["a", "b"]}}, "pretrain_run names 2 paths and pretrained 1;"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused_in_a_sentence(
    tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        plan(tmp_path, **changes)


def test_more_encoder_files_than_seeds_are_refused_since_some_would_be_left_out(tmp_path: Path) -> None:
    file = Path(plan(tmp_path).pretrained[0])
    with pytest.raises(ConfigError, match="pretrained names 4 files and there are 3 seeds"):
        plan(tmp_path, pretrained=[str(file)] * 4)


def test_an_unknown_protocol_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'linear'"):
        parse_protocols("finetune,liner")


def test_keys_are_typed_as_for_the_bundle() -> None:
    words = ["--learning_rate", "1e-3", "--spacing=[1,1,2]", "--backbone", "resnet18", "--offset", "-1"]
    assert parse_keys(words) == {
        "learning_rate": 1e-3,
        "spacing": [1, 1, 2],
        "backbone": "resnet18",
        "offset": -1,
    }


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["stray"], "no key before it"),
        (["--max_epochs"], "'--max_epochs' has no value"),
        (["--max_epochs", "--amp", "none"], "'--max_epochs' has no value"),
        (["--amp", "none", "--amp", "bf16"], "'--amp' stands twice"),
    ],
)
def test_words_that_are_no_keys_are_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_keys(words)
