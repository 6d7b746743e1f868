# SPDX-License-Identifier: Apache-2.0
"""Finds the config and the workflow that an expression stands in, and refuses to run a config that was not checked."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FrameType
from typing import Any
from weakref import WeakSet

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.config_item import ConfigExpression
from monai.bundle.reference_resolver import ReferenceResolver

from monai_mixssl.errors import ConfigError
from monai_mixssl.workflows import last_line

__all__ = [
    "inside_config",
    "is_computed",
    "is_expressions",
    "mark_checked",
    "refuse_load",
    "refuse_stray_words",
    "require_check",
    "running_parser",
    "running_workflow",
    "under_load",
]

_CHECKED: WeakSet[ConfigParser] = WeakSet()


def is_computed(value: Any) -> bool:
    """Whether a value is an expression (``$…``) or a reference (``@…``)."""
    return isinstance(value, str) and (ConfigExpression.is_expression(value) or value.startswith(ReferenceResolver.ref))


def is_expressions(value: Any) -> bool:
    """Whether a value is a list that MONAI can run."""
    return isinstance(value, list) and bool(value) and all(ConfigExpression.is_expression(v) for v in value)


def _can_be_run(value: Any) -> bool:
    """Whether MONAI would evaluate a value as expressions: one of them, or a list, which may be empty."""
    return is_computed(value) or (isinstance(value, list) and all(map(is_computed, value)))


def mark_checked(parser: ConfigParser) -> None:
    """Remember that a config was checked."""
    _CHECKED.add(parser)


def require_check() -> None:
    """Refuse to go on where :py:func:`~monai_mixssl.workflows.check_config` has not seen the config of this call.

    To be the first entry of each list that is run; see :py:func:`refuse_stray_words` for what would go unchecked.

    Raises:
        ConfigError: naming what to put in quotes, or to call first.
    """
    parser = running_parser()
    refuse_stray_words(parser)
    if parser not in _CHECKED:
        last_line.install_for_run()
        raise ConfigError(
            "the config was not checked; call the workflow's initialize() before its run(), have its list call "
            "mixssl.check_config, and put values with spaces in quotes: a word that belongs to no key is taken for "
            "another list's name"
        )


def refuse_load() -> None:
    """Refuse to make, for ``monai.bundle.load``, what only a run of the config may have.

    That takes a bundle's training config unless it is told otherwise: it would read all data to make a network, which
    the weights then fit in part, and MONAI leaves the rest random without a word.

    Raises:
        ConfigError: naming the argument to give.
    """
    if under_load():
        last_line.install_for_run()
        raise ConfigError(
            "a config that trains makes no network to load weights into; call monai.bundle.load with "
            "workflow_type='inference'"
        )


def under_load() -> bool:
    """Whether ``monai.bundle.load`` is at work."""
    return any(_is_monais(frame, "load") for frame in _callers())


def refuse_stray_words(parser: ConfigParser) -> None:
    """Refuse words of the command line that belong to no key, such as half of a path with a space in it.

    MONAI takes them for the ids of other ``initialize`` and ``finalize`` lists, and skips what it does not find: every
    check, and the seed. What is no expression (``data``) it makes, and of an empty word the whole config, and
    trains twice.

    Args:
        parser: the config.

    Raises:
        ConfigError: naming what to put in quotes; the word may be part of a name, so it is not repeated.
    """
    workflow, _ = running_workflow(parser)
    if workflow is None:
        return
    for name, word, usual in (
        ("init_id", workflow.init_id, "initialize"),
        ("final_id", workflow.final_id, "finalize"),
    ):
        if word != usual and (not word or word not in parser or not _can_be_run(parser[word])):
            last_line.install_for_run()
            raise ConfigError(
                f"a word that belongs to no key was taken for MONAI's {name}, and the config has no such list; put "
                "values with spaces in quotes, and -- before every key"
            )


def running_parser() -> ConfigParser:
    """The parser that evaluates the expression from which this is called, however deep.

    MONAI gives an expression no handle on it: an expression sees the imports and the items resolved so far. The parser
    is, however, always among the callers (``ConfigParser.get_parsed_content`` → … → ``eval``), whoever made it, so the
    call stack is the one way to it that also works in MONAI's own workflow class.

    Raises:
        ConfigError: if no expression of a config is being evaluated.
    """
    if (parser := _evaluating()) is not None:
        return parser
    raise ConfigError("this works within a bundle config only; call it from the config's 'initialize' list")


def inside_config() -> bool:
    """Whether an expression of a config is being evaluated."""
    return _evaluating() is not None


def _evaluating() -> ConfigParser | None:
    owners = (frame.f_locals.get("self") for frame in _callers())
    return next((owner for owner in owners if isinstance(owner, ConfigParser)), None)


def running_workflow(parser: ConfigParser) -> tuple[ConfigWorkflow | None, bool]:
    """The workflow among the callers that a parser belongs to, if any, and whether it is going to be run."""
    workflow, runs = None, False
    for frame in _callers():
        owner = frame.f_locals.get("self")
        if workflow is None and isinstance(owner, ConfigWorkflow) and owner.parser is parser:
            workflow = owner
        runs |= _is_monais(frame, "run", "run_workflow")
    return workflow, runs


def _is_monais(frame: FrameType, *names: str) -> bool:
    """Whether a frame is of one of MONAI's bundle commands."""
    return frame.f_globals.get("__name__") == "monai.bundle.scripts" and frame.f_code.co_name in names


def _callers() -> Iterator[FrameType]:
    frame: FrameType | None = inspect.currentframe()
    while frame is not None and (frame := frame.f_back) is not None:
        yield frame
