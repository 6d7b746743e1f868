# SPDX-License-Identifier: Apache-2.0
"""Two processes in one output folder: the second is refused, and a dead one keeps nobody out."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bundle_runs import BUNDLE, SMALL

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.handlers import latest_iteration
from monai_mixssl.workflows import RunFolder
from monai_mixssl.workflows.run_lock import RunLock

pytest.importorskip("fcntl", reason="Windows has no record locks")


def test_a_second_process_is_refused_until_the_first_is_gone(command, tmp_path: Path) -> None:
    scans = write_phantoms(tmp_path / "scans", patients=4, image_size=32, slices=3)
    # workers, since they outlive a killed parent for a moment
    keys = {**SMALL, "dataset_dir": scans, "output_dir": tmp_path / "run", "num_workers": 2, "resume": True}
    keys |= {"max_epochs": 4, "val_interval": 4}
    typed = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    argv = ("monai.bundle", "run", "pretrain", "--config_file", "configs/train.json", *typed)
    first = subprocess.Popen(
        [sys.executable, "-m", *argv],
        cwd=BUNDLE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while latest_iteration(tmp_path / "run" / "checkpoints") == 0:
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        first.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, first.pid, os.WSTOPPED)
        before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*") if file.is_file()}
        second = command(*argv, cwd=BUNDLE)
        after = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*") if file.is_file()}
    finally:
        first.kill()
    first.wait()
    assert second.status == 1
    assert "another process is at work in output_dir; wait" in second.last_line
    assert after == before

    third = command(*argv, cwd=BUNDLE)
    assert third.status == 0, third.err[-2000:]


def free(file: Path) -> bool:
    """Whether another process can take the lock; it does not wait."""
    code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    return subprocess.run([sys.executable, "-c", code, file], stderr=subprocess.DEVNULL).returncode == 0


def test_a_lock_is_held_until_the_last_object_of_the_process_that_holds_it_lets_go(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    one, other = RunLock(file), RunLock(file)
    assert [one.acquire(), other.acquire(), other.acquire()] == [True, True, False]
    one.release()
    one.release()
    assert not free(file)
    del other  # as of a run that failed in a notebook
    gc.collect()
    assert free(file)
    assert one.acquire()
    assert not free(file)
    one.release()
    assert free(file)


def test_a_run_that_is_complete_keeps_nobody_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.lock()
    assert not free(tmp_path / "run" / "private" / "lock")
    (tmp_path / "run" / "run.json").write_text('{"format": 1, "kind": "pretraining", "status": "running"}')
    folder.finish()
    assert free(tmp_path / "run" / "private" / "lock")
