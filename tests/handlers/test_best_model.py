# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine, Events

from monai_mixssl.errors import ConfigError
from monai_mixssl.handlers import BestModel


class Run:
    """Three or more epochs whose weight is the number of the epoch, and validations that give the scores in turn."""

    def __init__(self, scores, **arguments):
        self.network = torch.nn.Linear(1, 1, bias=False)
        self.trainer, self.validator = Engine(lambda e, b: None), Engine(lambda e, b: None)
        left = list(scores)
        self.validator.add_event_handler(
            Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update({"val_auc": left.pop(0)})
        )
        self.best = BestModel(self.network, self.validator, "val_auc", **arguments)
        self.best.attach(self.trainer)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)

    def _epoch(self, trainer):
        torch.nn.init.constant_(self.network.weight, float(trainer.state.epoch))
        self.validator.run([0])

    def train(self, epochs):
        self.trainer.run([0], max_epochs=epochs)
        return self


def weight(network):
    return float(network.weight.detach())


@pytest.mark.parametrize(
    ("scores", "mode", "epoch"),
    [
        ([0.5, 0.9, 0.7], "max", 2),
        ([0.5, 0.9, 0.7], "min", 1),
        ([0.9, 0.9, 0.9], "max", 1),
        ([math.nan, 0.2, math.nan], "max", 2),
        ([math.nan, 0.2, 0.1], "min", 3),
    ],
)
def test_the_best_weights_stay_and_of_equal_ones_the_earlier(scores, mode, epoch):
    run = Run(scores, mode=mode).train(3)
    assert run.best.epoch == epoch
    assert run.best.score == scores[epoch - 1]
    assert weight(run.network) == 3
    assert run.best.use()
    assert weight(run.network) == epoch


def test_without_a_score_the_network_stays_as_it_is():
    run = Run([math.nan, math.nan]).train(2)
    assert not run.best.use()
    assert weight(run.network) == 2
    assert run.best.score is None


def test_a_restored_state_goes_on_as_if_never_interrupted(tmp_path):
    first = Run([0.5, 0.9]).train(2)
    torch.save(first.best.state_dict(), tmp_path / "state.pt")
    second = Run([0.9, 0.8], path=tmp_path / "best.pt")
    second.best.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    second.train(2)
    assert (second.best.score, second.best.epoch) == (0.9, 2)
    assert float(torch.load(tmp_path / "best.pt", weights_only=True)["weight"]) == 2


def test_the_file_holds_the_best_weights(tmp_path):
    Run([0.1, 0.3, 0.2], path=tmp_path / "new" / "best.pt").train(3)
    assert float(torch.load(tmp_path / "new" / "best.pt", weights_only=True)["weight"]) == 2
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["best.pt"]


def test_a_metric_that_nobody_computes_is_refused():
    run = Run([0.1])
    run.best.metric = "val_dice"
    with pytest.raises(ConfigError, match=r"no 'val_dice'.*val_auc"):
        run.train(1)
    with pytest.raises(ConfigError, match="mode must be max or min"):
        BestModel(run.network, run.validator, "val_auc", mode="highest")
