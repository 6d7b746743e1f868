# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from monai.handlers import (
    CheckpointLoader,
    CheckpointSaver,
    EarlyStopHandler,
    GarbageCollector,
    LrScheduleHandler,
    StatsHandler,
    TensorBoardStatsHandler,
    ValidationHandler,
    from_engine,
)

from monai_mixssl.engines import MixSSLTrainer, PrepareMixupBatch
from monai_mixssl.errors import ConfigError, TrainingError
from monai_mixssl.networks import MixSSLNet


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.network.parameters()])


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_training_lowers_the_loss_and_reports_both_objectives(small_run, spatial_dims):
    run = small_run(spatial_dims, max_epochs=8)
    seen = []
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.append(dict(e.state.output)))
    run.trainer.run()
    assert len(seen) == 8 * 3
    for output in seen:
        total = float(output["reconstruction_loss"]) + float(output["transparency_loss"])
        assert float(output["loss"]) == pytest.approx(total, rel=1e-5)
    assert sum(float(o["loss"]) for o in seen[-3:]) < 0.7 * sum(float(o["loss"]) for o in seen[:3])


def test_a_step_equals_one_written_by_hand(small_run):
    by_engine, by_hand = small_run(max_epochs=1, count=4), small_run(max_epochs=1, count=4)
    by_engine.trainer.run()
    by_hand.dataset.set_epoch(0)
    batch = next(iter(by_hand.loader))
    prediction = by_hand.network.train()(batch["image"].as_tensor())
    squared = (prediction["reconstruction"] - batch["image_target"].as_tensor()).pow(2).mean()
    squared = squared + (prediction["transparency"] - torch.as_tensor(batch["image_transparency"])).pow(2).mean()
    squared.backward()
    by_hand.optimizer.step()
    torch.testing.assert_close(weights(by_engine), weights(by_hand), rtol=0, atol=1e-7)


def test_accumulated_batches_step_as_one_large_batch(small_run):
    def make(batch_size, steps):
        # a norm that does not look at the batch: batch statistics of 12 images differ from those of 4
        torch.manual_seed(0)
        net = MixSSLNet(backbone="resnet10_s8_thin", norm=["group", {"num_groups": 4}])
        run = small_run(count=12, batch_size=batch_size, max_epochs=1, accumulation_steps=steps, network=net)
        run.optimizer.param_groups[0].update(eps=1e-3)  # so that rounding of tiny gradients is not blown up
        return run

    whole, pieces = make(12, 1), make(4, 3)
    whole.trainer.run()
    pieces.trainer.run()
    torch.testing.assert_close(weights(whole), weights(pieces), rtol=0, atol=2e-6)


def test_a_last_shorter_group_is_averaged_over_its_own_number(small_run):
    run = small_run(count=12, batch_size=4, max_epochs=1, accumulation_steps=2)
    stepped = []
    run.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: stepped.append((e.state.optimizer_stepped, e._accumulation()[2]))
    )
    run.trainer.run()
    assert stepped == [(False, 2), (True, 2), (True, 1)]


def test_clipping_bounds_the_norm_of_the_gradients(small_run):
    run = small_run(max_epochs=1, max_grad_norm=0.01)
    norms = []

    def after_step(engine):
        grads = torch.cat([p.grad.flatten() for p in engine.network.parameters() if p.grad is not None])
        norms.append(float(grads.norm()))

    run.trainer.add_event_handler(IterationEvents.MODEL_COMPLETED, after_step)
    run.trainer.run()
    assert len(norms) == 3
    assert max(norms) <= 0.01 * 1.001


def test_bf16_on_the_cpu_really_computes_in_bf16(small_run):
    run = small_run(max_epochs=1, precision="bf16")
    seen = []
    run.network.encoder.conv1.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    run.trainer.run()
    assert set(seen) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in run.network.parameters())


