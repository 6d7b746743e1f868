# SPDX-License-Identifier: Apache-2.0
"""Rescale slope and intercept: of a file, of each slice, of each frame; values as pydicom's stored ones give them."""

from __future__ import annotations

import numpy as np
import pydicom.uid
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from tiny_scans import blob, read_pixels, write_dicom, write_enhanced

from monai_mixssl.data.read import read_image
from monai_mixssl.data.scan import scan

# left out by rule: secondary captures, their multi-frame kinds, and whole microscopy slides
BY_RULE = ("1.2.840.10008.5.1.4.1.1.7.", "1.2.840.10008.5.1.4.1.1.77.1.6.")
STORAGE_CLASSES = sorted(
    str(uid)
    for name, uid in vars(pydicom.uid).items()
    if name.endswith(("ImageStorage", "VolumeStorage")) and not f"{uid}.".startswith(BY_RULE)
)


def look(path):
    return scan(path, salt=b"0", progress=False).images


def rescale_group(slope, intercept):
    inner = Dataset()
    inner.RescaleSlope, inner.RescaleIntercept, inner.RescaleType = slope, intercept, "US"
    return Sequence([inner])


def frames_file(path, pixels, shared, rescales, **tags):
    """A multi-frame file of frames one millimetre apart; None: no rescale of its own."""
    per_frame = []
    for number, rescale in enumerate(rescales):
        item, place, turn = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient, turn.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
        item.PlanePositionSequence, item.PlaneOrientationSequence = Sequence([place]), Sequence([turn])
        if rescale:
            item.PixelValueTransformationSequence = rescale_group(*rescale)
        per_frame.append(item)
    common = Dataset()
    if shared:
        common.PixelValueTransformationSequence = rescale_group(*shared)
    return write_dicom(
        path,
        pixels,
        SharedFunctionalGroupsSequence=Sequence([common]),
        PerFrameFunctionalGroupsSequence=Sequence(per_frame),
        **tags,
    )


@pytest.mark.parametrize("uid", STORAGE_CLASSES)
def test_every_storage_class_is_rescaled_as_its_headers_say(tmp_path, uid):
    pixels = blob((2, 6, 5))
    own = [(3.0, 1.0), (0.5, 7.0)]
    write_dicom(tmp_path / "a", pixels[0], SOPClassUID=uid, RescaleSlope=3, RescaleIntercept=1)
    frames_file(tmp_path / "b", pixels, None, own, SOPClassUID=uid, SeriesInstanceUID="1.5")
    frames_file(
        tmp_path / "c", pixels, None, [None, own[1]], SOPClassUID=uid, SeriesInstanceUID="1.6",
        RescaleSlope=3, RescaleIntercept=1,
    )  # fmt: skip
    frames_file(tmp_path / "d", pixels, (2.0, 4.0), [None, own[1]], SOPClassUID=uid, SeriesInstanceUID="1.7")
    classic, *enhanced = look(tmp_path)
    assert np.array_equal(read_image(classic).array[0], pixels[0].T * 3 + 1)
    for image, needed in zip(enhanced, [own, own, [(2.0, 4.0), own[1]]], strict=True):
        array = read_image(image).array[0]
        assert len(array.T) == 2
        for plane, stored, (slope, intercept) in zip(array.T, pixels, needed, strict=True):
            assert np.allclose(plane, stored * slope + intercept, atol=1e-3)


def test_each_slice_has_its_own_rescale(tmp_path):
    volume = blob((3, 8, 8), top=4000)
    rescales = [(1, 0), (2.5, -10), (0.37, 1000)]
    for index, (slope, intercept) in enumerate(rescales):
        write_dicom(
            tmp_path / str(index), volume[index], ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1],
            ImagePositionPatient=[0, 0, index], RescaleSlope=slope, RescaleIntercept=intercept,
        )  # fmt: skip
    (image,) = look(tmp_path)
    expected = np.stack(
        [stored * slope + intercept for stored, (slope, intercept) in zip(volume, rescales, strict=True)]
    )
    assert np.allclose(read_image(image).array[0], expected.T, rtol=1e-6)


@pytest.mark.parametrize(
    ("tags", "stored", "wanted"),
    [
        ({}, [0, 255], "uint8"),
        ({}, [-1, 100], "int8"),
        ({}, [0, 4095], "int16"),
        ({"RescaleSlope": 1, "RescaleIntercept": -1024}, [0, 4095], "int16"),
        ({"RescaleSlope": 100, "RescaleIntercept": 0}, [0, 4095], "int32"),
        ({"RescaleSlope": 2.0, "RescaleIntercept": 0.0}, [0, 100], "uint8"),
        ({"RescaleSlope": 0.5, "RescaleIntercept": 0}, [0, 101], "float32"),
        ({"PixelRepresentation": 0}, [0, 65535], "uint16"),
    ],
)
def test_values_are_kept_in_the_smallest_type_that_holds_them(tmp_path, tags, stored, wanted):
    path = write_dicom(tmp_path / "x", np.tile(stored, (4, 2)), **tags)
    array = read_image(*look(path)).array[0]
    assert array.dtype == wanted
    assert np.array_equal(
        array, read_pixels(path).T.astype(float) * tags.get("RescaleSlope", 1) + tags.get("RescaleIntercept", 0)
    )


