# SPDX-License-Identifier: Apache-2.0
"""What is recorded of images that go bad in training, and what a resumed run makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.handlers import ValidationHandler
from monai.transforms import Compose, MapTransform, RandGaussianNoised

from monai_mixssl.data.sampler import EpochBatchSampler
from monai_mixssl.data.seeded_dataset import SeededDataset
from monai_mixssl.engines import PrecisionEvaluator, PrecisionTrainer
from monai_mixssl.errors import ConfigError, TrainingError
from monai_mixssl.handlers import EpochPosition, JsonLinesLog, RunCheckpoint, Substitutions, read_log

ITEMS, BATCH, STEPS, EPOCHS = 12, 3, 4, 3


class Read(MapTransform):
    """A number out of a file, as often as there are pixels."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        value = float(Path(data["image"]).read_text()) / 10
        return {**data, "image": torch.full((4,), value), "label": torch.full((1,), value)}


@pytest.fixture
def files(tmp_path) -> list[dict[str, str]]:
    (tmp_path / "SENTINEL").mkdir()
    for number in range(ITEMS):
        (tmp_path / "SENTINEL" / f"{number}").write_text(f"{number}")
    return [{"image": str(tmp_path / "SENTINEL" / f"{number}"), "id": f"id{number}"} for number in range(ITEMS)]


class Killed(Exception):
    pass


class Run:
    """A run of 3 epochs of 4 steps; ``trained`` is which file each item of each batch was made of.

    Args:
        files: of the items.
        folder: the output folder.
        at: what to do after some iterations, by their number; after 0: before the first.
        kill_at: iteration before whose step the run ends.
        validate: whether there is a validation each epoch, of the same items.
        options: for ``Substitutions``; ``workers``: loader's processes.
    """

    def __init__(
        self,
        files: list[dict[str, str]],
        folder: Path,
        at: dict[int, Callable[[], Any]] | None = None,
        kill_at: int | None = None,
        resume: bool = False,
        validate: bool = False,
        workers: int = 0,
        **options: Any,
    ) -> None:
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        self.folder, self.at, self.kill_at = folder, at or {}, kill_at
        self.path, self.log = folder / "substituted.jsonl", folder / "log.jsonl"
        chain = Compose([Read("image"), RandGaussianNoised("image", prob=1.0, std=0.001)])
        self.dataset = SeededDataset(Dataset(files, chain), seed=3, substitute=True)
        self.sampler = EpochBatchSampler(ITEMS, BATCH, seed=3)
        loader = DataLoader(self.dataset, batch_sampler=self.sampler, num_workers=workers, generator=torch.Generator())
        network = torch.nn.Linear(4, 1)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
        self.network = network
        self.trainer = PrecisionTrainer("cpu", EPOCHS, loader, network, optimizer, torch.nn.MSELoss())
        self.trained: dict[int, list[int]] = {}
        EpochPosition(self.dataset, self.sampler).attach(self.trainer)
        evaluator = val_dataset = None
        if validate:
            val_dataset = SeededDataset(Dataset(files, chain), seed=4, substitute=True)
            val_loader = DataLoader(val_dataset, batch_size=5, generator=torch.Generator())
            evaluator = PrecisionEvaluator("cpu", val_loader, network)
        self.handler = Substitutions(
            self.dataset,
            self.sampler,
            self.path,
            resume=resume,
            log=self.log,
            validator=evaluator,
            val_dataset=val_dataset,
            **options,
        )
        self.handler.attach(self.trainer)
        self.trainer.add_event_handler(Events.ITERATION_STARTED, self._look)
        if evaluator is not None:
            ValidationHandler(1, evaluator).attach(self.trainer)
        JsonLinesLog(self.log, evaluator, interval=1).attach(self.trainer)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._after)
        state = {"network": network, "optimizer": optimizer, "trainer": self.trainer}
        self.checkpoint = RunCheckpoint(folder / "checkpoints", state, resume=resume, interval=2)

    def go(self) -> Run:
        self._do(0)
        self.checkpoint.run(self.trainer)
        return self

    def killed(self) -> Run:
        with pytest.raises(Killed):
            self.go()
        return self

    def _look(self, engine: PrecisionTrainer) -> None:
        self.trained[engine.state.iteration] = (10 * engine.state.batch["image"][:, 0]).round().int().tolist()
        if engine.state.iteration == self.kill_at:
            raise Killed

    def _after(self, engine: PrecisionTrainer) -> None:
        self._do(engine.state.iteration)

    def _do(self, iteration: int) -> None:
        self.at.get(iteration, lambda: None)()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return read_log(self.path) if self.path.exists() else []

    @property
    def logged(self) -> list[dict[str, Any]]:
        return [{k: v for k, v in line.items() if k != "seconds"} for line in read_log(self.log)]

    def ends_like(self, other: Run) -> bool:
        states = zip(self.network.state_dict().values(), other.network.state_dict().values(), strict=True)
        trained = {iteration: other.trained[iteration] for iteration in self.trained}
        return all(torch.equal(a, b) for a, b in states) and self.trained == trained and self.logged == other.logged


