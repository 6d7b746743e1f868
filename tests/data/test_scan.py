# SPDX-License-Identifier: Apache-2.0
"""What the scan finds, groups, sorts and leaves out."""

from __future__ import annotations

import errno
import gzip
import json
import os

import nibabel as nib
import numpy as np
import pytest
from tiny_scans import blob, write_dicom, write_enhanced, write_nifti, write_png, write_series

from monai_mixssl.data.bounded_file import BoundedFile
from monai_mixssl.data.damage import is_damage
from monai_mixssl.data.find import data_roots, split_roots
from monai_mixssl.data.read import read_image
from monai_mixssl.data.records import ScanImage
from monai_mixssl.data.scan import scan
from monai_mixssl.errors import DataError

SALT = b"0" * 32


def look(dataset_dir, **arguments):
    return scan(dataset_dir, salt=SALT, progress=False, **arguments)


def reasons(result):
    return sorted(one.reason for one in result.excluded)


def test_a_disk_that_fails_under_one_file_costs_that_file_alone_and_is_asked_again(tmp_path, monkeypatch):
    for number in range(3):
        write_png(tmp_path / f"{number}.png", blob((20, 24), seed=number, top=250))
    real, failed = BoundedFile.read, []

    def read(self, *arguments):
        if self.name == str(tmp_path / "1.png"):
            failed.append(self.name)
            raise OSError(errno.EIO, "Input/output error")
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(BoundedFile, "read", read, raising=False)
        assert reasons(look(tmp_path)) == ["the file system cannot open it"]
    assert failed
    assert reasons(look(tmp_path)) == []


def test_slices_are_sorted_by_position_not_by_name(tmp_path):
    volume = blob((6, 10, 8))
    write_series(tmp_path, volume, order=[3, 0, 5, 1, 4, 2])
    (image,) = look(tmp_path).images
    assert image.shape == (8, 10, 6)
    assert np.array_equal(read_image(image).array[0], volume.transpose(2, 1, 0))


def test_two_series_in_one_folder_stay_apart(tmp_path):
    first, second = blob((4, 9, 9), seed=1), blob((4, 9, 9), seed=2)
    for number in range(4):  # interleaved by name and by instance number
        for letter, volume in (("a", first), ("b", second)):
            write_dicom(
                tmp_path / f"{number}{letter}", volume[number], SeriesInstanceUID=f"1.2.{ord(letter)}",
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0], ImagePositionPatient=[0, 0, number], PixelSpacing=[1, 1],
                InstanceNumber=number,
            )  # fmt: skip
    found = [read_image(image).array[0] for image in look(tmp_path).images]
    assert len(found) == 2
    assert np.array_equal(found[0], first.transpose(2, 1, 0))
    assert np.array_equal(found[1], second.transpose(2, 1, 0))


def test_one_series_of_two_orientations_gives_two_volumes(tmp_path):
    write_series(tmp_path / "a", blob((3, 9, 9)))
    write_series(tmp_path / "b", blob((4, 9, 9)), orientation=(0, 1, 0, 0, 0, -1))
    assert sorted(image.shape[2] for image in look(tmp_path).images) == [3, 4]


def test_direction_cosines_that_differ_by_rounding_do_not_split_a_series(tmp_path):
    angle = np.arcsin(0.005)
    for number, jitter in enumerate((-1e-7, 1e-7, -1e-7)):
        across = np.sin(angle) + jitter
        write_dicom(
            tmp_path / str(number), blob((9, 9)), ImageOrientationPatient=[1, 0, 0, 0, np.cos(angle), across],
            ImagePositionPatient=[0, 0, number], PixelSpacing=[1, 1],
        )  # fmt: skip
    assert [image.shape for image in look(tmp_path).images] == [(9, 9, 3)]


def test_repeated_positions_become_volumes_in_order_of_acquisition(tmp_path):
    times = [blob((3, 8, 8), seed=seed) for seed in range(2)]
    for time, volume in enumerate(times):
        for index in range(3):
            write_dicom(
                tmp_path / f"{index}-{time}", volume[index], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                ImagePositionPatient=[0, 0, 2.0 * index], PixelSpacing=[1, 1], InstanceNumber=3 * time + index,
            )  # fmt: skip
    images = look(tmp_path).images
    assert [image.shape for image in images] == [(8, 8, 3)] * 2
    assert len({image.id for image in images}) == 2
    assert len({image.group for image in images}) == 1
    for image, volume in zip(images, times, strict=True):
        assert np.array_equal(read_image(image).array[0], volume.transpose(2, 1, 0))


