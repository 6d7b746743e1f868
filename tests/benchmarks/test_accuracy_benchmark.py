# SPDX-License-Identifier: Apache-2.0
"""The accuracy benchmark as it is typed, on a set that the test writes."""

from __future__ import annotations

import copy
import io
import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks" / "accuracy"
METHODS = "random,scratch,mixssl_plain"


def write_npz(path: Path) -> None:
    """Two classes of noise, told apart by a bright half."""
    random = np.random.RandomState(0)
    arrays = {}
    for split, count in (("train", 48), ("val", 16), ("test", 20)):
        labels = np.arange(count) % 2
        images = random.randint(0, 120, (count, 28, 28))
        images[labels == 1, :14] += 100
        arrays[f"{split}_images"] = images.astype(np.uint8)
        arrays[f"{split}_labels"] = labels[:, None]
    np.savez(path, **arrays)


class Done(NamedTuple):
    """How a script of the benchmark ended."""

    code: object  # None or 0: well; a text: the sentence that is the last line on stderr
    out: str


@contextmanager
def beside_the_scripts() -> Iterator[None]:
    """The benchmark's modules can be imported by name, as its scripts do, and are gone afterwards."""
    sys.path.insert(0, str(FOLDER))
    known = set(sys.modules)
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))
        for name in set(sys.modules) - known:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(FOLDER)):
                del sys.modules[name]


