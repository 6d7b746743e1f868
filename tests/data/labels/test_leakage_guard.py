# SPDX-License-Identifier: Apache-2.0
"""The leakage guard: what the pretraining has seen may not be in the test; what cannot be compared is said."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from labelled_scans import file_numbers, labelled, picture, picture_set, write_csv
from tiny_scans import blob, write_nifti, write_png, write_series

from monai_mixssl.data.labels import load_labelled, segmentation_data
from monai_mixssl.data.prepared_data import prepare_data
from monai_mixssl.errors import DataError, RunFolderError

SPLITS = ("training", "validation", "test")


def series(folder, patient, seed):
    """A DICOM series of three slices."""
    write_series(
        folder, blob((3, 18, 20), seed=seed), PatientID=patient, StudyInstanceUID=f"1.2.{seed}",
        SeriesInstanceUID=f"1.2.{seed}.1",
    )  # fmt: skip


@pytest.fixture
def pretraining(tmp_path):
    """A pretraining run on patients P0 … P3, and a picture without a patient."""
    for n in range(4):
        series(tmp_path / "corpus" / f"{n}", f"P{n}", 50 + n)
    write_png(tmp_path / "corpus" / "x.png", picture(99))
    prepare_data(tmp_path / "corpus", tmp_path / "pretraining", patch_size=16, progress=False, num_workers=0)
    return tmp_path / "pretraining"


def labelled_set(folder, patients, splits=None):
    """Pictures of the patients that a list names, split as given or in turns."""
    splits = splits or {n: SPLITS[n // 2 % 3] for n in range(len(patients))}
    return picture_set(folder, len(patients), patient=lambda n: patients[n], split=lambda n: splits[n])


def test_a_pretraining_patient_in_the_test_stops_the_run_with_the_counts(tmp_path, pretraining):
    patients = ["Q0", "Q1", "Q2", "Q3", "P2", "Q5", "Q6", "Q7"]
    data_dir = labelled_set(tmp_path / "set", patients)
    with pytest.raises(DataError, match=r"^1 of 2 test patients .* are in the pretraining list") as error:
        labelled(data_dir, tmp_path / "run", pretrain_run=pretraining)
    assert "P2" not in str(error.value)
    named = re.search(r"such as that of (\w{12})", str(error.value))[1]
    assert patients[file_numbers(tmp_path / "run")[named]] == "P2"  # private/files.csv leads to it
    assert not (tmp_path / "run" / "manifest.json").exists()
    with pytest.raises(RunFolderError):
        load_labelled(tmp_path / "run")
    text = (data_dir / "labels.csv").read_text().replace("P2", "Q4")
    (data_dir / "labels.csv").write_text(text)
    assert labelled(data_dir, tmp_path / "run", pretrain_run=pretraining).leakage["checked"] is True


def test_a_dicom_patient_in_the_test_stops_the_run(tmp_path, pretraining):
    for n in range(6):
        series(tmp_path / "set" / f"{n}", ["Q0", "Q1", "Q2", "Q3", "P0", "P1"][n], n)
    rows = [(f"{n}", "ab"[n % 2], SPLITS[n // 2]) for n in range(6)]
    write_csv(tmp_path / "set" / "labels.csv", "path,label,split", *rows)
    with pytest.raises(DataError, match=r"^2 of 2 test patients"):
        labelled(tmp_path / "set", tmp_path / "run", pretrain_run=pretraining)


def test_the_header_counts_where_the_list_gives_a_pseudonym(tmp_path, pretraining):
    for n in range(6):
        series(tmp_path / "set" / f"{n}", ["Q0", "Q1", "Q2", "Q3", "Q4", "P1"][n], n)
    rows = [(f"{n}", "ab"[n % 2], f"study-{n}", SPLITS[n // 2]) for n in range(6)]
    write_csv(tmp_path / "set" / "labels.csv", "path,label,patient,split", *rows)
    with pytest.raises(DataError, match=r"^1 of 2 test patients"):
        labelled(tmp_path / "set", tmp_path / "run", pretrain_run=pretraining)


def test_pretraining_patients_in_training_are_counted_and_do_no_harm(tmp_path, pretraining):
    patients = ["P0", "P1", "P2", "Q3", "Q4", "Q5", "P0", "P1"]
    data = labelled(labelled_set(tmp_path / "set", patients), tmp_path / "run", pretrain_run=pretraining)
    assert data.leakage["checked"] is True
    assert data.leakage["patients_compared"] is True
    assert data.leakage["patients_shared"] == {"training": 2, "validation": 1, "test": 0}
    assert "with training: 2 patients, 0 images; with validation: 1 patients, 0 images" in data.leakage["message"]
    assert "1 pretraining images name no patient" in data.leakage["message"]
    assert data.leakage["message"] in data.summary


@pytest.mark.parametrize("form", ["picture", "volume"])
def test_a_copy_of_a_pretraining_image_in_the_test_stops_the_run(tmp_path, pretraining, form):
    data_dir = labelled_set(tmp_path / "set", [f"Q{n}" for n in range(8)])
    if form == "picture":  # grey as three equal colours: another file of the same image
        write_png(data_dir / "4.png", np.repeat(picture(99)[..., None], 3, axis=2))
    else:  # the NIfTI file that was made of a DICOM series
        affine = np.diag([-1.5, -2.0, 3.0, 1.0])
        write_nifti(data_dir / "v.nii.gz", blob((3, 18, 20), seed=51).transpose(2, 1, 0), affine)
        text = (data_dir / "labels.csv").read_text().replace("4.png", "v.nii.gz")
        (data_dir / "labels.csv").write_text(text)
        (data_dir / "4.png").unlink()
    with pytest.raises(DataError, match=r"^1 of 2 test images .* are in the pretraining data"):
        labelled(data_dir, tmp_path / "run", pretrain_run=pretraining)


def test_without_a_pretraining_run_nothing_passes(tmp_path):
    said = []
    data = labelled(labelled_set(tmp_path / "set", [f"Q{n}" for n in range(8)]), tmp_path / "run", report=said.append)
    assert data.leakage["checked"] is False
    assert data.leakage["message"].startswith("leakage not checked")
    assert "leakage not checked" in said[-1]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["leakage"]["checked"] is False


def forget_content(run):
    manifest = json.loads((run / "manifest.json").read_text())
    for image in manifest["images"]:
        del image["content"]
    (run / "manifest.json").write_text(json.dumps(manifest))


def test_an_older_pretraining_run_is_said_to_know_no_contents(tmp_path, pretraining):
    forget_content(pretraining)
    data = labelled(
        labelled_set(tmp_path / "a", [f"Q{n}" for n in range(8)]), tmp_path / "run", pretrain_run=pretraining
    )
    assert data.leakage["checked"] is True
    assert "no test patient among them" in data.leakage["message"]
    assert "Of 5 pretraining images the content is not recorded" in data.leakage["message"]
    # and where patients are unknown, too, it is no pass
    nameless = labelled(picture_set(tmp_path / "b"), tmp_path / "nameless", pretrain_run=pretraining)
    assert nameless.leakage["checked"] is False
    assert nameless.leakage["message"].startswith("leakage not checked")


def test_patients_that_cannot_be_compared_are_said_to(tmp_path, pretraining):
    nameless = labelled(picture_set(tmp_path / "a"), tmp_path / "one", pretrain_run=pretraining)
    assert nameless.leakage["patients_compared"] is False
    assert "the labelled images name none" in nameless.leakage["message"]
    assert "no test patient" not in nameless.leakage["message"]
    one_name = labelled(picture_set(tmp_path / "b", patient=lambda n: "X"), tmp_path / "two", pretrain_run=pretraining)
    assert "all labelled images name the same one" in one_name.leakage["message"]
    assert one_name.leakage["patients_compared"] is False
    assert not any("leakage checked" in data.summary for data in (nameless, one_name))
    assert one_name.split_by == "file"
    write_png(tmp_path / "pictures" / "1.png", picture(101))
    write_png(tmp_path / "pictures" / "2.png", picture(102))
    prepare_data(tmp_path / "pictures", tmp_path / "names_none", patch_size=16, progress=False, num_workers=0)
    data_dir = labelled_set(tmp_path / "c", [f"Q{n}" for n in range(8)])
    other = labelled(data_dir, tmp_path / "three", pretrain_run=tmp_path / "names_none")
    assert "the pretraining images name none" in other.leakage["message"]


def test_a_folder_that_is_no_pretraining_run_is_an_error(tmp_path, pretraining):
    data_dir = labelled_set(tmp_path / "set", [f"Q{n}" for n in range(8)])
    with pytest.raises(RunFolderError, match=r"pretrain_run holds no manifest\.json"):
        labelled(data_dir, tmp_path / "run", pretrain_run=tmp_path / "set")
    assert not (tmp_path / "run").exists()
    manifest = (pretraining / "manifest.json").read_text()
    (pretraining / "manifest.json").write_text(json.dumps({**json.loads(manifest), "format": 99}))
    with pytest.raises(RunFolderError, match=r"^manifest\.json of pretrain_run is of format 99, "):
        labelled(data_dir, tmp_path / "run", pretrain_run=pretraining)
    (pretraining / "manifest.json").write_text(manifest)
    shutil.rmtree(pretraining / "private")
    with pytest.raises(RunFolderError, match="pretrain_run holds no private/salt"):
        labelled(data_dir, tmp_path / "run", pretrain_run=pretraining)


def test_a_colleagues_private_folder_is_said_to_be_closed_not_missing(tmp_path, pretraining, monkeypatch):
    data_dir = labelled_set(tmp_path / "set", [f"Q{n}" for n in range(8)])
    read = Path.read_text

    def as_another_user(path, *args, **kwargs):  # the superuser, who may run this test, is refused nothing
        if path.is_relative_to(pretraining / "private"):
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", as_another_user)
    with pytest.raises(RunFolderError, match=r"is its owner's alone, .* have its owner let you read it"):
        labelled(data_dir, tmp_path / "run", pretrain_run=pretraining)


def test_masks_are_guarded_too(tmp_path, pretraining):
    for n in range(6):
        write_nifti(tmp_path / "set" / f"{n}.nii", blob((12, 13, 14), seed=n))
        write_nifti(tmp_path / "set" / f"m{n}.nii", (blob((12, 13, 14), seed=n) > 600).astype(np.uint8))
    patients = ["Q0", "Q1", "P0", "Q3", "Q4", "P3"]
    rows = [(f"{n}.nii", f"m{n}.nii", patients[n], SPLITS[n // 2]) for n in range(6)]
    write_csv(tmp_path / "set" / "labels.csv", "path,label,patient,split", *rows)
    arguments = {"num_workers": 0, "progress": False, "report": lambda text: None}
    with pytest.raises(DataError, match=r"^1 of 2 test patients"):
        segmentation_data(tmp_path / "set", tmp_path / "run", pretrain_run=pretraining, **arguments)


def test_duplicates_across_given_splits_are_counted_and_reported(tmp_path):
    data_dir = picture_set(tmp_path / "set", split=lambda n: SPLITS[n // 2 % 3])
    for copy in (4, 10):  # test images of the same label
        shutil.copy(data_dir / "0.png", data_dir / f"{copy}.png")
    data = labelled(data_dir, tmp_path / "run")
    counts = {name: count for name, count in data.leakage.items() if "duplicates" in name}
    assert counts == {
        "duplicates": 2, "duplicates_across_splits": 1, "test_duplicates": 2,
    }  # fmt: skip
    assert "2 test images are known from training or validation" in data.summary


def test_images_that_occur_with_two_labels_are_left_out_and_listed(tmp_path):
    data_dir = picture_set(tmp_path / "set", 16)
    shutil.copy(data_dir / "0.png", data_dir / "5.png")  # labels c0 and c1
    data = labelled(data_dir, tmp_path / "run")
    assert sorted(file_numbers(tmp_path / "run")[one] for one in data.records) == [*range(1, 5), *range(6, 16)]
    assert [one.reason for one in data.excluded] == ["the same image occurs with another label"] * 2
    lines = (tmp_path / "run" / "excluded.jsonl").read_text().splitlines()
    assert {json.loads(line)["id"] for line in lines}.isdisjoint(data.records)
    assert len(lines) == 2
    assert "2  the same image occurs with another label" in data.summary


def test_the_only_patient_that_is_named_is_compared(tmp_path, pretraining):
    data_dir = labelled_set(tmp_path / "set", ["", "", "", "", "P2", "", "", ""])
    with pytest.raises(DataError, match=r"^1 of 2 test patients"):
        labelled(data_dir, tmp_path / "run", pretrain_run=pretraining)


def test_one_name_for_all_that_the_pretraining_knows_among_others_is_a_patient(tmp_path, pretraining):
    data_dir = labelled_set(tmp_path / "set", ["P0"] * 8, dict.fromkeys(range(8), "test"))
    with pytest.raises(DataError, match=r"test patients .* are in the pretraining list"):
        labelled(data_dir, tmp_path / "run", pretrain_run=pretraining, evaluate=True)


def test_an_unnamed_copy_of_a_test_image_joins_the_test(tmp_path):
    data_dir = picture_set(tmp_path / "set", 16, split=lambda n: ("train", "val", "test", "")[n % 4])
    for source, copy in ((2, 3), (1, 7)):
        shutil.copy(data_dir / f"{source}.png", data_dir / f"{copy}.png")
    for row, other in ((3, 0), (7, 1)):  # of the same label as their copies
        text = (data_dir / "labels.csv").read_text().replace(f"\n{row}.png,c1", f"\n{row}.png,c{other}")
        (data_dir / "labels.csv").write_text(text)
    data = labelled(data_dir, tmp_path / "run")
    assert (data.leakage["duplicates"], data.leakage["duplicates_across_splits"]) == (2, 0)
    assert data.counts() == {"training": 6, "validation": 5, "test": 5}


def test_duplicates_do_not_cross_drawn_splits(tmp_path):
    data_dir = picture_set(tmp_path / "set", 24)
    for n in range(12):
        shutil.copy(data_dir / f"{n}.png", data_dir / f"{n + 12}.png")
    for seed in range(2):
        data = labelled(data_dir, tmp_path / f"run{seed}", seed=seed)
        assert data.leakage["duplicates"] == 12
        assert data.leakage["duplicates_across_splits"] == 0
        assert data.test
