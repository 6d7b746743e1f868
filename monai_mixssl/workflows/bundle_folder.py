# SPDX-License-Identifier: Apache-2.0
"""Where the bundles that come with this package lie."""

from __future__ import annotations

from pathlib import Path

from monai_mixssl.errors import ConfigError

__all__ = ["BUNDLES", "bundle_root"]

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