def typed(script: str, *arguments: object) -> Done:
    """What the command does, in this process: torch, MONAI and scikit-learn are imported once for all."""
    out = io.StringIO()
    with beside_the_scripts(), pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr(sys, "argv", [script, *(str(argument) for argument in arguments)])
        try:
            runpy.run_path(str(FOLDER / script), run_name="__main__")
        except SystemExit as ended:
            return Done(ended.code, out.getvalue())
    return Done(None, out.getvalue())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The results of two seeds, made by two shards and the same command again."""
    folder = tmp_path_factory.mktemp("accuracy")
    write_npz(folder / "stripes.npz")
    keys = ["--sets", folder / "stripes.npz", "--methods", METHODS, "--seeds", 2, "--images", 256]
    keys += ["--runs", folder / "runs", "--results", folder / "results.jsonl", "--precision", "none"]
    keys += ["--finetune_steps", 4, "--probe_draws", 2]
    command = [sys.executable, str(FOLDER / "run.py"), *map(str, keys), "--shard", "0/2"]
    stranger = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert stranger.returncode == 0, stranger.stderr[-2000:]
    assert not typed("run.py", *keys, "--shard", "1/2").code
    again = typed("run.py", *keys, "--shard", "0/1")
    assert not again.code
    return folder, again.out


def test_every_cell_is_made_once_with_the_stated_fields(made):
    folder, last_output = made
    assert last_output == ""  # nothing left to do
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    fields = {
        "set",
        "method",
        "seed",
        "labels",
        "protocol",
        "tap",
        "split",
        "metric",
        "value",
        "images_seen",
        "seconds",
    }
    assert all(fields | {"commit"} <= line.keys() and 0 <= line["value"] <= 1 for line in lines)
    cells = [tuple(line[name] for name in sorted(fields - {"value", "images_seen", "seconds"})) for line in lines]
    assert len(set(cells)) == len(cells)
    assert {(line["method"], line["seed"]) for line in lines} == {(m, s) for m in METHODS.split(",") for s in (0, 1)}
    # probes see no encoder that was not pretrained but "random"; fine-tuning from random weights is "scratch"
    assert {line["protocol"] for line in lines if line["method"] == "scratch"} == {"finetune"}
    assert {line["protocol"] for line in lines if line["method"] == "random"} == {"linear", "knn"}
    assert {line["images_seen"] for line in lines if line["method"] == "mixssl_plain"} == {256}
    easy = [x["value"] for x in lines if (x["labels"], x["protocol"], x["metric"]) == ("all", "linear", "top1")]
    assert min(easy) > 0.9


def test_lines_made_with_less_effort_do_not_stand_for_those_made_with_the_whole(made):
    folder, _ = made
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    with beside_the_scripts():
        from run import Cell, belongs

    whole, less = {"size": 28, "images": 256}, {"finetune_steps": 4, "probe_draws": 2}
    cell = Cell("stripes", "mixssl_plain", 0)
    assert any(belongs(line, cell, {**whole, **less}) for line in lines)
    for name in less:
        others = {key: value for key, value in less.items() if key != name}
        assert not any(belongs(line, cell, {**whole, **others}) for line in lines)


def test_cells_with_probes_alone_are_fine_tuned_when_that_is_asked_for(made, tmp_path):
    folder, _ = made
    keys = ["--sets", folder / "stripes.npz", "--methods", "masked", "--seeds", 1, "--images", 128]
    keys += ["--results", tmp_path / "results.jsonl", "--precision", "none", "--finetune_steps", 2]
    keys += ["--probe_draws", 1]
    found = []
    for more in (["--no_finetune"], []):
        assert not typed("run.py", *keys, *more).code
        found.append([json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()])
    assert {line["protocol"] for line in found[0]} == {"linear", "knn"}
    assert {line["protocol"] for line in found[1][len(found[0]) :]} == {"finetune"}


def test_results_of_two_protocols_are_not_mixed_in_one_table(made, tmp_path):
    folder, _ = made
    lines = (folder / "results.jsonl").read_text()
    (tmp_path / "results.jsonl").write_text(lines + lines.replace('"batch_size": 128', '"batch_size": 32'))
    done = typed("tables.py", "--results", tmp_path / "results.jsonl", "--ours", "mixssl_plain")
    assert "is in the results twice" in str(done.code)


def test_the_table_names_every_method_and_says_what_was_not_run(made):
    folder, _ = made
    page, whole = folder / "page.md", folder / "whole.md"
    for file in (page, whole):
        file.write_text(
            "before\n<!-- begin of the tables, by benchmarks/accuracy/tables.py --><!-- end of the tables -->\nafter"
        )
    keys = ["--write", page, "--write_all", whole, "--ours", "mixssl_plain"]
    assert not typed("tables.py", "--results", folder / "results.jsonl", *keys).code
    for file in (page, whole):
        assert file.read_text().startswith("before")
        assert file.read_text().endswith("after")
    text = whole.read_text()
    assert all(f"| {method} |" in text for method in METHODS.split(","))
    assert "| scratch | 0." in text  # its fine-tuning
    picture = folder / "results" / "accuracy_linear_5.png"
    drawn = picture.read_bytes()
    assert len(drawn) > 1000
    other = folder / "other.jsonl"
    other.write_text((folder / "results.jsonl").read_text().replace('"random"', '"somebody_elses"'))
    assert not typed("tables.py", "--results", folder / "results.jsonl", *keys, "--drawn", other).code
    assert "somebody_elses" not in page.read_text() + whole.read_text()  # in the picture alone
    assert picture.read_bytes() != drawn


@pytest.mark.parametrize("method", ["mixssl", "mixssl_plain", "masked", "volume_fusion", "genesis"])
def test_a_method_pretrains_on_patches_of_volumes_too(method):
    random = np.random.RandomState(0)
    volumes = [random.rand(1, 20, 18, 12).astype(np.float32) for _ in range(4)]
    with beside_the_scripts():
        from patches import Patches
        from pretraining import Budget, pretrain

        patches = Patches(volumes, 16, 0)
        drawn = patches[torch.arange(4)]
        assert drawn.shape == patches.shape == (4, 1, 16, 16, 16)
        assert not drawn[..., 12:].any()  # the last axis is too short and padded
        assert drawn[..., :12].all()
        found = pretrain(method, patches, 0, Budget(images=8, batch_size=2, precision="none"))
        before = pretrain("random", patches, 0, Budget()).encoder
    assert found.images_seen == 8
    assert np.isfinite(found.last_loss)
    assert found.record["spatial_dims"] == 3
    after = found.encoder.parameters()
    assert any(not torch.equal(a, b) for a, b in zip(after, before.parameters(), strict=True))


@pytest.mark.parametrize(
    "method",
    [
        "plain_maps",
        "plain_feature_target",
        "plain_projectors",
        "plain_spectral",
        "jittered_soft",
        "jittered_whole",
        "mixssl_both",
        "plain_scrambled",
    ],
)
def test_an_addition_of_the_searches_trains_the_encoder_and_counts_the_images_through_it(method):
    images = torch.rand(12, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with beside_the_scripts():
        from pretraining import Budget, pretrain
        from recipes import RECIPES

        found = pretrain(method, images, 0, Budget(images=40, batch_size=8, precision="none"))
        before = pretrain("random", images, 0, Budget()).encoder
        views = 2.25 if method == "jittered_soft" else RECIPES[method].views
    assert found.images_seen == 40 // (8 * views) * 8 * views
    assert np.isfinite(found.last_loss)
    after = copy.deepcopy(found.encoder)  # as fine-tuning does
    pairs = zip(after.parameters(), before.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    with torch.no_grad():
        assert found.encoder.eval()(images)[-1].shape == (12, 192, 4, 4)


def test_the_teacher_of_a_feature_target_follows_the_encoder_slowly():
    with beside_the_scripts():
        from teacher import falling_share, follow, teacher_of

        student = torch.nn.Linear(2, 1, bias=False)
        torch.nn.init.zeros_(student.weight)
        teacher = teacher_of(student)
        torch.nn.init.ones_(student.weight)
        follow(teacher, student, share=falling_share(0.0))
        assert teacher[0].weight.tolist() == [pytest.approx([0.01, 0.01])]
        assert student.weight.tolist() == [[1, 1]]
        follow(teacher, student, share=falling_share(1.0))
        assert teacher[0].weight.tolist() == [pytest.approx([0.01, 0.01])]
        assert not any(weight.requires_grad for weight in teacher.parameters())


@pytest.mark.parametrize("size", [(28, 28), (30, 17), (9, 8, 11)])
def test_scrambled_phases_keep_mean_and_power_spectrum(size):
    random = torch.Generator().manual_seed(0)
    images = torch.rand(3, 2, *size, generator=random)
    axes = tuple(range(2, images.ndim))
    with beside_the_scripts():
        from disordered import scrambled_phases

        made = scrambled_phases(images, random)
    assert torch.allclose(made.mean(axes), images.mean(axes), atol=1e-5)
    ours, theirs = (np.abs(np.fft.fftn(one.numpy(), axes=axes)) for one in (made, images))
    assert np.allclose(ours, theirs, atol=1e-3)
    assert (made - images).abs().mean() > 0.1


@pytest.mark.parametrize("size", [(28, 28), (9, 10), (8, 12, 9)])
def test_shuffled_cells_are_the_same_cells_in_another_order(size):
    random = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, *size, generator=random)
    with beside_the_scripts():
        from disordered import shuffled_cells

        made = shuffled_cells(images, random)
    sides = [length // 4 for length in size]

    def cells(image):
        starts = np.stack(np.meshgrid(*[np.arange(4) * side for side in sides]), axis=-1).reshape(-1, len(size))
        return sorted(
            image[(slice(None), *[slice(a, a + side) for a, side in zip(start, sides, strict=True)])].tolist()
            for start in starts
        )

    assert not torch.equal(made, images)
    for before, after in zip(images, made, strict=True):
        assert cells(before) == cells(after)
    assert torch.equal(made[..., 4 * sides[-1] :], images[..., 4 * sides[-1] :])


def test_the_soft_agreement_is_the_cross_entropy_with_the_transparency_as_label():
    blends, targets, sources = (torch.randn(n, 5, generator=torch.Generator().manual_seed(n)) for n in (4, 4, 2))
    t = torch.tensor([0.2, 1.0, 0.7, 0.5])
    labels = torch.zeros(4, 6)
    for number, source in enumerate((4, 4, 5, 5)):
        labels[number, number], labels[number, source] = t[number], 1 - t[number]
    cosine = torch.nn.functional.cosine_similarity(blends[:, None], torch.cat([targets, sources])[None], dim=2)
    expected = torch.nn.functional.cross_entropy(cosine / 0.3, labels)
    with beside_the_scripts():
        from additions import soft_agreement

        assert float(soft_agreement(blends, targets, sources, t, 0.3)) == pytest.approx(float(expected), rel=1e-5)


def test_the_error_of_amplitudes_is_that_of_shifted_images_and_has_a_gradient_where_they_are_zero():
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    flat = torch.full((2, 1, 8, 8), 0.5, requires_grad=True)
    with beside_the_scripts():
        from additions import amplitude_error

        assert float(amplitude_error(images, images.roll(3, dims=3))) == pytest.approx(0, abs=1e-10)
        amplitude_error(flat, images).backward()
        expected = np.mean(
            (np.abs(np.fft.rfft2(images, norm="ortho")) - np.abs(np.fft.rfft2(0 * images + 0.5, norm="ortho"))) ** 2
        )
        assert float(amplitude_error(flat.detach(), images)) == pytest.approx(expected, rel=1e-4)
    assert torch.isfinite(flat.grad).all()


def test_blended_maps_are_the_targets_where_the_transparency_is_one():
    with beside_the_scripts():
        from additions import BlendedMaps

        stage = torch.nn.Conv2d(1, 2, 3)
        targets, sources = torch.rand(3, 1, 6, 6), torch.rand(3, 1, 6, 6)
        clean = stage(targets)
        hook = BlendedMaps()
        stage.register_forward_hook(hook)
        assert torch.equal(stage(targets), clean)  # as in the probes
        hook.transparency = torch.tensor([1.0, 0.0, 0.25])
        found = stage(torch.cat([targets, sources]))
        hook.transparency = None
        torch.testing.assert_close(found[0], clean[0])
        torch.testing.assert_close(found[1], stage(sources)[1])
        torch.testing.assert_close(found[2], 0.25 * clean[2] + 0.75 * stage(sources)[2])


def _rises(images):
    """Whether each image's right half is brighter."""
    return images[..., 14:].flatten(1).mean(dim=1) > images[..., :14].flatten(1).mean(dim=1)


