# SPDX-License-Identifier: Apache-2.0
"""What preparing is said to need bounds what it takes."""

from __future__ import annotations

import pytest
from tiny_scans import blob, write_nifti

from monai_mixssl.data.estimate import estimate
from monai_mixssl.data.prepared_data import prepare_data
from monai_mixssl.data.scan import scan
from monai_mixssl.data.settings import PrepareSettings


@pytest.mark.parametrize("spacing", [None, 0.8])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_disk_that_is_used_is_below_the_estimate_and_near_it(tmp_path, spacing, spatial_dims):
    for number in range(3):
        array = blob((40, 40, 40), seed=number)
        array[::2, ::2, ::2] += 500  # nothing to crop
        write_nifti(tmp_path / "scans" / f"{number}.nii", array)
    settings = PrepareSettings(spatial_dims, 1, 16, spacing)
    said = estimate(scan(tmp_path / "scans", salt=b"", progress=False).images, settings)
    prepare_data(
        tmp_path / "scans", tmp_path / "run", spatial_dims=spatial_dims, patch_size=16, spacing=spacing,
        num_workers=0, progress=False,
    )  # fmt: skip
    used = sum(path.stat().st_size for path in (tmp_path / "run" / "private" / "prepared").iterdir())
    assert 0.7 * said.disk_bytes < used < said.disk_bytes
    assert said.images == 3


def test_more_processes_need_less_time_and_more_memory(tmp_path):
    write_nifti(tmp_path / "x.nii", blob((20, 20, 20)))
    images = scan(tmp_path, salt=b"", progress=False).images
    one, four = (estimate(images, PrepareSettings(3), number) for number in (1, 4))
    assert four.memory_bytes == 4 * one.memory_bytes
    assert four.seconds == one.seconds / 4
