# SPDX-License-Identifier: Apache-2.0
"""Which steps of training the log holds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events

from monai_mixssl.handlers import JsonLinesLog, read_log


def test_a_run_that_starts_anew_keeps_no_line_of_one_before_not_even_of_before_its_training(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"event": "probe", "epoch": 0, "iteration": 0}\n{"event": "train", "epoch": 1, "iteration": 5}\n')
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(0.0)})
    engine.optimizer = SimpleNamespace(param_groups=[{"lr": 0.5}])
    JsonLinesLog(log).attach(engine)
    engine.run([1], max_epochs=1)
    assert [(line["event"], line["iteration"]) for line in read_log(log)] == [("train", 1)]


def test_what_a_new_run_measured_before_its_training_stays(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"event": "validation", "epoch": 3, "iteration": 9}\n')
    engine, validator = Engine(lambda engine, batch: {"loss": torch.tensor(0.0)}), Engine(lambda engine, batch: None)
    engine.optimizer = SimpleNamespace(param_groups=[{"lr": 0.5}])
    handler = JsonLinesLog(log, validator)
    handler.attach(engine)
    engine.add_event_handler(Events.STARTED, lambda: validator.run([1]))
    engine.run([1], max_epochs=1)
    assert [(line["event"], line["iteration"]) for line in read_log(log)] == [("validation", 0), ("train", 1)]


@pytest.mark.parametrize(
    ("interval", "logged"), [(10, [1, 6]), (4, [1, 4, 6]), (3, [1, 3, 6]), (1, [1, 2, 3, 4, 5, 6])]
)
def test_the_first_and_the_last_step_are_logged_whatever_the_interval(tmp_path, interval, logged):
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(float(batch))})
    engine.optimizer = SimpleNamespace(param_groups=[{"lr": 0.5}])
    JsonLinesLog(tmp_path / "log.jsonl", interval=interval).attach(engine)
    engine.run([1, 2, 3], max_epochs=2)
    lines = read_log(tmp_path / "log.jsonl")
    assert [line["iteration"] for line in lines] == logged
    assert [line["loss"] for line in lines] == [(iteration - 1) % 3 + 1 for iteration in logged]
