# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.sources import FolderImages


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def ramp(height=40, width=60):
    """Red rises to the right, green falls to the right, blue is 51 (0.2) throughout."""
    across = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    return np.stack([across, 255 - across, np.full_like(across, 51)], axis=-1)


@pytest.fixture
def ramp_source(tmp_path):
    save(tmp_path / "ramp.png", ramp())
    return FolderImages(tmp_path).set_random_state(0)


def test_pictures_of_all_formats_and_depths_are_found_and_hidden_ones_passed_over(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 255, (16, 16, 3), dtype=np.uint8)
    for name in ("a.png", "below/b.JPG", "below/c.jpeg", "x/y/d.webp", "x/e.bmp", "f.tif", ".g.png", ".h/i.png"):
        save(tmp_path / name, pixels)
    (tmp_path / "notes.txt").write_text("no picture")
    assert len(FolderImages(tmp_path)) == 6


def test_links_that_lead_back_do_not_trap_the_search(tmp_path):
    save(tmp_path / "a" / "ramp.png", ramp())
    os.symlink(tmp_path, tmp_path / "a" / "back")
    assert len(FolderImages(tmp_path)) == 1


def test_a_missing_or_empty_folder_is_refused_and_not_named(tmp_path):
    with pytest.raises(ConfigError, match="does not exist") as missing:
        FolderImages(tmp_path / "Jane_Doe")
    with pytest.raises(DataError, match="holds no image files") as empty:
        FolderImages(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="only 1 unreadable image files") as broken:
        FolderImages(tmp_path)
    for error in (missing, empty, broken):
        assert str(tmp_path) not in str(error.value)
        assert "Jane" not in str(error.value)


def test_unreadable_pictures_are_counted_in_one_warning_and_left_out(tmp_path):
    save(tmp_path / "good.png", ramp())
    for k in range(3):
        (tmp_path / f"broken{k}.jpg").write_bytes(b"\xff\xd8\xff" + bytes(k))
    with pytest.warns(UserWarning, match="3 of 4 image files") as caught:
        source = FolderImages(tmp_path)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [len(source), source((1, 8, 8))[0].shape] == [1, (1, 8, 8)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_left_out_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    Image.new("L", (8, 8), 7).save(tmp_path / "good.png")
    with pytest.warns(UserWarning, match="1 of 2 image files"):
        assert len(FolderImages(tmp_path)) == 1


def test_a_picture_that_breaks_off_is_passed_over_with_one_warning(tmp_path):
    save(tmp_path / "good.png", ramp())
    save(tmp_path / "bad.png", np.random.RandomState(0).randint(0, 255, (64, 64, 3), dtype=np.uint8))
    (tmp_path / "bad.png").write_bytes((tmp_path / "bad.png").read_bytes()[:3000])
    source = FolderImages(tmp_path).set_random_state(0)
    with pytest.warns(UserWarning, match="broken") as caught:
        identifiers = {source((1, 8, 8))[1] for _ in range(30)}
    assert len(caught) == 1
    assert len(identifiers) == 1


def test_what_a_seed_draws_does_not_depend_on_broken_pictures_met_before(tmp_path):
    for k in range(4):
        save(tmp_path / f"{k}.png", np.random.RandomState(k).randint(0, 255, (64, 64, 3), dtype=np.uint8))
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:3000])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        used, fresh = FolderImages(tmp_path), FolderImages(tmp_path)
        used.set_random_state(0)
        for _ in range(20):
            used((1, 8, 8))
        assert torch.equal(used.set_random_state(7)((1, 8, 8))[0], fresh.set_random_state(7)((1, 8, 8))[0])


def test_the_id_is_that_of_the_content_wherever_the_file_lies(tmp_path):
    save(tmp_path / "one" / "Jane_Doe.png", ramp())
    save(tmp_path / "two" / "deep" / "x.png", ramp())
    first, second = (FolderImages(tmp_path / part)((1, 8, 8))[1] for part in ("one", "two"))
    assert first == second


def test_three_channels_are_red_green_and_blue_and_more_repeat_them(ramp_source):
    for _ in range(10):
        red, green, blue, fourth = ramp_source((4, 12, 18))[0]
        # red and green of the ramp add up to 1 in every pixel
        np.testing.assert_allclose(red + green, 1.0, atol=0.01)
        np.testing.assert_allclose(blue, 0.2, atol=0.01)
        assert torch.equal(fourth, red)


def test_one_channel_is_the_luminance(ramp_source):
    state = ramp_source.R.get_state()
    red, green, blue = ramp_source((3, 12, 18))[0]
    ramp_source.R.set_state(state)
    grey = ramp_source((1, 12, 18))[0][0]
    # ITU-R 601-2 luma
    np.testing.assert_allclose(grey, 0.299 * red + 0.587 * green + 0.114 * blue, atol=0.01)


def test_parts_differ_in_place_size_and_mirroring_but_keep_their_proportions(ramp_source):
    slopes = [
        float((image[0, :, -1] - image[0, :, 0]).mean()) for image, _ in (ramp_source((3, 20, 20)) for _ in range(200))
    ]
    assert 0.35 < np.mean(np.array(slopes) < 0) < 0.65
    # a square part of the 40 x 60 ramp spans at most 40 / 60 of its range, and a quarter of that at least
    assert 0.6 < max(np.abs(slopes)) < 40 / 60 + 0.02
    assert 0.1 < min(np.abs(slopes)) < 0.25


def test_a_picture_serves_a_volume_by_extrusion_along_any_axis(ramp_source):
    along = []
    for _ in range(40):
        volume = ramp_source((1, 10, 11, 12))[0][0]
        constant = [axis for axis in range(3) if (volume.diff(dim=axis) == 0).all()]
        # the ramp itself is constant along its own height
        along.append(tuple(constant))
        assert len(constant) >= 1
    assert {axis for constant in along for axis in constant} == {0, 1, 2}


def test_a_textured_picture_is_constant_along_one_axis_only(tmp_path):
    save(tmp_path / "noise.png", np.random.RandomState(0).randint(0, 255, (40, 40, 3), dtype=np.uint8))
    source = FolderImages(tmp_path).set_random_state(0)
    drawn = []
    for _ in range(30):
        volume = source((1, 10, 11, 12))[0][0]
        constant = [axis for axis in range(3) if (volume.diff(dim=axis) == 0).all()]
        assert len(constant) == 1
        drawn += constant
    assert set(drawn) == {0, 1, 2}


def test_sixteen_bit_grey_is_scaled_by_its_own_range(tmp_path):
    values = np.linspace(1000, 60000, 64 * 64).reshape(64, 64).astype(np.uint16)
    save(tmp_path / "deep.png", values)
    source = FolderImages(tmp_path).set_random_state(0)
    images = np.concatenate([source((1, 32, 32))[0].ravel() for _ in range(50)])
    # clipping at 255 would turn everything to white
    assert images.min() < 0.1
    assert images.max() > 0.9
    assert np.mean(images) == pytest.approx(0.5, abs=0.1)
