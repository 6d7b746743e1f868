# SPDX-License-Identifier: Apache-2.0
"""Encoder and linear layer: what the architecture follows from, and what the layer sees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pretrained import pretrained

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.networks import build_classifier, load_embedding, load_pretrained

BUILD_KEYS = ("backbone", "spatial_dims", "in_channels", "norm", "feature_size")


@pytest.mark.parametrize("pooling", ["last", "all", "last2x2"])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_logits_are_a_linear_function_of_the_embedding(tmp_path: Path, pooling: str, spatial_dims: int) -> None:
    _, file = pretrained(tmp_path, spatial_dims=spatial_dims)
    network = build_classifier(5, encoder_file=file, pooling=pooling)  # type: ignore[arg-type]  # a parameter
    load_pretrained(network, file)
    image = torch.rand(2, 1, *[17] * spatial_dims)
    with torch.no_grad():
        embedded = load_embedding(file, pooling)(image)  # type: ignore[arg-type]
        logits = network.eval()(image)
        assert torch.equal(network.embed(image), embedded)
    assert logits.shape == (2, 5)
    expected = embedded.double() @ network.head.weight.double().T + network.head.bias.double()
    torch.testing.assert_close(logits.double(), expected, rtol=1e-4, atol=1e-5)


def test_the_architecture_is_the_files_unless_asked_otherwise(tmp_path: Path) -> None:
    net, file = pretrained(tmp_path, backbone="resnet18_s16_thin", norm="group", spatial_dims=3, in_channels=3)
    record = build_classifier(2, encoder_file=file).record
    assert {key: record[key] for key in BUILD_KEYS} == {key: net.record[key] for key in BUILD_KEYS}
    record = build_classifier(2, encoder_file=file, spatial_dims=2, in_channels=1).record
    assert (record["spatial_dims"], record["in_channels"], record["backbone"]) == (2, 1, "resnet18_s16_thin")
    assert record["norm"] == ["group", {"num_groups": 8}]
    # another backbone takes nothing of what belongs to the file's
    record = build_classifier(2, encoder_file=file, backbone="resnet10", spatial_dims=2).record
    assert (record["backbone"], record["norm"]) == ("resnet10", None)


def test_without_a_file_it_is_the_one_that_pretraining_has_by_default() -> None:
    record = build_classifier(2).record
    assert {key: record[key] for key in BUILD_KEYS} == {
        "backbone": "resnet10_s8_thin",
        "spatial_dims": 2,
        "in_channels": 1,
        "norm": None,
        "feature_size": None,
    }


def test_dropout_acts_in_training_only() -> None:
    network = build_classifier(2, dropout=0.5)
    network.encoder.eval()
    image = torch.rand(1, 1, 16, 16)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


@pytest.mark.parametrize("keys", [{"num_classes": 0}, {"dropout": 1.0}, {"dropout": -0.1}, {"pooling": "mean"}])
def test_arguments_out_of_range_are_refused(keys: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(keys))):
        build_classifier(**{"num_classes": 2, **keys})


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        build_classifier(2, encoder_file=tmp_path / "encoder.safetensors")
