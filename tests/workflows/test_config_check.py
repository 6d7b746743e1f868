# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

from monai_mixssl.errors import ConfigError
from monai_mixssl.workflows import PretrainWorkflow, bundle_root, config_check, values
from monai_mixssl.workflows.config_check import check_config, refuse_unknown_arguments, refuse_unknown_keys
from monai_mixssl.workflows.last_line import sentence_for

TOY: dict[str, Any] = {
    "imports": ["$import monai_mixssl.workflows as mixssl", "$from monai_mixssl.workflows import values"],
    "bundle_root": ".",
    "dataset_dir": None,
    "resume": False,
    "max_epochs": 2,
    "patch": [8, 8],
    "rules": "$dict(resume=values.boolean, max_epochs=values.integer(1), patch=values.size)",
    "train": {
        "dataset": {"_target_": "Dataset", "data": "$list(range(4))"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@train#dataset", "batch_size": 2},
        "weights": {"image": 1, "number": 2},
        "total": "$sum(@train#weights.values())",
    },
    "initialize": ["$mixssl.check_config(@rules)"],
    "pretrain": ["$print('used', [@resume, @max_epochs, @patch, @train#total, len(@train#dataloader)])"],
    "finalize": ["$print('finalized')"],
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that is run in no time."""
    root = tmp_path_factory.mktemp("toy")
    (root / "configs").mkdir()
    (root / "configs" / "train.json").write_text(json.dumps(TOY))
    (root / "configs" / "metadata.json").write_text(json.dumps({"version": "0.1.0"}))
    return root


def run(command: Any, bundle: Path, *overrides: str, run_id: str = "pretrain") -> Any:
    return command(
        *("monai.bundle", "run", run_id, "--config_file", "configs/train.json", "--logging_file", "False", *overrides),
        cwd=bundle,
    )


REFUSED = {
    ("--max_epoch", "5"): "unknown key 'max_epoch'; did you mean 'max_epochs'?",
    ("--train#totals", "5"): "unknown key 'train#totals'; did you mean 'total'?",
    ("--train#dataloader#num_worker", "1"): "unknown key 'train#dataloader#num_worker'; did you mean 'num_workers'?",
    ("--resume", "no"): "resume must be true or false, not 'no'",
}


@pytest.mark.parametrize("overrides", REFUSED, ids=lambda given: given[0])
def test_a_run_with_a_bad_override_ends_with_one_sentence(
    overrides: tuple[str, str], command: Any, bundle: Path
) -> None:
    ended = run(command, bundle, *overrides)
    assert ended.status == 1
    assert ended.last_line == f"monai-mixssl: error: {REFUSED[overrides]}"
    assert "used" not in ended.out


@pytest.mark.parametrize(("word", "result"), [("false", "False"), ("1", "True")])
def test_a_boolean_from_the_command_line_is_what_it_says(word: str, result: str, command: Any, bundle: Path) -> None:
    ended = run(command, bundle, "--resume", word, "--max_epochs", "'7'", "--patch", "8,4")
    assert ended.status == 0, ended.err
    assert f"used [{result}, 7, [8, 4], 3, 2]\nfinalized\n" in ended.out


def test_the_real_command_refuses_a_misspelt_override(bundle: Path) -> None:
    argv = ["-m", "monai.bundle", "run", "pretrain", "--config_file", "configs/train.json", "--max_epoch", "5"]
    ended = subprocess.run([sys.executable, *argv], cwd=bundle, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == ("monai-mixssl: error: unknown key 'max_epoch'; did you mean 'max_epochs'?")


def test_a_list_that_asks_for_the_check_is_not_run_without_it(bundle: Path) -> None:
    guarded = ["$mixssl.require_check()", *TOY["pretrain"]]
    workflow = ConfigWorkflow(config_file=str(bundle / "configs" / "train.json"), run_id="pretrain", pretrain=guarded)
    with pytest.raises(RuntimeError) as unchecked:
        workflow.run()
    assert "call the workflow's initialize()" in str(unchecked.value.__cause__)
    workflow.initialize()
    workflow.run()


def test_a_misspelt_run_id_is_refused_before_anything_runs(command: Any, bundle: Path) -> None:
    ended = run(command, bundle, run_id="pretrian")
    assert ended.status == 1
    assert ended.last_line == "monai-mixssl: error: the config has no 'pretrian' to run; did you mean 'pretrain'?"


def test_a_workflow_that_is_only_initialized_needs_no_run_id(bundle: Path) -> None:
    workflow = ConfigWorkflow(str(bundle / "configs" / "train.json"), logging_file=False)
    workflow.initialize()
    assert workflow.parser.get_parsed_content("resume") is False


def test_what_experiment_tracking_adds_is_not_refused(command: Any, bundle: Path) -> None:
    ended = run(command, bundle, "--tracking", "mlflow", "--experiment_name", "x", "--run_name", "y")
    assert ended.status == 0, ended.err
    assert "used" in ended.out


def checked(config: dict[str, Any], **kwargs: Any) -> ConfigParser:
    """A config after its own check."""
    parser = ConfigParser(
        deepcopy(config) | {"initialize": ["$check()"]}, globals={"check": lambda: check_config(**kwargs)}
    )
    parser.parse()
    parser.get_parsed_content("initialize::0")
    parser.ref_resolver.remove_resolved_content("initialize::0")
    return parser


def test_references_see_the_checked_value_at_any_depth() -> None:
    config = {"flag": "false", "a": "@flag", "b": {"c": ["$not @a"]}, "go": ["$@b#c#0"]}
    parser = checked(config, rules={"flag": values.boolean})
    assert parser.get_parsed_content("a") is False
    assert parser.get_parsed_content("go::0") is True


def test_checking_twice_changes_nothing() -> None:
    parser = checked({"flag": "false", "go": ["$@flag"]}, rules={"flag": values.boolean})
    again = checked({"flag": parser["flag"], "go": ["$@flag"]}, rules={"flag": values.boolean})
    assert again["flag"] is parser["flag"] is False


def test_an_expression_is_left_to_be_evaluated_later() -> None:
    parser = checked({"flag": "$undefined_yet()", "go": ["$@flag"]}, rules={"flag": values.boolean})
    assert parser["flag"] == "$undefined_yet()"


def test_a_rule_without_a_key_in_the_config_is_no_complaint() -> None:
    checked({}, rules={"flag": values.boolean})


def test_keys_are_checked_together_once_each_has_passed() -> None:
    seen = []
    checked({"flag": "1", "go": ["$@flag"]}, rules={"flag": values.boolean}, together=lambda c: seen.append(c["flag"]))
    assert seen == [True]


def test_a_check_outside_a_config_says_where_it_belongs() -> None:
    with pytest.raises(ConfigError, match="'initialize' list"):
        check_config()


@pytest.mark.parametrize(
    "config",
    [
        {"key": 1, "go": ["$@key"]},
        {"key": 1, "other": "@key", "go": ["$@other"]},
        {"key": {"deep": [1, 2]}, "go": ["$@key#deep#0"]},
        {"key": {"deep": {"deeper": 1}}, "go": ["$@key::deep::deeper"]},
        {"key": {"any": 1, "thing": 2}, "go": ["$print(@key)"]},
        {"key": {"any": 1}, "made": {"_target_": "builtins.dict", "_requires_": "@key"}, "go": ["$@made"]},
        {"section": {"a": 1, "b": "@section#a"}, "go": ["$@section#b"]},
        {"train": {"trainer": 1, "dataset": 2, "handlers": []}, "network_def": {"_target_": "builtins.dict"}},
        {
            "postprocessing": None,
            "network_def": "$dict()",
            "evaluator": [{"_target_": "builtins.dict"}],
            "device": "cpu",
        },
        {"_meta_": {"version": "0.1.0", "anything": {"goes": "here"}}},
        {"evaluate": ["$1", "$2"]},
        {"run_name": "x", "tracking_uri": "y", "output_dir": "z", "save_execute_config": False},
    ],
)
def test_what_is_used_passes(config: dict[str, Any]) -> None:
    refuse_unknown_keys(config | {"imports": ["$import os"], "initialize": ["$1"], "finalize": ["$2"]})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"key": 1, "kex": 2, "go": ["$@key"]}, "unknown key 'kex'; did you mean 'key'?"),
        ({"key": 1}, "unknown key 'key'; nothing in the config uses it, so leave it out"),
        ({"key": [], "go": ["$1"]}, "unknown key 'key'; nothing in the config uses it, so leave it out"),
        (
            {"key": "a@other", "other": 1, "go": ["$@key"]},
            "unknown key 'other'; nothing in the config uses it, so leave it out",
        ),
        ({"self": {"a": 1, "b": "@self#a"}}, "unknown key 'self'; nothing in the config uses it, so leave it out"),
        ({"dataset": "scans", "dataset_dir": 1}, "unknown key 'dataset'; did you mean 'dataset_dir'?"),
        ({"handlers": 3}, "unknown key 'handlers'; nothing in the config uses it, so leave it out"),
        ({"train": {"trainer": 1, "trainr": 2}}, "unknown key 'train#trainr'; did you mean 'trainer'?"),
        (
            {"a": {"b": {"c": 1, "xyz": 2}}, "go": ["$@a#b#c"]},
            "unknown key 'a#b#xyz'; nothing in the config uses it, so leave it out",
        ),
        (
            {"max_epochs_": 1, "go": ["$@max_epochs", "$1"], "max_epochs": 1},
            "unknown key 'max_epochs_'; did you mean 'max_epochs'?",
        ),
    ],
)
def test_what_is_used_by_nothing_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        refuse_unknown_keys(config)
    assert str(error.value) == message


TRAIN = str(bundle_root("mixssl_pretraining") / "configs" / "train.json")


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("data", "scans", "set dataset_dir, "),
        ("data", ["scans", "more"], "set dataset_dir, "),
        ("folder", "run", "set output_dir, resume"),
        ("patch", 48, "set patch_size, spatial_dims instead"),
        ("source_images", "fractal", "set source instead"),
        ("pretrain", 5, "leave it out"),
        ("load", False, ""),
        ("optimizer", "sgd", "learning_rate"),
    ],
)
def test_a_plain_value_in_the_place_of_what_the_config_makes_is_refused(key: str, value: Any, instead: str) -> None:
    with pytest.raises(RuntimeError) as error:
        PretrainWorkflow(logging_file=False, **{key: value}).initialize()
    sentence = sentence_for(error.value)
    assert sentence is not None
    assert sentence.startswith(f"'{key}' is made by the config and takes no plain value; ")
    assert instead in sentence


@pytest.mark.parametrize(
    "override",
    [
        {"loss": torch.nn.L1Loss()},
        {"patch": (48, 48)},
        {"patch": "$(48, 48)"},
        {"lr_scheduler": None},
        {"transparency": "$torch.distributions.Bernoulli(0.4)", "transparency_map_cells": 7},
        {"data": {"_target_": "builtins.dict"}},
        {"rank": 0, "world_size": 1},
        {"rank": "$0"},
    ],
    ids=str,
)
def test_what_can_stand_for_a_part_passes(override: dict[str, Any]) -> None:
    PretrainWorkflow(logging_file=False, **override).initialize()


def test_a_config_beside_ours_may_have_values_of_any_name(tmp_path: Path) -> None:
    own = {"size": 48, "patch_size": "@size", "nothing": float("nan"), "expected": "@nothing", "go": ["$@expected"]}
    (tmp_path / "own.json").write_text(json.dumps(own))
    own_file = str(tmp_path / "own.json")
    workflow = PretrainWorkflow(config_file=[TRAIN, own_file], logging_file=False, size=64)
    workflow.initialize()
    assert workflow.parser.get_parsed_content("patch") == (64, 64)


def test_a_setting_of_ones_own_that_is_a_mapping_may_be_replaced_and_an_object_not(tmp_path: Path) -> None:
    made = {"_target_": "builtins.dict", "a": 1}
    own = {"class_weights": {"0": 1.0}, "made": made, "makes": {"part": made}, "lists": {"parts": [made]}}
    own["go"] = ["$@class_weights, @made, @makes, @lists"]
    (tmp_path / "own.json").write_text(json.dumps(own))
    files = [TRAIN, str(tmp_path / "own.json")]
    workflow = PretrainWorkflow(config_file=files, logging_file=False, class_weights=2.5)
    workflow.initialize()
    assert workflow.parser.get_parsed_content("class_weights") == 2.5
    for key in ("made", "makes", "lists"):
        with pytest.raises(RuntimeError) as error:
            PretrainWorkflow(config_file=files, logging_file=False, **{key: "word"}).initialize()
        assert (sentence_for(error.value) or "").startswith(f"'{key}' is made by the config and takes no plain value; ")


def test_a_mapping_that_json_does_not_know_may_be_replaced_too(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("study: {begins: 2024-05-01}\ngo: ['$@study']\n")
    workflow = PretrainWorkflow(config_file=[TRAIN, str(tmp_path / "own.yaml")], logging_file=False, study=3)
    workflow.initialize()
    assert workflow.parser.get_parsed_content("study") == 3


def test_the_command_line_of_a_script_is_not_that_of_the_workflow_it_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {
        "imports": ["$import monai_mixssl.workflows as mixssl"],
        "initialize": ["$mixssl.check_config()"],
        "part": 3,
        "run": ["$@part"],
    }
    (tmp_path / "own.json").write_text(json.dumps(own))
    (tmp_path / "other.json").write_text(json.dumps({"part": {"_target_": "builtins.dict"}}))
    importlib.import_module("fire.parser")  # as where python -m monai.bundle has read the command line
    monkeypatch.setattr(sys, "argv", ["script.py", "--config_file", str(tmp_path / "other.json")])
    workflow = ConfigWorkflow(str(tmp_path / "own.json"), workflow_type="train", logging_file=False, part=4)
    workflow.initialize()
    assert workflow.parser.get_parsed_content("part") == 4


def test_a_single_expression_can_be_run_where_the_workflow_names_it() -> None:
    refuse_unknown_keys({"go": "$1"}, entry_ids=("initialize", "go", "finalize"))
    with pytest.raises(ConfigError, match="unknown key 'go'"):
        refuse_unknown_keys({"go": "$1"})


@pytest.mark.parametrize(
    "component",
    [
        {"_target_": "Dataset", "data": [1], "_disabled_": True, "_requires_": [], "_desc_": "x", "_mode_": "default"},
        {"_target_": "DataLoader", "dataset": [1], "num_workers": 0, "shuffle": True},  # torch's, through MONAI's
        {"_target_": "LoadImaged", "keys": "image", "prune_meta_sep": " "},  # its **kwargs go to the reader
        {"_target_": "builtins.dict", "anything": 1},
        {"_target_": "torch.optim.AdamW", "params": [], "lr": 1},
        {"_target_": "$some.expression", "anything": 1},
        {"_target_": "no.such.module", "anything": 1},
        {"_target_": "monai_mixssl.engines.MixSSLTrainer", "max_epochs": 1, "train_handlers": []},  # its parent's
    ],
    ids=lambda c: c["_target_"],
)
def test_arguments_that_are_taken_pass(component: dict[str, Any]) -> None:
    refuse_unknown_arguments(ConfigParser({"a": [{"b": component}]}))


@pytest.mark.parametrize(
    ("component", "message"),
    [
        ({"_target_": "Dataset", "datta": [1]}, "unknown key 'a#0#b#datta'; did you mean 'data'?"),
        ({"_target_": "DataLoader", "num_worker": 1}, "unknown key 'a#0#b#num_worker'; did you mean 'num_workers'?"),
        ({"_target_": "torch.optim.AdamW", "xyz": 1}, "unknown key 'a#0#b#xyz'; AdamW takes no such argument"),
        (
            {"_target_": "monai_mixssl.engines.MixSSLTrainer", "max_epoch": 1},
            "unknown key 'a#0#b#max_epoch'; did you mean 'max_epochs'?",
        ),
    ],
)
def test_arguments_that_are_not_taken_are_refused(component: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        refuse_unknown_arguments(ConfigParser({"a": [{"b": component}]}))
    assert str(error.value) == message


def test_the_handlers_that_tracking_adds_pass() -> None:
    handlers = {name: handler for name, handler in DEFAULT_MLFLOW_SETTINGS["configs"].items() if "er" in name[-2:]}
    assert handlers
    refuse_unknown_arguments(ConfigParser({"handlers": list(deepcopy(handlers).values())}))


def test_the_check_leaves_the_table_of_short_names_to_monai() -> None:
    parser = ConfigParser({"a": {"_target_": "Dataset", "data": []}})
    config_check.refuse_unknown_arguments(parser)
    assert parser.locator._components_table is None


def test_a_boolean_below_the_top_level_is_what_it_says_too() -> None:
    config = {
        "loader": {"pin_memory": "false", "name": "falsely"},
        "list": [{"print_lr": "True"}, "true"],
        "top": "true",
    }
    for section in config.values():
        config_check.correct_booleans(section)
    assert config["loader"] == {"pin_memory": False, "name": "falsely"}
    assert config["list"] == [{"print_lr": True}, True]
    assert config["top"] == "true"


@pytest.mark.parametrize(("word", "value"), [("0", False), ("1", True), ("false", False), ("True", True)])
def test_an_argument_that_is_true_or_false_takes_the_words(word: str, value: bool) -> None:
    component = {"_target_": "DataLoader", "dataset": [1], "pin_memory": word}
    refuse_unknown_arguments(ConfigParser(config := {"a": component}))
    assert config["a"]["pin_memory"] is value


@pytest.mark.parametrize(
    ("target", "argument"),
    [("DataLoader", "pin_memory"), ("DataLoader", "shuffle"), ("monai_mixssl.engines.MixSSLTrainer", "decollate")],
)
def test_an_argument_that_is_true_or_false_takes_no_other_word(target: str, argument: str) -> None:
    with pytest.raises(ConfigError, match=rf"^a#{argument} must be true or false, not 'no'$"):
        refuse_unknown_arguments(ConfigParser({"a": {"_target_": target, argument: "no"}}))