@pytest.mark.parametrize("recipe", ["whole", "jittered_shared_source"])
def test_what_a_batch_holds_is_what_the_recipe_says(recipe):
    targets = torch.rand(32, 1, 28, 28, generator=torch.Generator().manual_seed(0)) + torch.linspace(0, 3, 28)
    with beside_the_scripts():
        from pretraining import Budget, build_method

        method = build_method(recipe, Budget(images=64), targets, 0)
        blends, wanted = method.prepare(targets, torch.Generator().manual_seed(0))
    t = wanted["transparency"].view(len(blends), 1, *wanted["transparency"].shape[2:] or (1, 1))
    if recipe == "whole":  # what is reconstructed: the target as it is, or mirrored
        either = torch.stack([targets, targets.flip(3)])
        apart = (wanted["image"] - either).abs().amax(dim=(2, 3, 4))
        assert apart.amin(dim=0).max() < 1e-4
        assert set(apart.argmin(dim=0).tolist()) == {0, 1}  # some are mirrored, as their views are:
        clear = t.flatten() > 0.7
        assert torch.equal(_rises(blends[clear]), _rises(wanted["image"][clear]))
    else:  # 16 neighbours have one source
        sources = (blends - t * wanted["image"]) / (1 - t).clamp(min=1e-3)
        seen = (t < 0.95).expand_as(sources)
        for group in range(0, len(blends), 16):
            both = seen[group] & seen[group + 15]
            torch.testing.assert_close(sources[group][both], sources[group + 15][both], atol=1e-3, rtol=0)
        both = seen[0] & seen[16]
        assert (sources[0][both] - sources[16][both]).abs().max() > 0.05  # the next group has another