def test_frames_of_a_file_get_their_own_rescale_and_volume(tmp_path):
    frames = np.stack([blob((8, 8), seed=seed) for seed in range(4)])
    # two positions × two kinds of image, stored backwards
    rescales = [(2.0, 1.0), (2.0, 1.0), (0.5, -7.0), (0.5, -7.0)]
    path = write_enhanced(tmp_path / "e", frames, [2.0, 0.0, 2.0, 0.0], rescales)
    first, second = look(path).images
    assert first.spacing == (1.0, 1.0, 2.0)
    expected = np.stack([frames[1] * 2.0 + 1, frames[0] * 2.0 + 1]).transpose(2, 1, 0)
    assert np.allclose(read_image(first).array[0], expected, atol=1e-3)
    expected = np.stack([frames[3] * 0.5 - 7, frames[2] * 0.5 - 7]).transpose(2, 1, 0)
    assert np.allclose(read_image(second).array[0], expected, atol=1e-3)


def test_each_slice_has_its_own_rescale(tmp_path):
    volume = blob((2, 8, 8))
    for index, (slope, intercept) in enumerate([(1, 0), (0.25, 3)]):
        write_dicom(
            tmp_path / str(index), volume[index], ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1],
            ImagePositionPatient=[0, 0, index], RescaleSlope=slope, RescaleIntercept=intercept,
        )  # fmt: skip
    (image,) = look(tmp_path).images
    assert np.allclose(read_image(image).array[0, :, :, 0], volume[0].T)
    assert np.allclose(read_image(image).array[0, :, :, 1], volume[1].T * 0.25 + 3)


def test_monochrome1_is_inverted(tmp_path):
    pixels = blob((8, 8))
    path = write_dicom(tmp_path / "x", pixels, PhotometricInterpretation="MONOCHROME1", PixelRepresentation=0)
    (image,) = look(path).images
    assert np.array_equal(read_image(image).array[0], 65535 - pixels.T.astype(int))


def test_the_affine_of_a_series_maps_voxels_to_ras_millimetres(tmp_path):
    orientation = (0, 1, 0, 0, 0, -1)  # sagittal: rows run to the back, columns to the feet
    write_series(tmp_path, blob((3, 9, 9)), orientation=orientation, step=2.5)
    (image,) = look(tmp_path).images
    # voxel (column 1, row 2, slice 2) by hand, LPS: 1·1.5 along rows + 2·2.0 along columns, 2·2.5 along normal
    lps = np.array([0, 1, 0]) * 1.5 + np.array([0, 0, -1]) * 4.0 + np.cross([0, 1, 0], [0, 0, -1]) * 5.0
    assert np.allclose((np.array(image.affine) @ [1, 2, 2, 1])[:3], lps * [-1, -1, 1])


def test_uneven_spacing_and_tilt_are_noted(tmp_path):
    for index, (y, z) in enumerate([(0, 0), (1, 2), (2, 4), (4.5, 9)]):
        write_dicom(
            tmp_path / str(index), blob((9, 9)), ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1],
            ImagePositionPatient=[0, y, z],
        )  # fmt: skip
    (image,) = look(tmp_path).images
    assert {note.split(",")[0] for note in image.notes} == {"uneven slice spacing", "tilted gantry"}


def test_the_same_object_twice_is_used_once_and_listed(tmp_path):
    for name in ("a", "b"):
        write_dicom(tmp_path / name, blob((8, 8)), SOPInstanceUID="1.2.3.4.5")
    result = look(tmp_path)
    assert len(result.images) == 1
    assert reasons(result) == ["duplicate of another DICOM file"]


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": "SR"}, "DICOM structured report"),
        ({"Rows": None, "Columns": None, "PixelData": None}, "DICOM without pixels"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "DICOM localizer"),
        ({"BurnedInAnnotation": "YES"}, "DICOM with burned-in annotation"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "DICOM secondary capture"),
        ({"NumberOfFrames": 2_000_000_000}, "header claims an absurd size"),
        ({"Rows": 65000, "Columns": 65000}, "header claims an absurd size"),
        ({"Rows": 5000, "Columns": 5000}, "truncated file"),
    ],
)
def test_dicom_that_is_no_usable_image_is_left_out_with_a_reason(tmp_path, tags, reason):
    write_dicom(tmp_path / "x", blob((8, 8)), **tags)
    result = look(tmp_path)
    assert not result.images
    assert reasons(result) == [reason]


