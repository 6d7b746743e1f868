# SPDX-License-Identifier: Apache-2.0
"""The classification bundle as a whole: MONAI's contract, and numbers checked against independent ones."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import defaultdict
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from finetune_runs import BUNDLES, SMALL, finetune
from monai.metrics import compute_roc_auc
from named_scans import leaks
from PIL import Image
from test_finetune_inputs import encoder_file

import monai_mixssl
from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.networks import load_model

BUNDLE = BUNDLES / "mixssl_classification"
METADATA = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("scans") / "doe_jane", seed=1, patients=12, image_size=32, slices=3)


@pytest.fixture(scope="module")
def tuned(scans, tmp_path_factory) -> Path:
    """A run from an encoder file, on slices."""
    folder = tmp_path_factory.mktemp("tuned")
    encoder = encoder_file(folder / "encoder.safetensors", spacing=None)
    run = folder / "run"
    assert finetune(dataset_dir=scans, pretrained=encoder, output_dir=run, max_epochs=1, pictures=True) == 0
    return run


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as opened:
        return list(csv.DictReader(opened))


def probabilities(table: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(v) for name, v in row.items() if name.startswith("probability ")] for row in table])


# in a process of its own: `initialize` sets the seeds, the hook for uncaught exceptions, and maybe the logging
PROPERTIES = """
import json, sys
from monai.bundle import ConfigWorkflow
config, workflow_type, keys = json.loads(sys.argv[1])
workflow = ConfigWorkflow(config, workflow_type=workflow_type, logging_file=False, **keys)
workflow.initialize()
print("missing:", json.dumps(workflow.check_properties()))
"""


@pytest.mark.parametrize("config", ["train", "inference", "evaluate"])
def test_monai_finds_every_property_that_it_asks_for(config, command, tuned, scans, tmp_path):
    keys = {"output_dir": str(tmp_path / "run"), "device": "cpu", "dataset_dir": str(scans), "num_workers": 0}
    if config != "train":
        keys["model"] = str(tuned / "model.safetensors")
    (tmp_path / "program.py").write_text(PROPERTIES)
    kind = "train" if config == "train" else "infer"
    argument = [str(BUNDLE / "configs" / f"{config}.json"), kind, keys]
    ended = command(str(tmp_path / "program.py"), json.dumps(argument), cwd=tmp_path)
    assert ended.status == 0, ended.err[-3000:]
    assert ended.out.splitlines()[-1] == "missing: []"


def test_the_metadata_pass_the_model_zoos_schema_and_name_the_tested_versions():
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", CONSTRAINTS.read_text().lower(), re.MULTILINE))
    for name in ("monai", "pytorch", "numpy"):
        assert METADATA[f"{name}_version"] == pinned["torch" if name == "pytorch" else name]
    required = {name.lower(): version for name, version in METADATA["required_packages_version"].items()}
    assert required.pop("monai-mixssl") == monai_mixssl.__version__
    assert required == {name: pinned[name] for name in required}
    assert "scikit-learn" in required
    for name in ("LICENSE", "docs/data_license.txt", "large_files.yml", "configs/logging.conf"):
        assert (BUNDLE / name).is_file()
    data = os.environ.get("MIXSSL_TEST_DATA")
    if not data:
        pytest.skip("MIXSSL_TEST_DATA is unset: the Model Zoo's schema stands beside the folder that it names")
    schema = Path(data).resolve().parent / "zoo" / "meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip("there is no zoo/meta_schema_20240725.json beside the folder that MIXSSL_TEST_DATA names")
    jsonschema.validate(METADATA, json.loads(schema.read_text()))


def test_the_scores_are_those_of_the_table_of_predictions(tuned):
    found = metrics(tuned)
    for split in ("validation", "test"):
        table = [row for row in rows(tuned / "predictions.csv") if row["split"] == split]
        true = np.array([int(row["true"]) for row in table])
        said = probabilities(table)
        assert [row["predicted"] for row in table] == [str(k) for k in said.argmax(1)]
        _check(found[split], true, said)
        groups = defaultdict(list)
        for number, row in enumerate(table):
            groups[row["id"]].append(number)
        assert len(groups) == found["images"][split] == found[split]["scans"]["count"]
        means = np.array([said[numbers].mean(0) for numbers in groups.values()])
        scan_true = np.array([true[numbers[0]] for numbers in groups.values()])
        _check(found[split]["scans"], scan_true, means)
        by_scan = [row for row in rows(tuned / "predictions_by_scan.csv") if row["split"] == split]
        assert [row["id"] for row in by_scan] == list(groups)
        np.testing.assert_allclose(probabilities(by_scan), means, atol=2e-6)


def _check(scores, true, said):
    decided = said.argmax(1)
    assert scores["count"] == len(true)
    assert scores["accuracy"] == pytest.approx((decided == true).mean())
    assert scores["balanced_accuracy"] == pytest.approx(np.mean([(decided[true == k] == k).mean() for k in (0, 1)]))
    expected = compute_roc_auc(torch.from_numpy(said), torch.nn.functional.one_hot(torch.from_numpy(true), 2))
    assert scores["auc"] == pytest.approx(float(expected))
    pairs = [[int(((true == i) & (decided == j)).sum()) for j in (0, 1)] for i in (0, 1)]
    assert scores["confusion_matrix"] == pairs


def test_the_run_says_what_it_did(tuned):
    found = metrics(tuned)
    assert found["loaded"] == 1.0
    assert found["leakage"]["checked"] is False
    assert found["leakage"]["message"].startswith("leakage not checked")
    assert found["labels"] == found["images"]["training"] == 6
    for split in ("validation", "test"):
        assert Image.open(tuned / "pictures" / f"confusion_{split}.png").width > 100
    network, metadata = load_model(tuned / "model.safetensors")
    assert metadata["classes"] == ["0", "1"]
    assert metadata["image_size"] == [32, 32]
    state = torch.load(tuned / "model.pt", weights_only=True)
    network.load_state_dict(state, strict=True)
    assert network(torch.zeros(3, 1, 32, 32)).shape == (3, 2)


def test_nothing_private_leaves_the_private_folder(tuned, scans):
    assert leaks(tuned, str(scans).encode()) == []
    assert not any(b"doe_jane" in f.read_bytes() for f in tuned.rglob("*") if f.is_file() and "private" not in f.parts)


def test_evaluating_a_run_gives_its_own_numbers_again(tuned, tmp_path):
    assert (
        finetune(workflow="ClassificationEvaluateWorkflow", run_dir=tuned, output_dir=tmp_path / "e", device="cpu") == 0
    )
    again, before = metrics(tmp_path / "e"), metrics(tuned)
    assert again["test"]["confusion_matrix"] == before["test"]["confusion_matrix"]
    for name in ("auc", "loss", "accuracy"):
        assert again["test"][name] == pytest.approx(before["test"][name], abs=1e-6)
    test = [row for row in rows(tuned / "predictions.csv") if row["split"] == "test"]
    assert [row["id"] for row in rows(tmp_path / "e" / "predictions.csv")] == [row["id"] for row in test]


def test_inference_and_evaluation_elsewhere_say_the_same_of_a_file(tuned, scans, tmp_path):
    model = tuned / "model.safetensors"
    keys = {"dataset_dir": scans, "model": model, "device": "cpu", "progress": False}
    labelled, unlabelled = tmp_path / "labelled", tmp_path / "unlabelled"
    assert finetune(workflow="ClassificationEvaluateWorkflow", output_dir=labelled, **keys, pictures=False) == 0
    keys["dataset_dir"] = scans / "nifti"
    assert finetune(workflow="ClassificationInferWorkflow", output_dir=unlabelled, **keys) == 0

    def by_file(folder):
        paths = {row["id"]: row["path"] for row in rows(folder / "private" / "files.csv")}
        table = rows(folder / "predictions.csv")
        return {(paths[row["id"]], row["slice"]): p for row, p in zip(table, probabilities(table), strict=True)}

    known, found, own = by_file(labelled), by_file(unlabelled), by_file(tuned)
    assert len(found) == 6 * 3
    assert metrics(labelled)["test"]["count"] == 12 * 3
    for place, values in found.items():
        np.testing.assert_allclose(values, known[place], atol=2e-6)
    held_out = {place: values for place, values in own.items() if place in found}
    assert held_out
    for place, values in held_out.items():
        np.testing.assert_allclose(values, found[place], atol=2e-6)
    assert "true" not in rows(unlabelled / "predictions.csv")[0]


def write_pictures(folder: Path, count: int = 12) -> Path:
    """Pictures of differing size with two labels that may both hold: bright on the left, bright at the top."""
    folder.mkdir()
    lines = ["path,left,top"]
    for number in range(count):
        left, top = number % 2, number // 2 % 2
        sides = (24 + 3 * (number % 5), 20 + 5 * (number % 3))
        array = np.random.RandomState(number).randint(0, 60, sides)
        array[:, : sides[1] // 2] += 120 * left
        array[: sides[0] // 2] += 70 * top
        Image.fromarray(array.astype(np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{left},{top}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_several_labels_an_image_and_images_of_differing_size(tmp_path):
    pictures = write_pictures(tmp_path / "pictures")
    keys = {"dataset_dir": pictures, "output_dir": tmp_path / "run", "max_epochs": 2, "image_size": 24}
    assert finetune(**keys, augment=False, pooling="last2x2", pictures=True) == 0
    found = metrics(tmp_path / "run")
    assert found["classes"] == ["left", "top"]
    table = rows(tmp_path / "run" / "predictions.csv")
    assert all(row["slice"] in ("", "0") for row in table)
    for split in ("validation", "test"):
        part = [row for row in table if row["split"] == split]
        true = np.array([[name in row["true"].split(";") for name in ("left", "top")] for row in part])
        said = probabilities(part) >= 0.5
        assert found[split]["accuracy"] == pytest.approx((true == said).mean())
        assert np.array(found[split]["confusion_matrix"]).shape == (2, 2, 2)
        assert [m[1][1] for m in found[split]["confusion_matrix"]] == (true & said).sum(0).tolist()
        assert found[split]["scans"] is None
    _, metadata = load_model(tmp_path / "run" / "model.safetensors")
    assert metadata["multi_label"] is True
    assert metadata["image_size"] == [24, 24]  # every one of the pictures is larger along an axis, and shrunk


def test_volumes_in_3d_from_a_2d_encoder_only_on_request(scans, tmp_path):
    encoder = encoder_file(tmp_path / "encoder.safetensors", spacing=None)
    keys = {"dataset_dir": scans, "pretrained": encoder, "spatial_dims": 3, "max_epochs": 1}
    assert finetune(**keys, output_dir=tmp_path / "refused") != 0
    assert not (tmp_path / "refused" / "run.json").exists()
    assert finetune(dataset_dir=scans, spatial_dims=3, max_epochs=1, output_dir=tmp_path / "run") == 0
    found = metrics(tmp_path / "run")
    assert found["test"]["count"] == found["images"]["test"] == 3
    assert found["test"]["scans"] is None
    assert found["loaded"] == 0.0
    assert {row["slice"] for row in rows(tmp_path / "run" / "predictions.csv")} == {""}


def test_a_probe_run_leaves_a_table(tuned, scans, tmp_path):
    keys = {"dataset_dir": scans, "data_from": tuned, "output_dir": tmp_path / "probe"}
    keys["pretrained"] = tuned.parent / "encoder.safetensors"
    assert finetune(run_id="probe", **keys) == 0
    found = json.loads((tmp_path / "probe" / "probe.json").read_text())
    assert set(found["poolings"]) == {"last", "all", "last2x2"}
    assert found["images"] == metrics(tuned)["images"]
    assert found["loaded"] == 1.0


def test_two_processes_train_and_measure_as_one(command, scans, tmp_path):
    # a norm that does not look at the batch, and no augmentation: two halves of a batch then give its whole gradient
    common = {"dataset_dir": scans, "max_epochs": 1, "augment": False}
    common |= {"norm": ["group", {"num_groups": 4}], "min_steps_per_epoch": 3}
    one = tmp_path / "one"
    assert finetune(**common, output_dir=one, batch_size=4) == 0
    keys = {**SMALL, **common, "data_from": one, "batch_size": 2, "output_dir": tmp_path / "two"}
    shown = {key: json.dumps(value) if isinstance(value, list) else str(value) for key, value in keys.items()}
    overrides = [part for key, value in shown.items() for part in (f"--{key}", value)]
    configs = "['configs/train.json','configs/multi_gpu_train.json']"
    ended = command("monai.bundle", "run", "finetune", "--config_file", configs, *overrides, cwd=BUNDLE, processes=2)
    assert ended.status == 0, ended.err[-3000:]
    alone, together = (load_model(folder / "model.safetensors")[0].state_dict() for folder in (one, tmp_path / "two"))
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=2e-3)
    lines = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    whole = [json.loads(line) for line in (one / "log.jsonl").read_text().splitlines()]
    last, expected = ([x for x in log if x["event"] == "validation"][-1] for log in (lines, whole))
    assert last["val_accuracy"] == pytest.approx(expected["val_accuracy"], abs=0.12)
    assert last["val_loss"] == pytest.approx(expected["val_loss"], abs=1e-2)
    assert len(rows(tmp_path / "two" / "predictions.csv")) == len(rows(one / "predictions.csv"))
