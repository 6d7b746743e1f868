# SPDX-License-Identifier: Apache-2.0
"""Folders as they were typed, in the configuration that a run keeps."""

from __future__ import annotations

import json

import pytest
from monai.bundle import ConfigParser

from monai_mixssl.workflows import run_folder


@pytest.mark.parametrize("exists", [True, False])
def test_a_comma_splits_folders_only_where_they_are_not_one(tmp_path, monkeypatch, exists):
    monkeypatch.chdir(tmp_path)
    if exists:
        (tmp_path / "a,b").mkdir()
    monkeypatch.setattr(run_folder, "running_parser", lambda: ConfigParser({"dataset_dir": "a,b"}))
    run_folder.RunFolder(tmp_path / "run").begin()
    kept = json.loads((tmp_path / "run" / "private" / "config.json").read_text())["dataset_dir"]
    assert kept == (f"{tmp_path}/a,b" if exists else f"{tmp_path}/a,{tmp_path}/b")


TOY = {
    "imports": ["$import monai_mixssl.workflows as mixssl", "$from monai_mixssl.workflows import values"],
    "one": "./output",
    "several": None,
    "rules": "$dict(one=values.optional(values.path), several=values.optional(values.paths))",
    "initialize": ["$mixssl.check_config(@rules)"],
    "show": ["$print('used', [@one, @several])"],
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A bundle that says which paths it was given, and a folder with a comma in its name."""
    root = tmp_path_factory.mktemp("toy")
    (root / "train.json").write_text(json.dumps(TOY))
    (root / "x,y").mkdir()
    return root


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        (("--one", "2024_11"), "2024_11"),
        (("--one=0x10",), "0x10"),
        (("-one", "1e3"), "1e3"),
        (("--one", "a,b"), "a,b"),
        (("--one", "'7_1'"), "7_1"),
    ],
)
def test_a_folder_is_the_one_that_was_typed(typed, path, command, toy):
    words = ("run", "show", "--config_file", "train.json", "--logging_file", "False")
    ended = command("monai.bundle", *words, *typed, cwd=toy)
    assert ended.status == 0, ended.err
    assert f"used {[path, None]}" in ended.out


@pytest.mark.parametrize(
    ("several", "paths"),
    [
        ("2024_11,2023_12", ["2024_11", "2023_12"]),
        ("x,y", "x,y"),
        ("x,z", ["x", "z"]),
        ("['x', 'z']", ["x", "z"]),
    ],
)
def test_several_folders_are_those_that_were_typed(several, paths, command, toy):
    words = ("run", "show", "--config_file", "train.json", "--logging_file", "False", "--several", several)
    ended = command("monai.bundle", *words, cwd=toy)
    assert ended.status == 0, ended.err
    assert f"used {['./output', paths]}" in ended.out


def test_a_path_key_without_a_word_is_refused(command, toy):
    ended = command("monai.bundle", "run", "show", "--config_file", "train.json", "--one", cwd=toy)
    assert ended.status == 1
    assert ended.last_line.startswith("monai-mixssl: error: one must be ")


@pytest.mark.parametrize("typed", ["a#b", "/tmp/a#b/c"])
def test_a_folder_whose_name_monai_would_change_is_refused(typed, command, toy):
    ended = command("monai.bundle", "run", "show", "--config_file", "train.json", "--one", typed, cwd=toy)
    assert ended.status == 1
    assert "must be none or a path without # in it" in ended.last_line
