# SPDX-License-Identifier: Apache-2.0
"""Packages that a run will need at its end are asked for at its beginning."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from typing import Any

from monai_mixssl.errors import ConfigError

__all__ = ["refuse_missing_packages"]


def refuse_missing_packages(config: Mapping[str, Any]) -> None:
    """Refuse a config whose run would fail, after long work, for want of a package that only the extras install.

    Args:
        config: the top level, its values checked.

    Raises:
        ConfigError: naming what to install.
    """
    needed = {"tensorboard": "tensorboard" in config, "matplotlib": config.get("pictures") is True}
    for name, used in needed.items():
        if used and not _installed(name):
            raise ConfigError(
                f"the run needs {name}, which is not installed; pip install 'monai-mixssl[bundle]' adds it"
            )


def _installed(name: str) -> bool:
    return sys.modules[name] is not None if name in sys.modules else importlib.util.find_spec(name) is not None
