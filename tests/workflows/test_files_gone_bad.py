# SPDX-License-Identifier: Apache-2.0
"""Whole runs in which files go bad after the scan: they go on, say so, and resume exactly."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from bundle_runs import BUNDLE, SMALL
from finetune_runs import BUNDLES
from segmentation_runs import SMALL as SMALL_SEGMENTATION

from monai_mixssl.data.labels import segmentation_data
from monai_mixssl.data.phantoms import write_phantoms, write_segmentation_phantoms
from monai_mixssl.handlers import latest_iteration, read_log
from monai_mixssl.workflows.last_line import PREFIX

# The real command, to whose files something happens after some iterations: PLAN holds pairs of an iteration and what is
# done then. Iteration 0 is after the scan, before any image is loaded. It happens before the checkpoint of that
# iteration is saved; "kill" happens after it.
PROGRAM = """
import csv, json, os, runpy, sys
from pathlib import Path
from ignite.engine import Events
from monai_mixssl.data.lenient_cache import LenientCacheDataset
from monai_mixssl.handlers import RunCheckpoint

plan = json.loads(os.environ["PLAN"])

def files(output, name, prepared):
    with open(output / "private" / "files.csv", newline="") as table:
        rows = [row for row in csv.DictReader(table) if name in row["path"] and row["use"] == "image"]
    if prepared:
        return {output / "private" / "prepared" / f"{row['id']}.npy" for row in rows}
    return {Path(row["path"]) for row in rows}

def act(output, iteration):
    for when, what, *more in plan:
        if when != iteration or what == "kill":
            continue
        for file in files(output, more[0], what.startswith("prepared")):
            if what.endswith("gone"):
                file.unlink(missing_ok=True)  # each of several processes does so
            elif what.endswith("cut short"):
                os.truncate(file, file.stat().st_size // 2)
            elif what.endswith("back"):
                kept = output.parent / "kept" / file.relative_to(output.parent / "scans")
                file.write_bytes(kept.read_bytes())

def kill(engine):
    if [engine.state.iteration, "kill"] in plan:
        os.kill(os.getpid(), 9)

attach, fill = RunCheckpoint.attach, LenientCacheDataset.__init__

def attach_last(self, engine):
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: act(self.folder.parent, e.state.iteration))
    attach(self, engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, kill)

def fill_later(self, *args, **kwargs):
    act(Path(os.environ["OUTPUT"]), 0)
    fill(self, *args, **kwargs)

RunCheckpoint.attach, LenientCacheDataset.__init__ = attach_last, fill_later
sys.argv[0] = "monai.bundle"
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""

# two patients whose slices are in nearly every batch, one in each format
LOST = ("PHANTOM-0-0001", "PHANTOM-0-0002")


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("program") / "program.py"
    file.write_text(PROGRAM)
    return file


@pytest.fixture(scope="module")
def go(command, program) -> Callable[..., Any]:
    """``go(folder, plan, key=value, …)``: the bundle command with a plan, small unless the keys say otherwise."""

    def run(
        folder: Path,
        plan: list[Any] = (),
        bundle: str = "pretraining",
        config: str = "configs/train.json",
        processes: int = 0,
        **keys: Any,
    ) -> Any:
        usual = SMALL if bundle == "pretraining" else SMALL_SEGMENTATION
        given = {**usual, "max_epochs": 2, "dataset_dir": folder.parent / "scans", "output_dir": folder, **keys}
        argv = [part for key, value in given.items() for part in (f"--{key}", str(value))]
        env = {"PLAN": json.dumps(plan), "OUTPUT": str(folder)}
        what = "pretrain" if bundle == "pretraining" else "finetune"
        root = BUNDLE if bundle == "pretraining" else BUNDLES / f"mixssl_{bundle}"
        argv += ["--config_file", config]
        return command(str(program), "run", what, *argv, cwd=root, env=env, processes=processes)

    return run


@pytest.fixture
def scans(tmp_path) -> Path:
    return keep(write_phantoms(tmp_path / "scans", patients=6, image_size=32, slices=5))


