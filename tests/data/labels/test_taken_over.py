# SPDX-License-Identifier: Apache-2.0
"""Data of another run are taken over only where the labels that are given now are those it was made from."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from labelled_scans import labelled, picture, picture_set
from tiny_scans import blob, write_nifti

from monai_mixssl.data.labels import segmentation_data
from monai_mixssl.errors import RunFolderError

REFUSAL = r"made from other data or labels: {} of its {} images"


@pytest.fixture
def lender(tmp_path):
    """A run on twelve pictures of a patient each."""
    data_dir = picture_set(tmp_path / "set", patient=lambda n: f"p{n}", split=lambda n: "test" if n < 4 else "")
    labelled(data_dir, tmp_path / "first", seed=3, val_fraction=0.25)
    return data_dir


def refused(dataset_dir, tmp_path, count):
    with pytest.raises(RunFolderError, match=REFUSAL.format(count, 12)) as error:
        labelled(dataset_dir, tmp_path / "x", data_from=tmp_path / "first")
    assert str(tmp_path) not in str(error.value)


def test_a_copy_elsewhere_is_refused(tmp_path, lender):
    shutil.copytree(lender, tmp_path / "moved")
    refused(tmp_path / "moved", tmp_path, 12)


@pytest.mark.parametrize(
    ("old", "new"),
    [("4.png,c0", "4.png,c1"), ("4.png,c0,p4", "4.png,c0,p5"), ("0.png,c0,p0,test", "0.png,c0,p0,train")],
)
def test_another_label_patient_or_split_is_refused(tmp_path, lender, old, new):
    text = (lender / "labels.csv").read_text()
    assert f"\n{old}" in text
    (lender / "labels.csv").write_text(text.replace(f"\n{old}", f"\n{new}"))
    refused(lender, tmp_path, 1)


def test_the_manifest_says_how_the_splits_were_drawn(tmp_path, lender):
    given = {"data_from": tmp_path / "first", "seed": 9, "val_fraction": 0.5, "labels_per_class": 2}
    data = labelled(lender, tmp_path / "second", **given)
    written = json.loads((tmp_path / "second" / "manifest.json").read_text())["split"]
    assert (written["seed"], written["val_fraction"], written["label_seed"]) == (3, 0.25, 9)
    assert labelled(lender, tmp_path / "second", resume=True, **given) == data


def test_arrays_of_an_npz_file_are_taken_over(tmp_path):
    images = np.stack([picture(n) for n in range(12)])
    np.savez(tmp_path / "set.npz", train_images=images, train_labels=np.arange(12) % 2)
    first = labelled(tmp_path / "set.npz", tmp_path / "first")
    assert labelled(tmp_path / "set.npz", tmp_path / "second", data_from=tmp_path / "first").records == first.records
    np.savez(tmp_path / "set.npz", train_images=images[::-1], train_labels=np.arange(12) % 2)
    refused(tmp_path / "set.npz", tmp_path, 12)


def test_masks_elsewhere_are_refused(tmp_path):
    quiet = {"num_workers": 0, "progress": False, "report": lambda text: None}
    for n in range(5):
        array = blob((12, 13, 14), seed=n)
        write_nifti(tmp_path / "set" / "imagesTr" / f"{n}.nii", array)
        write_nifti(tmp_path / "set" / "labelsTr" / f"{n}.nii", (array > 500).astype(np.uint8))
    segmentation_data(tmp_path / "set", tmp_path / "first", **quiet)
    shutil.copytree(tmp_path / "set", tmp_path / "moved")
    with pytest.raises(RunFolderError, match=REFUSAL.format(5, 5)):
        segmentation_data(tmp_path / "moved", tmp_path / "x", data_from=tmp_path / "first", **quiet)
