# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import MadeUpRuns, accept, plan, score
from PIL import Image

from monai_mixssl.compare import Comparison, Plan, compare, parse_amounts, parse_protocols
from monai_mixssl.compare.runner import RunCell
from monai_mixssl.errors import ConfigError, DataError, InterruptedRunError, RunFolderError, TrainingError


def made(
    comparison: Plan, output: Path, runs: RunCell, said: list[str] | None = None, picture: bool = False
) -> Comparison:
    report = (said if said is not None else []).append
    return compare(comparison, output, run_cell=runs, check=accept, report=report, picture=picture)


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "compare.jsonl").read_text().splitlines()]


def test_the_table_holds_means_differences_and_intervals(tmp_path: Path) -> None:
    result = made(plan(tmp_path / "in"), tmp_path / "out", MadeUpRuns())
    few = result.rows[0]
    assert few.difference.mean == pytest.approx(0.12)
    # differences 0.10, 0.12, 0.14: deviation 0.02; t of 2 degrees of freedom 4.302653
    assert few.difference.low == pytest.approx(0.12 - 4.302653 * 0.02 / 3**0.5, abs=1e-7)
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "| 5 | 10 | 0.630 ± 0.030 | 0.750 ± 0.050 | +12.0 (+7.0 to +17.0) | 0.009 | 3 |" in page
    assert "| all | 400 | 0.630 ± 0.030 | 0.510 ± 0.010 | -12.0 (-17.0 to -7.0) | 0.009 | 3 |" in page
    assert "leakage not checked" in page
    assert "98.0 %" in page


def test_the_verdict_is_a_sentence_for_each_amount(tmp_path: Path) -> None:
    said: list[str] = []
    made(plan(tmp_path / "in"), tmp_path / "out", MadeUpRuns(), said)
    assert said[-1].splitlines() == [
        "Fine-tuning with 5 labels a class: pretraining helps: +12.0 points of balanced accuracy (95 % interval "
        "+7.0 to +17.0; 3 seeds).",
        "Fine-tuning with all labels: pretraining hurts: -12.0 points of balanced accuracy (95 % interval -17.0 to "
        "-7.0; 3 seeds).",
    ]


def test_a_difference_whose_interval_holds_0_is_not_shown(tmp_path: Path) -> None:
    signs = {0: 1, 1: -1, 2: 1}
    runs = MadeUpRuns(lambda keys: 0.5 if keys["from_scratch"] else 0.5 + 0.1 * signs[keys["seed"]])
    result = made(plan(tmp_path / "in"), tmp_path / "out", runs)
    assert "5 labels a class: not shown that it helps or hurts: +3.3 points" in result.text


def test_the_picture_shows_every_row(tmp_path: Path) -> None:
    protocols = parse_protocols("finetune,linear,knn")
    made(plan(tmp_path / "in"), tmp_path / "one", MadeUpRuns(), picture=True)
    made(plan(tmp_path / "in", protocols=protocols), tmp_path / "three", MadeUpRuns(), picture=True)
    with (
        Image.open(tmp_path / "one" / "comparison.png") as one,
        Image.open(tmp_path / "three" / "comparison.png") as all_,
    ):
        assert one.width == all_.width > 800
        assert all_.height > 2 * one.height
        blue = sum(count for count, colour in all_.convert("RGB").getcolors(2**24) if colour == (52, 101, 164))
    assert blue > 500  # the pretrained arm is drawn


def test_probes_are_compared_with_a_random_frozen_encoder(tmp_path: Path) -> None:
    comparison = plan(tmp_path / "in", protocols=parse_protocols("linear,knn"), amounts=parse_amounts("5"))
    result = made(comparison, tmp_path / "out", MadeUpRuns())
    assert [row.spreads["scratch"].mean for row in result.rows] == [pytest.approx(0.63), pytest.approx(0.43)]
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert page.count("random encoder: balanced accuracy") == 2


def test_a_second_metric_needs_no_second_run(tmp_path: Path) -> None:
    made(plan(tmp_path / "in"), tmp_path / "out", MadeUpRuns())
    again = MadeUpRuns()
    result = made(plan(tmp_path / "in", metric="accuracy"), tmp_path / "out", again)
    assert again.asked == {}
    assert "points of accuracy" in result.text


def test_a_metric_that_no_run_has_is_said_to_be_missing(tmp_path: Path) -> None:
    result = made(plan(tmp_path / "in", metric="auc"), tmp_path / "out", MadeUpRuns())
    assert "no pair of runs to compare" in result.text
    assert "| n/a | n/a |" in (tmp_path / "out" / "comparison.md").read_text()


