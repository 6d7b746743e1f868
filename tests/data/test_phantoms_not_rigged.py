# SPDX-License-Identifier: Apache-2.0
"""The lesion label must be learnable, but not from brightness or random features.

A reduced form of ``benchmarks/phantoms_not_rigged.py`` (one seed, no stock ResNet); full table: docs/phantoms.md.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

SEED = 1


@pytest.fixture(scope="module")
def benchmark_module() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "phantoms_not_rigged.py"
    spec = importlib.util.spec_from_file_location("phantoms_not_rigged", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def slices(benchmark_module):
    """Slices of the default set's patients, and of 36 others."""
    train = benchmark_module.labelled_slices(range(60), seed=SEED)
    return train, benchmark_module.labelled_slices(range(60, 96), seed=SEED)


@pytest.mark.parametrize("moments", [False, True])
def test_brightness_does_not_tell_who_has_lesions(benchmark_module, slices, moments):
    assert benchmark_module.intensity_accuracy(*slices, moments=moments) < 0.7


def test_random_features_do_not_tell_who_has_lesions(benchmark_module, slices):
    runs = [
        benchmark_module.frozen_accuracy(benchmark_module.SmallNetwork, *slices, seed=encoder) for encoder in range(3)
    ]
    for tap in ("last map", "last map, 2x2", "all maps"):
        assert np.mean([run[tap] for run in runs]) < 0.7


def test_random_features_do_tell_what_is_written_large(benchmark_module, slices):
    # the same measure on a label that pooled features can see: a bright square in half of the slices
    marked = []
    for images, labels in slices:
        own = np.arange(len(labels)) % 2
        images = images.clone()
        images[torch.from_numpy(own == 1), :, 24:40, 24:40] = 1.0
        marked.append((images, own))
    result = benchmark_module.frozen_accuracy(benchmark_module.SmallNetwork, *marked, seed=0)
    assert result["last map"] > 0.9


def test_a_network_trained_on_all_labels_tells_who_has_lesions(benchmark_module, slices):
    assert benchmark_module.scratch_accuracy(*slices, seed=SEED, epochs=20) > 0.9
