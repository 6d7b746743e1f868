# SPDX-License-Identifier: Apache-2.0
"""Which keyword arguments a callable takes, parents included, and which of them are true or false."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

__all__ = ["accepted_arguments", "boolean_arguments"]

_BOOLEAN = (bool, bool | None, "bool", "bool | None", "Optional[bool]")  # as text where annotations are not evaluated


def accepted_arguments(target: Callable[..., Any]) -> set[str] | None:
    """The names that a class or function takes as keyword arguments.

    A class that hands its ``**kwargs`` on to its parent, and nowhere else, takes what the parent takes: MONAI's
    ``DataLoader`` takes the arguments of torch's.

    Args:
        target: a class or function.

    Returns:
        The names, or None where any name goes or none can be found out.
    """
    if not inspect.isclass(target):
        return _named_parameters(target)[0]
    # a metaclass or __new__ may decide otherwise; inspect knows, so it is asked before the parents are
    names, open_ended = _named_parameters(target)
    if names is not None or not open_ended:
        return names
    accepted: set[str] = set()
    for parent in target.__mro__:
        if "__init__" not in vars(parent):
            continue
        init = parent.__init__  # type: ignore[misc]  # of the class, to read its signature
        own = inspect.signature(init).parameters.values()
        accepted |= {p.name for p in own if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {"self"}
        rest = next((p.name for p in own if p.kind is p.VAR_KEYWORD), None)
        if rest is None:
            return accepted
        strings = _strings_if_forwarded(init, rest)
        if strings is None:
            return None
        accepted |= strings  # names that the body itself takes out of its kwargs
    return None


def boolean_arguments(target: Callable[..., Any]) -> set[str]:
    """The names of the arguments annotated as ``bool`` or ``bool | None``, or untyped and a truth value by default.

    Args:
        target: a class or function; of a class, its parents' arguments count where its own do not name them.
    """
    found: dict[str, bool] = {}
    owners = [vars(parent).get("__init__") for parent in target.__mro__] if inspect.isclass(target) else [target]
    for owner in filter(None, owners):
        try:
            parameters = inspect.signature(owner).parameters.values()
        except (TypeError, ValueError):  # compiled code without a signature
            continue
        for p in parameters:
            unknown = p.annotation is p.empty
            found.setdefault(p.name, isinstance(p.default, bool) if unknown else p.annotation in _BOOLEAN)
    return {name for name, boolean in found.items() if boolean}


def _named_parameters(target: Callable[..., Any]) -> tuple[set[str] | None, bool]:
    """The keyword arguments that a signature names, None if there are others too, and whether ``**kwargs`` is why."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # compiled code without a signature
        return None, False
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None, True
    return {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}, False


def _strings_if_forwarded(init: Callable[..., None], rest: str) -> set[str] | None:
    """Whether ``super().__init__(…, **rest)`` is the only call that takes ``**rest``.

    Returns:
        Every string in the body (arguments that it may look up in ``rest``), or None where ``rest`` goes elsewhere.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, TypeError, SyntaxError):
        return None
    calls = [
        ast.unparse(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and any(k.arg is None and isinstance(k.value, ast.Name) and k.value.id == rest for k in node.keywords)
    ]
    if calls != ["super().__init__"]:
        return None
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {value for value in strings if isinstance(value, str) and value.isidentifier()}
