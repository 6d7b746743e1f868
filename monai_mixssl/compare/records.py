# SPDX-License-Identifier: Apache-2.0
"""What a comparison keeps: one line for each run that ended, and, under ``private/``, what it was asked to do."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_mixssl.compare.plan import Cell, Plan
from monai_mixssl.data.atomic import write_atomically, write_json
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.errors import DataError, RunFolderError, TrainingError
from monai_mixssl.handlers.checkpoint import latest_iteration
from monai_mixssl.handlers.json_log import read_log

__all__ = ["Records", "read_scores"]

_LAYOUT = {"private", "runs", "compare.jsonl", "comparison.md", "comparison.png"}
# keys that change how runs go on, but nothing of what they compute
_FREE_KEYS = ("device", "num_workers", "progress", "pictures", "checkpoint_interval", "checkpoint_minutes") + (
    "log_interval",
)


class Records:
    """The output folder of a comparison.

    ===================  ================================================================================
    ``comparison.md``    the tables and the verdict
    ``comparison.png``   the picture
    ``compare.jsonl``    one JSON object for each run that ended, the newest of a run last
    ``runs/<name>/``     the output folders of the runs
    ``private/``         what was asked for, with paths; tracebacks; mode 0700
    ===================  ================================================================================

    Args:
        output_dir: the folder; made where it does not exist. Relative to the working directory.
        plan: the comparison, whose keys must be those that the folder was begun with; seeds, label amounts, protocols
            and the metric may change, so that a comparison can be extended.

    Raises:
        RunFolderError: where the folder holds something else, or a comparison with other keys, which are named.
    """

    def __init__(self, output_dir: str | Path, plan: Plan) -> None:
        self.path = Path(output_dir)
        asked = self.path / "private" / "compare.json"
        if self.path.is_dir() and not asked.is_file():
            foreign = {entry.name for entry in self.path.iterdir()} - {"private"}
            if foreign:
                raise RunFolderError("output_dir is not empty and holds no comparison; choose a new or an empty folder")
        self.private = PrivateFolder(self.path).path
        self.traces = self.private / "tracebacks"
        self.traces.mkdir(mode=0o700, exist_ok=True)
        self._lines = self.path / "compare.jsonl"
        self._shared = self.private / "data_from.json"
        now = json.loads(json.dumps(_asked(plan), default=str))
        if asked.is_file():
            now = self._settled(json.loads(asked.read_text(encoding="utf-8")), now)
        write_json(asked, now, "what was asked for", indent=2)

    def _settled(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return _agreed(before, now)
        except RunFolderError:
            runs = self.path / "runs"
            begun = [run for run in runs.iterdir() if latest_iteration(run / "checkpoints")] if runs.is_dir() else []
            if begun or self.has_complete():
                raise
        # nothing is lost: the first command may have failed on a key just corrected
        shutil.rmtree(self.path / "runs", ignore_errors=True)
        for file in (self._lines, self._shared):
            file.unlink(missing_ok=True)
        return dict(now)

    def folder(self, cell: Cell) -> Path:
        """The output folder of a run."""
        return self.path / "runs" / cell.name

    def lines(self) -> dict[str, dict[str, Any]]:
        """The newest line of each run that ended, by name, in the order in which the runs first ended."""
        if not self._lines.is_file():
            return {}
        return {line["cell"]: line for line in read_log(self._lines)}

    def has_complete(self) -> bool:
        """Whether any run has ended well."""
        return any(line["status"] == "complete" for line in self.lines().values())

    def add(self, cell: Cell, status: str, seconds: float, **content: Any) -> None:
        """Append a line; a last line that a kill cut short is dropped first.

        Args:
            cell: the run.
            status: ``"complete"`` or ``"failed"``.
            seconds: how long it ran, in this call.
            content: further entries; JSON types, no paths.
        """
        line = {
            "cell": cell.name,
            "arm": cell.arm,
            "labels": cell.amount.name,
            "seed": cell.seed,
            "run": cell.run_id,
            "status": status,
            "seconds": round(seconds, 1),
            **content,
        }
        lines = [*(read_log(self._lines) if self._lines.is_file() else []), line]
        text = "".join(json.dumps(each, allow_nan=False) + "\n" for each in lines)
        write_atomically(self._lines, lambda file: file.write(text.encode()), "compare.jsonl")

    def data_from(self, cell: Cell) -> str | None:
        """The folder whose prepared data and split a run takes over; None for the run that prepares them."""
        begun = self._begun()
        for name, line in self.lines().items():
            if name != cell.name and line["status"] == "complete" and begun.get(name) == name:
                return str(self.path / "runs" / name)
        return None

    def begun_otherwise(self, cell: Cell, data_from: str | None) -> bool:
        """Whether a run was begun on data that it prepared itself, and is now to take over those of another."""
        owner = cell.name if data_from is None else Path(data_from).name
        return self._begun().get(cell.name, owner) != owner

    def note_begun(self, cell: Cell, data_from: str | None) -> None:
        """Write down whose data a run uses, before it begins."""
        owner = cell.name if data_from is None else Path(data_from).name
        write_json(self._shared, {**self._begun(), cell.name: owner}, "whose data the runs use", indent=2)

    def _begun(self) -> dict[str, str]:
        return dict(json.loads(self._shared.read_text(encoding="utf-8"))) if self._shared.is_file() else {}


def _asked(plan: Plan) -> dict[str, Any]:
    """What must stay the same when a comparison goes on; what may differ between seeds as a list, an entry a seed."""
    # the content of the encoder files, not their places
    contents = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in plan.pretrained]
    by_seed = {"pretrained": contents}
    by_seed |= {key: [os.path.abspath(path) for path in paths] for key, paths in plan.per_file.items()}
    keys = {key: _absolute(key, value) for key, value in plan.keys.items() if key not in _FREE_KEYS}
    seeds = {key: [values[seed % len(values)] for seed in range(plan.seeds)] for key, values in by_seed.items()}
    return {"keys": {**keys, "task": plan.task}, "seeds": seeds}


def _agreed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for before and now, of whichever has more seeds.

    Raises:
        RunFolderError: where they differ, or a seed that both have would use another file.
    """
    names = sorted({*before["keys"], *now["keys"]})
    other = [name for name in names if before["keys"].get(name) != now["keys"].get(name)]
    seeds: dict[str, list[str]] = {}
    for name in sorted({*before["seeds"], *now["seeds"]}):
        pair = before["seeds"].get(name, []), now["seeds"].get(name, [])
        shorter, longer = sorted(pair, key=len)
        if not shorter or longer[: len(shorter)] != shorter:
            other.append(name)
        seeds[name] = longer
    if other:
        raise RunFolderError(
            f"the comparison in output_dir was begun with another {', '.join(other)}; go on with the same, or choose a "
            "new output_dir"
        )
    return {"keys": now["keys"], "seeds": seeds}


