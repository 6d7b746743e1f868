# SPDX-License-Identifier: Apache-2.0
"""What the examples in docstrings may use without importing it."""

from __future__ import annotations

from typing import Any

import pytest
import torch


@pytest.fixture(autouse=True)
def _example_names(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace["torch"] = torch
