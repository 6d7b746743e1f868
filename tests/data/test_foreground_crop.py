# SPDX-License-Identifier: Apache-2.0
"""Random patches: right size, on the foreground, reproducible, the same place for all keys."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_mixssl.data.foreground import foreground_box
from monai_mixssl.data.foreground_crop import RandForegroundCrop, RandForegroundCropd
from monai_mixssl.data.prepared_transforms import LoadPreparedd
from monai_mixssl.errors import ConfigError

EYE = np.eye(4).tolist()


def image_of(shape, seed=0):
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed)) * 0.8 + 0.2


@pytest.mark.parametrize("shape", [(40, 50), (30, 40, 50), (8, 50), (8, 9, 50)])
def test_a_patch_has_the_size_that_was_asked_for(shape):
    size = (16, 24, 12)[: len(shape)]
    crop = RandForegroundCrop(size, min_foreground=0).set_random_state(0)
    assert crop(image_of(shape)).shape == (1, *size)


def test_a_patch_is_a_piece_of_the_image_and_its_affine_says_where():
    image = MetaTensor(image_of((40, 50)), affine=torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])))
    patch = RandForegroundCrop((8, 8)).set_random_state(3)(image)
    row, column = int(patch.affine[0, 3] / 2), int(patch.affine[1, 3] / 3)
    assert torch.equal(patch.as_tensor(), image.as_tensor()[:, row : row + 8, column : column + 8])


def test_patches_reach_every_corner():
    image = torch.arange(1.0, 26).reshape(1, 5, 5)
    crop = RandForegroundCrop((4, 4)).set_random_state(0)
    assert {float(crop(image)[0, 0, 0]) for _ in range(60)} == {1.0, 2.0, 6.0, 7.0}


def test_air_is_drawn_again():
    image = torch.zeros(1, 64, 64)
    image[:, 20:40, 20:40] = 1

    def mean_share(attempts):
        crop = RandForegroundCrop((16, 16), min_foreground=0.3, attempts=attempts).set_random_state(0)
        return np.mean([float(crop(image).mean()) >= 0.3 for _ in range(200)])

    assert mean_share(1) < 0.6
    assert mean_share(16) > 0.98


def test_the_best_is_taken_where_none_is_good_enough():
    image = torch.zeros(1, 64, 64)
    image[:, 30:34, 30:34] = 1
    crop = RandForegroundCrop((16, 16), min_foreground=0.9, attempts=200).set_random_state(0)
    assert float(crop(image).sum()) == 16


def test_the_number_of_attempts_that_were_needed_does_not_change_the_next_draw():
    ends = []
    for image in (torch.zeros(1, 32, 32), torch.ones(1, 32, 32)):
        crop = RandForegroundCrop((8, 8)).set_random_state(5)
        crop(image)
        ends.append(crop.R.rand())
    assert ends[0] == ends[1]


def test_keys_share_one_place_and_a_seed_repeats_it():
    image = image_of((40, 50))
    crop = RandForegroundCropd(("image", "label"), (8, 8)).set_random_state(7)
    first = crop({"image": image, "label": image * 2, "other": 1})
    assert torch.equal(first["image"] * 2, first["label"])
    again = RandForegroundCropd(("image", "label"), (8, 8)).set_random_state(7)({"image": image, "label": image})
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(crop({"image": image, "label": image})["image"], first["image"])


@pytest.mark.parametrize("shape", [(40, 50), (9, 50), (30, 40, 50), (8, 40, 10)])
def test_a_patch_is_the_one_that_is_cut_from_the_whole_image_padded_first(shape):
    size = (16, 24, 12)[: len(shape)]
    image = torch.where(image_of(shape) > 0.6, image_of(shape), 0.0)
    whole = np.pad(image[0], [((max(0, m - n)) // 2, -(-max(0, m - n) // 2)) for n, m in zip(shape, size, strict=True)])
    for seed in range(10):
        patch = RandForegroundCrop(size, min_foreground=0.45).set_random_state(seed)(image)
        places = [
            tuple(slice(int(share * (n - m + 1)), int(share * (n - m + 1)) + m) for share, n, m in parts)
            for draw in np.random.RandomState(seed).random_sample((8, len(size)))
            for parts in [list(zip(draw, whole.shape, size, strict=True))]
        ]
        shares = [np.mean(whole[place] > 0.1) for place in places]
        best = next((k for k, share in enumerate(shares) if share >= 0.45), int(np.argmax(shares)))
        assert np.array_equal(patch[0], whole[places[best]])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak of memory is counted in other units")
def test_only_the_patches_that_are_tried_are_looked_at(tmp_path):
    resource = pytest.importorskip("resource", reason="the peak of memory comes from it")
    shape = (1, 1024, 1024, 1024)  # 2 GiB, a hole in the file: nothing on the disk
    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float16, shape).flush()
    record = {"spacing": [1, 1, 1], "affine": EYE, "shape": shape}
    (tmp_path / "a.json").write_text(json.dumps({"outcome": ["done", record]}))
    load = LoadPreparedd("image", tmp_path, mapped=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    patch = RandForegroundCropd("image", (8, 8, 8)).set_random_state(0)(load({"image": "a"}))["image"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 200 * 2**10  # KiB
    assert patch.shape == (1, 8, 8, 8)
    assert patch.dtype == torch.float32


def test_a_mapped_image_gives_the_same_patch_and_is_not_changed_by_what_follows(tmp_path):
    np.save(tmp_path / "a.npy", image_of((30, 40, 50)).numpy().astype(np.float16))
    record = {"spacing": [1, 1, 1], "affine": EYE, "shape": [1, 30, 40, 50]}
    (tmp_path / "a.json").write_text(json.dumps({"outcome": ["done", record]}))
    before = (tmp_path / "a.npy").read_bytes()
    patches = []
    for mapped in (False, True):
        crop = RandForegroundCropd("image", (16, 16, 64)).set_random_state(1)
        patches.append(crop(LoadPreparedd("image", tmp_path, mapped=mapped)({"image": "a"}))["image"])
    assert torch.equal(patches[0], patches[1])
    assert torch.equal(patches[0].affine, patches[1].affine)
    assert patches[0].meta["id"] == patches[1].meta["id"] == "a"
    LoadPreparedd("image", tmp_path, mapped=True)({"image": "a"})["image"].zero_()
    assert (tmp_path / "a.npy").read_bytes() == before


@pytest.mark.parametrize("bad", [{"min_foreground": -1}, {"attempts": 0}])
def test_bad_arguments_are_named(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        RandForegroundCrop((8, 8), **bad)


def test_the_foreground_box_is_tight_but_not_below_the_smallest_size():
    array = np.zeros((1, 30, 40))
    array[0, 5:10, 30:39] = 1
    assert foreground_box(array, (1, 1)) == (slice(5, 10), slice(30, 39))
    grown = foreground_box(array, (16, 16))
    assert [piece.stop - piece.start for piece in grown] == [16, 16]
    assert grown[0].start <= 5
    assert grown[0].stop >= 10
    assert grown[1].stop <= 40
    assert foreground_box(array * 0, (1, 1)) == (slice(0, 30), slice(0, 40))
