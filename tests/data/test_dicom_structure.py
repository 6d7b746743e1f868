# SPDX-License-Identifier: Apache-2.0
"""What a DICOM file says of its own lengths and numbers is looked at before any library takes memory for it."""

from __future__ import annotations

import struct

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from fuzz_originals import write_originals
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless
from tiny_scans import blob, write_dicom, write_series

from monai_mixssl.data.bounded_file import BoundedFile
from monai_mixssl.data.dicom_structure import Structure, examine_structure
from monai_mixssl.data.read import read_image
from monai_mixssl.data.records import LeftOut
from monai_mixssl.data.scan import scan

PLANE = blob((12, 10))
WHOLE = Structure(True, 0)


def look(path):
    return scan(path, salt=b"", progress=False)


def reason(path):
    (excluded,) = look(path).excluded
    return excluded.reason


def compressed(path, frames=None, **tags):
    dataset = pydicom.dcmread(write_dicom(path, PLANE if frames is None else frames))
    dataset.compress(RLELossless)
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def sequence(depth, delimited):
    """A private sequence within a sequence within …, explicit little endian."""
    head = struct.pack("<HH2sHI", 0x0029, 0x1010, b"SQ", 0, 0xFFFFFFFF)
    start, end = (
        struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF),
        struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0),
    )
    if delimited:
        return (head + start) * depth + end * depth
    value = b""
    for _ in range(depth):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value
        value = struct.pack("<HH2sHI", 0x0029, 0x1010, b"SQ", 0, len(item)) + item
    return value


def with_elements(path, added):
    """Puts elements in front of the pixels."""
    data = write_dicom(path, PLANE).read_bytes()
    place = data.index(b"\xe0\x7f\x10\x00")
    path.write_bytes(data[:place] + added + data[place:])
    return path


def test_nobody_can_ask_a_file_for_more_than_it_holds(tmp_path):
    (tmp_path / "x").write_bytes(b"0123456789")
    with BoundedFile(tmp_path / "x") as file:
        assert file.read(3) == b"012"
        assert file.read(2**62) == b"3456789"  # Python alone would ask for 4 EiB of memory, and get none
        file.seek(8)
        assert file.read() == file.read(None) + b"89"


def test_whole_files_of_every_kind_are_well_formed(tmp_path):
    dicom = [original for original in write_originals(tmp_path) if original.elements]
    assert len(dicom) > 15
    assert all(examine_structure(original.path).well_formed for original in dicom)


def test_fragments_are_counted_without_the_table_before_them(tmp_path):
    assert examine_structure(write_dicom(tmp_path / "plain", PLANE)) == WHOLE
    assert examine_structure(compressed(tmp_path / "one")) == Structure(True, 1)
    assert examine_structure(compressed(tmp_path / "six", blob((6, 12, 10)))) == Structure(True, 6)


def test_a_file_that_ends_within_an_element_is_not_well_formed(tmp_path):
    original = write_originals(tmp_path)[1]
    for end in range(original.meta, len(original.data)):
        original.path.write_bytes(original.data[:end])
        # up to seven bytes more are no element, and do no harm
        between = any(0 <= end - one.start < 8 for one in original.elements)
        assert examine_structure(original.path).well_formed == between


@pytest.mark.parametrize("delimited", [True, False])
def test_sequences_within_sequences_are_gone_through_but_not_without_end(tmp_path, delimited):
    assert examine_structure(with_elements(tmp_path / "a", sequence(20, delimited))) == WHOLE
    deep = with_elements(tmp_path / "b" / "x", sequence(3000 if delimited else 30_000, delimited))
    assert not examine_structure(deep).well_formed
    found = look(tmp_path / "b")
    for image in found.images:  # pydicom does not enter what states its length
        assert np.array_equal(read_image(image).array[0].T, PLANE)
    assert [one.reason for one in found.excluded] == (["damaged DICOM header"] if delimited else [])


def test_an_item_that_exceeds_its_sequence_is_not_well_formed(tmp_path):
    added = sequence(1, False)
    longer = added[:-4] + struct.pack("<I", 8)
    assert not examine_structure(with_elements(tmp_path / "x", longer + sequence(1, False))).well_formed


def test_bytes_behind_the_pixels_never_reach_gdcm(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "x", PLANE)
    path.write_bytes(path.read_bytes() + bytes.fromhex("91f314dbd5cd81b0ffffffff") * 10)
    monkeypatch.setattr(sitk, "ImageFileReader", None)
    (image,) = look(path).images
    assert np.array_equal(read_image(image).array[0].T, PLANE)


def test_a_series_with_a_slice_that_is_not_well_formed_is_read_slice_by_slice(tmp_path, monkeypatch):
    volume = blob((3, 12, 10))
    path = write_series(tmp_path, volume)[1]
    path.write_bytes(path.read_bytes() + bytes.fromhex("91f314dbd5cd81b0ffffffff") * 10)
    monkeypatch.setattr(sitk, "ImageSeriesReader", None)
    (image,) = look(tmp_path).images
    assert np.array_equal(read_image(image).array[0].T, volume)


def test_a_file_that_has_gone_since_the_scan_is_left_out(tmp_path):
    path = write_dicom(tmp_path / "x", PLANE)
    (image,) = look(path).images
    path.unlink()
    with pytest.raises(LeftOut):
        read_image(image)


def test_a_negative_number_of_frames_does_not_make_a_file_vanish(tmp_path):
    assert reason(write_dicom(tmp_path / "x", PLANE, NumberOfFrames="-1")) == "damaged DICOM header"


@pytest.mark.parametrize("frames", [7, 100_000])
def test_more_frames_than_fragments_are_refused_before_they_are_listed(tmp_path, frames):
    path = compressed(tmp_path / "x", blob((6, 12, 10)), NumberOfFrames=frames)
    assert reason(path) == "fewer frames than the header says"


def test_a_small_compressed_file_cannot_claim_a_large_image(tmp_path):
    assert reason(compressed(tmp_path / "x", Rows=30_000, Columns=30_000)) == "header claims an absurd size"


def test_a_deflated_file_cannot_claim_more_than_is_in_it(tmp_path):
    path = write_dicom(tmp_path / "x", PLANE)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.Rows = 100
    dataset.save_as(path)
    assert reason(path) == "truncated file"
    dataset.Rows = 12
    dataset.save_as(path)
    (image,) = look(path).images
    assert np.array_equal(read_image(image).array[0].T, PLANE)
