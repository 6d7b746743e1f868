# SPDX-License-Identifier: Apache-2.0
"""Siemens mosaics: the tiles of one picture become the slices of a volume, each in its place."""

from __future__ import annotations

import warnings

import numpy as np
import pydicom
import pytest
from tiny_scans import blob, csa_header, write_dicom, write_mosaic

from monai_mixssl.data.read import read_image
from monai_mixssl.data.scan import scan

OBLIQUE = (0.0, 0.8, -0.6, 0.28, -0.576, -0.768)


def look(path):
    return scan(path, salt=b"0", progress=False)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), OBLIQUE])
@pytest.mark.parametrize("slices", [3, 4, 5])
def test_a_mosaic_is_the_volume_that_its_slices_saved_one_by_one_are(tmp_path, slices, orientation, sign):
    volume = blob((slices, 6, 8)) + np.arange(slices, dtype=np.int16)[:, None, None]
    start = (-30.0, 20.0, 5.0)
    write_mosaic(tmp_path / "mosaic", volume, orientation=orientation, start=start, sign=sign)
    normal = sign * np.cross(orientation[:3], orientation[3:])
    for number, plane in enumerate(volume):
        write_dicom(
            tmp_path / f"{number}", plane, SeriesInstanceUID="1.7", ImageOrientationPatient=list(orientation),
            ImagePositionPatient=[float(one) for one in start + 3.0 * number * normal], PixelSpacing=[2.0, 1.5],
            SliceThickness=3.0,
        )  # fmt: skip
    classic, mosaic = look(tmp_path).images
    assert mosaic.shape == classic.shape == (8, 6, slices)
    assert np.array_equal(read_image(mosaic).array, read_image(classic).array)
    assert np.allclose(mosaic.affine, classic.affine, atol=1e-6)
    assert mosaic.notes == ()


def test_nibabel_places_the_mosaic_there_too(tmp_path):
    path = write_mosaic(tmp_path / "x", blob((5, 6, 8)), orientation=OBLIQUE, start=(-30.0, 20.0, 5.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that its DICOM readers are experimental
        from nibabel.nicom.dicomwrappers import MosaicWrapper

        wrapper = MosaicWrapper(pydicom.dcmread(path))
    (image,) = look(path).images
    lps = np.diag([-1, -1, 1, 1]) @ np.asarray(image.affine)
    # nibabel's axes are rows, columns, slices; ours run along a row first
    assert np.allclose(lps[:, [1, 0, 2, 3]], wrapper.affine, atol=1e-6)
    assert np.array_equal(read_image(image).array[0].swapaxes(0, 1), wrapper.get_data())


def test_mosaics_of_several_time_points_are_a_volume_each(tmp_path):
    times = [blob((4, 6, 6), seed=seed) for seed in range(3)]
    for time, volume in enumerate(times):
        write_mosaic(tmp_path / str(2 - time), volume, InstanceNumber=time + 1, RescaleSlope=2, RescaleIntercept=-7)
    images = look(tmp_path).images
    assert len(images) == 3
    expected = {(volume.transpose(2, 1, 0) * 2 - 7).astype(np.int16).tobytes() for volume in times}
    assert {read_image(image).array[0].astype(np.int16).tobytes() for image in images} == expected


@pytest.mark.parametrize(
    ("private", "reason"),
    [
        (b"", "Siemens mosaic without its private header"),
        (b"SV10 and nothing else", "Siemens mosaic whose private header cannot be read"),
        (csa_header(NumberOfImagesInMosaic=[0]), "Siemens mosaic whose private header cannot be read"),
        (csa_header(NumberOfImagesInMosaic=[50]), "Siemens mosaic whose private header makes no sense"),
    ],
)
def test_a_mosaic_that_cannot_be_taken_apart_is_left_out_with_the_reason(tmp_path, private, reason):
    result = look(write_mosaic(tmp_path / "x", blob((4, 6, 6)), private=private))
    assert not result.images
    assert [one.reason for one in result.excluded] == [reason]


def test_an_unknown_slice_distance_is_noted(tmp_path):
    path = write_mosaic(tmp_path / "x", blob((4, 6, 6)), step=1.0, SpacingBetweenSlices=None, SliceThickness=None)
    (image,) = look(path).images
    assert image.notes == ("no slice distance, taken as 1 mm",)
    assert image.spacing == (1.5, 2.0, 1.0)
