# SPDX-License-Identifier: Apache-2.0
"""What users of segmentation have in their folders, and what they type."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from segmentation_runs import BUNDLE, SMALL, metrics_of, reasons_of, segment, write_pair, write_pretrained

from monai_mixssl.data.phantoms import write_segmentation_phantoms
from monai_mixssl.workflows.last_line import PREFIX


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return write_segmentation_phantoms(tmp_path_factory.mktemp("scans") / "data", patients=8, image_size=32, slices=3)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    return write_pretrained(tmp_path_factory.mktemp("pretrained"))


def test_pictures_of_any_size_are_segmented_in_2d(tmp_path):
    rng = np.random.RandomState(0)
    rows = ["path,label"]
    for number in range(10):
        size = rng.randint(20, 45, 2)  # the smaller ones are padded
        picture, mask = rng.randint(0, 60, size), np.zeros(size, int)
        mask[5:14, 6:15] = 255
        for name, array in (("picture", picture + mask // 2), ("mask", mask)):
            Image.fromarray(array.astype(np.uint8)).save(tmp_path / f"{name}{number}.png")
        rows.append(f"picture{number}.png,mask{number}.png")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert segment(dataset_dir=tmp_path / "labels.csv", output_dir=tmp_path / "run", learning_rate=0.01) == 0
    metrics = metrics_of(tmp_path / "run")
    assert metrics["classes"] == ["background", "255"]
    assert metrics["test"]["unit"] == "pixels"
    assert metrics["test"]["mean_dice"] > 0.5

    (tmp_path / "in").mkdir()
    shutil.copy(tmp_path / "picture3.png", tmp_path / "in")
    keys = {"dataset_dir": tmp_path / "in", "model": tmp_path / "run" / "model.safetensors"}
    assert segment(workflow="SegmentationInferWorkflow", output_dir=tmp_path / "out", **keys) == 0
    predicted = np.asarray(Image.open(next((tmp_path / "out" / "masks").glob("*.png"))))
    true = np.asarray(Image.open(tmp_path / "mask3.png"))
    assert predicted.shape == true.shape
    assert set(np.unique(predicted)) <= {0, 255}
    assert (predicted == true).mean() > 0.85


def test_pairs_that_cannot_be_used_are_left_out_and_listed(scans, tmp_path):
    folder = tmp_path / "data"
    for file in sorted((scans / "imagesTr").iterdir()):
        mask = nib.load(scans / "labelsTr" / file.name)
        image = nib.load(file)
        array, marks = (np.asarray(one.dataobj) for one in (image, mask))
        number = file.name[-8]
        elsewhere = image.affine.copy()
        elsewhere[0, 3] += 40.0
        write_pair(
            folder,
            file.name[:-7],
            array,
            {"0": marks[:-1], "1": np.where(marks == 2, 77, marks).astype(np.uint8)}.get(number, marks),
            image.affine,
            elsewhere if number == "2" else None,
        )
    names = sorted(path.name for path in (folder / "labelsTr").iterdir())
    (folder / "labelsTr" / names[3]).unlink()
    (folder / "imagesTr" / names[4]).write_bytes((folder / "imagesTr" / names[4]).read_bytes()[:200])
    labels = {"background": 0, "brain": 1, "lesion": 2}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    lesions = np.asarray(nib.load(folder / "labelsTr" / names[1]).dataobj) == 77
    assert lesions.any()
    assert segment(dataset_dir=folder, output_dir=tmp_path / "run", max_epochs=1) == 0
    reasons = " / ".join(reasons_of(tmp_path / "run"))
    for reason in ("mask of another size", "mask lies elsewhere", "mask values that are no class", "without a"):
        assert reason in reasons, reasons
    assert len(reasons_of(tmp_path / "run")) == 5
    assert sum(metrics_of(tmp_path / "run")["images"].values()) == 3


REFUSED = {
    "pretrained_decoder belongs to an encoder": ["--pretrained_decoder", "{decoder}", "--decoder", "light"],
    "pretrained_decoder is the light decoder": ["--pretrained", "{encoder}", "--pretrained_decoder", "{decoder}"],
    "overlap must be from 0 to below 1": ["--overlap", "1"],
    "patch_size has 2 axes": ["--spatial_dims", "3", "--patch_size", "[32,32]"],
    "decoder_channels must be none or a list": ["--decoder_channels", "wide"],
    "quarter of the shortest patch side": ["--spatial_dims", "2", "--patch_size", "16"],
    "unknown key 'overlapp'; did you mean 'overlap'?": ["--overlapp", "0.5"],
    "dataset_dir": ["--dataset_dir", "{missing}"],
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_does_not_fit_is_refused_with_one_sentence(sentence, command, scans, pretrained, tmp_path):
    places = {"decoder": pretrained / "decoder.safetensors", "encoder": pretrained / "encoder.safetensors",
              "missing": tmp_path / "doe_jane"}  # fmt: skip
    given = [part.format(**places) for part in REFUSED[sentence]]
    usual = [] if "--dataset_dir" in given else ["--dataset_dir", str(scans)]
    ended = command(
        *("monai.bundle", "run", "finetune", "--config_file", "configs/train.json", "--device", "cpu"),
        *("--output_dir", str(tmp_path / "run"), *usual, *given),
        cwd=BUNDLE,
    )
    assert ended.status == 1
    assert ended.last_line.startswith(PREFIX)
    assert sentence in ended.last_line
    assert "doe_jane" not in ended.last_line
    assert "Traceback" not in ended.err


def test_the_default_keys_are_checked_by_the_rules():
    from monai_mixssl.workflows import SEGMENTATION_RULES

    config = json.loads((BUNDLE / "configs" / "train.json").read_text())
    for key, rule in SEGMENTATION_RULES.items():
        if not str(config[key]).startswith("$"):
            assert rule(config[key]) == config[key] or config[key] is None
    assert SMALL.keys() <= SEGMENTATION_RULES.keys()
