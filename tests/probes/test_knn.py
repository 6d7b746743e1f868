# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from made_up_features import several_labels, table
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from monai_mixssl.probes import FeatureTable, knn_probe


def test_agrees_with_scikit_learns_weighted_neighbours():
    train, test = table(60, 0, apart=1.0), table(300, 2, apart=1.0)
    found = knn_probe(train, None, test, 3, neighbours=(10,))
    reference = KNeighborsClassifier(
        10, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    scaler = StandardScaler().fit(train.features["last"].numpy())
    reference.fit(scaler.transform(train.features["last"].numpy()), train.labels.numpy())
    predicted = reference.predict(scaler.transform(test.features["last"].numpy()))
    assert found["neighbours"] == 10
    assert found["test"]["accuracy"] == pytest.approx((predicted == test.labels.numpy()).mean(), abs=1 / 300)


def test_one_neighbour_finds_the_training_images_themselves():
    train = table(30, 0, apart=0.0)  # nothing but noise
    assert knn_probe(train, None, train, 3, neighbours=(1,))["test"]["accuracy"] == 1.0


@pytest.mark.parametrize(("labels", "most"), [(1, 1), (5, 5), (12, 10)])
def test_there_are_never_more_neighbours_than_images_of_a_class(labels, most):
    train = table(3 * labels, 0, apart=0.5)
    assert knn_probe(train, table(90, 1, apart=0.5), None, 3)["neighbours"] <= most


def test_the_number_is_chosen_on_validation_images():
    # a fifth of the training labels is wrong: one neighbour repeats the errors, many outvote them
    train = table(300, 0, apart=5.0)
    labels = train.labels.clone()
    labels[::5] = (labels[::5] + 1) % 3
    noisy = FeatureTable(train.features, labels, train.ids)
    found = knn_probe(noisy, table(150, 1, apart=5.0), table(150, 2, apart=5.0), 3)
    assert found["neighbours"] >= 10
    assert (
        found["test"]["accuracy"]
        > knn_probe(noisy, None, table(150, 2, apart=5.0), 3, neighbours=(1,))["test"]["accuracy"]
    )


def test_several_labels_are_voted_on_one_by_one():
    found = knn_probe(several_labels(120, 0), several_labels(80, 1), several_labels(80, 2), 2)
    assert found["test"]["auc"] > 0.95


def test_the_votes_of_equally_near_images_do_not_depend_on_the_other_rows():
    train = FeatureTable({"last": torch.ones(4, 3)}, torch.tensor([0, 0, 1, 1]), list("abcd"))
    one = FeatureTable({"last": torch.ones(1, 3)}, torch.tensor([0]), ["e"])
    many = FeatureTable({"last": torch.ones(50, 3)}, torch.zeros(50, dtype=torch.long), [f"e{k}" for k in range(50)])
    assert [knn_probe(train, None, t, 2)["test"]["accuracy"] for t in (one, many)] == [1.0, 1.0]
