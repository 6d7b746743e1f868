# SPDX-License-Identifier: Apache-2.0
"""Whole fine-tuning runs for the tests, in a child process that may be killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bundle_runs import _CHILDREN, _kill_at, as_from_the_command_line

import monai_mixssl.workflows

BUNDLES = Path(__file__).parents[2] / "bundles"

# of 12 phantom patients of 3 slices: 6 patients train in 4 steps an epoch, 3 validate, 3 test
SMALL: dict[str, Any] = {
    "batch_size": 4,
    "max_epochs": 3,
    "min_steps_per_epoch": 1,
    "val_fraction": 0.25,
    "test_fraction": 0.25,
    "log_interval": 1,
    "checkpoint_interval": 2,
    "num_workers": 0,
    "cache_gb": 0.1,
    "pictures": False,
    "progress": False,
    "device": "cpu",
}


def finetune(
    kill: tuple[str, int] | None = None,
    workflow: str = "ClassificationWorkflow",
    run_id: str | None = None,
    **keys: Any,
) -> int:
    """Run a workflow by name in a child process; returns its exit code, -9 where it was killed.

    Args:
        kill: a place ("training", "validation" or "checkpoint") and how many times to pass it before the child is
            killed there.
        workflow: its name in ``monai_mixssl.workflows``.
        run_id: what to run; None: the workflow's own.
        keys: keys of the config beside those of ``SMALL`` that the config knows.
    """
    child = _CHILDREN.Process(target=_run, args=(kill, workflow, run_id, keys))
    child.start()
    child.join(300)
    if child.exitcode is None:
        child.kill()
        raise AssertionError("the run hangs")
    return int(child.exitcode)


def _run(kill: tuple[str, int] | None, name: str, run_id: str | None, keys: dict[str, Any]) -> None:
    as_from_the_command_line()
    known = SMALL if name.endswith(("ClassificationWorkflow", "SegmentationWorkflow")) else {"num_workers": 0}
    given = {**known, **keys}
    overrides = {k: str(v) if isinstance(v, Path) else v for k, v in given.items()}
    workflow = getattr(monai_mixssl.workflows, name)(run_id=run_id, logging_file=False, **overrides)
    workflow.initialize()
    if kill is not None:
        _kill_at(workflow, *kill)
    workflow.run()
