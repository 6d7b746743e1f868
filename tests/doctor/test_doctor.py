# SPDX-License-Identifier: Apache-2.0
"""`python -m monai_mixssl doctor`: what it says, what it must not say, what it leaves, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_mixssl.__main__ import main
from monai_mixssl.data import scan as scan_module
from monai_mixssl.data.damage import is_damage
from monai_mixssl.data.phantoms.dicom_writer import write_dicom_series
from monai_mixssl.data.phantoms.volume import Phantom
from monai_mixssl.doctor.command import TOO_MANY_DAMAGED
from monai_mixssl.errors import ConfigError, DataError, RunFolderError

NAME, NUMBER, FOLDER = "QUAXWORT", "MRN-778811", "DOE_JOHN_19470311"


def volume(shape=(20, 24, 18)):
    grid = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    return np.where(sum(axis**2 for axis in grid) < 0.7, 400, -1000).astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CT series of a named patient, a NIfTI volume, a picture, and three files that cannot be used."""
    top = tmp_path_factory.mktemp("clinic")
    series = top / FOLDER / "CT"
    series.mkdir(parents=True)
    phantom = Phantom(volume(), 0, "CT", np.diag([0.7, 0.7, 5.0, 1.0]))
    write_dicom_series(phantom, series, patient=NUMBER, key="a")
    nib.save(nib.Nifti1Image(volume((30, 30, 30)).astype(np.float32), np.diag([1.5, 1.5, 1.5, 1])), top / "v.nii.gz")
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(top / f"{NAME}.png")
    (top / "empty.dcm").write_bytes(b"")
    (top / "short.nii").write_bytes(b"\0" * 348)
    (top / "notes.txt").write_text(NAME)
    return top


def doctor(capsys, *words):
    """Runs the command in this process: exit code and what it prints."""
    code = 0
    try:
        main(["doctor", *map(str, words)])
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    return code, said.out + said.err