def keep(folder: Path) -> Path:
    """With a copy of everything, to put it back from."""
    shutil.copytree(folder, folder.parent / "kept")
    return folder


def put_back(folder: Path) -> None:
    shutil.copytree(folder.parent / "kept", folder, dirs_exist_ok=True)


def lines_of(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    return read_log(folder / ("substituted.jsonl" if rank == 0 else f"substituted_{rank}.jsonl"))


def ids_of(folder: Path, *names: str) -> set[str]:
    with open(folder / "private" / "files.csv", newline="") as file:
        return {row["id"] for row in csv.DictReader(file) if any(name in row["path"] for name in names)}


def final_state(folder: Path) -> list[torch.Tensor]:
    newest = folder / "checkpoints" / f"checkpoint_{latest_iteration(folder / 'checkpoints')}.pt"
    state = torch.load(newest, weights_only=True)
    moments = [v for s in state["optimizer"]["state"].values() for v in s.values()]
    return [*state["network"].values(), *moments]


def without_ids(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ids are random in each folder, and time is what it is."""
    return [{k: v for k, v in line.items() if k not in ("seconds", "id", "replaced_by")} for line in lines]


def end_alike(one: Path, other: Path) -> bool:
    states = zip(final_state(one), final_state(other), strict=True)
    logs = [without_ids(read_log(folder / "log.jsonl")) for folder in (one, other)]
    return all(torch.equal(a, b) for a, b in states) and logs[0] == logs[1]


def assert_no_names(folder: Path, *texts: str) -> None:
    """Neither a patient's name nor a path stands anywhere outside ``private/``, nor in what was printed."""
    for file in folder.rglob("*"):
        if file.is_file() and file.relative_to(folder).parts[0] != "private":
            content = file.read_bytes()
            assert b"PHANTOM" not in content, file
            assert b"scans/" not in content, file
    for text in texts:
        assert "PHANTOM" not in text


@pytest.fixture(scope="module")
def undisturbed(go, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_phantoms(folder / "scans", patients=6, image_size=32, slices=5)
    assert go(folder / "run").status == 0
    return folder / "run"


def test_a_prepared_image_that_is_damaged_in_training_is_made_again_and_nothing_changes(
    go, scans, undisturbed, tmp_path
):
    plan = [[3, "prepared cut short", LOST[0]], [6, "prepared gone", LOST[1]]]
    ended = go(tmp_path / "run", plan, num_workers=2)
    assert ended.status == 0, ended.err
    assert end_alike(undisturbed, tmp_path / "run")
    assert not (tmp_path / "run" / "substituted.jsonl").exists()
    for image_id in ids_of(tmp_path / "run", *LOST):
        assert f"{image_id} was damaged and has been made again" in ended.out + ended.err
    assert_no_names(tmp_path / "run", ended.out, ended.err)


def test_a_disk_that_is_gone_for_a_while_stops_the_run_and_changes_nothing(go, scans, undisturbed, tmp_path):
    ended = go(tmp_path / "run", [[3, "prepared gone", "PHANTOM"], [3, "gone", "PHANTOM"]], num_workers=2)
    assert ended.status == 1
    assert "cannot be read any more, nor can those that could take its place" in ended.last_line
    assert "Traceback" not in ended.err
    put_back(scans)
    resumed = go(tmp_path / "run", resume=True)
    assert resumed.status == 0, resumed.err
    assert end_alike(undisturbed, tmp_path / "run")
    assert_no_names(tmp_path / "run", ended.out, ended.err)


def test_where_the_scan_is_gone_too_others_stand_in_and_a_killed_run_ends_like_one_that_was_not(go, scans, tmp_path):
    bad = [[6, "prepared gone", LOST[0]], [6, "gone", LOST[0]], [6, "prepared cut short", LOST[1]]]
    bad += [[6, "cut short", LOST[1]]]
    ended = go(tmp_path / "whole", bad)
    assert ended.status == 0, ended.err
    lines = lines_of(tmp_path / "whole")
    assert {line["id"] for line in lines} == ids_of(tmp_path / "whole", *LOST)
    assert {line["reason"] for line in lines} == {"cannot be read any more"}
    assert min(line["iteration"] for line in lines) == 7
    events = [line for line in read_log(tmp_path / "whole" / "log.jsonl") if line["event"] == "substitution"]
    assert events == [{"event": "substitution", **line} for line in lines]
    assert f"2 training images could not be read at some time; others stood in for them {len(lines)} times" in ended.out
    for image_id in ids_of(tmp_path / "whole", *LOST):
        assert (ended.out + ended.err).count(f"image {image_id} (training): cannot be read any more") == 1
    assert_no_names(tmp_path / "whole", ended.out, ended.err)

    put_back(scans)
    assert go(tmp_path / "run", [*bad, [7, "kill"]]).status == -9
    recorded = lines_of(tmp_path / "run")
    assert recorded
    assert latest_iteration(tmp_path / "run" / "checkpoints") == 6
    resumed = go(tmp_path / "run", resume=True)
    assert resumed.status == 0, resumed.err
    assert end_alike(tmp_path / "whole", tmp_path / "run")
    assert without_ids(lines_of(tmp_path / "run")) == without_ids(lines)
    assert lines_of(tmp_path / "run")[: len(recorded)] == recorded
    assert_no_names(tmp_path / "run", ended.out, ended.err)


def test_scans_that_come_back_while_a_run_is_down_change_nothing_of_what_it_had_trained_on(go, scans, tmp_path):
    # the source reads the same images: where it comes upon a lost one, it is drawn anew, in validation, too
    keys = {"source": "same_domain"}
    bad = [[6, f"{what}gone", name] for name in LOST for what in ("prepared ", "")]
    assert go(tmp_path / "whole", [*bad, *([7, "back", name] for name in LOST)], **keys).status == 0
    lines = lines_of(tmp_path / "whole")
    assert {(line["split"], line["iteration"]) for line in lines} == {("validation", 6), ("training", 7)}
    assert not any(line["id"] for line in lines if line["split"] == "validation")  # no image held out is lost
    assert go(tmp_path / "run", [*bad, [7, "kill"]], **keys).status == -9
    put_back(scans)
    resumed = go(tmp_path / "run", resume=True, **keys)
    assert resumed.status == 0, resumed.err
    assert end_alike(tmp_path / "whole", tmp_path / "run")
    assert without_ids(lines_of(tmp_path / "run")) == without_ids(lines)


def test_too_many_that_go_bad_in_training_end_it_with_one_sentence_and_keep_the_checkpoint(go, scans, tmp_path):
    bad = [[4, f"{what}gone", name] for name in LOST for what in ("prepared ", "")]
    ended = go(tmp_path / "run", bad, max_bad_share=0.2)
    assert ended.status == 1
    assert ended.last_line.startswith(PREFIX)
    assert "2 of 5 training images cannot be read any more, more than the share 0.2" in ended.last_line
    assert "--resume True" in ended.last_line
    assert ended.err.count(PREFIX) == 1
    assert "Traceback" not in ended.err
    assert latest_iteration(tmp_path / "run" / "checkpoints") >= 4
    put_back(scans)
    resumed = go(tmp_path / "run", resume=True, max_bad_share=0.2)  # as the sentence says
    assert resumed.status == 0, resumed.err
    assert latest_iteration(tmp_path / "run" / "checkpoints") == 12
    assert_no_names(tmp_path / "run", ended.err, resumed.err)


def test_too_many_bad_files_at_the_scan_end_it_with_one_sentence(go, scans, tmp_path):
    for file in sorted((tmp_path / "scans" / "dicom").rglob("*.dcm"))[::2]:
        file.write_bytes(b"")
    ended = go(tmp_path / "run", max_bad_share=0.3)
    assert ended.status == 1
    assert ended.last_line.startswith(PREFIX)
    assert "8 of 18 files that should be images are damaged or cannot be read (mostly: empty file)" in ended.last_line
    assert "max_bad_share" in ended.last_line
    reasons = [json.loads(line) for line in (tmp_path / "run" / "excluded.jsonl").read_text().splitlines()]
    assert len({line["id"] for line in reasons}) == len(reasons)
    assert_no_names(tmp_path / "run", ended.out, ended.err)


def test_each_of_several_processes_writes_down_its_own(go, scans, tmp_path):
    bad = [[2, f"{what}gone", name] for name in LOST for what in ("prepared ", "")]
    several = "['configs/train.json','configs/multi_gpu_train.json']"
    ended = go(tmp_path / "run", bad, config=several, processes=2, batch_size=2)
    assert ended.status == 0, ended.err
    for rank in (0, 1):
        lines = lines_of(tmp_path / "run", rank)
        assert {line["id"] for line in lines} <= ids_of(tmp_path / "run", *LOST)
        assert lines


# Segmentation reads the files themselves, once where they fit into memory


def write_pairs(folder: Path) -> Path:
    return keep(write_segmentation_phantoms(folder / "scans", patients=8, image_size=32, slices=3))


@pytest.fixture
def pairs(tmp_path) -> Path:
    return write_pairs(tmp_path)


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> dict[str, list[str]]:
    """Names of the images of each split, the same in every run on these data."""
    folder = tmp_path_factory.mktemp("split")
    keys = ("val_fraction", "test_fraction", "spatial_dims")
    data = segmentation_data(
        write_pairs(folder),
        folder / "run",
        num_workers=0,
        progress=False,
        **{key: SMALL_SEGMENTATION[key] for key in keys},
    )
    parts = {"training": data.train, "validation": data.validation}
    return {name: [Path(item["image"]).name for item in items] for name, items in parts.items()}


def test_segmentation_goes_on_with_a_file_that_is_truncated_after_the_scan(go, pairs, split, tmp_path):
    first, second, *_ = split["training"]
    for rate, plan in ((1.0, [[0, "cut short", first]]), (0.0, [[2, "cut short", first], [2, "gone", second]])):
        put_back(pairs)
        folder = tmp_path / f"run{rate}"
        ended = go(folder, plan, "segmentation", cache_rate=rate)
        assert ended.status == 0, ended.err
        lines = lines_of(folder)
        assert {line["id"] for line in lines} == ids_of(folder, *(name for _, _, name in plan))
        assert {line["reason"] for line in lines} == {"cannot be read any more"}
        assert min(line["iteration"] for line in lines) > plan[0][0]
        assert "could not be read at some time" in ended.out
        assert safetensors.torch.load_file(folder / "model.safetensors")
        assert json.loads((folder / "run.json").read_text())["status"] == "complete"
        assert_no_names(folder, ended.out, ended.err)


def test_segmentation_that_is_killed_and_resumed_ends_like_one_that_was_not(go, pairs, split, tmp_path):
    bad = [[2, "cut short", split["training"][0]]]
    assert go(tmp_path / "whole", bad, "segmentation", cache_rate=0.0).status == 0
    put_back(pairs)
    assert go(tmp_path / "run", [*bad, [3, "kill"]], "segmentation", cache_rate=0.0).status == -9
    assert lines_of(tmp_path / "run")
    assert go(tmp_path / "run", [], "segmentation", cache_rate=0.0, resume=True).status == 0
    assert end_alike(tmp_path / "whole", tmp_path / "run")
    assert without_ids(lines_of(tmp_path / "run")) == without_ids(lines_of(tmp_path / "whole"))


def test_an_image_that_is_held_out_is_not_replaced(go, pairs, split, tmp_path):
    name = split["validation"][0]
    ended = go(tmp_path / "run", [[2, "cut short", name]], "segmentation", cache_rate=0.0)
    assert ended.status == 1
    [image_id] = ids_of(tmp_path / "run", name)
    assert f"{image_id} cannot be used (" in ended.last_line
    assert "private/files.csv" in ended.last_line
    assert "Traceback" not in ended.err
    assert_no_names(tmp_path / "run", ended.out, ended.err)
