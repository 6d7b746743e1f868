# SPDX-License-Identifier: Apache-2.0
"""Pretraining with two views of each target, which must agree."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from bundle_runs import BUNDLE, SMALL, run
from PIL import Image
from safetensors import safe_open

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.workflows import PretrainWorkflow

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


def test_zoom_cuts_a_view_out_anywhere_and_no_smaller_than_asked(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))  # its values say where a column was
    (tmp_path / "scans").mkdir()
    for number in range(40):
        picture = ramp.copy()
        picture[:2] = number  # no two the same, or all but one would be left out as copies
        Image.fromarray(picture).save(tmp_path / "scans" / f"{number}.png")
    keys = {"dataset_dir": str(tmp_path / "scans"), "output_dir": str(tmp_path / "run"), "zoom": 2.0}
    workflow = PretrainWorkflow(logging_file=False, num_workers=0, progress=False, pictures=False, **keys)
    workflow.initialize()
    dataset = workflow.parser.get_parsed_content("train#dataset")
    low, high = np.array([np.percentile(dataset[n]["image_target"][0, 32], (0, 100)) for n in range(len(dataset))]).T
    width, middle = high - low, (high + low) / 2
    assert width.min() >= 0.48
    assert width.min() < 0.6
    assert width.max() > 0.9
    assert middle.min() < 0.4
    assert middle.max() > 0.6
