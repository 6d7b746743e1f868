# SPDX-License-Identifier: Apache-2.0
"""Whole segmentation runs for the tests, in a child process that may be killed, and small images with masks."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from bundle_runs import _CHILDREN, _kill_at, as_from_the_command_line

import monai_mixssl.workflows
from monai_mixssl.networks import MixSSLNet, save_decoder, save_encoder

BUNDLE = Path(__file__).parents[2] / "bundles" / "mixssl_segmentation"

# of 8 patients 4 train in 4 steps an epoch, 2 validate, 2 test
SMALL: dict[str, Any] = {
    "spatial_dims": 2,
    "patch_size": 32,
    "batch_size": 4,
    "max_epochs": 3,
    "min_steps_per_epoch": 4,
    "val_fraction": 0.25,
    "test_fraction": 0.25,
    "val_interval": 1,
    "log_interval": 1,
    "checkpoint_interval": 2,
    "num_workers": 0,
    "pictures": False,
    "progress": False,
    "device": "cpu",
}


def segment(kill: tuple[str, int] | None = None, workflow: str = "SegmentationWorkflow", **keys: Any) -> int:
    """Run a workflow by name in a child process; returns its exit code, -9 where it was killed.

    Args:
        kill: a place ("training", "validation" or "checkpoint") and how many times to pass it before the child is
            killed there.
        workflow: its name in ``monai_mixssl.workflows``.
        keys: keys of the config; those of ``SMALL`` are given, too, where the workflow trains.
    """
    child = _CHILDREN.Process(target=_run, args=(kill, workflow, keys))
    child.start()
    child.join(300)
    if child.exitcode is None:
        child.kill()
        raise AssertionError("the run hangs")
    return int(child.exitcode)


def _run(kill: tuple[str, int] | None, name: str, keys: dict[str, Any]) -> None:
    as_from_the_command_line()
    usual = SMALL if name == "SegmentationWorkflow" else {"num_workers": 0, "progress": False, "device": "cpu"}
    given = {k: str(v) if isinstance(v, Path) else v for k, v in {**usual, **keys}.items()}
    workflow = getattr(monai_mixssl.workflows, name)(logging_file=False, **given)
    workflow.initialize()
    if kill is not None:
        _kill_at(workflow, *kill)
    workflow.run()


def write_pair(
    folder: Path, name: str, image: np.ndarray, mask: np.ndarray, affine: np.ndarray, mask_affine: Any = None
) -> None:
    """``imagesTr/<name>.nii.gz`` and ``labelsTr/<name>.nii.gz``."""
    for part, array, matrix in (("imagesTr", image, affine), ("labelsTr", mask, mask_affine)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine if matrix is None else matrix), folder / part / f"{name}.nii.gz")


def rounded(value: Any) -> Any:
    """Means are sums in the order of the ids: their last digit is not worth comparing."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return round(value, 9) if isinstance(value, float) else value


def write_pretrained(folder: Path) -> Path:
    """The encoder and the decoder of a 2D pretraining, with random weights."""
    torch.manual_seed(5)  # not the seed of the runs, whose random weights would be the same
    network = MixSSLNet(spatial_dims=2)
    preparation = {"spatial_dims": 2, "in_channels": 1, "patch_size": [32, 32], "spacing": None,
                   "normalization": "auto", "min_foreground": 0.1, "max_pad": 2.0}  # fmt: skip
    save_encoder(folder / "encoder.safetensors", network, {"preparation": preparation})
    save_decoder(folder / "decoder.safetensors", network)
    return folder


def metrics_of(folder: Path) -> dict:
    """What a run has measured."""
    return json.loads((folder / "metrics.json").read_text())


def reasons_of(folder: Path) -> list[str]:
    """Why files were left out."""
    return sorted(json.loads(line)["reason"] for line in (folder / "excluded.jsonl").read_text().splitlines())


def files_of(folder: Path) -> dict[str, str]:
    """Path of each image, by id."""
    with open(folder / "private" / "files.csv", newline="") as file:
        return {row["id"]: row["path"] for row in csv.DictReader(file) if row["use"] == "image"}
