# SPDX-License-Identifier: Apache-2.0
"""What software and hardware a run used."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

__all__ = ["versions"]

_PACKAGES = (
    "monai-mixssl",
    "monai",
    "torch",
    "pytorch-ignite",
    "numpy",
    "nibabel",
    "pydicom",
    "SimpleITK",
    "safetensors",
)


def versions() -> dict[str, str]:
    """Versions of Python, the packages that shape a result, and the kind of machine; no host or user name."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return found
