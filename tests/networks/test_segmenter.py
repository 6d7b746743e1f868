# SPDX-License-Identifier: Apache-2.0
"""Segmentation networks: sizes in and out, keys of MONAI's own, and a registry left as it was."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from monai.networks.nets import FlexibleUNet, SwinUNETR
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from pretrained import pretrained
from torch import nn

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks import build_segmenter

GROUP = ["group", {"num_groups": 4}]
# sizes that no stride divides: FlexibleUNet alone fails at most of them
CASES = [
    ({}, (17, 24, 13)),
    ({"spatial_dims": 2}, (33, 30)),
    ({"norm": GROUP}, (16, 16, 16)),
    ({"spatial_dims": 2, "norm": "instance", "backbone": "resnet18_s16_thin", "in_channels": 3}, (45, 32)),
    ({"spatial_dims": 2, "backbone": "resnet10"}, (65, 40)),
    ({"spatial_dims": 2, "backbone": "efficientnet-b0"}, (65, 40)),
    ({"decoder": "light"}, (17, 24, 13)),
    ({"decoder": "light", "norm": GROUP, "spatial_dims": 2, "decoder_channels": [12, 8, 4]}, (33, 30)),
    ({"spatial_dims": 2, "backbone": "swin_unetr", "feature_size": 12}, (70, 40)),
]


@pytest.mark.parametrize(("arguments", "size"), CASES)
def test_there_is_one_logit_a_class_at_each_position_and_everything_learns(arguments: dict, size: tuple) -> None:
    if arguments.get("backbone") == "swin_unetr":
        pytest.importorskip("einops", reason="SwinUNETR needs it")
    network = build_segmenter(3, **arguments)
    logits = network(torch.rand(2, arguments.get("in_channels", 1), *size))
    assert logits.shape == (2, 3, *size)
    logits.square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_the_norm_asked_for_is_in_encoder_and_decoder() -> None:
    network = build_segmenter(2, norm=GROUP)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in network.modules())
    for part in (network.encoder, network.decoder):
        norms = [module for module in part.modules() if isinstance(module, nn.GroupNorm)]
        assert norms
        assert {module.num_groups for module in norms} == {4}


def test_flexible_unet_takes_the_weights_and_gives_the_same_answer() -> None:
    network = build_segmenter(2, spatial_dims=2, backbone="resnet10_s16_thin").eval()
    arguments = network.model_record["arguments"]["decoder_arguments"]
    stock = FlexibleUNet(
        1, 2, "resnet10_s16_thin", spatial_dims=2, decoder_channels=tuple(arguments["decoder_channels"])
    )
    stock.load_state_dict(network.state_dict(), strict=True)
    image = torch.rand(1, 1, 64, 32)
    assert torch.equal(stock.eval()(image), network(image))


def test_swin_unetr_takes_the_weights_and_gives_the_same_answer() -> None:
    pytest.importorskip("einops", reason="SwinUNETR needs it")
    network = build_segmenter(2, spatial_dims=2, backbone="swin_unetr", feature_size=12).eval()
    stock = SwinUNETR(1, 2, feature_size=12, spatial_dims=2)
    stock.load_state_dict(network.state_dict(), strict=True)
    image = torch.rand(1, 1, 64, 64)
    assert torch.equal(stock.eval()(image), network(image))
    assert network.encoder is network.swinViT


def test_a_border_added_to_fit_the_stride_is_cut_off_again() -> None:
    network = build_segmenter(2, spatial_dims=2).eval()
    image = torch.rand(1, 1, 30, 32)
    repeated = torch.cat([image, image[:, :, -1:], image[:, :, -1:]], dim=2)
    assert torch.equal(network(image), network(repeated)[:, :, :30])


def test_the_registry_stays_as_it_was() -> None:
    before = copy.deepcopy(FLEXUNET_BACKBONE.register_dict["efficientnet-b0"])
    build_segmenter(2, spatial_dims=3, in_channels=2, backbone="efficientnet-b0")
    with pytest.raises(ConfigError, match="norm"):
        build_segmenter(
            2, spatial_dims=3, in_channels=2, backbone="resnet10_s8_thin", norm=["group", {"num_groups": 12}]
        )
    assert FLEXUNET_BACKBONE.register_dict["efficientnet-b0"] == before
    assert FLEXUNET_BACKBONE.register_dict["resnet10_s8_thin"]["parameter"]["norm"] == "batch"


def test_a_light_decoder_is_built_as_its_file_says(tmp_path: Path) -> None:
    net, file = pretrained(
        tmp_path, decoder_channels=[12, 10, 8], skip_connections=True, norm=["group", {"num_groups": 2}]
    )
    network = build_segmenter(4, encoder_file=file, decoder="light", decoder_file=file.with_name("decoder.safetensors"))
    assert network.decoder.arguments == net.decoder.arguments
    shapes = {name: tensor.shape for name, tensor in net.decoder.blocks.state_dict().items()}
    assert {name: tensor.shape for name, tensor in network.decoder.blocks.state_dict().items()} == shapes


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"num_classes": 0}, "num_classes"),
        ({"decoder": "heavy"}, "'unet' or 'light'"),
        ({"decoder_file": "decoder.safetensors"}, "set decoder to 'light'"),
        ({"decoder_channels": [8, 8]}, "must hold 3 positive numbers"),
        ({"decoder_channels": [8, 8, 0]}, "must hold 3 positive numbers"),
        ({"decoder": "light", "decoder_channels": [8]}, "must hold 3 positive numbers"),
        ({"backbone": "swin_unetr", "decoder_channels": [8] * 5}, "leave decoder_channels out"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict, reason: str) -> None:
    if arguments.get("backbone") == "swin_unetr":
        pytest.importorskip("einops", reason="SwinUNETR needs it")
    with pytest.raises(ConfigError, match=reason):
        build_segmenter(**{"num_classes": 2, **arguments})
