# SPDX-License-Identifier: Apache-2.0
"""The scores of a classifier, from a table of predictions."""

from __future__ import annotations

import pytest
import torch

from monai_mixssl.handlers import PredictionTable
from monai_mixssl.workflows.classification_report import classification_scores


class Said(PredictionTable):
    """A table of given probabilities and labels, an image each."""

    def __init__(self, probabilities: list[list[float]], labels: list[list[int]]) -> None:
        super().__init__(multi_label=True)
        self.ids = [str(number) for number in range(len(labels))]
        self.slices = [None] * len(labels)
        self._probabilities = [torch.tensor(probabilities)]
        self._labels = [torch.tensor(labels).float()]


def test_a_single_label_that_holds_or_not_has_one_matrix():
    found = classification_scores(Said([[0.9], [0.8], [0.2], [0.1]], [[1], [1], [1], [0]]))
    assert found["confusion_matrix"] == [[[1, 0], [1, 2]]]  # [[tn, fp], [fn, tp]]
    assert found["accuracy"] == pytest.approx(3 / 4)


def test_each_of_several_labels_has_its_own_also_where_it_never_holds():
    found = classification_scores(Said([[0.9, 0.6], [0.2, 0.1]], [[1, 0], [0, 0]]))
    assert found["confusion_matrix"] == [[[1, 0], [0, 1]], [[1, 1], [0, 0]]]
