# SPDX-License-Identifier: Apache-2.0
"""Blending a batch on the training device, in place of each image in the workers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset

from monai_mixssl.data.seeded_dataset import SeededDataset
from monai_mixssl.engines import PrepareMixupBatch
from monai_mixssl.errors import ConfigError
from monai_mixssl.sources import PowerLawNoise
from monai_mixssl.transforms import CrossDomainMixup, RandCrossDomainMixupd

SHAPES = {2: (24, 20), 3: (12, 10, 8)}


def batch(spatial_dims: int, **options) -> dict:
    generator = torch.Generator().manual_seed(0)
    items = [{"image": 50 * torch.rand(1, *SHAPES[spatial_dims], generator=generator)} for _ in range(4)]
    mixup = RandCrossDomainMixupd("image", source=PowerLawNoise(), **options)
    return next(iter(DataLoader(SeededDataset(Dataset(items, mixup), seed=3), batch_size=4)))


ON_A_GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"))


@pytest.mark.parametrize("device", ["cpu", ON_A_GPU])
@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("map_cells", [0, 3])
@pytest.mark.parametrize(("match", "renormalize"), [("mean_std", True), ("histogram", False), (None, False)])
def test_a_batch_blended_on_the_device_is_the_one_that_the_workers_blend(
    device, spatial_dims, map_cells, match, renormalize
):
    options = {"match": match, "renormalize": renormalize}
    by_workers = PrepareMixupBatch()(batch(spatial_dims, map_cells=map_cells, **options))
    left = batch(spatial_dims, map_cells=map_cells, blend=False)
    assert "image_target" not in left
    blended, wanted = PrepareMixupBatch(mixup=CrossDomainMixup(**options))(left, device)
    assert blended.device.type == wanted["image"].device.type == device
    on_device = blended.cpu(), {name: value.cpu() for name, value in wanted.items()}
    torch.testing.assert_close(on_device[0], by_workers[0], rtol=1e-5, atol=1e-4)
    for name in ("image", "transparency"):
        assert torch.equal(on_device[1][name], by_workers[1][name])
    assert (on_device[0] - on_device[1]["image"]).abs().mean() > 1  # it is blended


def test_an_image_that_is_not_to_be_blended_stays_the_target():
    left = batch(2, blend=False, prob=0.0)
    mixed, wanted = PrepareMixupBatch(mixup=CrossDomainMixup())(left)
    torch.testing.assert_close(mixed, wanted["image"], rtol=1e-5, atol=1e-4)
    assert (wanted["transparency"] == 1).all()


def test_keys_of_different_shapes_are_refused_as_where_the_transform_blends():
    mixup = RandCrossDomainMixupd(["a", "b"], source=PowerLawNoise(), blend=False)
    with pytest.raises(ConfigError, match=r"'b' is \(1, 8, 8\) .* all keys must be of one shape"):
        mixup({"a": torch.rand(1, 16, 16), "b": torch.rand(1, 8, 8)})


def test_a_target_that_is_left_unblended_is_a_tensor_as_a_blend_is():
    sample = RandCrossDomainMixupd("image", source=PowerLawNoise(), blend=False)({"image": np.ones((1, 8, 8), "f4")})
    assert isinstance(sample["image"], torch.Tensor)


def test_batches_that_do_not_fit_are_refused_by_what_to_change():
    with pytest.raises(ConfigError, match=r"no image_source; put RandCrossDomainMixupd\('image', …, blend=False\)"):
        PrepareMixupBatch(mixup=CrossDomainMixup())(batch(2))
    with pytest.raises(ConfigError, match=r"no image_target; put RandCrossDomainMixupd\('image', …\)"):
        PrepareMixupBatch()(batch(2, blend=False))
    with pytest.raises(ConfigError, match=r"blended already; give RandCrossDomainMixupd blend=False"):
        PrepareMixupBatch(mixup=CrossDomainMixup())(batch(2, keep_source=True))
