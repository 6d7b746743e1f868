# SPDX-License-Identifier: Apache-2.0
"""Pretraining with two views of each target, which must agree."""

from __future__ import annotations

import json
from typing import Any

from bundle_runs import BUNDLE, SMALL, run
from safetensors import safe_open

from monai_mixssl.data.phantoms import write_phantoms

TWO_VIEWS = {"views": 2, "agreement_weight": 1.0, "transparency_map_cells": 4, "jitter": 0.4, "zoom": 1.4}


def test_two_views_are_trained_validated_and_resumed_exactly(tmp_path):
    scans = write_phantoms(tmp_path / "scans", patients=6, image_size=32, slices=5)
    keys = {**TWO_VIEWS, "dataset_dir": scans, "max_epochs": 2}
    assert run(output_dir=tmp_path / "whole", **keys) == 0
    assert run(kill=("training", 4), output_dir=tmp_path / "killed", **keys) == -9
    assert run(output_dir=tmp_path / "killed", resume=True, **keys) == 0
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert any("agreement_loss" in line for line in log)
    assert any("val_agreement_loss" in line for line in log)
    weights = []
    for name in ("whole", "killed"):
        with safe_open(tmp_path / name / "encoder.safetensors", "pt") as file:
            assert not any("projector" in key for key in file.keys())  # noqa: SIM118 (no mapping)
            weights.append({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118 (no mapping)
    assert all((weights[0][key] == weights[1][key]).all() for key in weights[0])


def test_the_config_of_two_views_goes_on_top_of_the_bundles_own(command: Any, tmp_path):
    scans = write_phantoms(tmp_path / "scans", patients=6, image_size=32, slices=5)
    configs = "['configs/train.json','configs/two_views.json']"
    keys = {**SMALL, "batch_size": 8, "max_epochs": 1, "dataset_dir": scans, "output_dir": tmp_path / "run"}
    typed = (f"--{key}={value}" for key, value in keys.items())
    ended = command("monai.bundle", "run", "pretrain", "--config_file", configs, *typed, cwd=BUNDLE)
    assert ended.status == 0, ended.last_line
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["views"], config["match"], config["reconstruction_weight"]) == (2, None, 10.0)
    assert (config["source"], config["jitter"]) == ("installed", 0.0)
    (line,) = (
        line
        for line in map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
        if line["event"] == "validation"
    )
    assert line["val_agreement_loss"] > 0
