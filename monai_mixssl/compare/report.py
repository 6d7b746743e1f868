# SPDX-License-Identifier: Apache-2.0
"""The answer in words and numbers: what pretraining changes, at each amount of labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_mixssl.compare.plan import ARMS, Amount, Plan
from monai_mixssl.compare.statistics import Difference, Spread, paired_difference, spread
from monai_mixssl.data.atomic import write_atomically

__all__ = ["HEADINGS", "Comparison", "Row", "compared", "verdict_and_tables", "write_report"]

HEADINGS = {
    "finetune": ("Fine-tuning", "from scratch", "pretrained"),
    "linear": ("Linear probe on frozen features", "random encoder", "pretrained"),
    "knn": ("Nearest neighbours on frozen features", "random encoder", "pretrained"),
}
_NONE = "n/a"


@dataclass(frozen=True)
class Row:
    """One protocol at one amount of labels.

    Attributes:
        protocol: ``"finetune"``, ``"linear"`` or ``"knn"``.
        amount: the labels.
        labelled: mean number of labelled training images (of volumes: volumes) over the runs, or None.
        scores: score by seed, by arm; in [0, 1].
        failed: number of runs that failed.
        undefined: number of runs that ended well, but without this metric.
    """

    protocol: str
    amount: Amount
    labelled: float | None
    scores: Mapping[str, Mapping[int, float]]
    failed: int
    undefined: int = 0

    @property
    def spreads(self) -> dict[str, Spread]:
        """Mean and standard deviation of each arm."""
        return {arm: spread(self.scores[arm]) for arm in ARMS}

    @property
    def difference(self) -> Difference:
        """Pretrained minus scratch, paired by seed."""
        return paired_difference(self.scores["pretrained"], self.scores["scratch"])


@dataclass(frozen=True)
class Comparison:
    """All rows, and what was compared.

    Attributes:
        plan: what was run.
        rows: by protocol, then amount.
        loaded: smallest share of an encoder's parameters that came from a file, over the pretrained runs; or None.
        leakage: what the leakage guard said, each text once.
    """

    plan: Plan
    rows: tuple[Row, ...]
    loaded: float | None
    leakage: tuple[str, ...]

    @property
    def text(self) -> str:
        """The verdict: a sentence for each row."""
        return "\n".join(_sentence(row, self.plan) for row in self.rows)


def compared(plan: Plan, lines: Mapping[str, Mapping[str, Any]]) -> Comparison:
    """Gather the scores of the runs that there are so far.

    Args:
        plan: the comparison.
        lines: the newest line of each run in ``compare.jsonl``, by name.
    """
    rows = []
    mine = {cell.name: cell for cell in plan.cells}
    for protocol in plan.protocols:
        run_id = "finetune" if protocol == "finetune" else "probe"
        for amount in plan.amounts:
            cells = [cell for cell in mine.values() if (cell.run_id, cell.amount) == (run_id, amount)]
            ended = [(cell, lines[cell.name]) for cell in cells if cell.name in lines]
            complete = [(cell, line) for cell, line in ended if line["status"] == "complete"]
            counts = [line["labelled"] for _, line in complete if line.get("labelled") is not None]
            scores: dict[str, dict[int, float]] = {arm: {} for arm in ARMS}
            for cell, line in complete:
                score = line["scores"].get(protocol, {}).get(plan.metric)
                if score is not None:
                    scores[cell.arm][cell.seed] = score
            mean = sum(counts) / len(counts) if counts else None
            undefined = len(complete) - sum(len(of_arm) for of_arm in scores.values())
            rows.append(Row(protocol, amount, mean, scores, len(ended) - len(complete), undefined))
    complete_lines = [line for name, line in lines.items() if name in mine and line["status"] == "complete"]
    loaded = [
        line["loaded"] for line in complete_lines if line["arm"] == "pretrained" and line.get("loaded") is not None
    ]
    leakage = dict.fromkeys(line["leakage"] for line in complete_lines if line.get("leakage"))
    return Comparison(plan, tuple(rows), min(loaded) if loaded else None, tuple(leakage))


def write_report(path: Path, comparison: Comparison, picture: bool = True) -> None:
    """Write the Markdown page: the verdict, a table for each protocol, and how to read them.

    Args:
        path: the file.
        comparison: what to say.
        picture: whether ``comparison.png`` stands beside it, to be shown.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    plan = comparison.plan
    parts = [f"# Does pretraining help? {plan.task.capitalize()}, {_words(plan.metric)}", ""]
    parts += [*verdict_and_tables(comparison)]
    if picture:
        parts += ["", "![Scores against labels, and the differences with their intervals](comparison.png)"]
    parts += ["", *_explained(comparison), ""]
    content = "\n".join(parts).encode()
    write_atomically(path, lambda file: file.write(content), "comparison.md")


