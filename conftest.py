# SPDX-License-Identifier: Apache-2.0
"""What all tests share: threads that do not fight for the cores, and what examples in docstrings may use unimported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

# Tests run in several processes. A pool of threads for each core in every one of them has more threads than cores, and
# they wait for each other by spinning: several times the work. It must stand before the first import of torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

_LONG = [Path(__file__).parent / "tests" / name for name in ("workflows", "compare", "benchmarks")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: item.path.parent not in _LONG)


@pytest.fixture(autouse=True)
def _example_names(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace["torch"] = torch