def test_kinds_are_told_by_content_not_by_name(tmp_path):
    write_dicom(tmp_path / "picture.png", blob((8, 8)))
    write_png(tmp_path / "scan.dcm", blob((8, 8), top=255))
    write_nifti(tmp_path / "v.nii.gz", blob((8, 8, 8)))
    assert [image.kind for image in look(tmp_path).images] == ["dicom", "image", "nifti"]


def test_broken_files_are_listed_and_the_rest_is_found(tmp_path):
    write_nifti(tmp_path / "good.nii", blob((8, 8, 8)))
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "garbage.dcm").write_bytes(np.random.RandomState(0).bytes(5000))
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "broken.nii.gz").write_bytes(b"not gzip at all")
    (tmp_path / "short.nii").write_bytes((tmp_path / "good.nii").read_bytes()[:600])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    result = look(tmp_path)
    assert len(result.images) == 1
    assert reasons(result) == [
        "damaged picture", "damaged: content is not what the name says", "damaged: content is not what the name says",
        "empty file", "not a DICOM, NIfTI, NRRD, MetaImage, PNG or JPEG file", "truncated file",
    ]  # fmt: skip


def test_a_4d_nifti_gives_a_volume_for_each_last_index(tmp_path):
    array = np.stack([blob((8, 7, 6), seed=seed) for seed in range(3)], axis=-1)
    images = look(write_nifti(tmp_path / "t.nii.gz", array)).images
    assert [image.shape for image in images] == [(8, 7, 6)] * 3
    assert len({image.id for image in images}) == 3
    assert len({image.group for image in images}) == 1
    for number, image in enumerate(images):
        assert np.array_equal(read_image(image).array[0], array[..., number])


def test_a_fifth_axis_of_length_one_changes_nothing(tmp_path):
    array = np.stack([blob((8, 7, 6), seed=seed) for seed in range(2)], axis=-1)
    images = look(write_nifti(tmp_path / "t.nii.gz", array[..., None])).images
    assert [np.array_equal(read_image(image).array[0], array[..., k]) for k, image in enumerate(images)] == [True, True]


def test_what_is_too_large_is_a_volume_and_not_all_time_points_together(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_mixssl.data.nifti_file.MAX_VOXELS", 8 * 7 * 6)
    write_nifti(tmp_path / "times.nii", np.repeat(blob((8, 7, 6))[..., None], 3, axis=-1))
    write_nifti(tmp_path / "large.nii", blob((8, 7, 7)))
    result = look(tmp_path)
    assert len(result.images) == 3
    assert reasons(result) == ["header claims an absurd size"]


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_header_that_claims_more_time_points_than_the_file_can_hold_is_refused(tmp_path, name):
    header = nib.Nifti1Header()
    header.set_data_shape((8, 7, 6, 30000))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    content = header.binaryblock + bytes(4 + 8 * 7 * 6 * 4)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    result = look(tmp_path)
    assert not result.images
    assert reasons(result) == ["truncated file"]


def test_loops_of_links_end_and_a_link_to_a_file_is_not_a_second_image(tmp_path):
    write_png(tmp_path / "a" / "x.png", blob((8, 8), top=255))
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "y.png").symlink_to(tmp_path / "a" / "x.png")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    result = look(tmp_path)
    assert len(result.images) == 1
    assert reasons(result) == [
        "a link that leads to itself", "a link to a file that is used already",
        "a link to a folder that is looked at already",
    ]  # fmt: skip


LOCKED = "no permission to read a folder, and all that is in it"


def test_masks_of_a_decathlon_folder_are_left_out_and_found_where_they_are_asked_for(tmp_path):
    for folder in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        write_png(tmp_path / "task" / folder / "a.png", blob((8, 8), top=255))
    write_png(tmp_path / "other" / "labelsTr" / "b.png", blob((8, 8), top=255))  # no images beside it
    result = look(tmp_path)
    assert len(result.images) == 3
    assert reasons(result) == ["masks of a Decathlon folder, no images"] * 2
    assert len(look(tmp_path / "task" / "labelsTr").images) == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_what_may_not_be_opened_is_listed(tmp_path):
    write_png(tmp_path / "good.png", blob((8, 8), top=255))
    write_png(tmp_path / "locked.png", blob((8, 8), top=255)).chmod(0)
    (tmp_path / "closed").mkdir(mode=0)
    try:
        assert reasons(look(tmp_path)) == [LOCKED, "no permission to read it"]
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_folder_that_refuses_to_be_listed_is_listed_as_left_out(tmp_path, monkeypatch):
    write_png(tmp_path / "good.png", blob((8, 8), top=255))
    write_png(tmp_path / "closed" / "x.png", blob((8, 8), top=255))

    def scandir(path, original=os.scandir):
        if os.path.basename(path) == "closed":
            raise PermissionError
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    result = look(tmp_path)
    assert len(result.images) == 1
    assert reasons(result) == [LOCKED]
    assert is_damage(LOCKED)


