# SPDX-License-Identifier: Apache-2.0
"""Every way to ask for what cannot be done: the real command ends with one sentence, before any long work."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import BUNDLE, SMALL

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.workflows.last_line import PREFIX

NAMED = ("--workflow_name", "monai_mixssl.PretrainWorkflow")
CONFIG = ("--config_file", "configs/train.json")


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("scans"), patients=4, image_size=32, slices=3)


@pytest.fixture(scope="module")
def pretrain(command) -> Any:
    """``pretrain(spelling, key=value, …)``: the bundle command, small unless the keys say otherwise."""

    def run(
        spelling: tuple[str, ...] = CONFIG, run_id: str = "pretrain", env: dict[str, str] | None = None, **keys: Any
    ) -> Any:
        given = {**SMALL, "max_epochs": 1, **keys}
        overrides = [part for key, value in given.items() if value is not ... for part in (f"--{key}", str(value))]
        return command("monai.bundle", "run", run_id, *spelling, *overrides, cwd=BUNDLE, env=env)

    return run


@pytest.fixture(scope="module")
def finished(pretrain, scans, tmp_path_factory) -> dict[str, Any]:
    """The keys of a run that is complete."""
    keys = {"dataset_dir": scans, "output_dir": tmp_path_factory.mktemp("finished") / "run"}
    ended = pretrain(**keys)
    assert ended.status == 0, ended.err
    return keys


def refused(ended: Any, *parts: str) -> None:
    """One sentence, the last line on stderr, that holds every part; and nothing long was begun."""
    assert ended.status == 1, ended.err[-2000:]
    assert ended.last_line.startswith(PREFIX), ended.err[-2000:]
    assert ended.err.count(PREFIX) == 1
    assert "Traceback" not in ended.err
    for part in parts:
        assert part in ended.last_line
    assert "doe_jane" not in ended.last_line
    assert "Training" not in ended.out


# keys, and what the sentence must say: what was wrong, and what to do
KEYS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a misspelt key": ({"max_epoch": 5}, ("unknown key 'max_epoch'", "'max_epochs'")),
    "a misspelt argument": ({"train#trainer#max_epoch": 5}, ("unknown key 'train#trainer#max_epoch'", "'max_epochs'")),
    "a property of MONAI's that is no key": ({"dataset": "doe_jane"}, ("unknown key 'dataset'", "'dataset_dir'")),
    "handlers that are none": ({"handlers": 3}, ("unknown key 'handlers'",)),
    "a path for the data": ({"data": "doe_jane"}, ("'data' is made by the config", "set dataset_dir, ")),
    "a path for the folder": (
        {"folder": "doe_jane"},
        ("'folder' is made by the config", "set output_dir, resume instead"),
    ),
    "a word for the network": ({"network": "resnet18"}, ("'network' is made by the config", "set init_weights, ")),
    "a word for what is computed": (
        {"source_images": "fractal"},
        ("'source_images' is made by the config", "set source instead"),
    ),
    "a number of processes": ({"world_size": 2}, ("world_size is set by torchrun with configs/multi_gpu_train.json",)),
    "a process of several": ({"rank": 1}, ("rank is set by torchrun", "leave it out")),
    "an unknown backbone": ({"backbone": "resnet10_s8_tin"}, ("backbone", "did you mean 'resnet10_s8_thin'?")),
    "a far backbone": ({"backbone": "vgg"}, ("backbone", "'vgg'", "resnet18")),
    "an unknown source": ({"source": "dead_leafs"}, ("source", "did you mean 'dead_leaves'?")),
    "an unknown device": ({"device": "cuda:99"}, ("device", "cpu", "not 'cuda:99'")),
    "a transparency above 1": ({"transparency": 1.5}, ("transparency", "[0, 1]", "1.5")),
    "a range below 0": ({"transparency": "[-0.1,0.5]"}, ("transparency", "[0, 1]", "-0.1")),
    "a range upside down": ({"transparency": "[0.8,0.2]"}, ("transparency", "smaller number first")),
    "no boolean": ({"pictures": "yes"}, ("pictures must be true or false, not 'yes'",)),
    "a patch too small": ({"patch_size": 16}, ("stride 8", "patch side 16", "patch to 32")),
    "a stride too large": ({"backbone": "resnet18", "patch_size": 64}, ("stride 32", "patch side 64", "resnet18_s16")),
    "a norm that is built in": ({"backbone": "resnet18", "patch_size": 128, "norm": "instance"}, ("norm", "leave")),
    "a patch with too many axes": ({"patch_size": "[32,32,32]"}, ("patch_size has 3 axes and spatial_dims is 2",)),
    "a source folder for nothing": ({"source_dir": "somewhere"}, ("source_dir", "set source to folder")),
    "no source folder": ({"source": "folder"}, ("source_dir", "give the folder")),
    "an empty data folder's name": (
        {"dataset_dir": ""},
        ("dataset_dir must be none or a path, not an empty text", "leave the key out"),
    ),
    "a shell variable in single quotes": ({"dataset_dir": "$SCANS/mr"}, ("begins with $SCANS", "double quotes")),
    "a small variable in single quotes": (
        {"dataset_dir": "$scans/doe_jane"},
        ("dataset_dir begins with $", "double quotes"),
    ),
    "a variable in braces": ({"output_dir": "${runs}-2024/doe_jane"}, ("output_dir begins with $", "double quotes")),
    "a home folder of nobody": (
        {"dataset_dir": "~nosuchuser/doe_jane"},
        ("dataset_dir must be", "no user here", "./~…"),
    ),
    "a path like a reference": ({"dataset_dir": "@scans"}, ("dataset_dir begins with @", "./@")),
    "a word that MONAI drops": ({"match": "None"}, ("--match None is dropped", "write --match none")),
    "a word that MONAI drops deep inside": (
        {"train#trainer#max_grad_norm": "None"},
        ("--train#trainer#max_grad_norm None is dropped", "'$None'"),
    ),
    "a blend of nothing": ({"transparency": 0}, ("transparency is 0", "give a range")),
    "fp16 without a GPU": ({"amp": "fp16"}, ("amp fp16 needs a CUDA GPU", "use amp bf16 or none")),
    "weights that are not there": ({"init_weights": "nowhere.safetensors"}, ("does not exist", "give the encoder")),
}
BOTH_SPELLINGS = (
    "a misspelt key",
    "a misspelt argument",
    "a property of MONAI's that is no key",
    "an unknown backbone",
    "no boolean",
    "a patch too small",
)


@pytest.mark.parametrize(
    ("case", "spelling"),
    [(case, CONFIG) for case in KEYS] + [(case, NAMED) for case in BOTH_SPELLINGS],
    ids=lambda value: {CONFIG: "config", NAMED: "named"}.get(value, value),
)
def test_a_key_that_cannot_be_used_is_refused_before_anything_is_written(case, spelling, pretrain, scans, tmp_path):
    keys, parts = KEYS[case]
    ended = pretrain(spelling, **{"dataset_dir": scans, "output_dir": tmp_path / "run", **keys})
    refused(ended, *parts)
    assert "scanning" not in ended.err
    assert not (tmp_path / "run" / "run.json").exists()
    assert not (tmp_path / "run" / "private").exists()


@pytest.mark.parametrize("spelling", [CONFIG, NAMED], ids=["config", "named"])
@pytest.mark.parametrize("stray", [("doe_jane",), ("doe_jane", "0.8]"), ("",)], ids=["one", "two", "an empty one"])
def test_half_of_a_value_with_a_space_does_not_skip_the_checks(stray, spelling, command, scans, tmp_path):
    # MONAI takes the first for another `initialize` list, the second for another `finalize`, and skips what it lacks
    keys = {**SMALL, "dataset_dir": scans, "output_dir": tmp_path / "run", "max_epoch": 1}
    overrides = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    ended = command("monai.bundle", "run", "pretrain", *spelling, *overrides, *stray, cwd=BUNDLE)
    refused(ended, "a word that belongs to no key", "quotes")
    assert "scanning" not in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("word", ["data", "train"])
def test_a_stray_word_that_is_the_name_of_something_in_the_config_makes_nothing(word, command, scans, tmp_path):
    keys = {**SMALL, "dataset_dir": scans, "output_dir": tmp_path / "run", "pictures": "maybe"}
    overrides = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    ended = command("monai.bundle", "run", "pretrain", *CONFIG, *overrides, word, cwd=BUNDLE)
    refused(ended, "a word that belongs to no key", "quotes")
    assert "scanning" not in ended.err
    assert not (tmp_path / "run").exists()


def test_a_stray_word_that_is_the_name_of_an_expression_trains_nothing(command, scans, tmp_path):
    keys = {**SMALL, "dataset_dir": scans, "output_dir": tmp_path / "run"}
    overrides = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    ended = command("monai.bundle", "run", "pretrain", *CONFIG, *overrides, "network", cwd=BUNDLE)
    refused(ended, "the config was not checked", "quotes")
    assert "scanning" not in ended.err


def test_an_error_in_what_no_rule_has_seen_names_what_the_command_sets_there(pretrain, scans, tmp_path):
    ended = pretrain(**{"dataset_dir": scans, "output_dir": tmp_path / "run", "optimizer#betas": "doe_jane"})
    assert ended.status == 1
    assert "internal error" in ended.last_line
    assert "look at optimizer#betas first" in ended.last_line
    assert "doe_jane" not in ended.last_line


def test_half_of_a_value_in_the_place_of_the_run_id_is_not_repeated(pretrain, scans, tmp_path):
    ended = pretrain(run_id="doe_jane/scan", dataset_dir=scans, output_dir=tmp_path / "run")
    refused(ended, "no list of the given name to run", "pretrain", "quotes")


@pytest.mark.parametrize("run_id", ["pretrian", "train"])  # the second is a section, which MONAI would make, and end
def test_a_run_id_that_trains_nothing_is_refused(run_id, pretrain, scans, tmp_path):
    ended = pretrain(run_id=run_id, dataset_dir=scans, output_dir=tmp_path / "run")
    refused(ended, f"the config has no '{run_id}' to run; did you mean 'pretrain'?")


def test_no_other_section_of_the_config_can_be_run(pretrain, scans, tmp_path):
    for run_id in ("validate", "imports", "initialize"):
        ended = pretrain(run_id=run_id, dataset_dir=scans, output_dir=tmp_path / "run")
        refused(ended, f"the config has no '{run_id}' to run")


def test_a_config_file_that_is_not_there_is_refused_beside_a_workflow_name(pretrain, scans, tmp_path):
    spelling = (*NAMED, "--config_file", "nope.json")
    refused(pretrain(spelling, dataset_dir=scans, output_dir=tmp_path / "run"), "no such file as config_file names")


def test_a_logging_file_that_is_not_there_is_told_from_a_config_file(pretrain, scans, tmp_path):
    spelling = (*NAMED, "--logging_file", "nope.conf")
    refused(pretrain(spelling, dataset_dir=scans, output_dir=tmp_path / "run"), "no such file as logging_file names")


def test_an_output_folder_that_is_a_link_to_nothing_is_refused(pretrain, scans, tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "gone")
    refused(pretrain(dataset_dir=scans, output_dir=tmp_path / "run"), "output_dir is a link to a folder that is not")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such name")
def test_an_output_folder_whose_name_is_no_text_is_refused_before_any_work(pretrain, scans, tmp_path):
    ended = pretrain(dataset_dir=scans, output_dir=os.fsdecode(os.fsencode(tmp_path) + b"/r\xff"))
    refused(ended, "output_dir has a name that is no UTF-8 text")
    assert "scanning" not in ended.err


def test_an_output_folder_that_is_a_file_is_refused(pretrain, scans, tmp_path):
    (tmp_path / "run").write_text("")
    refused(pretrain(dataset_dir=scans, output_dir=tmp_path / "run"), "output_dir names a file; choose a folder")


def test_a_tilde_that_the_shell_left_names_the_home_folder_for_all_that_is_written(pretrain, scans, tmp_path):
    """Checkpoints went to the home folder, the rest to a folder called ``~``: another run's checkpoints were lost."""
    home = tmp_path / "home"
    home.mkdir()
    keys = {"dataset_dir": scans, "output_dir": "~/run", "env": {"HOME": str(home)}}
    ended = pretrain(**keys)
    again = pretrain(**keys)
    assert ended.status == 0, ended.err[-2000:]
    assert {"run.json", "checkpoints", "encoder.safetensors"} <= {file.name for file in (home / "run").iterdir()}
    assert not (BUNDLE / "~").exists()
    refused(again, "output_dir holds another run")


