# SPDX-License-Identifier: Apache-2.0
"""Trainer and evaluator with plain tensors, as fine-tuning uses them."""

from __future__ import annotations

import copy
from typing import NamedTuple

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines.utils import PrepareBatchExtraInput

from monai_mixssl.engines import PrecisionEvaluator, PrecisionTrainer, PrepareLabelledBatch, mean_over_images
from monai_mixssl.errors import ConfigError, TrainingError
from monai_mixssl.handlers import TrainingProgress


def items(count=6, classes=3):
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": MetaTensor(torch.randn(1, 4, 4, generator=generator)),
            "label": torch.tensor(n % classes),
            "id": f"i{n}",
        }
        for n in range(count)
    ]


def network(classes=3):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, classes))


def trainer(net, data, loss=None, **arguments):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loader = DataLoader(Dataset(data), batch_size=3)
    return PrecisionTrainer("cpu", 1, loader, net, optimizer, loss or torch.nn.CrossEntropyLoss(), **arguments)


def test_a_step_with_a_loss_that_is_one_number_equals_one_by_hand():
    net = network()
    by_hand = copy.deepcopy(net)
    data = items(3)
    trainer(net, data).run()
    images = torch.stack([item["image"].as_tensor() for item in data])
    loss = torch.nn.functional.cross_entropy(by_hand(images), torch.tensor([0, 1, 2]))
    loss.backward()
    for trained, parameter in zip(net.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(trained, parameter - 0.1 * parameter.grad)


def test_the_output_holds_plain_detached_tensors_and_the_loss_by_name():
    run = trainer(network(), items(3))
    run.run()
    output = run.state.output
    assert not output["pred"].requires_grad
    assert not output["loss"].requires_grad
    assert output["pred"].shape == (3, 3)
    assert not isinstance(output["image"], MetaTensor)
    expected = torch.nn.functional.cross_entropy(output["pred"], output["label"])
    torch.testing.assert_close(output["loss"], expected)


def test_predictions_in_a_list_are_detached_too():
    class Deep(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = network()

        def forward(self, image):
            return [self.one(image), {"again": self.one(image)}]

    run = trainer(Deep(), items(3), lambda pred, label: torch.nn.functional.cross_entropy(pred[0], label))
    run.run()
    assert not run.state.output["pred"][0].requires_grad
    assert not run.state.output["pred"][1]["again"].requires_grad


class Pair(NamedTuple):
    """As some networks answer: the prediction, and something more."""

    logits: torch.Tensor
    more: None = None


@pytest.mark.parametrize("answer", [tuple, Pair._make], ids=["tuple", "named tuple"])
def test_predictions_keep_the_type_of_what_holds_them_and_what_is_no_tensor(answer):
    class Answers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = network()

        def forward(self, image):
            return answer([self.one(image), None])

    run = trainer(Answers(), items(3), lambda pred, label: torch.nn.functional.cross_entropy(pred[0], label))
    run.run()
    pred = run.state.output["pred"]
    assert type(pred) is type(answer([0, None]))
    assert pred[1] is None
    assert not pred[0].requires_grad


class Scaled(torch.nn.Module):
    """Takes a second input by position and a third by name."""

    def __init__(self):
        super().__init__()
        self.one = network()

    def forward(self, image, scale, offset=0.0):
        return self.one(image) * scale[:, None] + offset[:, None]


def test_what_prepare_batch_gives_beside_inputs_and_targets_reaches_the_network():
    data = [{**item, "scale": torch.tensor(2.0), "offset": torch.tensor(3.0)} for item in items(3)]
    net = Scaled()
    images = torch.stack([item["image"].as_tensor() for item in data])
    expected = 2 * net.one(images) + 3
    by_position, by_name = PrepareBatchExtraInput("scale"), PrepareBatchExtraInput({"offset": "offset"})

    def both(*given, **options):
        return (*by_position(*given, **options)[:3], by_name(*given, **options)[3])

    run = trainer(net, data, prepare_batch=both)
    run.run()
    torch.testing.assert_close(run.state.output["pred"], expected.detach())
    evaluator = PrecisionEvaluator("cpu", DataLoader(Dataset(data), batch_size=3), net, prepare_batch=both)
    evaluator.run()
    torch.testing.assert_close(
        evaluator.state.output["pred"], net(images, torch.full((3,), 2.0), torch.full((3,), 3.0))
    )


def test_a_loss_an_image_is_averaged_as_monais_trainer_does():
    data = items(3)
    nets = [network(), network()]
    trainer(nets[0], data, torch.nn.CrossEntropyLoss(reduction="none")).run()
    trainer(nets[1], data).run()
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_losses_without_the_one_to_minimise_are_refused():
    with pytest.raises(ConfigError, match=r"gives 'dice' but needs a 'loss'"):
        trainer(network(), items(3), lambda pred, label: {"dice": pred.mean()}).run()


def test_an_evaluator_minimises_nothing_and_takes_any_parts():
    loader = DataLoader(Dataset(items(3)), batch_size=3)
    evaluator = PrecisionEvaluator("cpu", loader, network(), lambda pred, label: {"dice": pred.mean()})
    evaluator.run()
    torch.testing.assert_close(evaluator.state.output["dice"], evaluator.state.output["pred"].mean())


@pytest.mark.parametrize("asked", [{"amp": True}, {"amp_kwargs": {"dtype": torch.bfloat16}}], ids=["amp", "amp_kwargs"])
def test_monais_amp_is_refused_and_not_ignored(asked):
    with pytest.raises(ConfigError, match="precision='bf16'"):
        trainer(network(), items(3), **asked)
    with pytest.raises(ConfigError, match="precision='bf16'"):
        PrecisionEvaluator("cpu", items(1), network(), **asked)
    trainer(network(), items(3), amp=False)


def test_a_loss_that_is_not_finite_stops_and_names_the_images():
    with pytest.raises(TrainingError, match=r"not finite in epoch 1, iteration 1 .*i0, i1, i2"):
        trainer(network(), items(3), lambda pred, label: pred.sum() * float("nan")).run()


@pytest.mark.parametrize(
    ("accumulated", "iteration", "named"), [(1, 1, "i0, i1, i2"), (2, 2, "i0, i1, i2, i3, i4, i5")]
)
def test_a_gradient_that_is_not_finite_stops_and_names_the_images_of_the_step(accumulated, iteration, named):
    net = network()
    before = copy.deepcopy(net.state_dict())

    def loss(pred, label):  # 0, with a gradient of infinity times 0
        return (pred - pred.detach()).abs().sqrt().sum()

    where = rf"gradient is not finite in epoch 1, iteration {iteration} \(loss 0; images {named}\); the last .* is kept"
    with pytest.raises(TrainingError, match=where):
        trainer(net, items(6), loss, accumulation_steps=accumulated).run()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_evaluators_loss_is_the_mean_over_images_whatever_the_batches():
    net, data = network(), items(5)
    losses = []
    for batch_size in (2, 5):
        evaluator = PrecisionEvaluator(
            "cpu",
            DataLoader(Dataset(data), batch_size=batch_size),
            net,
            torch.nn.CrossEntropyLoss(),
            key_val_metric={"val_loss": mean_over_images("loss")},
        )
        evaluator.run()
        losses.append(evaluator.state.metrics["val_loss"])
    images = torch.stack([item["image"].as_tensor() for item in data])
    expected = torch.nn.functional.cross_entropy(net(images), torch.tensor([0, 1, 2, 0, 1]))
    assert losses == pytest.approx([float(expected)] * 2, rel=1e-6)


def test_an_evaluator_needs_neither_labels_nor_a_loss():
    data = [{name: item[name] for name in ("image", "id")} for item in items(2)]
    evaluator = PrecisionEvaluator("cpu", DataLoader(Dataset(data), batch_size=2), network())
    evaluator.run()
    assert evaluator.state.output["pred"].shape == (2, 3)
    assert evaluator.state.output["label"] is None


def test_bf16_evaluates_in_bf16():
    evaluator = PrecisionEvaluator("cpu", DataLoader(Dataset(items(2)), batch_size=2), network(), precision="bf16")
    evaluator.run()
    assert evaluator.state.output["pred"].dtype == torch.bfloat16


def test_a_batch_without_an_image_is_refused():
    with pytest.raises(ConfigError, match="the batch has no image"):
        PrepareLabelledBatch()({"label": torch.zeros(1)})


def test_with_a_scaler_a_gradient_that_stays_without_a_value_ends_the_training():
    """The scaler leaves such steps out, each with half the scale; for ever, were nobody to look at the scale."""
    net = network()
    before = copy.deepcopy(net.state_dict())

    def loss(prediction, label):
        return torch.nn.functional.cross_entropy(prediction, label) + (prediction * 0).sqrt().sum()  # slope: 0 / 0

    run = trainer(net, items(6), loss)
    run.state.max_epochs = 20
    run.gradient_scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    with pytest.raises(TrainingError, match=r"the gradient is not finite in epoch 3, iteration 6 .*images i3, i4, i5"):
        run.run()
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


def test_with_a_scaler_too_large_a_scale_costs_steps_and_not_the_training():
    net = network()
    before = copy.deepcopy(net)
    run = trainer(net, items(6), lambda prediction, label: torch.nn.functional.cross_entropy(1e3 * prediction, label))
    run.state.max_epochs = 20
    run.gradient_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    run.run()
    assert run.gradient_scaler.get_scale() < 2.0**126
    assert any(not torch.equal(a, b) for a, b in zip(net.parameters(), before.parameters(), strict=True))


def test_the_bar_shows_the_agreement_where_it_is_trained(capsys):
    parts = {"reconstruction_loss": 0.5, "transparency_loss": 0.25}

    def loss(prediction, label):
        return {"loss": prediction.square().mean(), **{name: torch.tensor(value) for name, value in parts.items()}}

    shown = []
    for more in ({}, {"agreement_loss": 1.5}):
        parts |= more
        run = trainer(network(), items(6), loss)
        TrainingProgress(3).attach(run)
        run.run()
        shown.append(capsys.readouterr().err)
    assert "reconstruction=0.5000, transparency=0.2500" in shown[0]
    assert "agreement" not in shown[0]
    assert "agreement=1.5000" in shown[1]


def test_the_bar_shows_the_losses_and_metrics_that_it_is_told(capsys):
    run = trainer(network(), items(6))
    loader = DataLoader(Dataset(items(3)), batch_size=3)
    metric = {"val_loss": mean_over_images("loss")}
    validator = PrecisionEvaluator("cpu", loader, network(), torch.nn.CrossEntropyLoss(), key_val_metric=metric)
    run.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda _: validator.run())
    bar = TrainingProgress(
        3, validator, losses={"cross entropy": "loss"}, metrics={"held out": "val_loss", "AUC": "val_auc"}
    )
    bar.attach(run)
    run.run()
    shown = capsys.readouterr().err
    assert "cross entropy=" in shown
    assert f"held out={validator.state.metrics['val_loss']:.4f}" in shown
    assert "AUC" not in shown  # nobody has computed it


@pytest.mark.parametrize(
    ("machine", "capability", "precision", "said"),
    [
        ("x86_64", "AVX2", "bf16", True),
        ("AMD64", "DEFAULT", "bf16", True),
        ("x86_64", "AVX512", "bf16", False),
        ("x86_64", "AVX2", "none", False),
        ("aarch64", "DEFAULT", "bf16", False),
    ],
)
def test_bf16_that_the_processor_only_emulates_is_said_to_be_slow(
    monkeypatch, caplog, machine, capability, precision, said
):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    trainer(network(), items(3), precision=precision)
    assert ("use amp none" in caplog.text) == said
