# SPDX-License-Identifier: Apache-2.0
"""A table of methods that were run with several learning rates, each with the one that validation images choose.

    python benchmarks/accuracy/best_rates.py docs/results/accuracy_gpu.jsonl

For each set, size, encoder and method the rate is that with the better mean of the linear probes with 5 and 20 labels
a class (last map, validation images); random weights and training from scratch have none.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = (
    ("linear", "5", "val"), ("linear", "20", "val"), ("linear", "5", "test"), ("linear", "20", "test"),
    ("linear", "all", "test"), ("finetune", "5", "test"), ("finetune", "20", "test"),
)  # fmt: skip
Values = dict[tuple[str, str, str], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    runs: dict[tuple[str, int, str], dict[str, dict[float, Values]]] = defaultdict(lambda: defaultdict(dict))
    for text in arguments.results.read_text().splitlines():
        line = json.loads(text)
        if line["seed"] == arguments.seed and line["metric"] == "top1" and line["tap"] == "last":
            which = line["set"], line["size"], line["backbone"]
            values = runs[which][line["method"]].setdefault(line["learning_rate"], {})
            column = line["protocol"], line["labels"], line["split"]
            if column in values:
                raise SystemExit(f"{line['method']} on {', '.join(map(str, which))} is in the results twice.")
            values[column] = line["value"]
    for (name, size, backbone), methods in sorted(runs.items()):
        print("\n".join(table(f"{name}, {size}², {backbone}", methods)), end="\n\n")


def table(title: str, methods: dict[str, dict[float, Values]]) -> list[str]:
    """Rows by the mean of the two few-label probes on validation images, best first; the best of a column in bold."""
    chosen = {method: max(rates.items(), key=lambda pair: merit(pair[1])) for method, rates in methods.items()}
    order = sorted(chosen, key=lambda method: -merit(chosen[method][1]))
    best = {column: max(values.get(column, -1.0) for _, values in chosen.values()) for column in COLUMNS}
    heads = [
        f"{protocol} {amount}, {'validation' if split == 'val' else 'test'}" for protocol, amount, split in COLUMNS
    ]
    lines = [f"| {title} | rate | " + " | ".join(heads) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for method in order:
        rate, values = chosen[method]
        cells = [shown(values.get(column), best[column]) for column in COLUMNS]
        given = "" if method in ("random", "scratch") else f"{rate:g}"
        lines.append(f"| `{method}` | {given} | " + " | ".join(cells) + " |")
    return lines


def merit(values: Values) -> float:
    """Mean of the few-label probes on validation images; below all others where there are none."""
    found = [values.get(("linear", amount, "val"), -1.0) for amount in ("5", "20")]
    return float(np.mean(found))


def shown(value: float | None, best: float) -> Any:
    if value is None:
        return ""
    return f"**{value:.3f}**" if value == best else f"{value:.3f}"


if __name__ == "__main__":
    main()
