# SPDX-License-Identifier: Apache-2.0
"""Measure how long one draw of each source takes, as a Markdown table of medians in milliseconds.

Usage: OMP_NUM_THREADS=1 python benchmarks/source_speed.py
"""

from __future__ import annotations

import statistics
import time

from monai_mixssl.errors import ConfigError
from monai_mixssl.sources import Source, build_source

SHAPES = {(1, 32, 32): 200, (1, 64, 64): 200, (3, 64, 64): 200, (1, 224, 224): 50, (1, 64, 64, 64): 20}


def median_ms(source: Source, shape: tuple[int, ...], draws: int) -> float:
    """Median of ``draws`` draws after two for warming up, in milliseconds."""
    times = []
    for _ in range(draws + 2):
        start = time.perf_counter()
        source(shape)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[2:])


def main() -> None:
    print("| source |", " | ".join(str(shape) for shape in SHAPES), "|")
    print("|---" * (len(SHAPES) + 1) + "|")
    for name in ("noise", "dead_leaves", "fractal", "installed"):
        try:
            source = build_source(name)
        except ConfigError as error:
            print(f"| {name} | {error} |")
            continue
        source.set_random_state(0)
        cells = [f"{median_ms(source, shape, draws):.2f}" for shape, draws in SHAPES.items()]
        print(f"| {name} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