def test_the_report_counts_what_is_there_and_names_nobody(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    code, said = doctor(capsys, ".", "--max_bad_share", "0.5")
    assert code == 0
    assert "1  DICOM CT volume" in said
    assert "1  NIfTI volume" in said
    assert "1  PNG or JPEG image" in said
    assert "Left out 3, of which 2 damaged" in said
    assert "18  PatientName" in said
    assert "python -m monai.bundle run pretrain" in said
    assert "--dataset_dir ." in said
    for secret in (NAME, NUMBER, FOLDER, "19700101", str(folder)):
        assert secret not in said


def test_json_holds_the_same_and_no_path(folder, capsys):
    code, said = doctor(capsys, folder, "--json", "--read", "5", "--spatial_dims", "3", "--max_bad_share", "1")
    report = json.loads(said)
    assert code == report["exit_code"] == 0
    assert report["found"] == {"DICOM CT volume": 1, "NIfTI volume": 1, "PNG or JPEG image": 1}
    assert (report["files"], report["images"], report["patients"], report["series"]) == (23, 3, 1, 1)
    assert report["damaged"] == 2
    assert report["identifying"]["PatientBirthDate"] == report["dicom_files"] == 18
    assert report["geometry"]["CT volume"]["distance"] == [5.0, 5.0, 5.0]
    assert report["geometry"]["volume of unknown modality"]["spacing"] == [1.5, 1.5, 1.5]
    assert report["intensities"]["CT volume"]["hounsfield"]
    assert report["intensities"]["CT volume"]["lowest"] == -1000
    assert report["advice"]["settings"]["spatial_dims"] == 3
    for secret in (NAME, NUMBER, FOLDER, str(folder)):
        assert secret not in said


def test_with_an_output_folder_the_list_the_picture_and_the_index_stay(folder, tmp_path, capsys, monkeypatch):
    output = tmp_path / "out"
    # 2 of 22 are damaged
    assert doctor(capsys, folder, "--output_dir", output, "--max_bad_share", "0.05")[0] == TOO_MANY_DAMAGED
    excluded = [json.loads(line) for line in (output / "excluded.jsonl").read_text().splitlines()]
    assert {one["reason"] for one in excluded} == {
        "empty file", "damaged: content is not what the name says",
        "not a DICOM, NIfTI, NRRD, MetaImage, PNG or JPEG file",
    }  # fmt: skip
    table = (output / "private" / "files.csv").read_text()
    assert all(one["id"] in table for one in excluded)
    with Image.open(output / "pictures" / "doctor.png") as picture:
        assert picture.size[0] > 500
    for path in output.rglob("*"):
        if path.is_file() and "private" not in path.parts:
            assert not [one for one in (NAME, NUMBER, FOLDER) if one.encode() in path.read_bytes()]
    # nothing is opened by a second look
    monkeypatch.setattr(scan_module, "read_header", None)
    assert doctor(capsys, folder, "--output_dir", output, "--max_bad_share", "1")[0] == 0


def test_the_folder_of_a_run_is_left_alone(folder, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunFolderError, match="holds a run"):
        main(["doctor", str(folder), "--output_dir", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    "words",
    [
        ["--max_bad_share", "2"], ["--read", "-1"], ["--reed", "3"], ["--spatial_dims", "4"], ["--max_bad_share", "x"],
        ["--num_workers", "-2"], ["--num_workers", "100000"], ["--keep", "everything"],
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_used_are_named(folder, words):
    with pytest.raises(ConfigError, match=words[0].strip("-")):
        main(["doctor", str(folder), *words])


def test_a_misspelt_folder_leaves_no_output_folder(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        main(["doctor", str(tmp_path / "gone"), "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_folder_without_images_ends_with_a_sentence_and_code_1(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.txt").write_text("hello")
    done = subprocess.run(
        [sys.executable, "-m", "monai_mixssl", "doctor", str(tmp_path / "data")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("monai-mixssl: error: Nothing usable was found")
    assert "1  not a DICOM" in done.stdout


@pytest.mark.parametrize(
    ("shape", "spacing", "count", "expected"),
    [
        ((40, 50, 40), (1.0, 1.0, 1.0), 3, {"spatial_dims": 3, "patch_size": 32, "spacing": None}),
        ((256, 256, 30), (0.5, 0.5, 5.0), 2, {"spatial_dims": 2, "patch_size": 128, "spacing": None}),
        ((80, 80, 4), (1.0, 1.0, 1.0), 2, {"spatial_dims": 2, "patch_size": 64, "spacing": None}),
        # sagittal: slices along the first axis; and a single slice, which is no volume
        ((20, 256, 256), (4.0, 0.9, 0.9), 2, {"spatial_dims": 2, "patch_size": 128, "spacing": None}),
        ((1, 256, 256), (1.0, 1.0, 1.0), 2, {"spatial_dims": 2, "patch_size": 128, "spacing": None}),
    ],
)
def test_settings_follow_from_sizes_and_spacings(tmp_path, capsys, shape, spacing, count, expected):
    for number in range(count):
        nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), np.diag([*spacing, 1])), tmp_path / f"{number}.nii")
    settings = json.loads(doctor(capsys, tmp_path, "--json")[1])["advice"]["settings"]
    assert {key: settings[key] for key in expected} == expected


def test_spacings_that_differ_are_to_be_made_equal(tmp_path, capsys):
    for number, step in enumerate((0.5, 1.0, 2.0)):
        affine = np.diag([step, step, step, 1])
        nib.save(nib.Nifti1Image(np.zeros((64, 64, 64), np.uint8), affine), tmp_path / f"{number}.nii")
    advice = json.loads(doctor(capsys, tmp_path, "--json")[1])["advice"]
    assert advice["settings"]["spacing"] == 1.0
    assert advice["settings"]["patch_size"] == 64


@pytest.mark.parametrize(
    ("volumes", "said"), [(0, "nothing can be trained on: there is no volume"), (1, "1 single images")]
)
def test_3d_says_that_single_images_are_not_used(tmp_path, capsys, volumes, said):
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(tmp_path / "a.png")
    for number in range(volumes):
        nib.save(nib.Nifti1Image(volume((30, 30, 30)).astype(np.float32), np.eye(4)), tmp_path / f"{number}.nii.gz")
    assert f"in 3D {said}" in doctor(capsys, tmp_path, "--spatial_dims", "3")[1]


def test_nifti_that_looks_like_ct_is_to_be_scaled_as_ct(tmp_path, capsys):
    nib.save(nib.Nifti1Image(np.where(volume() > 0, 900, -1000).astype(np.int16), np.eye(4)), tmp_path / "ct.nii")
    assert json.loads(doctor(capsys, tmp_path, "--json")[1])["advice"]["settings"]["normalization"] == "auto"
    read = json.loads(doctor(capsys, tmp_path, "--json", "--read", "1")[1])
    assert read["advice"]["settings"]["normalization"] == "hounsfield"


def test_the_least_and_the_greatest_value_are_those_of_the_whole_volume(tmp_path, capsys):
    array = np.random.RandomState(0).randint(0, 100, (90, 90, 90)).astype(np.int16)
    array[41, 43, 47], array[11, 13, 17] = -500, 3002  # of 729,000 voxels
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "v.nii")
    assert "-500 to 3002" in doctor(capsys, tmp_path, "--read", "1")[1]


def test_what_cannot_be_read_is_counted(tmp_path, capsys):
    image = nib.Nifti1Image(np.full((8, 8, 8), np.nan, np.float32), np.eye(4))
    nib.save(image, tmp_path / "nan.nii")
    assert json.loads(doctor(capsys, tmp_path, "--json", "--read", "3")[1])["unreadable"] == {
        "NaN or infinite values": 1
    }


def garbage(folder, ending, count=30):
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"{NAME}{number}{ending}").write_bytes(np.random.RandomState(number).bytes(2000))


def test_files_of_noise_named_as_images_are_damaged_and_the_exit_code_says_so(tmp_path, capsys):
    garbage(tmp_path, ".dcm")
    with pytest.raises(DataError, match="Nothing usable was found"):  # exit code 1
        main(["doctor", str(tmp_path)])
    said = capsys.readouterr().out
    assert "Left out 30, of which 30 damaged" in said
    assert "30  damaged: content is not what the name says" in said
    nib.save(nib.Nifti1Image(volume(), np.eye(4)), tmp_path / "v.nii.gz")
    code, said = doctor(capsys, tmp_path)
    assert code == TOO_MANY_DAMAGED
    assert NAME not in said


def test_files_of_noise_named_as_nothing_in_particular_are_no_damage(tmp_path, capsys):
    garbage(tmp_path, ".bin")
    nib.save(nib.Nifti1Image(volume(), np.eye(4)), tmp_path / "v.nii.gz")
    code, said = doctor(capsys, tmp_path)
    assert code == 0
    assert "Left out 30, of which 0 damaged" in said


def test_what_is_broken_is_told_from_what_is_something_else():
    broken = [
        "empty file",
        "truncated file",
        "damaged DICOM header",
        "damaged: content is not what the name says",
        "no permission to read it",
        "NaN or infinite values",
    ]
    others = [
        "DICOM localizer", "DICOM structured report", "duplicate of another DICOM file", "constant image",
        "not a DICOM, NIfTI, NRRD, MetaImage, PNG or JPEG file", "a link to a folder that is looked at already",
        "what macOS knows about another file",
    ]  # fmt: skip
    assert all(is_damage(reason) for reason in broken)
    assert not any(is_damage(reason) for reason in others)


def test_the_provided_scans_are_described(provided_data, capsys):
    code, said = doctor(capsys, provided_data / "dicom", "--json")
    report = json.loads(said)
    assert code == 0
    assert report["images"] == 21
    assert report["left_out"] == {"duplicate of another DICOM file": 9, "DICOM structured report": 1}
    assert report["identifying"]["PatientName"] == 198
