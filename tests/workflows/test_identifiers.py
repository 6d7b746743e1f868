# SPDX-License-Identifier: Apache-2.0
"""No name, id, date, UID or path leaves ``private/``: every output of everything that this package does is searched.

What the user types himself may appear on the console; the folders that are typed here have innocent names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sentinels
from bundle_runs import BUNDLE, SMALL
from monai.data import PersistentDataset
from monai.transforms import Compose, LoadImaged
from sentinel_search import found_below, found_in

import monai_mixssl
from monai_mixssl.workflows import bundle_root

DOCTOR = str(Path(monai_mixssl.__file__).parent / "__main__.py")
TRACKED = all(find_spec(name) for name in ("mlflow", "sqlalchemy", "alembic"))
HASHES = sentinels.unsalted(
    f"{sentinels.PATIENT}0", f"{sentinels.ROOT}.0.0", f"{sentinels.ROOT}.0.1", "Quarzfels^Ottilie0", "Quarzfels"
)
TAGS = (*sentinels.TAGS, *sentinels.DATES, *HASHES)

# A training in whose middle an image goes bad, and which may be killed.
DAMAGED = """
import csv, json, os, signal, sys
from pathlib import Path
from ignite.engine import Events
import monai_mixssl.workflows
name, keys, kill = json.loads(sys.argv[1])
workflow = getattr(monai_mixssl.workflows, name)(**keys)
workflow.initialize()
out = Path(keys["output_dir"])
def damage():
    images = json.loads((out / "manifest.json").read_text())["images"]
    bad = next(image["id"] for image in images if image["split"] == "training")
    with open(out / "private" / "files.csv", newline="") as table:
        paths = [Path(row["path"]) for row in csv.DictReader(table) if row["id"] == bad]
    for path in (*paths, out / "private" / "prepared" / f"{bad}.npy"):
        if path.exists():
            os.truncate(path, 60)
workflow.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), damage)
workflow.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=kill), lambda: os.kill(os.getpid(), signal.SIGKILL))
workflow.run()
"""
# Someone's own pipeline: our reader, MONAI's cache; then files that cannot be read, each told in full.
OWN = """
import sys, traceback
from pathlib import Path
from monai.data import DataLoader, PersistentDataset
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from monai_mixssl.data import KeepAllowedMetadatad, NormalizeByModalityd, ScanReader
scans, out = map(Path, sys.argv[1:])
load = [LoadImaged("image", reader=ScanReader), KeepAllowedMetadatad("image"), EnsureChannelFirstd("image")]
load = Compose([*load, NormalizeByModalityd("image")])
folders = [path for path in scans.iterdir() if path.is_dir() and "Steinwald" in path.name]
files = [*folders, *scans.rglob("*.gz")]
items = [{"image": str(path)} for path in files if "bad" not in str(path)]
for kept in ({}, {"track_meta": True, "weights_only": False}) * 2:
    dataset = PersistentDataset(items, load, out / f"cache{len(kept)}", **kept)
    for batch in DataLoader(dataset, batch_size=1):
        print(batch, getattr(batch["image"], "meta", {}))
for path in [path for path in scans.rglob("*") if "bad" in str(path)] + [scans]:
    try:
        load({"image": str(path)})
    except Exception:  # whatever is printed must hold no identifier
        traceback.print_exc()
