# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed with SIGKILL and resumed, against one that is not."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import safetensors.torch
import torch
from bundle_runs import run

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.handlers import latest_iteration, read_log

# iterations of training drawn by a seed, so that nobody chose the easy ones; a validation is 1 to 2 batches long
_DRAWN = sorted(random.Random(2022).sample(range(2, 15), 3))
POINTS = [("training", n) for n in _DRAWN] + [("validation", 2), ("checkpoint", 1), ("checkpoint", 4)]


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("scans"), patients=6, image_size=32, slices=5)


@pytest.fixture(scope="module")
def uninterrupted(scans, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(dataset_dir=scans, output_dir=folder) == 0
    return folder


def final_state(folder):
    newest = folder / "checkpoints" / f"checkpoint_{latest_iteration(folder / 'checkpoints')}.pt"
    state = torch.load(newest, weights_only=True)
    moments = [v for s in state["optimizer"]["state"].values() for v in s.values()]
    return [*state["network"].values(), *moments], safetensors.torch.load_file(folder / "encoder.safetensors")


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(("place", "count"), POINTS)
def test_a_killed_run_resumed_ends_bit_for_bit_like_one_that_was_not(
    scans, uninterrupted, tmp_path, place, count, num_workers
):
    folder = tmp_path / "run"
    keys = {"dataset_dir": scans, "output_dir": folder, "num_workers": num_workers}
    assert run(kill=(place, count), **keys) == -9
    assert not (folder / "encoder.safetensors").exists()
    assert run(resume=True, **keys) == 0

    expected, expected_encoder = final_state(uninterrupted)
    resumed, encoder = final_state(folder)
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed, strict=True))
    assert expected_encoder.keys() == encoder.keys()
    assert all(torch.equal(expected_encoder[name], encoder[name]) for name in encoder)
    for whole, again in zip(read_log(uninterrupted / "log.jsonl"), read_log(folder / "log.jsonl"), strict=True):
        del whole["seconds"], again["seconds"]
        assert whole == again
    assert json.loads((folder / "run.json").read_text())["status"] == "complete"


def test_resuming_a_complete_run_changes_nothing(scans, tmp_path):
    folder = tmp_path / "run"
    assert run(dataset_dir=scans, output_dir=folder, max_epochs=1) == 0
    before = ((folder / "encoder.safetensors").read_bytes(), (folder / "log.jsonl").read_bytes())
    assert run(dataset_dir=scans, output_dir=folder, max_epochs=1, resume=True) == 0
    assert ((folder / "encoder.safetensors").read_bytes(), (folder / "log.jsonl").read_bytes()) == before


def test_an_empty_folder_begins_a_run_with_resume_too(scans, tmp_path):
    assert run(dataset_dir=scans, output_dir=tmp_path / "new", max_epochs=1, resume=True) == 0
    assert (tmp_path / "new" / "encoder.safetensors").exists()


def test_scans_that_vanished_since_do_not_stop_a_resume(tmp_path):
    scans = write_phantoms(tmp_path / "scans", patients=6, image_size=32, slices=5)
    keys = {"dataset_dir": scans, "output_dir": tmp_path / "run"}
    assert run(kill=("training", 7), **keys) == -9
    next(scans.rglob("*.nii.gz")).unlink()
    assert run(resume=True, **keys) == 0
