# SPDX-License-Identifier: Apache-2.0
"""Pretrained weights in each network: all of them or an error that says why, the same features, an honest report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import EfficientNetBN, FlexibleUNet, ResNet, SwinUNETR, resnet10, resnet18
from pretrained import pretrained
from torch import nn

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.networks import (
    EncoderEmbedding,
    LoadReport,
    MixSSLNet,
    build_classifier,
    build_segmenter,
    find_encoder,
    load_pretrained,
)

GROUP = ["group", {"num_groups": 4}]
STOCK = ["resnet10", "resnet18", "resnet50"]


def loaded(network: nn.Module, file: Path, **keys: Any) -> tuple[LoadReport, str]:
    """The report as an object and as a text."""
    texts: list[str] = []
    report = load_pretrained(network, file, report=texts.append, **keys)
    network.eval()
    return report, texts[0]


def assert_same_features(network: nn.Module, net: MixSSLNet, size: int = 32) -> None:
    image = torch.rand(1, net.record["in_channels"], *[size] * net.record["spatial_dims"])
    with torch.no_grad():
        for ours, theirs in zip(find_encoder(network)[0](image), net.encoder(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def image_like(net: MixSSLNet, size: int = 32) -> torch.Tensor:
    return torch.rand(2, net.record["in_channels"], *[size] * net.record["spatial_dims"])


@pytest.mark.parametrize("build", [build_classifier, build_segmenter])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"spatial_dims": 3, "backbone": "resnet18_s16_thin", "norm": GROUP},
        {"backbone": "resnet10_s8_thin", "norm": "instance", "in_channels": 3},
        {"backbone": "resnet10"},
        {"backbone": "resnet18", "in_channels": 3},
        {"backbone": "efficientnet-b0", "norm": GROUP},
        {"backbone": "efficientnet-b0", "spatial_dims": 3},
        {"backbone": "swin_unetr", "feature_size": 12},
        {"backbone": "swin_unetr", "feature_size": 12, "spatial_dims": 3},
    ],
)
def test_a_network_built_from_the_record_gets_everything(
    tmp_path: Path, arguments: dict, build: Callable[..., nn.Module]
) -> None:
    if arguments.get("backbone") == "swin_unetr":
        pytest.importorskip("einops", reason="SwinUNETR needs it")
    net, file = pretrained(tmp_path, **arguments)
    network = build(2, encoder_file=file)
    report, text = loaded(network, file, minimum=1.0)
    assert report.share == 1
    assert report.missing == report.unexpected == report.mismatched == report.adapted == report.differences == ()
    assert report.random == ()
    assert "(100.0 %)" in text
    assert_same_features(network, net)


@pytest.mark.parametrize(("backbone", "spatial_dims"), [*((name, 2) for name in STOCK), ("resnet10", 3)])
def test_flexible_unets_resnets_get_everything(tmp_path: Path, backbone: str, spatial_dims: int) -> None:
    net, file = pretrained(tmp_path, backbone=backbone, spatial_dims=spatial_dims)
    network = FlexibleUNet(1, 2, backbone, spatial_dims=spatial_dims)
    assert loaded(network, file, minimum=1.0)[0].differences == ()
    assert_same_features(network, net)


@pytest.mark.parametrize("backbone", [*STOCK, "resnet10_s8_thin", "resnet18_s16_thin"])
def test_a_resnet_with_the_records_arguments_gets_everything(tmp_path: Path, backbone: str) -> None:
    net, file = pretrained(tmp_path, backbone=backbone)
    arguments = {**net.record["arguments"], "norm": tuple(net.record["arguments"]["norm"])}
    network = ResNet(**arguments, spatial_dims=2, n_input_channels=1, num_classes=3)
    report, text = loaded(network, file, minimum=1.0)
    assert (report.share, report.differences) == (1, ())
    assert report.outside == (("fc", network.fc.weight.numel() + 3),)
    assert "Begins random, as it should: fc" in text
    image = image_like(net)
    with torch.no_grad():
        expected = network.fc(net(image)["embedding"])
        torch.testing.assert_close(network(image), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_an_efficientnet_of_monai_gets_everything_but_its_head(tmp_path: Path, spatial_dims: int) -> None:
    net, file = pretrained(tmp_path, backbone="efficientnet-b0", spatial_dims=spatial_dims)
    for network in (
        EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=spatial_dims, in_channels=1, num_classes=3),
        FlexibleUNet(1, 2, "efficientnet-b0", spatial_dims=spatial_dims),
    ):
        head = {n: p.clone() for n, p in network.state_dict().items() if "_fc" in n or "_conv_head" in n}
        report, _ = loaded(network, file, minimum=1.0)
        assert (report.share, report.differences) == (1, ())
        assert not any(name.startswith(("_fc", "_conv_head", "_bn1")) for name in report.matched)
        state = network.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in head.items())
    assert_same_features(network, net)
    classifier = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=spatial_dims, in_channels=1).eval()
    loaded(classifier, file)
    maps: list[torch.Tensor] = []
    classifier._conv_head.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0]))
    image = image_like(net)
    with torch.no_grad():
        classifier(image)
        features = net.encoder(image)[-1]
    padding = classifier._conv_head_padding if hasattr(classifier, "_conv_head_padding") else nn.Identity()
    torch.testing.assert_close(maps[0], padding(features), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_swin_unetr_of_monai_gets_everything(tmp_path: Path, spatial_dims: int) -> None:
    pytest.importorskip("einops", reason="SwinUNETR needs it")
    net, file = pretrained(tmp_path, backbone="swin_unetr", feature_size=12, spatial_dims=spatial_dims)
    network = SwinUNETR(1, 2, feature_size=12, spatial_dims=spatial_dims)
    assert loaded(network, file, minimum=1.0)[0].differences == ()
    assert_same_features(network, net)


def test_a_pretraining_network_and_an_embedding_get_everything_too(tmp_path: Path) -> None:
    net, file = pretrained(tmp_path)
    for network in (MixSSLNet(), EncoderEmbedding(MixSSLNet())):
        assert loaded(network, file, minimum=1.0)[0].share == 1
        assert_same_features(network, net)


def test_a_stock_resnet18_is_told_what_stays_random_and_why_features_differ(tmp_path: Path) -> None:
    net, file = pretrained(tmp_path, backbone="resnet18")
    network = resnet18(spatial_dims=2, n_input_channels=1, num_classes=2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    report, text = loaded(network, file)
    shortcuts = {f"layer{stage}.0.downsample.{part}" for stage in (2, 3, 4) for part in (0, 1)}
    assert set(report.random) == shortcuts
    assert report.share == pytest.approx(
        1
        - report.as_dict()["total"] ** -1
        * sum(p.numel() for name, p in network.named_parameters() if "downsample" in name)
    )
    assert "Stays random in the encoder: layer2.0.downsample.0" in text
    assert "stem stride 2 in the file, 1 here" in text
    assert "shortcut type A in the file, type B here (layer2.0, layer3.0, layer4.0)" in text
    after = network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if "downsample" in name or "fc" in name)
    assert torch.equal(after["layer4.1.conv2.weight"], net.encoder.state_dict()["layer4.1.conv2.weight"])


def test_a_stock_resnet10_whose_keys_all_match_is_told_that_features_differ(tmp_path: Path) -> None:
    net, file = pretrained(tmp_path, backbone="resnet10")
    network = resnet10(spatial_dims=2, n_input_channels=1, bias_downsample=False)
    report, text = loaded(network, file, minimum=1.0)
    assert report.share == 1
    assert report.differences == ("stem stride 2 in the file, 1 here",)
    assert "even where names match: stem stride 2 in the file, 1 here" in text
    image = image_like(net)
    with torch.no_grad():
        theirs = net(image)["embedding"]
        ours = network.avgpool(
            network.layer4(
                network.layer3(
                    network.layer2(network.layer1(network.maxpool(network.act(network.bn1(network.conv1(image))))))
                )
            )
        )
    assert not torch.allclose(ours.flatten(1), theirs, rtol=1e-2)


@pytest.mark.parametrize(
    ("saved", "network", "difference"),
    [
        ({}, lambda: build_classifier(2, norm=GROUP), "layer type BatchNorm in the file, GroupNorm here"),
        ({"norm": GROUP}, lambda: build_classifier(2, norm="group"), "num_groups 4 in the file, 8 here"),
        ({}, lambda: build_classifier(2, backbone="resnet10_s16_thin"), "stem stride 1 in the file, 2 here"),
        (
            {"backbone": "resnet10"},
            lambda: resnet10(spatial_dims=2, n_input_channels=1, conv1_t_stride=2, no_max_pool=True),
            "max pool yes in the file, no here",
        ),
        (
            {"backbone": "swin_unetr", "feature_size": 12},
            lambda: SwinUNETR(1, 2, feature_size=12, spatial_dims=2, normalize=False),
            "layer norm of the feature maps on in the file, off here",
        ),
    ],
)
def test_what_changes_features_though_keys_match_is_named(
    tmp_path: Path, saved: dict, network: Callable[[], nn.Module], difference: str
) -> None:
    if saved.get("backbone") == "swin_unetr":
        pytest.importorskip("einops", reason="SwinUNETR needs it")
    _, file = pretrained(tmp_path, **saved)
    report, text = loaded(network(), file)
    assert report.share > 0.99
    assert difference in text


def test_the_pretrained_decoder_goes_into_a_light_segmenter(tmp_path: Path) -> None:
    net, file = pretrained(tmp_path, decoder_channels=[12, 10, 8], norm=GROUP[0:1] + [{"num_groups": 2}])
    decoder_file = file.with_name("decoder.safetensors")
    network = build_segmenter(3, encoder_file=file, decoder="light", decoder_file=decoder_file)
    report, text = loaded(network, file, decoder_path=decoder_file)
    assert (report.share, report.decoder_share) == (1, 1)
    assert "Decoder: " in text
    assert report.outside == (("the rest of the decoder", network.decoder.head.weight.numel() + 3),)
    image, found = image_like(net), []
    for decoder in (network.decoder, net.decoder):
        decoder.head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    with torch.no_grad():
        network(image), net(image)
    assert torch.equal(*found)


def test_a_decoder_goes_nowhere_else_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    _, file = pretrained(tmp_path)
    decoder_file = file.with_name("decoder.safetensors")
    with pytest.raises(ConfigError, match="set decoder to 'light'"):
        loaded(build_segmenter(2, encoder_file=file), file, decoder_path=decoder_file)
    other = build_segmenter(2, encoder_file=file, decoder="light", decoder_channels=[8, 8, 8])
    with pytest.raises(ConfigError, match="of the decoder's parameters"):
        loaded(other, file, decoder_path=decoder_file)
    with pytest.raises(DataError, match="holds no decoder of monai-mixssl but encoder"):
        loaded(other, file, decoder_path=file)
    with pytest.raises(DataError, match="holds no encoder of monai-mixssl but decoder"):
        loaded(other, decoder_file)


def test_the_report_survives_json_and_is_printed_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, file = pretrained(tmp_path, backbone="resnet18")
    report = load_pretrained(resnet18(spatial_dims=2, n_input_channels=1), file)
    assert capsys.readouterr().out == f"{report}\n"
    read = json.loads(json.dumps(report.as_dict()))
    assert read["share"] == report.share
    assert len(read["missing"]) == len(report.missing) == 21
    assert read["random"][0] == "layer2.0.downsample.0"


def test_a_network_wrapped_for_several_devices_is_filled(tmp_path: Path) -> None:
    net, file = pretrained(tmp_path)
    network = nn.DataParallel(build_classifier(2))
    assert loaded(network, file, minimum=1.0)[0].share == 1
    assert_same_features(network.module.cpu(), net)  # it stands on the GPU, where there is one
