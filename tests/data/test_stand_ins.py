# SPDX-License-Identifier: Apache-2.0
"""Items whose files have gone bad, and those that stand in for them."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset, PersistentDataset
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, MapTransform, RandGaussianNoised
from tiny_scans import blob, write_nifti

from monai_mixssl.data import KeepAllowedMetadatad, NormalizeByModalityd, ScanReader
from monai_mixssl.data.lenient_cache import LenientCacheDataset
from monai_mixssl.data.seeded_dataset import SeededDataset
from monai_mixssl.errors import DataError, UnreadableImageError

ITEMS = 12


class Read(MapTransform):
    """A number out of a file, as often as there are pixels."""

    def __call__(self, data):
        value = float(Path(data["image"]).read_text())
        return {**data, "image": torch.full((1, 4), value)}


@pytest.fixture
def files(tmp_path) -> list[dict]:
    for number in range(ITEMS):
        (tmp_path / f"{number}").write_text(f"{number}")
    return [{"image": str(tmp_path / f"{number}"), "id": f"id{number}"} for number in range(ITEMS)]


def dataset_of(files, kind=Dataset, views=1, **arguments) -> SeededDataset:
    chain = Compose([Read("image"), RandGaussianNoised("image", prob=1.0, std=0.01)])
    return SeededDataset(kind(files * views, chain, **arguments), seed=7, substitute=True, views=views)


def numbers(dataset: SeededDataset, epoch: int, workers: int = 0) -> list[int]:
    """Which file each item of an epoch was made of."""
    dataset.set_epoch(epoch)
    loader = DataLoader(dataset, batch_size=3, num_workers=workers, generator=torch.Generator())
    return torch.cat([batch["image"][:, 0, 0] for batch in loader]).round().int().tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_another_item_stands_in_the_same_in_every_loader_and_the_others_stay(files, workers):
    untouched = dataset_of(files)
    untouched.set_epoch(1)
    before = [untouched[i]["image"].clone() for i in range(ITEMS)]
    Path(files[3]["image"]).unlink()
    Path(files[5]["image"]).write_text("nan")
    dataset = dataset_of(files)
    read = [numbers(dataset, epoch, workers) for epoch in (1, 2)]
    assert read == [numbers(dataset_of(files), epoch) for epoch in (1, 2)]
    for epoch in read:
        assert [number for i, number in enumerate(epoch) if i not in (3, 5)] == [0, 1, 2, 4, *range(6, ITEMS)]
        assert not {3, 5} & set(epoch)
    assert read[0] != read[1]  # drawn anew each epoch
    dataset.set_epoch(1)
    for i in set(range(ITEMS)) - {3, 5}:
        assert torch.equal(dataset[i]["image"], before[i])
    stands_in = dataset[3]["image"]
    assert not torch.equal(stands_in, before[read[0][3]])  # not that item's own sample a second time


def test_who_stood_in_and_why_is_known_in_the_main_process(files):
    Path(files[3]["image"]).unlink()
    Path(files[5]["image"]).write_text("inf")
    dataset = dataset_of(files)
    read = numbers(dataset, 1, workers=2)
    assert dataset.stand_ins.of() == [
        (3, read[3], "cannot be read any more"),
        (5, read[5], "NaN or infinite values"),
    ]
    assert dataset.stand_ins.of([0, 5]) == [(5, read[5], "NaN or infinite values")]
    dataset.set_epoch(2)
    assert dataset.stand_ins.of() == []


def test_an_image_that_comes_back_is_not_used_again(files):
    path = Path(files[3]["image"])
    path.unlink()
    dataset = dataset_of(files)
    assert numbers(dataset, 1)[3] != 3
    path.write_text("3")
    assert numbers(dataset, 2)[3] != 3


def test_all_views_of_a_target_get_the_same_stand_in(files):
    Path(files[3]["image"]).unlink()
    for epoch in range(1, 6):
        read = numbers(dataset_of(files, views=2), epoch)
        assert read[3] == read[3 + ITEMS] != 3


def test_where_nothing_can_stand_in_it_is_an_error_that_names_the_id(files):
    for one in files:
        Path(one["image"]).unlink()
    with pytest.raises(DataError, match=r"image id4 cannot be read any more, nor can .*--resume True"):
        dataset_of(files)[4]


@pytest.mark.parametrize("problem", [OSError(errno.ENOSPC, "full"), ValueError("a bug"), DataError("a wrong key")])
def test_what_no_file_is_to_blame_for_is_raised(files, problem):
    class Fails(MapTransform):
        def __call__(self, data):
            raise problem

    dataset = SeededDataset(Dataset(files, Compose([Fails("image")])), substitute=True)
    with pytest.raises(RuntimeError, match="applying transform") as raised:
        dataset[0]
    assert raised.value.__cause__ is problem


def test_an_error_that_names_another_image_does_not_give_this_one_up(files):
    class Mixes(MapTransform):
        """As a source within the domain does: any item may be drawn."""

        def __call__(self, data):
            if data["id"] == "id3":
                raise UnreadableImageError("gone", "id8")
            return data

    dataset = SeededDataset(Dataset(files, Compose([Mixes("image")])), substitute=True)
    by = dataset[3]["id"]
    assert by not in ("id3", "id8")
    assert dataset.stand_ins.reason(8)
    assert not dataset.stand_ins.reason(3)


def test_without_the_option_errors_are_raised(files):
    Path(files[0]["image"]).unlink()
    chain = Compose([Read("image")])
    with pytest.raises(RuntimeError, match="applying transform"):
        SeededDataset(Dataset(files, chain))[0]


@pytest.mark.parametrize("arguments", [{"cache_rate": 0.5}, {"hash_as_key": True}, {"runtime_cache": True}])
def test_a_cache_in_memory_is_filled_but_for_what_cannot_be_read(files, arguments):
    Path(files[3]["image"]).unlink()
    with pytest.raises(RuntimeError, match="applying transform"):
        CacheDataset(files, Compose([Read("image")]), progress=False)
    dataset = dataset_of(files * 2, LenientCacheDataset, progress=False, **arguments)
    read = numbers(dataset, 1)
    assert read == numbers(dataset_of(files * 2), 1)
    assert 3 not in read
    for path in {one["image"] for one in files[:3]}:
        Path(path).unlink()
    assert numbers(dataset, 1)[:3] == [0, 1, 2]  # from memory


# MONAI's caches, on the chain that docs/data.md gives


def chain() -> Compose:
    return Compose(
        [
            LoadImaged("image", reader=ScanReader),
            KeepAllowedMetadatad("image"),
            EnsureChannelFirstd("image"),
            NormalizeByModalityd("image"),
            RandGaussianNoised("image", prob=1.0, std=0.01),
        ]
    )


@pytest.fixture
def scans(tmp_path) -> list[dict]:
    folder = tmp_path / "SENTINEL^Name"
    return [{"image": str(write_nifti(folder / f"{n}.nii.gz", blob((8, 9, 10), n)))} for n in range(3)]


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_monais_caches_give_what_is_read_without_them(scans, tmp_path, kind):
    expected = SeededDataset(Dataset(scans, chain()), seed=1)
    cache = tmp_path / "cache"

    def cached() -> SeededDataset:
        if kind == "memory":
            return SeededDataset(CacheDataset(scans, chain(), progress=False, num_workers=1), seed=1)
        return SeededDataset(PersistentDataset(scans, chain(), cache), seed=1)

    first = cached()
    for _ in range(2):
        for i in range(3):
            np.testing.assert_array_equal(np.asarray(first[i]["image"]), np.asarray(expected[i]["image"]))
    if kind == "disk":
        entries = sorted(cache.iterdir())
        assert len(entries) == 3
        entries[0].write_bytes(b"damaged")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MONAI says that it computes the entry anew
            for i in range(3):
                np.testing.assert_array_equal(np.asarray(cached()[i]["image"]), np.asarray(expected[i]["image"]))
        assert not any(b"SENTINEL" in entry.read_bytes() for entry in cache.iterdir())