def remove(*files: dict[str, str]) -> Callable[[], None]:
    return lambda: [Path(one["image"]).unlink() for one in files] and None


def put_back(*files: dict[str, str]) -> Callable[[], None]:
    return lambda: [Path(one["image"]).write_text(one["id"][2:]) for one in files] and None


def test_nothing_is_written_where_nothing_goes_bad(files, tmp_path, capsys):
    run = Run(files, tmp_path / "run", validate=True).go()
    assert not run.path.exists()
    assert {line["event"] for line in run.logged} == {"train", "validation"}
    assert "could not be read" not in capsys.readouterr().out


@pytest.mark.parametrize("workers", [0, 2])
def test_each_stand_in_is_written_down_before_the_step_that_it_takes_part_in(files, tmp_path, workers, capsys, caplog):
    run = Run(files, tmp_path / "run", {4: remove(files[3])}, workers=workers)
    seen: dict[int, int] = {}
    run.trainer.add_event_handler(
        Events.ITERATION_STARTED, lambda engine: seen.update({engine.state.iteration: len(run.lines)})
    )
    run.go()
    assert [line["epoch"] for line in run.lines] == [2, 3]
    assert run.trained.keys() == {*range(1, 13)}
    order = EpochBatchSampler(ITEMS, BATCH, seed=3)
    for line in run.lines:
        assert line["id"] == "id3"
        assert line["index"] == 3
        assert line["replaced_by"] == f"id{line['by']}"
        assert (line["split"], line["reason"]) == ("training", "cannot be read any more")
        order.set_position(line["epoch"])
        assert [b for b, batch in enumerate(order) if 3 in batch] == [
            line["iteration"] - (line["epoch"] - 1) * STEPS - 1
        ]
        assert line["by"] in run.trained[line["iteration"]]
        assert 3 not in run.trained[line["iteration"]]
        assert seen[line["iteration"]] == seen[line["iteration"] - 1] + 1
    events = [line for line in run.logged if line["event"] == "substitution"]
    assert events == [{"event": "substitution", **line} for line in run.lines]
    assert capsys.readouterr().out.splitlines() == [
        "1 training images could not be read at some time; others stood in for them 2 times (substituted.jsonl lists "
        "them by id)."
    ]
    assert caplog.text.count("image id3 (training): cannot be read any more; another one stands in for it.") == 1
    assert "SENTINEL" not in run.path.read_text() + run.log.read_text() + caplog.text


# Two files go, or come back, after an iteration; there is a checkpoint after every second, and the run is killed in the
# step of another. They are in the batches 1, 5, 10 and 2, 7, 11: each time something has to be done again.
POINTS = {
    "gone for good before the checkpoint": ({6: "remove"}, 10),
    "gone for good after it": ({6: "remove"}, 8),
    "back before the resume": ({6: "remove", 8: "back"}, 8),
    "back before the resume, in the middle of an epoch": ({4: "remove", 5: "back"}, 6),
    "gone in the last epoch": ({10: "remove"}, 12),
    "gone from the start": ({0: "remove"}, 2),
}


@pytest.mark.parametrize("case", POINTS)
@pytest.mark.parametrize("validate", [False, True])
def test_a_run_that_is_killed_and_resumed_ends_like_one_that_was_not(files, tmp_path, case, validate):
    changes, kill_at = POINTS[case]
    bad = (files[3], files[5])
    acts = {at: (remove if what == "remove" else put_back)(*bad) for at, what in changes.items()}
    whole = Run(files, tmp_path / "whole", acts, validate=validate).go()
    assert whole.lines
    put_back(*bad)()
    killed = Run(files, tmp_path / "run", acts, kill_at=kill_at, validate=validate).killed()
    assert any(kill_at - 2 <= line["iteration"] <= kill_at for line in killed.lines)
    # what happens after the killed step in the whole run happens while this one is down
    acts.get(kill_at, lambda: None)()
    later = {at: act for at, act in acts.items() if at > kill_at}
    resumed = Run(files, tmp_path / "run", later, resume=True, validate=validate).go()
    assert min(resumed.trained) in (kill_at - 1, 1)
    assert resumed.ends_like(whole)
    assert resumed.lines == whole.lines


def test_what_was_trained_on_is_replayed_though_the_file_is_back_and_used_again_from_then_on(files, tmp_path):
    first = Run(files, tmp_path / "run", {6: remove(*files[:6])}, kill_at=8).killed()
    replayed = {iteration: batch for iteration, batch in first.trained.items() if iteration > 6}
    assert any(line["iteration"] > 6 for line in first.lines)
    put_back(*files[:6])()
    resumed = Run(files, tmp_path / "run", resume=True).go()
    assert {iteration: resumed.trained[iteration] for iteration in replayed} == replayed
    assert resumed.lines == first.lines
    last_epoch = [number for iteration in range(9, 13) for number in resumed.trained[iteration]]
    assert sorted(last_epoch) == [*range(ITEMS)]


