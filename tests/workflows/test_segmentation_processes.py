# SPDX-License-Identifier: Apache-2.0
"""Two processes with gloo, started as torchrun starts them."""

from __future__ import annotations

import json

import pytest
from segmentation_runs import BUNDLE, SMALL, segment

from monai_mixssl.data.phantoms import write_segmentation_phantoms
from monai_mixssl.handlers import read_log

CONFIGS = "['configs/train.json','configs/multi_gpu_train.json']"


def test_two_processes_share_steps_and_validation_and_one_writes(command, tmp_path):
    scans = write_segmentation_phantoms(tmp_path / "scans", patients=8, image_size=32, slices=3)
    keys = {**SMALL, "dataset_dir": scans, "max_epochs": 1, "norm": ["group", {"num_groups": 8}]}
    assert segment(output_dir=tmp_path / "one", **{**keys, "batch_size": 4, "min_steps_per_epoch": 2}) == 0
    two = {**keys, "output_dir": tmp_path / "two", "batch_size": 2, "min_steps_per_epoch": 2}
    arguments = [part for key, value in two.items() for part in (f"--{key}", str(value))]
    ended = command("monai.bundle", "run", "finetune", "--config_file", CONFIGS, *arguments, cwd=BUNDLE, processes=2)
    assert ended.status == 0, ended.err[-3000:]

    one, two = (read_log(tmp_path / name / "log.jsonl") for name in ("one", "two"))
    assert [line["iteration"] for line in one] == [line["iteration"] for line in two] == [1, 2, 2]
    # each process takes the overlap of its own half of a batch: close, not equal
    assert two[-1]["val_dice_brain"] == pytest.approx(one[-1]["val_dice_brain"], abs=0.05)
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["validation"]["count"] == metrics["test"]["count"] == 2
    # the run's own validation, by both processes, saw what the first one measures alone afterwards
    assert metrics["validation"]["mean_dice"] == pytest.approx(two[-1]["val_mean_dice"], abs=1e-6)
    assert json.loads((tmp_path / "two" / "run.json").read_text())["status"] == "complete"
