# SPDX-License-Identifier: Apache-2.0
"""The leakage guard compares with the run that made the encoder, and with no other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from bundle_runs import run
from finetune_runs import BUNDLES, finetune
from test_finetune_inputs import checked, encoder_file

from monai_mixssl.__main__ import main
from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.errors import ConfigError, RunFolderError
from monai_mixssl.networks import read_encoder_metadata
from monai_mixssl.workflows import (
    RunFolder,
    check_evaluate_keys,
    check_segmentation_evaluate_keys,
    evaluation_data,
    finetune_settings,
    model_metadata,
)
from monai_mixssl.workflows.last_line import PREFIX

OTHER = "pretrain_run is not the run that made the file of pretrained"


def phantoms(folder: Path, seed: int) -> Path:
    return write_phantoms(folder, seed=seed, patients=12, image_size=32, slices=3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """Two pretrainings on other patients."""
    folder = tmp_path_factory.mktemp("pretrained")
    for name, seed in (("a", 2), ("b", 3)):
        scans = phantoms(folder / f"scans_{name}", seed)
        assert run(dataset_dir=str(scans / "nifti"), output_dir=folder / name, max_epochs=1) == 0
    return folder / "a", folder / "b"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    return phantoms(tmp_path_factory.mktemp("labelled") / "scans", 4)


@pytest.fixture(scope="module")
def tuned(runs, labelled, tmp_path_factory) -> Path:
    first, _ = runs
    out = tmp_path_factory.mktemp("tuned") / "run"
    keys = {"pretrained": first / "encoder.safetensors", "pretrain_run": first, "max_epochs": 1}
    assert finetune(dataset_dir=labelled, output_dir=out, **keys) == 0
    return out


def given(encoder: Path, run_: Path) -> dict[str, str]:
    return {"pretrained": str(encoder / "encoder.safetensors"), "pretrain_run": str(run_)}


def test_a_pretraining_that_did_not_make_the_encoder_is_refused(runs):
    first, second = runs
    for encoder, other in ((first, second), (second, first)):
        for refuse in (finetune_settings, checked):
            with pytest.raises(RunFolderError, match=OTHER) as caught:
                refuse(**given(encoder, other))
            assert str(other) not in str(caught.value)
            refuse(**given(encoder, encoder))


@pytest.mark.parametrize("run_id", ["finetune", "probe"])
def test_the_run_ends_in_a_sentence_before_the_scan(run_id, runs, labelled, command, tmp_path):
    first, second = runs
    keys = {"dataset_dir": str(labelled), "output_dir": str(tmp_path / "out"), "device": "cpu", **given(first, second)}
    typed = [text for name, value in keys.items() for text in (f"--{name}", value)]
    configs = BUNDLES / "mixssl_classification" / "configs"
    ended = command("monai.bundle", "run", run_id, "--config_file", str(configs / "train.json"), *typed, cwd=tmp_path)
    assert ended.status == 1
    assert ended.last_line.startswith(PREFIX + OTHER)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("files", "given_runs"), [("a", "b"), ("ab", "aa"), ("ab", "a"), ("ab", "ba")])
def test_a_comparison_is_refused_before_its_first_run_whichever_file_is_wrong(
    files, given_runs, runs, labelled, tmp_path
):
    by_name = dict(zip("ab", runs, strict=True))
    keys = {
        "dataset_dir": labelled,
        "output_dir": tmp_path / "out",
        "device": "cpu",
        "seeds": len(files),
        "pretrained": ",".join(str(by_name[name] / "encoder.safetensors") for name in files),
        "pretrain_run": ",".join(str(by_name[name]) for name in given_runs),
    }
    typed = [text for name, value in keys.items() for text in (f"--{name}", str(value))]
    with pytest.raises(ConfigError, match=OTHER):
        main(["compare", "classification", *typed])
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_kind_is_refused_with_a_file_and_without(runs, tuned):
    first, _ = runs
    for file in (str(first / "encoder.safetensors"), None):
        with pytest.raises(RunFolderError, match="pretrain_run holds a run of the kind finetuning"):
            finetune_settings(file, pretrain_run=str(tuned))


def test_folders_and_files_of_older_versions_are_taken(runs, tmp_path, capsys):
    first, second = runs
    for name, source in (("first", first), ("second", second)):
        shutil.copytree(source, tmp_path / name)
        (tmp_path / name / "run.json").unlink()
    finetune_settings(**given(first, tmp_path / "first"))
    assert "is not known" not in capsys.readouterr().out
    with pytest.raises(RunFolderError, match=OTHER):
        finetune_settings(**given(first, tmp_path / "second"))
    nameless = encoder_file(tmp_path / "encoder.safetensors")
    finetune_settings(str(nameless), pretrain_run=str(first))
    assert "whether pretrain_run is the run that made it is not known" in capsys.readouterr().out


def test_a_model_remembers_the_data_of_its_pretraining_and_is_evaluated_against_no_other(runs, tuned, tmp_path):
    first, second = runs
    model = tuned / "model.safetensors"
    recorded = model_metadata(model)["pretraining_data_hash"]
    assert recorded == read_encoder_metadata(first / "encoder.safetensors")["data_hash"]
    assert recorded == json.loads((first / "manifest.json").read_text())["data_hash"]
    others = phantoms(tmp_path / "others", 5)

    def evaluate(pretrain_run: Path):
        folder = RunFolder(tmp_path / f"evaluation_{pretrain_run.name}", kind="evaluation")
        return evaluation_data(
            folder, None, str(others), str(model), pretrain_run=str(pretrain_run), num_workers=0, progress=False
        )

    assert evaluate(first).details["leakage"]["pretraining"] == recorded
    with pytest.raises(RunFolderError, match="pretrain_run is not the run that made the file of model"):
        evaluate(second)


@pytest.mark.parametrize("check", [check_evaluate_keys, check_segmentation_evaluate_keys])
def test_a_runs_own_images_are_not_said_to_be_compared_again(check, runs, tuned):
    with pytest.raises(ConfigError, match=r"leave pretrain_run out here, or give dataset_dir and model"):
        check({"run_dir": str(tuned), "pretrain_run": str(runs[0])})
    check({"run_dir": str(tuned), "pretrain_run": None})
