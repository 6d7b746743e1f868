# SPDX-License-Identifier: Apache-2.0
"""Comparisons whose runs cost nothing: they write the metrics that a table of scores gives them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monai_mixssl.compare import Plan, parse_amounts
from monai_mixssl.errors import MixSSLError, TrainingError

Score = Callable[[Mapping[str, Any]], float]


def plan(folder: Path, **changes: Any) -> Plan:
    """A comparison of 3 seeds with 5 labels a class and all of them, from one encoder file that is no encoder."""
    encoder = folder / "encoder.safetensors"
    if not encoder.exists():
        encoder.parent.mkdir(parents=True, exist_ok=True)
        encoder.write_bytes(b"weights")
    settings: dict[str, Any] = {
        "task": "classification",
        "pretrained": [str(encoder)],
        "amounts": parse_amounts("5,all"),
        "seeds": 3,
        **changes,
    }
    return Plan(**settings)


def score(keys: Mapping[str, Any]) -> float:
    """Pretrained is better by 0.10, 0.12 and 0.14 with 5 labels a class, and worse by as much with all of them."""
    base = 0.6 + 0.03 * keys["seed"]
    gain = 0.0 if keys["from_scratch"] else 0.10 + 0.02 * keys["seed"]
    return base + (gain if "labels_per_class" in keys else -gain)


class MadeUpRuns:
    """Stands in for the fine-tuning of a cell, and remembers what it was asked to do.

    Args:
        score: the score of a run, from its keys.
        fail: names of the runs that fail, changed at will between comparisons.
        stop: name of the run at which the comparison is killed.
        error: what a failing run raises.
    """

    def __init__(
        self,
        score: Score = score,
        fail: tuple[str, ...] = (),
        stop: str | None = None,
        error: type[MixSSLError] = TrainingError,
    ) -> None:
        self.score, self.fail, self.stop, self.error = score, set(fail), stop, error
        self.asked: dict[str, dict[str, Any]] = {}

    def __call__(self, task: str, run_id: str, keys: Mapping[str, Any], trace: Path) -> None:
        folder = Path(keys["output_dir"])
        self.asked[folder.name] = {"task": task, "run_id": run_id, **keys}
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(b"")
        if folder.name == self.stop:
            raise KeyboardInterrupt
        if folder.name in self.fail:
            raise self.error("the loss is not finite")
        value = self.score(keys)
        test = {"accuracy": value, "balanced_accuracy": value, "auc": None, "confusion_matrix": [[1]]}
        if task == "segmentation":
            test = {"mean_dice": value}
        if run_id == "probe":
            scores = {"linear": {"test": test}, "knn": {"test": {**test, "balanced_accuracy": value - 0.2}}}
            probe = {"poolings": {"all": scores, "last": scores}, "images": {"training": 10}}
            (folder / "probe.json").write_text(json.dumps(probe))
        else:
            labels = 10 if "labels_per_class" in keys else 400
            leakage = {"checked": False, "message": "leakage not checked"}
            metrics = {"test": test, "labels": labels, "loaded": 0.98, "leakage": leakage}
            (folder / "metrics.json").write_text(json.dumps(metrics))


def accept(task: str, run_id: str, keys: Mapping[str, Any]) -> None:
    """A bundle that takes any key."""
