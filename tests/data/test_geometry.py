# SPDX-License-Identifier: Apache-2.0
"""Where slices lie: gaps, tilt, uneven distances, duplicates; accepted with a note, resampled or refused."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from monai.transforms import LoadImage
from scipy import ndimage
from tiny_scans import blob, write_dicom, write_nifti, write_series

from monai_mixssl.data.damage import is_damage
from monai_mixssl.data.prepared_data import prepare_data
from monai_mixssl.data.read import read_image
from monai_mixssl.data.reader import ScanReader
from monai_mixssl.data.records import LeftOut
from monai_mixssl.data.scan import scan
from monai_mixssl.errors import DataError

SPACING = (0.8, 1.1)  # of columns, of rows


def look(path):
    return scan(path, salt=b"0", progress=False).images


def field(points):
    """A brightness at each place in the patient, (…, 3) millimetres RAS+; linear, so that interpolation is exact."""
    return 500 + points @ np.array([3.0, -2.0, 5.0])


def write_field(folder, places, thickness=None, rows=12, columns=10):
    """Writes what `field` shows at slices whose first pixels lie at `places`, LPS+ millimetres, axial, rescaled."""
    down, across = np.mgrid[:rows, :columns]
    for number, place in enumerate(places):
        points = np.stack([across * SPACING[0], down * SPACING[1], np.zeros_like(across)], axis=-1) + np.asarray(place)
        values = field(points * [-1, -1, 1])
        write_dicom(
            folder / f"{number}", np.round((values + 1000) / 0.05), ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[SPACING[1], SPACING[0]], ImagePositionPatient=[float(one) for one in place],
            SliceThickness=None if thickness is None else thickness[number], PixelRepresentation=0,
            RescaleSlope=0.05, RescaleIntercept=-1000, InstanceNumber=number + 1,
        )  # fmt: skip
    return folder


def wrong_by(volume, inside=1):
    """How far a volume's values are from `field` at its own affine, away from what no slice covers."""
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in volume.array.shape[1:]), indexing="ij"), axis=-1)
    points = grid @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    error = np.abs(volume.array[0] - field(points))
    filled = volume.array[0] == volume.array.min()
    near = np.zeros_like(filled)
    for axis in (0, 1):
        for step in (-1, 1):
            near |= np.roll(filled, step, axis)
    return error[~near & ~filled], float((near | filled).mean())


TILT = [(0.0, 0.7 * number, 3.0 * number) for number in range(6)]
UNEVEN = [(0.0, 0.0, height) for height in (0, 2, 4.5, 6, 8.5, 10, 12)]
GAP = [(0.0, 0.0, 2.0 * number) for number in (0, 1, 2, 4, 5, 6, 7)]


@pytest.mark.parametrize(
    ("places", "note", "done"),
    [
        (TILT, "tilted gantry", "kept as a sheared affine"),
        (UNEVEN, "uneven slice spacing", "taken as even"),
        (GAP, "missing slices", "taken as even"),
    ],
    ids=["tilt", "uneven", "gap"],
)
def test_an_irregular_stack_is_noted_and_accepted_resampled_or_refused(tmp_path, places, note, done):
    (image,) = look(write_field(tmp_path, places))
    assert note in image.notes
    accepted = read_image(image)
    assert accepted.array.shape == (1, 10, 12, len(places))
    assert f"{note}, {done}" in accepted.notes
    with pytest.raises(LeftOut, match=note) as refused:
        read_image(image, "refuse")
    assert not is_damage(refused.value.reason)  # the setting's choice, nothing that is broken
    straight = read_image(image, "resample")
    axes = straight.affine[:3, :3]
    steps = np.linalg.norm(axes, axis=0)
    assert np.allclose(axes.T @ axes, np.diag(steps**2))  # no shear
    assert steps == pytest.approx([*SPACING, np.median(np.diff([place[2] for place in places]))])
    assert straight.spacing == pytest.approx(tuple(steps))
    error, uncovered = wrong_by(straight)
    assert error.max() < 0.06  # half a stored step and rounding, of values over a range of about 100
    assert uncovered < 0.45
    assert any(one.startswith(f"{note}, ") and one != f"{note}, {done}" for one in straight.notes)


