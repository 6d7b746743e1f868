# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow

import monai_mixssl
from monai_mixssl.errors import ConfigError
from monai_mixssl.workflows import bundle_root

PACKAGE = Path(monai_mixssl.__file__).parent
CONFIG: dict[str, Any] = {
    "imports": ["$import monai_mixssl.workflows as mixssl", "$from monai_mixssl.workflows import values"],
    "bundle_root": ".",
    "dataset_dir": None,
    "max_epochs": 2,
    "resume": False,
    "train": {"trainer": 1},
    "initialize": ["$mixssl.check_config({'resume': values.boolean})"],
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``sys.path`` with the package as a wheel lays it out, bundles inside it; the configs are toys."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(PACKAGE, site / "monai_mixssl", ignore=shutil.ignore_patterns("__pycache__", "bundles"))
    configs = site / "monai_mixssl" / "bundles" / "mixssl_pretraining" / "configs"
    configs.mkdir(parents=True)
    for name, run_id in (("train", "pretrain"), ("inference", "infer")):
        entry = [f"$print('{run_id}', @bundle_root, @dataset_dir, @max_epochs, @resume)"]
        (configs / f"{name}.json").write_text(json.dumps({**CONFIG, run_id: entry}))
    (configs / "two_views.json").write_text(json.dumps({"max_epochs": 7}))
    (configs / "metadata.json").write_text(json.dumps({"version": "0.1.0"}))
    return site


@pytest.fixture
def run(command: Any, installed: Path, tmp_path: Path) -> Any:
    """Runs the bundle command in an empty folder."""
    return lambda *argv: command("monai.bundle", *argv, cwd=tmp_path, path=(str(installed),))


def test_the_real_command_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    argv = ["-m", "monai.bundle", "run", "pretrain", "--workflow_name", "monai_mixssl.PretrainWorkflow"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    ended = subprocess.run(
        [sys.executable, *argv, "--dataset_dir", "scans", "--resume", "true"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    root = installed / "monai_mixssl" / "bundles" / "mixssl_pretraining"
    assert f"pretrain {root} scans 2 True\n" in ended.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "entry"),
    [
        (("run_workflow", "monai_mixssl.PretrainWorkflow"), "pretrain"),
        (("run", "infer", "--workflow_name", "monai_mixssl.InferenceWorkflow"), "infer"),
    ],
)
def test_each_workflow_knows_its_config_and_what_to_run(argv: tuple[str, ...], entry: str, run: Any) -> None:
    ended = run(*argv, "--dataset_dir", "scans", "--max_epochs", "5")
    assert ended.status == 0, ended.err
    assert f"\n{entry} " in ended.out
    assert "scans 5 False\n" in ended.out


def test_two_views_go_on_top_of_the_bundles_own_config_and_below_what_is_typed(run: Any) -> None:
    argv = ("run", "pretrain", "--workflow_name", "monai_mixssl.TwoViewsWorkflow", "--dataset_dir", "scans")
    assert "scans 7 False\n" in run(*argv).out
    assert "scans 5 False\n" in run(*argv, "--max_epochs", "5").out


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("--max_epoch", "unknown key 'max_epoch'; did you mean 'max_epochs'?"),
        ("--trian#trainer#x", "unknown key 'trian#trainer#x'; did you mean 'train'?"),
        ("--zzz#trainer", "unknown key 'zzz#trainer'; the config has no such section, so leave it out"),
    ],
)
def test_a_bad_override_ends_with_one_sentence(override: str, sentence: str, run: Any) -> None:
    ended = run("run", "pretrain", "--workflow_name", "monai_mixssl.PretrainWorkflow", override, "5")
    assert ended.status == 1
    assert ended.last_line == f"monai-mixssl: error: {sentence}"


def test_a_config_of_the_users_own_is_used_as_it_is(run: Any, tmp_path: Path) -> None:
    own = {**CONFIG, "pretrain": ["$print('own', @bundle_root, @max_epochs, @resume)"]}
    (tmp_path / "own.json").write_text(json.dumps(own))
    ended = run("run", "pretrain", "--workflow_name", "monai_mixssl.PretrainWorkflow", "--config_file", "own.json")
    assert ended.status == 0, ended.err
    assert "own . 2 False\n" in ended.out


def test_the_names_resolve_as_monai_looks_for_them() -> None:
    for name in ("PretrainWorkflow", "TwoViewsWorkflow", "InferenceWorkflow"):
        found = locate(f"monai_mixssl.{name}")
        assert isinstance(found, type)
        assert issubclass(found, ConfigWorkflow)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NoWorkflow"):
        monai_mixssl.NoWorkflow  # noqa: B018 (to look it up is the test)


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = "import sys, monai_mixssl; print({'torch', 'monai', 'numpy'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


def test_a_bundle_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match="the bundle 'nothing'"):
        bundle_root("nothing")
