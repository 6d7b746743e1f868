# SPDX-License-Identifier: Apache-2.0
"""Pretraining that blends on the training device and not in the workers."""

from __future__ import annotations

import json

import pytest
from bundle_runs import BUNDLE, SMALL, run

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.handlers import read_log
from monai_mixssl.workflows import PretrainWorkflow


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("scans"), patients=5, image_size=32, slices=4)


def test_a_run_that_blends_on_the_device_trains_as_one_that_blends_in_the_workers(scans, tmp_path):
    losses = []
    for name in ("False", "True"):
        assert run(output_dir=tmp_path / name, dataset_dir=scans, blend_on_device=name, max_epochs=1) == 0
        log = read_log(tmp_path / name / "log.jsonl")
        losses.append([line["loss"] for line in log if line["event"] == "train"])
    assert len(losses[0]) > 1
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("on_device", [False, True])
def test_the_key_decides_who_blends(on_device, scans, tmp_path):
    keys = {**SMALL, "dataset_dir": str(scans), "output_dir": str(tmp_path / "run"), "blend_on_device": on_device}
    workflow = PretrainWorkflow(logging_file=False, **keys)
    workflow.initialize()
    sample = workflow.parser.get_parsed_content("train#dataset")[0]
    assert ("image_target" in sample) is not on_device
    assert ("image_source" in sample) is on_device
    trainer = workflow.parser.get_parsed_content("train#trainer")
    assert (trainer.prepare_batch.mixup is not None) is on_device


def test_by_default_the_workers_blend():
    assert json.loads((BUNDLE / "configs" / "train.json").read_text())["blend_on_device"] is False