"""


@dataclass
class Everything:
    """All that was run, where it wrote, and what it said, by the name of the step."""

    data: Path
    out: Path
    said: dict[str, str] = field(default_factory=dict)


def options(**keys: Any) -> list[str]:
    return [part for key, value in keys.items() for part in (f"--{key}", str(value))]


@pytest.fixture(scope="module")
def done(command, tmp_path_factory) -> Everything:
    """Doctor, pretraining (killed, resumed, probed, tracked), features, export, fine-tuning, masks, a pipeline."""
    data = sentinels.write_scans(tmp_path_factory.mktemp("data"))
    out = tmp_path_factory.mktemp("outputs")
    everything = Everything(data, out)
    (out / "here").mkdir()
    (out / "temporary").mkdir()
    (out / "tracked").mkdir()

    def step(name: str, *argv: str, status: int = 0, **env: str) -> None:
        ended = command(*argv, cwd=out / "here", env={"TMPDIR": str(out / "temporary"), **env})
        everything.said[name] = ended.out + ended.err
        assert ended.status == status, f"{name}: {ended.err[-3000:]}"

    def bundle(name: str, which: str, config: str, run: str, status: int = 0, **keys: Any) -> None:
        file = str(bundle_root(f"mixssl_{which}") / "configs" / f"{config}.json")
        step(name, "monai.bundle", "run", run, "--config_file", file, *options(**keys), status=status)

    program = tmp_path_factory.mktemp("programs")
    (program / "damaged.py").write_text(DAMAGED)
    (program / "own.py").write_text(OWN)

    def damaged(name: str, workflow: str, keys: dict[str, Any], kill: int, status: int) -> None:
        plain = {key: str(value) if isinstance(value, Path) else value for key, value in keys.items()}
        step(name, str(program / "damaged.py"), json.dumps([workflow, plain, kill]), status=status)

    step("doctor", DOCTOR, "doctor", str(data / "scans"), "--output_dir", str(out / "doctor"), "--read", "30",
         status=3)  # fmt: skip
    step("doctor as JSON", DOCTOR, "doctor", str(data / "scans"), "--json", status=3)
    nothing = ("--dataset_dir", str(data / "bad"), "--output_dir", str(out / "nothing"), "--max_bad_share", "0")
    nothing = ("--workflow_name", "monai_mixssl.PretrainWorkflow", *nothing)
    step("nothing", "monai.bundle", "run", *nothing, status=1, MONAI_MIXSSL_DEBUG="1")

    (out / "own").mkdir()
    step("own", str(program / "own.py"), str(data / "scans"), str(out / "own"))

    run = out / "run"
    keys = {**SMALL, "max_epochs": 2, "pictures": True, "progress": True, "probe_samples": 12, "probe_interval": 1}
    keys |= {"dataset_dir": data / "scans", "output_dir": run, "probe_dir": data / "classes"}
    keys |= {"tracking_uri": f"sqlite:///{out / 'tracked' / 'mlruns.db'}"} if TRACKED else {}
    damaged("killed", "PretrainWorkflow", keys, kill=7, status=-9)
    bundle("resumed", "pretraining", "train", "pretrain", **keys, resume=True)

    encoder = run / "encoder.safetensors"
    few = {"num_workers": 0, "device": "cpu"}
    bundle("features", "pretraining", "inference", "infer", **few, encoder=encoder, dataset_dir=data / "scans",
           output_dir=out / "features")  # fmt: skip
    bundle("state", "pretraining", "inference", "save_state", encoder=encoder, state_file=out / "encoder.pt")
    inference = str(BUNDLE / "configs" / "inference.json")
    step("export", "monai.bundle", "ckpt_export", "--config_file", inference, *options(
        encoder=encoder, ckpt_file=out / "encoder.pt", filepath=out / "encoder.ts"))  # fmt: skip

    tuned = {**few, "pretrained": encoder, "pretrain_run": run, "val_fraction": 0.3, "test_fraction": 0.3}
    tuned |= {"batch_size": 4, "min_steps_per_epoch": 3, "log_interval": 1}
    bundle("classifier", "classification", "train", "finetune", **tuned, dataset_dir=data / "classes", max_epochs=1,
           cache_gb=0.1, output_dir=out / "classifier")  # fmt: skip
    segmenter = {
        **tuned,
        "val_fraction": 0.2,
        "test_fraction": 0.2,
        "dataset_dir": data / "masked",
        "output_dir": out / "segmenter",
        "max_epochs": 2,
    }
    segmenter |= {"spatial_dims": 2, "patch_size": 32, "cache_rate": 0, "val_interval": 1, "max_bad_share": 0.9}
    damaged("segmenter", "SegmentationWorkflow", segmenter, kill=99, status=0)
    bundle("masks", "segmentation", "inference", "infer", **few, model=out / "segmenter" / "model.safetensors",
           dataset_dir=data / "scans", output_dir=out / "masks")  # fmt: skip
    return everything


def test_the_search_finds_what_monais_own_reader_leaves_in_a_cache(done, tmp_path):
    items = [{"image": str(next((done.data / "classes" / "alpha").rglob("Dateiwort^0")))}]
    load = Compose([LoadImaged("image", reader="PydicomReader", prune_metadata=False)])
    assert PersistentDataset(items, load, tmp_path, track_meta=True, weights_only=False)[0]
    hits = " ".join(found_below(tmp_path, (*TAGS, *sentinels.PATHS)))
    assert all(word in hits for word in ("quarzfels", sentinels.PATIENT, "dateiwort", "steinwald"))


def test_everything_was_searched_that_the_runs_leave(done):
    kinds = {path.suffix for path in done.out.rglob("*") if path.is_file() and "private" not in path.parts}
    assert kinds >= {".pt", ".ts", ".png", ".csv", ".json", ".jsonl", ".safetensors", ".gz", *[".db"] * TRACKED}
    assert list((done.out / "own" / "cache2").glob("*.pt"))
    assert list((done.out / "run" / "tensorboard").iterdir())
    for name in ("run", "segmenter"):
        assert (done.out / name / "substituted.jsonl").read_text(), f"nothing went bad in the middle of {name}"
    assert done.said["own"].count("monai_mixssl.errors") > 5
    assert "modality" in done.said["own"]


def test_no_name_id_date_uid_or_path_stands_outside_of_private(done):
    assert found_below(done.out, (*TAGS, *sentinels.PATHS)) == []


def test_no_name_id_date_uid_or_path_stands_on_the_console(done):
    said = ((step, text.encode()) for step, text in done.said.items())
    assert found_in(said, (*TAGS, *sentinels.PATHS)) == []


def test_private_holds_paths_but_no_name_no_date_and_no_id_as_it_is(done):
    assert found_below(done.out, TAGS, private=True) == []
    paths = {hit.split(": ")[0] for hit in found_below(done.out, sentinels.PATHS, private=True)}
    assert {Path(path).name for path in paths} == {"files.csv", "index.json", "headers.json", "pairs.json"}
    assert "run/private/files.csv" in paths


def test_the_provided_series_with_a_made_up_name_leaves_no_trace_but_its_paths_in_private(
    provided_data, command, tmp_path
):
    named, other = (provided_data / "dicom" / name for name in ("mr_t1w_structural", "mr_small_series"))
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in named.iterdir()]
    words = {".".join(headers[0].SOPInstanceUID.split(".")[:8])}  # whose UIDs they are: all begin so
    words |= {str(element.value) for header in headers for element in header if element.VR in ("PN", "DA")}
    words |= {headers[0].StudyDescription, headers[0].StudyID, headers[0].ProtocolName}
    words = {word for word in words if word}
    assert {"Jane_Doe", "19660101"} <= words
    assert min(map(len, words)) > 7
    keys = {**SMALL, "batch_size": 32, "max_epochs": 1, "val_samples": 8, "pictures": True}
    keys |= {"dataset_dir": f"{named},{other}", "output_dir": tmp_path / "run"}
    runs = [
        (DOCTOR, "doctor", str(named), "--output_dir", str(tmp_path / "doctor"), "--read", "1"),
        ("monai.bundle", "run", "--workflow_name", "monai_mixssl.PretrainWorkflow", *options(**keys)),
    ]
    ended = [command(*argv, cwd=tmp_path) for argv in runs]
    assert [one.status for one in ended] == [0, 0], ended[-1].err[-3000:]
    said = [("console", (one.out + one.err).encode()) for one in ended]
    assert found_in(said, [*words, "N2D_"]) == []
    assert found_below(tmp_path, [*words, "N2D_"]) == []
    assert found_below(tmp_path, words, private=True) == []
    assert found_below(tmp_path, ["N2D_"], private=True)
