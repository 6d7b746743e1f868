# SPDX-License-Identifier: Apache-2.0
"""Pretrains by every method on every set, evaluates, and writes one line a number; goes on where it was interrupted.

    python benchmarks/accuracy/run.py --tier core --runs runs --results docs/results/accuracy.jsonl
    python benchmarks/accuracy/run.py --sets my.npz --methods mixssl,simclr,random --seeds 3 --results mine.jsonl
    python benchmarks/accuracy/run.py --methods mixssl,mixssl_t05 --search --results search.jsonl

A cell is one method on one set with one seed. ``--shard 0/2`` and ``--shard 1/2`` side by side take half of the cells
each. ``--search`` looks at validation images only. ``tables.py`` makes the tables and pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluation import PROBES, Effort, evaluate
from labelled_sets import KNOWN, load_set
from pretraining import Budget, pretrain

CORE_METHODS = ("random", "scratch", "mixssl_plain", "mixssl", "simclr", "vicreg", "byol", "masked")
FULL_METHODS = (
    *CORE_METHODS, "moco_v2", "simsiam", "barlow_twins", "denoising", "volume_fusion", "genesis", "simclr_blended",
    "simclr_extra",
)  # fmt: skip
TIERS = {"core": CORE_METHODS, "full": FULL_METHODS}
# what the search looks at: few labels, the draws of the tables
SEARCH = Effort(labels=("5", "20"), finetune_labels=(), taps=("last", "all"), splits=("val",))
# learning rates that the search on validation images chose, where they are not the budget's; see docs/accuracy.md
LEARNING_RATES = dict.fromkeys(("vicreg", "vicreg_blended", "vicreg_no_jitter"), 1e-3)
# fields of Effort that arguments set; a line of the results has them only where they differ from the default
EFFORTS = ("finetune_steps", "probe_draws")


@dataclass(frozen=True)
class Cell:
    set: str
    method: str
    seed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", choices=TIERS, help="methods of a tier, on the three known sets")
    parser.add_argument("--sets", help=f"with commas between them: {', '.join(KNOWN)}, or paths of .npz files")
    parser.add_argument("--methods", help="with commas between them")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=28, help="pixels along a side")
    parser.add_argument("--images", type=int, default=Budget.images, help="images through the encoder")
    parser.add_argument("--batch_size", type=int, default=Budget.batch_size, help="targets a step")
    parser.add_argument("--backbone", default=Budget.backbone)
    parser.add_argument("--learning_rate", type=float, help="for all methods; default: the searched ones")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="bf16", choices=("none", "bf16"))
    parser.add_argument("--search", action="store_true", help="validation images and probes with few labels only")
    parser.add_argument("--runs", type=Path, help="folder for predicted classes, which the bootstrap needs")
    parser.add_argument("--results", type=Path, required=True, help="JSON lines; lines are added")
    parser.add_argument("--finetune_steps", type=int, default=Effort.finetune_steps, help="of 32 images")
    parser.add_argument("--probe_draws", type=int, default=Effort.probe_draws, help="label draws a seed, for probes")
    parser.add_argument("--no_finetune", action="store_true", help="probes alone")
    parser.add_argument("--shard", default="0/1", help="part/of how many")
    parser.add_argument("--progress", action="store_true")
    arguments = parser.parse_args()
    methods = arguments.methods.split(",") if arguments.methods else list(TIERS[arguments.tier or "core"])
    sets = arguments.sets.split(",") if arguments.sets else list(KNOWN)
    part, parts = (int(number) for number in arguments.shard.split("/"))
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    cells = [Cell(name, method, seed) for seed in seeds for name in sets for method in methods]
    if arguments.search and arguments.runs:
        raise SystemExit("--search looks at validation images alone, and leaves nothing for --runs: leave that out.")
    other = {name: getattr(arguments, name) for name in EFFORTS if getattr(arguments, name) != getattr(Effort, name)}
    effort = replace(SEARCH if arguments.search else Effort(), **other)
    if arguments.no_finetune:
        effort = replace(effort, finetune_labels=())
    budget = Budget(arguments.images, arguments.batch_size, backbone=arguments.backbone, precision=arguments.precision)
    commit = git_commit()
    for number, cell in enumerate(cells):
        if number % parts != part:
            continue
        rate = arguments.learning_rate or LEARNING_RATES.get(cell.method, Budget.learning_rate)
        own = replace(budget, learning_rate=rate)
        protocol = {"size": arguments.size, **asdict(own), "search": arguments.search, **other}
        made = [line for line in read(arguments.results) if belongs(line, cell, protocol)]
        if wanted(cell, effort) <= {(line["protocol"], line["labels"]) for line in made}:
            continue
        start = time.perf_counter()
        lines = make(cell, own, effort, arguments, protocol)
        known = [number_of(line) for line in made]
        new = [line for line in lines if number_of(line) not in known]
        add(arguments.results, [{**line, **protocol, "commit": commit} for line in new])
        print(
            f"{number + 1} of {len(cells)}: {cell.set} {cell.method} seed {cell.seed}, "
            f"{time.perf_counter() - start:.0f} s; {shown(lines)}",
            flush=True,
        )


def make(
    cell: Cell, budget: Budget, effort: Effort, arguments: argparse.Namespace, protocol: dict[str, Any]
) -> list[dict[str, Any]]:
    """Pretrain and evaluate one cell."""
    data = load_set(cell.set, arguments.size)
    predictions = arguments.runs / f"{data.name}_{cell.method}_{cell.seed}.npz" if arguments.runs else None
    if predictions and predictions.exists() and str(np.load(predictions).get("made by")) != json.dumps(protocol):
        raise SystemExit(f"{predictions.name} in --runs was made in another way; choose another folder for --runs.")
    found = pretrain(cell.method, data.images["train"], cell.seed, budget, arguments.device, arguments.progress)
    rows, predicted = evaluate(
        found.encoder, found.record, data, cell.seed, of_method(cell.method, effort), budget.precision, arguments.device
    )
    if predictions:
        arguments.runs.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(predictions, **predicted, **{"made by": np.array(json.dumps(protocol))})
    common = {"set": data.name, "method": cell.method, "seed": cell.seed}
    effort_made = {
        "images_seen": found.images_seen, "seconds": round(found.seconds, 1), "threads": torch.get_num_threads(),
        "device": arguments.device, "machine": machine(),
    }  # fmt: skip
    return [{**common, **row, **effort_made} for row in rows]


def of_method(method: str, effort: Effort) -> Effort:
    """From scratch is fine-tuning of random weights, and a random encoder is what probes see of them."""
    if method == "scratch":
        return replace(effort, labels=())
    return replace(effort, finetune_labels=()) if method == "random" else effort


def wanted(cell: Cell, effort: Effort) -> set[tuple[str, str]]:
    """Protocols and amounts of labels that a complete cell has."""
    own = of_method(cell.method, effort)
    probes = {(name, amount) for name in PROBES for amount in own.labels}
    return probes | {("finetune", amount) for amount in own.finetune_labels}


def belongs(line: dict[str, Any], cell: Cell, protocol: dict[str, Any]) -> bool:
    """Whether a line of the results is of this cell, made in the same way."""
    name = Path(cell.set).stem if cell.set not in KNOWN else cell.set
    same = {"set": name, "method": cell.method, "seed": cell.seed, **dict.fromkeys(EFFORTS), **protocol}
    return all(line.get(key) == value for key, value in same.items())


def number_of(line: dict[str, Any]) -> tuple[str, ...]:
    """Which number of its cell a line is."""
    return tuple(line[name] for name in ("labels", "protocol", "tap", "split", "metric"))


def read(results: Path) -> Iterator[dict[str, Any]]:
    if results.exists():
        yield from (json.loads(line) for line in results.read_text().splitlines())


def add(results: Path, lines: list[dict[str, Any]]) -> None:
    """One write for a cell: side by side, shards never mix, and an interrupted cell leaves nothing."""
    results.parent.mkdir(parents=True, exist_ok=True)
    with open(results, "a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def shown(lines: list[dict[str, Any]]) -> str:
    wanted = [line for line in lines if line["split"] == "val" and line["metric"] == "top1"]
    return ", ".join(f"{one['protocol']} {one['labels']} {one['tap']} {one['value']:.3f}" for one in wanted)


def machine() -> str:
    """The processor's name, where the system says it: seconds of different ones are not compared."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def git_commit() -> str:
    """The commit, with a + where files differ from it."""
    here = Path(__file__).parent
    found = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=here, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
