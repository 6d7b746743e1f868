# SPDX-License-Identifier: Apache-2.0
"""What several tests share: the provided data, and a small run on images made here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose

from monai_mixssl.data.sampler import EpochBatchSampler
from monai_mixssl.data.seeded_dataset import SeededDataset
from monai_mixssl.engines import MixSSLEvaluator, MixSSLTrainer
from monai_mixssl.losses import DualObjectiveLoss
from monai_mixssl.networks import MixSSLNet
from monai_mixssl.sources import PowerLawNoise
from monai_mixssl.transforms import RandCrossDomainMixupd


@pytest.fixture(scope="session")
def provided_data() -> Path:
    """The folder of real scans that ``MIXSSL_TEST_DATA`` names."""
    folder = os.environ.get("MIXSSL_TEST_DATA")
    if not folder:
        pytest.skip("MIXSSL_TEST_DATA is unset: no real scans to test with")
    return Path(folder)


def bright_squares(count: int, size: int = 32, spatial_dims: int = 2) -> list[dict[str, Any]]:
    """Images (1, *spatial) in [0, 1] of one bright box each, at a random place, on a faint texture."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for number in range(count):
        image = 0.1 + 0.05 * torch.rand(1, *[size] * spatial_dims, generator=generator)
        corner = torch.randint(0, size // 2, (spatial_dims,), generator=generator).tolist()
        image[(0, *(slice(c, c + size // 2) for c in corner))] = 0.9
        items.append({"image": image, "id": f"square{number:02d}"})
    return items


class SmallRun:
    """Network, data, optimizer and engines of a run that takes about a second."""

    def __init__(self, spatial_dims: int = 2, count: int = 12, batch_size: int = 4, max_epochs: int = 2, **kwargs: Any):
        torch.manual_seed(0)
        num_workers = kwargs.pop("num_workers", 0)
        network = kwargs.pop("network", None)
        items = kwargs.pop("items", None) or bright_squares(count, 32 if spatial_dims == 2 else 16, spatial_dims)
        mixup_arguments = kwargs.pop("mixup", {})
        mixup = Compose([RandCrossDomainMixupd("image", source=PowerLawNoise(), **mixup_arguments)])
        self.dataset = SeededDataset(Dataset(items, mixup), seed=3)
        self.sampler = EpochBatchSampler(len(self.dataset), batch_size, seed=3)
        self.loader = DataLoader(
            self.dataset, batch_sampler=self.sampler, num_workers=num_workers, generator=torch.Generator()
        )
        self.val_dataset = SeededDataset(Dataset(items[:8], mixup), seed=4)
        output = "map" if "map_cells" in mixup_arguments else "number"
        self.network = network or MixSSLNet(spatial_dims, backbone="resnet10_s8_thin", transparency=output)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3)
        self.loss = DualObjectiveLoss()
        self.trainer = MixSSLTrainer("cpu", max_epochs, self.loader, self.network, self.optimizer, self.loss, **kwargs)
        self.evaluator = MixSSLEvaluator(
            "cpu",
            DataLoader(self.val_dataset, batch_size=3, generator=torch.Generator()),
            self.network,
            self.loss,
            spatial_dims,
        )


@pytest.fixture
def small_run() -> Callable[..., SmallRun]:
    """Makes a :py:class:`SmallRun`."""
    return SmallRun
