# SPDX-License-Identifier: Apache-2.0
"""The metrics of a classifier against MONAI's and scikit-learn's functions."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.metrics import compute_roc_auc
from sklearn.metrics import balanced_accuracy_score

from monai_mixssl.engines import PrecisionEvaluator, classification_metrics


def evaluate(logits, labels, multi_label, batch_size):
    pairs = enumerate(zip(logits, labels, strict=True))
    data = [{"image": logit, "label": label, "id": str(n)} for n, (logit, label) in pairs]
    loss = torch.nn.BCEWithLogitsLoss() if multi_label else torch.nn.CrossEntropyLoss()
    metrics = classification_metrics(multi_label)
    evaluator = PrecisionEvaluator(
        "cpu",
        DataLoader(Dataset(data), batch_size=batch_size),
        torch.nn.Identity(),
        loss,
        key_val_metric={"val_auc": metrics.pop("val_auc")},
        additional_metrics=metrics,
    )
    evaluator.run()
    return evaluator.state.metrics


@pytest.mark.parametrize("batch_size", [4, 30])
def test_one_of_several_classes(batch_size):
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 4, (30,), generator=generator)
    logits = torch.randn(30, 4, generator=generator) + torch.nn.functional.one_hot(labels, 4)
    found = evaluate(logits, labels, False, batch_size)
    said = logits.argmax(1)
    assert found["val_accuracy"] == pytest.approx(float((said == labels).float().mean()))
    assert found["val_balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, said))
    expected = compute_roc_auc(logits.softmax(1), torch.nn.functional.one_hot(labels, 4))
    assert found["val_auc"] == pytest.approx(float(expected))
    assert found["val_loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-5)


def test_several_labels_an_image():
    generator = torch.Generator().manual_seed(2)
    labels = (torch.rand(25, 3, generator=generator) > 0.6).float()
    logits = torch.randn(25, 3, generator=generator) + labels
    found = evaluate(logits, labels, True, 7)
    said = (logits > 0).float()
    assert found["val_accuracy"] == pytest.approx(float((said == labels).float().mean()))
    each = [balanced_accuracy_score(labels[:, k], said[:, k]) for k in range(3)]
    assert found["val_balanced_accuracy"] == pytest.approx(sum(each) / 3)
    assert found["val_auc"] == pytest.approx(float(compute_roc_auc(logits.sigmoid(), labels)))


def test_the_area_under_the_curve_of_a_single_class_is_no_number():
    found = evaluate(torch.randn(5, 2), torch.zeros(5, dtype=torch.long), False, 5)
    assert math.isnan(found["val_auc"])
    assert 0 <= found["val_accuracy"] <= 1
