# SPDX-License-Identifier: Apache-2.0
"""Masks come onto their images' grids, or are refused."""

from __future__ import annotations

import errno
import zlib

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tiny_scans import blob, write_nifti, write_series

from monai_mixssl.data import load_scan
from monai_mixssl.data.label_maps import Grid, class_numbers, grid_of, read_mask, read_one
from monai_mixssl.data.load_scan import LoadScan, LoadScand
from monai_mixssl.data.records import LeftOut
from monai_mixssl.errors import DataError, UnreadableImageError

AFFINE = np.array([[2.0, 0, 0, -10], [0, 3.0, 0, 5], [0, 0, 4.0, 7], [0, 0, 0, 1]])
SHAPE = (5, 6, 7)


def mask_of(seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 3, SHAPE).astype(np.uint8)


def test_a_mask_stored_in_another_voxel_order_is_turned(tmp_path):
    mask = mask_of()
    turned = nib.Nifti1Image(mask, AFFINE).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))  # axes and directions
    assert turned.shape != SHAPE
    nib.save(turned, tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", Grid(SHAPE, AFFINE)), mask)


@pytest.mark.parametrize("shift", [0.4, 0.6])  # a fifth of the smallest side, and more than a quarter
def test_a_mask_may_be_off_by_the_rounding_of_a_header_and_no_more(tmp_path, shift):
    moved = AFFINE.copy()
    moved[0, 3] += shift
    path = write_nifti(tmp_path / "mask.nii.gz", mask_of(), moved)
    if shift < 0.5:
        np.testing.assert_array_equal(read_mask(path, Grid(SHAPE, AFFINE)), mask_of())
    else:
        with pytest.raises(LeftOut, match="mask lies elsewhere than its image"):
            read_mask(path, Grid(SHAPE, AFFINE))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (np.zeros((5, 6, 8), np.uint8), "mask of another size than its image"),
        (np.full(SHAPE, 0.5, np.float32), "mask whose values are not whole numbers"),
        (np.full(SHAPE, np.nan, np.float32), "mask with NaN or infinite values"),
        (np.zeros((*SHAPE, 2), np.uint8), "mask cannot be used: several images where one was expected"),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused_with_the_reason(tmp_path, content, reason):
    path = write_nifti(tmp_path / "mask.nii.gz", content, AFFINE)
    with pytest.raises(LeftOut) as caught:
        read_mask(path, Grid(SHAPE, AFFINE))
    assert caught.value.reason == reason


def test_a_missing_or_damaged_mask_is_refused_without_its_path(tmp_path):
    (tmp_path / "doe_jane.nii.gz").write_bytes(b"no mask")
    for name in ("doe_jane.nii.gz", "doe_john.nii.gz"):
        with pytest.raises(LeftOut, match="mask cannot be used") as caught:
            read_mask(tmp_path / name, Grid(SHAPE, AFFINE))
        assert "doe_" not in str(caught.value)


def test_a_nifti_mask_fits_a_dicom_series(tmp_path):
    volume = blob((4, 12, 10))
    write_series(tmp_path / "series", volume)
    _, read = read_one(str(tmp_path / "series"))
    grid = grid_of(read)
    assert grid.shape == (10, 12, 4)
    path = write_nifti(tmp_path / "mask.nii.gz", (volume > 0).T.astype(np.uint8), grid.affine)
    np.testing.assert_array_equal(read_mask(path, grid), read.array[0] > 0)


def test_values_become_class_numbers_and_others_are_named():
    mask = np.array([0, 4, 2, 0, 1])
    np.testing.assert_array_equal(class_numbers(mask, [0, 1, 2, 4]), [0, 3, 2, 0, 1])
    np.testing.assert_array_equal(class_numbers(mask, [0, 4, 2, 1]), [0, 1, 2, 0, 3])
    with pytest.raises(LeftOut, match="no class") as caught:
        class_numbers(mask, [0, 1, 4])
    assert caught.value.detail == "2"


def test_images_of_any_scale_and_kind_are_loaded_as_they_are(tmp_path):
    array = (blob(SHAPE) * 0.125 - 3).astype(np.float32)
    write_nifti(tmp_path / "image.nii.gz", array, AFFINE)
    write_nifti(tmp_path / "mask.nii.gz", mask_of() * 2, AFFINE)
    item = {"image": str(tmp_path / "image.nii.gz"), "label": str(tmp_path / "mask.nii.gz"), "id": "abc"}
    loaded = LoadScand(label_values=[0, 2, 4])(item)
    np.testing.assert_array_equal(loaded["image"][0], array)
    np.testing.assert_array_equal(loaded["label"][0], mask_of())
    np.testing.assert_allclose(loaded["image"].affine, AFFINE)
    assert loaded["image"].meta["id"] == "abc"
    assert not any("nii" in str(value) for value in loaded["image"].meta.values())

    rows = np.random.RandomState(0).randint(0, 255, (8, 5, 3)).astype(np.uint8)
    Image.fromarray(rows).save(tmp_path / "picture.png")
    colour, _ = LoadScan(in_channels=3)(str(tmp_path / "picture.png"))
    np.testing.assert_array_equal(colour[..., 0], rows.transpose(2, 1, 0))
    grey, _ = LoadScan()(str(tmp_path / "picture.png"))
    np.testing.assert_allclose(grey[0, ..., 0].T, rows @ [0.299, 0.587, 0.114], rtol=1e-5)


def test_what_cannot_be_loaded_is_named_by_its_id_alone(tmp_path):
    (tmp_path / "doe_jane.nii").write_bytes(b"x" * 400)
    with pytest.raises(DataError, match="The image abc cannot be used") as caught:
        LoadScan()(str(tmp_path / "doe_jane.nii"), image_id="abc")
    assert "doe_" not in str(caught.value)


@pytest.mark.parametrize("problem", [zlib.error("doe_jane"), ValueError("doe_jane"), OSError(errno.EIO, "doe_jane")])
def test_whatever_a_damaged_file_does_to_a_library_is_an_unreadable_image(monkeypatch, problem):
    def fail(source):
        raise problem

    monkeypatch.setattr(load_scan, "read_one", fail)
    with pytest.raises(UnreadableImageError, match=f"abc cannot be used .*{type(problem).__name__}") as caught:
        LoadScan()("doe_jane.nii", image_id="abc")
    assert caught.value.image_id == "abc"
    assert "doe_" not in str(caught.value)


@pytest.mark.parametrize("problem", [MemoryError(), OSError(errno.EMFILE, "too many")])
def test_what_the_machine_is_to_blame_for_is_not_blamed_on_an_image(monkeypatch, problem):
    def fail(source):
        raise problem

    monkeypatch.setattr(load_scan, "read_one", fail)
    with pytest.raises(type(problem)):
        LoadScan()("a.nii", image_id="abc")
