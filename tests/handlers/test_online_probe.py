# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.transforms import RandGaussianNoised

from monai_mixssl.handlers import JsonLinesLog, OnlineProbe, RunCheckpoint, read_log
from monai_mixssl.networks import MixSSLNet

NAMES = ("accuracy", "balanced_accuracy", "auc")


def labelled(counts=(12, 6, 9), transform=None, shuffle=False) -> dict[str, DataLoader]:
    """Three classes that differ in brightness."""
    generator = torch.Generator().manual_seed(0)
    loaders = {}
    for name, count in zip(("training", "validation", "test"), counts, strict=True):
        items = [
            {"image": 0.3 * (k % 3) + 0.05 * torch.rand(1, 16, 16, generator=generator), "label": k % 3, "id": f"{k}"}
            for k in range(count)
        ]
        loaders[name] = DataLoader(Dataset(items, transform), batch_size=4, shuffle=shuffle)
    return {name: loader for name, loader in loaders.items() if len(loader)}


class Writer:
    """In place of TensorBoard's."""

    def __init__(self) -> None:
        self.written: list[tuple[str, float, int]] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.written.append((name, value, step))


def test_training_ends_with_the_same_bits(small_run):
    def trained(probed: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(5)
        network = MixSSLNet(2)
        network.encoder.act = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Dropout(0.2))  # draws in every step
        run = small_run(network=network, max_epochs=2)
        torch.manual_seed(6)
        if probed:  # with loaders that draw from the global generators, too
            batches = labelled(transform=RandGaussianNoised("image", prob=1.0), shuffle=True)
            OnlineProbe(batches, 3, interval=1).attach(run.trainer)
        run.trainer.run()
        return {**run.network.state_dict(), "drawn after": torch.rand(3)}

    without, with_probe = trained(False), trained(True)
    assert without.keys() == with_probe.keys()
    assert [name for name in without if not torch.equal(without[name], with_probe[name])] == []


def test_probes_before_training_every_few_epochs_and_at_the_end(small_run, tmp_path):
    run, writer = small_run(max_epochs=5), Writer()
    log = tmp_path / "log.jsonl"
    JsonLinesLog(log, interval=100).attach(run.trainer)
    probe = OnlineProbe(labelled(), 3, interval=2, log=log, summary_writer=writer)
    probe.attach(run.trainer)
    shown = []
    run.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: shown.append(dict(e.state.probe)))
    run.trainer.run()

    lines = [line for line in read_log(log) if line["event"] == "probe"]
    assert [(line["epoch"], line["iteration"]) for line in lines] == [(0, 0), (2, 6), (4, 12), (5, 15)]
    keys = {f"probe_{kind}_{name}" for kind in ("linear", "knn") for name in NAMES}
    assert all(keys | {"probe_seconds", "seconds"} <= line.keys() for line in lines)
    assert {(name, step) for name, _, step in writer.written} == {
        (name, step) for name in {*keys, "probe_seconds"} for step in (0, 2, 4, 5)
    }
    assert shown[-1] == {"kNN": lines[-1]["probe_knn_accuracy"], "linear": lines[-1]["probe_linear_accuracy"]}
    assert lines[-1]["probe_linear_accuracy"] == 1.0  # brightness is easily told
    assert probe.seconds >= sum(line["probe_seconds"] for line in lines) - 0.01


def test_a_resumed_run_is_not_probed_before_its_first_epoch_again(small_run, tmp_path):
    def start(max_epochs: int, resume: bool) -> None:
        run = small_run(max_epochs=max_epochs)
        JsonLinesLog(tmp_path / "log.jsonl", interval=100).attach(run.trainer)
        OnlineProbe(labelled(), 3, interval=2, log=tmp_path / "log.jsonl").attach(run.trainer)
        save = {"network": run.network, "optimizer": run.optimizer, "trainer": run.trainer}
        RunCheckpoint(tmp_path / "checkpoints", save, resume).run(run.trainer)

    start(2, resume=False)
    start(4, resume=True)
    assert [line["epoch"] for line in read_log(tmp_path / "log.jsonl") if line["event"] == "probe"] == [0, 2, 4]


def test_without_test_images_validation_images_are_scored():
    network = MixSSLNet(2)
    probe = OnlineProbe(labelled((12, 6, 0)), 3)
    assert set(probe.probe(network)) == {f"probe_{kind}_{name}" for kind in ("linear", "knn") for name in NAMES}
    probe = OnlineProbe(labelled((12, 0, 6)), 3)
    assert probe.probe(network)["probe_linear_accuracy"] > 0.5


def test_says_once_that_it_takes_too_long(small_run, caplog):
    run = small_run(max_epochs=3)
    OnlineProbe(labelled((30, 15, 15)), 3, interval=1).attach(run.trainer)
    with caplog.at_level(logging.WARNING):
        run.trainer.run()
    said = [record.message for record in caplog.records if "online probe takes" in record.message]
    assert len(said) == 1
    assert "raise probe_interval (now 1), or lower probe_samples" in said[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_random_states_of_the_gpu_are_put_back():
    network = MixSSLNet(2).cuda()
    torch.cuda.manual_seed(3)
    expected = torch.rand(3, device="cuda")
    torch.cuda.manual_seed(3)

    def noise(item: dict) -> dict:
        return {**item, "image": item["image"] + torch.rand(1, 16, 16, device="cuda").cpu()}

    OnlineProbe(labelled(transform=noise), 3, device="cuda").probe(network)
    assert torch.equal(torch.rand(3, device="cuda"), expected)