def test_all_runs_share_the_data_of_the_first(tmp_path: Path) -> None:
    runs = MadeUpRuns()
    made(plan(tmp_path / "in"), tmp_path / "out", runs)
    first = str(tmp_path / "out" / "runs" / "scratch_5_0")
    assert [keys["data_from"] for keys in runs.asked.values()] == [None] + [first] * 11


def test_an_interrupted_comparison_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = made(plan(tmp_path / "in"), tmp_path / "whole", MadeUpRuns())
    stopped = MadeUpRuns(stop="scratch_all_0")
    with pytest.raises(InterruptedRunError, match="the same command goes on"):
        made(plan(tmp_path / "in"), tmp_path / "out", stopped)
    assert [line["cell"] for line in lines(tmp_path / "out")] == ["scratch_5_0", "pretrained_5_0"]
    said: list[str] = []
    rest = MadeUpRuns()
    result = made(plan(tmp_path / "in"), tmp_path / "out", rest, said)
    assert set(rest.asked) == {cell.name for cell in plan(tmp_path / "in").cells} - {"scratch_5_0", "pretrained_5_0"}
    assert rest.asked["scratch_all_0"] == {
        **stopped.asked["scratch_all_0"],
        "resume": True,
    }
    assert "2 made already" in said[0]
    assert result.rows == whole.rows


def test_a_line_that_a_kill_cut_short_counts_for_nothing(tmp_path: Path) -> None:
    made(plan(tmp_path / "in"), tmp_path / "out", MadeUpRuns())
    file = tmp_path / "out" / "compare.jsonl"
    file.write_text(file.read_text()[:-20])
    again = MadeUpRuns()
    made(plan(tmp_path / "in"), tmp_path / "out", again)
    assert list(again.asked) == ["pretrained_all_2"]
    assert len(lines(tmp_path / "out")) == 12


def test_the_failure_of_a_run_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    runs = MadeUpRuns(fail=("pretrained_5_1",))
    with pytest.raises(TrainingError, match=r"1 of 12 runs failed \(pretrained_5_1\); compare.jsonl says why"):
        made(plan(tmp_path / "in"), tmp_path / "out", runs)
    failed = {line["cell"]: line for line in lines(tmp_path / "out") if line["status"] == "failed"}
    assert len(runs.asked) == 12
    assert failed["pretrained_5_1"]["error"] == "the loss is not finite"
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "| 2 (1 runs failed) |" in page  # seeds 0 and 2 make pairs
    again = MadeUpRuns()
    result = made(plan(tmp_path / "in"), tmp_path / "out", again)
    assert list(again.asked) == ["pretrained_5_1"]
    assert result.rows[0].difference.seeds == (0, 1, 2)


def test_where_the_first_run_fails_the_next_prepares_the_data_and_the_first_is_begun_anew(tmp_path: Path) -> None:
    runs = MadeUpRuns(fail=("scratch_5_0",))
    with pytest.raises(TrainingError):
        made(plan(tmp_path / "in"), tmp_path / "out", runs)
    second = str(tmp_path / "out" / "runs" / "pretrained_5_0")
    assert runs.asked["pretrained_5_0"]["data_from"] is None
    assert runs.asked["scratch_all_0"]["data_from"] == second
    leftover = tmp_path / "out" / "runs" / "scratch_5_0" / "of_the_first_attempt"
    leftover.touch()
    again = MadeUpRuns()
    made(plan(tmp_path / "in"), tmp_path / "out", again)
    assert again.asked["scratch_5_0"]["data_from"] == second
    assert not leftover.exists()


def test_what_is_wrong_with_the_data_ends_it_at_the_first_run(tmp_path: Path) -> None:
    asked: list[str] = []

    def leak(task: str, run_id: str, keys: Any, trace: Path) -> None:
        asked.append(Path(keys["output_dir"]).name)
        raise DataError("1 of 4 test patients are in the pretraining list")

    with pytest.raises(DataError, match="1 of 4 test patients"):
        made(plan(tmp_path / "in"), tmp_path / "out", leak)
    assert asked == ["scratch_5_0"]


def test_too_few_images_for_one_amount_do_not_end_the_others(tmp_path: Path) -> None:
    runs = MadeUpRuns(fail=("scratch_all_0",), error=DataError)
    with pytest.raises(TrainingError, match="1 of 12 runs failed"):
        made(plan(tmp_path / "in"), tmp_path / "out", runs)


