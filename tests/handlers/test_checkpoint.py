# SPDX-License-Identifier: Apache-2.0
"""Exact resume in one process; kills of a whole run are tested in tests/workflows/test_resume.py."""

from __future__ import annotations

import os
import random
import signal

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler, StatsHandler, ValidationHandler

from monai_mixssl.errors import InterruptedRunError, RunFolderError
from monai_mixssl.handlers import (
    EpochPosition,
    JsonLinesLog,
    RandomState,
    RunCheckpoint,
    TrainingProgress,
    latest_iteration,
    read_log,
)


def prepare(small_run, folder, resume=False, stop_at=None, **kwargs):
    """A run of 3 epochs of 3 iterations with everything attached that a resume must restore."""
    options = {"interval": 2, "minutes": 60.0} | {k: kwargs.pop(k) for k in ("interval", "minutes") if k in kwargs}
    run = small_run(max_epochs=3, **kwargs)
    # dropout draws from torch's global generator
    run.network.decoder.register_forward_hook(
        lambda module, inputs, output: torch.dropout(output, 0.1, module.training)
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(run.optimizer, 9)
    state = {
        "network": run.network,
        "optimizer": run.optimizer,
        "schedule": schedule,
        "trainer": run.trainer,
        "random": RandomState(),
    }
    run.checkpoint = RunCheckpoint(folder / "checkpoints", state, resume=resume, **options)
    for handler in (
        EpochPosition(run.dataset, run.sampler),
        LrScheduleHandler(schedule, print_lr=False, epoch_level=False),
        ValidationHandler(1, run.evaluator),
        JsonLinesLog(folder / "log.jsonl", run.evaluator, interval=1),
    ):
        handler.attach(run.trainer)
    if stop_at is not None:
        run.trainer.add_event_handler(Events.ITERATION_STARTED, stop_at)
    return run


def go(run):
    run.checkpoint.run(run.trainer)


def everything(run):
    tensors = [*run.network.state_dict().values()]
    tensors += [v for s in run.optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    return tensors


class Stopped(Exception):
    pass


@pytest.mark.parametrize(("iteration", "num_workers"), [(2, 0), (4, 0), (7, 0), (9, 0), (4, 2), (7, 2)])
def test_a_run_stopped_anywhere_and_resumed_ends_bit_for_bit_as_if_it_had_not_been(
    small_run, tmp_path, iteration, num_workers
):
    def stop(engine):
        if engine.state.iteration == iteration:
            raise Stopped

    (tmp_path / "whole").mkdir()
    (tmp_path / "halved").mkdir()
    torch.manual_seed(1)
    whole = prepare(small_run, tmp_path / "whole")
    go(whole)
    torch.manual_seed(1)
    with pytest.raises(Stopped):
        go(prepare(small_run, tmp_path / "halved", stop_at=stop, num_workers=num_workers))
    torch.manual_seed(99)
    resumed = prepare(small_run, tmp_path / "halved", resume=True, num_workers=num_workers)
    go(resumed)

    assert resumed.trainer.state.iteration == whole.trainer.state.iteration == 9
    assert all(torch.equal(a, b) for a, b in zip(everything(whole), everything(resumed), strict=True))

    def without_time(folder):
        return [{k: v for k, v in line.items() if k != "seconds"} for line in read_log(tmp_path / folder / "log.jsonl")]

    assert without_time("whole") == without_time("halved")


def test_sigterm_saves_a_checkpoint_and_says_how_to_go_on(small_run, tmp_path):
    def terminate(engine):
        if engine.state.iteration == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    run = prepare(small_run, tmp_path, stop_at=terminate, interval=100)
    with pytest.raises(InterruptedRunError, match=r"SIGTERM after saving iteration 5.*--resume True"):
        go(run)
    assert run.trainer.state.iteration == 5
    assert latest_iteration(tmp_path / "checkpoints") == 5
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("by_run", [True, False])
def test_a_run_that_a_signal_stopped_is_not_gone_on_with_in_the_middle_of_its_epoch(small_run, tmp_path, by_run):
    def interrupt(engine):
        if engine.state.iteration == 2:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    run = prepare(small_run, tmp_path, stop_at=interrupt, interval=100)
    if by_run:
        with pytest.raises(InterruptedRunError):
            go(run)
    else:
        run.checkpoint.attach(run.trainer)
        run.trainer.run()
    with pytest.raises(InterruptedRunError, match="after saving iteration 2"):
        go(run) if by_run else run.trainer.run()
    assert run.trainer.state.iteration == 2
    assert latest_iteration(tmp_path / "checkpoints") == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_a_trainer_that_is_run_twice_gives_the_signals_back_each_time(small_run, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    run = prepare(small_run, tmp_path)
    for epochs in (3, 4):
        run.trainer.state.max_epochs = epochs
        go(run)
        assert signal.getsignal(signal.SIGINT) is before
    assert run.trainer.state.iteration == 12


HANDLERS = {"alone": [], "bar": [TrainingProgress(3, disable=True)], "stats": [StatsHandler()]}


@pytest.mark.parametrize(("by_run", "others"), [(False, "alone"), *((True, others) for others in HANDLERS)])
def test_a_training_that_fails_gives_the_signals_back(small_run, tmp_path, by_run, others):
    def fail(engine):
        raise Stopped

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    run = prepare(small_run, tmp_path, stop_at=fail)
    for handler in HANDLERS[others]:
        handler.attach(run.trainer)
    if not by_run:
        run.checkpoint.attach(run.trainer)
    with pytest.raises(Stopped):
        go(run) if by_run else run.trainer.run()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize(("group", "saved"), [(1, [4, 5]), (2, [4, 5])])
def test_monais_own_trainer_is_saved_where_its_optimizer_has_stepped(tmp_path, group, saved):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    batches = [{"image": torch.rand(2, 1, 2, 2), "label": torch.tensor([0, 1])} for _ in range(5)]
    seen = []
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=batches,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=torch.nn.CrossEntropyLoss(),
        accumulation_steps=group,
        decollate=False,
    )
    checkpoint = RunCheckpoint(tmp_path, {"network": network}, interval=1)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(latest_iteration(tmp_path)))
    checkpoint.run(trainer)
    assert sorted(int(path.stem.rpartition("_")[2]) for path in tmp_path.iterdir()) == saved
    assert seen == ([0, 1, 2, 3, 4] if group == 1 else [0, 0, 2, 2, 4])  # before each iteration's own


def test_only_the_newest_checkpoints_are_kept_also_across_a_resume(small_run, tmp_path):
    def stop(engine):
        if engine.state.iteration == 8:
            raise Stopped

    with pytest.raises(Stopped):
        go(prepare(small_run, tmp_path, stop_at=stop))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["checkpoint_4.pt", "checkpoint_6.pt"]
    go(prepare(small_run, tmp_path, resume=True))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["checkpoint_8.pt", "checkpoint_9.pt"]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(small_run, tmp_path, caplog):
    go(prepare(small_run, tmp_path))
    (tmp_path / "checkpoints" / "checkpoint_9.pt").write_bytes(b"damaged")
    (tmp_path / "checkpoints" / "tmpkilled").write_bytes(b"half")
    run = prepare(small_run, tmp_path, resume=True)
    started = []
    run.trainer.add_event_handler(Events.EPOCH_STARTED, lambda e: started.append(e.state.iteration))
    go(run)
    assert "checkpoint_9.pt cannot be read" in caplog.text
    assert started == [8]
    assert not (tmp_path / "checkpoints" / "tmpkilled").exists()


def test_checkpoints_that_all_are_damaged_end_the_run_before_training(small_run, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "checkpoint_3.pt").write_bytes(b"damaged")
    with pytest.raises(RunFolderError, match="none of the checkpoints"):
        go(prepare(small_run, tmp_path, resume=True))


def test_minutes_trigger_a_checkpoint_too(small_run, tmp_path):
    saved = []
    run = prepare(small_run, tmp_path, interval=100, minutes=1e-6)
    run.checkpoint.attach(run.trainer)
    run.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: saved.append(latest_iteration(tmp_path / "checkpoints"))
    )
    run.trainer.run()
    # the last iteration of an epoch is saved with the epoch, after validation
    assert saved == [1, 2, 2, 4, 5, 5, 7, 8, 8]


def test_within_a_group_of_accumulated_batches_nothing_is_saved(small_run, tmp_path):
    saved = []
    run = prepare(small_run, tmp_path, interval=1, accumulation_steps=2)
    run.checkpoint.attach(run.trainer)
    run.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: saved.append(latest_iteration(tmp_path / "checkpoints"))
    )
    run.trainer.run()
    assert saved == [0, 2, 2, 3, 5, 5, 6, 8, 8]


def test_random_states_survive_a_safe_load(tmp_path):
    np.random.standard_normal()  # leaves a second Gaussian in store
    torch.save(RandomState().state_dict(), tmp_path / "state.pt")
    expected = (random.random(), np.random.standard_normal(3).tolist(), torch.rand(3).tolist())
    RandomState().load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (random.random(), np.random.standard_normal(3).tolist(), torch.rand(3).tolist()) == expected
