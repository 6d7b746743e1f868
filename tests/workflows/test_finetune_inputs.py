# SPDX-License-Identifier: Apache-2.0
"""What fine-tuning refuses, and that it does so in one sentence before any long work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from finetune_runs import BUNDLES

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.errors import ConfigError, MixSSLError
from monai_mixssl.networks import MixSSLNet, save_encoder
from monai_mixssl.workflows import (
    CLASSIFICATION_EVALUATE_RULES,
    CLASSIFICATION_INFER_RULES,
    CLASSIFICATION_RULES,
    FINETUNE_RULES,
    build_classifier,
    check_classification_keys,
    check_evaluate_keys,
    check_start,
    common_size,
    finetune_settings,
    repeated,
    weights_drawn_from,
)
from monai_mixssl.workflows.config_check import apply_rules
from monai_mixssl.workflows.last_line import PREFIX

BUNDLE = BUNDLES / "mixssl_classification"
KEYS = json.loads((BUNDLE / "configs" / "train.json").read_text())


def checked(**overrides):
    config = {**{name: KEYS[name] for name in CLASSIFICATION_RULES}, **overrides}
    apply_rules(config, CLASSIFICATION_RULES)
    check_classification_keys(config)
    return config


def test_the_configs_own_values_pass_their_rules():
    assert checked()["labels_per_class"] is None
    for name, rules in (("evaluate", CLASSIFICATION_EVALUATE_RULES), ("inference", CLASSIFICATION_INFER_RULES)):
        keys = json.loads((BUNDLE / "configs" / f"{name}.json").read_text())
        apply_rules({key: keys[key] for key in rules}, rules)  # every rule has a key, and every key passes


def test_every_key_has_a_rule_and_stands_in_the_readme():
    plain = {name for name, value in KEYS.items() if not isinstance(value, dict | list) and str(value)[:1] not in "$@%"}
    assert plain - {"bundle_root", "rank", "world_size", "run"} <= set(CLASSIFICATION_RULES)
    readme = (BUNDLE / "docs" / "README.md").read_text()
    assert [name for name in CLASSIFICATION_RULES if f"`{name}`" not in readme] == []
    assert set(FINETUNE_RULES) <= set(CLASSIFICATION_RULES)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"select": "first"}, r"^select must be best or last, not 'first'"),
        ({"pooling": "mean"}, "pooling must be last, all or last2x2"),
        ({"augment": "maybe"}, "augment must be true or false"),
        ({"labels_per_class": 0}, "labels_per_class must be none or a whole number of at least 1"),
        ({"labels_per_class": 5, "label_fraction": 0.5}, "both set; use one"),
        ({"label_fraction": 1.5}, "label_fraction must be a number above 0 and at most 1"),
        ({"layer_decay": 2}, "layer_decay must be a number above 0 and at most 1"),
        ({"val_fraction": 0}, "val_fraction must be a number above 0 and below 1"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave nothing to train on"),
        ({"dropout": 1}, "dropout must be from 0 to below 1"),
        ({"spatial_dims": 3, "image_size": [32, 32]}, "image_size has 2 axes and spatial_dims is 3"),
        ({"from_scratch": True}, "from_scratch takes the architecture from"),
        ({"adapt_stem": True}, "adapt_stem adapts pretrained weights"),
        ({"pretrained": "doe_jane.safetensors"}, "^pretrained names no file; give the encoder.safetensors"),
        ({"pretrain_run": "doe_jane"}, "^pretrain_run names no output folder"),
        ({"data_from": "doe_jane"}, "^data_from names no output folder"),
        ({"amp": "fp16", "device": "cpu"}, "amp fp16 needs a CUDA GPU"),
        ({"backbone": "resnet18_s9"}, "did you mean 'resnet18_s8'"),
    ],
)
def test_a_wrong_key_is_refused_by_name(overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        checked(**overrides)
    assert "doe_jane" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "nothing to evaluate; give run_dir"),
        ({"dataset_dir": "x"}, "nothing to evaluate; give run_dir"),
        ({"dataset_dir": "x", "run_dir": "y"}, "give one of them"),
        ({"dataset_dir": "x", "model": "doe_jane"}, "model names no file"),
        ({"run_dir": "doe_jane"}, "run_dir names no output folder"),
    ],
)
def test_an_evaluation_of_nothing_is_refused(keys, message):
    with pytest.raises(ConfigError, match=message):
        check_evaluate_keys({"run_dir": None, "dataset_dir": None, "model": None, **keys})


def encoder_file(path: Path, spatial_dims=2, in_channels=1, **preparation) -> Path:
    recorded = {"spatial_dims": spatial_dims, "in_channels": in_channels, "spacing": [2.0] * spatial_dims}
    recorded |= {
        "normalization": "percentiles",
        "min_foreground": 0.05,
        "patch_size": [32] * spatial_dims,
        "max_pad": 2.0,
    }
    net = MixSSLNet(spatial_dims, in_channels)
    save_encoder(path, net, {"preparation": {**recorded, **preparation}})
    return path


def test_settings_are_the_users_else_the_files_else_pretrainings(tmp_path):
    nothing = finetune_settings()
    assert nothing.preparation == {
        "spatial_dims": 2,
        "in_channels": 1,
        "patch_size": [1, 1],
        "spacing": None,
        "normalization": "auto",
        "min_foreground": 0.1,
        "geometry": "accept",
    }
    file = str(encoder_file(tmp_path / "encoder.safetensors"))
    recorded = finetune_settings(file)
    assert recorded.preparation["spacing"] == [2.0, 2.0]
    assert recorded.preparation["normalization"] == "percentiles"
    straight = finetune_settings(str(encoder_file(tmp_path / "straight.safetensors", geometry="resample")))
    assert straight.preparation["geometry"] == "resample"
    own = finetune_settings(file, spacing=[1.0, 1.5], min_foreground=0.0)
    assert own.preparation["spacing"] == [1.0, 1.5]
    assert own.preparation["min_foreground"] == 0.0
    assert own.preparation["normalization"] == "percentiles"
    assert "spacing, min_foreground as given" in own.source
    # millimetres of two axes say nothing about three
    assert finetune_settings(file, spatial_dims=3).preparation["spacing"] is None


def test_weights_that_do_not_fit_are_refused_before_the_scan(tmp_path):
    settings = finetune_settings(str(encoder_file(tmp_path / "encoder.safetensors")), backbone="resnet10")
    with pytest.raises(MixSSLError, match="min_loaded"):
        check_start(build_classifier, settings)
    check_start(build_classifier, settings, from_scratch=True)


def test_random_weights_depend_on_the_seed_alone():
    drawn = []
    for before, seed in ((0, 5), (1, 5), (0, 6)):
        torch.manual_seed(before)
        state = torch.get_rng_state()
        with weights_drawn_from(seed):
            drawn.append(torch.rand(3))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    ("largest", "image_size", "expected", "said"),
    [
        ((61, 64), None, [64, 64], "padded to 64 x 64"),
        ((28, 28), None, [32, 32], "padded to 32 x 32"),
        ((1000, 90), None, [256, 96], "are shrunk"),
        ((1000, 800), 100, [104, 104], "are shrunk"),
        ((60, 50), [64, 40], [64, 40], "are shrunk"),
        ((100, 100, 20), None, [96, 96, 24], "are shrunk"),
    ],
)
def test_all_images_get_one_size(largest, image_size, expected, said, capsys):
    record = {"feature_strides": [2, 4, 8]}
    assert common_size(largest, record, image_size) == expected
    assert said in capsys.readouterr().out
    assert common_size(largest, record, image_size, main=False) == expected
    assert capsys.readouterr().out == ""


def test_few_items_are_repeated_as_wholes():
    assert repeated([1, 2, 3], 7) == [1, 2, 3] * 3
    assert repeated([1, 2, 3], 2) == [1, 2, 3]


@pytest.mark.parametrize(
    ("config", "run_id", "keys", "message"),
    [
        (
            "train",
            "finetune",
            {"dataset_dir": "{scans}", "max_epoch": 3},
            "unknown key 'max_epoch'; did you mean 'max_epochs'?",
        ),
        (
            "train",
            "finetune",
            {"dataset_dir": "{scans}/nothing"},
            "There is no such file or folder as dataset_dir names",
        ),
        ("train", "finetune", {"dataset_dir": "{scans}", "pretrained": "{damaged}"}, "The encoder file cannot be read"),
        (
            "train",
            "finetune",
            {"dataset_dir": "{scans}", "pretrained": "{encoder}", "backbone": "resnet10"},
            "min_loaded",
        ),
        ("evaluate", "evaluate", {"dataset_dir": "{scans}", "model": "{encoder}"}, "model"),
        ("inference", "infer", {"dataset_dir": "{scans}", "model": "{damaged}"}, "model file"),
    ],
)
def test_a_bad_input_ends_with_one_sentence_before_anything_is_prepared(
    command, tmp_path, config, run_id, keys, message
):
    scans = write_phantoms(tmp_path / "scans", seed=1, patients=4, image_size=16, slices=1)
    (tmp_path / "doe_jane.safetensors").write_bytes(b"no weights")
    known = {
        "scans": scans,
        "damaged": tmp_path / "doe_jane.safetensors",
        "encoder": encoder_file(tmp_path / "encoder.safetensors"),
    }
    given = {"output_dir": str(tmp_path / "run"), "num_workers": 0, **keys}
    overrides = [part for key, value in given.items() for part in (f"--{key}", str(value).format(**known))]
    ended = command("monai.bundle", "run", run_id, "--config_file", f"configs/{config}.json", *overrides, cwd=BUNDLE)
    assert ended.status == 1
    assert ended.last_line.startswith(PREFIX)
    assert message in ended.last_line
    assert "doe_jane" not in ended.last_line
    assert "Traceback" not in ended.err
    assert not (tmp_path / "run" / "run.json").exists()
    assert not list((tmp_path / "run").rglob("*.npy"))