def test_the_sheared_affine_of_a_tilted_stack_puts_every_voxel_in_its_place(tmp_path):
    (image,) = look(write_field(tmp_path, TILT))
    error, _ = wrong_by(read_image(image))
    assert error.max() < 0.06


def test_taking_uneven_distances_as_even_misplaces_voxels(tmp_path):
    (image,) = look(write_field(tmp_path, UNEVEN))
    error, _ = wrong_by(read_image(image))
    assert error.max() > 2


def test_a_straight_stack_is_the_same_whatever_is_asked_for(tmp_path):
    volume = blob((4, 9, 8))
    write_series(tmp_path, volume)
    (image,) = look(tmp_path)
    assert image.positions == ()
    for geometry in ("accept", "resample", "refuse"):
        read = read_image(image, geometry)
        assert np.array_equal(read.array[0], volume.transpose(2, 1, 0))
        assert read.notes == ()


def test_a_tilt_by_whole_pixels_is_straightened_without_computing_a_value(tmp_path):
    volume = blob((4, 12, 10)) + 1
    for number, plane in enumerate(volume):
        write_dicom(
            tmp_path / str(number), plane, ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1],
            ImagePositionPatient=[0, 2.0 * number, 3.0 * number],
        )  # fmt: skip
    straight = read_image(*look(tmp_path), "resample")
    assert straight.array.dtype == "int16"
    assert straight.array.shape == (1, 10, 18, 4)
    for number, plane in enumerate(volume):
        assert np.array_equal(straight.array[0, :, 2 * number : 2 * number + 12, number], plane.T)
    assert np.allclose(straight.affine[:3, :3], np.diag([-1, -1, 3]))


def test_slices_that_are_thicker_where_they_lie_further_apart_are_uneven_and_none_is_missing(tmp_path):
    heights = [0, 4, 8, 12, 20, 28, 36]
    (image,) = look(write_field(tmp_path, [(0, 0, height) for height in heights], [4.0] * 4 + [8.0] * 3))
    assert "uneven slice spacing" in image.notes
    assert "missing slices" not in image.notes


def test_a_gap_counts_though_slices_overlap(tmp_path):
    (image,) = look(write_field(tmp_path, GAP, [5.0] * len(GAP)))
    assert image.notes == ("missing slices",)


def test_small_differences_of_distance_are_even(tmp_path):
    heights = np.arange(6) * 2.0 + [0, 0.02, -0.02, 0.01, 0, 0]
    (image,) = look(write_field(tmp_path, [(0, 0, height) for height in heights]))
    assert image.notes == ()


def test_a_grid_of_absurd_size_is_refused_before_memory_is_taken(tmp_path):
    heights = [0, 0.02, 0.04, 0.06, 9e6]
    (image,) = look(write_field(tmp_path, [(0, 0, height) for height in heights]))
    with pytest.raises(LeftOut, match="too far apart"):
        read_image(image, "resample")


def test_what_is_done_stands_in_the_metadata_and_a_refusal_reaches_the_user(tmp_path):
    write_field(tmp_path, TILT)
    image = LoadImage(reader=ScanReader, geometry="resample")(tmp_path)
    assert image.meta["notes"] == "tilted gantry, resampled to a straight grid"
    assert image.shape[1] > 12
    with pytest.raises(DataError, match="tilted gantry"):
        LoadImage(reader=ScanReader, geometry="refuse")(tmp_path)


def test_preparing_follows_the_setting_and_records_it(tmp_path):
    for patient in "ab":
        for path in write_field(tmp_path / "data" / patient, TILT, rows=40, columns=40).iterdir():
            dataset = pydicom.dcmread(path)
            dataset.PatientID, dataset.SeriesInstanceUID = patient, f"1.2.{ord(patient)}"
            dataset.save_as(path)
    quiet = {"patch_size": 16, "min_foreground": 0.0, "num_workers": 0, "progress": False}
    for geometry, rows in (("accept", 40), ("resample", 44)):
        data = prepare_data(tmp_path / "data", tmp_path / geometry, geometry=geometry, **quiet)
        assert data.settings.as_dict()["geometry"] == geometry
        for record in data.records.values():
            assert rows - 2 <= max(record["shape"][2:]) <= rows
            assert ("resampled" in record["notes"][0]) == (geometry == "resample")
    with pytest.raises(DataError, match="None of"):
        prepare_data(tmp_path / "data", tmp_path / "refuse", geometry="refuse", **quiet)
    assert "tilted gantry" in (tmp_path / "refuse" / "excluded.jsonl").read_text()


