# SPDX-License-Identifier: Apache-2.0
"""MLflow in the bundles: MONAI's ``--tracking mlflow``, without the paths that MONAI's would write down.

MONAI adds handlers of its own to the config and, before anything of the config is run, saves the whole config into the
output folder. A config that holds ``"save_execute_config": false`` is not saved; the rest is put right here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

from monai_mixssl.errors import ConfigError
from monai_mixssl.workflows.values import Rule, optional, text

__all__ = ["NO_TRACKING_RULES", "TRACKING_KEYS", "TRACKING_RULES", "use_own_tracking"]

TRACKING_KEYS = ("tracking_uri", "experiment_name", "run_name", "save_execute_config")
_MONAI: dict[str, Any] = DEFAULT_MLFLOW_SETTINGS["configs"]  # type: ignore[assignment]  # a dictionary of many types
_OURS = "monai_mixssl.handlers.MLflowTracking"
# in private/, since MLflow's database holds the absolute path of its artifacts, which lie beside it
_LOCAL = "$monai.utils.path_to_sqlite_uri(@folder.path / 'private' / 'mlruns.db')"
_NOT_HERE = "and --tracking are for training; leave them out here: the output folder holds what was measured"


def _uri(value: Any) -> str:
    word = text(value)
    if "://" not in word or word.startswith("file:"):  # what MLflow has given up; without the value: it may be a path
        raise ConfigError("must be an address such as http://server:5000 or sqlite:////folder/mlruns.db")
    return word


def _not_saved(value: Any) -> bool:
    if value not in (None, False, "False", "false", "0"):
        raise ConfigError(
            "save_execute_config writes paths beside the results; leave it out and delete the config_….json that it "
            "has left: config.json in output_dir holds the configuration, and MLflow gets it, too"
        )
    return False


def _no_tracking(value: Any) -> None:
    if optional(text)(value) is not None:
        raise ConfigError(f"tracking_uri {_NOT_HERE}")


TRACKING_RULES: dict[str, Rule] = {
    "tracking_uri": optional(_uri),
    "experiment_name": text,
    "run_name": optional(text),
    "save_execute_config": _not_saved,
}
NO_TRACKING_RULES: dict[str, Rule] = {"tracking_uri": _no_tracking, "save_execute_config": _not_saved}


def use_own_tracking(config: dict[str, Any]) -> None:
    """Take out the handlers that MONAI's ``--tracking mlflow`` has added, and enable the config's own.

    Its own is an ``MLflowTracking`` among its handlers that the key ``tracking_uri`` enables. A config without one
    takes no tracking.

    Args:
        config: the top level of a config whose values the rules have passed; changed in place.

    Raises:
        ConfigError: a config that takes no tracking, other settings than those of ``--tracking mlflow``, or MLflow is
            not installed.
    """
    sections = [config, *(config[name] for name in ("train", "validate") if isinstance(config.get(name), dict))]
    lists = [section["handlers"] for section in sections if isinstance(section.get("handlers"), list)]
    added = [(handlers, one) for handlers in lists for one in handlers if _is(one, "MLFlowHandler")]
    if added and not any(_is(one, _OURS) for handlers in lists for one in handlers):
        raise ConfigError(f"tracking_uri {_NOT_HERE}")
    for handlers, handler in added:
        if handler not in _MONAI.values():
            raise ConfigError(
                "MLflow is set up by the keys tracking_uri, experiment_name and run_name alone; give these, with "
                "--tracking mlflow, in place of other settings"
            )
        handlers.remove(handler)
    if added and config.get("tracking_uri") is None:
        config["tracking_uri"] = _LOCAL
    config.pop("is_not_rank0", None)  # it was for the handlers that are gone
    uri = config.get("tracking_uri") and os.environ.get("MLFLOW_TRACKING_URI", config["tracking_uri"])
    needed = ["mlflow", *["sqlalchemy", "alembic"] * str(uri).startswith(("sqlite:", "$"))]
    if uri is not None and not all(find_spec(name) for name in needed):
        raise ConfigError("tracking_uri needs MLflow, which is not installed; pip install 'monai-mixssl[mlflow]'")


def _is(component: Any, target: str) -> bool:
    return isinstance(component, Mapping) and str(component.get("_target_")).endswith(target)
