# SPDX-License-Identifier: Apache-2.0
"""Disks that are full from the start, or fill up while a run writes: one sentence, and nothing lost."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from bundle_runs import BUNDLE, SMALL, run

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.handlers import latest_iteration
from monai_mixssl.workflows.last_line import PREFIX

# the real command, where the disk is full half-way through the second checkpoint
SIMULATED = """
import io, runpy, sys, torch
save, calls = torch.save, []

def half(content, file, **kwargs):
    calls.append(1)
    if len(calls) < 2:
        return save(content, file, **kwargs)
    whole = io.BytesIO()
    save(content, whole, **kwargs)
    file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
    raise OSError(28, "No space left on device", getattr(file, "name", None))

torch.save = half
sys.argv[0] = "monai.bundle"
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""
# the real command on a small disk that something else fills after the first checkpoint, but for half of the next
FILLED = """
import os, runpy, shutil, sys
from pathlib import Path
from ignite.handlers import DiskSaver
write, calls = DiskSaver.__call__, []

def fill_first(self, checkpoint, filename, metadata=None):
    calls.append(1)
    if len(calls) == 2:
        size = next(Path(self.dirname).glob("checkpoint_*.pt")).stat().st_size
        with open(os.environ["FILLER"], "wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, shutil.disk_usage(self.dirname).free - size // 2)
    return write(self, checkpoint, filename, metadata)

DiskSaver.__call__ = fill_first
sys.argv[0] = "monai.bundle"
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("scans"), patients=4, image_size=32, slices=3)


@pytest.fixture(scope="module")
def uninterrupted(scans, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(dataset_dir=scans, output_dir=folder) == 0
    return folder


@pytest.fixture
def disk(tmp_path, request) -> Iterator[Path]:
    """A disk of as many kilobytes as the test asks for."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = f"size={request.param}k"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a disk of a given size takes the right to mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def pretrain(command: Any, program: str = "monai.bundle", env: dict[str, str] | None = None, **keys: Any) -> Any:
    overrides = [part for key, value in {**SMALL, **keys}.items() for part in (f"--{key}", str(value))]
    argv = ("run", "pretrain", "--config_file", "configs/train.json", *overrides)
    return command(program, *argv, cwd=BUNDLE, env=env)


def refused(ended: Any) -> None:
    assert ended.status == 1, ended.err[-2000:]
    assert ended.last_line.startswith(PREFIX), ended.err[-2000:]
    assert ended.err.count(PREFIX) == 1
    assert "Traceback" not in ended.err
    assert "disk" in ended.last_line
    assert "free some space" in ended.last_line


@pytest.mark.parametrize("disk", [4, 20, 1000], indirect=True, ids=lambda size: f"{size} kB")
def test_a_disk_that_is_too_small_ends_the_run_before_any_work(disk, command, scans):
    ended = pretrain(command, dataset_dir=scans, output_dir=disk / "run")
    refused(ended)
    assert "Training" not in ended.out
    assert not list(disk.rglob("*.npy"))


def check_the_last_good_checkpoint(folder: Path) -> None:
    assert latest_iteration(folder / "checkpoints") == SMALL["checkpoint_interval"]
    assert [path.suffix for path in (folder / "checkpoints").iterdir()] == [".pt"]
    assert torch.load(next((folder / "checkpoints").iterdir()), weights_only=True)["trainer"]["iteration"] == 2


def check_the_same_end(folder: Path, uninterrupted: Path) -> None:
    expected, found = (safetensors.torch.load_file(f / "encoder.safetensors") for f in (uninterrupted, folder))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_disk_that_fills_up_under_a_checkpoint_costs_nothing_but_time(command, scans, uninterrupted, tmp_path):
    (tmp_path / "full.py").write_text(SIMULATED)
    keys = {"dataset_dir": scans, "output_dir": tmp_path / "run"}
    ended = pretrain(command, str(tmp_path / "full.py"), **keys)
    refused(ended)
    assert "--resume True" in ended.last_line
    check_the_last_good_checkpoint(tmp_path / "run")

    ended = pretrain(command, **keys, resume=True)
    assert ended.status == 0, ended.err[-2000:]
    check_the_same_end(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("disk", [300_000], indirect=True, ids=["300 MB"])
def test_so_does_a_real_one(disk, command, scans, uninterrupted, tmp_path):
    (tmp_path / "full.py").write_text(FILLED)
    keys = {"dataset_dir": scans, "output_dir": disk / "run"}
    refused(pretrain(command, str(tmp_path / "full.py"), {"FILLER": str(disk / "filler")}, **keys))
    assert shutil.disk_usage(disk).free < 2**24
    check_the_last_good_checkpoint(disk / "run")

    # still no room
    refused(pretrain(command, **keys, resume=True))
    check_the_last_good_checkpoint(disk / "run")

    (disk / "filler").unlink()
    ended = pretrain(command, **keys, resume=True)
    assert ended.status == 0, ended.err[-2000:]
    check_the_same_end(disk / "run", uninterrupted)
