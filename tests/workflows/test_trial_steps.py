# SPDX-License-Identifier: Apache-2.0
"""The estimate that a run begins with, from trial steps."""

from __future__ import annotations

import re

import pytest
import torch
from monai.data import Dataset
from torch.utils.data import DataLoader

from monai_mixssl.data.seeded_dataset import SeededDataset
from monai_mixssl.engines import PrecisionTrainer
from monai_mixssl.workflows import announce_finetuning
from monai_mixssl.workflows.trial_steps import duration, seconds_per_step, seconds_with_loading


@pytest.fixture
def trainer():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 2)
    )
    data = [{"image": torch.rand(1, 4, 4), "label": number % 2} for number in range(8)]
    dataset = SeededDataset(Dataset(data), seed=0)
    made = PrecisionTrainer(
        device=torch.device("cpu"),
        max_epochs=3,
        train_data_loader=DataLoader(dataset, batch_size=4),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=torch.nn.CrossEntropyLoss(),
        prepare_batch=lambda batch, device, non_blocking, **kwargs: (batch["image"], batch["label"]),
    )
    return made, dataset


def test_the_estimate_leaves_the_network_and_the_random_state_as_they_were(trainer, capsys):
    made, dataset = trainer
    weights = {name: value.clone() for name, value in made.network.state_dict().items()}
    state = torch.get_rng_state()
    announce_finetuning(made, dataset, 4, num_workers=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in made.network.state_dict().items())
    assert all(parameter.grad is None for parameter in made.network.parameters())
    assert made.state.iteration == 0
    said = capsys.readouterr().out
    assert re.search(r"3 epochs of 2 steps of 4 images, about \d", said)


def test_only_the_first_process_speaks(trainer, capsys):
    made, dataset = trainer
    announce_finetuning(made, dataset, 4, num_workers=0, rank=1)
    assert capsys.readouterr().out == ""


def test_a_step_takes_the_mean_of_the_steps_after_the_first(trainer, monkeypatch):
    made, _ = trainer
    clock = iter([10.0, 14.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    calls = []

    def loss_of(network):
        calls.append(network)
        return network(torch.rand(4, 1, 4, 4)).sum()

    assert seconds_per_step(made, loss_of) == 2.0  # two of the three are timed
    assert len(calls) == 3
    assert calls[0] is not made.network


@pytest.mark.parametrize(
    ("device", "workers", "seconds"),
    [("cpu", 0, 5.0), ("cpu", 4, 5.0), ("cuda", 0, 5.0), ("cuda", 2, 2.0), ("cuda", 1, 4.0)],
)
def test_loaders_work_beside_a_gpu_and_in_turns_with_a_cpu(device, workers, seconds):
    assert seconds_with_loading(1.0, 4.0, workers, torch.device(device)) == seconds


@pytest.mark.parametrize(
    ("seconds", "said"), [(4.4, "4 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (9000, "2.5 h")]
)
def test_a_time_is_said_in_the_unit_that_suits_it(seconds, said):
    assert duration(seconds) == said
