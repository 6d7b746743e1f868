# SPDX-License-Identifier: Apache-2.0
"""NIfTI by its content: names that lie, headers apart from their voxels, units, and what a header does not say."""

from __future__ import annotations

import gzip
import os
import struct

import numpy as np
import pytest
from monai.transforms import LoadImage
from nifti_bytes import METRE, MICROMETRE, MILLIMETRE, header, single
from tiny_scans import blob, write_dicom

from monai_mixssl.data.damage import is_damage
from monai_mixssl.data.read import read_image
from monai_mixssl.data.reader import ScanReader
from monai_mixssl.data.scan import scan
from monai_mixssl.errors import DataError

VOLUME = blob((7, 6, 5)) + np.arange(5, dtype=np.int16)
ROWS = [[2.0, 0.0, 0.0, -10.0], [0.0, 3.0, 0.0, 20.0], [0.0, 0.0, 4.0, 5.0]]
AFFINE = np.array([*ROWS, [0.0, 0.0, 0.0, 1.0]])
MISSING = "header whose voxels are in a file that is missing"
SHORT = "header whose voxels are in a file that is too short"
MISNAMED = "damaged: content is not what the name says"
LOAD = LoadImage(reader=ScanReader, dtype=None)


def look(folder, **arguments):
    return scan(folder, salt=b"0" * 32, progress=False, **arguments)


def reasons(result):
    return sorted(one.reason for one in result.excluded)


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def pair(folder, name="scan", *, endings=("hdr", "img"), voxels=None, packed=(False, False), **choices):
    """Writes header and voxels apart; returns the header's path."""
    order = choices.get("order", "<")
    voxels = VOLUME.astype(f"{order}i2").tobytes(order="F") if voxels is None else voxels
    first = header(VOLUME, text=b"ni", rows=ROWS, **choices) + bytes(4)
    for ending, content, pack in zip(endings, (first, voxels), packed, strict=True):
        if content:
            put(folder / f"{name}.{ending}", gzip.compress(content) if pack else content)
    return folder / f"{name}.{endings[0]}"


def assert_is_the_volume(path, notes=""):
    """By the scan, and by `ScanReader`."""
    (image,) = look(path).images
    assert (image.kind, image.shape, image.spacing) == ("nifti", (7, 6, 5), (2.0, 3.0, 4.0))
    assert np.array_equal(read_image(image).array[0], VOLUME)
    loaded = LOAD(path)
    assert np.array_equal(loaded.numpy(), VOLUME)
    assert np.allclose(loaded.affine.numpy(), AFFINE)
    assert loaded.meta["notes"] == notes


