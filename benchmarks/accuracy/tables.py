# SPDX-License-Identifier: Apache-2.0
"""Tables and pictures from the results of ``run.py``.

    python benchmarks/accuracy/tables.py --results docs/results/accuracy.jsonl --runs runs \
        --write docs/accuracy.md --write_all docs/results/accuracy.md

Every comparison is with the best peer, chosen by the mean over seeds of its validation score, never by a test score.
Beside each difference stand its 95 % interval over seeds (paired, t distribution), a paired t-test, and a 95 % interval
from a bootstrap over test images, which needs the predicted classes in ``--runs``; what was computed once is kept in
``…_bootstrap.jsonl`` beside the results.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from bootstrap import Bootstraps, Key
from peer import WITH_OUR_IMAGES
from recipes import RECIPES

from monai_mixssl.compare.statistics import Difference, paired_difference

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NOT_PEERS = ("random", "scratch", *WITH_OUR_IMAGES)
BEGIN, END = "<!-- begin of the tables, by benchmarks/accuracy/tables.py -->", "<!-- end of the tables -->"


class Results:
    """Values by cell and method, one a seed."""

    def __init__(self, lines: Iterable[dict[str, Any]], metric: str) -> None:
        self.values: dict[Key, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        for line in lines:
            if line["metric"] == metric:
                key = (line["set"], line["labels"], line["protocol"], line["tap"], line["split"])
                values = self.values[key][line["method"]]
                if line["seed"] in values:
                    cell = f"{line['set']} {line['method']} seed {line['seed']}"
                    raise SystemExit(
                        f"{cell} is in the results twice: keep runs of different protocols in files apart."
                    )
                values[line["seed"]] = line["value"]

    def best_peer(self, key: Key, ours: str) -> str | None:
        """The peer with the best mean on validation images, of those with all of our seeds; None without one."""
        found = self.values.get((*key[:4], "val"), {})
        means = {
            method: float(np.mean(list(values.values())))
            for method, values in found.items()
            if method not in NOT_PEERS and method not in RECIPES and method != ours
            and set(values) >= set(found.get(ours, {}))
        }  # fmt: skip
        return max(means, key=lambda method: means[method]) if means else None


def comparison_rows(results: Results, ours: str, bootstraps: Bootstraps, short: bool) -> list[str]:
    """One row a cell on test images: ours, the best peer, and the difference; ``short``: few labels, the last map."""
    rows = []
    for key in sorted(results.values):
        if key[4] != "test" or ours not in results.values[key]:
            continue
        if short and (key[1] == "all" or key[2] == "knn" or key[3] != "last"):
            continue
        peer = results.best_peer(key, ours)
        if peer is None or peer not in results.values[key]:
            continue
        mine, other = results.values[key][ours], results.values[key][peer]
        difference = paired_difference(mine, other)
        seeds = difference.seeds
        if not seeds:
            continue
        interval = bootstraps.interval(key, ours, peer, {seed: mine[seed] - other[seed] for seed in seeds})
        by_image = f"{interval[0]:+.1f} to {interval[1]:+.1f}" if interval else "-"
        if interval and len(interval[2]) < len(seeds):
            by_image += f" (of seeds {', '.join(map(str, interval[2]))})"
        rows.append(
            f"| {' | '.join(key[:4])} | {_spread(mine.values())} | {peer} {_spread(other.values())} | "
            f"{_shown(difference)} | {by_image} | {len(seeds)} |"
        )
    return rows


def method_table(results: Results, name: str, protocol: str, tap: str) -> list[str]:
    """All methods on one set: a column an amount of labels, test images."""
    amounts = [a for a in ("5", "20", "all") if (name, a, protocol, tap, "test") in results.values]
    methods = sorted({m for a in amounts for m in results.values[name, a, protocol, tap, "test"]})
    if not methods:
        return []
    lines = [f"| {name}, {protocol}, {tap} | " + " | ".join(amounts) + " | seeds |", "|---" * (len(amounts) + 2) + "|"]
    for method in methods:
        found = [results.values[name, a, protocol, tap, "test"].get(method, {}) for a in amounts]
        cells = [_spread(values.values()) if values else "not run" for values in found]
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {max(len(values) for values in found)} |")
    return [*lines, ""]


def dice_table(results: Results) -> list[str]:
    """Segmentation, of ``volumes.py``: mean Dice of test patients, a row a method."""
    lines = []
    for name, amount, protocol, tap, split in sorted(results.values):
        if split != "test":
            continue
        found = results.values[name, amount, protocol, tap, split]
        lines += [f"| {name}, {protocol} with {amount} of the labels | mean Dice | seeds |", "|---|---|---|"]
        lines += [
            f"| {method} | {_spread(found[method].values())} | {len(found[method])} |" for method in sorted(found)
        ]
        lines.append("")
    return lines


def draw(results: Results, path: Path, sets: Sequence[str], protocol: str, tap: str, amount: str) -> None:
    """One panel a set: mean and seeds of the methods that have the most seeds on it."""
    shown = {}
    for name in sets:
        found = results.values.get((name, amount, protocol, tap, "test"), {})
        most = max(map(len, found.values()), default=0)
        shown[name] = {method: list(values.values()) for method, values in found.items() if len(values) == most}
    rows = max(map(len, shown.values()), default=0)
    figure, axes = plt.subplots(1, len(sets), figsize=(4.6 * len(sets), max(4, 1 + 0.24 * rows)), squeeze=False)
    for axis, (name, found) in zip(axes[0], shown.items(), strict=True):
        order = sorted(found, key=lambda method: np.mean(found[method]))
        for row, method in enumerate(order):
            values = found[method]
            colour = "tab:orange" if method in RECIPES else "tab:blue"
            axis.plot(values, [row] * len(values), "o", color=colour, alpha=0.4, markersize=4)
            axis.plot(np.mean(values), row, "|", color=colour, markersize=16, markeredgewidth=2)
        axis.set_yticks(range(len(order)), order)
        axis.set_title(f"{name}: {protocol}, {amount} a class", fontsize=10)
        axis.set_xlabel("top-1 accuracy, test")
        axis.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def time_table(lines: Iterable[dict[str, Any]], ours: str) -> list[str]:
    """Processor time of pretraining for equal images, where it was one thread of a processor's own bfloat16.

    Of the machines (named since they are recorded) it is the one that pretrained ``ours`` first.
    """
    seconds: dict[str, dict[tuple[str, int], float]] = defaultdict(dict)
    lines = list(lines)
    machine = next((line.get("machine") for line in lines if line["method"] == ours), None)
    for line in lines:
        if line.get("machine") != machine:
            continue
        if line["metric"] == "top1" and line["precision"] == "bf16" and line["seconds"] and line["threads"] == 1:
            seconds[line["method"]][line["set"], line["seed"]] = line["seconds"]
    means = {name: float(np.mean(list(found.values()))) for name, found in seconds.items()}
    if ours not in means:
        return []
    rows = [f"| method | seconds | times {ours} | runs |", "|---|---|---|---|"]
    for name in sorted(means, key=lambda name: means[name]):
        if name in (ours, "mixssl_plain") or name not in RECIPES:
            spread = _spread(seconds[name].values(), digits=0)
            rows.append(f"| {name} | {spread} | {means[name] / means[ours]:.2f} | {len(seconds[name])} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--ours", default="mixssl")
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--write", type=Path, help="a Markdown file whose part between two markers is replaced")
    parser.add_argument("--drawn", type=Path, help="results of the picture beside it; default: those of --results")
    parser.add_argument("--write_all", type=Path, help="the same for the tables of all cells")
    arguments = parser.parse_args()
    lines = [json.loads(line) for line in arguments.results.read_text().splitlines()]
    results = Results(lines, "top1")
    sets = sorted({line["set"] for line in lines if line["metric"] == "top1"})
    kept = arguments.results.with_name(f"{arguments.results.stem}_bootstrap.jsonl")
    bootstraps = Bootstraps(kept, arguments.runs, arguments.size)
    title = ["| set | labels | protocol | tap | " + arguments.ours + " | best peer on validation | points "
             "(95 % interval; p) | bootstrap over images | seeds |", "|---" * 9 + "|"]  # fmt: skip
    short = [*title, *comparison_rows(results, arguments.ours, bootstraps, short=True)]
    whole = ["## Against the best peer", "", *title, *comparison_rows(results, arguments.ours, bootstraps, short=False)]
    whole += ["", "## All methods (mean ± standard deviation over seeds)", ""]
    for name in sets:
        for protocol, tap in (("linear", "last"), ("linear", "last2x2"), ("knn", "last"), ("finetune", "last")):
            whole += method_table(results, name, protocol, tap)
    whole += dice_table(Results(lines, "dice"))
    if arguments.write:
        picture = arguments.write.parent / "results" / "accuracy_linear_5.png"
        drawn = (arguments.drawn or arguments.results).read_text().splitlines()
        draw(Results([json.loads(line) for line in drawn], "top1"), picture, sets, "linear", "last", "5")
        short += ["", f"![Linear probe with 5 labels a class](results/{picture.name})"]
        times = time_table(lines, arguments.ours)
        replace_between_markers(arguments.write, [*short, *([""] if times else []), *times])
    if arguments.write_all:
        replace_between_markers(arguments.write_all, whole)
    if not (arguments.write or arguments.write_all):
        print("\n".join(whole))


def replace_between_markers(page: Path, section: Sequence[str]) -> None:
    """Put a section between the two markers of a page."""
    found = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    text = "\n".join([BEGIN, "", *section, "", END])
    page.write_text(found.sub(lambda _: text, page.read_text()))


def _spread(values: Iterable[float], digits: int = 3) -> str:
    numbers = list(values)
    spread = f" ± {np.std(numbers, ddof=1):.{digits}f}" if len(numbers) > 1 else ""
    return f"{np.mean(numbers):.{digits}f}{spread}"


def _shown(difference: Difference) -> str:
    mean = f"{100 * (difference.mean or 0.0):+.1f}"
    if difference.low is None or difference.high is None:
        return f"{mean} (one seed)"
    return f"{mean} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f}; p {difference.p:.3f})"


if __name__ == "__main__":
    main()
