# SPDX-License-Identifier: Apache-2.0
"""Labelled images for classification: prepared as in pretraining, counted, resumed, taken over, and kept private."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from labelled_scans import PREPARATION, file_numbers, labelled, picture_set, write_csv, write_pictures
from tiny_scans import blob, write_nifti, write_png, write_series

from monai_mixssl.data.labels import classification_data, load_labelled
from monai_mixssl.data.prepared_data import prepare_data
from monai_mixssl.data.prepared_transforms import LoadPreparedd
from monai_mixssl.errors import ConfigError, DataError, RunFolderError


def reasons(data):
    return sorted(one.reason for one in data.excluded)


def volumes(folder):
    """Four DICOM series and four NIfTI volumes of eight slices, a patient each; labels a and b."""
    rows = []
    for n in range(8):
        array = blob((8, 18, 20), seed=n)
        if n % 2:
            write_nifti(folder / "nifti" / f"{n}.nii.gz", array.transpose(2, 1, 0))
        else:
            write_series(folder / f"{n}", array, PatientID=f"p{n}", SeriesInstanceUID=f"1.2.{n}")
        rows.append((f"nifti/{n}.nii.gz" if n % 2 else f"{n}", "ab"[n // 2 % 2], f"p{n}"))
    write_csv(folder / "labels.csv", "path,label,patient", *rows)
    return folder


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_images_are_prepared_as_in_pretraining(tmp_path, spatial_dims):
    volumes(tmp_path / "set")
    preparation = {"patch_size": 8, "spatial_dims": spatial_dims, "spacing": 1.5}
    before = prepare_data(tmp_path / "set", tmp_path / "before", progress=False, num_workers=0, **preparation)
    data = labelled(tmp_path / "set", tmp_path / "run", preparation=preparation)
    arrays = [
        sorted(np.load(one.folder / f"{image_id}.npy").tobytes() for image_id in one.records) for one in (before, data)
    ]
    assert arrays[0] == arrays[1]
    assert data.settings == before.settings


def test_every_slice_bears_the_label_of_its_volume(tmp_path):
    data = labelled(volumes(tmp_path / "set"), tmp_path / "run", preparation={"patch_size": 8})
    assert data.split_by == "patient"
    items = data.train + data.validation + data.test
    assert len(items) == sum(record["shape"][0] for record in data.records.values()) > 40
    for item in items:
        assert item["label"] == data.records[item["id"]]["label"]
        image = LoadPreparedd("image", data.folder)(item)["image"]
        assert all(size <= most for size, most in zip(image.shape[1:], data.largest, strict=True))
    assert len({record["group"] for record in data.records.values()}) == 8


def test_a_patient_of_the_list_and_of_the_header_is_the_same(tmp_path):
    write_series(tmp_path / "set" / "dicom", blob((8, 18, 20)), PatientID="p0", SeriesInstanceUID="1.2.9")
    write_nifti(tmp_path / "set" / "n.nii", blob((20, 18, 8), seed=1))
    write_pictures(tmp_path / "set", 6)
    rows = [("dicom", "a", ""), ("n.nii", "b", " p0 "), *((f"{n}.png", "ab"[n % 2], f"q{n}") for n in range(6))]
    write_csv(tmp_path / "set" / "labels.csv", "path,label,patient", *rows)
    data = labelled(tmp_path / "set", tmp_path / "run", preparation={"patch_size": 8})
    groups = {record["kind"]: record["group"] for record in data.records.values()}
    assert groups["dicom"] == groups["nifti"]


def test_images_without_labels_and_labels_without_images_are_counted(tmp_path):
    picture_set(tmp_path / "set")
    write_png(tmp_path / "set" / "more.png", blob((20, 24), seed=77, top=250))
    (tmp_path / "set" / "notes.txt").write_text("x")
    with open(tmp_path / "set" / "labels.csv", "a") as file:
        file.write("gone.png,c0\n,c1\n0_unlabelled.png,\n")
    said = []
    data = labelled(tmp_path / "set", tmp_path / "run", report=said.append)
    assert len(data.records) == 12
    assert reasons(data) == [
        "image without a label", "label without an image: there is no such file", "line of the list without a path",
        "no label in the list", "not a DICOM, NIfTI, NRRD, MetaImage, PNG or JPEG file",
    ]  # fmt: skip
    assert "1  label without an image: there is no such file" in said[-1]
    lines = [json.loads(line) for line in (tmp_path / "run" / "excluded.jsonl").read_text().splitlines()]
    assert sorted(line["reason"] for line in lines) == reasons(data)
    table = (tmp_path / "run" / "private" / "files.csv").read_text()
    assert all(line["id"] in table for line in lines)


def test_a_list_of_files_that_are_all_missing_is_an_error(tmp_path):
    write_csv(tmp_path / "labels.csv", "path,label", ("x.png", "a"), ("y.png", "b"))
    with pytest.raises(DataError, match=r"None of the 2 files .* exists"):
        labelled(tmp_path / "labels.csv", tmp_path / "run")


def test_slices_of_one_volume_with_different_labels_are_left_out(tmp_path):
    picture_set(tmp_path / "set")
    files = write_series(tmp_path / "set" / "series", blob((8, 18, 20)))
    with open(tmp_path / "set" / "labels.csv", "a") as file:
        file.writelines(f"series/{one.name},c{n % 2}\n" for n, one in enumerate(files))
    data = labelled(tmp_path / "set", tmp_path / "run")
    assert reasons(data) == ["volume whose files have different labels"]


def test_a_class_without_a_training_image_is_an_error(tmp_path):
    data_dir = picture_set(tmp_path / "set", classes=3, split=lambda n: "test" if n % 3 == 2 else "train")
    with pytest.raises(DataError, match=r"1 of 3 classes \(such as 'c2'\) have no image in training"):
        labelled(data_dir, tmp_path / "run")
    with pytest.raises(DataError, match="name 1 classes"):
        labelled(picture_set(tmp_path / "one", classes=1), tmp_path / "run")


def test_the_label_subset_thins_training_alone(tmp_path):
    data_dir = picture_set(tmp_path / "set", 40)
    whole, few, more = (
        labelled(data_dir, tmp_path / f"{n}", labels_per_class=n, label_seed=5) for n in (None, 2, 6)
    )  # fmt: skip
    numbers = [
        {split: [file_numbers(tmp_path / f"{n}")[item["id"]] for item in getattr(data, split)] for split in
         ("train", "validation", "test")}
        for n, data in ((None, whole), (2, few), (6, more))
    ]  # fmt: skip
    for split in ("validation", "test"):
        assert numbers[0][split] == numbers[1][split] == numbers[2][split]
    assert set(numbers[1]["train"]) < set(numbers[2]["train"]) < set(numbers[0]["train"])
    assert sorted(n % 2 for n in numbers[1]["train"]) == [0, 0, 1, 1]
    assert few.counts() == {"training": 4, "validation": 4, "test": 8}
    assert "24 further training images are outside the label subset" in few.summary


def test_the_result_does_not_depend_on_the_number_of_workers(tmp_path):
    picture_set(tmp_path / "set")
    runs = [labelled(tmp_path / "set", tmp_path / f"run{n}", num_workers=n, labels_per_class=2) for n in (0, 2)]
    numbers = [file_numbers(tmp_path / f"run{n}") for n in (0, 2)]
    for split in ("train", "validation", "test"):
        first, second = ([(own[item["id"]], item["label"]) for item in getattr(run, split)]
                         for own, run in zip(numbers, runs, strict=True))  # fmt: skip
        assert first == second
        assert first


def test_a_run_is_read_back_and_resumed_as_it_was(tmp_path):
    picture_set(tmp_path / "set")
    before = labelled(tmp_path / "set", tmp_path / "run", label_fraction=0.5)
    assert load_labelled(tmp_path / "run") == before
    write_png(tmp_path / "set" / "0.png", blob((20, 24), top=250))
    (tmp_path / "set" / "labels.csv").unlink()
    after = labelled(tmp_path / "set", tmp_path / "run", label_fraction=0.5, resume=True)
    assert after == before
    assert after.data_hash == before.data_hash
    assert after.train == before.train
    with pytest.raises(RunFolderError, match="begun with another label_fraction, label_seed;"):
        labelled(tmp_path / "set", tmp_path / "run", label_fraction=0.2, label_seed=1, resume=True)
    with pytest.raises(RunFolderError, match="prepared with another patch_size;"):
        labelled(tmp_path / "set", tmp_path / "run", label_fraction=0.5, preparation={"patch_size": 8}, resume=True)


def test_a_manifest_of_another_format_is_refused(tmp_path):
    labelled(picture_set(tmp_path / "set"), tmp_path / "run")
    file = tmp_path / "run" / "manifest.json"
    for found, shown in ((2, "2"), ("1", "another kind"), (None, "another kind")):
        file.write_text(json.dumps({**json.loads(file.read_text()), "format": found}))
        with pytest.raises(RunFolderError, match=f"^manifest.json is of format {shown}, and this version .* reads 1; "):
            load_labelled(tmp_path / "run")


def test_a_manifest_that_was_changed_is_refused(tmp_path):
    labelled(picture_set(tmp_path / "set"), tmp_path / "run")
    file = tmp_path / "run" / "manifest.json"
    file.write_text(file.read_text().replace('"split": "test"', '"split": "training"'))
    with pytest.raises(RunFolderError, match="was changed after it was written"):
        load_labelled(tmp_path / "run")


def test_deleted_arrays_are_made_again_on_resume(tmp_path):
    picture_set(tmp_path / "set")
    before = labelled(tmp_path / "set", tmp_path / "run")
    arrays = {one: np.load(before.folder / f"{one}.npy") for one in before.records}
    shutil.rmtree(before.folder)
    assert labelled(tmp_path / "set", tmp_path / "run", resume=True) == before
    assert all(np.array_equal(np.load(before.folder / f"{one}.npy"), array) for one, array in arrays.items())


def test_a_resume_goes_on_without_some_training_images_but_not_with_fewer_held_out(tmp_path, caplog):
    picture_set(tmp_path / "set")
    before = labelled(tmp_path / "set", tmp_path / "run")
    files = {one["id"]: one["parts"][0][0] for one in json.loads((tmp_path / "run/private/index.json").read_text())}
    held_out, train = before.test[0]["id"], before.train[0]["id"]
    kept = Path(files[held_out]).read_bytes()
    for one in (held_out, train):
        (before.folder / f"{one}.npy").unlink()
        Path(files[one]).unlink()
    with pytest.raises(RunFolderError, match="prepared images of this run are gone and cannot be made again"):
        labelled(tmp_path / "set", tmp_path / "run", resume=True)
    Path(files[held_out]).write_bytes(kept)
    (before.folder / f"{train}.npy").write_bytes(b"damaged")
    (before.folder / f"{held_out}.npy").unlink(missing_ok=True)
    assert labelled(tmp_path / "set", tmp_path / "run", resume=True, max_bad_share=0.9) == before
    assert f"1 prepared images are gone and cannot be made again (such as {train})" in caplog.text
    assert (before.folder / f"{held_out}.npy").exists()


def test_another_run_lends_images_ids_and_splits(tmp_path, monkeypatch):
    picture_set(tmp_path / "set", 40)
    first = labelled(tmp_path / "set", tmp_path / "first", seed=3, labels_per_class=6)
    monkeypatch.setattr("monai_mixssl.data.prepare.read_image", lambda *_: pytest.fail("read again"))
    second = labelled(tmp_path / "set", tmp_path / "second", data_from=tmp_path / "first", labels_per_class=3, seed=9)
    third = labelled(tmp_path / "set", tmp_path / "third", data_from=tmp_path / "second", labels_per_class=6, seed=3)
    assert first.folder == second.folder == third.folder
    assert first.test == second.test
    assert first.validation == second.validation
    assert third.records == first.records
    assert third.data_hash == first.data_hash != second.data_hash
    assert second.counts()["training"] == 6
    assert load_labelled(tmp_path / "third") == third
    assert not list((tmp_path / "third" / "private" / "prepared").iterdir())
    with pytest.raises(RunFolderError, match="prepared its images with other settings"):
        labelled(tmp_path / "set", tmp_path / "x", data_from=tmp_path / "first", preparation={"patch_size": 8})
    picture_set(tmp_path / "other", classes=3)
    with pytest.raises(RunFolderError, match="has other classes"):
        labelled(tmp_path / "other", tmp_path / "x", data_from=tmp_path / "first")
    with pytest.raises(RunFolderError, match=r"no manifest\.json of labelled data"):
        labelled(tmp_path / "set", tmp_path / "x", data_from=tmp_path / "set")


def test_an_output_folder_within_the_data_is_not_scanned(tmp_path):
    picture_set(tmp_path / "set")
    before = labelled(tmp_path / "set", tmp_path / "set" / "run")
    write_png(tmp_path / "set" / "run" / "pictures" / "x.png", blob((20, 24), top=250))
    assert labelled(tmp_path / "set", tmp_path / "set" / "run").excluded == before.excluded == []


def test_settings_that_cannot_be_are_named(tmp_path):
    picture_set(tmp_path / "set")
    for bad, name in (
        ({"preparation": {"patch": 3}}, "preparation is"),
        ({"preparation": {"patch_size": 0}}, "patch_size is"),
        ({"test_fraction": 1.0}, "test_fraction is"),
        ({"labels_per_class": 0}, "labels_per_class is"),
        ({"labels_per_class": 3, "label_fraction": 0.3}, "both given"),
    ):
        with pytest.raises(ConfigError, match=name):
            labelled(tmp_path / "set", tmp_path / "run", **bad)
    assert not (tmp_path / "run").exists()


def test_nothing_that_identifies_leaves_private(tmp_path, capfd):
    word = "SENTINEL"
    folder = tmp_path / "set" / f"{word}^folder"
    rows = []
    for n in range(10):
        write_series(folder / f"{n}", blob((4, 18, 20), seed=n), PatientID=f"{word}-{n}", PatientName=f"{word}^X",
                     SeriesInstanceUID=f"1.2.987654321.{n}")  # fmt: skip
        rows.append((f"{folder.name}/{n}", "ab"[n % 2], f"{word}-csv-{n}"))
    rows.append((f"{word}-gone.png", "a", f"{word}-11"))
    write_csv(tmp_path / "set" / "labels.csv", "path,label,patient", *rows)
    prepare_data(tmp_path / "set", tmp_path / "pretraining", patch_size=16, progress=False, num_workers=0)
    said, errors = [], []
    try:
        classification_data(tmp_path / "set", tmp_path / "x", preparation=PREPARATION, num_workers=0,
                            pretrain_run=tmp_path / "pretraining", report=said.append)  # fmt: skip
    except DataError as error:
        errors.append(str(error))
    assert "test patients" in errors[0]
    classification_data(tmp_path / "set", tmp_path / "run", preparation=PREPARATION, num_workers=2, report=said.append)
    output = capfd.readouterr()
    public = [path for run in ("run", "x") for path in Path(tmp_path / run).rglob("*")
              if path.is_file() and "private" not in path.parts]  # fmt: skip
    assert {path.name for path in public} == {"manifest.json", "excluded.jsonl"}
    texts = [*said, *errors, output.out, output.err, *(path.read_text() for path in public)]
    for name in (word, "987654321"):
        assert not [text for text in texts if name in text]
    for path in (tmp_path / "run" / "private").rglob("*"):
        if path.is_file():  # names stand in no file, paths in some
            assert f"{word}-csv".encode() not in path.read_bytes()
            assert b"987654321" not in path.read_bytes()