def test_scans_count_where_the_images_are_their_slices(tmp_path: Path) -> None:
    def sliced(task: str, run_id: str, keys: Any, trace: Path) -> None:
        MadeUpRuns()(task, run_id, keys, trace)
        file = Path(keys["output_dir"]) / "metrics.json"
        content = json.loads(file.read_text())
        content["test"]["scans"] = {"balanced_accuracy": 0.9, "accuracy": 0.8}
        file.write_text(json.dumps(content))

    result = made(plan(tmp_path / "in"), tmp_path / "out", sliced)
    assert result.rows[0].spreads["scratch"].mean == pytest.approx(0.9)
    of_slices = made(plan(tmp_path / "in", metric="slice_balanced_accuracy"), tmp_path / "out", MadeUpRuns(fail=("",)))
    alone = made(plan(tmp_path / "in"), tmp_path / "alone", MadeUpRuns())
    assert of_slices.rows[0].spreads["scratch"].mean == alone.rows[0].spreads["scratch"].mean != pytest.approx(0.9)


def test_checkpoints_of_finished_runs_go_and_models_stay(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        made(plan(tmp_path / "in"), tmp_path / "out", MadeUpRuns(fail=("scratch_5_1",)))
    folders = {folder.name: folder for folder in (tmp_path / "out" / "runs").iterdir()}
    assert {name for name, folder in folders.items() if (folder / "checkpoints").exists()} == {"scratch_5_1"}
    assert all((folder / "model.safetensors").exists() for folder in folders.values())


def test_more_seeds_and_amounts_can_be_added(tmp_path: Path) -> None:
    made(plan(tmp_path / "in", seeds=2), tmp_path / "out", MadeUpRuns())
    more = MadeUpRuns()
    result = made(plan(tmp_path / "in", amounts=parse_amounts("5,20,all")), tmp_path / "out", more)
    assert len(more.asked) == 18 - 8
    assert [len(row.difference.seeds) for row in result.rows] == [3, 3, 3]


def test_probes_which_average_the_slices_of_a_scan_have_no_scores_of_slices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"slice_accuracy is for the protocol finetune alone.* take accuracy"):
        plan(tmp_path, metric="slice_accuracy", protocols=("finetune", "linear"))


def test_an_unfinished_run_with_a_checkpoint_is_no_less_kept_than_a_finished_one(tmp_path: Path) -> None:
    given = plan(tmp_path / "in", keys={"max_epochs": 50})
    with pytest.raises(InterruptedRunError):
        made(given, tmp_path / "out", MadeUpRuns(stop="scratch_5_0"))
    checkpoint = tmp_path / "out" / "runs" / "scratch_5_0" / "checkpoints" / "checkpoint_9000.pt"
    other = plan(tmp_path / "in", keys={"max_epochs": 60})
    checkpoint.write_bytes(b"long work")
    with pytest.raises(RunFolderError, match=r"begun with another .*max_epochs"):
        made(other, tmp_path / "out", MadeUpRuns())
    assert checkpoint.exists()
    checkpoint.unlink()  # nothing to lose: a key that was wrong may be corrected
    assert made(other, tmp_path / "out", MadeUpRuns()).rows


@pytest.mark.parametrize(
    ("changes", "named"), [({"keys": {"max_epochs": 9}}, "max_epochs"), ({"task": "segmentation"}, "task")]
)
def test_a_comparison_with_other_keys_is_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    all_labels = parse_amounts("all")
    made(plan(tmp_path / "in", amounts=all_labels, keys={"max_epochs": 3}), tmp_path / "out", MadeUpRuns())
    other = {"keys": {"max_epochs": 3}, **changes}
    with pytest.raises(RunFolderError, match=f"begun with another .*{named}"):
        made(plan(tmp_path / "in", amounts=all_labels, **other), tmp_path / "out", MadeUpRuns())


def test_another_encoder_at_the_same_place_is_refused(tmp_path: Path) -> None:
    made(plan(tmp_path / "in"), tmp_path / "out", MadeUpRuns())
    (tmp_path / "in" / "encoder.safetensors").write_bytes(b"others")
    with pytest.raises(RunFolderError, match="begun with another pretrained"):
        made(plan(tmp_path / "in"), tmp_path / "out", MadeUpRuns())


