# SPDX-License-Identifier: Apache-2.0
"""What is not loaded: files of other encoders, of other kinds, too little of one; and the reason that is given."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from monai.networks.nets import EfficientNetBN, FlexibleUNet, SwinUNETR, resnet18, resnet50
from pretrained import pretrained
from torch import nn

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.networks import (
    MixSSLNet,
    build_classifier,
    build_segmenter,
    load_encoder,
    load_pretrained,
    read_encoder_metadata,
    save_model,
)
from monai_mixssl.workflows import finetune_settings


@pytest.mark.parametrize(
    ("saved", "network", "reasons"),
    [
        ({"backbone": "resnet18"}, lambda: EfficientNetBN("efficientnet-b0", pretrained=False), ["family ResNet"]),
        ({"backbone": "efficientnet-b0"}, lambda: resnet18(spatial_dims=2), ["family EfficientNet"]),
        ({"backbone": "resnet10"}, lambda: resnet50(spatial_dims=2, n_input_channels=1), ["tensors missing"]),
        ({"backbone": "resnet18"}, lambda: SwinUNETR(1, 2, feature_size=12, spatial_dims=2), ["family ResNet"]),
        ({"backbone": "resnet10"}, lambda: FlexibleUNet(1, 2, "resnet50", spatial_dims=2), ["tensors missing"]),
        ({"backbone": "resnet10_s16"}, lambda: MixSSLNet(backbone="resnet18_s8_thin"), ["tensors missing"]),
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


def rewritten(
    file: Path, change: Callable[[str, torch.Tensor], torch.Tensor], record: Callable[[dict], object] | None = None
) -> Path:
    """The file with other tensors, and with another record where one is asked for."""
    with safetensors.safe_open(file, framework="pt") as opened:
        metadata = json.loads(opened.metadata()["monai_mixssl"])
        tensors = {name: change(name, opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118 (no mapping)
    if record is not None:
        metadata["record"] = record(metadata["record"])
    safetensors.torch.save_file(tensors, file, {"monai_mixssl": json.dumps(metadata)})
    return file


STEM = "conv1.weight"


def put(value: float) -> Callable[[str, torch.Tensor], torch.Tensor]:
    """One value of the first convolution replaced."""

    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor.clone()
        if name == STEM:
            changed.view(-1)[3] = value
        return changed

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put(float("nan")), f"weights that are not numbers .* in 1 of .*{STEM}"),
        (put(float("inf")), f"weights that are not numbers .* in 1 of .*{STEM}"),
        (
            lambda name, tensor: tensor.to(torch.int32),
            f"not numbers of the kind that a network has: {STEM} is of int32",
        ),
        (lambda name, tensor: tensor * 0, "are all 0, so nothing was trained"),
    ],
    ids=["nan", "infinite", "whole numbers", "zeros"],
)
def test_weights_that_are_none_are_refused_and_the_network_stays(
    tmp_path: Path, change: Callable[[str, torch.Tensor], torch.Tensor], reason: str
) -> None:
    _, file = pretrained(tmp_path)
    network = build_classifier(2)
    assert STEM in network.encoder.state_dict()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(DataError, match=reason):
        load_pretrained(network, rewritten(file, change))
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_weights_in_half_precision_are_loaded(tmp_path: Path) -> None:
    net, file = pretrained(tmp_path)
    half = rewritten(file, lambda name, tensor: tensor.half() if tensor.is_floating_point() else tensor)
    network = build_classifier(2)
    assert load_pretrained(network, half).share == 1
    assert torch.allclose(network.encoder.state_dict()[STEM], net.encoder.state_dict()[STEM], atol=1e-3)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (lambda record: [record], "record is no table of names and values"),
        (lambda record: "resnet", "record is no table of names and values"),
        (lambda record: None, "record is no table of names and values"),
        (lambda record: {k: v for k, v in record.items() if k != "in_channels"}, "record lacks 'in_channels'"),
        (lambda record: {k: v for k, v in record.items() if k != "spatial_dims"}, "record lacks 'spatial_dims'"),
        (lambda record: {k: v for k, v in record.items() if k != "backbone"}, "record lacks 'backbone'"),
        (lambda record: {**record, "spatial_dims": "two"}, "record has spatial_dims 'two'"),
        (lambda record: {**record, "in_channels": -1}, "record has in_channels '-1'"),
        (lambda record: {**record, "backbone": ["resnet18"]}, "record has backbone"),
        (lambda record: {**record, "norm": 5}, "record has norm '5'"),
    ],
)
def test_a_record_that_describes_no_encoder_is_refused_in_a_sentence_wherever_it_is_read(
    tmp_path: Path, record: Callable[[dict], object], reason: str
) -> None:
    network = build_classifier(2)
    file = rewritten(pretrained(tmp_path)[1], lambda name, tensor: tensor, record)
    readers: list[Callable[[], object]] = [
        lambda: read_encoder_metadata(file),
        lambda: load_encoder(file),
        lambda: load_pretrained(network, file),
        lambda: build_classifier(2, encoder_file=file),
        lambda: finetune_settings(str(file)),
    ]
    for read in readers:
        with pytest.raises(DataError, match=reason) as caught:
            read()
        assert "\n" not in str(caught.value)