def test_several_folders_are_given_as_text_or_list(tmp_path):
    for name in "ab":
        write_png(tmp_path / name / "x.png", blob((8, 8), top=255))
    a, b = tmp_path / "a", tmp_path / "b"
    assert len(look(f"{a},{b}").images) == len(look([a, str(b)]).images) == 2
    assert len(look([tmp_path, a]).images) == 2  # overlapping roots


def test_a_folder_with_a_comma_in_its_name_is_one_folder(tmp_path):
    folder = tmp_path / "a,b"
    write_png(folder / "x.png", blob((8, 8), top=255))
    assert data_roots(str(folder)) == [folder]
    assert split_roots(str(folder)) == [str(folder)]


def test_folders_are_split_at_commas_only_where_the_text_names_nothing(tmp_path, monkeypatch):
    (tmp_path / "x,y").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert split_roots("~/x,y") == ["~/x,y"]
    assert data_roots("~/x,y") == [tmp_path / "x,y"]
    assert split_roots(" ~/x, y ,,z") == ["~/x", "y", "z"]
    assert split_roots(" , ") == []


@pytest.mark.parametrize("listed", [True, False])
def test_a_datalist_names_its_files_from_its_own_folder(tmp_path, listed, monkeypatch):
    write_png(tmp_path / "images" / "x.png", blob((8, 8), top=255))
    write_png(tmp_path / "images" / "not_listed.png", blob((8, 8), top=255))
    entries = [{"image": "./images/x.png", "label": 0}, {"image": "images/gone.png"}]
    (tmp_path / "list.json").write_text(json.dumps(entries if listed else {"training": entries, "name": "x"}))
    monkeypatch.chdir("/")
    result = look(tmp_path / "list.json")
    assert len(result.images) == 1
    assert reasons(result) == ["the file does not exist"]


@pytest.mark.parametrize("path", ["x\0y.png", "x\ud800.png"])
def test_a_datalist_entry_that_no_file_could_have_for_a_path_is_left_out(tmp_path, path):
    write_png(tmp_path / "x.png", blob((8, 8), top=255))
    (tmp_path / "list.json").write_text(json.dumps([{"image": "x.png"}, {"image": path}]))
    result = look(tmp_path / "list.json")
    assert len(result.images) == 1
    assert reasons(result) == ["no path that a file could have"]


@pytest.mark.parametrize(
    "text",
    ["{", '{"training": []}', '{"validation": [{"image": "x"}]}', '[{"label": 1}]', "3", "[" * 100000],
    ids=lambda text: text[:30],
)
def test_a_datalist_that_names_no_images_is_refused(tmp_path, text):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(DataError, match="datalist"):
        look(tmp_path / "list.json")


def test_a_missing_folder_is_named_by_its_place_not_its_path(tmp_path):
    with pytest.raises(DataError, match="entry 2 of 2") as error:
        look([tmp_path, tmp_path / "Doe^John"])
    assert "Doe" not in str(error.value)


def test_ids_depend_on_the_salt_and_order_does_not(tmp_path):
    for name in "cab":
        write_png(tmp_path / f"{name}.png", blob((8, 8), top=255))
    first, second = scan(tmp_path, salt=b"1", progress=False), scan(tmp_path, salt=b"2", progress=False)
    names = [[os.path.basename(image.parts[0].path) for image in found.images] for found in (first, second)]
    assert names == [["a.png", "b.png", "c.png"]] * 2
    assert not {image.id for image in first.images} & {image.id for image in second.images}


def test_headers_read_by_worker_processes_are_the_same(tmp_path):
    for number in range(520):
        write_png(tmp_path / f"{number}.png", np.zeros((2, 2)))
    assert look(tmp_path).images == look(tmp_path, num_workers=2).images


def test_an_image_record_survives_json(tmp_path):
    write_series(tmp_path, blob((3, 9, 9)))
    (image,) = look(tmp_path).images
    assert ScanImage.from_dict(json.loads(json.dumps(image.as_dict()))) == image
