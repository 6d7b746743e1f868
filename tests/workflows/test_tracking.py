# SPDX-License-Identifier: Apache-2.0
"""``--tracking mlflow``: one run in MLflow for one training, without paths, whichever way the bundle is called."""

from __future__ import annotations

import json
import sqlite3
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from bundle_runs import BUNDLE, SMALL, run
from ignite.engine import Events

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.errors import ConfigError, TrackingError
from monai_mixssl.handlers import MLflowTracking, read_log
from monai_mixssl.workflows import tracking

needs_mlflow = pytest.mark.skipif(
    not all(find_spec(name) for name in ("mlflow", "sqlalchemy", "alembic")),
    reason="MLflow is not installed: pip install 'monai-mixssl[mlflow]'",
)
SPELLINGS = {
    "by config": ("--config_file", "configs/train.json"),
    "by name": ("--workflow_name", "monai_mixssl.PretrainWorkflow"),
}
OURS = {"_target_": "monai_mixssl.handlers.MLflowTracking"}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("data") / "scans", patients=6, image_size=32, slices=4)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that several runs share: making one takes MLflow a second."""
    return tmp_path_factory.mktemp("tracked") / "mlruns.db"


def rows(database: Path, table: str, run_id: str | None = None) -> list[dict[str, Any]]:
    with sqlite3.connect(database) as connection:
        connection.row_factory = sqlite3.Row
        found = [dict(row) for row in connection.execute(f"select * from {table}")]
    return [row for row in found if run_id is None or row["run_uuid"] == run_id]


def pretrain(command: Any, spelling: str, *more: str, scans: Path, folder: Path) -> Any:
    keys = {**SMALL, "max_epochs": 2, "dataset_dir": scans, "output_dir": folder}
    overrides = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    return command("monai.bundle", "run", "pretrain", *SPELLINGS[spelling], *overrides, *more, cwd=BUNDLE)


@needs_mlflow
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_tracking_logs_keys_losses_and_metrics_and_the_configuration_without_paths(
    spelling, command, scans, database, tmp_path
):
    folder = tmp_path / "run"
    database = database if spelling == "by name" else folder / "private" / "mlruns.db"
    where = ("--tracking_uri", f"sqlite:///{database}") if spelling == "by name" else ("--tracking", "mlflow")
    ended = pretrain(command, spelling, *where, "--run_name", "first", scans=scans, folder=folder)
    assert ended.status == 0, ended.err[-3000:]
    assert not list(folder.glob("config_*"))
    (only,) = (row for row in rows(database, "runs") if row["name"] == "first")
    run_id = only["run_uuid"]
    assert only["status"] == "FINISHED"
    parameters = {row["key"]: row["value"] for row in rows(database, "params", run_id)}
    assert parameters | {"patch_size": "32", "source": "dead_leaves", "transparency": "[0.0, 1.0]"} == parameters
    assert not {"dataset_dir", "output_dir", "bundle_root", "tracking_uri", "source_dir"} & parameters.keys()
    metrics = {(row["key"], row["step"]): row["value"] for row in rows(database, "metrics", run_id)}
    log = read_log(folder / "log.jsonl")
    place = {"event", "epoch", "iteration", "seconds"}
    expected = {(name, line["iteration"]): line[name] for line in log for name in line.keys() - place}
    assert {"loss", "reconstruction_loss", "transparency_loss", "val_loss", "transparency_r2"} <= {
        name for name, _ in expected
    }
    assert metrics == pytest.approx(expected)
    (artifact,) = (database.parent / "mlruns" / run_id).rglob("*.json")
    assert artifact.read_bytes() == (folder / "config.json").read_bytes()
    assert str(tmp_path).encode() not in artifact.read_bytes()


@needs_mlflow
def test_a_resumed_training_goes_on_with_its_run_in_mlflow_and_a_new_one_does_not(scans, database, tmp_path):
    keys = {"dataset_dir": scans, "tracking_uri": f"sqlite:///{database}", "max_epochs": 2}
    before = {row["run_uuid"] for row in rows(database, "runs")} if database.exists() else set()
    assert run(kill=("training", 7), output_dir=tmp_path / "run", **keys) == -9
    assert run(output_dir=tmp_path / "other", **keys) == 0
    assert run(output_dir=tmp_path / "run", resume=True, num_workers=1, **keys) == 0
    runs = {row["run_uuid"]: row["status"] for row in rows(database, "runs") if row["run_uuid"] not in before}
    first = (tmp_path / "run" / "private" / "mlflow_run").read_text()
    assert set(runs) == {first, (tmp_path / "other" / "private" / "mlflow_run").read_text()}
    assert set(runs.values()) == {"FINISHED"}
    steps = {row["step"] for row in rows(database, "metrics", first) if row["key"] == "loss"}
    assert steps == {line["iteration"] for line in read_log(tmp_path / "run" / "log.jsonl") if line["event"] == "train"}


def tracked(small_run: Any, uri: str, folder: Path) -> Any:
    """A small training that logs each iteration."""
    small = small_run()
    (folder / "config.json").write_text('{"seed": 0}')
    files = {"config": folder / "config.json", "run_file": folder / "mlflow_run"}
    return small, MLflowTracking(uri, validator=small.evaluator, interval=1, **files)


@needs_mlflow
def test_training_goes_on_when_mlflow_fails_in_the_middle(small_run, database, tmp_path, caplog):
    small, handler = tracked(small_run, f"sqlite:///{database}", tmp_path)
    handler.attach(small.trainer)

    @small.trainer.on(Events.ITERATION_STARTED(once=3))
    def break_down() -> None:
        handler.client.log_batch = fail

    small.trainer.run()
    assert small.trainer.state.epoch == 2
    said = [record.getMessage() for record in caplog.records if "MLflow" in record.getMessage()]
    assert said == ["MLflow does not answer (ConnectionError); the training goes on without it."]


def fail(*arguments: Any, **keys: Any) -> None:
    raise ConnectionError("http://user:secret@server")


@needs_mlflow
def test_a_training_does_not_begin_when_mlflow_cannot_be_used(small_run, database, tmp_path):
    small, handler = tracked(small_run, f"sqlite:///{database}", tmp_path)
    handler.attach(small.trainer)
    handler.client.create_run = fail
    with pytest.raises(TrackingError, match=r"^MLflow cannot be used \(ConnectionError\); check tracking_uri"):
        small.trainer.run()
    with pytest.raises(TrackingError, match=r"^MLflow cannot be used \(\w+\)"):
        tracked(small_run, "gopher://nowhere", tmp_path)


REFUSED = {
    ("--tracking", "{settings}"): "MLflow is set up by the keys tracking_uri, experiment_name and run_name alone",
    ("--tracking", "mlflow", "--save_execute_config", "True"): "save_execute_config writes paths beside the results",
    ("--tracking_uri", "mlruns"): "tracking_uri must be none or an address such as http://server:5000 or sqlite:///",
}


@pytest.mark.parametrize("given", REFUSED, ids=" ".join)
def test_what_would_write_paths_down_is_refused_with_one_sentence(given, command, scans, tmp_path):
    settings = {"handlers_id": {"trainer": {"id": "train#trainer", "handlers": "train#handlers"}}}
    settings["configs"] = {"trainer": {"_target_": "MLFlowHandler", "tracking_uri": "sqlite:///elsewhere.db"}}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    more = [part.format(settings=tmp_path / "settings.json") for part in given]
    ended = pretrain(command, "by config", *more, scans=scans, folder=tmp_path / "run")
    assert ended.status == 1
    assert ended.last_line.startswith(f"monai-mixssl: error: {REFUSED[given]}")
    assert not (tmp_path / "run" / "private").exists()


def test_a_command_that_does_not_train_takes_no_tracking(command, scans, tmp_path):
    keys = ("--dataset_dir", str(scans), "--output_dir", str(tmp_path / "features"), "--tracking", "mlflow")
    ended = command("monai.bundle", "run", "infer", "--config_file", "configs/inference.json", *keys, cwd=BUNDLE)
    assert ended.status == 1
    assert "tracking_uri and --tracking are for training" in ended.last_line
    assert not (tmp_path / "features").exists()


def test_without_mlflow_a_run_that_asks_for_it_ends_before_it_begins(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking.use_own_tracking({"tracking_uri": None, "train": {"handlers": [OURS]}})
    with pytest.raises(ConfigError, match=r"pip install 'monai-mixssl\[mlflow\]'"):
        tracking.use_own_tracking({"tracking_uri": "http://server", "train": {"handlers": [OURS]}})


def test_a_database_needs_more_of_mlflow_than_a_server(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: name == "mlflow" or None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking.use_own_tracking({"tracking_uri": "http://server", "train": {"handlers": [OURS]}})
    with pytest.raises(ConfigError, match="not installed"):
        tracking.use_own_tracking({"tracking_uri": "sqlite:////mlruns.db", "train": {"handlers": [OURS]}})
