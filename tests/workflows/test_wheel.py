# SPDX-License-Identifier: Apache-2.0
"""The package as it is installed: from a wheel, with its bundles inside."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from bundle_runs import SMALL

from monai_mixssl.data.phantoms import write_phantoms

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: setuptools leaves folders in the source tree."""
    copy = tmp_path_factory.mktemp("source") / "monai-mixssl"
    for name in ("monai_mixssl", "bundles"):
        unwanted = shutil.ignore_patterns("__pycache__", "output", "embeddings", "*.egg-info")
        shutil.copytree(ROOT / name, copy / name, ignore=unwanted)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    built = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(built), str(copy))
    return next(built.glob("monai_mixssl-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    site = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--no-compile", "--target", str(site), str(wheel))
    return site


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_every_module_and_the_whole_bundle(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "monai_mixssl").rglob("*.py")}
    assert modules <= names
    assert "monai_mixssl/py.typed" in names
    for bundle in ("mixssl_classification", "mixssl_pretraining", "mixssl_segmentation"):
        inside = f"monai_mixssl/bundles/{bundle}"
        evaluates = ["evaluate"] if bundle != "mixssl_pretraining" else []
        for name in ("train", "multi_gpu_train", "inference", "metadata", *evaluates):
            assert f"{inside}/configs/{name}.json" in names
        for name in ("configs/logging.conf", "LICENSE", "docs/README.md", "docs/data_license.txt", "large_files.yml"):
            assert f"{inside}/{name}" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


def test_the_installed_command_runs_in_an_empty_folder_and_leaves_the_package_as_it_is(command, installed, tmp_path):
    scans = write_phantoms(tmp_path / "scans", patients=4, image_size=32, slices=3)
    (tmp_path / "empty").mkdir()
    before = {path: path.read_bytes() for path in installed.rglob("*") if path.is_file()}
    # output_dir is left at its default: where the user stands
    keys = {**SMALL, "dataset_dir": scans, "max_epochs": 1, "pictures": True}
    overrides = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    argv = ("monai.bundle", "run", "pretrain", "--workflow_name", "monai_mixssl.PretrainWorkflow", *overrides)
    (tmp_path / "where.py").write_text("import monai_mixssl; print(monai_mixssl.__file__)")
    path = (str(installed),)
    assert command(str(tmp_path / "where.py"), cwd=tmp_path, path=path).out.startswith(str(installed))

    ended = command(*argv, cwd=tmp_path / "empty", path=path)
    assert ended.status == 0, ended.err[-3000:]
    assert [item.name for item in (tmp_path / "empty").iterdir()] == ["output"]
    assert (tmp_path / "empty" / "output" / "encoder.safetensors").is_file()
    after = {item: item.read_bytes() for item in installed.rglob("*") if item.is_file()}
    assert {item: content for item, content in after.items() if item.suffix != ".pyc"} == before