def test_the_same_anatomy_as_dicom_and_as_nifti_lands_on_the_same_voxels(tmp_path):
    volume = blob((5, 10, 8))  # slices, rows, columns
    for name, orientation in {"axial": (1, 0, 0, 0, 1, 0), "oblique": (0, 0.8, -0.6, 0.28, -0.576, -0.768)}.items():
        write_series(tmp_path / name, volume, orientation=orientation, order=[3, 1, 0, 4, 2])
        across, down = np.array(orientation[:3]), np.array(orientation[3:])
        lps = np.eye(4)
        lps[:3, :3] = np.stack([across * 1.5, down * 2.0, np.cross(across, down) * 3.0], axis=1)
        affine = np.diag([-1, -1, 1, 1]) @ lps
        # stored otherwise: another order and direction of the axes, as a converter may choose
        twin = nib.Nifti1Image(volume.transpose(2, 1, 0), affine)
        twin = nib.as_closest_canonical(twin)
        write_nifti(tmp_path / f"{name}.nii.gz", np.asarray(twin.dataobj), twin.affine)
        dicom, nifti = (LoadImage(reader=ScanReader)(tmp_path / one) for one in (name, f"{name}.nii.gz"))
        reorient = nib.orientations.io_orientation(np.asarray(dicom.affine))
        turned = nib.orientations.apply_orientation(dicom.numpy(), reorient)
        assert np.array_equal(turned, nifti.numpy())
        moved = np.asarray(dicom.affine) @ nib.orientations.inv_ornt_aff(reorient, dicom.shape)
        assert np.allclose(moved, nifti.affine, atol=1e-5)


def test_a_provided_series_written_to_nifti_by_simpleitk_lands_on_the_same_voxels(provided_data, tmp_path):
    folder = provided_data / "dicom" / "mr_small_series"
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    sitk.WriteImage(reader.Execute(), str(tmp_path / "twin.nii"))
    dicom, nifti = (LoadImage(reader=ScanReader)(path) for path in (folder, tmp_path / "twin.nii"))
    assert np.array_equal(dicom, nifti)
    assert np.allclose(dicom.affine, nifti.affine, atol=1e-3)


def test_the_provided_tilted_head_is_straightened(provided_data):
    (image,) = look(provided_data / "dicom" / "ct_head_tilted")
    assert image.notes == ("uneven slice spacing", "tilted gantry")
    stored, straight = read_image(image), read_image(image, "resample")
    axes = straight.affine[:3, :3]
    assert np.allclose(axes.T @ axes, np.diag(np.diag(axes.T @ axes)), atol=1e-6)
    assert straight.spacing[2] == pytest.approx(4.002, abs=2e-3)
    # some points, worked out one by one from the positions in the headers
    places = np.asarray(image.positions)
    across, down = (np.asarray(image.affine)[:3, axis] for axis in (0, 1))
    normal = np.cross(across, down) / np.linalg.norm(np.cross(across, down))
    heights = (places - places[0]) @ normal
    draw = np.random.RandomState(0)
    for index in draw.randint([100, 150, 0], [400, 400, straight.array.shape[3] - 1], (200, 3)):
        point = straight.affine[:3, :3] @ index + straight.affine[:3, 3]
        height = (point - places[0]) @ normal
        below = int(np.clip(np.searchsorted(heights, height) - 1, 0, len(heights) - 2))
        weight = (height - heights[below]) / (heights[below + 1] - heights[below])
        both = []
        for number in (below, below + 1):
            inside = point - places[number]
            pixel = [inside @ across / (across @ across), inside @ down / (down @ down)]
            both.append(ndimage.map_coordinates(stored.array[0, ..., number].astype(float), np.c_[pixel], order=1)[0])
        assert straight.array[(0, *index)] == pytest.approx((1 - weight) * both[0] + weight * both[1], abs=0.5)
