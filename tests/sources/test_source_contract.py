# SPDX-License-Identifier: Apache-2.0
"""What every source promises, whatever it draws."""

from __future__ import annotations

import multiprocessing
import pickle
import re

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Transform
from monai.utils import set_determinism
from PIL import Image

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.sources import DeadLeaves, FolderImages, Fractal, InstalledImages, PowerLawNoise, SameDomain, Source

SHAPES = [
    (1, 32, 32),
    (3, 17, 40),
    (4, 1, 33),
    (2, 5, 1),
    (1, 16, 16, 16),
    (3, 7, 20, 5),
    (1, 24, 24, 1),
    (2, 1, 1, 9),
    (1, 1, 1, 1),
    (1, 1, 2),
]
PROCEDURAL = [DeadLeaves, PowerLawNoise, Fractal]
NAMES = ["dead_leaves", "noise", "fractal", "folder", "installed", "same_domain"]


@pytest.fixture
def make(tmp_path):
    """A function that builds any source by name, on synthetic data where it needs data."""

    def build(name: str) -> Source:
        if name in ("dead_leaves", "noise", "fractal"):
            return PROCEDURAL[NAMES.index(name)]()
        if name == "installed":
            pytest.importorskip("skimage", reason="its pictures are the source")
            return InstalledImages()
        if name == "folder":
            for k in range(6):
                pixels = np.random.RandomState(k).randint(0, 255, (20 + 7 * k, 31, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / f"picture{k}.png")
            return FolderImages(tmp_path)
        random = np.random.RandomState(0)
        return SameDomain([{"image": torch.from_numpy(random.rand(1, 12, 30, 20))} for _ in range(5)])

    return build


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_image_has_the_asked_shape_and_lies_in_0_to_1_and_varies(make, name, shape):
    source = make(name).set_random_state(5)
    for _ in range(5):
        image, _ = source(shape)
        assert type(image) is torch.Tensor
        assert image.dtype == torch.float32
        assert image.device.type == "cpu"
        assert tuple(image.shape) == shape
        assert image.is_contiguous()
        assert torch.isfinite(image).all()
        assert image.min() >= 0.0
        assert image.max() <= 1.0
        assert image[0].numel() == 1 or max(channel.max() - channel.min() for channel in image) >= 0.02


@pytest.mark.parametrize("cls", PROCEDURAL)
def test_no_seed_gives_a_procedural_image_without_contrast(cls):
    source = cls()
    for seed in range(300):
        assert source.set_random_state(seed)((1, 16, 16))[0].std() > 0.01
    for seed in range(30):
        image, _ = source.set_random_state(seed)((3, 12, 12, 12))
        assert image.flatten(1).std(1).min() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_settles_the_images_and_the_next_one_differs(make, name):
    source = make(name)
    for shape in ((1, 24, 20), (3, 9, 8, 10)):
        first = [source.set_random_state(seed=11)(shape), source(shape)]
        again = [source.set_random_state(seed=11)(shape), source(shape)]
        for (image, identifier), (image_again, identifier_again) in zip(first, again, strict=True):
            assert torch.equal(image, image_again)
            assert identifier == identifier_again
        assert not torch.equal(first[0][0], first[1][0])
        assert not torch.equal(first[0][0], source.set_random_state(seed=12)(shape)[0])


@pytest.mark.parametrize("name", NAMES)
def test_numpys_and_torchs_global_generators_are_left_alone(make, name):
    source = make(name).set_random_state(0)
    np.random.seed(3)
    torch.manual_seed(3)
    source((1, 16, 16))
    source((1, 8, 8, 8))
    after = np.random.random(), torch.rand(1).item()
    np.random.seed(3)
    torch.manual_seed(3)
    assert after == (np.random.random(), torch.rand(1).item())


@pytest.mark.parametrize("name", NAMES)
def test_an_id_is_the_sources_name_and_digits(make, name):
    assert re.fullmatch(rf"{name}:[0-9a-f]{{6,12}}", make(name).set_random_state(0)((1, 8, 8))[1])


@pytest.mark.parametrize("cls", PROCEDURAL)
def test_the_id_of_a_procedural_image_gives_the_image_again(cls):
    image, identifier = cls().set_random_state(4)((2, 20, 20))
    again = cls().render((2, 20, 20), np.random.RandomState(int(identifier.split(":")[1], 16)))
    np.testing.assert_array_equal(image.numpy(), again)


@pytest.mark.parametrize("name", NAMES)
def test_a_pickled_source_goes_on_where_the_original_stood(make, name):
    source = make(name).set_random_state(2)
    source((1, 8, 8))
    copy = pickle.loads(pickle.dumps(source))
    assert torch.equal(copy((1, 16, 16))[0], source((1, 16, 16))[0])


class _Draw(Transform):
    """Draws from the source that an item names, reseeded by the item, so that the worker must not matter."""

    def __init__(self, sources: list[Source]) -> None:
        self.sources = sources

    def __call__(self, item: dict[str, int]) -> torch.Tensor:
        return self.sources[item["which"]].set_random_state(item["seed"])((1, 10, 11, 12))[0]


def test_a_process_started_by_spawn_draws_what_this_one_draws(make):
    sources = [make(name) for name in NAMES if name != "installed"]
    items = [{"which": which, "seed": seed} for which in range(len(sources)) for seed in (0, 1)]
    spawn = multiprocessing.get_context("spawn")
    set_determinism(None)
    batches = list(DataLoader(Dataset(items, _Draw(sources)), num_workers=1, multiprocessing_context=spawn))
    assert len(batches) == len(items)
    for batch, item in zip(batches, items, strict=True):
        assert torch.equal(batch[0], _Draw(sources)(item))


@pytest.mark.parametrize("shape", [(1, 8), (1, 2, 3, 4, 5), (0, 8, 8), (1, 8, -1), (1, 8.5, 8), 8, (1, "8", 8)])
def test_a_shape_that_is_no_image_is_refused(shape):
    with pytest.raises(ConfigError, match="shape"):
        DeadLeaves()(shape)


def test_a_torch_size_is_a_shape():
    assert DeadLeaves()(torch.zeros(1, 6, 7).shape)[0].shape == (1, 6, 7)


def test_images_without_contrast_are_drawn_anew_and_at_last_refused():
    flat, varied = torch.full((1, 8, 8), 0.5), torch.linspace(0, 1, 64).reshape(1, 8, 8)
    source = SameDomain([flat, varied]).set_random_state(0)
    assert all(torch.equal(source((1, 8, 8))[0], varied) for _ in range(20))
    with pytest.raises(DataError, match="without contrast"):
        SameDomain([flat])((1, 8, 8))
