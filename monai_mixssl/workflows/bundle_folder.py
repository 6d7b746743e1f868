# SPDX-License-Identifier: Apache-2.0
"""Where the bundles that come with this package lie."""

from __future__ import annotations

from pathlib import Path

from monai_mixssl.errors import ConfigError
from monai_mixssl.workflows.running_config import running_parser, running_workflow, under_load

__all__ = ["BUNDLES", "bundle_file", "bundle_root"]

BUNDLES = ("mixssl_pretraining", "mixssl_classification", "mixssl_segmentation")


def bundle_root(name: str) -> Path:
    """The folder of a bundle that comes with this package: inside it when installed, beside it in a checkout.

    Raises:
        ConfigError: if there is no such bundle.
    """
    package = Path(__file__).resolve().parents[1]
    for bundles in (package / "bundles", package.parent / "bundles"):
        if (bundles / name / "configs").is_dir():
            return bundles / name
    raise ConfigError(f"the bundle '{name}' is not part of this installation; install monai-mixssl anew")


def bundle_file(root: str | Path, name: str) -> str:
    """The path of a bundle's file, for an expression of its config.

    Args:
        root: the config's ``bundle_root``, ``"."`` where the bundle's folder is the working directory.
        name: of the file, relative to it.

    Returns:
        The path below ``root``. ``monai.bundle.load`` reads a config from any working directory, which may be another
        bundle's, and leaves ``bundle_root`` as it is: there, and where the file is not below ``root``, the path below
        the folder that the config itself lies in, if the file is there.
    """
    path = Path(root) / name
    if not path.is_absolute() and (under_load() or not path.exists()):
        workflow, _ = running_workflow(running_parser())
        configs = getattr(workflow, "config_root_path", None)
        if configs is not None and (beside := Path(configs).absolute().parent / name).exists():
            return str(beside)
    return str(path)
