# SPDX-License-Identifier: Apache-2.0
"""Does pretraining help on these data? The same fine-tuning from scratch and from the pretrained encoder."""

from __future__ import annotations

from monai_mixssl.compare.plan import Plan, parse_amounts, parse_protocols
from monai_mixssl.compare.report import Comparison
from monai_mixssl.compare.runner import compare
from monai_mixssl.compare.statistics import paired_difference, spread

__all__ = ["Comparison", "Plan", "compare", "paired_difference", "parse_amounts", "parse_protocols", "spread"]
