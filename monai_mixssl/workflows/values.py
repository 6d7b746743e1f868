# SPDX-License-Identifier: Apache-2.0
"""What a key of a bundle config may hold.

A rule is a function that takes the value as the command line or a JSON file gave it and returns the value that the run
uses. ``python -m monai.bundle`` guesses types: it hands ``true`` over as a string, ``a,b`` as a tuple and ``5`` as an
integer. A rule refuses what it cannot use with a :py:class:`ConfigError`; where its text begins with "must be", the
name of the key is put before it.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from monai_mixssl.data.processes import most_workers
from monai_mixssl.errors import ConfigError

__all__ = [
    "Rule",
    "boolean",
    "check_precision",
    "choice",
    "device",
    "each",
    "fraction",
    "integer",
    "nearest",
    "number",
    "optional",
    "path",
    "paths",
    "size",
    "span",
    "text",
    "workers",
]

Rule = Callable[[Any], Any]

_BOOLEANS = {"true": True, "True": True, "1": True, "false": False, "False": False, "0": False}
_NOTHING = ("", "none", "None", "null")
_MANY = 8  # more options than this are listed only where none comes near


def nearest(word: str, options: Sequence[str]) -> str:
    """``"; did you mean '<option>'?"`` for the option that looks most like the word, else an empty string."""
    found = difflib.get_close_matches(word, options, n=1)
    return f"; did you mean '{found[0]}'?" if found else ""


def _refuse(value: Any, need: str, hint: str = "") -> ConfigError:
    return ConfigError(f"must be {need}, not {value!r}{hint}")


def _either(options: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(options[:-1]), options[-1]]))


def boolean(value: Any) -> bool:
    """True, False, 1, 0 and the strings ``true``, ``True``, ``1``, ``false``, ``False``, ``0``.

    Raises:
        ConfigError: for anything else; the string ``false`` is true to Python, so nothing is guessed.
    """
    # str() of a bool or an int is one of the six words exactly where the value is one of the four; 1.0 is not
    if isinstance(value, bool | int | str) and str(value) in _BOOLEANS:
        return _BOOLEANS[str(value)]
    raise _refuse(value, "true or false")


def _as_number(value: Any) -> float | None:
    """The finite number that a value is or spells, else None; a boolean is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def integer(low: int, high: int | None = None) -> Rule:
    """A whole number from ``low`` to ``high``, both included."""
    need = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"

    def check(value: Any) -> int:
        given = _as_number(value)
        if given is None or given != int(given) or given < low or (high is not None and given > high):
            raise _refuse(value, need)
        return int(given)

    return check


def workers(value: Any) -> int:
    """A number of processes: a whole number from 0 to `most_workers`."""
    return integer(0, most_workers())(value)


def number(low: float, *, above: bool = False) -> Rule:
    """A finite number of at least ``low``, or above it."""
    need = f"a number {'above' if above else 'of at least'} {low:g}"

    def check(value: Any) -> float:
        given = _as_number(value)
        if given is None or given < low or (above and given == low):
            raise _refuse(value, need)
        return given

    return check


def fraction(*, ends: bool = True) -> Rule:
    """A number in [0, 1], or strictly between 0 and 1 without the ``ends``."""
    need = "a number in [0, 1]" if ends else "a number above 0 and below 1"

    def check(value: Any) -> float:
        given = _as_number(value)
        if given is None or not 0 <= given <= 1 or (not ends and given in (0, 1)):
            raise _refuse(value, need)
        return given

    return check


def span(value: Any) -> float | list[float]:
    """A number in [0, 1], or two of them, the smaller first: ``[low, high]``."""
    inside = fraction()
    try:
        if not isinstance(value, list | tuple):
            return float(inside(value))
        low, high = (float(inside(v)) for v in value)
    except ValueError:  # ConfigError is one too; the other is a list that does not hold two items
        raise _refuse(value, "a number in [0, 1] or two of them, [low, high]") from None
    if low > high:
        raise _refuse(value, "[low, high] with the smaller number first")
    return [low, high]


