# SPDX-License-Identifier: Apache-2.0
"""Encoders by name, and the record that builds them again."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from monai.networks.nets import EfficientNetBN, FlexibleUNet, ResNet, SwinUNETR, efficientnet, resnet
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from torch import nn

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks import backbone_names, build_encoder, check_patch_size, encoder_stride

REGISTERED = list(FLEXUNET_BACKBONE.register_dict)
BUILD_KEYS = ("backbone", "spatial_dims", "in_channels", "norm", "feature_size")


@pytest.fixture(autouse=True)
def _no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an encoder tried to download weights")

    monkeypatch.setattr(efficientnet, "_load_state_dict", refuse)
    monkeypatch.setattr(resnet, "_load_state_dict", refuse)


# in 3D the larger EfficientNets, which differ from b0 in width and depth only, are left out to save half a minute
@pytest.mark.parametrize(
    ("backbone", "spatial_dims"),
    [(name, 2) for name in REGISTERED]
    + [(name, 3) for name in REGISTERED if not name.startswith("efficientnet") or name == "efficientnet-b0"],
)
def test_every_registered_backbone_gives_the_maps_that_its_record_states(backbone: str, spatial_dims: int) -> None:
    with torch.device("meta"):  # shapes without arithmetic: the largest has 480 million weights
        encoder, record = build_encoder(backbone, spatial_dims, in_channels=2)
        features = encoder(torch.zeros(2, 2, *[64] * spatial_dims))
    assert [feature.shape[1] for feature in features] == record["feature_channels"]
    assert [64 // feature.shape[2] for feature in features] == record["feature_strides"]
    assert encoder_stride(record) == 64 // features[-1].shape[-1]


@pytest.mark.parametrize(("spatial_dims", "size", "width"), [(2, 64, None), (3, 32, 12)])
def test_swin_gives_the_maps_that_its_record_states(spatial_dims: int, size: int, width: int | None) -> None:
    pytest.importorskip("einops", reason="SwinUNETR needs it")
    encoder, record = build_encoder("swin_unetr", spatial_dims, 1, feature_size=width)
    features = encoder(torch.rand(1, 1, *[size] * spatial_dims))
    assert [feature.shape[1] for feature in features] == record["feature_channels"]
    assert [size // feature.shape[2] for feature in features] == record["feature_strides"]
    assert record["feature_size"] == (width or 24)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_swin_weights_load_into_swin_unetr_and_give_the_same_features(spatial_dims: int) -> None:
    pytest.importorskip("einops", reason="SwinUNETR needs it")
    encoder, record = build_encoder("swin_unetr", spatial_dims, in_channels=2, feature_size=12)
    arguments = dict(record["arguments"])
    for name in ("mlp_ratio", "qkv_bias", "patch_norm", "depths", "num_heads", "window_size", "patch_size"):
        assert name in arguments
    unetr = SwinUNETR(in_channels=2, out_channels=3, spatial_dims=spatial_dims, **arguments).eval()
    unetr.swinViT.load_state_dict(encoder.state_dict(), strict=True)
    image = torch.rand(1, 2, *[32] * spatial_dims)
    for ours, theirs in zip(encoder.eval()(image), unetr.swinViT(image, unetr.normalize), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("backbone", ["resnet10", "resnet18", "resnet50"])
def test_the_record_of_a_stock_resnet_builds_the_classifier_that_takes_its_weights(backbone: str) -> None:
    encoder, record = build_encoder(backbone, 2, in_channels=1)
    arguments = {**record["arguments"], "norm": tuple(record["arguments"]["norm"])}
    classifier = ResNet(**arguments, spatial_dims=2, n_input_channels=1, num_classes=2).eval()
    missing, unexpected = classifier.load_state_dict(encoder.state_dict(), strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    image = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(classifier(image), classifier.fc(encoder.eval()(image)[-1].mean(dim=(2, 3))))


def test_the_record_of_an_efficientnet_builds_the_classifier_that_takes_its_weights() -> None:
    encoder, record = build_encoder("efficientnet-b0", 2, in_channels=1)
    name = record["arguments"]["model_name"]
    classifier = EfficientNetBN(name, pretrained=False, spatial_dims=2, in_channels=1, num_classes=1000)
    classifier.load_state_dict(encoder.state_dict(), strict=True)
    assert record["untrained"] == ["_conv_head", "_bn1", "_fc"]


@pytest.mark.parametrize("backbone", ["resnet10", "resnet18_s8", "efficientnet-b0", "swin_unetr"])
def test_the_record_survives_json_and_builds_the_same_encoder(backbone: str) -> None:
    if backbone == "swin_unetr":
        pytest.importorskip("einops", reason="SwinUNETR needs it")
    norm = "group" if backbone in ("resnet18_s8", "efficientnet-b0") else None
    encoder, record = build_encoder(backbone, 3, in_channels=1, norm=norm)
    read = json.loads(json.dumps(record))
    again, record_again = build_encoder(**{key: read[key] for key in BUILD_KEYS})
    assert record_again == read == record
    shapes = {name: tensor.shape for name, tensor in encoder.state_dict().items()}
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == shapes


def test_building_neither_changes_the_registry_nor_is_changed_by_what_others_left_there() -> None:
    FlexibleUNet(in_channels=3, out_channels=1, backbone="efficientnet-b0", spatial_dims=3)  # writes into the registry
    before = copy.deepcopy(FLEXUNET_BACKBONE.register_dict["efficientnet-b0"])
    assert before["parameter"]["in_channels"] == 3
    encoder, _ = build_encoder("efficientnet-b0", 2, in_channels=1, norm="instance")
    assert FLEXUNET_BACKBONE.register_dict["efficientnet-b0"] == before
    assert encoder._conv_stem.weight.shape[1:] == (1, 3, 3)


@pytest.mark.parametrize("backbone", ["resnet18_s8", "efficientnet-b0"])
def test_a_norm_override_leaves_no_batch_norm(backbone: str) -> None:
    encoder, record = build_encoder(backbone, 2, in_channels=1, norm=["GROUP", {"num_groups": 4}])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    assert any(isinstance(module, nn.GroupNorm) and module.num_groups == 4 for module in encoder.modules())
    assert record["norm"] == ["group", {"num_groups": 4}]


@pytest.mark.parametrize("backbone", ["resnet18", "swin_unetr"])
def test_a_norm_override_is_refused_where_the_encoder_cannot_take_it(backbone: str) -> None:
    with pytest.raises(ConfigError, match="leave norm out"):
        build_encoder(backbone, 2, in_channels=1, norm="group")


@pytest.mark.parametrize("norm", ["grup", ["group"], ["group", {"num_groups": 7}], ["batch", {"epsilon": 1}], 3])
def test_a_norm_that_cannot_be_built_is_refused(norm: object) -> None:
    with pytest.raises(ConfigError, match="norm"):
        build_encoder("resnet10_s8", 2, in_channels=1, norm=norm)  # type: ignore[arg-type]  # a parameter


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("resnet18s16", "resnet18_s16"), ("efficientnet_b0", "efficientnet-b0"), ("SwinUNETR", "swin_unetr")],
)
def test_an_unknown_backbone_is_refused_with_the_nearest_name(typed: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_encoder(typed, 2, in_channels=1)
    assert f"Did you mean '{meant}'?" in str(caught.value)
    assert all(name in str(caught.value) for name in backbone_names())


@pytest.mark.parametrize(
    "arguments",
    [
        {"spatial_dims": 1, "in_channels": 1},
        {"spatial_dims": 2, "in_channels": 0},
        {"spatial_dims": 2, "in_channels": 1, "feature_size": 24},
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict) -> None:
    with pytest.raises(ConfigError, match=list(arguments)[-1] if "feature_size" in arguments else "must be"):
        build_encoder("resnet10_s8_thin", **arguments)


@pytest.mark.parametrize("width", [10, 0, 13, True])
def test_a_swin_width_must_be_a_multiple_of_twelve(width: int) -> None:
    pytest.importorskip("einops", reason="SwinUNETR needs it")
    with pytest.raises(ConfigError, match="multiple of 12"):
        build_encoder("swin_unetr", 2, 1, feature_size=width)


@pytest.mark.parametrize(("patch", "stride"), [((64, 64), 16), ((32, 32), 8), ((128, 128, 128), 32), ((33, 40), 8)])
def test_a_stride_of_at_most_a_quarter_of_the_patch_is_accepted(patch: tuple[int, ...], stride: int) -> None:
    check_patch_size(patch, stride)


@pytest.mark.parametrize(
    ("patch", "stride", "advice"),
    [
        ((64, 64), 32, "resnet18_s16"),
        ((128, 128, 48), 16, "resnet18_s8"),
        ((63, 64), 16, "resnet18_s8"),
        ((16, 16), 8, "patch of at least 32"),
    ],
)
def test_a_larger_stride_is_refused_with_advice_that_fits(patch: tuple[int, ...], stride: int, advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        check_patch_size(patch, stride)
