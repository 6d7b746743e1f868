# SPDX-License-Identifier: Apache-2.0
"""The segmentation bundle: what MONAI asks of it, its three runs, and what its users have in their folders."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest
import torch
from segmentation_runs import BUNDLE, files_of, metrics_of, reasons_of, rounded, segment, write_pair, write_pretrained

import monai_mixssl
from monai_mixssl.data.phantoms import write_segmentation_phantoms
from monai_mixssl.networks import MixSSLNet, load_model

METADATA = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"

# in a process of its own: `initialize` sets the seeds, the hook for uncaught exceptions, and maybe the logging
PROPERTIES = """
import json, sys
from monai.bundle import ConfigWorkflow
config, workflow_type, keys = json.loads(sys.argv[1])
workflow = ConfigWorkflow(config, workflow_type=workflow_type, logging_file=False, **keys)
workflow.initialize()
print("missing:", json.dumps(workflow.check_properties()))
"""


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return write_segmentation_phantoms(tmp_path_factory.mktemp("scans") / "data", patients=8, image_size=32, slices=3)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    return write_pretrained(tmp_path_factory.mktemp("pretrained"))


@pytest.fixture(scope="module")
def finetuned(scans, pretrained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finetuned") / "run"
    keys = {"pretrained": pretrained / "encoder.safetensors", "spatial_dims": None, "patch_size": None}
    assert segment(dataset_dir=scans, output_dir=folder, max_epochs=2, pictures=True, **keys) == 0
    return folder


# -- what MONAI and its Model Zoo ask


@pytest.mark.parametrize("config", ["train", "evaluate", "inference"])
def test_monai_finds_every_property_that_it_asks_for(config, command, finetuned, scans, tmp_path):
    keys = {"dataset_dir": str(scans), "output_dir": str(tmp_path / "run"), "device": "cpu"}
    keys |= (
        {"spatial_dims": 2, "patch_size": 32} if config == "train" else {"model": str(finetuned / "model.safetensors")}
    )
    (tmp_path / "program.py").write_text(PROPERTIES)
    argument = [str(BUNDLE / "configs" / f"{config}.json"), "train" if config == "train" else "infer", keys]
    ended = command(str(tmp_path / "program.py"), json.dumps(argument), cwd=tmp_path)
    assert ended.status == 0, ended.err[-3000:]
    assert ended.out.splitlines()[-1] == "missing: []"


def test_the_metadata_pass_the_model_zoos_schema():
    data = os.environ.get("MIXSSL_TEST_DATA")
    if not data:
        pytest.skip("MIXSSL_TEST_DATA is unset: the Model Zoo's schema stands beside the folder that it names")
    schema = Path(data).resolve().parent / "zoo" / "meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip("there is no zoo/meta_schema_20240725.json beside the folder that MIXSSL_TEST_DATA names")
    jsonschema.validate(METADATA, json.loads(schema.read_text()))


def test_the_versions_in_the_metadata_are_those_that_are_tested():
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", CONSTRAINTS.read_text().lower(), re.MULTILINE))
    assert METADATA["monai_version"] == pinned["monai"]
    assert METADATA["pytorch_version"] == pinned["torch"]
    assert METADATA["numpy_version"] == pinned["numpy"]
    required = {name.lower(): version for name, version in METADATA["required_packages_version"].items()}
    assert required.pop("monai-mixssl") == monai_mixssl.__version__
    assert required == {name: pinned[name] for name in required}
    assert METADATA["version"] in METADATA["changelog"]
    assert (BUNDLE / "LICENSE").is_file()
    assert (BUNDLE / "large_files.yml").is_file()


def test_every_key_stands_in_the_documentation_and_nothing_else():
    config = json.loads((BUNDLE / "configs" / "train.json").read_text())
    from monai_mixssl.workflows import SEGMENTATION_RULES

    lines = (BUNDLE / "docs" / "README.md").read_text().splitlines()
    first_cells = "".join(line.split("|")[1] for line in lines if line.startswith("| `"))
    documented = set(re.findall(r"`(\w+)`", first_cells))
    assert documented == set(SEGMENTATION_RULES)
    assert set(SEGMENTATION_RULES) <= config.keys()


def test_monais_own_check_of_the_network_passes(command, tmp_path):
    """With a network as the metadata describe it: the default one, in 3D."""
    (tmp_path / "program.py").write_text(
        "import sys\nfrom monai_mixssl.networks import build_segmenter, save_model\n"
        "save_model(sys.argv[1], build_segmenter(3), {'task': 'segmentation', 'classes': ['background', 'brain', "
        "'lesion'], 'label_values': [0, 1, 2], 'preparation': {'spatial_dims': 3, 'in_channels': 1, 'spacing': None, "
        "'normalization': 'auto'}, 'patch_size': [32, 32, 32], 'overlap': 0.25})\n"
    )
    model = tmp_path / "model.safetensors"
    assert command(str(tmp_path / "program.py"), str(model), cwd=tmp_path).status == 0
    ended = command(
        *("monai.bundle", "verify_net_in_out", "network_def", "--config_file", "configs/inference.json"),
        *("--meta_file", "configs/metadata.json", "--n", "3", "--model", str(model)),
        cwd=BUNDLE,
    )
    assert ended.status == 0, ended.err[-3000:]


# -- its three runs


def test_a_run_leaves_behind_what_the_layout_promises(finetuned):
    metrics = metrics_of(finetuned)
    assert metrics["loaded"] == 1.0
    assert metrics["labels"] == 4
    assert metrics["images"] == {"training": 4, "validation": 2, "test": 2}
    assert metrics["classes"] == ["background", "brain", "lesion"]
    assert metrics["leakage"]["checked"] is False
    assert metrics["test"]["count"] == 2
    assert metrics["test"]["unit"] == "mm"
    assert metrics["test"]["classes"].keys() == {"brain", "lesion"}
    network, metadata = load_model(finetuned / "model.safetensors")
    assert metadata["patch_size"] == [32, 32]  # that of the pretraining
    assert metadata["label_values"] == [0, 1, 2]
    state = torch.load(finetuned / "model.pt", weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert network(torch.rand(1, 1, 40, 48)).shape == (1, 3, 40, 48)
    pictures = {path.name for path in (finetuned / "pictures").iterdir()}
    assert pictures == {
        "training.png",
        "training_epoch_0001.png",
        "training_epoch_0002.png",
        "test.png",
        "validation.png",
    }
    with open(finetuned / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2  # splits, images, classes
    assert {row["id"] for row in rows} <= files_of(finetuned).keys()


def test_evaluating_the_run_again_gives_its_own_numbers(command, finetuned, tmp_path):
    ended = command(
        *("monai.bundle", "run", "evaluate", "--config_file", "configs/evaluate.json", "--run_dir", str(finetuned)),
        *("--output_dir", str(tmp_path / "again"), "--num_workers", "0", "--device", "cpu", "--progress", "False"),
        cwd=BUNDLE,
    )
    assert ended.status == 0, ended.err[-3000:]
    again, before = (metrics_of(folder)["test"] for folder in (tmp_path / "again", finetuned))
    assert rounded(again) == rounded(before)
    assert (tmp_path / "again" / "pictures" / "test.png").is_file()


def test_evaluating_other_images_takes_all_of_them(finetuned, scans, tmp_path):
    keys = {"dataset_dir": scans, "model": finetuned / "model.safetensors", "output_dir": tmp_path / "run"}
    assert segment(workflow="SegmentationEvaluateWorkflow", **keys) == 0
    metrics = metrics_of(tmp_path / "run")
    assert metrics["test"]["count"] == 8
    assert metrics["leakage"]["checked"] is False


def test_masks_are_written_in_the_geometry_of_their_images(command, finetuned, tmp_path):
    """The same volume stored in two voxel orders gives the same mask in space."""
    phantoms = write_segmentation_phantoms(tmp_path / "p", patients=1, image_size=32, slices=4)
    source = nib.load(next((phantoms / "imagesTr").iterdir()))
    (tmp_path / "in").mkdir()
    turned = source.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
    for name, image in (("doe_jane", source), ("doe_john", turned)):
        nib.save(image, tmp_path / "in" / f"{name}.nii.gz")
    (tmp_path / "in" / "doe_notes.txt").write_text("no image")
    nib.save(nib.Nifti1Image(np.full((9, 9, 9), 3.0), np.eye(4)), tmp_path / "in" / "doe_constant.nii.gz")
    (tmp_path / "in" / "doe_broken.nii.gz").write_bytes(b"broken")
    ended = command(
        *(
            "monai.bundle",
            "run",
            "infer",
            "--config_file",
            "configs/inference.json",
            "--dataset_dir",
            str(tmp_path / "in"),
        ),
        *("--model", str(finetuned / "model.safetensors"), "--output_dir", str(tmp_path / "out")),
        *("--num_workers", "0", "--device", "cpu", "--progress", "False"),
        cwd=BUNDLE,
    )
    assert ended.status == 0, ended.err[-3000:]
    assert "doe_" not in ended.out.replace(str(tmp_path / "in"), "")
    masks = {path.name for path in (tmp_path / "out" / "masks").iterdir()}
    files = {Path(path).name: one for one, path in files_of(tmp_path / "out").items()}
    assert masks == {f"{files[name]}.nii.gz" for name in ("doe_jane.nii.gz", "doe_john.nii.gz")}
    jane, john = (nib.load(tmp_path / "out" / "masks" / f"{files[f'doe_{n}.nii.gz']}.nii.gz") for n in ("jane", "john"))
    for mask, image in ((jane, source), (john, turned)):
        assert mask.shape == image.shape
        assert mask.get_data_dtype() == np.uint8
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)
    turn = nib.orientations.ornt_transform(*(nib.io_orientation(mask.affine) for mask in (john, jane)))
    np.testing.assert_array_equal(np.asarray(john.as_reoriented(turn).dataobj), np.asarray(jane.dataobj))
    assert len(reasons_of(tmp_path / "out")) == 3
    assert "constant image" in reasons_of(tmp_path / "out")
    public = [path for path in (tmp_path / "out").rglob("*") if "private" not in path.parts and path.is_file()]
    assert not any(b"doe_" in path.read_bytes() or "doe_" in path.name for path in public)
    assert (tmp_path / "out" / "pictures" / "masks.png").is_file()


def test_masks_that_a_killed_run_left_are_not_taken_for_those_of_the_next(finetuned, tmp_path):
    phantoms = write_segmentation_phantoms(tmp_path / "p", patients=3, image_size=32, slices=3)
    out = tmp_path / "out"
    keys = {"dataset_dir": phantoms / "imagesTr", "model": finetuned / "model.safetensors", "output_dir": out}
    assert segment(kill=("validation", 1), workflow="SegmentationInferWorkflow", **keys) == -9
    (left,) = (path.name.split(".")[0] for path in (out / "masks").iterdir())
    files = files_of(out)
    assert len(files) == 3
    Path(files[left]).unlink()  # nothing would write that mask again

    assert segment(workflow="SegmentationInferWorkflow", **keys) == 0
    assert {path.name.split(".")[0] for path in (out / "masks").iterdir()} == files.keys() - {left}
    assert json.loads((out / "run.json").read_text())["status"] == "complete"


def test_volumes_are_segmented_in_3d_and_small_ones_padded(scans, tmp_path):
    """The phantoms' three slices are padded to the patch of 32; one step, since 3D is slow."""
    keys = {"spatial_dims": 3, "batch_size": 1, "max_epochs": 1, "min_steps_per_epoch": 1, "label_fraction": 0.25}
    assert segment(dataset_dir=scans, output_dir=tmp_path / "run", **keys) == 0
    metrics = metrics_of(tmp_path / "run")
    assert metrics["labels"] == 1
    assert metrics["test"]["count"] == 2
    files = {"model": tmp_path / "run" / "model.safetensors", "dataset_dir": scans / "imagesTr"}
    assert segment(workflow="SegmentationInferWorkflow", output_dir=tmp_path / "out", pictures=False, **files) == 0
    sizes = {nib.load(path).shape for path in (tmp_path / "out" / "masks").iterdir()}
    assert sizes == {(32, 32, 3)}