def test_where_a_stand_in_has_gone_too_another_one_is_drawn_and_the_new_line_counts(files, tmp_path):
    first = Run(files, tmp_path / "run", {6: remove(files[5])}, kill_at=8).killed()
    [line] = [line for line in first.lines if line["iteration"] > 6]
    remove(files[line["by"]])()
    second = Run(files, tmp_path / "run", kill_at=8, resume=True).killed()
    lines = [one for one in second.lines if one["index"] == 5 and one["iteration"] == line["iteration"]]
    assert [one["id"] for one in lines] == ["id5", "id5"]
    assert lines[1]["by"] not in (5, line["by"])
    put_back(files[5], files[line["by"]])()
    third = Run(files, tmp_path / "run", resume=True).go()
    assert third.trained[line["iteration"]] == second.trained[line["iteration"]]


def test_a_last_line_cut_short_by_a_kill_is_dropped(files, tmp_path):
    Run(files, tmp_path / "run", {2: remove(*files[:4])}, kill_at=8).killed()
    path = tmp_path / "run" / "substituted.jsonl"
    content = path.read_text()
    path.write_text(content + '{"split": "training", "id": "id')
    put_back(*files[:4])()
    resumed = Run(files, tmp_path / "run", resume=True)
    resumed.go()
    assert path.read_text() == content


def test_a_new_run_begins_with_no_record(files, tmp_path):
    Run(files, tmp_path / "run", {0: remove(files[3])}, kill_at=8).killed()
    put_back(files[3])()
    Run(files, tmp_path / "run").go()
    assert not (tmp_path / "run" / "substituted.jsonl").exists()


def test_validation_is_recorded_once_an_image(files, tmp_path, capsys):
    run = Run(files, tmp_path / "run", {4: remove(files[3])}, validate=True).go()
    lines = [line for line in run.lines if line["split"] == "validation"]
    assert [(line["id"], line["epoch"], line["iteration"]) for line in lines] == [("id3", 1, 4)]
    assert [line for line in run.logged if line.get("split") == "validation"] == [
        {"event": "substitution", **line} for line in lines
    ]
    assert (
        "1 validation images could not be read at some time; others stood in for them 1 time" in capsys.readouterr().out
    )


def test_more_than_the_share_end_the_run_with_a_sentence_and_keep_the_checkpoint(files, tmp_path):
    run = Run(files, tmp_path / "run", {4: remove(*files[:5])}, max_bad_share=0.25)
    with pytest.raises(TrainingError, match=r"4 of 12 training images cannot be read .*max_bad_share.*--resume True"):
        run.go()
    assert len({line["id"] for line in run.lines}) == 4
    assert (tmp_path / "run" / "checkpoints" / "checkpoint_4.pt").exists()
    # put back, the run goes on; what it had trained on since its checkpoint is done again, and does not count
    put_back(*files[:5])()
    resumed = Run(files, tmp_path / "run", resume=True, max_bad_share=0.25).go()
    assert max(resumed.trained) == EPOCHS * STEPS
    assert resumed.lines == run.lines


def test_the_share_counts_what_cannot_be_read_now(files, tmp_path):
    acts = {4: remove(*files[:3]), 8: lambda: (put_back(*files[:3])(), remove(*files[5:8])())}
    run = Run(files, tmp_path / "run", acts, max_bad_share=0.34)
    run.go()  # six of twelve in the end, but never more than four at a time
    assert {line["id"] for line in run.lines} == {"id0", "id1", "id2", "id5", "id6", "id7"}


def test_too_many_bad_images_of_validation_end_the_run_too(files, tmp_path):
    run = Run(files, tmp_path / "run", {4: remove(*files[:4])}, validate=True, max_bad_share=0.3)
    with pytest.raises(TrainingError, match="4 of 12 validation images cannot be read"):
        run.go()


def test_data_that_do_not_substitute_are_refused(files, tmp_path):
    plain = SeededDataset(Dataset(files, Compose([Read("image")])))
    with pytest.raises(ConfigError, match="substitute=True"):
        Substitutions(plain, EpochBatchSampler(ITEMS, BATCH), tmp_path / "x")


def test_a_step_without_stand_ins_costs_next_to_nothing(files, tmp_path):
    import time

    sampler = EpochBatchSampler(100_000, 256)
    numbers = [{"id": str(n)} for n in range(100_000)]
    handler = Substitutions(SeededDataset(Dataset(numbers), substitute=True), sampler, tmp_path / "x")
    handler._batches = iter([*sampler] * 3)
    began = time.process_time()
    for _ in range(1000):
        handler._look_at_batch(None)
    assert time.process_time() - began < 0.5  # half a millisecond each; about 20 microseconds where nothing else runs
    assert not (tmp_path / "x").exists()


def test_the_lines_are_json_that_any_program_reads(files, tmp_path):
    run = Run(files, tmp_path / "run", {4: remove(files[3])}).go()
    for line in run.path.read_text().splitlines():
        assert list(json.loads(line)) == ["split", "id", "reason", "replaced_by", "epoch", "iteration", "index", "by"]
