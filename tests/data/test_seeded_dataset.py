# SPDX-License-Identifier: Apache-2.0
"""Random samples are reproducible in MONAI's stock loader, and through SeededDataset for any number of workers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import ArrayDataset, CacheDataset, DataLoader, Dataset, PersistentDataset, SmartCacheDataset, ZipDataset
from monai.transforms import Compose, RandFlipd, RandGaussianNoise, RandSpatialCropSamplesd, ScaleIntensityd
from torch.distributions import Beta
from torch.utils.data import ConcatDataset, Subset

from monai_mixssl.data.seeded_dataset import SeededDataset
from monai_mixssl.errors import ConfigError
from monai_mixssl.sources import PowerLawNoise
from monai_mixssl.transforms import RandCrossDomainMixupd

ITEMS = 6


def items() -> list[dict]:
    random = np.random.RandomState(0)
    return [{"image": random.rand(1, 12, 12).astype(np.float32)} for _ in range(ITEMS)]


def chain() -> Compose:
    return Compose(
        [
            ScaleIntensityd("image"),
            RandFlipd("image", 0.5),
            RandSpatialCropSamplesd("image", 8, num_samples=2, random_size=False),
            RandCrossDomainMixupd("image", PowerLawNoise(), transparency=Beta(2.0, 2.0)),
        ]
    )


def seeded(seed: int = 0) -> SeededDataset:
    return SeededDataset(Dataset(items(), chain()), seed=seed)


def read(loader: DataLoader) -> dict[str, torch.Tensor | list[str]]:
    """One epoch, in the order of the items."""
    batches = list(loader)
    return {
        "image": torch.cat([torch.as_tensor(batch["image"]) for batch in batches]),
        "transparency": torch.cat([batch["image_transparency"] for batch in batches]),
        "source": [name for batch in batches for name in batch["image_source_id"]],
    }


def equal(first: dict, second: dict) -> bool:
    return (
        torch.equal(first["image"], second["image"])
        and torch.equal(first["transparency"], second["transparency"])
        and first["source"] == second["source"]
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_stock_loader_is_reproducible_and_distinct_per_worker_and_epoch(workers):
    def two_epochs() -> list[dict]:
        torch.manual_seed(3)
        loader = DataLoader(Dataset(items(), chain()), batch_size=1, num_workers=workers)
        return [read(loader), read(loader)]

    first, again = two_epochs(), two_epochs()
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))
    names = first[0]["source"] + first[1]["source"]
    assert len(set(names)) == len(names) == 2 * 2 * ITEMS


@pytest.fixture(scope="module")
def expected() -> list[dict]:
    """Two epochs, loaded in this process."""
    dataset = seeded()
    loader = DataLoader(dataset, batch_size=2, num_workers=0)
    epochs = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        epochs.append(read(loader))
    return epochs


def test_epochs_and_items_differ(expected):
    names = expected[0]["source"] + expected[1]["source"]
    assert len(set(names)) == len(names) == 2 * 2 * ITEMS
    assert len(expected[0]["transparency"].unique()) == 2 * ITEMS


@pytest.mark.parametrize(
    ("workers", "start", "persistent"),
    [(1, "fork", False), (4, "fork", False), (4, "fork", True), (1, "spawn", True)],
)
def test_samples_are_the_same_for_any_number_of_workers(expected, workers, start, persistent):
    dataset = seeded()
    loader = DataLoader(
        dataset, batch_size=2, num_workers=workers, multiprocessing_context=start, persistent_workers=persistent
    )
    for epoch in range(2):
        dataset.set_epoch(epoch)
        assert equal(read(loader), expected[epoch])


def test_samples_do_not_depend_on_the_order_or_on_what_was_drawn_before(expected):
    dataset = seeded()
    for index in (3, 0, -1, 3, np.int64(5), torch.tensor(2)):
        for crop, position in zip(dataset[index], (0, 1), strict=True):
            row = 2 * (int(index) % ITEMS) + position
            assert crop["image_source_id"] == expected[0]["source"][row]
            assert torch.equal(crop["image"].as_tensor(), expected[0]["image"][row])


def test_samples_do_not_depend_on_the_global_generators(expected):
    np.random.seed(9)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    dataset = seeded()
    assert dataset[1][0]["image_source_id"] == expected[0]["source"][2]
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.rand() == np.random.RandomState(9).rand()


@pytest.mark.parametrize("kind", ["cached", "cached as it goes", "partly cached", "persistent"])
def test_monais_caching_datasets_give_the_same_samples(expected, kind, tmp_path):
    inner = {
        "cached": lambda: CacheDataset(items(), chain(), progress=False),
        "cached as it goes": lambda: CacheDataset(items(), chain(), progress=False, runtime_cache=True),
        "partly cached": lambda: CacheDataset(items(), chain(), cache_num=2, progress=False),
        "persistent": lambda: PersistentDataset(items(), chain(), cache_dir=tmp_path),
    }[kind]()
    dataset = SeededDataset(inner)
    for workers in (0, 2):
        loader = DataLoader(dataset, batch_size=2, num_workers=workers)
        for epoch in range(2):
            dataset.set_epoch(epoch)
            assert equal(read(loader), expected[epoch])


def noise() -> RandGaussianNoise:
    return RandGaussianNoise(prob=1.0)


ZEROS = [torch.zeros(1, 4)] * 4
COMBINED = {
    "subset": lambda: Subset(Dataset(ZEROS, noise()), [2, 0, 1]),
    "concatenation": lambda: ConcatDataset([Dataset(ZEROS[:2], noise()), Dataset(ZEROS[:2], noise())]),
    "pairs": lambda: ZipDataset([Dataset(ZEROS, noise()), Dataset(ZEROS, noise())]),
    "arrays": lambda: ArrayDataset(ZEROS, noise(), seg=ZEROS, seg_transform=noise()),
    "smart cache": lambda: SmartCacheDataset(ZEROS, noise(), replace_rate=0.5, cache_num=3, progress=False),
    "two levels": lambda: Dataset(Dataset(ZEROS, noise()), noise()),
}


@pytest.mark.parametrize("kind", COMBINED)
def test_datasets_made_of_datasets_are_seeded_throughout(kind):
    def values(dataset: SeededDataset, order: list[int]) -> dict[int, np.ndarray]:
        return {i: np.stack([np.asarray(part) for part in dataset[i]]) for i in order}

    first = values(SeededDataset(COMBINED[kind](), seed=1), [0, 1, 2])
    again = values(SeededDataset(COMBINED[kind](), seed=1), [2, 0, 1])
    other = values(SeededDataset(COMBINED[kind](), seed=2), [0, 1, 2])
    for i, value in first.items():
        np.testing.assert_array_equal(value, again[i])
        assert not np.array_equal(value, other[i])
    assert not np.array_equal(first[0], first[1])
    if kind == "pairs":
        assert not np.array_equal(first[0][0], first[0][1])  # two parts have two streams


class KeyedDataset(Dataset):
    """A transform for each kind of item, and a reference to itself by way of its partner."""

    def __init__(self) -> None:
        super().__init__(ZEROS)
        self.of_kind = {"noisy": noise()}
        self.partner = Dataset(ZEROS)
        self.partner.owner = self
        self.itself = [self]

    def __getitem__(self, index):
        return self.of_kind["noisy"](self.data[index])


def test_transforms_in_a_dictionary_are_seeded_and_a_circle_of_references_ends():
    first, again = SeededDataset(KeyedDataset(), seed=1), SeededDataset(KeyedDataset(), seed=1)
    assert torch.equal(first[1], first[1])
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], first[1])


def test_dataset_without_randomness_is_handed_through():
    dataset = SeededDataset(Dataset(items(), ScaleIntensityd("image")))
    assert torch.equal(dataset[0]["image"], dataset[0]["image"])
    assert len(dataset) == ITEMS


def test_epoch_is_kept_and_shared():
    dataset = seeded()
    assert dataset.epoch == 0
    dataset.set_epoch(7)
    assert dataset.epoch == 7


def test_iterating_ends_after_the_last_item():
    assert len(list(seeded())) == ITEMS
    with pytest.raises(IndexError, match="out of range"):
        seeded()[ITEMS]
    with pytest.raises(IndexError, match="out of range"):
        seeded()[-ITEMS - 1]


def test_negative_seed_and_epoch_are_refused():
    with pytest.raises(ConfigError, match="seed is -1"):
        SeededDataset(Dataset(items()), seed=-1)
    with pytest.raises(ConfigError, match="epoch is -2"):
        seeded().set_epoch(-2)
