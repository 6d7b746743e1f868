# SPDX-License-Identifier: Apache-2.0
"""Recognises a folder that this package has written: its pictures and masks are no scans."""

from __future__ import annotations

import json
import os

__all__ = ["EARLIER_RUN", "OUTPUT_MARKS", "is_output_folder"]

EARLIER_RUN = "output folder of an earlier run"
OUTPUT_MARKS = frozenset({"run.json", "private"})
"""A folder that holds neither of these names is none, so that few folders need a closer look."""

_RUN = ("format", "kind", "status")  # what run.json says
_MAX_BYTES = 4096  # it is shorter: somebody else's file of that name need not be read
_SETTLED = ("salt", "compare.json")  # written into private/ before the first picture
_BESIDE = ("excluded.jsonl", "compare.jsonl")


def is_output_folder(folder: str | os.PathLike[str]) -> bool:
    """Returns whether a run, a look of `doctor` or a comparison has written into a folder.

    Names alone do not decide: data of the user may be called `private` or `run.json`, too. A copy without `private/`
    is recognised by `run.json`, and what has no `run.json` by what `private/` holds.
    """
    return _holds_run(os.path.join(folder, "run.json")) or _holds_private(folder)


def _holds_run(file: str) -> bool:
    try:
        with open(file, encoding="utf-8") as opened:
            value = json.loads(opened.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and all(name in value for name in _RUN)


def _holds_private(folder: str | os.PathLike[str]) -> bool:
    private = os.path.join(folder, "private")
    try:
        inside = os.listdir(private)
    except PermissionError:  # somebody else's, of mode 0700
        return any(os.path.isfile(os.path.join(folder, name)) for name in _BESIDE)
    except OSError:
        return False
    return "prepared" in inside and any(name in inside for name in _SETTLED)
