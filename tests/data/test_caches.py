# SPDX-License-Identifier: Apache-2.0
"""MONAI's caching data sets, and ours, on the chain that docs/data.md gives."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, Dataset, PersistentDataset
from monai.data.utils import pickle_hashing
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandGaussianNoised, Spacingd
from tiny_scans import blob, write_nifti

from monai_mixssl.data import (
    CheckedPersistentDataset,
    KeepAllowedMetadatad,
    LenientCacheDataset,
    NormalizeByModalityd,
    ScanReader,
    SeededDataset,
    persistent_cache,
)
from monai_mixssl.data.load_scan import LoadScand
from monai_mixssl.data.network_grid import NetworkGridd
from monai_mixssl.data.prepared_transforms import LoadPreparedd


def chain(**normalization) -> Compose:
    return Compose(
        [
            LoadImaged("image", reader=ScanReader),
            KeepAllowedMetadatad("image"),
            EnsureChannelFirstd("image"),
            NormalizeByModalityd("image", **normalization),
            RandGaussianNoised("image", prob=1.0, std=0.01),
        ]
    )


@pytest.fixture
def scans(tmp_path) -> list[dict]:
    folder = tmp_path / "SENTINEL^Name"
    return [{"image": str(write_nifti(folder / f"{n}.nii.gz", blob((8, 9, 10), n)))} for n in range(3)]


def values(dataset: Dataset) -> list[np.ndarray]:
    return [np.asarray(dataset[i]["image"]) for i in range(3)]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", ["memory", "disk", "disk, checked"])
def test_a_cache_gives_what_is_read_without_it_and_holds_no_names(scans, tmp_path, kind):
    expected = values(SeededDataset(Dataset(scans, chain()), seed=1))
    cache = tmp_path / "cache"
    if kind == "memory":
        cached = CacheDataset(scans, chain(), progress=False, num_workers=1)
    else:
        cached = (PersistentDataset if kind == "disk" else CheckedPersistentDataset)(scans, chain(), cache)
    dataset = SeededDataset(cached, seed=1)
    assert same(values(dataset), expected)
    for scan in scans:
        Path(scan["image"]).unlink()
    assert same(values(dataset), expected)  # from the cache
    if kind != "memory":
        assert len(list(cache.iterdir())) == 3
        assert not any(b"SENTINEL" in entry.read_bytes() for entry in cache.iterdir())


@pytest.mark.parametrize("how", ["gone", "empty", "half"])
@pytest.mark.parametrize("kind", ["none", "memory", "disk, checked"])
def test_an_image_that_has_gone_bad_is_replaced_on_every_cache(scans, tmp_path, how, kind):
    expected = values(SeededDataset(Dataset(scans, chain()), seed=1))
    path = Path(scans[1]["image"])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if how == "half" else b"")
    if how == "gone":
        path.unlink()
    if kind == "none":
        cached = Dataset(scans, chain())
    elif kind == "memory":
        cached = LenientCacheDataset(scans, chain(), progress=False)
    else:
        cached = CheckedPersistentDataset(scans, chain(), tmp_path / "cache")
    dataset = SeededDataset(cached, seed=1, substitute=True)
    found = values(dataset)
    assert [np.array_equal(*pair) for pair in zip(found, expected, strict=True)] == [True, False, True]
    [one] = dataset.stand_ins.of()
    assert (one.item, one.image_id, one.reason) == (1, "1", "cannot be read any more")
    assert found[1].shape == expected[one.by].shape


DAMAGE = {
    "empty": lambda content: b"",
    "text": lambda content: b"damaged",
    "half": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-10],
    "zeros": lambda content: bytes(len(content)),
    "one byte": lambda content: content[: len(content) // 2] + b"\x5a" + content[len(content) // 2 + 1 :],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_made_anew(scans, tmp_path, damage):
    cache = tmp_path / "cache"
    expected = values(SeededDataset(CheckedPersistentDataset(scans, chain(), cache)))
    before = {entry: entry.read_bytes() for entry in cache.iterdir()}
    for entry, content in before.items():
        entry.write_bytes(DAMAGE[damage](content))
        assert entry.read_bytes() != content
    assert same(values(SeededDataset(CheckedPersistentDataset(scans, chain(), cache))), expected)
    for scan in scans:
        Path(scan["image"]).unlink()
    assert same(values(SeededDataset(CheckedPersistentDataset(scans, chain(), cache))), expected)


def test_of_monais_own_cache_the_damage_that_it_knows_is_made_anew(scans, tmp_path):
    cache = tmp_path / "cache"
    expected = values(SeededDataset(PersistentDataset(scans, chain(), cache)))
    next(cache.iterdir()).write_bytes(b"damaged")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI says that it computes the entry anew
        assert same(values(SeededDataset(PersistentDataset(scans, chain(), cache))), expected)


@pytest.mark.parametrize("change", ["an argument", "our version", "the version of a library", "another transform"])
@pytest.mark.parametrize("substitute", [False, True])
def test_an_entry_of_another_chain_or_version_is_not_used(scans, tmp_path, monkeypatch, change, substitute):
    cache = tmp_path / "cache"
    values(CheckedPersistentDataset(scans, chain(), cache))
    now = chain()
    if change == "an argument":
        now = chain(rule="lung")
    elif change == "another transform":
        now = Compose([*now.transforms[:3], Spacingd("image", (2.0, 2.0, 2.0)), *now.transforms[3:]])
    else:
        place = 0 if change == "our version" else -1
        versions = [*persistent_cache.READ_BY]
        versions[place] = "9.9.9"
        monkeypatch.setattr(persistent_cache, "READ_BY", versions)
    found = values(SeededDataset(CheckedPersistentDataset(scans, now, cache), substitute=substitute))
    assert same(found, values(SeededDataset(Dataset(scans, now))))
    assert len(list(cache.iterdir())) == 6


def test_an_argument_of_a_random_transform_makes_no_new_entries(scans, tmp_path):
    values(CheckedPersistentDataset(scans, chain(), tmp_path / "cache"))
    noisier = Compose([*chain().transforms[:-1], RandGaussianNoised("image", prob=1.0, std=0.1)])
    values(CheckedPersistentDataset(scans, noisier, tmp_path / "cache"))
    assert len(list((tmp_path / "cache").iterdir())) == 3


# each of our transforms that a cache may hold the result of, with and without a changed argument
TRANSFORMS = {
    "reader": (LoadImaged("image", reader=ScanReader), LoadImaged("image", reader=ScanReader(geometry="resample"))),
    "volume": (LoadImaged("image", reader=ScanReader), LoadImaged("image", reader=ScanReader(volume=1))),
    "metadata": (KeepAllowedMetadatad("image"), KeepAllowedMetadatad(["image", "label"])),
    "rule": (NormalizeByModalityd("image"), NormalizeByModalityd("image", rule="lung")),
    "window": (
        NormalizeByModalityd("image", rule="hounsfield"),
        NormalizeByModalityd("image", rule="hounsfield", window=(-50, 50)),
    ),
    "prepared": (LoadPreparedd("image", "a"), LoadPreparedd("image", "b")),
    "mapped": (LoadPreparedd("image", "a"), LoadPreparedd("image", "a", mapped=True)),
    "channels": (LoadScand("image"), LoadScand("image", in_channels=3)),
    "values": (LoadScand("image", label_values=[0, 1]), LoadScand("image", label_values=[0, 2])),
    "dimensions": (NetworkGridd("image", 2), NetworkGridd("image", 3)),
    "spacing": (NetworkGridd("image", 3), NetworkGridd("image", 3, spacing=2.0)),
}


@pytest.mark.parametrize("case", TRANSFORMS)
@pytest.mark.parametrize("hashes", [pickle_hashing, persistent_cache.chain_hash])
def test_every_argument_of_our_transforms_is_in_the_key(case, hashes):
    one, other = TRANSFORMS[case]
    assert hashes([one]) != hashes([other])


def key() -> str:
    return persistent_cache.chain_hash(chain().transforms[:-1]).decode()


def test_the_key_is_the_same_in_another_process():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTHONHASHSEED": "5"}
    code = "import test_caches; print(test_caches.key())"
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert other.stdout == f"{key()}\n"


def test_a_folder_that_may_only_be_read_is_used_as_far_as_it_goes(scans, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    expected = values(SeededDataset(CheckedPersistentDataset(scans, chain(), cache)))
    next(cache.iterdir()).unlink()
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, who may write everywhere
    assert same(values(SeededDataset(CheckedPersistentDataset(scans, chain(), cache))), expected)
    assert len(list(cache.iterdir())) == 2


def _read(scans: list[dict], cache: Path, start: object, expected: list[np.ndarray]) -> None:
    torch.set_num_threads(1)
    dataset = SeededDataset(CheckedPersistentDataset(scans, chain(), cache), seed=1)
    start.wait(60)
    for round_ in range(20):
        assert same(values(dataset), expected)
        if round_ % 3 == 0:
            for entry in cache.glob("*.pt"):
                entry.write_bytes(b"damaged")  # by one process, while the other reads or writes
        elif round_ % 3 == 1:
            for entry in cache.glob("*.pt"):
                entry.unlink(missing_ok=True)


def test_two_processes_share_a_folder_whatever_becomes_of_its_entries(scans, tmp_path):
    expected = values(SeededDataset(Dataset(scans, chain()), seed=1))
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    both = [context.Process(target=_read, args=(scans, tmp_path / "cache", start, expected)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    assert not list((tmp_path / "cache").glob("*.part"))
