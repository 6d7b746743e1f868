# SPDX-License-Identifier: Apache-2.0
"""Mix-up self-supervised pretraining for MONAI."""

from __future__ import annotations

__version__ = "0.1.0"
