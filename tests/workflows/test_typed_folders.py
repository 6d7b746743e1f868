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
