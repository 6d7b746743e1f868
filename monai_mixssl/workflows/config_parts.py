# SPDX-License-Identifier: Apache-2.0
"""Refuses a word or a number where a bundle config has an object, such as ``--data /my/scans``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai_mixssl.errors import ConfigError
from monai_mixssl.workflows.running_config import is_computed
from monai_mixssl.workflows.values import Rule, nearest

__all__ = ["PARTS", "refuse_words_for_parts"]

PARTS = frozenset({
    "augmentation", "best", "cached", "checkpoint", "crop", "crop_size", "data", "dataloader", "dataset",
    "evaluate", "evaluator", "finetune", "fixed", "folder", "grid", "handlers", "independent_source", "infer",
    "inferer", "load", "loading", "loss", "lr_scheduler", "memory_format", "metadata", "network", "network_def",
    "normalize", "optimizer", "patch", "patches", "preprocessing", "pretrain", "probe", "run", "same_domain_source",
    "save_state", "scores", "settings", "size", "source_images", "splits", "start", "table", "tensorboard", "train",
    "validate", "windows",
})  # fmt: skip  # one a line would fill the page
"""What this package's configs make or compute at their top level."""

# what a config for one process says
_ONE_PROCESS = {"rank": 0, "world_size": 1}


def refuse_words_for_parts(config: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Refuse plain values in the place of what a config makes: MONAI takes them, and the run would fail far from here.

    Args:
        config: the top level of a config.
        rules: the keys that hold values.

    Raises:
        ConfigError: naming the key, and the one that was likely meant; also for several processes that nothing starts.
    """
    for key, value in config.items():
        if key in rules or isinstance(value, dict | list) or is_computed(value):
            continue
        if key in PARTS and value is not None:
            raise ConfigError(f"'{key}' is a part of the config and takes no plain value{_hint(key, list(rules))}")
        if value != _ONE_PROCESS.get(key, value):
            raise ConfigError(f"{key} is set by torchrun with configs/multi_gpu_train.json; leave it out")


def _hint(key: str, rules: Sequence[str]) -> str:
    folders = [name for name in rules if name.startswith(key) and name.endswith("_dir")]
    if folders:
        return f"; did you mean '{folders[0]}'?"
    return nearest(key, rules) or f"; set what is in it, as --{key}#… does"