@pytest.mark.parametrize("name", ["scan", "scan.dcm", "scan.img", "scan.png", "scan.nii", "scan.nii.gz", "SCAN.NII.GZ"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_name_decides_neither_what_a_file_is_nor_whether_it_is_packed(tmp_path, name, packed):
    content = single(VOLUME, rows=ROWS)
    path = put(tmp_path / name, gzip.compress(content) if packed else content)
    assert ScanReader().verify_suffix(path)
    assert_is_the_volume(path)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
def test_both_versions_and_both_byte_orders_are_read(tmp_path, version, order, packed):
    content = single(VOLUME, rows=ROWS, version=version, order=order)
    assert_is_the_volume(put(tmp_path / "one" / "scan", gzip.compress(content) if packed else content))
    assert_is_the_volume(pair(tmp_path / "two", version=version, order=order, packed=(packed, packed)))


@pytest.mark.parametrize(
    ("endings", "packed"),
    [
        (("hdr", "img"), (False, False)),
        (("hdr", "img.gz"), (False, True)),
        (("hdr.gz", "img.gz"), (True, True)),
        (("HDR", "IMG"), (False, False)),
        (("hdr", "img"), (True, True)),  # names that lie
    ],
)
def test_a_header_finds_its_voxels_in_the_file_beside_it(tmp_path, endings, packed):
    path = pair(tmp_path, endings=endings, packed=packed)
    assert_is_the_volume(path)
    assert reasons(look(tmp_path)) == []  # the voxels' file is in use
    assert np.array_equal(LOAD(tmp_path).numpy(), VOLUME)
    assert np.array_equal(LOAD([str(tmp_path / f"scan.{ending}") for ending in endings]).numpy(), VOLUME)


@pytest.mark.parametrize("typed", [".", "./sub/..", "sub//../"])
def test_the_file_of_the_voxels_is_known_however_the_folder_is_typed(tmp_path, monkeypatch, typed):
    pair(tmp_path / "sub" / "deep")
    pair(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = look(typed)
    assert len(result.images) == 2
    assert reasons(result) == []


def test_each_header_has_the_voxels_of_its_own_name(tmp_path):
    pair(tmp_path, "a")
    pair(tmp_path, "b", voxels=(VOLUME + 1000).astype("<i2").tobytes(order="F"))
    first, second = (read_image(image).array[0] for image in look(tmp_path).images)
    assert np.array_equal(second, first + 1000)


@pytest.mark.parametrize(("voxels", "reason"), [(b"", MISSING), (VOLUME.astype("<i2").tobytes()[:-2], SHORT)])
def test_a_header_without_voxels_or_with_too_few_is_damage(voxels, reason, tmp_path):
    path = pair(tmp_path / "Doe", voxels=voxels)
    assert reasons(look(path)) == [reason]
    assert is_damage(reason)
    with pytest.raises(DataError, match=reason) as error:
        LOAD(path)
    assert "Doe" not in str(error.value)


def test_voxels_that_come_later_are_seen_by_a_scan_with_an_index(tmp_path):
    path = pair(tmp_path / "data", voxels=b"")
    (tmp_path / "index").mkdir()
    assert reasons(look(tmp_path / "data", index=tmp_path / "index")) == [MISSING]
    assert pair(tmp_path / "data") == path
    assert len(look(tmp_path / "data", index=tmp_path / "index").images) == 1
    again = look(tmp_path / "data", index=tmp_path / "index")
    assert (again.opened, len(again.images), again.excluded) == (0, 1, [])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_voxels_that_may_not_be_read_are_said_to_be(tmp_path):
    path = pair(tmp_path)
    (tmp_path / "scan.img").chmod(0)
    assert reasons(look(path)) == ["no permission to read it"]
    with pytest.raises(DataError, match="no permission to read it"):
        LOAD(path)


@pytest.mark.parametrize("version", [1, 2])
def test_a_whole_file_that_calls_itself_a_header_is_read(tmp_path, version):
    content = single(VOLUME, rows=ROWS, version=version, text=b"ni", start=352 if version == 1 else 544)
    assert_is_the_volume(put(tmp_path / "scan.nii", content))


@pytest.mark.parametrize("text", [b"n+", b"ni"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("start", [0, 16, 336, -16])
def test_the_header_is_not_taken_for_voxels(tmp_path, text, version, start):
    path = put(tmp_path / "scan.nii", single(VOLUME, rows=ROWS, text=text, version=version, start=start))
    assert reasons(look(path)) == ["damaged NIfTI header"]


def test_voxels_that_begin_behind_the_end_are_truncated(tmp_path):
    assert reasons(look(put(tmp_path / "scan.nii", single(VOLUME, rows=ROWS, start=10000)))) == ["truncated file"]


@pytest.mark.parametrize(
    ("units", "factor", "note"),
    [
        (MILLIMETRE, 1.0, ""),
        (0, 1.0, ""),
        (METRE, 1000.0, "units of metres, converted"),
        (MICROMETRE, 0.001, "units of micrometres, converted"),
        (METRE | 8, 1000.0, "units of metres, converted"),  # and seconds
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_lengths_come_out_in_millimetres_whatever_the_header_counts_in(tmp_path, units, factor, note, version):
    stored = [[value / factor for value in row] for row in ROWS]
    steps = [value / factor for value in (2.0, 3.0, 4.0)]
    path = put(tmp_path / "scan.nii", single(VOLUME, rows=stored, steps=steps, units=units, version=version))
    (image,) = look(path).images
    assert image.spacing == pytest.approx((2.0, 3.0, 4.0))
    assert image.notes == ((note,) if note else ())
    loaded = LOAD(path)
    assert np.allclose(loaded.affine.numpy(), AFFINE)
    assert loaded.meta["spacing"] == pytest.approx((2.0, 3.0, 4.0))
    assert loaded.meta["notes"] == note


NO_PLACE = "no position in the header, place and orientation made up"


@pytest.mark.parametrize(
    ("steps", "spacing", "notes"),
    [
        ((2.0, 3.0, 4.0), (2.0, 3.0, 4.0), (NO_PLACE,)),
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), ("no voxel spacing, taken as 1 mm", NO_PLACE)),
        ((2.0, 3.0, 0.0), (2.0, 3.0, 1.0), ("no voxel spacing along an axis, taken as 1", NO_PLACE)),
    ],
)
def test_what_the_header_does_not_say_is_made_up_with_a_note(tmp_path, steps, spacing, notes):
    path = put(tmp_path / "scan.nii", single(VOLUME, steps=steps))
    (image,) = look(path).images
    assert (image.spacing, image.notes) == (spacing, notes)
    assert LOAD(path).meta["notes"] == "; ".join(notes)


def test_a_made_up_millimetre_is_not_converted(tmp_path):
    (image,) = look(put(tmp_path / "scan.nii", single(VOLUME, steps=(0, 0, 0), units=METRE))).images
    assert image.spacing == (1.0, 1.0, 1.0)
    assert "units of metres, converted" not in image.notes


def test_notes_survive_the_index(tmp_path):
    put(tmp_path / "data" / "scan.nii", single(VOLUME, steps=(0, 0, 0)))
    (tmp_path / "index").mkdir()
    notes = [look(tmp_path / "data", index=tmp_path / "index").images[0].notes]
    put(tmp_path / "data" / "other.nii", single(VOLUME))  # the second look takes the header, not the result, from there
    seen = look(tmp_path / "data", index=tmp_path / "index")
    assert seen.opened == 1
    assert notes[0] in [image.notes for image in seen.images]


@pytest.mark.parametrize("keep", [4, 12, 60])
def test_a_packed_file_that_ends_within_its_header_is_damaged(tmp_path, keep):
    path = put(tmp_path / "scan.nii.gz", gzip.compress(single(VOLUME, rows=ROWS))[:keep])
    assert reasons(look(path)) == ["damaged NIfTI header"]
    with pytest.raises(DataError, match="damaged NIfTI header"):
        LOAD(path)


def test_a_packed_file_that_ends_within_its_voxels_is_refused(tmp_path):
    noise = np.random.RandomState(0).randint(-30000, 30000, (20, 20, 20)).astype(np.int16)
    content = gzip.compress(single(noise, rows=ROWS))
    path = put(tmp_path / "Doe.nii.gz", content[: len(content) // 2])
    with pytest.raises(DataError, match=r"truncated|cannot be read") as error:
        LOAD(path)
    assert "Doe" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["a.dcm", "a.DCM", "a.ima", "a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd", "a.png", "a.jpg", "a.jpeg"]
)
def test_a_foreign_content_under_the_name_of_an_image_is_damage(tmp_path, name):
    result = look(put(tmp_path / name, np.random.RandomState(0).bytes(3000)))
    assert reasons(result) == [MISNAMED]
    assert is_damage(MISNAMED)


@pytest.mark.parametrize("name", ["a", "a.txt", "a.img", "a.hdr", "a.zip", "a.gz"])
def test_a_foreign_content_under_a_name_that_promises_nothing_is_no_damage(tmp_path, name):
    (reason,) = reasons(look(put(tmp_path / name, np.random.RandomState(0).bytes(3000))))
    assert reason == "not a DICOM, NIfTI, NRRD, MetaImage, PNG or JPEG file"
    assert not is_damage(reason)


@pytest.mark.parametrize("name", ["._scan.dcm", "._scan.nii.gz"])
def test_what_macos_leaves_beside_a_file_is_no_damage(tmp_path, name):
    (reason,) = reasons(look(put(tmp_path / name, struct.pack(">2I", 0x00051607, 0x00020000) + bytes(4000))))
    assert reason == "what macOS knows about another file"
    assert not is_damage(reason)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", [348, 540])
def test_a_header_without_its_text_is_damaged(tmp_path, order, size):
    content = bytearray(single(VOLUME, order=order, version=1 if size == 348 else 2))
    content[4:8] = content[344:348] = bytes(4)
    assert reasons(look(put(tmp_path / "scan.nii", bytes(content)))) == ["damaged NIfTI header"]


@pytest.mark.parametrize("value", [0, 7])
def test_an_image_of_one_value_is_noted(tmp_path, value):
    constant = np.full((7, 6, 5), value, np.int16)
    assert LOAD(put(tmp_path / "scan.nii", single(constant, rows=ROWS))).meta["notes"] == "constant image"
    assert LOAD(write_dicom(tmp_path / "slice", constant[0])).meta["notes"].endswith("; constant image")
    constant[0, 0, 0] += 1
    assert LOAD(put(tmp_path / "scan.nii", single(constant, rows=ROWS))).meta["notes"] == ""


def test_an_empty_folder_and_an_empty_list_are_refused_in_a_sentence(tmp_path):
    (tmp_path / "Doe").mkdir()
    with pytest.raises(DataError, match="the folder is empty") as error:
        LOAD(tmp_path / "Doe")
    assert "Doe" not in str(error.value)
    reader = ScanReader()
    with pytest.raises(DataError, match="the list of files is empty"):
        reader.get_data(reader.read([]))
