# SPDX-License-Identifier: Apache-2.0
"""Items whose files have gone bad, and those that stand in for them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, MapTransform, RandGaussianNoised, Randomizable

from monai_mixssl.data.lenient_cache import LenientCacheDataset
from monai_mixssl.data.seeded_dataset import SeededDataset
from monai_mixssl.data.stand_ins import finite
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
        (3, read[3], "id3", "cannot be read any more"),
        (5, read[5], "id5", "NaN or infinite values"),
    ]
    assert dataset.stand_ins.of([0, 5]) == [(5, read[5], "id5", "NaN or infinite values")]
    dataset.set_epoch(2)
    assert dataset.stand_ins.of() == []


def test_an_image_that_comes_back_is_used_again(files):
    path = Path(files[3]["image"])
    path.unlink()
    dataset = dataset_of(files)
    before = numbers(dataset, 1)
    assert before[3] != 3
    path.write_text("3")
    assert numbers(dataset, 2) == list(range(ITEMS))
    path.unlink()
    assert numbers(dataset, 1) == before


def test_what_is_settled_is_done_whatever_the_file_says(files):
    path = Path(files[3]["image"])
    content = path.read_text()
    path.unlink()
    first = dataset_of(files)
    stood_in = first[3]["image"]
    path.write_text(content)
    dataset = dataset_of(files)
    dataset.stand_ins.settle(3, first.stand_ins.of()[0].by)
    for workers in (0, 2):
        loader = DataLoader(dataset, batch_size=ITEMS, num_workers=workers, generator=torch.Generator())
        assert torch.equal(next(iter(loader))["image"][3], stood_in)
    assert dataset.stand_ins.of() == [(3, first.stand_ins.of()[0].by, "", "")]


def test_workers_that_are_spawned_and_outlive_an_epoch_share_what_is_known(files):
    path = Path(files[3]["image"])
    content = path.read_text()
    path.unlink()
    dataset = dataset_of(files)
    options = {"num_workers": 1, "multiprocessing_context": "spawn", "persistent_workers": True}
    loader = DataLoader(dataset, batch_size=3, generator=torch.Generator(), **options)
    list(loader)
    found = dataset.stand_ins.of()
    assert [(one.item, one.image_id) for one in found] == [(3, "id3")]
    path.write_text(content)
    dataset.set_epoch(1)
    dataset.stand_ins.settle(5, 7)
    read = torch.cat([batch["image"][:, 0, 0] for batch in loader]).round().int().tolist()
    assert read == [0, 1, 2, 3, 4, 7, 6, *range(7, ITEMS)]


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


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_one_value_that_is_not_finite_is_found_wherever_it_stands(bad, dtype):
    item = {"id": "a", "slice": 3, "image": MetaTensor(torch.rand(1, 4, 4)), "more": [torch.rand(3).to(dtype)]}
    assert finite(item)
    item["more"][0][1] = bad
    assert not finite(item)
    assert not finite([{"image": MetaTensor(torch.tensor([bad, -bad]))}])


def test_values_whose_sum_overflows_are_finite():
    assert finite(torch.full((100,), 3e38))
    assert finite(torch.full((100,), 6e4, dtype=torch.float16))
    assert finite({"image": torch.full((2,), 2**62), "none": torch.zeros(0)})


@pytest.mark.parametrize("problem", [OSError(errno.ENOSPC, "full"), ValueError("a bug"), DataError("a wrong key")])
def test_what_no_file_is_to_blame_for_is_raised(files, problem):
    class Fails(MapTransform):
        def __call__(self, data):
            raise problem

    dataset = SeededDataset(Dataset(files, Compose([Fails("image")])), substitute=True)
    with pytest.raises(RuntimeError, match="applying transform") as raised:
        dataset[0]
    assert raised.value.__cause__ is problem


class Mix(MapTransform, Randomizable):
    """As a source within the domain does: an image drawn from all is added."""

    def __init__(self, keys, files):
        super().__init__(keys)
        self.files = files

    def __call__(self, data):
        other = self.files[self.R.randint(len(self.files))]
        if not Path(other["image"]).exists():
            raise UnreadableImageError("gone", other["id"])
        return {**data, "source": float(Path(other["image"]).read_text())}


def test_what_a_random_transform_has_chosen_is_chosen_anew_and_the_item_stays(files):
    # of this seed, no second draw is the source that is gone
    mixed = SeededDataset(Dataset(files, Compose([Read("image"), Mix("image", files)])), seed=0, substitute=True)
    before = [mixed[i] for i in range(ITEMS)]
    source = int(before[3]["source"])
    Path(files[source]["image"]).unlink()
    for i in {*range(ITEMS)} - {source}:
        item = mixed[i]
        assert item["image"][0, 0] == i
        assert item["source"] != source
        if before[i]["source"] != source:
            assert item["source"] == before[i]["source"]
    assert (3, 3, f"id{source}", "cannot be read any more") in mixed.stand_ins.of()
    again = SeededDataset(mixed.dataset, seed=0, substitute=True)
    again.stand_ins.settle(3, 3)
    assert again[3]["source"] == mixed[3]["source"]


def test_a_stand_in_for_an_image_does_not_repeat_what_could_not_be_read(files):
    # both the image and the source that its random state draws are gone: no other image may draw that source again
    for seed in range(5):
        mixed = SeededDataset(Dataset(files, Compose([Read("image"), Mix("image", files)])), seed=seed, substitute=True)
        source = int(mixed[3]["source"])
        contents = {number: Path(files[number]["image"]).read_text() for number in {3, source}}
        for number in contents:
            Path(files[number]["image"]).unlink()
        assert int(mixed[3]["image"][0, 0]) not in contents
        for number, text in contents.items():
            Path(files[number]["image"]).write_text(text)


def test_an_image_of_no_item_of_the_data_set_is_not_taken_for_one(files):
    others = [{"image": f"{one['image']}-gone", "id": f"other{n}"} for n, one in enumerate(files)]
    mixed = SeededDataset(Dataset(files, Compose([Read("image"), Mix("image", files + others)])), substitute=True)
    for i in range(ITEMS):
        _ = mixed[i]
    found = mixed.stand_ins.of()
    assert len(found) > 2
    assert {one.image_id for one in found} == {""}


def test_where_a_choice_was_lost_other_items_of_the_same_image_will_do(files):
    # one image in all items, and half of what can be chosen is gone: drawn anew until something can be read
    others = [{"image": f"{one['image']}-gone", "id": f"other{n}"} for n, one in enumerate(files[:2])]
    mix = Compose([Read("image"), Mix("image", files[:2] + others)])
    mixed = SeededDataset(Dataset(files[:1] * 32, mix), substitute=True)
    assert {(int(mixed[i]["image"][0, 0]), int(mixed[i]["source"])) for i in range(32)} == {(0, 0), (0, 1)}
    assert any(one.item != one.by for one in mixed.stand_ins.of())


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


@pytest.mark.parametrize("hash_as_key", [False, True])
def test_an_empty_place_of_a_cache_is_filled_with_its_own_item(files, hash_as_key):
    path = Path(files[3]["image"])
    path.unlink()
    order = [files[n] for n in (0, 0, 1, 3, 2, 3)]  # with hashes, the place of an item is not its number
    dataset = SeededDataset(
        LenientCacheDataset(order, Compose([Read("image")]), progress=False, hash_as_key=hash_as_key), substitute=True
    )
    path.write_text("3")
    assert numbers(dataset, 1) == [0, 0, 1, 3, 2, 3]
