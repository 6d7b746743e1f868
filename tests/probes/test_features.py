# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from monai_mixssl.errors import ConfigError, DataError, TrainingError
from monai_mixssl.networks import EncoderEmbedding, MixSSLNet
from monai_mixssl.probes import extract_features, knn_probe, linear_probe, undisturbed


def batches(spatial_dims: int = 2, labels=(0, 1, 2, 1)) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 1, *[16] * spatial_dims, generator=generator)
    given = torch.as_tensor(labels)
    return [
        {"image": images[k : k + 2], "label": given[k : k + 2], "id": ["a", "b", "c", "d"][k : k + 2]} for k in (0, 2)
    ]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_one_pass_gives_the_features_of_every_pooling(spatial_dims):
    network = MixSSLNet(spatial_dims)
    given = batches(spatial_dims)
    table = extract_features(network, given, poolings=("last", "all", "last2x2"))
    images = torch.cat([batch["image"] for batch in given])
    with torch.no_grad():
        for pooling, features in table.features.items():
            expected = EncoderEmbedding(network, pooling).eval()(images)
            assert torch.allclose(features, expected, atol=1e-6)
    assert table.labels.tolist() == [0, 1, 2, 1]
    assert table.ids == ["a", "b", "c", "d"]


def test_a_single_label_that_holds_or_not_is_no_class_number():
    table = extract_features(MixSSLNet(2), batches(labels=[[0.0], [1.0], [1.0], [0.0]]))
    assert table.labels.tolist() == [[0], [1], [1], [0]]
    for probe in (linear_probe, knn_probe):
        assert 0 <= probe(table, table, None, 1, "last")["validation"]["accuracy"] <= 1
    of_numbers = extract_features(MixSSLNet(2), batches(labels=[[0], [1], [2], [1]]))  # as MedMNIST has them
    assert of_numbers.labels.tolist() == [0, 1, 2, 1]


def test_modes_and_weights_stay_as_they_were():
    network = MixSSLNet(2).train()
    network.encoder.bn1.eval()  # as a user might who freezes one layer's statistics
    before = {name: value.clone() for name, value in network.state_dict().items()}
    extract_features(network, batches())
    assert network.training
    assert network.encoder.training
    assert not network.encoder.bn1.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_labels_of_several_columns_stay_columns():
    table = extract_features(MixSSLNet(2), batches(labels=[[0, 1], [1, 1], [0, 0], [1, 0]]))
    assert table.multi_label
    assert table.labels.tolist() == [[0, 1], [1, 1], [0, 0], [1, 0]]


def test_no_images_and_unknown_poolings_are_refused():
    with pytest.raises(DataError, match="no labelled images"):
        extract_features(MixSSLNet(2), [])
    with pytest.raises(ConfigError, match="pooling must be one of"):
        extract_features(MixSSLNet(2), batches(), poolings=("first",))
    with pytest.raises(ConfigError, match="poolings is empty"):
        extract_features(MixSSLNet(2), batches(), poolings=())


def test_features_that_are_not_finite_are_refused_by_id():
    given = batches()
    given[1]["image"][1, 0, 3, 3] = float("nan")
    with pytest.raises(TrainingError, match="image d are not finite"):
        extract_features(MixSSLNet(2), given)


def test_random_generators_are_put_back():
    def draw() -> tuple:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def seed(number: int) -> None:
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)

    def draw_and_fail() -> None:
        with undisturbed():
            draw()
            seed(7)
            raise RuntimeError("also when something goes wrong")

    seed(0)
    expected = draw()
    seed(0)
    with pytest.raises(RuntimeError, match="goes wrong"):
        draw_and_fail()
    assert draw() == expected
