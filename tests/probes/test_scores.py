# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from made_up_features import table

from monai_mixssl.errors import ConfigError
from monai_mixssl.probes import FeatureTable, class_scores, knn_probe, linear_probe, require_sklearn
from monai_mixssl.probes.scores import average_by_id, brier_score, standardised


def test_scores_of_a_case_counted_by_hand():
    true = np.array([0, 0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6], [0.6, 0.4]])
    scores = class_scores(true, probabilities)
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert scores["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    # of the six pairs of one 0 and one 1, the 1 has the larger probability of class 1 in four
    assert scores["auc"] == pytest.approx(4 / 6)
    assert brier_score(true, probabilities) == pytest.approx(2 * (0.01 + 0.04 + 0.49 + 0.16 + 0.36) / 5)


def test_auc_of_several_classes_is_the_mean_of_one_against_the_rest():
    generator = np.random.default_rng(0)
    true = generator.integers(0, 3, 60)
    probabilities = generator.random((60, 3))
    probabilities /= probabilities.sum(axis=1, keepdims=True)

    def area(k: int) -> float:
        inside, outside = probabilities[true == k, k], probabilities[true != k, k]
        return float((inside[:, None] > outside[None, :]).mean())  # the Mann-Whitney statistic; there are no ties

    assert class_scores(true, probabilities)["auc"] == pytest.approx(np.mean([area(k) for k in range(3)]))


def test_several_labels_are_scored_one_by_one():
    true = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    probabilities = np.array([[0.9, 0.2, 0.1], [0.4, 0.8, 0.1], [0.6, 0.7, 0.1], [0.1, 0.3, 0.6]])
    scores = class_scores(true, probabilities)
    assert scores["accuracy"] == pytest.approx(9 / 12)
    # the third label never occurs: it has neither recall nor AUC
    assert scores["balanced_accuracy"] == pytest.approx(((1 / 2 + 1 / 2) / 2 + 1) / 2)
    assert scores["auc"] == pytest.approx((3 / 4 + 1) / 2)


def test_a_single_class_has_no_auc():
    scores = class_scores(np.array([1, 1]), np.array([[0.2, 0.8], [0.6, 0.4]]))
    assert scores == {"accuracy": 0.5, "balanced_accuracy": 0.5, "auc": None}


def test_slices_of_a_volume_are_averaged():
    table = FeatureTable({}, torch.tensor([1, 0, 1, 0]), ["b", "a", "b", "a"])
    labels, probabilities = average_by_id(table, np.array([[0.2, 0.8], [1.0, 0.0], [0.6, 0.4], [0.5, 0.5]]))
    assert labels.tolist() == [1, 0]
    assert probabilities == pytest.approx(np.array([[0.4, 0.6], [0.75, 0.25]]))


def test_features_are_scaled_by_the_training_images_alone():
    train = FeatureTable({"last": torch.tensor([[1.0, 5.0], [3.0, 5.0]])}, torch.tensor([0, 1]), ["a", "b"])
    other = FeatureTable({"last": torch.tensor([[4.0, 9.0]])}, torch.tensor([0]), ["c"])
    scale = standardised(train, "last")
    assert scale(train).tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert scale(other).tolist() == [[2.0, 0.0]]  # what did not vary in training says nothing


def test_without_scikit_learn_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigError, match=r"need scikit-learn; install it with pip install 'monai-mixssl"):
        require_sklearn()


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_the_probabilities_that_are_kept_are_those_that_were_scored(probe):
    train, test = table(30, 0, apart=1.0), table(40, 1, apart=1.0)
    result = probe(train, None, test, 3, keep_probabilities=True)
    kept = result["probabilities"]
    assert kept.keys() == {"test"}
    assert kept["test"].shape == (40, 3)
    assert (kept["test"].argmax(1) == test.labels.numpy()).mean() == pytest.approx(result["test"]["accuracy"])
    assert "probabilities" not in probe(train, None, test, 3)
