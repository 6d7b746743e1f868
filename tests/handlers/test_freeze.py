# SPDX-License-Identifier: Apache-2.0
"""A frozen encoder stays as it is, to the last bit and statistic, and learns as soon as it may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.networks.nets import SwinUNETR
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from monai_mixssl.errors import ConfigError
from monai_mixssl.handlers import FreezeEncoder
from monai_mixssl.networks import build_classifier, encoder_parameters, find_encoder, parameter_groups


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


class Training:
    """Three epochs of two batches, with the network's state at the end of each."""

    def __init__(self, epochs: int, network: nn.Module | None = None, size: int = 16, **keys: Any) -> None:
        torch.manual_seed(0)
        self.network = build_classifier(2, **keys) if network is None else network
        self.states = [state(self.network)]
        generator = torch.Generator().manual_seed(1)
        images = torch.rand(2, 4, 1, size, size, generator=generator)
        batches = [{"image": image, "label": torch.tensor([0, 1, 0, 1])} for image in images]
        self.freeze = FreezeEncoder(self.network, epochs)
        self.trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=3,
            train_data_loader=batches,
            network=self.network,
            optimizer=torch.optim.AdamW(parameter_groups(self.network, 1e-2), weight_decay=0.1),
            loss_function=nn.CrossEntropyLoss(),
            train_handlers=[self.freeze],
            decollate=False,
        )
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.states.append(state(self.network)))

    def run(self) -> Training:
        self.trainer.run()
        return self


def test_the_encoder_is_frozen_for_the_epochs_asked_for_and_learns_after_them() -> None:
    training = Training(2).run()
    start, first, second, third = training.states
    assert changed(start, first) == changed(first, second) == {"head.weight", "head.bias"}
    learned = changed(second, third)
    assert {name for name in start if name.startswith("encoder")} <= learned
    assert all(parameter.requires_grad for parameter in training.network.parameters())


def test_gradients_of_before_do_not_move_a_frozen_encoder() -> None:
    training = Training(1)
    training.network.eval()(torch.rand(2, 1, 16, 16)).sum().backward()  # as a search for a learning rate leaves them
    start, first, *_ = training.run().states
    assert changed(start, first) == {"head.weight", "head.bias"}


def test_no_epochs_freeze_nothing() -> None:
    start, first, *_ = Training(0).run().states
    assert "encoder.conv1.weight" in changed(start, first)
    assert "encoder.bn1.running_mean" in changed(start, first)


def test_the_head_learns_as_it_would_on_features_computed_once() -> None:
    training = Training(3)
    embedded = []
    reference = nn.Linear(192, 2)
    reference.load_state_dict(training.network.head.state_dict())
    training.network.eval()
    with torch.no_grad():
        embedded = [training.network.embed(batch["image"]) for batch in training.trainer.data_loader]
    optimizer = torch.optim.AdamW(reference.parameters(), 1e-2, weight_decay=0.1)
    for _ in range(3):
        for features, batch in zip(embedded, training.trainer.data_loader, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(reference(features), batch["label"]).backward()
            optimizer.step()
    torch.testing.assert_close(training.run().network.head.weight, reference.weight)


def test_a_run_resumed_in_the_frozen_epochs_or_after_them_goes_on_the_same() -> None:
    whole = Training(2).run()
    for epoch in (1, 2):
        resumed = Training(2)
        resumed.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=epoch), resumed.trainer.terminate)
        resumed.run()
        again = Training(2)
        again.network.load_state_dict(resumed.network.state_dict())
        again.trainer.optimizer.load_state_dict(resumed.trainer.optimizer.state_dict())
        again.trainer.load_state_dict({"epoch_length": 2, "max_epochs": 3, "iteration": 2 * epoch})
        again.run()
        assert not changed(state(again.network), whole.states[-1])


def test_weights_that_were_frozen_before_stay_so() -> None:
    training = Training(1, size=32, backbone="efficientnet-b0").run()
    encoder = find_encoder(training.network)[0]
    frozen = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    assert {name.split(".")[0] for name in frozen} == {"_conv_head", "_bn1", "_fc"}


def test_an_evaluation_in_between_and_the_end_leave_nothing_behind() -> None:
    training = Training(3)
    encoder = find_encoder(training.network)[0]
    assert training.run().freeze.frozen is False
    assert not encoder._forward_pre_hooks
    training.network.train()(torch.rand(2, 1, 16, 16))
    assert encoder.training


def test_a_network_of_monai_is_frozen_where_its_encoder_is() -> None:
    pytest.importorskip("einops", reason="SwinUNETR needs it")
    network = SwinUNETR(1, 2, feature_size=12, spatial_dims=2)
    freeze = FreezeEncoder(network, 1)
    freeze._set(True)
    still = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert still == {f"swinViT.{name}" for name in encoder_parameters(network)}


def test_under_several_processes_gradients_are_dropped_instead(tmp_path: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        network = DistributedDataParallel(build_classifier(2))
        start, first, second, third = Training(2, network).run().states
    finally:
        distributed.destroy_process_group()
    assert changed(start, first) == changed(first, second) == {"module.head.weight", "module.head.bias"}
    assert "module.encoder.conv1.weight" in changed(second, third)


@pytest.mark.parametrize("epochs", [-1, 1.5, True])
def test_a_number_of_epochs_that_is_none_is_refused(epochs: object) -> None:
    with pytest.raises(ConfigError, match="frozen_epochs"):
        FreezeEncoder(build_classifier(2), epochs)  # type: ignore[arg-type]  # the point of the test