def each(rule: Rule, *lengths: int) -> Rule:
    """One value of a rule, or a list of them, one per axis; ``lengths`` are the lengths that the list may have."""

    def check(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return rule(value)
        if len(value) not in lengths:
            raise _refuse(value, f"one value or a list of {_either([str(n) for n in lengths])}")
        return [rule(v) for v in value]

    return check


size: Rule = each(integer(1), 2, 3)
"""Pixels or voxels: one whole number, or one per axis."""


def choice(*options: Any) -> Rule:
    """One of some words or numbers. JSON's ``null`` stands for the word ``none`` where that is an option."""
    words = [str(option) for option in options]

    def check(value: Any) -> Any:
        word = "none" if value is None else str(value)
        if isinstance(value, bool) or word not in words:
            hint = nearest(word, words)
            raise _refuse(value, "a known name" if hint and len(words) > _MANY else _either(words), hint)
        return options[words.index(word)]

    return check


def optional(rule: Rule) -> Rule:
    """None, also spelt as the strings ``none``, ``None``, ``null`` or an empty one, or what the rule takes.

    An empty path is refused: a script whose variable is unset does not ask for the default.
    """
    empty_is_none = rule not in (path, paths)

    def check(value: Any) -> Any:
        if value is None or (isinstance(value, str) and value in _NOTHING and (value or empty_is_none)):
            return None
        try:
            return rule(value)
        except ConfigError as error:
            raise ConfigError(str(error).replace("must be ", "must be none or ", 1)) from None

    check.inner = rule  # type: ignore[attr-defined]  # what else it takes, for takes_paths
    return check


def path(value: Any) -> str:
    """A path; ``~`` is expanded. Messages leave it out, since folders are often named after patients."""
    if isinstance(value, str | os.PathLike) and str(value).strip():
        expanded = os.path.expanduser(value)  # or what writes checkpoints would, and nothing else
        if str(expanded).startswith("~") and not os.path.exists(expanded):
            raise ConfigError("must be a path; no user here has the name after ~: write a folder called so as './~…'")
        if "#" in str(expanded):
            raise ConfigError(
                "must be a path without # in it, of which MONAI makes ::; rename it, or give a link to it"
            )
        return expanded
    if isinstance(value, str):
        raise ConfigError(
            "must be a path, not an empty text; give one, or leave the key out (is a shell variable unset?)"
        )
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # a folder called 2024: the command line makes a number of it
    raise ConfigError("must be a path; write one that looks like a number or a list as './<name>'")


def paths(value: Any) -> str | list[str]:
    """One path, or several: the command line hands ``a,b`` over as a tuple."""
    return [path(v) for v in value] if isinstance(value, list | tuple) and value else path(value)


def takes_paths(rule: Rule) -> bool:
    """Whether a rule is :py:func:`path` or :py:func:`paths`, or one of them and None."""
    return getattr(rule, "inner", rule) in (path, paths)


def takes_one_path(rule: Rule) -> bool:
    """Whether a rule is :py:func:`path`, or that and None."""
    return getattr(rule, "inner", rule) is path


def text(value: Any) -> str:
    """Some text; the command line makes a number of one that looks like it."""
    if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
        return str(value)
    raise _refuse(value, "a text")


def check_precision(config: Mapping[str, Any]) -> None:
    """Refuse fp16 without a GPU now, and not after the data have been prepared.

    Raises:
        ConfigError: naming both keys.
    """
    given = str(config.get("device"))
    on_gpu = torch.cuda.is_available() if given.startswith("$") else given.startswith("cuda")
    if config.get("amp") == "fp16" and not on_gpu:
        where = "this machine has none" if given.startswith("$") else f"device is {given}"
        raise ConfigError(f"amp fp16 needs a CUDA GPU and {where}; use amp bf16 or none")


def device(value: Any) -> str:
    """A device that this machine has: ``cpu``, ``cuda``, ``cuda:<index>`` or ``mps``."""
    present = ["cpu"]
    if torch.cuda.is_available():
        present += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        present.append("mps")
    if str(value) not in present:
        raise _refuse(str(value), f"a device of this machine ({', '.join(present)})")
    return str(value)
