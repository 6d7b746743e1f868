# SPDX-License-Identifier: Apache-2.0
"""Bundles with weights, as ``monai.bundle.load`` takes them from the Model Zoo into any program."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from monai_mixssl.workflows.last_line import PREFIX

BUNDLES = Path(__file__).parents[2] / "bundles"
LEFT_BEHIND = shutil.ignore_patterns("output", "embeddings", "evaluation", "predictions", "segmentations", "models")

# writes the weights of a network that nobody trained into the bundle's models/
SAVE = """
import sys, torch
from monai_mixssl.networks import MixSSLNet, build_classifier, build_segmenter, save_encoder, save_model
name, models = sys.argv[1:]
preparation = {"spatial_dims": 2, "in_channels": 1, "spacing": None, "normalization": "auto"}
if name == "mixssl_pretraining":
    save_encoder(f"{models}/encoder.safetensors", MixSSLNet(), {"preparation": {**preparation, "patch_size": [32, 32]}})
elif name == "mixssl_classification":
    network = build_classifier(5)
    metadata = {"task": "classification", "classes": list("abcde"), "multi_label": False, "image_size": [32, 32]}
    save_model(f"{models}/model.safetensors", network, {**metadata, "preparation": preparation})
    torch.save(network.state_dict(), f"{models}/model.pt")
else:
    network = build_segmenter(4, spatial_dims=2)
    metadata = {"task": "segmentation", "classes": list("abcd"), "label_values": [0, 1, 2, 3], "patch_size": [32, 32]}
    save_model(f"{models}/model.safetensors", network, {**metadata, "overlap": 0.25, "preparation": preparation})
    torch.save(network.state_dict(), f"{models}/model.pt")
"""

LOAD = """
import sys
import torch
import monai.bundle
from monai_mixssl.networks import load_embedding, load_model
name, folder, options = sys.argv[1], sys.argv[2], dict(word.split("=") for word in sys.argv[3:])
network = monai.bundle.load(name, bundle_dir=folder, source="github", device="cpu", **options)
images = torch.rand(2, 1, 32, 32)
models = f"{folder}/{name}/models"
if name == "mixssl_pretraining":
    own = load_embedding(f"{models}/encoder.safetensors")
else:
    own = load_model(f"{models}/model.safetensors")[0].eval()
with torch.no_grad():
    torch.testing.assert_close(network(images), own(images))
    print("loaded", tuple(network(images).shape))
"""

SHAPES = {
    "mixssl_pretraining": (2, 192),
    "mixssl_classification": (2, 5),
    "mixssl_segmentation": (2, 4, 32, 32),
}


@pytest.fixture(scope="module", params=SHAPES)
def shared(request, command, tmp_path_factory):
    """A copy of a bundle with weights; its name, and the folder that it lies in."""
    folder = tmp_path_factory.mktemp("zoo")
    bundle = folder / request.param
    shutil.copytree(BUNDLES / request.param, bundle, ignore=LEFT_BEHIND)
    (bundle / "models").mkdir()
    (folder / "save.py").write_text(SAVE)
    (folder / "load.py").write_text(LOAD)
    ended = command(str(folder / "save.py"), request.param, str(bundle / "models"), cwd=folder)
    assert ended.status == 0, ended.err[-3000:]
    if request.param == "mixssl_pretraining":  # as its README says
        run = ("monai.bundle", "run", "save_state", "--config_file", "configs/inference.json")
        ended = command(*run, cwd=bundle)
        assert ended.status == 0, ended.err[-3000:]
    return request.param, folder


def test_monai_loads_a_bundles_network_with_all_of_its_weights_from_anywhere(shared, command, tmp_path):
    name, folder = shared
    (tmp_path / "models").mkdir()  # of another bundle, which the working directory happens to be
    for weights in ("encoder.safetensors", "model.safetensors"):
        (tmp_path / "models" / weights).write_bytes(b"another bundle's")
    ended = command(str(folder / "load.py"), name, str(folder), "workflow_type=inference", cwd=tmp_path)
    assert ended.status == 0, ended.err[-3000:]
    assert ended.out.splitlines()[-1] == f"loaded {SHAPES[name]}"
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_the_training_config_gives_no_network_that_keeps_random_weights(shared, command, tmp_path):
    name, folder = shared
    ended = command(str(folder / "load.py"), name, str(folder), cwd=tmp_path)
    assert ended.status == 1
    assert ended.last_line.startswith(f"{PREFIX}a config that trains makes no network")
    assert "workflow_type='inference'" in ended.last_line
    assert not list(tmp_path.iterdir())