def verdict_and_tables(comparison: Comparison, level: int = 2) -> list[str]:
    """The lines of the page that hold the results: the verdict as a list, then a table for each protocol.

    Args:
        comparison: what to say.
        level: depth of the tables' headings.
    """
    lines = [f"- {line}" for line in comparison.text.splitlines()]
    for protocol in comparison.plan.protocols:
        rows = [row for row in comparison.rows if row.protocol == protocol]
        lines += ["", *_table(protocol, rows, _words(comparison.plan.metric), "#" * level)]
    return lines


def _table(protocol: str, rows: list[Row], metric: str, mark: str) -> list[str]:
    title, scratch, pretrained = HEADINGS[protocol]
    lines = [
        f"{mark} {title}",
        "",
        f"| labels | images | {scratch}: {metric} | {pretrained} | difference in points (95 % interval) | p | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        difference, spreads = row.difference, row.spreads
        images = _NONE if row.labelled is None else f"{row.labelled:.0f}"
        p = _NONE if difference.p is None else ("< 0.001" if difference.p < 0.001 else f"{difference.p:.3f}")
        seeds = f"{len(difference.seeds)}{_left_out(row)}"
        lines.append(
            f"| {row.amount.name} | {images} | {_spread(spreads['scratch'])} | {_spread(spreads['pretrained'])} "
            f"| {_interval(difference)} | {p} | {seeds} |"
        )
    return lines


def _explained(comparison: Comparison) -> list[str]:
    plan = comparison.plan
    files = len(plan.pretrained)
    lines = [
        "Mean ± standard deviation over seeds, of test images. Difference: pretrained minus scratch, paired by seed, "
        "with its 95 % interval by Student's t and the p of the paired t-test. Both arms have the same architecture, "
        "preparation, labels and keys; each seed draws its own labels and initial weights.",
        "",
        "- The split into training, validation and test images is the same in all runs: the intervals say nothing of "
        "other test patients.",
        f"- {'One encoder file' if files == 1 else f'{files} encoder files'}: "
        + (
            "the spread over pretraining seeds is not in the intervals."
            if files == 1
            else f"seed i uses file i modulo {files}."
        ),
    ]
    if len(comparison.rows) > 1:
        lines.append(
            f"- {len(comparison.rows)} differences are given, and neither intervals nor p are corrected for that."
        )
    if comparison.loaded is not None:
        lines.append(f"- Share of the encoder's parameters that came from the file: {100 * comparison.loaded:.1f} %.")
    lines += [f"- Leakage: {text}" for text in comparison.leakage]
    if plan.keys:
        lines.append(f"- Keys beside the defaults: {', '.join(sorted(plan.keys))} (values in `private/compare.json`).")
    return lines


def _sentence(row: Row, plan: Plan) -> str:
    title = HEADINGS[row.protocol][0]
    difference = row.difference
    begin = f"{title} with {row.amount.in_words(plan.task)}: "
    if difference.mean is None:
        return begin + "no pair of runs to compare."
    points = f"{_points(difference.mean)} points of {_words(plan.metric)}"
    seeds = f"{len(difference.seeds)} seed{'s' if len(difference.seeds) > 1 else ''}{_left_out(row)}"
    if difference.low is None or difference.high is None:
        why = "one seed has no spread" if len(difference.seeds) < 2 else "all seeds differ by the same"
        return f"{begin}not shown: {points} ({why}, so there is no interval; {seeds})."
    interval = f"95 % interval {_points(difference.low)} to {_points(difference.high)}; {seeds}"
    words = {
        "helps": "pretraining helps",
        "hurts": "pretraining hurts",
        "not shown": "not shown that it helps or hurts",
    }
    return f"{begin}{words[difference.verdict]}: {points} ({interval})."


def _left_out(row: Row) -> str:
    """How many runs the numbers leave out, and why."""
    failed = [f"{row.failed} runs failed"] if row.failed else []
    undefined = [f"{row.undefined} runs without a defined score"] if row.undefined else []
    return f" ({', '.join(failed + undefined)})" if failed or undefined else ""


def _spread(spread: Spread) -> str:
    if spread.mean is None:
        return _NONE
    deviation = "" if spread.deviation is None else f" ± {spread.deviation:.3f}"
    return f"{spread.mean:.3f}{deviation}"


def _interval(difference: Difference) -> str:
    if difference.mean is None:
        return _NONE
    if difference.low is None or difference.high is None:
        return f"{_points(difference.mean)} (no interval)"
    return f"{_points(difference.mean)} ({_points(difference.low)} to {_points(difference.high)})"


def _points(value: float) -> str:
    """A difference in hundredths, with its sign."""
    return f"{100 * value:+.1f}"


def _words(metric: str) -> str:
    words = metric.replace("_", " ").replace("auc", "AUC").replace("dice", "Dice")
    return f"{words.removeprefix('slice ')} of slices" if words.startswith("slice ") else words
