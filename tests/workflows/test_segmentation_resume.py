# SPDX-License-Identifier: Apache-2.0
"""Segmentation runs that are killed with SIGKILL and resumed, against one that is not."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from segmentation_runs import rounded, segment

from monai_mixssl.data.phantoms import write_segmentation_phantoms
from monai_mixssl.handlers import latest_iteration, read_log

# 12 iterations, 2 volumes a validation; a checkpoint every 2 iterations, and best.pt whenever validation improves
POINTS = [("training", 3), ("training", 7), ("validation", 2), ("validation", 5), ("checkpoint", 1), ("checkpoint", 5)]


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return write_segmentation_phantoms(tmp_path_factory.mktemp("scans"), patients=8, image_size=32, slices=3)


@pytest.fixture(scope="module")
def uninterrupted(scans, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert segment(dataset_dir=scans, output_dir=folder) == 0
    return folder


def final_state(folder: Path) -> list[torch.Tensor]:
    newest = folder / "checkpoints" / f"checkpoint_{latest_iteration(folder / 'checkpoints')}.pt"
    state = torch.load(newest, weights_only=True)
    moments = [v for s in state["optimizer"]["state"].values() for v in s.values()]
    model = safetensors.torch.load_file(folder / "model.safetensors")
    best = state["best"]["weights"]
    return [*state["network"].values(), *moments, *best.values(), *(model[name] for name in sorted(model))]


def results(folder: Path) -> tuple[dict[str, Any], list[list[str]]]:
    """Scores and the table, without the ids, which are random in each folder, and so is the order of the rows."""
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["data_hash"]
    with open(folder / "predictions.csv", newline="") as file:
        return metrics, sorted(row[1:] for row in csv.reader(file))


@pytest.mark.parametrize(("place", "count"), POINTS)
def test_a_killed_run_resumed_ends_bit_for_bit_like_one_that_was_not(scans, uninterrupted, tmp_path, place, count):
    folder = tmp_path / "run"
    keys = {"dataset_dir": scans, "output_dir": folder, "num_workers": 2 if count == 7 else 0}
    assert segment(kill=(place, count), **keys) == -9
    assert not (folder / "model.safetensors").exists()
    assert segment(resume=True, **keys) == 0

    assert all(torch.equal(a, b) for a, b in zip(final_state(uninterrupted), final_state(folder), strict=True))
    for whole, again in zip(results(uninterrupted), results(folder), strict=True):
        assert rounded(whole) == rounded(again)
    for whole, again in zip(read_log(uninterrupted / "log.jsonl"), read_log(folder / "log.jsonl"), strict=True):
        del whole["seconds"], again["seconds"]
        assert rounded(whole) == rounded(again)
    assert json.loads((folder / "run.json").read_text())["status"] == "complete"


def test_a_cache_of_half_the_images_or_none_changes_nothing(scans, uninterrupted, tmp_path):
    for rate in (0.5, 0.0):
        assert segment(dataset_dir=scans, output_dir=tmp_path / str(rate), cache_rate=rate) == 0
        state = zip(final_state(uninterrupted), final_state(tmp_path / str(rate)), strict=True)
        assert all(torch.equal(a, b) for a, b in state)


def test_the_run_has_learned_something(uninterrupted):
    losses = [line["loss"] for line in read_log(uninterrupted / "log.jsonl") if line["event"] == "train"]
    assert len(losses) == 12
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
