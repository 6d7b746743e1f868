# SPDX-License-Identifier: Apache-2.0
"""MONAI transforms of the cross-domain mix-up, for arrays and for dictionaries."""

from __future__ import annotations

from monai_mixssl.transforms.cross_domain_mixup import CrossDomainMixup, RandCrossDomainMixup
from monai_mixssl.transforms.cross_domain_mixup_dict import (
    CrossDomainMixupD,
    CrossDomainMixupd,
    CrossDomainMixupDict,
    RandCrossDomainMixupD,
    RandCrossDomainMixupd,
    RandCrossDomainMixupDict,
)

__all__ = [
    "CrossDomainMixup",
    "CrossDomainMixupD",
    "CrossDomainMixupDict",
    "CrossDomainMixupd",
    "RandCrossDomainMixup",
    "RandCrossDomainMixupD",
    "RandCrossDomainMixupDict",
    "RandCrossDomainMixupd",
]
