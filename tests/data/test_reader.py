# SPDX-License-Identifier: Apache-2.0
"""`ScanReader` in a MONAI pipeline of someone else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, PydicomReader
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, LoadImaged
from tiny_scans import blob, write_dicom, write_nifti, write_png, write_series

from monai_mixssl.data.metadata import ALLOWED_METADATA, KeepAllowedMetadatad
from monai_mixssl.data.reader import ScanReader
from monai_mixssl.errors import ConfigError, DataError

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


def test_two_series_in_a_folder_are_refused_even_where_monai_would_read_them(tmp_path):
    folder = tmp_path / "Doe"
    write_series(folder, blob((3, 8, 8)))
    for path in write_series(tmp_path, blob((3, 8, 8), seed=1), SeriesInstanceUID="1.9"):
        path.rename(folder / f"b{path.name}")
    monais = PydicomReader()
    assert monais.get_data(monais.read(str(folder)))[0].shape[-1] == 6  # both, as one volume
    with pytest.raises(DataError, match="2 images or volumes") as error:
        LoadImage(reader=ScanReader)(folder)
    assert "Doe" not in str(error.value)
    with pytest.raises(RuntimeError) as wrapped:
        PIPELINE({"image": str(folder)})
    assert isinstance(wrapped.value.__cause__, DataError)


def test_one_of_several_volumes_can_be_chosen(tmp_path):
    first, second = blob((3, 8, 8)), blob((3, 8, 8), seed=1)
    write_series(tmp_path / "a", first)
    write_series(tmp_path / "b", second, SeriesInstanceUID="1.9")
    for number, volume in enumerate((first, second)):
        assert np.array_equal(LoadImage(reader=ScanReader, volume=number)(tmp_path), volume.transpose(2, 1, 0))
    with pytest.raises(DataError, match="There are 2 volumes and volume is 2"):
        LoadImage(reader=ScanReader, volume=2)(tmp_path)


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
    with pytest.raises(DataError, match="content is not what the name says") as error:
        LoadImage(reader=ScanReader)(tmp_path / "Doe.dcm")
    assert "Doe" not in str(error.value)


def test_what_is_unusual_and_what_is_left_out_stands_in_the_metadata(tmp_path):
    paths = write_series(tmp_path, blob((3, 8, 8)), Modality="CT", PixelSpacing=None)
    (tmp_path / "copy").write_bytes(paths[0].read_bytes())
    (tmp_path / "report.txt").write_text("Doe")
    image = PIPELINE({"image": str(tmp_path)})["image"]
    assert set(image.meta["notes"].split("; ")) == {
        "no rescale tags, values as stored",
        "no pixel spacing, taken as 1 mm",
        "1 left out: duplicate of another DICOM file",
        "1 left out: not a DICOM, NIfTI, NRRD, MetaImage, PNG or JPEG file",
    }


def test_images_with_and_without_spacing_make_a_batch(tmp_path):
    paths = [
        write_dicom(tmp_path / "a", blob((8, 8)), PixelSpacing=[2, 2]),
        write_png(tmp_path / "b", blob((8, 8), top=255)),
    ]
    (batch,) = DataLoader(Dataset([{"image": str(path)} for path in paths], PIPELINE), batch_size=2)
    assert batch["image"].shape == (2, 1, 8, 8)
    assert batch["image"].meta["modality"] == ["MR", ""]


def test_an_unknown_geometry_is_refused():
    with pytest.raises(ConfigError, match="geometry is 'straight'; use one of accept, resample, refuse"):
        ScanReader(geometry="straight")


def test_values_that_are_no_numbers_are_noted(tmp_path):
    array = blob((7, 8, 9)).astype(np.float32) / 3
    array[3, 3, 3] = np.nan
    image = LoadImage(reader=ScanReader)(write_nifti(tmp_path / "x.nii", array))
    assert image.meta["notes"] == "NaN or infinite values"
    assert np.array_equal(image, array, equal_nan=True)
