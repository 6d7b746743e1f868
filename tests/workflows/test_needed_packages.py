# SPDX-License-Identifier: Apache-2.0
"""An install without extras says what it lacks before the work, not after it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from monai_mixssl.errors import ConfigError
from monai_mixssl.workflows import bundle_root
from monai_mixssl.workflows.last_line import PREFIX
from monai_mixssl.workflows.needed_packages import refuse_missing_packages

BLOCKED = """
import runpy, sys
sys.modules[sys.argv[1]] = None  # as where it is not installed
sys.argv = ["monai.bundle", *sys.argv[2:]]
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("package", ["tensorboard", "matplotlib"])
def test_a_training_without_a_package_of_the_extras_stops_before_it_writes(
    package: str, command: Any, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(BLOCKED)
    config = bundle_root("mixssl_pretraining") / "configs" / "train.json"
    run = ("run", "pretrain", "--config_file", str(config), "--output_dir", str(tmp_path / "run"))
    ended = command(str(tmp_path / "program.py"), package, *run, cwd=tmp_path)
    assert ended.status == 1
    assert ended.last_line.startswith(f"{PREFIX}the run needs {package}, which is not installed; pip install")
    assert "monai-mixssl[bundle]" in ended.last_line
    assert not (tmp_path / "run").exists()


def test_classes_are_not_scored_without_scikit_learn(command: Any, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(BLOCKED)
    config = bundle_root("mixssl_classification") / "configs" / "evaluate.json"
    run = ("run", "evaluate", "--config_file", str(config), "--run_dir", str(tmp_path), "--output_dir", "out")
    ended = command(str(tmp_path / "program.py"), "sklearn", *run, cwd=tmp_path)
    assert ended.status == 1
    assert ended.last_line.startswith(f"{PREFIX}probes and the scores of classes need scikit-learn; install it with")


def test_what_a_run_does_not_use_it_does_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refuse_missing_packages({"tensorboard": {}, "pictures": False})
    with pytest.raises(ConfigError, match="matplotlib"):
        refuse_missing_packages({"tensorboard": {}, "pictures": True})
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    refuse_missing_packages({"pictures": False})


@pytest.mark.parametrize("bundle", ["mixssl_pretraining", "mixssl_classification", "mixssl_segmentation"])
def test_the_packages_that_are_asked_for_are_those_of_the_training_configs(bundle: str) -> None:
    config = bundle_root(bundle) / "configs" / "train.json"
    parts = ConfigParser(json.loads(config.read_text())).get()
    assert parts["tensorboard"]["_target_"] == "torch.utils.tensorboard.SummaryWriter"
    assert parts["pictures"] is True
