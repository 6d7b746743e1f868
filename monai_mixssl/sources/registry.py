# SPDX-License-Identifier: Apache-2.0
"""Sources by name, for configuration files."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from typing import Any

from monai_mixssl.errors import ConfigError
from monai_mixssl.sources.base import Source
from monai_mixssl.sources.dead_leaves import DeadLeaves
from monai_mixssl.sources.folder import FolderImages
from monai_mixssl.sources.fractal import Fractal
from monai_mixssl.sources.installed import InstalledImages
from monai_mixssl.sources.noise import PowerLawNoise
from monai_mixssl.sources.same_domain import SameDomain

__all__ = ["SOURCES", "build_source"]

SOURCES: dict[str, Callable[..., Source]] = {
    "dead_leaves": DeadLeaves,
    "noise": PowerLawNoise,
    "fractal": Fractal,
    "installed": InstalledImages,
    "folder": FolderImages,
    "same_domain": SameDomain,
}


def build_source(name: str, folder: str | os.PathLike[str] | None = None, dataset: Any = None) -> Source:
    """The source called ``name``, with its defaults.

    Args:
        name: one of ``SOURCES``.
        folder: the folder of images; for ``"folder"`` only.
        dataset: the images to draw from for ``"same_domain"``; the others do without.

    Raises:
        ConfigError: no such source, a folder that is missing or not asked for, a missing dataset.
        DataError: the folder holds no images.
    """
    if name not in SOURCES:
        near = difflib.get_close_matches(str(name), SOURCES, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ConfigError(f"There is no source '{name}': {hint}choose one of {', '.join(SOURCES)}.")
    if name == "folder":
        if folder is None:
            raise ConfigError("The source 'folder' needs a folder of images: give its path.")
        return FolderImages(folder)
    if folder is not None:
        raise ConfigError(f"A folder of images is given but the source is '{name}': choose the source 'folder'.")
    if name == "same_domain":
        if dataset is None:
            raise ConfigError("The source 'same_domain' needs a dataset of target images: give it one.")
        return SameDomain(dataset)
    return SOURCES[name]()
