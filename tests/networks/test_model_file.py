# SPDX-License-Identifier: Apache-2.0
"""A fine-tuned network comes back from its file, and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from pretrained import pretrained
from safetensors import safe_open

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.networks import MixSSLNet, build_classifier, build_segmenter, load_model, save_model
from monai_mixssl.networks.small_stem_resnet import SmallStemResNetEncoder

GROUP = ["group", {"num_groups": 2}]
BUILDS = [
    (build_classifier, {"pooling": "last2x2", "dropout": 0.3, "norm": GROUP}),
    (build_classifier, {"backbone": "efficientnet-b0", "in_channels": 3, "pooling": "all"}),
    (build_segmenter, {"spatial_dims": 2, "decoder_channels": [12, 8, 4], "norm": GROUP}),
    (build_segmenter, {"decoder": "light", "norm": GROUP}),
    (build_segmenter, {"spatial_dims": 2, "backbone": "swin_unetr", "feature_size": 12}),
]


@pytest.mark.parametrize(("build", "arguments"), BUILDS)
def test_the_loaded_network_equals_the_saved_one_bit_for_bit(tmp_path: Path, build: object, arguments: dict) -> None:
    if arguments.get("backbone") == "swin_unetr":
        pytest.importorskip("einops", reason="SwinUNETR needs it")
    network = build(3, **arguments)  # type: ignore[operator]  # one of two functions
    save_model(tmp_path / "model.safetensors", network, {"classes": ["a", "b", "c"]})
    again, metadata = load_model(tmp_path / "model.safetensors")
    assert type(again) is type(network)
    assert not again.training
    assert metadata["classes"] == ["a", "b", "c"]
    assert (
        metadata["model"] == again.model_record == network.model_record == json.loads(json.dumps(network.model_record))
    )
    image = torch.rand(
        1,
        network.record["in_channels"],
        *[64 if network.record["spatial_dims"] == 2 else 16] * network.record["spatial_dims"],
    )
    assert torch.equal(again(image), network.eval()(image))


def test_equal_networks_give_equal_bytes(tmp_path: Path) -> None:
    contents = set()
    for _ in range(3):
        torch.manual_seed(0)
        save_model(tmp_path / "model.safetensors", build_classifier(2), {"b": 1, "a": 2})
        contents.add((tmp_path / "model.safetensors").read_bytes())
    assert len(contents) == 1


def test_a_network_without_a_record_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no record"):
        save_model(tmp_path / "model.safetensors", MixSSLNet())
    with pytest.raises(ConfigError, match="filled by save_model"):
        save_model(tmp_path / "model.safetensors", build_classifier(2), {"model": {}})
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_file_is_no_model(tmp_path: Path) -> None:
    _, file = pretrained(tmp_path)
    with pytest.raises(DataError, match=r"holds no model of monai-mixssl but encoder; give the model\.safetensors"):
        load_model(file)
    with pytest.raises(DataError, match="model file does not exist"):
        load_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "detector"}, "cannot be built here"),
        ({"arguments": {"num_classes": 2, "pooling": "mean"}}, "cannot be built here"),
        ({"arguments": {"num_classes": 2, "depth": 1}}, "cannot be built here"),
        ({"arguments": {"num_classes": 3}}, "do not fit"),
        ({"encoder": {}}, "lacks 'backbone'"),
    ],
)
def test_a_record_that_was_changed_is_refused(tmp_path: Path, change: dict, reason: str) -> None:
    file = tmp_path / "model.safetensors"
    save_model(file, build_classifier(2))
    with safe_open(file, framework="pt") as opened:
        metadata = json.loads(opened.metadata()["monai_mixssl"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dictionary)
    metadata["model"].update(change)
    safetensors.torch.save_file(tensors, file, {"monai_mixssl": json.dumps(metadata)})
    with pytest.raises(DataError, match=reason):
        load_model(file)


def test_a_name_that_stands_for_another_architecture_by_now_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.safetensors"
    save_model(file, build_classifier(2))
    arguments = SmallStemResNetEncoder.resnet_arguments
    monkeypatch.setattr(
        SmallStemResNetEncoder,
        "resnet_arguments",
        classmethod(lambda _, *given: {**arguments(*given), "conv1_t_size": 5}),
    )
    with pytest.raises(DataError, match=r"another architecture of the same name \(differing: arguments\)"):
        load_model(file)
