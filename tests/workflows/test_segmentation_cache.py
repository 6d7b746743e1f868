# SPDX-License-Identifier: Apache-2.0
"""Images that would not fit into memory are refused before they are read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from monai_mixssl.errors import ConfigError
from monai_mixssl.workflows import check_cache, finetune_settings
from monai_mixssl.workflows.segmentation import segmentation_patch


def data(count: int, shape: list[int], spacing: list[float]) -> Any:
    items = [{"id": str(number)} for number in range(count)]
    records = {item["id"]: {"shape": shape, "spacing": spacing} for item in items}
    return SimpleNamespace(train=items[1:] * 3, validation=items[:1], records=records)


@pytest.fixture
def meminfo(monkeypatch):
    """One gibibyte is free."""
    monkeypatch.setattr(Path, "read_text", lambda self: "MemTotal: 9 kB\nMemAvailable:    1048576 kB\n")


def test_as_much_as_fits_is_kept_and_no_more(meminfo):
    settings = finetune_settings(spatial_dims=3)
    volumes = data(40, [200, 200, 100], [1.0, 1.0, 2.0])  # 4 million voxels of 5 bytes each: 0.75 GB
    check_cache(volumes, settings, 1.0)
    with pytest.raises(ConfigError, match=r"would keep 1\.5 GB .* 1\.0 GB are free; set cache_rate to at most 0\.33"):
        check_cache(data(80, [200, 200, 100], [1.0, 1.0, 2.0]), settings, 1.0)
    check_cache(data(80, [200, 200, 100], [1.0, 1.0, 2.0]), settings, 0.33)


def test_resampled_sizes_count(meminfo):
    volumes = data(40, [200, 200, 100], [1.0, 1.0, 2.0])
    check_cache(volumes, finetune_settings(spatial_dims=3, spacing=2.0), 1.0)
    with pytest.raises(ConfigError, match=r"1\.5 GB"):
        check_cache(volumes, finetune_settings(spatial_dims=3, spacing=(1.0, 1.0, 1.0)), 1.0)
    with pytest.raises(ConfigError, match=r"3\.0 GB"):  # slices keep their distance
        check_cache(volumes, finetune_settings(spatial_dims=2, spacing=0.5), 1.0)


def test_a_system_that_does_not_say_refuses_nothing(monkeypatch):
    def missing(self):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    check_cache(data(10**4, [999, 999, 999], [1.0, 1.0, 1.0]), finetune_settings(spatial_dims=3), 1.0)


def test_patches_are_those_of_the_user_else_a_size_for_the_dimensions():
    for dims, expected in ((2, [64, 64]), (3, [32, 32, 32])):
        assert segmentation_patch(finetune_settings(spatial_dims=dims)) == expected
    assert segmentation_patch(finetune_settings(spatial_dims=3), [48, 48, 32]) == [48, 48, 32]
    with pytest.raises(ConfigError, match="another number of axes than the images, 3"):
        segmentation_patch(finetune_settings(default_dims=3), [48, 48])
