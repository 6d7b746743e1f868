# SPDX-License-Identifier: Apache-2.0
"""What is not loaded: files of other encoders, of other kinds, too little of one; and the reason that is given."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from monai.networks.nets import EfficientNetBN, resnet18, resnet50
from pretrained import pretrained
from torch import nn

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.networks import build_classifier, build_segmenter, load_pretrained, save_model


@pytest.mark.parametrize(
    ("saved", "network", "reasons"),
    [
        ({"backbone": "resnet18"}, lambda: EfficientNetBN("efficientnet-b0", pretrained=False), ["family ResNet"]),
        ({"backbone": "efficientnet-b0"}, lambda: resnet18(spatial_dims=2), ["family EfficientNet"]),
        ({"backbone": "resnet10"}, lambda: resnet50(spatial_dims=2, n_input_channels=1), ["tensors missing"]),
        ({}, lambda: build_segmenter(2), ["2D in the file, 3D here", "adapt_stem"]),
        ({}, lambda: build_classifier(2, backbone="resnet10_s8"), ["60 of another shape"]),
        ({"in_channels": 3}, lambda: build_classifier(2), ["3 image channels", "adapt_stem"]),
    ],
)
def test_a_file_of_another_encoder_is_refused_with_the_report_and_the_reason(
    tmp_path: Path, saved: dict, network: Callable[[], nn.Module], reasons: list[str]
) -> None:
    _, file = pretrained(tmp_path, **saved)
    built = network()
    before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    texts: list[str] = []
    with pytest.raises(ConfigError) as caught:
        load_pretrained(built, file, report=texts.append)
    assert all(reason in str(caught.value) for reason in reasons)
    assert "min_loaded" in str(caught.value)
    assert texts[0].startswith("Encoder: ")
    assert "Stays random in the encoder" in texts[0]
    after = built.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_the_threshold_can_be_overridden_and_is_kept_at_its_very_value(tmp_path: Path) -> None:
    net, file = pretrained(tmp_path, backbone="resnet10")
    network = resnet18(spatial_dims=2, n_input_channels=1, shortcut_type="B", bias_downsample=False)
    report = load_pretrained(network, file, minimum=0.0)
    assert 0.3 < report.share < 0.6
    assert torch.equal(network.layer1[0].conv1.weight, net.encoder.layer1[0].conv1.weight)
    assert load_pretrained(network, file, minimum=report.share).share == report.share
    with pytest.raises(ConfigError, match="asked for"):
        load_pretrained(network, file, minimum=report.share + 1e-6)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="from 0 to 1"):
            load_pretrained(network, file, minimum=wrong)


class _Exploding:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("checkpoint", "a pickle, which is never opened"),
        ("pickle", "a pickle, which is never opened"),
        ("text", "cannot be read as safetensors"),
        ("foreign", "holds no encoder of monai-mixssl"),
        ("model", "holds no encoder of monai-mixssl but model"),
        ("missing", "does not exist"),
    ],
)
def test_a_file_of_another_kind_is_refused_unopened_and_without_its_path(
    tmp_path: Path, kind: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.pt"
    if kind == "checkpoint":
        torch.save({"a": torch.zeros(1)}, file)
    elif kind == "pickle":
        file.write_bytes(pickle.dumps(_Exploding()))
    elif kind == "text":
        file.write_text("weights")
    elif kind == "foreign":
        safetensors.torch.save_file({"a": torch.zeros(1)}, file)
    elif kind == "model":
        save_model(file, build_classifier(2))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    with pytest.raises(DataError, match=reason) as caught:
        load_pretrained(build_classifier(2), file)
    assert str(tmp_path) not in str(caught.value)
    assert "model.pt" not in str(caught.value)


def test_a_network_without_a_known_encoder_is_refused(tmp_path: Path) -> None:
    _, file = pretrained(tmp_path)
    with pytest.raises(ConfigError, match="No encoder is known in a network of type Linear"):
        load_pretrained(nn.Linear(2, 2), file)
