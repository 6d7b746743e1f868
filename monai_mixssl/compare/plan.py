# SPDX-License-Identifier: Apache-2.0
"""What a comparison runs: both arms, at each amount of labels, with each seed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_mixssl.errors import ConfigError
from monai_mixssl.workflows.values import nearest

__all__ = ["ARMS", "METRICS", "PROTOCOLS", "Amount", "Cell", "Plan", "parse_amounts", "parse_protocols"]

ARMS = ("scratch", "pretrained")
_OF_CLASSES = ("balanced_accuracy", "accuracy", "auc")
METRICS = {
    "classification": (*_OF_CLASSES, *(f"slice_{name}" for name in _OF_CLASSES)),
    "segmentation": ("mean_dice",),
}
"""The metrics that a task can be compared by, all of them in [0, 1], more is better; the first is the default. Where
slices belong to scans, those without ``slice_`` are of the scans; those with it go with ``"finetune"`` alone."""
PROTOCOLS = ("finetune", "linear", "knn")

# keys of the fine-tuning config that the comparison sets itself, and what to use in their place
_SET_HERE = {
    "seed": "--seeds",
    "label_seed": "--seeds",
    "labels_per_class": "--labels",
    "label_fraction": "--labels",
    "resume": "nothing: the same command goes on by itself",
    "from_scratch": "nothing: both arms are run",
    "data_from": "nothing: all runs share the first one's data",
    "bundle_root": "nothing: the packaged bundle is used",
    "run_id": "--protocols",
    "config_file": "nothing: the packaged config is used",
    "workflow_type": "nothing: the runs are fine-tuning",
}


@dataclass(frozen=True)
class Amount:
    """How many labels a run may use.

    Attributes:
        name: as it was typed: ``"5"`` (labels a class; of a segmentation: patients), ``"5%"`` (share of the training
            patients) or ``"all"``.
        keys: the keys of the fine-tuning config that say so.
    """

    name: str
    keys: Mapping[str, Any] = field(compare=False, hash=False)

    @property
    def in_names(self) -> str:
        """The amount as it stands in the name of a folder."""
        return self.name.replace("%", "pct")

    def in_words(self, task: str) -> str:
        """The amount as it stands in a sentence."""
        if self.name == "all":
            return "all labels"
        if self.name.endswith("%"):
            return f"{self.name} of the labels"
        return f"{self.name} labelled patients" if task == "segmentation" else f"{self.name} labels a class"


@dataclass(frozen=True)
class Cell:
    """One run of the comparison.

    Attributes:
        arm: ``"scratch"`` or ``"pretrained"``.
        amount: the labels it may use.
        seed: seed of the run and of the draw of its labels.
        run_id: ``"finetune"``, or ``"probe"`` for linear probe and nearest neighbours on the frozen encoder.
    """

    arm: str
    amount: Amount
    seed: int
    run_id: str = "finetune"

    @property
    def name(self) -> str:
        """The cell's folder below ``runs/``."""
        kind = "" if self.run_id == "finetune" else f"{self.run_id}_"
        return f"{self.arm}_{kind}{self.amount.in_names}_{self.seed}"


