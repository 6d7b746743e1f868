# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from made_up_features import several_labels, table
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monai_mixssl.errors import ConfigError
from monai_mixssl.probes import FeatureTable, linear_probe


def test_agrees_with_a_pipeline_of_scikit_learn():
    train, test = table(60, 0, apart=1.5), table(300, 2, apart=1.5)
    found = linear_probe(train, None, test, 3, strengths=(0.1,))
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    reference.fit(train.features["last"].numpy(), train.labels.numpy())
    assert found["strength"] == 0.1
    assert found["test"]["accuracy"] == pytest.approx(
        reference.score(test.features["last"].numpy(), test.labels.numpy()), abs=1 / 300
    )
    assert found["validation"] is None


def test_the_strength_is_chosen_on_validation_images_and_not_on_test_images():
    train, validation = table(24, 0, apart=1.0, width=40), table(200, 1, apart=1.0, width=40)
    test = table(200, 2, apart=1.0, width=40)
    chosen = linear_probe(train, validation, test, 3)["strength"]

    def distance(strength: float) -> float:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
        model.fit(train.features["last"].numpy(), train.labels.numpy())
        truth = np.eye(3)[validation.labels.numpy()]
        return float(((model.predict_proba(validation.features["last"].numpy()) - truth) ** 2).sum(1).mean())

    assert chosen == min((1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0), key=distance)
    mislabelled = FeatureTable(test.features, (test.labels + 1) % 3, test.ids)
    assert linear_probe(train, validation, mislabelled, 3)["strength"] == chosen


def test_the_unit_of_the_features_does_not_matter():
    small, large = (
        linear_probe(table(60, 0, scale=s), table(60, 1, scale=s), table(60, 2, scale=s), 3) for s in (1e-3, 1e3)
    )
    assert small["strength"] == large["strength"]
    assert small["test"] == pytest.approx(large["test"], abs=1e-6)


def test_several_labels_get_a_regression_each():
    found = linear_probe(several_labels(80, 0), several_labels(80, 1), several_labels(80, 2), 2)
    assert found["test"]["auc"] > 0.98
    assert found["test"]["balanced_accuracy"] > 0.95


def test_a_class_without_training_images_is_never_predicted():
    train, test = table(40, 0, classes=2), table(60, 2, classes=3)
    found = linear_probe(train, None, test, 3)
    assert found["test"]["accuracy"] <= 2 / 3
    assert found["test"]["balanced_accuracy"] > 0.6


def test_a_single_training_class_is_always_predicted():
    train = FeatureTable({"last": torch.randn(5, 4)}, torch.ones(5, dtype=torch.long), list("abcde"))
    found = linear_probe(train, None, table(30, 1, width=4), 3)
    assert found["test"]["accuracy"] == pytest.approx(1 / 3)


def test_labels_beyond_the_classes_are_refused():
    with pytest.raises(ConfigError, match="labels do not fit 2 classes"):
        linear_probe(table(30, 0), None, None, 2)
