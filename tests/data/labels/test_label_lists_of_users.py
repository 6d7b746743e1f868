# SPDX-License-Identifier: Apache-2.0
"""Lists and folders as users have them: other names of columns, folders of other things, sets for the test alone."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from labelled_scans import labelled, picture, picture_set, write_csv, write_pictures
from tiny_scans import blob, write_nifti, write_png

from monai_mixssl.data.labels import read_labels, segmentation_data
from monai_mixssl.errors import ConfigError, DataError


def class_folders(root, *names, count=4):
    for number, name in enumerate(names):
        for n in range(count):
            write_png(root / name / f"{n}.png", picture(number * count + n))
    return root


def test_unlabelled_folders_beside_splits_are_refused(tmp_path):
    names = ("train/a", "train/b", "test/a", "test/b")
    class_folders(tmp_path / "set", *names, "__MACOSX/x", ".cache/x")
    assert read_labels(tmp_path / "set", "classification").classes == ["a", "b"]
    class_folders(tmp_path / "set", "unlabelled")
    with pytest.raises(DataError, match=r"2 of the 3 folders in dataset_dir are named as splits .* and 1 are not"):
        read_labels(tmp_path / "set", "classification")


def test_splits_without_train_are_refused_but_for_an_evaluation(tmp_path):
    class_folders(tmp_path / "set", "val/a", "val/b", "test/a")
    with pytest.raises(DataError, match="none named train"):
        read_labels(tmp_path / "set", "classification")
    rows = read_labels(tmp_path / "set", "classification", evaluate=True).rows
    assert [row.split for row in rows] == ["test"] * 3


@pytest.mark.parametrize("form", ["all test", "npz", "one class", "datalist"])
def test_a_set_for_the_test_alone_is_evaluated(tmp_path, form):
    root = tmp_path / "set"
    if form == "all test":
        picture_set(root, 6, split=lambda n: "test")
    elif form == "npz":
        root.mkdir()
        arrays = {"test_images": np.stack([picture(n) for n in range(6)]), "test_labels": np.arange(6)[:, None] % 2}
        np.savez(root / "x.npz", **arrays)
        root = root / "x.npz"
    elif form == "one class":
        class_folders(root, "c1", count=6)
    else:
        write_pictures(root, 6)
        entries = [{"image": f"{n}.png", "label": f"c{n % 2}"} for n in range(6)]
        (root / "datalist.json").write_text(json.dumps({"training": None, "test": entries}))
    data = labelled(root, tmp_path / "run", evaluate=True)
    assert data.counts() == {"training": 0, "validation": 0, "test": 6}
    with pytest.raises(DataError):
        labelled(root, tmp_path / "other")


def test_an_output_folder_among_classes_is_refused(tmp_path):
    class_folders(tmp_path / "set", "a", "b")
    for output in ("run", "runs/1", "a/run"):
        with pytest.raises(ConfigError, match="output_dir lies within dataset_dir"):
            labelled(tmp_path / "set", tmp_path / "set" / output)


@pytest.mark.parametrize(
    "header", ["Path,Label,Patient ID,Set", "image,class,subject_id,SPLIT", "file,label,Case-ID,set"]
)
def test_columns_are_found_under_their_usual_names(tmp_path, header):
    rows = [(f"{n}.png", "ab"[n % 2], f"p{n // 2}", "test" if n < 2 else "") for n in range(6)]
    write_csv(tmp_path / "labels.csv", header, *rows)
    table = read_labels(tmp_path, "classification")
    assert [(row.patient, row.split) for row in table.rows] == [(row[2], row[3] and "test") for row in rows]
    assert table.notes == []


def test_columns_that_are_not_used_are_said(tmp_path):
    write_pictures(tmp_path, 12)
    rows = [(f"{n}.png", "ab"[n % 2], 40 + n, n) for n in range(12)]
    write_csv(tmp_path / "labels.csv", "path,label,patient_age,dose", *rows)
    said = []
    data = labelled(tmp_path, tmp_path / "run", report=said.append)
    assert said[-2] == "Columns of the list of labels that are not used: 'patient_age', 'dose'."
    assert "dose" not in data.summary


def test_columns_of_row_numbers_are_no_classes(tmp_path):
    rows = [(n, f"{n}.png", n % 2, 1) for n in range(4)]
    write_csv(tmp_path / "a" / "labels.csv", ",path,x,y", *rows)
    write_csv(tmp_path / "b" / "labels.csv", "Unnamed: 0,path,x,y", *rows)
    for name in "ab":
        table = read_labels(tmp_path / name, "classification")
        assert table.classes == ["x", "y"]
        assert "its columns x, y are taken as classes" in table.notes[0]


def test_an_empty_cell_is_no_label_where_several_may_hold(tmp_path):
    rows = [("0.png", "a;b"), ("1.png", ""), ("2.png", ";"), ("3.png", "b")]
    write_csv(tmp_path / "labels.csv", "path,label", *rows)
    table = read_labels(tmp_path, "classification")
    assert [row.labels for row in table.rows] == [(0, 1), (), (1,)]
    assert [(path.name, reason) for path, reason in table.problems] == [("1.png", "no label in the list")]


def test_a_bar_is_part_of_a_name(tmp_path):
    write_csv(tmp_path / "labels.csv", "path,label", ("0.png", "grade 1|2"), ("1.png", "grade 3"))
    table = read_labels(tmp_path, "classification")
    assert (table.classes, table.multi_label) == (["grade 1|2", "grade 3"], False)
    assert "separated by ; alone" in table.notes[0]


def test_numbers_as_text_are_class_numbers(tmp_path):
    entries = [{"image": "a.png", "label": "1"}, {"image": "b.png", "label": "no"}, {"image": "c.png", "label": 0}]
    content = {"labels": {"0": "no", "1": "yes"}, "training": entries}
    (tmp_path / "l.json").write_text(json.dumps(content))
    table = read_labels(tmp_path / "l.json", "classification")
    assert table.classes == ["no", "yes"]
    assert [row.labels for row in table.rows] == [(1,), (0,), (0,)]


@pytest.mark.parametrize("name", ["x" * 5000 + ".png", "~nobody_of_this_name/x.png"])
def test_paths_that_cannot_be_are_labels_without_an_image(tmp_path, name):
    picture_set(tmp_path / "set")
    with open(tmp_path / "set" / "labels.csv", "a") as file:
        file.write(f"{name},c0\n")
    data = labelled(tmp_path / "set", tmp_path / "run")
    assert [one.reason for one in data.excluded] == ["label without an image: there is no such file"]


def test_a_single_array_is_no_npz_file(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8)))
    shutil.move(tmp_path / "x.npy", tmp_path / "x.npz")
    with pytest.raises(DataError, match="a single array"):
        read_labels(tmp_path / "x.npz", "classification")


def test_fewer_labels_than_asked_for_are_said_and_recorded(tmp_path):
    data_dir = picture_set(tmp_path / "set", 20)
    data = labelled(data_dir, tmp_path / "run", labels_per_class=500, val_fraction=0.1, test_fraction=0.2)
    assert "Class 'c0' has only 7 of the 500 asked for in training." in data.summary
    assert data.summary == json.loads((tmp_path / "run" / "manifest.json").read_text())["summary"]
    assert "asked for" not in labelled(data_dir, tmp_path / "few", labels_per_class=3).summary


def test_a_mask_whose_path_cannot_be_is_left_out(tmp_path):
    rows = [(f"{n}.nii", f"m{n}.nii") for n in range(4)] + [("4.nii", "x" * 5000 + ".nii")]
    for n in range(5):
        array = blob((12, 13, 14), seed=n)
        write_nifti(tmp_path / "set" / f"{n}.nii", array)
        write_nifti(tmp_path / "set" / f"m{n}.nii", (array > 500).astype(np.uint8))
    write_csv(tmp_path / "set" / "labels.csv", "path,label", *rows)
    data = segmentation_data(
        tmp_path / "set", tmp_path / "run", num_workers=0, progress=False, report=lambda text: None
    )
    assert len(data.records) == 4
    assert [one.reason for one in data.excluded] == ["mask cannot be used: the file does not exist"]


def test_a_column_case_may_be_a_class(tmp_path):
    write_csv(tmp_path / "labels.csv", "path,case,control", ("0.png", 1, 0), ("1.png", 0, 1))
    assert read_labels(tmp_path, "classification").classes == ["case", "control"]
