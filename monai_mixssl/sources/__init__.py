# SPDX-License-Identifier: Apache-2.0
"""The second domain: images that are blended into the targets, one kind a file."""

from __future__ import annotations

from monai_mixssl.sources.base import Source
from monai_mixssl.sources.dead_leaves import DeadLeaves
from monai_mixssl.sources.noise import PowerLawNoise

__all__ = ["DeadLeaves", "PowerLawNoise", "Source"]
