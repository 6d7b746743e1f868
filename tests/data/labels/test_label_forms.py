# SPDX-License-Identifier: Apache-2.0
"""The forms that labels come in: what each gives, and what is said of mistakes in them."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from labelled_scans import file_numbers, labelled, picture, picture_set, write_csv, write_pictures
from tiny_scans import blob, write_nifti, write_png

from monai_mixssl.data.labels import read_labels
from monai_mixssl.errors import ConfigError, DataError


def folders(folder):
    for n in range(12):
        write_png(folder / f"c{n % 2}" / "deeper" / f"{n}.png", picture(n))
    return folder


def datalist(folder):
    write_pictures(folder, 12)
    entries = [{"image": f"{n}.png", "label": f"c{n % 2}"} for n in range(12)]
    (folder / "dataset.json").write_text(json.dumps({"training": entries}))
    return folder


def numbered_datalist(folder):
    write_pictures(folder, 12)
    entries = [{"image": f"{n}.png", "label": n % 2} for n in range(12)]
    (folder / "list.json").write_text(json.dumps({"labels": {"0": "c0", "1": "c1"}, "training": entries}))
    return folder / "list.json"


def elsewhere(folder):
    picture_set(folder / "set")
    rows = [(str(folder / "set" / f"{n}.png"), f"c{n % 2}") for n in range(12)]
    return write_csv(folder / "lists" / "my.csv", "Image;Class", *(";".join(row) for row in rows))


@pytest.mark.parametrize("form", [picture_set, folders, datalist, numbered_datalist, elsewhere])
def test_every_form_gives_the_same_images_and_labels(form, tmp_path):
    data = labelled(form(tmp_path / "set"), tmp_path / "run")
    assert data.classes == ["c0", "c1"]
    assert not data.multi_label
    items = data.train + data.validation + data.test
    numbers = file_numbers(tmp_path / "run")
    assert {numbers[item["id"]]: item["label"] for item in items} == {n: n % 2 for n in range(12)}
    assert len(items) == 12
    assert data.excluded == []


def test_folders_may_be_split_already(tmp_path):
    for number, name in enumerate(["train/b", "train/a", "val/a", "test/b", "train/b", "val/b"]):
        write_png(tmp_path / "set" / name / "x" / f"{number}.png", picture(number))
    data = labelled(tmp_path / "set", tmp_path / "run")
    numbers = file_numbers(tmp_path / "run")
    for items, wanted in ((data.train, {0: 1, 1: 0, 4: 1}), (data.validation, {2: 0, 5: 1}), (data.test, {3: 1})):
        assert {numbers[item["id"]]: item["label"] for item in items} == wanted
    assert data.split_by == "given, file"


@pytest.mark.parametrize(
    ("header", "cells"),
    [("path,label", ["a;b", "b", ";", "a; c"]), ("path,a,b,c", [(1, 1, 0), (0, 1, ""), (0, 0, 0), ("1.0", 0, 1)])],
)
def test_several_labels_of_an_image(tmp_path, header, cells):
    write_pictures(tmp_path / "set", 12)
    rows = [(f"{n}.png", *(cells[n % 4] if isinstance(cells[n % 4], tuple) else [cells[n % 4]])) for n in range(12)]
    write_csv(tmp_path / "set" / "labels.csv", header, *rows)
    data = labelled(tmp_path / "set", tmp_path / "run", val_fraction=0.25, test_fraction=0)
    assert data.classes == ["a", "b", "c"]
    assert data.multi_label
    numbers = file_numbers(tmp_path / "run")
    wanted = [[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]
    for item in data.train + data.validation:
        assert item["label"] == wanted[numbers[item["id"]] % 4]


def test_several_labels_in_a_datalist(tmp_path):
    write_pictures(tmp_path, 8)
    entries = [{"image": f"{n}.png", "label": [n % 2, 1]} for n in range(8)]
    (tmp_path / "list.json").write_text(json.dumps(entries))
    table = read_labels(tmp_path / "list.json", "classification")
    assert [row.labels for row in table.rows] == [(1,), (0, 1)] * 4
    assert table.multi_label


def test_whole_numbers_are_ordered_as_numbers(tmp_path):
    write_csv(tmp_path / "labels.csv", "path,label", ("a.png", 10), ("b.png", 9), ("c.png", 2))
    assert read_labels(tmp_path, "classification").classes == ["2", "9", "10"]


@pytest.mark.parametrize("kind", ["grey", "16 bits", "colour", "volumes"])
def test_an_npz_file_gives_its_arrays_and_splits(tmp_path, kind):
    shapes = {"grey": (20, 24), "16 bits": (20, 24), "colour": (20, 24, 3), "volumes": (18, 20, 22)}
    random = np.random.RandomState(0)
    arrays, counts = {"classes": np.array(["no", "yes"])}, {"train": 6, "val": 2, "test": 4}
    for name, count in counts.items():
        arrays[f"{name}_images"] = random.randint(1, 256, (count, *shapes[kind])).astype(np.uint8)
        if kind == "16 bits":
            arrays[f"{name}_images"] = arrays[f"{name}_images"].astype(np.uint16) * 200
        arrays[f"{name}_labels"] = np.arange(count)[:, None] % 2
    np.savez(tmp_path / "set.npz", **arrays)
    preparation = {"patch_size": 16, "in_channels": 3 if kind == "colour" else 1}
    preparation |= {"spatial_dims": 3} if kind == "volumes" else {}
    data = labelled(tmp_path / "set.npz", tmp_path / "run", preparation=preparation)
    assert data.classes == ["no", "yes"]
    for name, items in {"train": data.train, "val": data.validation, "test": data.test}.items():
        assert [item["label"] for item in items] == [n % 2 for n in range(counts[name])]
        for item, array in zip(items, arrays[f"{name}_images"], strict=True):
            prepared = np.load(data.folder / f"{item['id']}.npy")
            low, high = np.percentile(array, (0.5, 99.5))
            expected = ((array - low) / (high - low)).clip(0, 1)
            if kind == "volumes":
                assert np.allclose(prepared[0], expected, atol=1e-3)
            else:
                expected = expected.transpose(2, 0, 1) if kind == "colour" else expected[None]
                assert np.allclose(prepared[0], expected, atol=1e-3)


def test_an_npz_file_of_several_labels_without_a_test(tmp_path):
    images = np.stack([picture(n) for n in range(12)])
    labels = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0]] * 4)
    np.savez(tmp_path / "set.npz", train_images=images[:9], train_labels=labels[:9], val_images=images[9:],
             val_labels=labels[9:])  # fmt: skip
    data = labelled(tmp_path / "set.npz", tmp_path / "run", test_fraction=0.3)
    numbers = file_numbers(tmp_path / "run")
    assert sorted(numbers[item["id"]] for item in data.validation) == [9, 10, 11]
    assert 1 <= len(data.test) <= 4
    for item in data.train + data.validation + data.test:
        assert item["label"] == labels[numbers[item["id"]]].tolist()


def decathlon(folder, names=("a", "b", "c", "d"), appended=""):
    for number, name in enumerate(names):
        array = blob((12, 13, 14), seed=number)
        write_nifti(folder / "imagesTr" / f"{name}{appended}.nii.gz", array)
        write_nifti(folder / "labelsTr" / f"{name}.nii.gz", (array > 600).astype(np.uint8) + (array > 800))
    return folder


@pytest.mark.parametrize("appended", ["", "_0000"])
def test_decathlon_folders_pair_images_and_masks_by_name(tmp_path, appended):
    decathlon(tmp_path, appended=appended)
    (tmp_path / "imagesTr" / "._a.nii.gz").write_bytes(b"x")  # what macOS leaves
    write_nifti(tmp_path / "imagesTs" / "z.nii.gz", blob((12, 13, 14)))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "shell", "2": "core"}}))
    table = read_labels(tmp_path, "segmentation")
    for row in table.rows:
        assert nib.load(row.mask).shape == nib.load(row.path).shape
        assert row.mask.name == row.path.name.replace("_0000", "")
    assert len(table.rows) == 4
    assert [reason for _, reason in table.problems] == ["image without a mask"]
    assert table.classes == ["background", "shell", "core"]
    assert table.values == [0, 1, 2]


@pytest.mark.parametrize("labels", [{"0": "background", "3": "x"}, {"x": 3, "background": 0}])
def test_a_datalist_of_masks_may_name_its_values(tmp_path, labels):
    entries = [{"image": "a.nii", "label": "b.nii"}]
    (tmp_path / "l.json").write_text(json.dumps({"labels": labels, "training": entries, "validation": entries[:0]}))
    table = read_labels(tmp_path / "l.json", "segmentation")
    assert (table.classes, table.values) == (["background", "x"], [0, 3])
    assert table.rows[0].mask == tmp_path / "b.nii"


BAD_LISTS = {
    "name,label\na.png,x\n": "no column path",
    "path,score\na.png,63\n": "no column label, and its column 'score' holds something other than 0 and 1",
    "path,Sex\na.png,1\n": "no column label, so .* and 'Sex' hardly is one",
    "path,label,Patient No\na.png,x,1\n": "no column patient, but a column 'Patient No'",
    "path,label,data-split\na.png,x,1\n": "no column split, but a column 'data-split'",
    "path,patient\na.png,p\n": "no column label, and no column for each class",
    "path,label\n": "is empty",
    "path,label\na.png,x,y\n": "1 lines of the CSV of labels have another number of cells",
    "path,label\na.png,x\na.png,y\n": "names 1 files again",
    "path,label,split\na.png,x,held out\n": "a split other than training, validation and test",
    "path,path,label\na.png,a,x\n": "two columns of one name",
}


@pytest.mark.parametrize("text", BAD_LISTS)
def test_a_mistake_in_a_csv_file_is_one_sentence(tmp_path, text):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=BAD_LISTS[text]) as error:
        read_labels(tmp_path, "classification")
    assert "a.png" not in str(error.value)
    assert "\n" not in str(error.value)


BAD_DATALISTS = {
    "{": "cannot be read",
    "{}": "must be a list, or hold lists",
    '[{"label": 1}]': 'no path under "image"',
    '[{"image": "a.png", "label": {"x": 1}}]': "neither a class name nor a class number",
    '[{"image": "a.png", "label": [0, 1]}, {"image": "b.png", "label": [1]}]': "lists of different lengths",
    '{"labels": {"0": "no"}, "training": [{"image": "a", "label": 7}]}': "label '7', which is not among its",
    '[{"image": "a.png", "label": 1}, {"image": "a.png", "label": 0}]': "names 1 images again",
    '[{"image": "a.png", "label": [[0], [1]]}]': "neither a class name nor a class number",
    '[{"image": "a.png", "label": [{"x": 1}]}]': "neither a class name nor a class number",
    '{"training": [{"image": "a", "label": 1}], "test": 5}': "must be a list, or hold lists",
    "[" * 200_000: "cannot be read",
    '[{"image": "a\\ud800.png", "label": 1}]': "without its other half",
    '[{"image": "a.png", "label": "\\udfff"}]': "without its other half",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD_DATALISTS)
def test_a_mistake_in_a_datalist_is_one_sentence(tmp_path, text):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(DataError, match=BAD_DATALISTS[text]):
        read_labels(tmp_path / "list.json", "classification")


IMAGES = np.zeros((2, 8, 8), np.uint8)
BAD_ARRAYS = [
    ({"images": IMAGES}, "no array train_images"),
    ({"train_images": IMAGES}, "no array train_labels"),
    ({"train_images": IMAGES, "train_labels": np.zeros((3, 1))}, "do not fit each other"),
    ({"train_images": np.zeros((2, 8, 8, 3), "f4"), "train_labels": np.zeros((2, 1))}, "colours must be uint8"),
    ({"train_images": np.zeros((2, 8, 8, 4), "u1"), "train_labels": np.zeros((2, 1))}, "leave the opacity out"),
    ({"train_images": np.zeros((2, 8, 8, 8, 3), "u1"), "train_labels": np.zeros((2, 1))}, "3 channels beside three"),
    ({"train_images": IMAGES.astype(complex), "train_labels": np.zeros((2, 1))}, "are complex128; save them as"),
    ({"train_images": IMAGES.astype(str), "train_labels": np.zeros((2, 1))}, "are <U.*; save them as"),
    ({"train_images": IMAGES, "train_labels": np.full((2, 1), 0.5)}, "not all class numbers"),
    ({"train_images": IMAGES, "train_labels": np.full((2, 1), np.inf)}, "not all class numbers"),
    ({"train_images": IMAGES, "train_labels": np.array(["cat", "dog"])}, "are texts"),
    ({"train_images": IMAGES, "train_labels": np.full((2, 3), 2)}, "something other than 0 and 1"),
    ({"train_images": IMAGES, "train_labels": np.array([[0], [5]]), "classes": np.array(["a", "b"])}, "label .* is 5"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD_ARRAYS)
def test_a_mistake_in_an_npz_file_is_one_sentence(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / "x.npz", "classification")


def test_a_damaged_npz_file_is_one_sentence(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(DataError, match=r"npz file cannot be read"):
        read_labels(tmp_path / "x.npz", "classification")


def test_an_npz_file_of_objects_is_not_unpickled(tmp_path):
    np.savez(tmp_path / "x.npz", train_images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"npz file cannot be read"):
        read_labels(tmp_path / "x.npz", "classification")


def test_what_holds_no_labels_is_said_to(tmp_path, tmp_path_factory):
    with pytest.raises(DataError, match="no such file or folder"):
        read_labels(tmp_path / "nowhere", "classification")
    with pytest.raises(ConfigError, match="task is 'detection'"):
        read_labels(tmp_path, "detection")
    write_pictures(tmp_path / "one", 2)
    with pytest.raises(DataError, match="holds 1 folders"):
        read_labels(tmp_path, "classification")
    (tmp_path / "two").mkdir()
    with pytest.raises(DataError, match="class 'two' is empty"):
        read_labels(tmp_path, "classification")
    with pytest.raises(DataError, match="neither imagesTr"):
        read_labels(tmp_path, "segmentation")
    with pytest.raises(DataError, match=r"no CSV, datalist JSON or \.npz file"):
        read_labels(tmp_path / "one" / "0.png", "classification")
    with pytest.raises(DataError, match="labels for segmentation"):
        read_labels(decathlon(tmp_path / "masks"), "classification")
    (tmp_path / "two" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="class 'two' holds no usable image"):
        labelled(tmp_path, tmp_path_factory.mktemp("run"))
