# SPDX-License-Identifier: Apache-2.0
"""DICOM that careless software has rewritten: shared UIDs, missing UIDs, headers that contradict each other."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from tiny_scans import blob, write_dicom

from monai_mixssl.data import dicom_copies
from monai_mixssl.data.read import read_image
from monai_mixssl.data.records import LeftOut
from monai_mixssl.data.scan import scan

PLACES = 8
VOLUME = blob((12, 10, PLACES))


def look(folder):
    return scan(folder, salt=b"0" * 32, progress=False)


def write(folder, tags_of, places=range(PLACES)):
    """Axial slices, 2 mm apart, of one series; ``tags_of`` a place is what is wrong with it."""
    for place in places:
        tags = {
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1], "InstanceNumber": place + 1,
            "ImagePositionPatient": [0, 0, 2.0 * place], "SOPInstanceUID": f"1.2.9.{place + 1}",
        }  # fmt: skip
        write_dicom(folder / f"{place:03d}", VOLUME[..., place], **{**tags, **tags_of(place)})
    return folder


def test_slices_that_share_one_sop_instance_uid_are_all_kept(tmp_path):
    found = look(write(tmp_path, lambda place: {"SOPInstanceUID": "1.2.3"}))
    (image,) = found.images
    assert image.shape[2] == PLACES
    assert any("SOP instance UID" in note for note in image.notes)
    assert found.excluded == []


def test_pictures_that_share_one_sop_instance_uid_have_ids_of_their_own(tmp_path):
    write(tmp_path, lambda place: {"SOPInstanceUID": "1.2.3", "ImagePositionPatient": None})
    ids = {image.id for image in look(tmp_path).images}
    assert len(ids) == PLACES


def test_a_true_copy_is_still_left_out(tmp_path):
    write(tmp_path, lambda place: {})
    (tmp_path / "copy").write_bytes((tmp_path / "003").read_bytes())
    found = look(tmp_path)
    assert [one.reason for one in found.excluded] == ["duplicate of another DICOM file"]
    assert found.images[0].notes == look(write(tmp_path / "alone", lambda place: {})).images[0].notes


def truncate(path, copy):
    """Writes what there is of a file when a download of it breaks off within the pixels."""
    copy.write_bytes(path.read_bytes()[:-100])


def used(folder):
    """What can be used of a folder, as a run does it; what the scan leaves out; what cannot be decoded."""
    found = look(folder)
    whole, refused = [], []
    for image in found.images:
        try:
            whole.append((read_image(image, "accept").array, image.notes))
        except LeftOut as left_out:
            refused.append(left_out.reason)
    return whole, {path.rsplit("/", 1)[1] for _, path in found.excluded_files}, refused


def assert_one_whole_volume(images, notes):
    ((array, its_notes),) = images
    np.testing.assert_array_equal(array[0], VOLUME.transpose(1, 0, 2))
    assert its_notes == notes


@pytest.mark.parametrize("name", ["-partial", "z_partial"])
def test_a_truncated_copy_is_left_out_and_not_its_original(tmp_path, name):
    """Else the whole series cannot be decoded, depending on what the copy is called."""
    write(tmp_path, lambda place: {})
    (notes,) = (image.notes for image in look(tmp_path).images)
    truncate(tmp_path / "000", tmp_path / name)
    whole, copies, refused = used(tmp_path)
    assert_one_whole_volume(whole, notes)
    assert (copies, refused) == ({name}, [])


@pytest.mark.parametrize("name", ["-partial", "z_partial"])
@pytest.mark.parametrize("holder", ["a", "b"])
def test_a_truncated_copy_within_an_anonymised_series_spoils_neither_series(tmp_path, holder, name):
    originals = {"a": "b", "b": "a"}[holder]
    write(tmp_path / originals, lambda place: {})
    (notes,) = (image.notes for image in look(tmp_path).images)
    write(tmp_path / holder, lambda place: {"PatientID": "ANON", "SeriesInstanceUID": "1.2.99"})
    truncate(tmp_path / holder / "000", tmp_path / holder / name)
    whole, copies, refused = used(tmp_path)
    assert_one_whole_volume(whole, notes)
    assert (copies, refused) == ({name, *(f"{place:03d}" for place in range(PLACES))}, [])


def test_of_truncated_copies_alone_the_first_is_refused_for_its_own_reason(tmp_path):
    write(tmp_path, lambda place: {}, range(1))
    truncate(tmp_path / "000", tmp_path / "001")
    truncate(tmp_path / "000", tmp_path / "000")
    assert used(tmp_path) == ([], {"001"}, ["pixels cannot be decoded"])


def test_of_copies_with_other_pixels_within_a_series_the_first_is_kept(tmp_path):
    write(
        tmp_path, lambda place: {"SOPInstanceUID": "1.2.3", "ImagePositionPatient": None, "InstanceNumber": 1}, [2, 3]
    )
    ((array, _),), copies, refused = used(tmp_path)
    np.testing.assert_array_equal(array[0], VOLUME[..., 2].T)
    assert (copies, refused) == ({"003"}, [])


def test_images_of_one_sop_instance_uid_that_say_nothing_of_their_place_are_all_kept(tmp_path):
    """But once each: a copy of one of them is a copy."""
    unknown = {"SOPInstanceUID": "1.2.3", "ImagePositionPatient": None, "InstanceNumber": None}
    write(tmp_path, lambda place: unknown, range(1, PLACES))  # the first slice and the last hold the same
    (tmp_path / "copy").write_bytes((tmp_path / "003").read_bytes())
    found = look(tmp_path)
    ids = {read_image(image, "accept").array.tobytes(): image.id for image in found.images}
    assert len(ids) == len(set(ids.values())) == PLACES - 1
    assert [one.reason for one in found.excluded] == ["duplicate of another DICOM file"]
    (tmp_path / "001").rename(tmp_path / "z")
    again = look(tmp_path).images
    assert {read_image(image, "accept").array.tobytes(): image.id for image in again} == ids


def test_files_that_have_no_copy_are_not_decoded_to_look_for_one(tmp_path, monkeypatch):
    write(tmp_path, lambda place: {})
    (tmp_path / "z").write_bytes((tmp_path / "003").read_bytes())
    decoded = []
    decode = dicom_copies.decode_dicom
    monkeypatch.setattr(dicom_copies, "decode_dicom", lambda path: decoded.append(path) or decode(path))
    look(tmp_path)
    assert [path.rsplit("/", 1)[1] for path in decoded] == ["003"]


@pytest.mark.parametrize("renamed", [{"PatientID": "ANON"}, {"PatientID": "ANON", "SeriesInstanceUID": "1.2.99"}])
def test_an_anonymised_copy_is_left_out_beside_its_original(tmp_path, renamed):
    """Else the one would be trained on and the other validated with, as of two patients."""
    write(tmp_path / "a", lambda place: {})
    write(tmp_path / "b", lambda place: renamed)
    found = look(tmp_path)
    assert [image.shape[2] for image in found.images] == [PLACES]
    assert found.images[0].notes == look(tmp_path / "a").images[0].notes
    assert [one.reason for one in found.excluded] == ["duplicate of another DICOM file"] * PLACES


def test_an_anonymised_copy_among_its_originals_leaves_one_whole_volume(tmp_path):
    """By file names alone, some slices of each would be kept: two torn volumes of two patients."""
    write(tmp_path / "a", lambda place: {})
    write(tmp_path / "b", lambda place: {"PatientID": "ANON", "SeriesInstanceUID": "1.2.99"})
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for number in range(PLACES):
        first, second = ("a", "b") if number % 3 else ("b", "a")
        for order, folder in ((0, first), (1, second)):
            (mixed / f"{number}_{order}").write_bytes(sorted((tmp_path / folder).iterdir())[number].read_bytes())
    found = look(mixed)
    assert [image.shape[2] for image in found.images] == [PLACES]
    assert "missing slices" not in found.images[0].notes
    assert len(found.excluded) == PLACES


def test_many_pictures_of_one_sop_instance_uid_are_each_decoded_once(tmp_path, monkeypatch):
    for number in range(12):
        tags = {"PatientID": f"P{number}", "SOPInstanceUID": "1.2.3", "ImagePositionPatient": None, "InstanceNumber": 1}
        write_dicom(tmp_path / f"{number:02d}", VOLUME[..., 2] + number % 6, **tags)
    decoded = []
    decode = dicom_copies.decode_dicom
    monkeypatch.setattr(dicom_copies, "decode_dicom", lambda path: decoded.append(path) or decode(path))
    assert len(look(tmp_path).images) == 6
    assert len(decoded) == len(set(decoded)) == 12


def test_pictures_of_two_patients_that_share_one_sop_instance_uid_are_both_kept(tmp_path):
    for patient, place in (("A", 2), ("B", 3)):
        tags = {"PatientID": patient, "SOPInstanceUID": "1.2.3", "ImagePositionPatient": None, "InstanceNumber": 1}
        write_dicom(tmp_path / patient, VOLUME[..., place], **tags)
    images = look(tmp_path).images
    assert len({image.id for image in images}) == len({image.patient for image in images}) == 2


def test_slices_with_other_pixel_sizes_are_a_volume_of_their_own(tmp_path):
    images = look(write(tmp_path, lambda place: {"PixelSpacing": [2, 2] if place < 3 else [1, 1]})).images
    assert sorted((image.shape[2], image.spacing[0]) for image in images) == [(3, 2.0), (5, 1.0)]


def test_pixel_sizes_that_are_rounded_do_not_tear_a_volume_apart(tmp_path):
    images = look(write(tmp_path, lambda place: {"PixelSpacing": [0.390625 if place % 2 else 0.391] * 2})).images
    assert [image.shape[2] for image in images] == [PLACES]


def test_two_patients_in_one_series_are_two_volumes_of_two_patients(tmp_path):
    images = look(write(tmp_path, lambda place: {"PatientID": "A" if place < 4 else "B"})).images
    assert [image.shape[2] for image in images] == [4, 4]
    assert len({image.patient for image in images}) == 2


def test_slices_that_jump_within_their_plane_are_noted_refused_and_put_straight(tmp_path):
    write(tmp_path, lambda place: {"ImagePositionPatient": [3.0 * (place % 2), 0, 2.0 * place]}, range(PLACES - 1))
    (image,) = look(tmp_path).images
    assert image.notes == ("slices shifted within their plane",)
    assert read_image(image, "accept").array.shape == (1, 10, 12, PLACES - 1)
    with pytest.raises(LeftOut, match="slices shifted within their plane"):
        read_image(image, "refuse")
    straight = read_image(image, "resample").array[0]
    # every second slice lies three columns further along
    np.testing.assert_array_equal(straight[:10, :, 2], VOLUME[..., 2].T)
    np.testing.assert_array_equal(straight[3:13, :, 3], VOLUME[..., 3].T)


def test_without_a_series_uid_a_folder_is_a_series(tmp_path):
    write(tmp_path / "one", lambda place: {"SeriesInstanceUID": None})
    write(tmp_path / "two", lambda place: {"SeriesInstanceUID": None, "SOPInstanceUID": f"1.2.8.{place}"})
    images = look(tmp_path).images
    assert [image.shape[2] for image in images] == [PLACES, PLACES]
    assert all(image.notes == ("no series UID, grouped by folder",) for image in images)
    assert all(image.affine is not None for image in images)


@pytest.mark.parametrize(("name", "taken"), [("RescaleSlope", 1), ("RescaleIntercept", 0)])
def test_a_rescale_that_is_no_number_is_noted(tmp_path, name, taken):
    write(tmp_path, lambda place: {"RescaleSlope": 1, "RescaleIntercept": 0})
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset[name].value = "7.7777"
        dataset.save_as(path)
        path.write_bytes(path.read_bytes().replace(b"7.7777", b"nan   "))
    (image,) = look(tmp_path).images
    assert f"rescale {name.removeprefix('Rescale').lower()} that is no number, taken as {taken}" in image.notes


@pytest.mark.parametrize("orientation", [[0.0] * 6, [1, 0, 0, 1, 0, 0], [3, 0, 0, 0, 3, 0]])
def test_an_orientation_that_is_none_is_not_used_and_noted(tmp_path, orientation):
    images = look(write(tmp_path, lambda place: {"ImageOrientationPatient": orientation})).images
    assert len(images) == PLACES
    assert all(image.affine is None for image in images)
    assert all("orientation that makes no sense, not used" in image.notes for image in images)
