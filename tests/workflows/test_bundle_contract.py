# SPDX-License-Identifier: Apache-2.0
"""What MONAI and its Model Zoo expect of a bundle."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import os
import pkgutil
import re
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import BUNDLE, run
from named_scans import SENTINELS, leaks, write_named_scans

import monai_mixssl
from monai_mixssl.networks import MixSSLNet, load_embedding, save_encoder
from monai_mixssl.workflows.last_line import PREFIX

METADATA = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
INFER = ("run", "infer", "--config_file", "configs/inference.json")


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """Four patients of four slices; one slice of one volume shows nothing."""
    folder = write_named_scans(tmp_path_factory.mktemp("scans") / "data", patients=4)
    volume = next(folder.glob("nifti/*/MRNFILE.nii.gz"))
    image = nib.load(volume)
    array = np.asarray(image.dataobj).copy()
    array[..., 1] = array.min()
    nib.save(nib.Nifti1Image(array, image.affine, image.header), volume)
    return folder


@pytest.fixture(scope="module")
def pretrained(scans, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    assert run(dataset_dir=scans, output_dir=folder, max_epochs=1) == 0
    return folder


@pytest.fixture(scope="module")
def embedded(command, scans, pretrained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("embedded") / "features"
    given = {"dataset_dir": scans, "encoder": pretrained / "encoder.safetensors", "output_dir": folder}
    overrides = [part for key, value in {**given, "num_workers": 0}.items() for part in (f"--{key}", str(value))]
    ended = command("monai.bundle", *INFER, *overrides, cwd=BUNDLE)
    assert ended.status == 0, ended.err[-3000:]
    assert not SENTINELS.search((ended.out + ended.err).encode())
    assert "1 of 16 slices left out: too little foreground (min_foreground 0.1); manifest.json" in ended.out
    return folder


def rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as opened:
        return list(csv.DictReader(opened))


# in a process of its own: `initialize` sets the seeds, the hook for uncaught exceptions, and maybe the logging
PROPERTIES = """
import json, sys
from monai.bundle import ConfigWorkflow
config, workflow_type, keys = json.loads(sys.argv[1])
workflow = ConfigWorkflow(config, workflow_type=workflow_type, logging_file=False, **keys)
workflow.initialize()
print("missing:", json.dumps(workflow.check_properties()))
"""


@pytest.mark.parametrize("config", ["train", "inference"])
def test_monai_finds_every_property_that_it_asks_for(config, command, pretrained, scans, tmp_path):
    keys = {"dataset_dir": str(scans), "output_dir": str(tmp_path / "run"), "device": "cpu"}
    keys |= {"patch_size": 32} if config == "train" else {"encoder": str(pretrained / "encoder.safetensors")}
    (tmp_path / "program.py").write_text(PROPERTIES)
    argument = [str(BUNDLE / "configs" / f"{config}.json"), {"train": "train", "inference": "infer"}[config], keys]
    ended = command(str(tmp_path / "program.py"), json.dumps(argument), cwd=tmp_path)
    assert ended.status == 0, ended.err[-3000:]
    assert ended.out.splitlines()[-1] == "missing: []"


def test_no_name_that_a_config_can_ask_for_is_a_modules_too():
    # of a function and a module of one name, pydoc.locate, by which MONAI finds a `_target_`, gives the function up to
    # Python 3.11, and the module in later ones
    packages = [monai_mixssl, *(importlib.import_module(name) for name in subpackages())]
    for package in packages:
        modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
        assert modules.isdisjoint(getattr(package, "__all__", ())), package.__name__


@pytest.mark.parametrize(
    "config", sorted(BUNDLE.parent.glob("*/configs/*.json")), ids=lambda f: f"{f.parts[-3]} {f.stem}"
)
def test_every_target_of_a_config_can_be_called(config):
    for target in re.findall(r'"_target_": "(monai[\w.]+)"', config.read_text()):
        package, _, name = target.rpartition(".")
        assert callable(getattr(importlib.import_module(package), name)), target
        assert not is_module(target), target


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def subpackages():
    found = pkgutil.walk_packages(monai_mixssl.__path__, "monai_mixssl.")
    return [module.name for module in found if module.ispkg]


def test_the_metadata_pass_the_model_zoos_schema():
    data = os.environ.get("MIXSSL_TEST_DATA")
    if not data:
        pytest.skip("MIXSSL_TEST_DATA is unset: the Model Zoo's schema stands beside the folder that it names")
    schema = Path(data).resolve().parent / "zoo" / "meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip("there is no zoo/meta_schema_20240725.json beside the folder that MIXSSL_TEST_DATA names")
    assert METADATA["schema"].endswith(schema.name)
    jsonschema.validate(METADATA, json.loads(schema.read_text()))


def test_the_metadata_hold_what_the_model_zoo_requires():
    for name in ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description"):
        assert isinstance(METADATA[name], str), name
    assert METADATA["authors"]
    assert METADATA["copyright"]
    assert METADATA["version"] in METADATA["changelog"]
    formats = METADATA["network_data_format"]
    for tensor in (*formats["inputs"].values(), *formats["outputs"].values()):
        assert {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"} <= tensor.keys()
    assert (BUNDLE / "LICENSE").is_file()
    for file in BUNDLE.rglob("*"):
        assert file.is_dir() or file.stat().st_size < 25e6


def test_the_versions_in_the_metadata_are_those_that_are_tested():
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", CONSTRAINTS.read_text().lower(), re.MULTILINE))
    assert METADATA["monai_version"] == pinned["monai"]
    assert METADATA["pytorch_version"] == pinned["torch"]
    assert METADATA["numpy_version"] == pinned["numpy"]
    required = {name.lower(): version for name, version in METADATA["required_packages_version"].items()}
    assert required.pop("monai-mixssl") == monai_mixssl.__version__
    assert required == {name: pinned[name] for name in required}
    assert {"nibabel", "pydicom", "simpleitk", "safetensors", "pytorch-ignite", "fire"} <= required.keys()


def test_monais_own_check_of_the_network_passes(command, tmp_path):
    save_encoder(tmp_path / "encoder.safetensors", MixSSLNet())  # the default network, which the metadata describe
    ended = command(
        *("monai.bundle", "verify_net_in_out", "network_def", "--config_file", "configs/inference.json"),
        *("--meta_file", "configs/metadata.json", "--encoder", str(tmp_path / "encoder.safetensors")),
        cwd=BUNDLE,
    )
    assert ended.status == 0, ended.err
    expected = METADATA["network_data_format"]["outputs"]["pred"]["num_channels"]
    for n in (4, 5):
        features = load_embedding(tmp_path / "encoder.safetensors")(torch.rand(2, 1, 8 * n, 8 * n))
        assert features.shape == (2, expected)


def test_each_slice_gets_a_row_that_private_leads_back_to_its_file(embedded, scans):
    table = rows(embedded / "embeddings.csv")
    paths: dict[str, list[str]] = {}
    for row in rows(embedded / "private" / "files.csv"):
        paths.setdefault(row["id"], []).append(row["path"])
    slices: dict[str, list[int]] = {}
    for row in table:
        slices.setdefault(row["id"], []).append(int(row["slice"]))
    features = np.array([[float(value) for name, value in row.items() if name[:8] == "feature_"] for row in table])
    assert features.shape == (len(table), 192)
    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) == len(table)

    kept = {paths[image][0]: numbers for image, numbers in slices.items()}
    volumes = {path: numbers for path, numbers in kept.items() if "odd" not in path}
    assert len(volumes) == 4
    emptied = str(next(scans.glob("nifti/*/MRNFILE.nii.gz")))
    for path, numbers in volumes.items():
        assert Path(path).is_relative_to(scans)
        assert len(numbers) == (3 if path == emptied else 4), path
    assert 1 not in volumes[emptied] or 2 not in volumes[emptied]  # the number is that in the volume
    assert max(volumes[emptied]) == 3


def test_the_rows_are_the_features_of_the_prepared_images(embedded, pretrained):
    network = load_embedding(pretrained / "encoder.safetensors")
    table = rows(embedded / "embeddings.csv")
    for row in table[:2]:
        record = json.loads((embedded / "private" / "prepared" / f"{row['id']}.json").read_text())["outcome"][1]
        stored = np.load(embedded / "private" / "prepared" / f"{row['id']}.npy")
        image = torch.from_numpy(stored[record["slices"].index(int(row["slice"]))].astype(np.float32))
        sides = [-(-size // 8) * 8 for size in image.shape[1:]]
        padded = torch.zeros(1, *sides)
        corner = [(side - size) // 2 for side, size in zip(sides, image.shape[1:], strict=True)]
        padded[:, corner[0] : corner[0] + image.shape[1], corner[1] : corner[1] + image.shape[2]] = image
        with torch.no_grad():
            expected = network(padded[None])[0].numpy()
        found = np.array([float(value) for name, value in row.items() if name[:8] == "feature_"])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_nothing_private_is_in_the_table_or_beside_it(embedded, scans):
    assert leaks(embedded, str(scans).encode()) == []


def test_each_volume_gets_a_row_in_3d(command, scans, tmp_path):
    torch.manual_seed(0)
    preparation = json.loads(
        '{"spatial_dims": 3, "in_channels": 1, "patch_size": [32, 32, 32], "spacing": null, "normalization": "auto", '
        '"min_foreground": 0.05, "max_pad": 2.0}'
    )
    save_encoder(tmp_path / "encoder.safetensors", MixSSLNet(spatial_dims=3), {"preparation": preparation})
    given = {"dataset_dir": scans, "encoder": tmp_path / "encoder.safetensors", "output_dir": tmp_path / "features"}
    overrides = [part for key, value in {**given, "num_workers": 0}.items() for part in (f"--{key}", str(value))]
    ended = command("monai.bundle", *INFER, *overrides, cwd=BUNDLE)
    assert ended.status == 0, ended.err[-3000:]
    table = rows(tmp_path / "features" / "embeddings.csv")
    assert len(table) == len({row["id"] for row in table}) == 4
    assert {row["slice"] for row in table} == {""}
    assert {row["id"] for row in table} <= {row["id"] for row in rows(tmp_path / "features" / "private" / "files.csv")}


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_an_encoder_that_cannot_be_read_ends_inference_with_one_sentence(damage, command, scans, tmp_path):
    encoder = tmp_path / "doe_jane.safetensors"
    if damage == "damaged":
        encoder.write_bytes(b"no weights")
    keys = ("--dataset_dir", str(scans), "--encoder", str(encoder), "--output_dir", str(tmp_path / "features"))
    ended = command("monai.bundle", *INFER, *keys, cwd=BUNDLE)
    assert ended.status == 1
    assert ended.last_line.startswith(f"{PREFIX}The encoder file ")
    assert "pretraining run" in ended.last_line
    assert "doe_jane" not in ended.last_line
    assert "Traceback" not in ended.err
    assert not (tmp_path / "features" / "run.json").exists()