@dataclass(frozen=True)
class Plan:
    """A whole comparison.

    Args:
        task: ``"classification"`` or ``"segmentation"``.
        pretrained: encoder files; seed i uses file i modulo their number, in both arms, so that with several of them
            the spread over pretraining seeds counts too.
        amounts: the label amounts.
        seeds: number of seeds, from 0.
        metric: what is compared; one of the task's ``METRICS``.
        protocols: ``"finetune"``, ``"linear"``, ``"knn"``; the latter two for classification alone.
        per_file: keys of the config that belong to the encoder files: ``pretrain_run``, ``pretrained_decoder``; as many
            values as there are files, or one for all.
        keys: further keys of the fine-tuning config, the same for every run.

    Raises:
        ConfigError: for anything that cannot be used as given.
    """

    task: str
    pretrained: Sequence[str]
    amounts: Sequence[Amount]
    seeds: int = 5
    metric: str = ""
    protocols: Sequence[str] = ("finetune",)
    per_file: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keys: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task not in METRICS:
            raise ConfigError(f"the task must be {' or '.join(METRICS)}, not '{self.task}'")
        known = METRICS[self.task]
        if not self.metric:
            object.__setattr__(self, "metric", known[0])
        if self.metric not in known:
            hint = nearest(self.metric, known)
            raise ConfigError(f"metric of a {self.task} must be {' or '.join(known)}, not '{self.metric}'{hint}")
        if self.seeds < 1:
            raise ConfigError("seeds must be at least 1, and at least 2 for an interval; five are better")
        if not self.pretrained:
            raise ConfigError("pretrained is missing; give the encoder.safetensors of a pretraining run")
        for number, file in enumerate(self.pretrained, 1):
            if not Path(file).is_file():
                raise ConfigError(f"pretrained: file {number} of {len(self.pretrained)} does not exist; check the path")
        if len(self.pretrained) > self.seeds:
            raise ConfigError(
                f"pretrained names {len(self.pretrained)} files and there are {self.seeds} seeds; give at least as "
                "many seeds, or fewer files"
            )
        for key, values in self.per_file.items():
            if len(values) not in (1, len(self.pretrained)):
                raise ConfigError(
                    f"{key} names {len(values)} paths and pretrained {len(self.pretrained)}; give one for each encoder "
                    "file, or one for all"
                )
        for key in self.keys:
            if key in _SET_HERE:
                raise ConfigError(f"'{key}' is set by the comparison for each run; in its place use {_SET_HERE[key]}")
        if self.task == "segmentation" and tuple(self.protocols) != ("finetune",):
            raise ConfigError("protocols linear and knn are for classification; a segmentation has finetune alone")
        if self.metric.startswith("slice_") and tuple(self.protocols) != ("finetune",):
            raise ConfigError(
                f"metric {self.metric} is for the protocol finetune alone: linear and knn score scans, whose slices "
                f"they average; take {self.metric.removeprefix('slice_')}, or leave these protocols out"
            )

    @property
    def cells(self) -> list[Cell]:
        """Every run, seed by seed, so that a comparison that is cut short has whole pairs."""
        run_ids = [run for run in ("finetune", "probe") if run in {_run_id(protocol) for protocol in self.protocols}]
        return [
            Cell(arm, amount, seed, run_id)
            for seed in range(self.seeds)
            for amount in self.amounts
            for run_id in run_ids
            for arm in ARMS
        ]

    def overrides(self, cell: Cell) -> dict[str, Any]:
        """The keys of the fine-tuning config for one cell, without folders of the comparison."""
        overrides: dict[str, Any] = {
            **self.keys,
            **cell.amount.keys,
            "pretrained": self.pretrained[cell.seed % len(self.pretrained)],
            "from_scratch": cell.arm == "scratch",
            "seed": cell.seed,
            "label_seed": cell.seed,
            "resume": True,
        }
        return {**overrides, **{key: values[cell.seed % len(values)] for key, values in self.per_file.items()}}


def _run_id(protocol: str) -> str:
    return "finetune" if protocol == "finetune" else "probe"


def parse_amounts(text: str) -> list[Amount]:
    """Label amounts from ``"5,20,all"``.

    A number counts labels a class (of a segmentation: patients), ``5%`` is a share of the training patients.

    Raises:
        ConfigError: for an amount that is none of these, or stands twice.
    """
    amounts: list[Amount] = []
    for word in (part.strip() for part in text.split(",")):
        if word == "all" or word == "100%":
            amount = Amount("all", {})
        elif re.fullmatch(r"[1-9]\d*", word):
            amount = Amount(word, {"labels_per_class": int(word)})
        elif re.fullmatch(r"\d+(\.\d+)?%", word) and 0 < float(word[:-1]) < 100:
            amount = Amount(word, {"label_fraction": float(word[:-1]) / 100})
        else:
            raise ConfigError(
                f"labels must be amounts such as 5 (labels a class), 5% (share of the training patients) or all, with "
                f"commas between them, not '{word}'"
            )
        if amount in amounts:
            raise ConfigError(f"labels names '{amount.name}' twice; name each amount once")
        amounts.append(amount)
    return amounts


def parse_protocols(text: str) -> list[str]:
    """Protocols from ``"finetune,linear,knn"``.

    Raises:
        ConfigError: for an unknown one.
    """
    words = [part.strip() for part in text.split(",")]
    for word in words:
        if word not in PROTOCOLS:
            hint = nearest(word, PROTOCOLS)
            raise ConfigError(f"protocols must be some of {', '.join(PROTOCOLS)}, not '{word}'{hint}")
    return [protocol for protocol in PROTOCOLS if protocol in words]
