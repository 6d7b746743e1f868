# SPDX-License-Identifier: Apache-2.0
"""Signals from outside, to the whole process group, as a terminal or a batch system sends them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from bundle_runs import BUNDLE, SMALL

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.handlers import latest_iteration


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_saves_first_also_with_workers(tmp_path, number):
    scans = write_phantoms(tmp_path / "scans", patients=6, image_size=32, slices=5)
    run = tmp_path / "run"
    keys = {**SMALL, "dataset_dir": scans, "output_dir": run, "num_workers": 2, "max_epochs": 200}
    keys.update(val_interval=200, checkpoint_interval=10_000)
    arguments = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    child = subprocess.Popen(
        [sys.executable, "-m", "monai.bundle", "run", "pretrain", "--config_file", "configs/train.json", *arguments],
        cwd=BUNDLE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 300
    while not (run / "log.jsonl").exists() and time.monotonic() < until:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    time.sleep(0.2)
    before = latest_iteration(run / "checkpoints")
    # from a third process: torch knows the death of a worker by its own parent's hand
    subprocess.run([sys.executable, "-c", f"import os; os.killpg({child.pid}, {int(number)})"], check=True)
    _, errors = child.communicate(timeout=300)
    assert child.returncode not in (0, None)
    said = re.search(rf"stopped by {number.name} after saving iteration (\d+)", errors.splitlines()[-1])
    assert said, errors[-2000:]
    # the same iteration where the signal met the save at the end of an epoch
    assert latest_iteration(run / "checkpoints") == int(said[1]) >= max(before, 1)
