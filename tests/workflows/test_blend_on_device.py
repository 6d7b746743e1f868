# SPDX-License-Identifier: Apache-2.0
"""Pretraining that blends on the training device and not in the workers."""

from __future__ import annotations

import pytest
from bundle_runs import run

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.handlers import read_log


def test_a_run_that_blends_on_the_device_trains_as_one_that_blends_in_the_workers(tmp_path):
    scans = write_phantoms(tmp_path / "scans", patients=5, image_size=32, slices=4)
    losses = []
    for name in ("False", "True"):
        assert run(output_dir=tmp_path / name, dataset_dir=scans, blend_on_device=name, max_epochs=1) == 0
        log = read_log(tmp_path / name / "log.jsonl")
        losses.append([line["loss"] for line in log if line["event"] == "train"])
    assert len(losses[0]) > 1
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