@pytest.mark.parametrize("broken", [False, True])
def test_a_source_folder_without_images_is_refused_before_the_scan(broken, pretrain, scans, tmp_path):
    (tmp_path / "pictures").mkdir()
    if broken:
        (tmp_path / "pictures" / "cat.png").write_bytes(b"no picture")
    keys = {"source": "folder", "source_dir": tmp_path / "pictures"}
    ended = pretrain(dataset_dir=scans, output_dir=tmp_path / "run", **keys)
    refused(ended, "source folder", "1 unreadable" if broken else "no image files", "give a folder")
    assert "scanning" not in ended.err
    assert not (tmp_path / "run").exists()


def one_nifti(folder: Path) -> None:
    image = np.random.RandomState(0).rand(48, 48, 6).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "doe_jane.nii.gz")


def garbage(folder: Path) -> None:
    (folder / "doe_jane.txt").write_text("no image")
    (folder / "doe_jane.nii.gz").write_bytes(b"\x1f\x8b garbage")
    (folder / "doe_jane.dcm").write_bytes(b"\0" * 128 + b"DICM garbage")


def earlier_run(folder: Path) -> None:
    (folder / "old").mkdir()
    (folder / "old" / "run.json").write_text('{"format": 1, "kind": "pretraining", "status": "complete"}')


