# SPDX-License-Identifier: Apache-2.0
"""Every parameter that can learn is in one group, at the rate that its depth asks for."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import SwinUNETR, resnet10
from torch import nn

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks import build_classifier, build_segmenter, parameter_groups


def rates(network: nn.Module, **keys: float) -> dict[str, float]:
    """Learning rate by parameter name; fails where a parameter is in two groups."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found: dict[str, float] = {}
    for group in parameter_groups(network, 0.1, **keys):
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = group["lr"]
    return found


def test_without_factors_everything_learns_at_one_rate() -> None:
    network = build_segmenter(2)
    assert rates(network) == {name: 0.1 for name, _ in network.named_parameters()}
    assert [group["name"] for group in parameter_groups(network, 0.1)] == ["encoder", "head"]


def test_each_stage_of_a_resnet_learns_less_than_the_next() -> None:
    found = rates(build_classifier(2), encoder_factor=0.5, layer_decay=0.1)
    assert found["head.weight"] == 0.1
    for stage, name in enumerate(
        ["conv1.weight", "layer1.0.conv1.weight", "layer2.0.conv1.weight", "layer3.0.bn1.bias"]
    ):
        assert found[f"encoder.{name}"] == pytest.approx(0.05 * 0.1 ** (4 - stage))
    assert found["encoder.layer4.0.downsample.0.weight"] == pytest.approx(0.05)


def test_each_stage_of_an_efficientnet_learns_less_than_the_next_and_its_unused_head_not_at_all() -> None:
    network = build_classifier(2, backbone="efficientnet-b0")
    found = rates(network, layer_decay=0.5)
    left_out = {name for name, _ in network.named_parameters()} - set(found)
    assert {name.split(".")[1] for name in left_out} == {"_conv_head", "_bn1", "_fc"}
    assert found["encoder._conv_stem.weight"] == pytest.approx(0.1 * 0.5**7)
    assert found["encoder._blocks.0.0._bn1.weight"] == pytest.approx(0.1 * 0.5**6)
    last = {rate for name, rate in found.items() if name.startswith("encoder._blocks.6.")}
    assert last == {0.1}


def test_each_stage_of_a_transformer_learns_less_than_the_next() -> None:
    pytest.importorskip("einops", reason="SwinUNETR needs it")
    network = SwinUNETR(1, 2, feature_size=12, spatial_dims=2)
    found = rates(network, layer_decay=0.5)
    assert set(found) == {name for name, _ in network.named_parameters()}
    assert found["swinViT.patch_embed.proj.weight"] == pytest.approx(0.1 * 0.5**4)
    assert found["swinViT.layers4.0.downsample.reduction.weight"] == pytest.approx(0.1)
    assert found["decoder1.conv_block.conv1.conv.weight"] == 0.1


def test_a_classifier_of_monai_has_its_own_last_layer_as_head() -> None:
    network = resnet10(spatial_dims=2, n_input_channels=1)
    found = rates(network, encoder_factor=0.0)
    assert {name for name, rate in found.items() if rate == 0.1} == {"fc.weight", "fc.bias"}
    assert len(found) == len(list(network.parameters()))


def test_an_optimizer_takes_the_groups_and_frozen_parameters_are_among_them() -> None:
    network = build_classifier(2)
    network.encoder.requires_grad_(False)
    optimizer = torch.optim.AdamW(parameter_groups(network, 1e-3, layer_decay=0.9), weight_decay=0.01)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(network.parameters()))


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({"learning_rate": 0}, "learning_rate"),
        ({"encoder_factor": -1}, "encoder_factor"),
        ({"layer_decay": 0}, "layer_decay"),
        ({"layer_decay": 1.1}, "layer_decay"),
        ({"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_numbers_out_of_range_are_refused(keys: dict, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        parameter_groups(build_classifier(2), **{"learning_rate": 1e-3, **keys})
