# SPDX-License-Identifier: Apache-2.0
"""Whole runs for the tests: in a child process that may be killed, or as the user types them."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events

from monai_mixssl.workflows import PretrainWorkflow

BUNDLE = Path(__file__).parents[2] / "bundles" / "mixssl_pretraining"

# 20 training slices in 5 steps an epoch, 4 validation slices or more; about two seconds
SMALL: dict[str, Any] = {
    "patch_size": 32,
    "batch_size": 4,
    "max_epochs": 3,
    "val_interval": 1,
    "val_fraction": 0.2,
    "log_interval": 1,
    "checkpoint_interval": 2,
    "num_workers": 0,
    "pictures": False,
    "progress": False,
    "device": "cpu",
}

# forks from a server that has imported everything once, and holds no threads
_CHILDREN = multiprocessing.get_context("forkserver")
_CHILDREN.set_forkserver_preload(
    ["monai_mixssl.workflows", "ignite.engine", "torch._dynamo", "torch.utils.tensorboard"]
)


def run(kill: tuple[str, int] | None = None, **keys: Any) -> int:
    """Pretrain in a child process; returns its exit code, -9 where it was killed.

    Args:
        kill: a place ("training", "validation" or "checkpoint") and how many times to pass it before the child is
            killed there.
        keys: keys of the config beside those of ``SMALL``.
    """
    child = _CHILDREN.Process(target=_pretrain, args=(kill, {**SMALL, **keys}))
    child.start()
    child.join(300)
    if child.exitcode is None:
        child.kill()
        raise AssertionError("the run hangs")
    return int(child.exitcode)


def as_from_the_command_line() -> None:
    """One thread; and workers that are forked, not started from a server, which a child would have to import anew."""
    gc.freeze()  # what was inherited need not be looked through for garbage
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)


def _pretrain(kill: tuple[str, int] | None, keys: dict[str, Any]) -> None:
    as_from_the_command_line()
    # relative to its own folder, as the command line's default is
    workflow = PretrainWorkflow(
        logging_file=False, **{k: str(v) if isinstance(v, Path) else v for k, v in keys.items()}
    )
    workflow.initialize()
    if kill is not None:
        _kill_at(workflow, *kill)
    workflow.run()


def _kill_at(workflow: PretrainWorkflow, place: str, count: int) -> None:
    def strike() -> None:
        nonlocal count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if place == "checkpoint":
        save = torch.save

        def half(content: Any, file: Any, **kwargs: Any) -> None:
            whole = io.BytesIO()
            save(content, whole, **kwargs)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            strike()
            file.write(whole.getvalue()[len(whole.getvalue()) // 2 :])

        torch.save = half
        return
    engine = workflow.trainer if place == "training" else workflow.evaluator
    engine.add_event_handler(Events.ITERATION_COMPLETED, strike)


def command(
    *arguments: str, cwd: Path | None = None, launcher: tuple[str, ...] = (sys.executable,), **environment: str
) -> subprocess.CompletedProcess[str]:
    """What the user types: ``python -m monai.bundle run …``."""
    return subprocess.run(
        [*launcher, "-m", "monai.bundle", "run", *arguments],
        cwd=BUNDLE if cwd is None else cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
