# SPDX-License-Identifier: Apache-2.0
"""The second domain: images that are blended into the targets, one kind a file."""

from __future__ import annotations

from monai_mixssl.sources.base import Source
from monai_mixssl.sources.dead_leaves import DeadLeaves
from monai_mixssl.sources.folder import FolderImages
from monai_mixssl.sources.fractal import Fractal
from monai_mixssl.sources.installed import InstalledImages
from monai_mixssl.sources.noise import PowerLawNoise
from monai_mixssl.sources.registry import SOURCES, build_source
from monai_mixssl.sources.same_domain import SameDomain

__all__ = [
    "SOURCES",
    "DeadLeaves",
    "FolderImages",
    "Fractal",
    "InstalledImages",
    "PowerLawNoise",
    "SameDomain",
    "Source",
    "build_source",
]