DATA = {
    "an empty folder": (lambda folder: None, ("Nothing usable was found among 0 files", "dataset_dir must hold")),
    "garbage": (garbage, ("Nothing usable was found among 3 files", "excluded.jsonl")),
    "an earlier run": (earlier_run, ("1 files (output folder of an earlier run: 1)", "excluded.jsonl")),
    "one volume": (one_nifti, ("1 usable", "training and validation need one each", "give more data")),
    "no folder": (lambda folder: folder.rmdir(), ("dataset_dir", "check the spelling")),
}


@pytest.mark.parametrize("content", ["{}", '{"run": 1}', "[1, 2]", '"run"', "no json"])
def test_somebody_elses_run_json_in_the_output_folder_is_left_alone(content, pretrain, scans, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(content)
    for resume in (False, True):
        ended = pretrain(dataset_dir=scans, output_dir=tmp_path / "run", resume=resume)
        refused(ended, "run.json in output_dir", "choose a new folder")
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["run.json"]


@pytest.mark.parametrize("case", DATA)
def test_data_that_cannot_be_trained_on_are_refused_by_a_sentence_without_names(case, pretrain, tmp_path):
    fill, parts = DATA[case]
    data = tmp_path / "doe_jane"
    data.mkdir()
    fill(data)
    ended = pretrain(dataset_dir=data, output_dir=tmp_path / "run")
    refused(ended, *parts)
    assert "doe_jane" not in ended.last_line
    if case == "garbage":
        lines = [json.loads(line) for line in (tmp_path / "run" / "excluded.jsonl").read_text().splitlines()]
        assert len(lines) == 3
        assert all(line["reason"] for line in lines)


@pytest.mark.parametrize("resume", [False, True])
def test_a_first_attempt_that_failed_does_not_block_the_second(resume, pretrain, scans, tmp_path):
    refused(pretrain(dataset_dir=tmp_path / "nowhere", output_dir=tmp_path / "run", resume=resume), "dataset_dir")
    ended = pretrain(dataset_dir=scans, output_dir=tmp_path / "run", resume=resume)
    assert ended.status == 0, ended.err
    assert (tmp_path / "run" / "encoder.safetensors").exists()


@pytest.mark.parametrize("name", ["run.json", "manifest.json"])
def test_a_folder_that_another_version_has_written_in_another_form_is_not_gone_on_with(
    name, pretrain, finished, tmp_path
):
    folder = shutil.copytree(finished["output_dir"], tmp_path / "run")
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, "format": 99}))
    ended = pretrain(**{**finished, "output_dir": folder}, resume=True)
    refused(ended, name, "is of format 99, and this version of monai-mixssl reads 1", "versions.json")