@pytest.mark.parametrize("method", ["simclr_no_jitter", "byol_no_jitter", "vicreg_no_jitter"])
def test_a_peer_without_jitter_sees_each_target_as_bright_as_it_is(method):
    pytest.importorskip("lightly", reason="the peers need lightly: benchmarks/accuracy/requirements.txt")
    with beside_the_scripts():
        from pretraining import Budget, build_method

        levels = torch.linspace(0.1, 0.9, 6).view(6, 1, 1, 1)
        targets = levels.expand(6, 1, 28, 28)
        without = build_method(method, Budget(), targets, 0)
        usual = build_method(method.removesuffix("_no_jitter"), Budget(), targets, 0)
        (views,) = without.prepare(targets, torch.Generator().manual_seed(0))
        (jittered,) = usual.prepare(targets, torch.Generator().manual_seed(0))
    torch.testing.assert_close(views, torch.cat([targets, targets]), rtol=0, atol=1e-6)
    assert (jittered - torch.cat([targets, targets])).abs().max() > 0.05


def test_half_of_mixed_sources_are_photographs_and_half_are_dead_leaves(monkeypatch, tmp_path):
    bright = np.full((4, 28, 28), 255, np.uint8)  # a level that no dead leaves have all over
    np.savez(tmp_path / "natural_cifar10.npz", images=np.repeat(bright, 1250, axis=0))
    monkeypatch.setenv("MIXSSL_TEST_DATA", str(tmp_path))
    with beside_the_scripts():
        import source_pool

        monkeypatch.setitem(source_pool.POOL, 2, 40)
        images = source_pool.SourcePool("mixed", torch.zeros(3, 1, 28, 28), 0, 40).images
    assert images.shape == (40, 1, 28, 28)
    assert int((images.flatten(1).min(dim=1).values > 0.999).sum()) == 20


