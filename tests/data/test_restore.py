# SPDX-License-Identifier: Apache-2.0
"""Prepared images that are damaged while a run uses them are made again from their scans, or not used."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import sys
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pytest
from tiny_scans import blob, write_nifti, write_series

from monai_mixssl.data import prepare
from monai_mixssl.data.atomic import write_atomically
from monai_mixssl.data.manifest import PreparedData
from monai_mixssl.data.prepared_data import prepare_data
from monai_mixssl.data.prepared_transforms import LoadPreparedd
from monai_mixssl.errors import RunFolderError, UnreadableImageError

QUIET = {"progress": False, "num_workers": 0, "patch_size": 16}


@pytest.fixture
def scans(tmp_path) -> Path:
    """Four NIfTI volumes and a DICOM series, under telling names."""
    folder = tmp_path / "scans"
    for number in range(4):
        write_nifti(folder / f"SENTINEL{number}.nii.gz", blob((20, 22, 24), seed=number))
    write_series(folder / "SENTINEL series", blob((18, 20, 22)), step=1.5)
    return folder


@pytest.fixture
def data(scans, tmp_path) -> PreparedData:
    return prepare_data(scans, tmp_path / "run", **QUIET)


def scan_of(data: PreparedData, image_id: str) -> list[Path]:
    index = json.loads((data.folder.parent / "index.json").read_text())
    image = next(image for image in index if image["id"] == image_id)
    return [Path(part[0] if isinstance(part, list) else part["path"]) for part in image["parts"]]


def spoil(path: Path, how: str) -> None:
    if how == "gone":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut short":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "zeros":
        path.write_bytes(bytes(path.stat().st_size))
    elif how == "random bytes":
        path.write_bytes(np.random.RandomState(0).bytes(path.stat().st_size))
    elif how == "another size":  # a header that can be read, and is wrong
        path.write_bytes(path.read_bytes().replace(b"'shape': (", b"'shape': (1,", 1))


SPOILT = ["gone", "empty", "cut short", "zeros", "random bytes", "another size"]


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize("end", [".npy", ".json"])
def test_a_damaged_prepared_image_is_made_again_the_same(data, caplog, how, end):
    load = LoadPreparedd("image", data.folder)
    for item in (data.train[0], data.train[-1]):
        image_id = item["image"]
        expected = load(item)["image"]
        files = [data.folder / f"{image_id}{one}" for one in (".npy", ".json")]
        before = [file.read_bytes() for file in files]
        spoil(data.folder / f"{image_id}{end}", how)
        if end == ".json" and how == "another size":
            continue
        again = load(item)["image"]
        np.testing.assert_array_equal(again, expected)
        assert again.meta.keys() == expected.meta.keys()
        assert [file.read_bytes() for file in files] == before
        assert f"{image_id} was damaged and has been made again" in caplog.text
    assert "SENTINEL" not in caplog.text


def test_threads_that_come_upon_the_same_damage_do_not_get_in_each_others_way(data):
    load = LoadPreparedd("image", data.folder)
    items = [item for item in data.train if item["image"] == data.train[0]["image"]][:8]
    expected = [np.asarray(load(item)["image"]) for item in items]
    with ThreadPool(8) as pool:
        for _ in range(5):
            spoil(data.folder / f"{items[0]['image']}.npy", "gone")
            found = pool.map(lambda item: np.asarray(load(item)["image"]), items)
            assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert not list(data.folder.glob("*.part"))


@pytest.mark.parametrize("how", SPOILT[:5])
def test_without_its_scan_a_damaged_prepared_image_is_an_error_that_names_the_id(data, how):
    item = data.train[0]
    path = data.folder / f"{item['image']}.npy"
    content = path.read_bytes()
    record = path.with_suffix(".json").read_bytes()
    spoil(path, how)
    for file in scan_of(data, item["image"]):
        spoil(file, how)
    load = LoadPreparedd("image", data.folder)
    for _ in range(2):
        with pytest.raises(UnreadableImageError, match=f"{item['image']} cannot be read .*private/files.csv") as raised:
            load(item)
        assert raised.value.image_id == item["image"]
        assert "SENTINEL" not in str(raised.value)
    assert path.with_suffix(".json").read_bytes() == record  # what was known of it is not forgotten
    path.write_bytes(content)
    assert load(item)["image"].shape[0] == 1


def test_a_scan_that_has_changed_since_is_not_taken_for_what_it_was(data, tmp_path, scans):
    item = data.train[0]
    [file] = scan_of(data, item["image"])
    expected = LoadPreparedd("image", data.folder)(item)["image"]
    content = file.read_bytes()
    write_nifti(file, blob((20, 22, 24), seed=99))
    (data.folder / f"{item['image']}.npy").unlink()
    with pytest.raises(UnreadableImageError, match=item["image"]):
        LoadPreparedd("image", data.folder)(item)
    with pytest.raises(RunFolderError, match="1 prepared images of this run are gone and cannot be made again"):
        prepare_data(scans, tmp_path / "run", resume=True, max_bad_share=0.1, **QUIET)
    file.write_bytes(content)  # at another time, and yet the same
    np.testing.assert_array_equal(LoadPreparedd("image", data.folder)(item)["image"], expected)


def test_a_resume_goes_on_without_what_is_lost_up_to_the_share(data, tmp_path, scans, caplog):
    item = data.train[0]
    spoil(data.folder / f"{item['image']}.npy", "cut short")
    for file in scan_of(data, item["image"]):
        file.unlink()
    assert prepare_data(scans, tmp_path / "run", resume=True, max_bad_share=0.2, **QUIET) == data
    assert f"1 prepared images are gone and cannot be made again (such as {item['image']})" in caplog.text


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_what_the_machine_is_to_blame_for_is_not_taken_for_damage(data, monkeypatch, number):
    def fail(*args, **kwargs):
        raise OSError(number, "no more")

    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(OSError, match="no more"):
        LoadPreparedd("image", data.folder)(data.train[0])


def test_a_folder_that_may_not_be_written_is_no_reason_to_stop(data, monkeypatch):
    def fail(*args, **kwargs):
        raise RunFolderError("output_dir cannot be written")

    item = data.train[0]
    (data.folder / f"{item['image']}.npy").unlink()
    monkeypatch.setattr(prepare, "write_atomically", fail)
    with pytest.raises(UnreadableImageError, match=item["image"]):
        LoadPreparedd("image", data.folder)(item)


# What a second run in the same folder may use


def prepared_at(data: PreparedData) -> list[int]:
    return [(data.folder / f"{one}.npy").stat().st_mtime_ns for one in data.records]


@pytest.mark.parametrize("change", ["nothing", "a setting", "our version", "the version of a library"])
def test_what_was_prepared_otherwise_is_never_used_again(scans, data, tmp_path, monkeypatch, change):
    before = prepared_at(data)
    settings = {**QUIET, "normalization": "zscore"} if change == "a setting" else QUIET
    if "version" in change:
        versions = ["9.9.9", *prepare.READ_BY[1:]] if change == "our version" else [*prepare.READ_BY[:-1], "9.9.9"]
        monkeypatch.setattr(prepare, "READ_BY", versions)
    after = prepared_at(prepare_data(scans, tmp_path / "run", **settings))
    assert [one == other for one, other in zip(before, after, strict=True)] == [change == "nothing"] * len(before)


# Several processes, and memory


def _prepare(scans: Path, output: Path, start: object) -> None:
    start.wait(60)
    for _ in range(3):
        prepare_data(scans, output, **QUIET)


def test_two_processes_prepare_in_one_folder_without_damage(scans, tmp_path):
    alone = prepare_data(scans, tmp_path / "alone", **QUIET)
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    both = [context.Process(target=_prepare, args=(scans, tmp_path / "run", start)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    data = prepare_data(scans, tmp_path / "run", **QUIET)
    assert len(data.records) == len(alone.records)
    for (one, mine), (other, theirs) in zip(data.records.items(), alone.records.items(), strict=True):
        assert mine["shape"] == theirs["shape"]
        first, second = np.load(data.folder / f"{one}.npy"), np.load(alone.folder / f"{other}.npy")
        np.testing.assert_array_equal(first, second)
    assert not list((tmp_path / "run").rglob("*.part"))
    assert not list((tmp_path / "run" / "private").glob("salt.*"))


def test_what_a_killed_process_left_half_written_goes_and_what_is_being_written_stays(scans, data, tmp_path):
    def die(file) -> None:
        os._exit(9)

    def go_on(file) -> None:
        prepare_data(scans, tmp_path / "run", **QUIET)
        assert [part.name[:4] for part in data.folder.glob("*.part")] == ["mine"]
        file.write(b"whole")

    child = multiprocessing.get_context("fork").Process(target=write_atomically, args=(data.folder / "dead", die, ""))
    child.start()
    child.join(60)
    assert [part.name[:4] for part in data.folder.glob("*.part")] == ["dead"]
    write_atomically(data.folder / "mine", go_on, "")
    assert (data.folder / "mine").read_bytes() == b"whole"
    assert not list(data.folder.glob("*.part"))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no /proc")
@pytest.mark.parametrize("mapped", [False, True])
def test_iterating_needs_the_memory_of_one_image_not_of_all(tmp_path, mapped):
    shape = (1, 128, 256, 256)  # 16 MiB on disk, a hole in the file, and 32 MiB loaded
    record = {"shape": shape, "spacing": None, "affine": np.eye(4).tolist()}
    for number in range(16):
        np.lib.format.open_memmap(tmp_path / f"{number}.npy", "w+", np.float16, shape).flush()
        (tmp_path / f"{number}.json").write_text(json.dumps({"outcome": ["done", record]}))
    load = LoadPreparedd("image", tmp_path, mapped=mapped)
    peaks = []
    for number in range(16):
        image = load({"image": str(number)})["image"]
        assert image.max() == 0  # looks at all of it
        peaks.append(resident_bytes())
    assert max(peaks) - peaks[0] < 64 * 2**20  # all of them are 256 MiB mapped and 512 MiB loaded