def test_an_encoder_for_each_seed_can_be_added_with_the_seed(tmp_path: Path) -> None:
    files = [tmp_path / f"{seed}.safetensors" for seed in range(3)]
    for file in files:
        file.write_bytes(file.name.encode())
    two, three = [str(file) for file in files[:2]], [str(file) for file in files]
    made(plan(tmp_path / "in", pretrained=two, seeds=2), tmp_path / "out", MadeUpRuns())
    more = MadeUpRuns()
    result = made(plan(tmp_path / "in", pretrained=three, seeds=3), tmp_path / "out", more)
    assert {keys["seed"] for keys in more.asked.values()} == {2}
    assert result.rows[0].difference.seeds == (0, 1, 2)
    with pytest.raises(RunFolderError, match="begun with another pretrained"):
        made(plan(tmp_path / "in", pretrained=three[::-1], seeds=3), tmp_path / "out", MadeUpRuns())


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match="not empty and holds no comparison"):
        made(plan(tmp_path / "in"), tmp_path / "out", MadeUpRuns())
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_keys_that_the_bundle_refuses_end_it_before_anything_is_written(tmp_path: Path) -> None:
    def refuse(task: str, run_id: str, keys: Any) -> None:
        raise ConfigError("unknown key 'epochs'")

    with pytest.raises(ConfigError, match="unknown key 'epochs'"):
        compare(plan(tmp_path / "in"), tmp_path / "out", run_cell=MadeUpRuns(), check=refuse)
    assert not (tmp_path / "out").exists()


def test_the_time_that_is_left_is_told_after_each_run_but_the_last(tmp_path: Path) -> None:
    said: list[str] = []
    made(plan(tmp_path / "in"), tmp_path / "out", MadeUpRuns(), said)
    assert "12 runs (3 seeds, 5 labels a class, all labels)" in said[0]
    ends = [line for line in said if " done" in line]
    assert [bool(re.search(r"; (\d+) to go, about \d+ s\.$", line)) for line in ends] == [True] * 11 + [False]


def test_paths_stand_under_private_alone(tmp_path: Path) -> None:
    folder = tmp_path / "Doe^Jane"
    keys = {"dataset_dir": str(folder / "scans"), "max_epochs": 2}
    said: list[str] = []
    with pytest.raises(TrainingError):
        made(plan(folder, keys=keys), tmp_path / "out", MadeUpRuns(fail=("scratch_all_1",)), said, picture=True)
    public = [
        file
        for file in (tmp_path / "out").rglob("*")
        if file.is_file() and "private" not in file.parts and file.parts[len(tmp_path.parts) + 1] != "runs"
    ]
    assert {file.name for file in public} == {"compare.jsonl", "comparison.md", "comparison.png"}
    for text in [file.read_bytes() for file in public] + ["\n".join(said).encode()]:
        assert b"Doe^Jane" not in text
        assert str(tmp_path).encode() not in text
    assert "Doe^Jane" in (tmp_path / "out" / "private" / "compare.json").read_text()
    assert (tmp_path / "out" / "private").stat().st_mode & 0o777 == 0o700


def test_a_key_corrected_before_any_run_ended_well_begins_anew(tmp_path: Path) -> None:
    runs = MadeUpRuns(fail=("scratch_5_0",), error=DataError)
    with pytest.raises(DataError):
        made(plan(tmp_path / "in", keys={"dataset_dir": "misspelt"}), tmp_path / "out", runs)
    corrected = plan(tmp_path / "in", keys={"dataset_dir": "spelt"})
    assert made(corrected, tmp_path / "out", MadeUpRuns()).rows[0].failed == 0
    with pytest.raises(RunFolderError, match="another dataset_dir"):
        made(plan(tmp_path / "in", keys={"dataset_dir": "other"}), tmp_path / "out", MadeUpRuns())


def test_data_without_test_images_stop_the_first_run(tmp_path: Path) -> None:
    asked = []

    def untested(task: str, run_id: str, keys: Any, trace: Path) -> None:
        asked.append(keys)
        MadeUpRuns()(task, run_id, keys, trace)
        (Path(keys["output_dir"]) / "metrics.json").write_text(json.dumps({"test": None}))

    with pytest.raises(DataError, match="test_fraction"):
        made(plan(tmp_path / "in"), tmp_path / "out", untested)
    assert len(asked) == 1


def test_a_run_without_a_defined_score_is_counted(tmp_path: Path) -> None:
    def undefined(task: str, run_id: str, keys: Any, trace: Path) -> None:
        MadeUpRuns(lambda keys: float("nan") if keys["seed"] == 1 else score(keys))(task, run_id, keys, trace)

    result = made(plan(tmp_path / "in"), tmp_path / "out", undefined)
    assert [(row.undefined, len(row.difference.seeds)) for row in result.rows] == [(2, 2), (2, 2)]
    assert "2 runs without a defined score" in result.text
    assert "2 runs without a defined score" in (tmp_path / "out" / "comparison.md").read_text()