def test_a_set_that_is_not_in_the_layout_is_refused_by_name(tmp_path):
    np.savez(tmp_path / "odd.npz", images=np.zeros((3, 28, 28), np.uint8))
    keys = ["--sets", str(tmp_path / "odd.npz"), "--methods", "random", "--results", str(tmp_path / "r.jsonl")]
    command = [sys.executable, str(FOLDER / "run.py"), *keys]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "odd.npz lacks train_images" in done.stderr.splitlines()[-1]


def test_seconds_of_different_machines_are_not_compared():
    line = {"metric": "top1", "precision": "bf16", "threads": 1, "set": "a", "seed": 0}
    lines = [
        {**line, "method": "mixssl", "seconds": 80.0},
        {**line, "method": "simclr", "seconds": 60.0},
        {**line, "method": "moco_v2", "seconds": 30.0, "machine": "faster"},
    ]
    with beside_the_scripts():
        from tables import time_table

        rows = time_table(lines, "mixssl")
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| simclr", "| mixssl"]


def test_an_interval_over_images_is_kept_for_the_same_methods_and_seeds_alone(monkeypatch, tmp_path):
    """Predicted classes are too large to keep; the interval that they gave is not made up for other seeds."""
    random = np.random.RandomState(0)
    labels = random.randint(0, 2, 40)
    blank = {f"{split}_images": np.zeros((40, 28, 28), np.uint8) for split in ("train", "val", "test")}
    np.savez(tmp_path / "busi.npz", **blank, **{f"{split}_labels": labels for split in ("train", "val", "test")})
    runs = tmp_path / "runs"
    runs.mkdir()
    wrong = random.rand(2, 10, 40) < 0.3  # of the peer; ours is never wrong
    for seed in (0, 1):
        np.savez(runs / f"busi_ours_{seed}.npz", **{"linear 5 last test": np.stack([labels] * 10)})
        np.savez(runs / f"busi_peer_{seed}.npz", **{"linear 5 last test": labels ^ wrong[seed]})
    key, kept = ("busi", "5", "linear", "last", "test"), tmp_path / "kept.jsonl"
    found = {0: 0.31, 1: 0.29}
    with beside_the_scripts():
        import bootstrap
        from labelled_sets import load_set

        monkeypatch.setattr(bootstrap, "load_set", lambda name, size: load_set(str(tmp_path / f"{name}.npz"), size))
        first = bootstrap.Bootstraps(kept, runs, 28).interval(key, "ours", "peer", found)
        later = bootstrap.Bootstraps(kept, None, 28)
    assert later.interval(key, "ours", "peer", found) == first
    assert first[2] == later.interval(key, "ours", "peer", {**found, 2: 0.5})[2] == (0, 1)  # said to be of these two
    assert later.interval(key, "ours", "peer", {0: 0.31, 1: 0.19}) is None  # of other runs
    assert later.interval(key, "ours", "peer", {0: 0.31}) is None
    assert later.interval(key, "ours", "other", found) is None
    low, high = first[:2]
    # the mean of n independent values has the deviation of the values over the root of n
    gains = 100 * wrong.mean(axis=(0, 1))
    half = 1.96 * gains.std() / np.sqrt(len(gains))
    assert (low, high) == (pytest.approx(gains.mean() - half, abs=1), pytest.approx(gains.mean() + half, abs=1))


def test_the_bundles_config_of_two_views_is_the_default_method():
    kept = json.loads((FOLDER.parents[1] / "bundles/mixssl_pretraining/configs/two_views.json").read_text())
    with beside_the_scripts():
        from recipes import RECIPES

    recipe = {key: getattr(RECIPES["mixssl"], key, None) for key in kept}
    # what a recipe has no field for: crops and the schedule
    differ = {key for key in kept if recipe[key] != (tuple(kept[key]) if isinstance(kept[key], list) else kept[key])}
    assert differ == {"zoom", "batch_size", "max_epochs", "learning_rate"}
