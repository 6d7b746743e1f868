# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning runs that are killed with SIGKILL and resumed, against one that is not."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from finetune_runs import finetune

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.handlers import latest_iteration, read_log

# 12 iterations, 3 batches a validation; a checkpoint every 2 iterations, and best.pt whenever validation improves
POINTS = [("training", 3), ("training", 7), ("validation", 2), ("checkpoint", 1), ("checkpoint", 5)]
# what draws random numbers while training, and what changes from epoch to epoch
KEYS = {"dropout": 0.2, "frozen_epochs": 1, "layer_decay": 0.8}


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("scans"), seed=1, patients=12, image_size=32, slices=3)


@pytest.fixture(scope="module")
def uninterrupted(scans, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert finetune(dataset_dir=scans, output_dir=folder, **KEYS) == 0
    return folder


def final_state(folder: Path) -> list[torch.Tensor]:
    newest = folder / "checkpoints" / f"checkpoint_{latest_iteration(folder / 'checkpoints')}.pt"
    state = torch.load(newest, weights_only=True)
    moments = [v for s in state["optimizer"]["state"].values() for v in s.values()]
    best = state["best"]
    model = safetensors.torch.load_file(folder / "model.safetensors")
    return [*state["network"].values(), *moments, *best["weights"].values(), *(model[name] for name in sorted(model))]


def results(folder: Path) -> tuple[dict[str, Any], list[list[str]]]:
    """Scores and predictions, without the ids, which are random in each folder."""
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["data_hash"]
    with open(folder / "predictions.csv", newline="") as file:
        rows = [row[1:] for row in csv.reader(file)]
    return metrics, rows


@pytest.mark.parametrize(("place", "count"), POINTS)
def test_a_killed_run_resumed_ends_bit_for_bit_like_one_that_was_not(scans, uninterrupted, tmp_path, place, count):
    folder = tmp_path / "run"
    keys = {"dataset_dir": scans, "output_dir": folder, **KEYS, "num_workers": 2 if count == 7 else 0}
    assert finetune(kill=(place, count), **keys) == -9
    assert not (folder / "model.safetensors").exists()
    assert finetune(resume=True, **keys) == 0

    assert all(torch.equal(a, b) for a, b in zip(final_state(uninterrupted), final_state(folder), strict=True))
    assert results(folder) == results(uninterrupted)
    for whole, again in zip(read_log(uninterrupted / "log.jsonl"), read_log(folder / "log.jsonl"), strict=True):
        del whole["seconds"], again["seconds"]
        assert whole == again
    assert json.loads((folder / "run.json").read_text())["status"] == "complete"
    assert not list(folder.rglob("*.part"))  # half-written files of the killed process


def test_resuming_a_complete_run_changes_nothing(scans, uninterrupted):
    kept = ("model.safetensors", "metrics.json", "predictions.csv", "log.jsonl")
    before = {name: (uninterrupted / name).read_bytes() for name in kept}
    assert finetune(dataset_dir=scans, output_dir=uninterrupted, resume=True, **KEYS) == 0
    assert {name: (uninterrupted / name).read_bytes() for name in kept} == before


def test_the_kept_weights_are_those_of_the_best_validation(uninterrupted):
    validations = [line for line in read_log(uninterrupted / "log.jsonl") if line["event"] == "validation"]
    best = max(line["val_auc"] for line in validations)
    first = next(line["epoch"] for line in validations if line["val_auc"] == best)
    metrics, _ = results(uninterrupted)
    assert metrics["selected"] == {"by": "val_auc", "epoch": first, "score": best}
    assert metrics["validation"]["auc"] == pytest.approx(best)
    model = torch.load(uninterrupted / "model.pt", weights_only=True)
    kept = torch.load(uninterrupted / "checkpoints" / "best.pt", weights_only=True)
    assert model.keys() == kept.keys()
    assert all(torch.equal(model[name], kept[name]) for name in model)


def test_the_encoder_stands_still_while_it_is_frozen(scans, tmp_path):
    assert finetune(dataset_dir=scans, output_dir=tmp_path / "run", max_epochs=1, frozen_epochs=1) == 0
    assert finetune(dataset_dir=scans, output_dir=tmp_path / "other", max_epochs=1, frozen_epochs=1, augment=False) == 0
    one, two = (safetensors.torch.load_file(tmp_path / name / "model.safetensors") for name in ("run", "other"))
    encoder = [name for name in one if name.startswith("encoder.")]
    assert len(encoder) > 50
    assert all(torch.equal(one[name], two[name]) for name in encoder)  # trained on other images, and yet the same
    assert not torch.equal(one["head.weight"], two["head.weight"])
