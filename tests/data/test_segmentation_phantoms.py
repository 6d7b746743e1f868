# SPDX-License-Identifier: Apache-2.0
"""The phantoms with masks: what is marked, and how they are laid out."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from monai_mixssl.data.labels import read_labels
from monai_mixssl.data.phantoms import (
    SEGMENTATION_CLASSES,
    phantom_volume,
    phantom_with_mask,
    write_segmentation_phantoms,
)
from monai_mixssl.errors import ConfigError


def test_lesions_are_marked_in_every_slice_of_those_who_have_them_and_nowhere_else():
    for index in range(12):
        phantom, mask = phantom_with_mask(index, seed=2, image_size=32, slices=6)
        np.testing.assert_array_equal(phantom.array, phantom_volume(index, seed=2, image_size=32, slices=6).array)
        assert mask.shape == phantom.array.shape
        assert mask.dtype == np.uint8
        with_lesion = (mask == 2).any(axis=(0, 1))
        assert with_lesion.all() if phantom.label else not with_lesion.any()
        assert (mask == 1).any(axis=(0, 1)).all()
        assert 0.1 < (mask > 0).mean() < 0.6


def test_the_brain_is_inside_the_skull_and_a_lesion_stands_out_from_it():
    """In CT the numbers are Hounsfield units: bone lies around the mask, none within."""
    found = 0
    for index in range(12):
        phantom, mask = phantom_with_mask(index, seed=2, slices=3)
        if phantom.protocol != "CT":
            continue
        found += 1
        brain = phantom.array[mask == 1]
        assert abs(np.median(brain) - 35) < 25
        assert (phantom.array[mask == 0] > 500).sum() > 100
        assert (brain > 500).mean() < 0.05
        if phantom.label:
            ring = np.abs(phantom.array[mask == 2] - np.median(brain))
            assert np.median(ring) > 100
    assert found == 4


def test_the_set_is_laid_out_as_a_decathlon_task_and_the_same_each_time(tmp_path):
    folder = write_segmentation_phantoms(tmp_path / "a", patients=3, image_size=16, slices=2)
    again = write_segmentation_phantoms(tmp_path / "b", patients=3, image_size=16, slices=2)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 7
    assert all((folder / file).read_bytes() == (again / file).read_bytes() for file in files)
    description = json.loads((folder / "dataset.json").read_text())
    assert list(description["labels"].values()) == list(SEGMENTATION_CLASSES)
    table = read_labels(folder, "segmentation")
    assert table.classes == list(SEGMENTATION_CLASSES)
    for row in table.rows:
        image, mask = nib.load(row.path), nib.load(row.mask)
        assert image.shape == mask.shape
        np.testing.assert_array_equal(image.affine, mask.affine)


def test_no_patient_is_one_of_pretraining_or_classification(tmp_path):
    folder = write_segmentation_phantoms(tmp_path, patients=2, image_size=16, slices=2)
    images = [np.asarray(nib.load(file).dataobj) for file in sorted((folder / "imagesTr").iterdir())]
    for seed in (0, 1):
        others = [phantom_volume(index, seed=seed, image_size=16, slices=2).array for index in range(2)]
        assert not any(np.array_equal(image, other) for image in images for other in others)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="other files"):
        write_segmentation_phantoms(tmp_path)
    with pytest.raises(ConfigError, match="at least 1 patient"):
        write_segmentation_phantoms(tmp_path / "new", patients=0)
