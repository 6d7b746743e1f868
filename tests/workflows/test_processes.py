# SPDX-License-Identifier: Apache-2.0
"""Two processes with gloo, started by torchrun or as it does, against one process with the same global batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from bundle_runs import BUNDLE, SMALL, run
from bundle_runs import command as typed
from torch.nn.modules.batchnorm import _BatchNorm

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.errors import ConfigError
from monai_mixssl.handlers import read_log
from monai_mixssl.networks import MixSSLNet
from monai_mixssl.workflows import distributed

TORCHRUN = ("torchrun", "--standalone", "--nproc_per_node=2")
ON_CPUS = {"CUDA_VISIBLE_DEVICES": ""}
CONFIGS = "['configs/train.json','configs/multi_gpu_train.json']"


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("scans"), patients=5, image_size=32, slices=4)


def given(**keys):
    return [part for key, value in keys.items() if value is not ... for part in (f"--{key}", str(value))]


def validations(folder):
    return [line for line in read_log(folder / "log.jsonl") if line["event"] == "validation"]


def test_with_a_batch_independent_norm_two_processes_step_as_one(scans, tmp_path):
    # 16 training slices are one step an epoch, so that every step is followed by a validation
    keys = {**SMALL, "dataset_dir": scans, "max_epochs": 4, "norm": ["group", {"num_groups": 4}]}
    # AdamW divides each gradient by its own size: of one that is next to nothing, rounding decides the step's sign, and
    # on some processors that is 4e-4 after four steps; a larger eps takes that away and nothing else
    keys["optimizer#eps"] = 1e-4
    assert run(output_dir=tmp_path / "one", **{**keys, "batch_size": 16}) == 0
    two = given(output_dir=tmp_path / "two", **{**keys, "batch_size": 8})
    done = typed("pretrain", "--config_file", CONFIGS, *two, launcher=TORCHRUN, **ON_CPUS)
    assert done.returncode == 0, done.stderr[-3000:]

    one, two = validations(tmp_path / "one"), validations(tmp_path / "two")
    assert [line["iteration"] for line in one] == [line["iteration"] for line in two] == [1, 2, 3, 4]
    for alone, together in zip(one, two, strict=True):
        for name in ("val_loss", "val_reconstruction_loss", "val_transparency_loss", "transparency_r2", "blend_ssim"):
            assert together[name] == pytest.approx(alone[name], abs=1e-4), (alone["iteration"], name)
    weights = [safetensors.torch.load_file(tmp_path / name / "encoder.safetensors") for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    assert max(float((weights[0][k].float() - weights[1][k].float()).abs().max()) for k in weights[0]) <= 1e-4
    for name in ("one", "two"):  # the first process alone writes
        assert len(list((tmp_path / name / "tensorboard").iterdir())) == 1
        assert json.loads((tmp_path / name / "run.json").read_text())["status"] == "complete"


def test_with_batch_norm_two_processes_come_close_to_one(command, scans, tmp_path):
    # on CPUs each process takes batch statistics of its own half: close, not equal. At the bundle's own learning rate,
    # over enough steps (72) to come to rest: 24 are not, and other halves or another seed end elsewhere
    keys = {**SMALL, "dataset_dir": scans, "max_epochs": 36, "val_interval": 36, "checkpoint_interval": 1000}
    assert run(output_dir=tmp_path / "one", **{**keys, "batch_size": 8}) == 0
    two = given(output_dir=tmp_path / "two", **{**keys, "batch_size": 4})
    ended = command("monai.bundle", "run", "pretrain", "--config_file", CONFIGS, *two, cwd=BUNDLE, processes=2)
    assert ended.status == 0, ended.err[-3000:]
    alone, together = (validations(tmp_path / name)[-1]["val_loss"] for name in ("one", "two"))
    assert together == pytest.approx(alone, rel=0.25)


def test_the_config_for_several_processes_says_that_it_needs_torchrun(command, tmp_path):
    argv = ("run", "pretrain", "--config_file", CONFIGS, "--output_dir", str(tmp_path / "run"))
    ended = command("monai.bundle", *argv, cwd=BUNDLE)
    assert ended.status != 0
    assert "torchrun --nproc_per_node" in ended.last_line


@pytest.mark.parametrize("device", ["cuda:0", "cpu"])
def test_batch_norm_is_synchronised_on_gpus_alone(device, monkeypatch):
    # no GPU is needed to see what would be put on one
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, **kwargs: self)
    monkeypatch.setattr(distributed, "DistributedDataParallel", lambda network, device_ids: network)
    network = distributed.distribute(MixSSLNet(), device)
    norms = {type(module) for module in network.modules() if isinstance(module, _BatchNorm)}
    assert norms == ({torch.nn.SyncBatchNorm} if device == "cuda:0" else {torch.nn.BatchNorm2d})


@pytest.mark.skipif(torch.cuda.device_count() < 1, reason="needs a CUDA GPU")
def test_synchronised_batch_norm_trains_on_a_gpu(scans, tmp_path):
    keys = given(**{**SMALL, "dataset_dir": scans, "output_dir": tmp_path / "run", "max_epochs": 1, "device": ...})
    launcher = ("torchrun", "--standalone", "--nproc_per_node=1")
    done = typed("pretrain", "--config_file", CONFIGS, *keys, launcher=launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(validations(tmp_path / "run")) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_more_processes_than_gpus_are_refused_in_a_sentence(scans, tmp_path):
    gpus = torch.cuda.device_count()
    launcher = ("torchrun", "--standalone", f"--nproc_per_node={gpus + 1}")
    keys = given(**{**SMALL, "dataset_dir": scans, "output_dir": tmp_path / "run", "device": ...})
    done = typed("pretrain", "--config_file", CONFIGS, *keys, launcher=launcher)
    assert done.returncode != 0
    assert f"set --nproc_per_node to {gpus} or fewer" in done.stderr


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch):
    # no GPU is needed to see how many there are said to be
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"process 2 of this machine, which has 1 GPU, .* to 1 or fewer"):
        distributed.start_processes()


def test_an_error_under_torchrun_keeps_its_sentence(tmp_path):
    (tmp_path / "notes.txt").write_text("not a run")
    done = typed("pretrain", "--config_file", CONFIGS, "--output_dir", str(tmp_path), launcher=TORCHRUN, **ON_CPUS)
    assert done.returncode != 0
    assert "monai-mixssl: error: output_dir is not empty and holds no run" in done.stderr  # torchrun's report follows
