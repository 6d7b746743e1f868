# SPDX-License-Identifier: Apache-2.0
"""Makes the runs of a comparison, one after another, and keeps what they report."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monai_mixssl.compare.child import check_keys, run_in_child
from monai_mixssl.compare.picture import draw_comparison
from monai_mixssl.compare.plan import Cell, Plan
from monai_mixssl.compare.records import Records, read_scores
from monai_mixssl.compare.report import Comparison, compared, write_report
from monai_mixssl.errors import InterruptedRunError, MixSSLError, TrainingError

__all__ = ["compare"]

RunCell = Callable[[str, str, Mapping[str, Any], Path], None]
CheckKeys = Callable[[str, str, Mapping[str, Any]], None]


def compare(
    plan: Plan,
    output_dir: str | Path,
    *,
    run_cell: RunCell = run_in_child,
    check: CheckKeys = check_keys,
    picture: bool = True,
    report: Callable[[str], None] = print,
) -> Comparison:
    """Fine-tune from scratch and from the pretrained encoder, at each amount of labels and with each seed.

    Runs that have ended well are taken from ``compare.jsonl``, one that was interrupted is resumed, and one that failed
    is tried again. All runs share the data that the first one prepared, and so its split; both arms draw the same
    labels with the same seed. Checkpoints of runs that ended well are removed, their models stay.

    Args:
        plan: what to run.
        output_dir: where the runs, the table and the picture go; see :py:class:`~monai_mixssl.compare.records.Records`.
        run_cell: makes one run: takes the task, the run id, the keys of the config, and a file for a traceback.
        check: refuses keys that the config does not take; called with each run id and file before the first run.
        picture: whether to draw ``comparison.png``, which needs matplotlib.
        report: takes each line for the user.

    Returns:
        Scores, differences and verdicts, as the table has them.

    Raises:
        ConfigError: for keys that the bundle refuses.
        DataError: for data that cannot be used, or that leak from pretraining into the test, before any run ended well.
        RunFolderError: where the folder holds another comparison or something else.
        InterruptedRunError: a signal ended it; the same command goes on.
        TrainingError: some runs failed, after all others were made and the table was written.
    """
    cells = plan.cells
    # each encoder file with what belongs to it: a pretrain_run of another file should not end the third run of ten
    firsts = {(cell.run_id, cell.seed % len(plan.pretrained)): cell for cell in reversed(cells)}
    for cell in reversed(firsts.values()):
        check(plan.task, cell.run_id, {**plan.overrides(cell), "output_dir": str(output_dir)})
    records = Records(output_dir, plan)
    lines = records.lines()
    left = [cell for cell in cells if lines.get(cell.name, {}).get("status") != "complete"]
    report(_before(plan, len(cells), len(left)))
    for number, cell in enumerate(left, len(cells) - len(left) + 1):
        report(f"Run {number} of {len(cells)}: {cell.name}")
        line = _run(plan, records, cell, run_cell)
        error = "" if line["status"] == "complete" else f" failed: {line['error']}"
        after = left[left.index(cell) + 1 :]
        report(f"Run {number} of {len(cells)}: {cell.name}{error or ' done'}{_time_left(records, after)}.")
        if not error:
            _write(plan, records, picture=False)  # what there is so far, for a look before it is all done
    result = _write(plan, records, picture)
    report(result.text)
    failed = [cell.name for cell in cells if records.lines()[cell.name]["status"] != "complete"]
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(cells)} runs failed ({', '.join(failed[:5])}{', …' if len(failed) > 5 else ''}); "
            "compare.jsonl says why, and the same command tries them again"
        )
    return result


def _run(plan: Plan, records: Records, cell: Cell, run_cell: RunCell) -> dict[str, Any]:
    """One run, and its line in compare.jsonl."""
    data_from = records.data_from(cell)
    folder = records.folder(cell)
    if records.begun_otherwise(cell, data_from):
        shutil.rmtree(folder, ignore_errors=True)  # it failed before there were data to share, on a split of its own
    records.note_begun(cell, data_from)
    folder.parent.mkdir(parents=True, exist_ok=True)
    keys = {**plan.overrides(cell), "output_dir": str(folder), "data_from": data_from}
    began = time.monotonic()
    trace = records.traces / f"{cell.name}.txt"
    try:
        run_cell(plan.task, cell.run_id, keys, trace)
        content = read_scores(folder, cell, str(plan.keys.get("pooling", "last")))
    except InterruptedRunError:
        raise
    except MixSSLError as error:
        if not records.has_complete() and not isinstance(error, TrainingError):
            raise  # data or keys that stop the first run would stop all of them
        records.add(cell, "failed", time.monotonic() - began, error=str(error))
    except KeyboardInterrupt:
        raise InterruptedRunError("the comparison was stopped; the same command goes on from there") from None
    else:
        records.add(cell, "complete", time.monotonic() - began, **content)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        trace.unlink(missing_ok=True)
    return records.lines()[cell.name]


def _write(plan: Plan, records: Records, picture: bool) -> Comparison:
    result = compared(plan, records.lines())
    write_report(records.path / "comparison.md", result, picture)
    if picture:
        draw_comparison(records.path / "comparison.png", result)
    return result


def _before(plan: Plan, count: int, left: int) -> str:
    text = (
        f"Comparing {plan.task} from scratch and pretrained: {count} runs ({plan.seeds} seed{'s' * (plan.seeds > 1)}, "
        f"{', '.join(amount.in_words(plan.task) for amount in plan.amounts)})"
    )
    done = count - left
    if not left:
        return f"{text}, all made already."
    already = f", {done} made already" if done else ""
    return (
        f"{text}{already}. The first says how long its training takes; about {left} times as long in all, and a better "
        "estimate follows each run."
    )


def _time_left(records: Records, cells: list[Cell]) -> str:
    """The time that further runs will take, from those made: runs of the same kind and amount, else all of a kind."""
    if not cells:
        return ""
    made = [line for line in records.lines().values() if line["status"] == "complete"]
    total = 0.0
    for cell in cells:
        alike = [line for line in made if line["run"] == cell.run_id] or made
        alike = [line for line in alike if line["labels"] == cell.amount.name] or alike
        if not alike:
            return ""
        total += sum(line["seconds"] for line in alike) / len(alike)
    return f"; {len(cells)} to go, about {_duration(total)}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
