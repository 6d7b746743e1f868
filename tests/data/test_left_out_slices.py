# SPDX-License-Identifier: Apache-2.0
"""Slices of a volume that are left out in 2D are counted, listed by image and reason, and said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_scans import blob, write_nifti, write_png, write_series

from monai_mixssl.data import prepare
from monai_mixssl.data.labels import LabelledData, classification_data, load_labelled
from monai_mixssl.data.manifest import PreparedData, load_prepared
from monai_mixssl.data.prepared_data import prepare_data

QUIET = {"progress": False, "num_workers": 0, "patch_size": 8}
AIR = "too little foreground"
NEW = ("found_slices", "left_out_slices")


def mostly_air(seed: int) -> np.ndarray:
    """20 slices of noise; all but 8 to 11 show nothing."""
    array = np.random.RandomState(seed).randint(400, 1000, (24, 24, 20)).astype(np.int16)
    array[..., :8] = array[..., 12:] = 0
    return array


@pytest.fixture
def scans(tmp_path) -> Path:
    """Four NIfTI volumes of 20 slices, 16 of them air, and a picture."""
    for number in range(4):
        write_nifti(tmp_path / "scans" / f"{number}.nii.gz", mostly_air(number), np.diag([1.0, 1.0, 3.0, 1.0]))
    write_png(tmp_path / "scans" / "p.png", blob((20, 24), top=250))
    return tmp_path / "scans"


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def forget_counts(folder: Path) -> None:
    """Makes an output folder what a version left that did not count slices."""
    written = manifest(folder)
    for record in written["images"]:
        for name in NEW:
            del record[name]
    written["summary"] = "\n".join(line for line in written["summary"].splitlines() if "slices left out" not in line)
    (folder / "manifest.json").write_text(json.dumps(written))
    for path in (folder / "private" / "prepared").glob("*.json"):
        one = json.loads(path.read_text())
        for name in NEW:
            del one["outcome"][1][name]
        path.write_text(json.dumps(one))


def volumes(data: PreparedData) -> list[dict[str, Any]]:
    return [record for record in data.records.values() if record["kind"] != "image"]


def test_slices_of_air_are_counted_in_the_summary_and_listed_by_image(scans, tmp_path):
    data = prepare_data(scans, tmp_path / "run", **QUIET)
    line = "64 of 80 slices left out: too little foreground (min_foreground 0.1); manifest.json lists them by image."
    assert line in data.summary.splitlines()
    for record in [*volumes(data), *(one for one in manifest(tmp_path / "run")["images"] if one["kind"] != "image")]:
        assert record["found_slices"] == 20
        assert record["slices"] == [8, 9, 10, 11]
        assert record["left_out_slices"] == {AIR: [*range(8), *range(12, 20)]}
        assert record["shape"][0] == 4
    picture = next(record for record in data.records.values() if record["kind"] == "image")
    assert [picture[name] for name in NEW] == [1, {}]
    assert data.excluded == []  # a volume that is used is no file that is left out
    assert (tmp_path / "run" / "excluded.jsonl").read_text() == ""


def test_constant_slices_have_a_reason_of_their_own_and_the_least_foreground_is_the_users(tmp_path):
    for number in range(2):
        array = mostly_air(number).transpose(2, 1, 0)
        array[5:7] = 700
        array[7, :2] = 500  # 2 of 24 rows
        write_series(tmp_path / "scans" / str(number), array, SeriesInstanceUID=f"1.2.{number}")
    data = prepare_data(tmp_path / "scans", tmp_path / "run", **QUIET)
    for record in volumes(data):
        assert record["left_out_slices"] == {AIR: [*range(5), 7, *range(12, 20)], "constant": [5, 6]}
    said = "32 of 40 slices left out: 28 too little foreground (min_foreground 0.1), 4 constant; manifest.json"
    assert said in data.summary
    data = prepare_data(tmp_path / "scans", tmp_path / "run", min_foreground=0.05, **QUIET)
    said = "30 of 40 slices left out: 26 too little foreground (min_foreground 0.05), 4 constant; manifest.json"
    assert said in data.summary


def test_where_all_slices_are_used_and_in_3d_nothing_is_said(scans, tmp_path):
    data = prepare_data(scans, tmp_path / "3d", spatial_dims=3, **QUIET)
    assert all(name not in record for record in data.records.values() for name in (*NEW, "slices"))
    assert "slices" not in data.summary
    for number in range(4):
        write_nifti(scans / f"{number}.nii.gz", mostly_air(number)[..., 8:12], np.diag([1.0, 1.0, 3.0, 1.0]))
    data = prepare_data(scans, tmp_path / "2d", **QUIET)
    assert [[record[name] for name in NEW] for record in volumes(data)] == [[4, {}]] * 4
    assert "slices" not in data.summary


def test_a_run_that_did_not_count_slices_is_resumed_as_it_stands(scans, tmp_path):
    before = prepare_data(scans, tmp_path / "run", **QUIET)
    forget_counts(tmp_path / "run")
    again = prepare_data(scans, tmp_path / "run", resume=True, **QUIET)
    assert again == load_prepared(tmp_path / "run")
    assert (again.data_hash, again.train, again.validation) == (before.data_hash, before.train, before.validation)
    lost = volumes(before)[0]["id"]
    array = (before.folder / f"{lost}.npy").read_bytes()
    (before.folder / f"{lost}.npy").unlink()
    assert prepare_data(scans, tmp_path / "run", resume=True, **QUIET) == again
    assert (before.folder / f"{lost}.npy").read_bytes() == array


def test_what_was_prepared_without_a_count_is_prepared_anew_and_counted(scans, tmp_path, monkeypatch):
    before = prepare_data(scans, tmp_path / "run", **QUIET)
    forget_counts(tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()  # killed just before the end
    after = prepare_data(scans, tmp_path / "run", resume=True, **QUIET)
    assert after == before
    monkeypatch.setattr(prepare, "read_image", lambda *_: pytest.fail("read again"))
    assert prepare_data(scans, tmp_path / "run", **QUIET).records == before.records


def test_labelled_volumes_say_it_too_and_take_over_what_did_not_count(tmp_path):
    rows = ["path,label,patient"]
    for number in range(8):
        write_nifti(tmp_path / "set" / f"{number}.nii", mostly_air(number), np.diag([1.0, 1.0, 3.0, 1.0]))
        rows.append(f"{number}.nii,{'ab'[number % 2]},p{number}")
    (tmp_path / "set" / "labels.csv").write_text("\n".join(rows))
    said: list[str] = []

    def labelled(name: str, **more: Any) -> LabelledData:
        quiet: dict[str, Any] = {"progress": False, "num_workers": 0, "report": said.append}
        return classification_data(tmp_path / "set", tmp_path / name, preparation={"patch_size": 8}, **quiet, **more)

    data = labelled("run")
    line = "128 of 160 slices left out: too little foreground (min_foreground 0.1); manifest.json lists them by image."
    assert line in data.summary.splitlines()
    assert line in "\n".join(said).splitlines()
    assert len(data.train + data.validation + data.test) == 32
    assert line in labelled("taken", data_from=tmp_path / "run").summary.splitlines()
    forget_counts(tmp_path / "run")
    again = labelled("run", resume=True)
    assert again == load_labelled(tmp_path / "run")
    assert again.data_hash == data.data_hash
    assert "slices left out" not in labelled("taken again", data_from=tmp_path / "run").summary