@pytest.mark.parametrize("decoder", ["random", "pretrained", "from scratch"])
def test_the_pretrained_decoder_comes_along_where_it_is_asked_for(decoder, scans, pretrained, tmp_path):
    keys = {"decoder": "light", "pretrained": pretrained / "encoder.safetensors", "learning_rate": 1e-12}
    if decoder != "random":
        keys["pretrained_decoder"] = pretrained / "decoder.safetensors"
    keys["from_scratch"] = decoder == "from scratch"
    short = {"max_epochs": 1, "min_steps_per_epoch": 1}
    assert segment(dataset_dir=scans, output_dir=tmp_path / "run", **short, **keys) == 0
    trained = load_model(tmp_path / "run" / "model.safetensors")[0].state_dict()
    torch.manual_seed(5)
    before = MixSSLNet(spatial_dims=2).state_dict()

    def same(name: str) -> bool:
        return torch.allclose(trained[name], before[name], atol=1e-6)

    assert same(first(before, "encoder.")) == (decoder != "from scratch")
    assert same(first(before, "decoder.blocks.0")) == (decoder == "pretrained")
    assert trained["decoder.head.weight"].shape[0] == 3


def first(state: dict, prefix: str) -> str:
    return next(name for name in state if name.startswith(prefix) and state[name].ndim > 1)


def test_a_network_of_other_classes_is_refused(command, finetuned, scans, tmp_path):
    folder = tmp_path / "data"
    for file in sorted((scans / "imagesTr").iterdir())[:3]:
        image, mask = nib.load(file), nib.load(scans / "labelsTr" / file.name)
        marks = np.asarray(mask.dataobj) * 3
        write_pair(folder, file.name[:-7], np.asarray(image.dataobj), marks.astype(np.uint8), image.affine)
    ended = command(
        *("monai.bundle", "run", "evaluate", "--config_file", "configs/evaluate.json", "--dataset_dir", str(folder)),
        *("--model", str(finetuned / "model.safetensors"), "--output_dir", str(tmp_path / "run"), "--device", "cpu"),
        cwd=BUNDLE,
    )
    assert ended.status == 1
    assert "the masks hold the class '3', which is none of the network's (brain, lesion)" in ended.last_line
