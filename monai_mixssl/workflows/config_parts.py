# SPDX-License-Identifier: Apache-2.0
"""Refuses a word or a number where a bundle config makes an object, such as ``--data /my/scans``.

MONAI puts whatever is typed in the place of what the config file holds, and the run fails far from here, if at all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from monai.bundle import ConfigComponent, ConfigParser, ConfigWorkflow
from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from monai_mixssl.errors import ConfigError
from monai_mixssl.workflows.bundle_folder import BUNDLES, bundle_root
from monai_mixssl.workflows.running_config import is_computed
from monai_mixssl.workflows.typed_paths import typed_word
from monai_mixssl.workflows.values import Rule

__all__ = ["refuse_words_for_parts"]

_SHOWN = 4  # keys that a sentence names
# what a config for one process says
_ONE_PROCESS = {"rank": 0, "world_size": 1}


def refuse_words_for_parts(
    workflow: ConfigWorkflow | None, config: Mapping[str, Any], rules: Mapping[str, Rule], runs: bool = True
) -> None:
    """Refuse plain values in the place of what the config file makes or computes.

    The file is the one that the workflow names, or the command line; where neither does, nothing is refused. What is
    computed may well be a number in somebody's own config, and a mapping that makes nothing may be a setting, so there
    only this package's own are looked at.

    Args:
        workflow: the workflow that the config belongs to.
        config: the top level of a config, with all overrides.
        rules: the keys that hold values, whatever the file holds.
        runs: whether ``monai.bundle`` runs it, whose command line is then this process's.

    Raises:
        ConfigError: naming the key, and what to set instead; also for several processes that nothing has started.
    """
    written = _written(workflow, runs)
    for key, value in config.items():
        if key in rules or key not in written:
            continue
        before = written[key]
        if _is_plain(value) and (_makes(before) or _is_ours(key, before)):
            raise ConfigError(f"'{key}' is made by the config and takes no plain value; {_instead(key, before, rules)}")
        if key in _ONE_PROCESS and type(value) is int and value != before == _ONE_PROCESS[key]:
            raise ConfigError(f"{key} is set by torchrun with configs/multi_gpu_train.json; leave it out")


def _written(workflow: ConfigWorkflow | None, runs: bool) -> dict[str, Any]:
    """What the config files hold, before any override; empty where they are not known."""
    files = getattr(workflow, "config_files", None)
    if files is None and runs and (word := typed_word("config_file")):
        fire = sys.modules.get("fire.parser")
        files = fire.DefaultParseValue(word) if fire is not None else None
    try:
        return dict(ConfigParser.load_config_files(files)) if files else {}
    except (OSError, ValueError, TypeError):
        return {}


@cache
def _ours() -> frozenset[tuple[str, str]]:
    """What this package's own configs compute or list, by key."""
    files = [file for name in BUNDLES for file in (bundle_root(name) / "configs").glob("*.json")]
    configs = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.stem != "metadata"]
    return frozenset((key, json.dumps(value)) for config in configs for key, value in config.items())


def _makes(value: Any) -> bool:
    """Whether an item of a config is an object to be made, or holds one."""
    if isinstance(value, list):
        return any(map(_makes, value))
    return isinstance(value, dict) and (ConfigComponent.is_instantiable(value) or any(map(_makes, value.values())))


def _is_ours(key: str, value: Any) -> bool:
    return (is_computed(value) or isinstance(value, dict | list)) and (key, json.dumps(value, default=str)) in _ours()


def _is_plain(value: Any) -> bool:
    """Whether a value is a word or a number, or a list of such; a list of numbers may be meant as one."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, str) and not is_computed(item) for item in value)
    return isinstance(value, str | int | float) and not is_computed(value)


def _instead(key: str, value: Any, rules: Mapping[str, Rule]) -> str:
    if isinstance(value, list):  # to be run
        return "leave it out"
    references = [ref for text in _texts(value) for ref in ReferenceResolver.match_refs_pattern(text)]
    found = {ref.partition(ID_SEP_KEY)[0] for ref in references}
    keys = sorted((name for name in rules if name in found), key=lambda name: not name.startswith(key[:4]))
    return f"set {', '.join(keys[:_SHOWN])} instead" if keys else "leave it out"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
