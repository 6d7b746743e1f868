# SPDX-License-Identifier: Apache-2.0
"""Weights for another number of channels, and from 2D for 3D: the same answer where the images say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets import EfficientNetBN
from pretrained import pretrained
from torch.nn import functional

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks import build_classifier, build_segmenter, load_pretrained
from monai_mixssl.networks.stem import adapt_channels, inflate


@pytest.mark.parametrize(("before", "here"), [(1, 3), (3, 1), (1, 4), (2, 2)])
def test_a_grey_image_gives_the_same_response_in_either_number_of_channels(before: int, here: int) -> None:
    weight, grey = torch.randn(5, before, 3, 3), torch.rand(2, 1, 9, 9)
    adapted = adapt_channels(weight, here)
    assert adapted is not None
    expected = functional.conv2d(grey.repeat(1, before, 1, 1), weight)
    torch.testing.assert_close(functional.conv2d(grey.repeat(1, here, 1, 1), adapted), expected, rtol=1e-5, atol=1e-5)


def test_channels_that_no_rule_maps_are_left_alone() -> None:
    assert adapt_channels(torch.randn(5, 3, 3, 3), 4) is None
    assert inflate(torch.randn(5, 3, 3, 3), (5, 5, 5)) is None
    assert inflate(torch.randn(5, 3, 3, 3, 3), (3, 3, 3)) is None


def volume_of(images: torch.Tensor, depth: int) -> torch.Tensor:
    """Axial slices as a viewer shows them, (B, C, rows, columns), stacked to a RAS+ volume (B, C, x, y, z)."""
    return images.flip(2, 3).transpose(2, 3).unsqueeze(-1).repeat(1, 1, 1, 1, depth)


@pytest.mark.parametrize("norm", ["batch", ["group", {"num_groups": 4}]])
def test_an_inflated_encoder_sees_in_a_stack_of_equal_slices_what_it_saw_in_one(tmp_path: Path, norm: object) -> None:
    net, file = pretrained(tmp_path, norm=norm)
    network = build_segmenter(2, encoder_file=file, spatial_dims=3)
    report = load_pretrained(network, file, adapt_stem=True, minimum=1.0)
    assert (report.share, report.differences) == (1, ())
    assert "12 convolutions inflated from 2D to 3D" in str(report)
    if norm != "batch":
        return  # group norm averages over borders, too, which zero padding makes others than the inside
    # at a size of 8 n + 1 strided convolutions meet the same pixels from either end
    image = torch.rand(1, 1, 33, 41)
    with torch.no_grad():
        flat, stacked = net.encoder(image), network.eval().encoder(volume_of(image, 81))
    for one, many in zip(flat, stacked, strict=True):
        inside = many[..., many.shape[-1] // 2]  # far from where the volume ends
        torch.testing.assert_close(inside, volume_of(one, 1)[..., 0], rtol=1e-3, atol=1e-4)


def test_grey_and_colour_change_at_once_with_two_and_three_dimensions(tmp_path: Path) -> None:
    _, file = pretrained(tmp_path, in_channels=3)
    network = build_classifier(2, encoder_file=file, spatial_dims=3, in_channels=1)
    report = load_pretrained(network, file, adapt_stem=True)
    assert report.share == 1
    assert report.adapted[0] == "the first convolution from 3 to 1 image channels, weights added up"
    assert report.adapted[1].startswith("12 convolutions inflated")


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet-b0"])
def test_stock_encoders_are_adapted_too(tmp_path: Path, backbone: str) -> None:
    net, file = pretrained(tmp_path, backbone=backbone)
    network = build_classifier(2, encoder_file=file, in_channels=3)
    report = load_pretrained(network, file, adapt_stem=True, minimum=1.0)
    assert report.adapted == ("the first convolution from 1 to 3 image channels, weights repeated and divided by 3",)
    grey = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        ours, theirs = network.eval().embed(grey.repeat(1, 3, 1, 1)), net(grey)["embedding"]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_nothing_is_adapted_without_being_asked_for(tmp_path: Path) -> None:
    _, file = pretrained(tmp_path, backbone="efficientnet-b0")
    colour = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=3)
    with pytest.raises(ConfigError, match="set in_channels to 1, or adapt_stem to True"):
        load_pretrained(colour, file)
    stem = colour._conv_stem.weight.clone()
    report = load_pretrained(colour, file, minimum=0.0)
    assert report.random == ("_conv_stem",)
    assert torch.equal(colour._conv_stem.weight, stem)


def test_a_transformer_is_not_inflated_and_says_why(tmp_path: Path) -> None:
    pytest.importorskip("einops", reason="SwinUNETR needs it")
    _, file = pretrained(tmp_path, backbone="swin_unetr", feature_size=12)
    network = build_segmenter(2, encoder_file=file, spatial_dims=3)
    with pytest.raises(ConfigError, match="attention and patch merging of a transformer cannot be inflated"):
        load_pretrained(network, file, adapt_stem=True)
