# SPDX-License-Identifier: Apache-2.0
"""A pretraining run that is probed with labelled images."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from bundle_runs import BUNDLE, SMALL, run

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.handlers import read_log

PROBED = {"max_epochs": 2, "probe_interval": 1}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """24 patients of 4 slices, half of them with lesions, with labels.csv."""
    return write_phantoms(tmp_path_factory.mktemp("labelled"), seed=7, patients=24, image_size=32, slices=4)


@pytest.fixture(scope="module")
def probed(labelled, tmp_path_factory) -> Path:
    """A run on the NIfTI half of the labelled patients, probed with all of them."""
    folder = tmp_path_factory.mktemp("runs") / "probed"
    assert run(dataset_dir=labelled / "nifti", probe_dir=labelled, output_dir=folder, **PROBED) == 0
    return folder


def probe_lines(folder: Path) -> list[dict]:
    return [line for line in read_log(folder / "log.jsonl") if line["event"] == "probe"]


def without_times(lines: list[dict]) -> list[dict]:
    return [{name: value for name, value in line.items() if "seconds" not in name} for line in lines]


def test_the_encoder_is_the_same_as_without_a_probe(labelled, probed, tmp_path):
    assert run(dataset_dir=labelled / "nifti", output_dir=tmp_path / "run", **PROBED) == 0
    one, other = (safetensors.torch.load_file(f / "encoder.safetensors") for f in (probed, tmp_path / "run"))
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert probe_lines(tmp_path / "run") == []


def test_scores_are_logged_from_before_training_on(probed):
    lines = probe_lines(probed)
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert all(0 <= line[f"probe_{kind}_accuracy"] <= 1 for line in lines for kind in ("linear", "knn"))
    assert list((probed / "tensorboard").iterdir())


def test_several_labels_of_an_image_are_probed_too(labelled, tmp_path):
    with open(labelled / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    table = tmp_path / "several.csv"
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "patient", "lesion", "odd"])
        for number, row in enumerate(rows):
            ill = int(row["label"] != rows[0]["label"])
            writer.writerow([labelled / row["path"], row.get("patient") or number, ill, number % 2])
    keys = {"dataset_dir": labelled / "nifti", "probe_dir": table, "max_epochs": 1, "probe_interval": 1}
    assert run(output_dir=tmp_path / "run", **keys) == 0
    lines = probe_lines(tmp_path / "run")
    assert [line["epoch"] for line in lines] == [0, 1]
    assert all(0 <= line[f"probe_{kind}_accuracy"] <= 1 for line in lines for kind in ("linear", "knn"))


def test_a_killed_run_resumes_exactly(labelled, probed, tmp_path):
    keys = {"dataset_dir": labelled / "nifti", "probe_dir": labelled, "output_dir": tmp_path / "run", **PROBED}
    assert run(kill=("training", 7), **keys) == -9
    assert run(resume=True, **keys) == 0
    one, other = (safetensors.torch.load_file(f / "encoder.safetensors") for f in (probed, tmp_path / "run"))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert without_times(probe_lines(tmp_path / "run")) == without_times(probe_lines(probed))


def test_of_two_processes_the_first_probes_and_the_other_waits(command, labelled, tmp_path):
    given = {
        **SMALL,
        **PROBED,
        "dataset_dir": labelled / "nifti",
        "probe_dir": labelled,
        "output_dir": tmp_path / "run",
    }
    overrides = [part for key, value in {**given, "batch_size": 2}.items() for part in (f"--{key}", str(value))]
    ended = command(
        *("monai.bundle", "run", "pretrain", "--config_file"),
        *("['configs/train.json','configs/multi_gpu_train.json']", *overrides),
        cwd=BUNDLE,
        env={"CUDA_VISIBLE_DEVICES": ""},
        processes=2,
    )
    assert ended.status == 0, ended.err
    assert [line["epoch"] for line in probe_lines(tmp_path / "run")] == [0, 1, 2]


def test_says_how_many_of_its_images_are_pretrained_on(labelled, probed, command, tmp_path):
    keys = {**SMALL, **PROBED, "max_epochs": 1, "dataset_dir": str(labelled / "nifti"), "probe_dir": str(labelled)}
    given = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    ended = command(
        *("monai.bundle", "run", "pretrain", "--config_file", "configs/train.json"),
        *(*given, "--output_dir", str(tmp_path / "run")),
        cwd=BUNDLE,
    )
    assert ended.status == 0, ended.err
    manifest = json.loads((tmp_path / "run" / "private" / "probe" / "manifest.json").read_text())
    scored = {image["content"] for image in manifest["images"] if image["split"] == "test"}
    pretraining = json.loads((tmp_path / "run" / "manifest.json").read_text())["images"]
    both = scored & {image["content"] for image in pretraining if image["split"] == "training"}
    assert 0 < len(both) < len(scored)
    assert f"Of the {len(scored)} images that it scores, {len(both)} are themselves pretrained on" in ended.out


def test_the_interval_keeps_the_probe_cheap_where_epochs_are_short(labelled, tmp_path):
    assert run(dataset_dir=labelled / "nifti", probe_dir=labelled, output_dir=tmp_path / "run", max_epochs=6) == 0
    # 96 slices at a quarter of the cost of training on one are half of an epoch of 44: every eleventh epoch would do
    assert [line["epoch"] for line in probe_lines(tmp_path / "run")] == [0, 6]


def test_nothing_private_leaves_the_private_folder(labelled, probed):
    with open(labelled / "labels.csv", encoding="utf-8") as file:
        patients = {row["patient"] for row in csv.DictReader(file)}
    for file in probed.rglob("*"):
        if file.is_file() and "private" not in file.relative_to(probed).parts:
            content = file.read_bytes()
            assert not any(patient.encode() in content for patient in patients), file.name
            assert str(labelled).encode() not in content, file.name


@pytest.mark.parametrize("missing", ["labels", "sklearn"])
def test_a_probe_that_cannot_be_is_refused_before_any_work(missing, labelled, tmp_path, monkeypatch):
    from monai_mixssl.errors import ConfigError, DataError
    from monai_mixssl.workflows import check_probe

    check_probe(None)
    if missing == "labels":
        with pytest.raises(DataError, match="probe_dir"):
            check_probe(str(tmp_path / "nothing"))
    else:
        monkeypatch.setitem(sys.modules, "sklearn", None)
        with pytest.raises(ConfigError, match="scikit-learn"):
            check_probe(str(labelled))