def _absolute(key: str, value: Any) -> Any:
    if key.endswith("_dir") and isinstance(value, str):
        return ",".join(os.path.abspath(part) for part in value.split(","))
    return value


def read_scores(folder: Path, cell: Cell, pooling: str = "last") -> dict[str, Any]:
    """What a finished run reports, as entries for its line.

    Args:
        folder: the run's output folder.
        cell: the run.
        pooling: whose features' scores are taken from a probe; the first reported where it has not this one.

    Returns:
        ``scores`` (test metrics by protocol), ``labelled`` (number of labelled training images, or None), ``loaded``
        (share of the encoder's parameters that came from the file, or None) and ``leakage`` (the guard's message, or
        None).

    Raises:
        TrainingError: where the run left nothing that can be read.
        DataError: where it left no scores of test images.
    """
    name = "metrics.json" if cell.run_id == "finetune" else "probe.json"
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise TrainingError(f"the run left no {name} that can be read; run it by itself to see why") from None
    if cell.run_id == "finetune":
        of_images = content.get("test") or {}
        # where several slices belong to a scan, it is the scan that a clinic asks about; its slices by a longer name
        slices = {f"slice_{name}": value for name, value in of_images.items()}
        scores = {"finetune": {**slices, **(of_images.get("scans") or of_images)}}
        labelled = content.get("labels")
    else:
        poolings = content["poolings"]
        chosen = poolings.get(pooling) or next(iter(poolings.values()))
        scores = {kind: chosen[kind].get("test") for kind in ("linear", "knn")}
        labelled = content.get("images", {}).get("training")
    if not all(isinstance(of_test, Mapping) and of_test for of_test in scores.values()):
        raise DataError("the run has no scores of test images; give the data a test split (test_fraction)")
    leakage = content.get("leakage")
    return {
        "scores": {protocol: _numbers(of_test) for protocol, of_test in scores.items() if of_test is not None},
        "labelled": labelled if isinstance(labelled, int) else None,
        "loaded": content.get("loaded"),
        "leakage": leakage.get("message") if isinstance(leakage, Mapping) else None,
    }


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among some metrics; a table or a metric that is not defined is left out."""
    return {
        name: float(value)
        for name, value in scores.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
