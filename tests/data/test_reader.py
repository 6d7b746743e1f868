# SPDX-License-Identifier: Apache-2.0
"""`ScanReader` in a MONAI pipeline of someone else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, LoadImaged
from tiny_scans import blob, write_dicom, write_nifti, write_png, write_series

from monai_mixssl.data.metadata import ALLOWED_METADATA, KeepAllowedMetadatad
from monai_mixssl.data.reader import ScanReader
from monai_mixssl.errors import DataError

PIPELINE = Compose(
    [LoadImaged("image", reader=ScanReader), KeepAllowedMetadatad("image"), EnsureChannelFirstd("image")]
)


def test_a_folder_is_read_as_one_volume_with_its_affine(tmp_path):
    volume = blob((5, 10, 8))
    write_series(tmp_path, volume, order=[4, 2, 0, 1, 3], step=3.0)
    image = PIPELINE({"image": str(tmp_path)})["image"]
    assert np.array_equal(image[0], volume.transpose(2, 1, 0))
    assert np.allclose(image.affine, np.diag([-1.5, -2.0, 3.0, 1.0]))
    assert image.meta["modality"] == "MR"


def test_two_series_in_a_folder_are_refused(tmp_path):
    write_series(tmp_path / "a", blob((3, 8, 8)))
    write_series(tmp_path / "b", blob((3, 8, 8)), SeriesInstanceUID="1.9")
    with pytest.raises(DataError, match="2 images or volumes"):
        ScanReader().read(tmp_path)


@pytest.mark.parametrize("name", ["x.nii.gz", "x.png"])
def test_nifti_and_pictures_agree_with_monais_own_readers(tmp_path, name):
    if name == "x.png":
        path = write_png(tmp_path / name, np.random.RandomState(0).randint(0, 256, (7, 9, 3)))
    else:
        path = write_nifti(tmp_path / name, blob((7, 8, 9)), np.diag([1, -2, 3, 1]))
    ours = LoadImage(reader=ScanReader, ensure_channel_first=True)(path)
    monais = LoadImage(ensure_channel_first=True)(path)
    assert torch.equal(ours.as_tensor(), monais.as_tensor())
    assert torch.equal(ours.affine, monais.affine)


def test_metadata_hold_no_name_and_no_path(tmp_path):
    path = write_dicom(tmp_path / "Doe^John", blob((8, 8)), PatientName="Doe^John", PatientID="77")
    image = PIPELINE({"image": str(path)})["image"]
    assert set(image.meta) <= ALLOWED_METADATA
    assert "Doe" not in str(image.meta)


def test_what_is_no_image_is_refused_without_its_path(tmp_path):
    (tmp_path / "Doe.dcm").write_bytes(b"nothing")
    assert not ScanReader().verify_suffix(tmp_path / "Doe.dcm")
    with pytest.raises(DataError, match="not a DICOM") as error:
        ScanReader().read(tmp_path / "Doe.dcm")
    assert "Doe" not in str(error.value)
