# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind, and what it must not."""

from __future__ import annotations

import csv
import json
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from bundle_runs import BUNDLE, SMALL, run
from named_scans import LEFT_OUT, SENTINELS, leaks, write_named_scans
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.handlers import latest_iteration, read_log
from monai_mixssl.networks import MixSSLNet, load_encoder
from monai_mixssl.output_folder import is_output_folder

DOCS = Path(__file__).parents[2] / "docs" / "output-folder.md"
PLACEHOLDER = "<in private/config.json>"
KEYS = {**SMALL, "max_epochs": 2, "val_fraction": 0.4, "pictures": True, "progress": True, "transparency": [0.1, 0.9]}


@dataclass(frozen=True)
class Run:
    """A run through the real command."""

    folder: Path
    scans: Path
    console: str
    changed: list[str]  # in the data folder and the bundle


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Iterator[Path]:
    """A folder that may only be read; its own name, which the user types, may appear on the console."""
    folder = write_named_scans(tmp_path_factory.mktemp("data") / "typed_by_the_user")
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    yield folder
    for path in folders:
        path.chmod(0o755)


def tree(*folders: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of everything in some folders."""
    found = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


@pytest.fixture(scope="module")
def done(command, scans, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("outputs") / "run"
    keys = {**KEYS, "dataset_dir": scans, "output_dir": folder}
    overrides = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    before = tree(scans, BUNDLE)
    ended = command("monai.bundle", "run", "pretrain", "--config_file", "configs/train.json", *overrides, cwd=BUNDLE)
    assert ended.status == 0, ended.err[-3000:]
    after = tree(scans, BUNDLE)
    changed = [path for path in {*before, *after} if before.get(path) != after.get(path)]
    return Run(folder, scans, ended.out + ended.err, changed)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def files_by_id(folder: Path) -> dict[str, str]:
    with open(folder / "private" / "files.csv", newline="") as file:
        return {row["id"]: row["path"] for row in csv.DictReader(file)}


def test_the_folder_holds_what_the_docs_list_and_nothing_else(done):
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    listed = {re.findall("`([^`]+)`", row.split("|")[1])[0] for row in rows}
    assert len(listed) > 10
    for name in listed:
        assert (done.folder / name).exists(), name
        assert (done.folder / name).is_dir() == name.endswith("/"), name
    assert {path.name for path in done.folder.iterdir()} == {name.split("/")[0] for name in listed}
    epochs = {f"pictures/examples_epoch_{number:04d}.png" for number in (1, 2)}
    pictures = {f"pictures/{path.name}" for path in (done.folder / "pictures").iterdir()}
    assert pictures == epochs | {name for name in listed if name.endswith(".png")}
    private = {path.name for path in (done.folder / "private").iterdir()}
    assert private == {"config.json", "files.csv", "index.json", "lock", "prepared", "salt", "scan"}


def test_the_folder_is_recognised_as_no_data_for_another_run(done):
    assert is_output_folder(done.folder)
    assert not is_output_folder(done.scans)


def test_private_is_for_its_owner_only(done):
    assert stat.S_IMODE((done.folder / "private").stat().st_mode) == 0o700
    assert stat.S_IMODE((done.folder / "private" / "salt").stat().st_mode) == 0o600


def test_nothing_is_written_beside_the_output_folder(done):
    assert done.changed == []


def test_the_log_holds_both_objectives_of_each_step_and_validation(done):
    log = lines(done.folder / "log.jsonl")
    training = [line for line in log if line["event"] == "train"]
    steps = training[-1]["iteration"]
    assert [line["iteration"] for line in training] == list(range(1, steps + 1))
    for line in training:
        parts = line["reconstruction_loss"] + line["transparency_loss"]
        assert line["loss"] == pytest.approx(parts, rel=1e-5)
        assert parts > 0
    validation = [line for line in log if line["event"] == "validation"]
    assert [line["epoch"] for line in validation] == [1, 2]
    documented = set(re.findall("`([a-z_0-9]+)`", DOCS.read_text().split("Metrics of")[1].split("##")[0]))
    assert documented - {"validation"} == set(validation[0]) - {"event", "epoch", "iteration", "seconds"}


def test_tensorboard_shows_both_objectives_and_the_metrics_of_validation(done):
    events = EventAccumulator(str(done.folder / "tensorboard"))
    events.Reload()
    log = lines(done.folder / "log.jsonl")
    for name in ("loss", "reconstruction_loss", "transparency_loss"):
        shown = {event.step: event.value for event in events.Scalars(name)}
        logged = {line["iteration"]: line[name] for line in log if line["event"] == "train"}
        assert shown == pytest.approx(logged, rel=1e-5)
    for name in ("val_reconstruction_loss", "val_transparency_loss", "transparency_r2", "reconstruction_ssim"):
        shown = [event.value for event in events.Scalars(name)]
        assert shown == pytest.approx([line[name] for line in log if line["event"] == "validation"], rel=1e-5)


def test_no_picture_is_blank(done):
    for path in (done.folder / "pictures").glob("*.png"):
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("L"), dtype=float)
        assert min(pixels.shape) > 200, path.name
        # more than text and axes on white: panels or curves in the middle of the page, too
        middle = pixels[tuple(slice(size // 4, -size // 4) for size in pixels.shape)]
        assert middle.std() > 5, path.name


def test_the_configuration_is_the_one_that_ran_without_its_paths(done):
    expected = json.loads((BUNDLE / "configs" / "train.json").read_text())
    expected |= {**KEYS, "dataset_dir": PLACEHOLDER, "output_dir": PLACEHOLDER, "bundle_root": PLACEHOLDER}
    expected["run"] = expected["pretrain"]  # MONAI copies what a % names
    written = json.loads((done.folder / "config.json").read_text().replace("::", "#"))
    assert written == expected
    private = json.loads((done.folder / "private" / "config.json").read_text())
    assert private["dataset_dir"] == str(done.scans)
    assert private["output_dir"] == str(done.folder)


def test_what_is_left_out_is_listed_by_id_with_a_reason(done):
    excluded, paths = lines(done.folder / "excluded.jsonl"), files_by_id(done.folder)
    reasons = {Path(paths[line["id"]]).name: line["reason"] for line in excluded}
    assert len(reasons) == len(excluded) == len(LEFT_OUT)
    for part, reason in LEFT_OUT.items():
        assert [found for name, found in reasons.items() if part in name] == [reason]
    for reason in LEFT_OUT.values():
        assert reason in done.console


def test_the_manifest_names_every_image_used_by_an_id_that_private_explains(done):
    images = json.loads((done.folder / "manifest.json").read_text())["images"]
    paths = files_by_id(done.folder)
    assert len(images) == 6
    assert {image["split"] for image in images} == {"training", "validation"}
    for image in images:
        assert Path(paths[image["id"]]).is_relative_to(done.scans / image["kind"])
        assert (done.folder / "private" / "prepared" / f"{image['id']}.npy").is_file()


def test_no_name_id_date_uid_or_path_leaves_private(done):
    assert SENTINELS.search((done.folder / "private" / "files.csv").read_bytes())  # the search can find something
    assert leaks(done.folder, str(done.scans).encode()) == []
    assert leaks(done.folder, done.scans.name.encode()) == []
    assert leaks(done.folder, str(done.folder).encode()) == []
    assert not SENTINELS.search(done.console.encode())


def test_the_console_tells_what_was_found_and_what_the_run_will_need(done):
    for said in ("Found ", "Left out 4", "disk", "memory", "MB", " s", "held-out", "image/s", "reconstruction="):
        assert said in done.console
    assert "private/files.csv" in done.console


def test_the_encoder_file_gives_the_features_of_the_last_checkpoint(done):
    checkpoints = done.folder / "checkpoints"
    state = torch.load(checkpoints / f"checkpoint_{latest_iteration(checkpoints)}.pt", weights_only=True)
    assert state["record"]["preparation"]["normalization"] == "auto"
    network = MixSSLNet()
    network.load_state_dict(state["network"])
    encoder, metadata = load_encoder(done.folder / "encoder.safetensors")
    assert metadata["preparation"] == state["record"]["preparation"]
    image = torch.rand(2, 1, 40, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, theirs in zip(encoder(image), network.eval().encoder(image), strict=True):
            assert torch.equal(ours, theirs)


def test_the_decoder_file_gives_the_decoder_of_the_last_checkpoint(done):
    checkpoints = done.folder / "checkpoints"
    state = torch.load(checkpoints / f"checkpoint_{latest_iteration(checkpoints)}.pt", weights_only=True)["network"]
    decoder = safetensors.torch.load_file(done.folder / "decoder.safetensors")
    trained = {name.removeprefix("decoder."): t for name, t in state.items() if name.startswith("decoder.")}
    assert decoder.keys() == trained.keys()
    assert all(torch.equal(decoder[name], trained[name]) for name in decoder)
    assert "decoder.safetensors" in done.console


def test_the_number_of_workers_and_the_pictures_change_nothing_in_the_encoder(done, tmp_path):
    keys = {**KEYS, "num_workers": 2, "pictures": False, "progress": False}
    assert run(dataset_dir=done.scans, output_dir=tmp_path / "run", **keys) == 0
    one, two = (safetensors.torch.load_file(f / "encoder.safetensors") for f in (done.folder, tmp_path / "run"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_can_start_from_the_encoder_of_another(done, tmp_path):
    given = done.folder / "encoder.safetensors"
    still = {"learning_rate": 1e-9, "weight_decay": 0, "max_epochs": 1}  # so that what it started from is what is left
    assert run(dataset_dir=done.scans, output_dir=tmp_path / "run", init_weights=given, **still) == 0
    before, after = (safetensors.torch.load_file(f) for f in (given, tmp_path / "run" / "encoder.safetensors"))
    weights = [name for name in before if name.endswith("weight")]
    assert len(weights) > 10
    for name in weights:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    assert str(given).encode() not in (tmp_path / "run" / "config.json").read_bytes()


def test_weights_of_another_architecture_are_refused_by_name_before_the_scan(command, done, tmp_path):
    keys = {**SMALL, "dataset_dir": done.scans, "output_dir": tmp_path / "run", "backbone": "resnet18_s8"}
    keys["init_weights"] = done.folder / "encoder.safetensors"
    overrides = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    ended = command("monai.bundle", "run", "pretrain", "--config_file", "configs/train.json", *overrides, cwd=BUNDLE)
    assert ended.status == 1
    assert "init_weights holds another encoder (backbone 'resnet10_s8_thin' instead of 'resnet18_s8'" in ended.last_line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", ["a,b", "a datalist"])
def test_data_come_as_several_folders_or_as_a_datalist_too(given, scans, tmp_path):
    dataset_dir = f"{scans / 'dicom'},{scans / 'nifti'}"
    if given == "a datalist":
        files = sorted(str(path) for path in scans.rglob("*") if path.is_file())
        (tmp_path / "list.json").write_text(json.dumps({"training": [{"image": file} for file in files]}))
        dataset_dir = str(tmp_path / "list.json")
    assert run(dataset_dir=dataset_dir, output_dir=tmp_path / "run", max_epochs=1) == 0
    images = json.loads((tmp_path / "run" / "manifest.json").read_text())["images"]
    assert sorted(image["kind"] for image in images) == ["dicom"] * 3 + ["nifti"] * 3
    assert len(lines(tmp_path / "run" / "excluded.jsonl")) == len(LEFT_OUT)
    assert leaks(tmp_path / "run", str(scans).encode()) == []


def test_pictures_without_a_pixel_size_can_be_trained_on(tmp_path):
    (tmp_path / "scans").mkdir()
    for number in range(6):
        pixels = np.random.RandomState(number).randint(0, 256, (40, 48), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "scans" / f"{number}.{('png', 'jpg')[number % 2]}")
    assert run(dataset_dir=tmp_path / "scans", output_dir=tmp_path / "run", max_epochs=1) == 0
    images = json.loads((tmp_path / "run" / "manifest.json").read_text())["images"]
    assert [(image["kind"], image["spacing"]) for image in images] == [("image", None)] * 6


def test_in_3d_volumes_are_used_whole_and_single_images_left_out(tmp_path):
    scans = write_phantoms(tmp_path / "scans", patients=4, image_size=40, slices=18)
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(scans / "nifti" / "single.png")
    keys = {"spatial_dims": 3, "batch_size": 2, "max_epochs": 1, "pictures": True}
    assert run(dataset_dir=scans, output_dir=tmp_path / "run", **keys) == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert [len(image["shape"]) for image in manifest["images"]] == [4] * 4
    reasons = [line["reason"] for line in lines(tmp_path / "run" / "excluded.jsonl")]
    assert "a single image, and spatial_dims is 3" in reasons
    assert read_log(tmp_path / "run" / "log.jsonl")[-1]["event"] == "validation"
    with Image.open(tmp_path / "run" / "pictures" / "examples.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5
    assert load_encoder(tmp_path / "run" / "encoder.safetensors")[1]["record"]["spatial_dims"] == 3
