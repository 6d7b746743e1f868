# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from monai_mixssl.__main__ import main
from monai_mixssl.compare.child import run_in_child
from monai_mixssl.errors import ConfigError, TrainingError
from monai_mixssl.handlers import latest_iteration
from monai_mixssl.networks import MixSSLNet, save_decoder, save_encoder

ERROR = "monai-mixssl: error: "
SMALL = {
    "batch_size": 4,
    "max_epochs": 1,
    "min_steps_per_epoch": 2,
    "num_workers": 0,
    "progress": False,
    "pictures": False,
    "device": "cpu",
}


def words(dataset: Path, encoder: Path, output: Path, **keys: object) -> list[str]:
    """What the user types after ``python -m monai_mixssl``."""
    given = {"dataset_dir": dataset, "pretrained": encoder, "output_dir": output, **SMALL, **keys}
    task = given.pop("task", "classification")
    return ["compare", str(task), *(text for key, value in given.items() for text in (f"--{key}", str(value)))]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights: whether they help is not what is tested."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("pretrained") / "encoder.safetensors"
    save_encoder(file, MixSSLNet())
    return file


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of 32 × 32 in two class folders, of a patient whose name must not get out."""
    folder = tmp_path_factory.mktemp("scans")
    random = np.random.RandomState(0)
    for number in range(20):
        name = ("healthy", "ill")[number % 2]
        place = folder / name / f"Doe^Jane_{number:02d}.png"
        place.parent.mkdir(exist_ok=True)
        array = random.randint(0, 100, (32, 32)).astype(np.uint8)
        array[8:24, 8:24] += np.uint8(100 * (number % 2))
        Image.fromarray(array).save(place)
    return folder


def test_fine_tuning_and_probes_of_pictures_are_compared_from_one_command(
    encoder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    typed = words(pictures, encoder, out, seeds=2, labels=3, protocols="finetune,linear,knn")
    main(typed)
    lines = [json.loads(line) for line in (out / "compare.jsonl").read_text().splitlines()]
    assert [line["cell"] for line in lines] == [
        f"{arm}_{kind}3_{seed}" for seed in (0, 1) for kind in ("", "probe_") for arm in ("scratch", "pretrained")
    ]
    assert {line["labelled"] for line in lines} == {6}  # 3 of each class
    assert {line["loaded"] for line in lines if line["arm"] == "scratch"} == {0.0}
    assert {line["loaded"] for line in lines if line["arm"] == "pretrained"} == {1.0}

    manifests = [json.loads((out / "runs" / line["cell"] / "manifest.json").read_text())["images"] for line in lines]
    tests = [{image["id"] for image in images if image["split"] == "test"} for images in manifests]
    assert tests[0]
    assert all(test == tests[0] for test in tests)
    drawn = [
        {image["id"] for image in images if image["split"] == "training" and image["used"]} for images in manifests
    ]
    assert all(of_seed == drawn[0] for of_seed in drawn[:4])  # both arms and all protocols learn from the same images
    assert all(of_seed == drawn[4] for of_seed in drawn[4:])
    assert drawn[0] != drawn[4]

    assert "leakage not checked" in (out / "comparison.md").read_text().lower()
    assert (out / "comparison.png").stat().st_size > 10_000
    for file in out.rglob("*"):
        if file.is_file() and "private" not in file.parts:
            assert b"Doe^Jane" not in file.read_bytes(), file.name

    capsys.readouterr()
    main(typed)
    assert "8 runs (2 seeds, 3 labels a class), all made already." in capsys.readouterr().out


def test_segmentations_are_compared_with_the_pretrained_decoder_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = MixSSLNet(spatial_dims=3)
    save_encoder(tmp_path / "encoder.safetensors", network)
    save_decoder(tmp_path / "decoder.safetensors", network)
    random = np.random.RandomState(0)
    for number in range(8):
        for folder in ("imagesTr", "labelsTr"):
            (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
        mask = np.zeros((20, 20, 20), np.uint8)
        mask[4:12, 4:12, 4 : 6 + number % 4] = 1
        image = mask + 0.2 * random.rand(20, 20, 20).astype(np.float32)
        for folder, array in (("imagesTr", image), ("labelsTr", mask)):
            nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "set" / folder / f"{number}.nii.gz")
    keys = {"task": "segmentation", "patch_size": 32, "seeds": 1, "batch_size": 2, "val_interval": 1}
    decoder = {"decoder": "light", "pretrained_decoder": tmp_path / "decoder.safetensors"}
    out = tmp_path / "out"
    main(words(tmp_path / "set", tmp_path / "encoder.safetensors", out, labels="2", **keys, **decoder))
    lines = [json.loads(line) for line in (out / "compare.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["complete"] * 2
    assert all(0 <= line["scores"]["finetune"]["mean_dice"] <= 1 for line in lines)
    assert [line["labelled"] for line in lines] == [2] * 2
    assert {line["arm"]: line["loaded"] for line in lines} == {"scratch": 0.0, "pretrained": 1.0}
    assert "Fine-tuning with 2 labelled patients: " in (out / "comparison.md").read_text()


def test_sigterm_ends_a_comparison_with_a_checkpoint_and_the_same_command_goes_on_from_it(
    encoder: Path, pictures: Path, tmp_path: Path
) -> None:
    typed = words(pictures, encoder, tmp_path / "out", seeds=1, min_steps_per_epoch=40, log_interval=5)
    run = tmp_path / "out" / "runs" / "scratch_all_0"
    process = subprocess.Popen(
        [sys.executable, "-m", "monai_mixssl", *typed],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 300
    while not (run / "log.jsonl").exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    sentence = f"{ERROR}the comparison was stopped by SIGTERM; the same command goes on from there"
    assert said.strip().splitlines()[-1] == sentence
    assert not (tmp_path / "out" / "compare.jsonl").exists()
    assert 0 < latest_iteration(run / "checkpoints") < 40
    before = (run / "log.jsonl").read_text()

    main(typed)
    log = (run / "log.jsonl").read_text()
    assert log.startswith(before)  # with the times of the first attempt: not made again
    assert '"iteration": 40' in log
    lines = [json.loads(line) for line in (tmp_path / "out" / "compare.jsonl").read_text().splitlines()]
    assert [(line["cell"], line["status"]) for line in lines] == [
        ("scratch_all_0", "complete"),
        ("pretrained_all_0", "complete"),
    ]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"max_epoch": 3}, r"unknown key 'max_epoch'; did you mean 'max_epochs'\?"),
        ({"max_epochs": "many"}, "max_epochs must be a whole number of at least 1, not 'many'"),
        ({"seed": 3}, "'seed' is set by the comparison for each run; in its place use --seeds"),
        ({"seeds": "some"}, "seeds must be a whole number"),
        ({"labels": "few"}, "labels must be amounts such as"),
        ({"metric": "dice"}, "metric of a classification must be"),
        ({"pretrained": "absent"}, "pretrained: file 1 of 1 does not exist"),
        ({"pretrain_run": "absent"}, "pretrain_run names no output folder"),
    ],
)
def test_wrong_words_are_refused_in_a_sentence_and_leave_nothing(
    encoder: Path, pictures: Path, tmp_path: Path, keys: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        main(words(pictures, encoder, tmp_path / "out", **keys))
    assert not (tmp_path / "out").exists()


def test_a_process_that_the_system_kills_is_a_failure_with_a_sentence(tmp_path: Path) -> None:
    code = "$__import__('os').kill(__import__('os').getpid(), 9)"
    with pytest.raises(
        TrainingError, match="its process was ended by signal 9, as the system does when memory runs out"
    ):
        run_in_child("classification", "finetune", {"initialize": [code]}, tmp_path / "trace.txt")


def test_an_error_that_nobody_foresaw_leaves_its_traceback_under_private(tmp_path: Path) -> None:
    trace = tmp_path / "private" / "tracebacks" / "cell.txt"
    trace.parent.mkdir(parents=True)
    with pytest.raises(
        TrainingError, match=r"^internal error \(\w+\); its traceback is in private/tracebacks/cell.txt$"
    ):
        run_in_child("classification", "finetune", {"initialize": ["$1 / 0"]}, trace)
    assert "ZeroDivisionError" in trace.read_text()