def test_a_private_config_that_holds_something_else_is_refused(pretrain, finished, tmp_path):
    folder = shutil.copytree(finished["output_dir"], tmp_path / "run")
    (folder / "private" / "config.json").write_text("[1]")
    ended = pretrain(**{**finished, "output_dir": folder}, resume=True)
    refused(ended, "private/config.json in output_dir cannot be read", "choose a new folder")


def test_the_folder_of_another_run_is_refused_and_left_as_it_is(pretrain, finished):
    before = {path: path.read_bytes() for path in finished["output_dir"].rglob("*") if path.is_file()}
    refused(pretrain(**finished), "output_dir holds another run", "--resume True", "new folder")
    assert {path: path.read_bytes() for path in finished["output_dir"].rglob("*") if path.is_file()} == before


def test_a_folder_with_something_else_in_it_is_refused_and_left_as_it_is(pretrain, scans, tmp_path):
    (tmp_path / "thesis.tex").write_text("dear reader")
    refused(pretrain(dataset_dir=scans, output_dir=tmp_path), "output_dir is not empty", "choose a new")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"max_epochs": 2, "learning_rate": 0.5}, "another learning_rate, max_epochs"),
        ({"patch_size": 48}, "another patch_size"),
        ({"train#trainer#max_grad_norm": 3}, "another train"),
    ],
)
def test_resuming_with_another_key_is_refused_by_name(changed, named, pretrain, finished):
    refused(pretrain(**{**finished, **changed}, resume=True), named, "same keys", "choose a new output_dir")


def test_slices_of_air_are_said_with_the_rest_and_again_at_the_end(pretrain, tmp_path):
    for number in range(2):
        array = np.random.RandomState(number).randint(400, 1000, (32, 32, 10)).astype(np.int16)
        array[..., :4] = 0
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{number}.nii.gz")
    ended = pretrain(dataset_dir=tmp_path, output_dir=tmp_path / "run")
    assert ended.status == 0, ended.err[-2000:]
    assert "8 of 20 slices left out: too little foreground (min_foreground 0.1)" in ended.out
    assert "0 files and images were left out (excluded.jsonl) and 8 slices of the others" in ended.out.splitlines()[-1]