@pytest.mark.parametrize(
    ("tags", "note"),
    [
        ({"Modality": "CT"}, "no rescale tags, values as stored"),
        ({"Modality": "CT", "RescaleIntercept": -5}, "no rescale slope, taken as 1"),
        ({"Modality": "CT", "RescaleSlope": 2}, "no rescale intercept, taken as 0"),
        ({"Modality": "CT", "RescaleSlope": 0, "RescaleIntercept": 1}, "rescale slope of 0, taken as 1"),
        ({"Modality": "MR", "ModalityLUTSequence": [Dataset()]}, "modality lookup table, not applied"),
    ],
)
def test_what_the_header_lacks_is_noted(tmp_path, tags, note):
    pixels = blob((6, 6))
    (image,) = look(write_dicom(tmp_path / "x", pixels, **tags))
    assert note in image.notes
    slope = tags.get("RescaleSlope", 1) or 1
    assert np.array_equal(read_image(image).array[0], pixels.T * slope + tags.get("RescaleIntercept", 0))


def test_magnetic_resonance_needs_no_rescale_tags(tmp_path):
    (image,) = look(write_dicom(tmp_path / "x", blob((6, 6))))
    assert not any("rescale" in note for note in image.notes)


def test_two_kinds_of_image_in_one_file_give_two_volumes_with_their_own_rescale(tmp_path):
    frames = np.stack([blob((8, 8), seed=seed) for seed in range(6)])
    rescales = [(1.28, 0.0)] * 3 + [(0.244, -500.0)] * 3
    path = write_enhanced(tmp_path / "x", frames, [0.0, 2.0, 4.0] * 2, rescales)
    images = look(path)
    assert [image.shape for image in images] == [(8, 8, 3)] * 2
    for image, stored, (slope, intercept) in zip(images, (frames[:3], frames[3:]), rescales[::3], strict=True):
        assert np.allclose(read_image(image).array[0].T, stored * slope + intercept, rtol=1e-6)


def test_the_provided_enhanced_files_have_every_frame_as_pydicom_and_its_own_rescale_give_it(provided_data):
    for path in sorted((provided_data / "dicom" / "mr_enhanced_multiframe").rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array
        expected = []
        for item, frame in zip(dataset.PerFrameFunctionalGroupsSequence, stored, strict=True):
            group = item.PixelValueTransformationSequence[0]
            expected.append(frame * float(group.RescaleSlope) + float(group.RescaleIntercept))
        images = look(path)
        assert [image.shape[2] for image in images] == ([32, 32] if "Philips" in str(path) else [6])
        seen = []
        for image in images:
            volume = read_image(image)
            assert volume.array.dtype == ("float32" if "Philips" in str(path) else "int16")
            for part, plane in zip(image.parts, volume.array[0].T, strict=True):
                assert np.allclose(plane, expected[part.number], rtol=1e-6, atol=1e-4)
                seen.append(part.number)
        assert sorted(seen) == list(range(len(stored)))


@pytest.mark.parametrize(
    "tags",
    [
        [{}, {}, {}],
        [{"RescaleSlope": 1, "RescaleIntercept": -1024}] * 3,
        [{"RescaleSlope": 0.5, "RescaleIntercept": 3}] * 3,
        [{"PhotometricInterpretation": "MONOCHROME1", "PixelRepresentation": 0}] * 3,
        [{}, {"PixelRepresentation": 0}, {}],
        [{}, {"RescaleSlope": 0.5, "RescaleIntercept": 0}, {}],
        [{}, {"PhotometricInterpretation": "MONOCHROME1"}, {}],
        [{}, {"BitsStored": 12, "HighBit": 11}, {}],
    ],
)
def test_slices_read_together_are_what_they_are_one_by_one(tmp_path, tags):
    for number, plane in enumerate(blob((3, 8, 8), top=4000)):
        write_dicom(
            tmp_path / str(number), plane, ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1],
            ImagePositionPatient=[0, 0, number], **tags[number],
        )  # fmt: skip
    (image,) = look(tmp_path)
    together = read_image(image).array
    one_by_one = [read_image(*look(part.path)).array[0, ..., 0] for part in image.parts]
    assert np.array_equal(together[0], np.stack(one_by_one, axis=-1))
    assert together.dtype == np.result_type(*one_by_one)
