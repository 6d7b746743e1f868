# SPDX-License-Identifier: Apache-2.0
"""The normalisation layers that a key may name, in the one form that the networks and the record use."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from monai_mixssl.errors import ConfigError

__all__ = ["BATCH_INDEPENDENT_NORM", "NormSpec", "norm_argument", "parse_norm"]

NormSpec = str | Sequence[Any]

# MONAI's "instance" has no weights unless asked, and its ResNet then fails at initialisation; its "group" has no
# default number of groups
_DEFAULT_ARGUMENTS: dict[str, dict[str, Any]] = {
    "batch": {},
    "instance": {"affine": True},
    "group": {"num_groups": 8},
}
BATCH_INDEPENDENT_NORM: list[Any] = ["group", {"num_groups": 8}]


def parse_norm(norm: NormSpec) -> list[Any]:
    """Bring a normalisation to the form ``[name, arguments]`` that JSON keeps as it is.

    Args:
        norm: ``"batch"``, ``"instance"``, ``"group"``, or a pair of such a name and its arguments, for example
            ``["group", {"num_groups": 4}]``. ``"instance"`` alone gets ``affine=True``, ``"group"`` alone 8 groups.

    Returns:
        ``[name, arguments]`` with the name in lower case.

    Raises:
        ConfigError: when it is neither a name nor such a pair, or the name is not known.
    """
    pair: Sequence[Any] = (norm, {}) if isinstance(norm, str) else norm
    if (
        not isinstance(pair, Sequence)
        or len(pair) != 2
        or not isinstance(pair[0], str)
        or not isinstance(pair[1], dict)
    ):
        raise ConfigError(
            f'norm must be a name such as "batch" or a pair such as ["group", {{"num_groups": 8}}], not {norm!r}.'
        )
    name, arguments = pair[0].lower(), pair[1]
    if name not in _DEFAULT_ARGUMENTS:
        near = difflib.get_close_matches(name, _DEFAULT_ARGUMENTS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"norm {pair[0]!r} is not known; use one of {', '.join(_DEFAULT_ARGUMENTS)}.{hint}")
    return [name, {**_DEFAULT_ARGUMENTS[name], **arguments}]


def norm_argument(norm: NormSpec) -> tuple[str, dict[str, Any]]:
    """The same normalisation as the tuple that MONAI's layer factories take."""
    name, arguments = parse_norm(norm)
    return name, dict(arguments)
