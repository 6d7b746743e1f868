# SPDX-License-Identifier: Apache-2.0
"""Images and masks for segmentation: paired, checked one by one, split, resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from labelled_scans import write_csv
from tiny_scans import blob, write_nifti, write_png, write_series

from monai_mixssl.data.labels import load_labelled, segmentation_data
from monai_mixssl.errors import DataError, RunFolderError


def pairs(folder, count=10, shape=(12, 13, 14)):
    """A Decathlon folder; the masks hold 0, 1 and 2."""
    for n in range(count):
        array = blob(shape, seed=n)
        write_nifti(folder / "imagesTr" / f"{n}.nii.gz", array)
        write_nifti(folder / "labelsTr" / f"{n}.nii.gz", (array > 500).astype(np.uint8) + (array > 600))
    return folder


def segmented(dataset_dir, output_dir, **settings):
    quiet = {"num_workers": 0, "progress": False, "report": lambda text: None}
    return segmentation_data(dataset_dir, output_dir, **{**quiet, **settings})


def reasons(data):
    return sorted(one.reason for one in data.excluded)


def test_items_hold_the_paths_of_pairs(tmp_path):
    data = segmented(pairs(tmp_path / "set"), tmp_path / "run")
    assert data.counts() == {"training": 7, "validation": 1, "test": 2}
    items = data.train + data.validation + data.test
    assert len({item["id"] for item in items}) == 10
    for item in items:
        image, mask = (np.asarray(nib.load(item[key]).dataobj) for key in ("image", "label"))
        assert np.array_equal(mask, (image > 500).astype(int) + (image > 600))
    assert (data.classes, data.label_values) == (["background", "1", "2"], [0, 1, 2])
    assert data.largest == (12, 13, 14)
    assert data.split_by == "file"
    assert load_labelled(tmp_path / "run") == data
    text = (tmp_path / "run" / "manifest.json").read_text() + (tmp_path / "run" / "excluded.jsonl").read_text()
    assert str(tmp_path) not in text
    assert "imagesTr" not in text


def test_the_result_does_not_depend_on_the_number_of_workers(tmp_path):
    pairs(tmp_path / "set")
    first, second = (segmented(tmp_path / "set", tmp_path / f"{n}", num_workers=n, label_fraction=0.5) for n in (0, 2))
    for split in ("train", "validation", "test"):
        paths = [[item["image"] for item in getattr(data, split)] for data in (first, second)]
        assert paths[0] == paths[1] != []
    assert len(first.train) == 4


def test_pairs_that_do_not_fit_are_left_out_and_counted(tmp_path):
    pairs(tmp_path / "set")
    masks, images = tmp_path / "set" / "labelsTr", tmp_path / "set" / "imagesTr"
    write_nifti(masks / "0.nii.gz", np.ones((12, 13, 15), np.uint8))
    write_nifti(masks / "1.nii.gz", np.ones((12, 13, 14), np.uint8), np.diag([1, 1, 1.5, 1]))
    write_nifti(masks / "2.nii.gz", np.full((12, 13, 14), 0.5, np.float32))
    (masks / "3.nii.gz").write_bytes(b"no NIfTI")
    write_nifti(images / "4.nii.gz", np.zeros((12, 13, 14), np.uint8))
    (masks / "5.nii.gz").unlink()
    write_nifti(masks / "6.nii.gz", np.full((12, 13, 14), 9, np.uint8))
    (tmp_path / "set" / "dataset.json").write_text(json.dumps({"labels": {"0": "b", "1": "x", "2": "y"}}))
    said = []
    data = segmented(tmp_path / "set", tmp_path / "run", report=said.append)
    assert len(data.records) == 3
    assert reasons(data) == [
        "constant image", "image without a mask",
        "mask cannot be used: damaged: content is not what the name says",
        "mask lies elsewhere than its image", "mask of another size than its image",
        "mask values that are no class", "mask whose values are not whole numbers",
    ]  # fmt: skip
    assert next(one.detail for one in data.excluded if "no class" in one.reason) == "9"
    assert all(one.reason in said[-1] for one in data.excluded)
    assert "No training mask shows" not in data.summary


def test_a_class_that_no_training_mask_shows_is_said(tmp_path):
    pairs(tmp_path / "set")
    (tmp_path / "set" / "dataset.json").write_text(json.dumps({"labels": {"0": "b", "1": "x", "2": "y", "7": "z"}}))
    data = segmented(tmp_path / "set", tmp_path / "run")
    assert (data.classes, data.label_values) == (["b", "x", "y", "z"], [0, 1, 2, 7])
    assert "No training mask shows 'z'." in data.summary


def test_nothing_usable_is_an_error_that_counts_why(tmp_path):
    pairs(tmp_path / "set", 3)
    for mask in (tmp_path / "set" / "labelsTr").iterdir():
        write_nifti(mask, np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(DataError, match="mask of another size than its image: 3"):
        segmented(tmp_path / "set", tmp_path / "run")
    for mask in (tmp_path / "set" / "labelsTr").iterdir():
        write_nifti(mask, np.zeros((12, 13, 14), np.uint8))
    with pytest.raises(DataError, match="nothing but 0"):
        segmented(tmp_path / "set", tmp_path / "run")
    for mask in (tmp_path / "set" / "labelsTr").iterdir():
        write_nifti(mask, np.arange(12 * 13 * 14, dtype=np.int16).reshape(12, 13, 14))
    with pytest.raises(DataError, match="different values, and at most 255 classes"):
        segmented(tmp_path / "set", tmp_path / "run")


def test_pictures_with_masks_in_2d_and_not_in_3d(tmp_path):
    for n in range(8):
        array = blob((20, 24), seed=n, top=220)
        write_png(tmp_path / "set" / f"{n}.png", array)
        write_png(tmp_path / "set" / f"m{n}.png", 255 * (array > 120))
    rows = [(f"{n}.png", f"m{n}.png", f"p{n // 2}") for n in range(8)]
    write_csv(tmp_path / "set" / "labels.csv", "path,label,patient", *rows)
    data = segmented(tmp_path / "set", tmp_path / "run", spatial_dims=2)
    assert data.label_values == [0, 255]
    assert data.split_by == "patient"
    assert data.counts() == {"training": 4, "validation": 2, "test": 2}
    assert data.excluded == []
    with pytest.raises(DataError, match="a single image, and spatial_dims is 3: 8"):
        segmented(tmp_path / "set", tmp_path / "run3")


def test_dicom_series_with_nifti_masks(tmp_path):
    rows = []
    for n in range(4):
        volume = blob((8, 18, 20), seed=n)
        write_series(tmp_path / "set" / f"{n}", volume, PatientID=f"p{n}", SeriesInstanceUID=f"1.2.{n}")
        mask = (volume > 600).astype(np.uint8).transpose(2, 1, 0)[::-1, ::-1]  # stored along RAS+, as converters do
        affine = np.array([[1.5, 0, 0, -1.5 * 19], [0, 2.0, 0, -2.0 * 17], [0, 0, 3.0, 0], [0, 0, 0, 1]])
        write_nifti(tmp_path / "set" / f"m{n}.nii", mask, affine)
        rows.append((f"{n}", f"m{n}.nii"))
    write_csv(tmp_path / "set" / "labels.csv", "path,label", *rows)
    data = segmented(tmp_path / "set", tmp_path / "run", test_fraction=0.25)
    assert data.excluded == []
    assert data.split_by == "patient"
    assert data.counts() == {"training": 2, "validation": 1, "test": 1}
    # a folder of two series has two volumes for one mask
    for name in ("a", "b"):
        write_series(tmp_path / "set" / "0" / name, blob((8, 18, 20), seed=8), SeriesInstanceUID=f"1.2.9.{ord(name)}")
    again = segmented(tmp_path / "set", tmp_path / "again", test_fraction=0)
    assert set(reasons(again)) == {"several volumes for one mask"}


def test_another_run_lends_pairs_and_splits(tmp_path):
    first = segmented(pairs(tmp_path / "set"), tmp_path / "first", label_fraction=0.3)
    shutil.move(tmp_path / "set" / "imagesTr", tmp_path / "images")
    shutil.copytree(tmp_path / "images", tmp_path / "set" / "imagesTr")
    second = segmented(tmp_path / "set", tmp_path / "second", data_from=tmp_path / "first", labels_per_class=6, seed=4)
    third = segmented(tmp_path / "set", tmp_path / "third", data_from=tmp_path / "second", label_fraction=0.3)
    assert second.test == first.test
    assert third.records == first.records
    assert len(second.train) == 6
    with pytest.raises(RunFolderError, match="not one of segmentation in 2D"):
        segmented(tmp_path / "set", tmp_path / "x", data_from=tmp_path / "first", spatial_dims=2)


def test_a_run_is_resumed_as_it_was(tmp_path):
    before = segmented(pairs(tmp_path / "set"), tmp_path / "run")
    pairs(tmp_path / "set", 12)
    assert segmented(tmp_path / "set", tmp_path / "run", resume=True) == before
    with pytest.raises(RunFolderError, match="begun with another spatial_dims;"):
        segmented(tmp_path / "set", tmp_path / "run", resume=True, spatial_dims=2)


@pytest.mark.parametrize("part", [0, 1])
def test_a_resume_goes_on_without_some_training_images_but_not_with_fewer_held_out(tmp_path, part):
    before = segmented(pairs(tmp_path / "set"), tmp_path / "run")
    lost = Path(before.paths[before.train[0]["id"]][part])
    content = lost.read_bytes()
    lost.unlink()
    assert segmented(tmp_path / "set", tmp_path / "run", resume=True) == before
    with pytest.raises(RunFolderError, match="1 images and masks of this run are gone"):
        segmented(tmp_path / "set", tmp_path / "run", resume=True, max_bad_share=0)
    lost.write_bytes(content)
    for items in (before.validation, before.test):
        lost = Path(before.paths[items[0]["id"]][part])
        content = lost.read_bytes()
        lost.unlink()
        with pytest.raises(RunFolderError, match="1 images and masks of this run are gone"):
            segmented(tmp_path / "set", tmp_path / "run", resume=True)
        lost.write_bytes(content)


def test_real_pairs(provided_data, tmp_path):
    folder = provided_data / "hippocampus"
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for file in sorted((folder / name).glob("*.nii.gz"))[:20]:
            (tmp_path / "set" / name / file.name).symlink_to(file)
    data = segmented(tmp_path / "set", tmp_path / "run", label_fraction=0.2)
    assert len(data.records) == 20
    assert data.excluded == []
    assert data.label_values == [0, 1, 2]
    assert data.counts() == {"training": 3, "validation": 2, "test": 4}
