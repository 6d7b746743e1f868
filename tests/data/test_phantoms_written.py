# SPDX-License-Identifier: Apache-2.0
"""The phantoms on disk, read back by programs that know nothing of how they were written."""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from monai.transforms import LoadImage

from monai_mixssl.data.phantoms import Phantom, phantom_volume, write_phantoms
from monai_mixssl.errors import ConfigError

PATIENTS, SIZE = 8, {"image_size": 40, "slices": 5}
DICOM = range(0, PATIENTS, 2)

# Attributes of type 1 and 2 of the modules of a CT and an MR image: DICOM PS3.3, A.3 and A.4.
GENERAL = [
    *("SOPClassUID", "SOPInstanceUID", "PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
    *("Modality", "SeriesInstanceUID", "SeriesNumber", "Manufacturer", "PatientPosition"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "InstanceNumber", "ImageType", "SliceThickness"),
    *("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SamplesPerPixel", "PixelData"),
    *("PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
]
CT = ["RescaleIntercept", "RescaleSlope", "KVP", "AcquisitionNumber"]
MR = [
    *("ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType"),
    *("RepetitionTime", "EchoTime", "EchoTrainLength"),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("phantoms") / "set", seed=7, patients=PATIENTS, **SIZE)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def source(index: int) -> Phantom:
    return phantom_volume(index, seed=7, **SIZE)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def assert_same_in_space(array: np.ndarray, affine: np.ndarray, phantom: Phantom) -> None:
    """Every voxel of a read image has the value that the phantom has at the same place in the patient."""
    assert sorted(array.shape) == sorted(phantom.array.shape)
    indices = np.indices(array.shape).reshape(3, -1)
    world = affine[:3, :3] @ indices + affine[:3, 3:]
    found = np.linalg.inv(phantom.affine) @ np.vstack([world, np.ones(world.shape[1])])
    nearest = np.rint(found[:3]).astype(int)
    assert np.abs(found[:3] - nearest).max() < 1e-3  # voxels
    assert np.array_equal(array.reshape(-1), phantom.array[tuple(nearest)])


def test_the_same_seed_writes_the_same_bytes_at_any_time(written, tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 4e9)
    again = write_phantoms(tmp_path / "again", seed=7, patients=PATIENTS, **SIZE)
    assert digest(again) == digest(written)
    assert len(digest(written)) == len(DICOM) * SIZE["slices"] + PATIENTS // 2 + 1


def test_another_seed_writes_other_images_under_other_identifiers(written, tmp_path):
    other = write_phantoms(tmp_path, seed=8, patients=PATIENTS, **SIZE)
    assert not set(digest(other).values()) & set(digest(written).values())
    uids = [{pydicom.dcmread(p).SOPInstanceUID for p in folder.rglob("*.dcm")} for folder in (other, written)]
    assert not uids[0] & uids[1]


def test_labels_are_listed_for_every_image(written):
    listed = rows(written)
    assert [int(r["label"]) for r in listed] == [source(i).label for i in range(PATIENTS)]
    assert len({r["patient"] for r in listed}) == PATIENTS
    assert all((written / r["path"]).exists() for r in listed)


@pytest.mark.parametrize("index", DICOM)
def test_simpleitk_reads_the_series_as_it_was_made(written, index):
    reader = SimpleITK.ImageSeriesReader()
    folder = str(written / rows(written)[index]["path"])
    assert len(reader.GetGDCMSeriesIDs(folder)) == 1
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    assert_same_in_space(SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), to_ras @ affine, source(index))
    # axial slices are stored as everywhere: the patient's right at the left, the front at the top
    assert np.sign(np.diag(affine)).tolist()[:3] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("index", range(PATIENTS))
def test_monai_reads_every_image_as_it_was_made(written, index):
    path = written / rows(written)[index]["path"]
    image = LoadImage(reader="NibabelReader" if path.is_file() else "PydicomReader", dtype=np.float64)(str(path))
    assert_same_in_space(image.numpy(), image.affine.numpy(), source(index))


@pytest.mark.parametrize("index", range(1, PATIENTS, 2))
def test_nibabel_reads_the_file_as_it_was_made(written, index):
    image = nibabel.load(written / rows(written)[index]["path"])
    assert np.array_equal(np.asanyarray(image.dataobj), source(index).array)
    assert image.get_data_dtype() == np.int16
    for affine in (image.get_sform(), image.get_qform()):
        assert np.abs(affine - source(index).affine).max() < 1e-3  # mm: the header holds float32
    assert image.header.get_xyzt_units()[0] == "mm"


def test_dicom_files_hold_what_the_standard_demands(written, monkeypatch):
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    seen = set()
    for path in written.rglob("*.dcm"):
        header = pydicom.dcmread(path)
        str(header)  # reads, and so checks, every value
        assert [name for name in GENERAL + (CT if header.Modality == "CT" else MR) if name not in header] == []
        assert header.SOPClassUID.name == f"{header.Modality} Image Storage"
        assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
        assert header.SOPInstanceUID.is_valid
        seen.add((header.Modality, header.SOPInstanceUID))
    assert len(seen) == len(DICOM) * SIZE["slices"]
    assert {modality for modality, _ in seen} == {"CT", "MR"}


def test_each_patient_has_a_study_a_series_and_a_frame_of_reference_of_their_own(written):
    headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in written.rglob("*.dcm")]
    for names in (
        ("StudyInstanceUID",),
        ("SeriesInstanceUID",),
        ("FrameOfReferenceUID",),
        ("PatientID", "PatientName"),
    ):
        assert len({tuple(str(h[n].value) for n in names) for h in headers}) == len(DICOM)


def test_writing_over_the_same_set_repairs_it_and_other_files_are_refused(written, tmp_path):
    folder = write_phantoms(tmp_path / "set", seed=7, patients=4, **SIZE)
    before = digest(folder)
    damaged = next(folder.rglob("*.dcm"))
    os.truncate(damaged, 100)
    assert digest(write_phantoms(folder, seed=7, patients=4, **SIZE)) == before
    with pytest.raises(ConfigError, match="other files"):
        write_phantoms(folder, seed=7, patients=2, **SIZE)
    assert digest(folder) == before


def test_labels_stand_only_where_the_set_is_complete(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("monai_mixssl.data.phantoms.dataset.write_nifti", fail)
    with pytest.raises(OSError, match="disk full"):
        write_phantoms(tmp_path, seed=7, patients=4, **SIZE)
    assert not (tmp_path / "labels.csv").exists()
    monkeypatch.undo()
    assert (write_phantoms(tmp_path, seed=7, patients=4, **SIZE) / "labels.csv").exists()


def test_no_patients_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least 1 patient"):
        write_phantoms(tmp_path, patients=0)
