# SPDX-License-Identifier: Apache-2.0
"""The provided real files: what is read of them, and that the numbers are those of other libraries."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from monai_mixssl.data.prepared_data import prepare_data
from monai_mixssl.data.read import read_image
from monai_mixssl.data.scan import scan
from monai_mixssl.data.summary import found_counts

SALT = b"0" * 32


def look(folder):
    return scan(folder, salt=SALT, progress=False)


def test_the_messy_dicom_folder_is_sorted_out(provided_data):
    found = look(provided_data / "dicom")
    assert found_counts(found.images) == {
        "DICOM CT volume": 3, "DICOM CT image": 9, "DICOM US image": 2, "DICOM MR volume": 7,
    }  # fmt: skip
    assert Counter(one.reason for one in found.excluded) == {
        "duplicate of another DICOM file": 9,
        "DICOM structured report": 1,
    }
    tilted = next(image for image in found.images if image.shape == (512, 512, 28))
    assert len(tilted.notes) == 2


def test_a_series_is_read_as_simpleitk_reads_it(provided_data):
    folder = provided_data / "dicom" / "mr_t1w_structural"
    (image,) = look(folder).images
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    other = reader.Execute()
    assert np.array_equal(read_image(image).array[0], sitk.GetArrayFromImage(other).transpose(2, 1, 0))
    affine = np.eye(4)
    affine[:3, :3] = np.array(other.GetDirection()).reshape(3, 3) * other.GetSpacing()
    affine[:3, 3] = other.GetOrigin()
    assert np.allclose(image.affine, np.diag([-1, -1, 1, 1]) @ affine, atol=1e-6)


def test_the_philips_file_gives_magnitude_and_field_map_with_their_own_rescale(provided_data):
    path = provided_data / "dicom" / "mr_enhanced_multiframe" / "Philips" / "IM_0027_fMAP.dcm"
    stored = pydicom.dcmread(path).pixel_array.astype(float)
    magnitude, field = look(path).images
    assert magnitude.shape == field.shape == (64, 64, 32)
    assert np.allclose(read_image(magnitude).array[0].T, stored[:32] * 1.27985347985347, atol=1e-2)
    assert np.allclose(read_image(field).array[0].T, stored[32:] * 0.24420024420024 - 500, atol=1e-2)


@pytest.mark.parametrize(
    "syntax", ["1.2.4.90", "1.2.4.80", "1.2.4.57", "1.2.4.70", "1.2.5", "1.2.2", "1.2.1.99", "1.2.1"]
)
def test_every_lossless_transfer_syntax_gives_the_same_values(provided_data, syntax):
    folder = provided_data / "dicom" / "ct_transfer_syntaxes"
    names = [name for name in os.listdir(folder) if name.endswith(f"_1.2.840.10008.{syntax}.dcm")]
    assert len(names) == 1
    (plain,), (coded,) = look(folder / "CTImage.dcm").images, look(folder / names[0]).images
    assert np.array_equal(read_image(plain).array, read_image(coded).array)


def test_decoding_does_not_chatter(provided_data, capfd):
    folder = provided_data / "dicom" / "ct_transfer_syntaxes"
    for image in look(folder).images:
        read_image(image)
    said = capfd.readouterr()
    assert said.out == said.err == ""


@pytest.mark.parametrize(
    ("folder", "arguments", "used"),
    [
        ("dicom", {"patch_size": 64}, 20),
        ("dicom", {"spatial_dims": 3, "patch_size": (48, 48, 8)}, 9),
        ("hippocampus/imagesTr", {"spatial_dims": 3, "patch_size": 32}, 260),
        ("nifti", {}, 6),
        ("natural_cifar10", {"patch_size": 32}, 500),
    ],
)
def test_every_provided_set_is_prepared(provided_data, tmp_path, folder, arguments, used):
    data = prepare_data(provided_data / folder, tmp_path, progress=False, num_workers=0, **arguments)
    assert len(data.records) == used
    assert data.train
    assert data.validation
