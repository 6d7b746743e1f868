# SPDX-License-Identifier: Apache-2.0
"""What is in a folder of scans, what of it can be used, and how to begin: ``python -m monai_mixssl doctor FOLDER``."""

from __future__ import annotations

from monai_mixssl.doctor.advice import Advice, advise
from monai_mixssl.doctor.examination import Examination, examine

__all__ = ["Advice", "Examination", "advise", "examine"]
