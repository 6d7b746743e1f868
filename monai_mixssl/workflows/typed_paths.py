# SPDX-License-Identifier: Apache-2.0
"""Paths as they were typed, where the command line has made something else of them.

MONAI hands its command line to fire, which takes every word for a Python literal where it can: ``2024_11`` becomes the
number 202411, ``0x10`` becomes 16, ``a#b`` becomes ``a``, and a folder of such a name would be another one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from monai.bundle.utils import ID_SEP_KEY

from monai_mixssl.workflows.values import Rule, takes_one_path, takes_paths

__all__ = ["restore_typed_paths", "typed_word"]

_BRACKETS = ("[", "(", "{")


def restore_typed_paths(config: dict[str, Any], rules: Mapping[str, Rule]) -> None:
    """Put the typed word back, in place, for the keys whose rule takes paths.

    Left alone is what was quoted for Python (``"'2024'"``), a list in brackets where several paths may be given, a
    truth value, which is what a key without a word gets, and what does not come from the command line.

    Args:
        config: the top level of a config, as MONAI has filled it.
        rules: what each key may hold.
    """
    fire = sys.modules.get("fire.parser")
    if fire is None:
        return
    for key, rule in rules.items():
        word = typed_word(key) if takes_paths(rule) else None
        if not word or "'" in word or '"' in word or word == config.get(key) or isinstance(config.get(key), bool):
            continue
        if not _same(config.get(key), fire.DefaultParseValue(word)):  # a file or a program has set the key
            continue
        if takes_one_path(rule) or os.path.exists(word):
            config[key] = word
        elif not word.startswith(_BRACKETS):
            several = [part.strip() for part in word.split(",") if part.strip()]
            config[key] = several if isinstance(config[key], list | tuple) else word


def typed_word(key: str) -> str | None:
    """The last word typed for a key, as ``--key word`` or ``--key=word``, or with one hyphen, as fire takes it."""
    found = None
    for word, after in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if word.startswith("-") and name.lstrip("-").replace("-", "_") == key:
            found = value if equals else None if after.startswith("--") else after
    return found


def _same(value: Any, parsed: Any) -> bool:
    """Whether a value is what fire has made of a word, and MONAI of that: a list of a tuple, and ``::`` of ``#``."""
    if isinstance(value, str) and isinstance(parsed, str):
        return value == parsed.replace("#", ID_SEP_KEY)
    if isinstance(value, list | tuple) and isinstance(parsed, list | tuple):
        return list(value) == list(parsed)
    return type(value) is type(parsed) and bool(value == parsed)
