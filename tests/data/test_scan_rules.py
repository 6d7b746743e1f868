# SPDX-License-Identifier: Apache-2.0
"""What is left out by rule, each kind with a reason of its own; and what must not be."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless
from tiny_scans import blob, write_dicom, write_series

from monai_mixssl.data.read import read_image
from monai_mixssl.data.scan import scan
from monai_mixssl.errors import ConfigError

STORAGE = "1.2.840.10008.5.1.4.1.1"
PIXELS = blob((8, 8))
NO_PIXELS = {"Rows": None, "Columns": None, "PixelData": None}


def look(folder):
    return scan(folder, salt=b"0" * 32, progress=False)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"SOPClassUID": f"{STORAGE}.88.33", "Modality": "SR", **NO_PIXELS}, "DICOM structured report"),
        ({"SOPClassUID": f"{STORAGE}.88.67", "Modality": "SR", **NO_PIXELS}, "DICOM dose report"),
        ({"SOPClassUID": f"{STORAGE}.88.59", "Modality": "KO", **NO_PIXELS}, "DICOM key object selection"),
        ({"SOPClassUID": f"{STORAGE}.11.1", "Modality": "PR", **NO_PIXELS}, "DICOM presentation state"),
        ({"SOPClassUID": f"{STORAGE}.9.1.1", "Modality": "ECG", **NO_PIXELS}, "DICOM waveform"),
        ({"SOPClassUID": f"{STORAGE}.104.1", "Modality": "DOC", **NO_PIXELS}, "DICOM encapsulated document"),
        ({"SOPClassUID": f"{STORAGE}.66", **NO_PIXELS}, "DICOM raw data"),
        ({"SOPClassUID": f"{STORAGE}.66.4", "Modality": "SEG"}, "DICOM segmentation"),
        ({"SOPClassUID": f"{STORAGE}.66.1", "Modality": "REG", **NO_PIXELS}, "DICOM registration"),
        ({"SOPClassUID": f"{STORAGE}.481.2", "Modality": "RTDOSE"}, "DICOM radiotherapy dose"),
        ({"SOPClassUID": f"{STORAGE}.481.3", "Modality": "RTSTRUCT", **NO_PIXELS}, "DICOM radiotherapy contours"),
        ({"SOPClassUID": f"{STORAGE}.481.5", **NO_PIXELS}, "DICOM radiotherapy plan or record"),
        ({"SOPClassUID": f"{STORAGE}.7.4"}, "DICOM secondary capture"),
        ({"SOPClassUID": None, "Modality": "SEG"}, "DICOM segmentation"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "DICOM screenshot"),
        ({"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"]}, "DICOM dose report"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "DICOM localizer"),
        ({"SeriesDescription": "3-plane loc"}, "DICOM localizer"),
        ({"SeriesDescription": "AAHead_Scout_MPR"}, "DICOM localizer"),
        ({"SeriesDescription": "Topogram 0.6 T20f"}, "DICOM localizer"),
        ({"BurnedInAnnotation": "YES"}, "DICOM with burned-in annotation"),
    ],
)
def test_each_kind_that_is_no_image_is_left_out_with_its_own_reason(tmp_path, tags, reason):
    write_dicom(tmp_path / "x", PIXELS, **tags)
    result = look(tmp_path)
    assert not result.images
    assert [one.reason for one in result.excluded] == [reason]


def test_a_header_that_ends_too_early_or_promises_pixels_that_are_not_there(tmp_path):
    whole = write_dicom(tmp_path / "x", PIXELS, StudyDescription="a long description").read_bytes()
    at = whole.index(b"a long description")
    (tmp_path / "x").write_bytes(whole[: at + 5])
    assert [one.reason for one in look(tmp_path).excluded] == ["truncated file"]
    write_dicom(tmp_path / "x", blob((200, 200)), PixelData=None)
    assert [one.reason for one in look(tmp_path).excluded] == ["truncated file"]
    dataset = dcmread(tmp_path / "x")
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.save_as(tmp_path / "x")
    assert [one.reason for one in look(tmp_path).excluded] == ["DICOM without pixels"]
    write_dicom(tmp_path / "x", PIXELS, Rows=None)
    assert [one.reason for one in look(tmp_path).excluded] == ["damaged DICOM header"]


@pytest.mark.parametrize(
    "tags",
    [
        {"SeriesDescription": "t2_tse_localized shim"},
        {"SeriesDescription": "whole body surveyor"},
        {"ImageType": ["DERIVED", "SECONDARY", "MPR"]},
        {"ImageType": "ORIGINAL"},
        {"BurnedInAnnotation": "NO"},
        {"SOPClassUID": f"{STORAGE}.481.1", "Modality": "RTIMAGE"},
        {"SOPClassUID": f"{STORAGE}.77.1.4"},
        {"SOPClassUID": None, "Modality": None},
    ],
)
def test_images_that_only_sound_alike_are_taken(tmp_path, tags):
    write_dicom(tmp_path / "x", PIXELS, **tags)
    result = look(tmp_path)
    assert len(result.images) == 1
    assert not result.excluded


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("localizer", {"SeriesDescription": "survey"}),
        ("secondary_capture", {"SOPClassUID": f"{STORAGE}.7"}),
        ("screenshot", {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}),
        ("burned_in", {"BurnedInAnnotation": "YES"}),
    ],
)
def test_what_rules_leave_out_may_be_taken_on_request(tmp_path, name, tags):
    path = write_dicom(tmp_path / "x", PIXELS, **tags)
    assert len(scan(path, salt=b"0", progress=False, keep=[name]).images) == 1
    others = {"localizer", "secondary_capture", "screenshot", "burned_in"} - {name}
    assert not scan(path, salt=b"0", progress=False, keep=others).images
    with pytest.raises(ConfigError, match="localizer"):
        scan(path, salt=b"0", progress=False, keep=["everything"])


def test_identifying_tags_are_counted_without_their_values(tmp_path):
    write_series(tmp_path / "a", blob((3, 8, 8)), PatientName="QUAXWORT^JANE", PatientBirthDate="19470311")
    (path,) = write_series(
        tmp_path / "b", blob((1, 8, 8)), SeriesInstanceUID="1.2.3.9", PatientName="", AccessionNumber="A77"
    )
    dataset = dcmread(path)
    dataset.private_block(0x0019, "SOMEONE", create=True).add_new(1, "LO", "QUAXWORT")
    dataset.save_as(path)
    result = look(tmp_path)
    assert result.dicom_files == 4
    assert result.with_private_tags == 1
    counts = {name: result.identifying.get(name, 0) for name in ("PatientName", "PatientBirthDate", "AccessionNumber")}
    assert counts == {"PatientName": 3, "PatientBirthDate": 3, "AccessionNumber": 1}
    assert result.identifying["PatientID"] == 4
    assert "QUAX" not in repr(result)


@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_nrrd_and_metaimage_are_found_as_simpleitk_reads_them(tmp_path, ending, compressed):
    array = blob((5, 7, 9))
    image = sitk.GetImageFromArray(array)  # z, y, x
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((10, -20, 30))
    image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / f"v{ending}"), compressed)
    result = look(tmp_path)
    assert not result.excluded  # nor the file that holds the voxels of .nhdr and .mhd
    (found,) = result.images
    assert (found.kind, found.shape, found.spacing) == ("itk", (9, 7, 5), (0.5, 0.75, 2.0))
    volume = read_image(found)
    assert np.array_equal(volume.array[0], array.transpose(2, 1, 0))
    lps = np.array(image.TransformContinuousIndexToPhysicalPoint((3.0, 2.0, 1.0)))
    assert np.allclose((volume.affine @ [3, 2, 1, 1])[:3], lps * [-1, -1, 1])


def test_nrrd_of_several_volumes_colours_and_two_dimensions(tmp_path):
    times = np.stack([blob((4, 5, 6), seed=seed) for seed in range(3)])
    sitk.WriteImage(sitk.GetImageFromArray(times, isVector=False), str(tmp_path / "a_times.nrrd"))
    vectors = np.moveaxis(times, 0, -1).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(vectors, isVector=True), str(tmp_path / "b_vectors.nrrd"))
    colours = blob((5, 6, 3), top=255).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / "c_colours.mha"))
    images = look(tmp_path).images
    assert [(image.shape, image.channels) for image in images] == [((6, 5, 4), 1)] * 6 + [((6, 5), 3)]
    assert len({image.id for image in images}) == 7
    for number, image in enumerate(images[:6]):
        assert np.array_equal(read_image(image).array[0], times[number % 3].transpose(2, 1, 0))
    assert np.array_equal(read_image(images[6]).array, colours.transpose(2, 1, 0))


def test_broken_nrrd_and_metaimage_files_are_listed(tmp_path, capfd):
    sitk.WriteImage(sitk.GetImageFromArray(blob((5, 7, 9))), str(tmp_path / "good.mha"))
    content = (tmp_path / "good.mha").read_bytes()
    (tmp_path / "good.mha").unlink()
    (tmp_path / "a_short.mha").write_bytes(content[:-100])
    (tmp_path / "b_huge.mha").write_bytes(content.replace(b"DimSize = 9 7 5", b"DimSize = 90000 70000 5"))
    (tmp_path / "c_apart.mhd").write_bytes(content.replace(b"LOCAL", b"gone.raw")[:400])
    (tmp_path / "d_broken.mha").write_bytes(content[:60])
    (tmp_path / "e_broken.nrrd").write_bytes(b"NRRD0004\ntype: nonsense\n\n")
    result = look(tmp_path)
    assert not result.images
    assert [one.reason for one in result.excluded] == [
        "truncated file", "header claims an absurd size", "header whose voxels are in a file that is missing",
        "damaged NRRD or MetaImage header", "damaged NRRD or MetaImage header",
    ]  # fmt: skip
    assert capfd.readouterr() == ("", "")