def test_fp16_away_from_a_gpu_is_refused_before_training(small_run):
    with pytest.raises(ConfigError, match="fp16 needs a CUDA GPU"):
        small_run(precision="fp16")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_fp16_on_a_gpu_trains_with_a_scaler(small_run):
    run = small_run()
    network = run.network.cuda()
    trainer = MixSSLTrainer("cuda", 2, run.loader, network, run.optimizer, run.loss, precision="fp16")
    trainer.run()
    assert trainer.gradient_scaler.get_scale() > 1


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(small_run):
    run = small_run(max_epochs=3)

    def poison(engine):
        if engine.state.iteration == 5:
            next(engine.network.decoder.parameters()).data.fill_(float("nan"))

    run.trainer.add_event_handler(Events.ITERATION_STARTED, poison)
    with pytest.raises(TrainingError, match=r"epoch 2, iteration 5 .*images square\d\d, .*is kept"):
        run.trainer.run()


def test_monai_stock_handlers_work(small_run, tmp_path):
    run = small_run(max_epochs=3)
    schedule = torch.optim.lr_scheduler.StepLR(run.optimizer, 1, gamma=0.5)
    scalars = ["loss", "reconstruction_loss", "transparency_loss"]
    stop = EarlyStopHandler(patience=1, score_function=lambda engine: 0.0, trainer=run.trainer)
    stop.attach(run.evaluator)
    for handler in (
        LrScheduleHandler(schedule, print_lr=False),
        ValidationHandler(1, run.evaluator),
        StatsHandler(output_transform=lambda output: {name: output[name] for name in scalars}),
        TensorBoardStatsHandler(log_dir=str(tmp_path), output_transform=lambda o: {k: o[k] for k in scalars}),
        GarbageCollector("epoch"),
    ):
        handler.attach(run.trainer)
    run.trainer.run()
    assert run.trainer.state.epoch == 2  # a score that never rises stops after the second validation
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.5**2)
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_decollated_output_serves_the_usual_from_engine(small_run, recwarn):
    run = small_run(max_epochs=1, decollate=True)
    StatsHandler(output_transform=from_engine(["loss"], first=True)).attach(run.trainer)
    run.trainer.run()
    assert not [w for w in recwarn if "StatsHandler" in str(w.message)]
    assert len(run.trainer.state.output) == 4
    assert run.trainer.state.output[0]["label"]["image"].shape == (1, 32, 32)


def test_a_batch_without_the_mix_up_is_refused_by_key():
    with pytest.raises(ConfigError, match="image_target, image_transparency"):
        PrepareMixupBatch()({"image": torch.zeros(2, 1, 8, 8)})


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_touched(small_run):
    run = small_run(max_epochs=2)
    before = []

    def poison(engine):
        if engine.state.iteration == 4:
            before.append(weights(run))
            next(engine.network.parameters()).grad.fill_(float("inf"))

    run.trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, poison)
    with pytest.raises(
        TrainingError, match=r"gradient is not finite in epoch 2, iteration 4 \(.*loss .*; images square\d\d, "
    ):
        run.trainer.run()
    assert torch.equal(before[0], weights(run))


def test_monai_checkpoint_handlers_save_and_load(small_run, tmp_path):
    saved, loaded = small_run(max_epochs=2), small_run(max_epochs=2)
    state = {"network": saved.network, "optimizer": saved.optimizer, "trainer": saved.trainer}
    CheckpointSaver(str(tmp_path), state, save_interval=1, epoch_level=True).attach(saved.trainer)
    saved.trainer.run()
    path = next(tmp_path.glob("*epoch=1.pt"))
    state = {"network": loaded.network, "optimizer": loaded.optimizer, "trainer": loaded.trainer}
    CheckpointLoader(str(path), state).attach(loaded.trainer)
    loaded.trainer.run()
    assert loaded.trainer.state.iteration == saved.trainer.state.iteration == 6


@pytest.mark.parametrize("kwargs", [{"transparency": 0.5}, {"map_cells": 4}])
def test_fixed_transparencies_and_maps_are_validated_too(small_run, kwargs):
    run = small_run(max_epochs=1, mixup=kwargs)
    run.trainer.run()
    run.evaluator.run()
    r2 = run.evaluator.state.metrics["transparency_r2"]
    assert math.isnan(r2) if "transparency" in kwargs else math.isfinite(r2)
