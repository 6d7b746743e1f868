# SPDX-License-Identifier: Apache-2.0
"""Reads damaged files, each in a child process of its own, and says what became of them.

    python tests/data/fuzz.py --first 100000 --count 20000

prints a line for each that is neither read nor listed, then counts. A seed stands for the same file on every machine
that has the same versions of the libraries that write the files; `--keep FOLDER` leaves it there.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import SimpleITK as sitk
from fuzz_child import in_child
from fuzz_originals import Original, real_originals, write_originals
from mutants import mutate

from monai_mixssl.data.read import read_image
from monai_mixssl.data.scan import scan

GEOMETRIES = ("accept", "resample")


class Result(NamedTuple):
    """What became of a mutant.

    Attributes:
        seed: of the mutant.
        name: of the file that was damaged.
        ways: how it was damaged.
        outcome: "read", "listed" or "failed".
        reason: why.
        seconds: from the fork to the end.
        bytes: address space that the child took beyond what it had when it was forked.
    """

    seed: int
    name: str
    ways: list[str]
    outcome: str
    reason: str
    seconds: float
    bytes: int

    @classmethod
    def from_json(cls, line: str) -> Result:
        """Reads what `serve` has printed."""
        return cls(*json.loads(line))

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.name}, {' + '.join(self.ways)}: {self.reason}"


def judge(originals: list[Original], seed: int) -> Result:
    """Writes a mutant, reads it in a child, and puts the whole file back."""
    original, data, ways = mutate(originals, seed)
    whole = original.path.read_bytes()
    original.path.write_bytes(data)
    try:
        start = time.perf_counter()
        outcome, reason, taken = in_child(original.path, GEOMETRIES[seed % 2])
        name = f"{original.path.parent.name}/{original.path.name}"
        return Result(seed, name, ways, outcome, reason, time.perf_counter() - start, taken)
    finally:
        original.path.write_bytes(whole)


def prepared(folder: Path, real: Path | None = None) -> list[Original]:
    """Writes the files that are to be damaged, and makes this process ready for being forked."""
    originals = write_originals(folder) if real is None else real_originals(real, folder)
    # ITK's pool of threads does not survive a fork: the first filter in a child would wait for it for ever
    sitk.ProcessObject.SetGlobalDefaultThreader("Platform")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    for original in originals:  # whatever is imported or set up when it is first needed
        for image in scan(original.path.parent, salt=b"", progress=False).images:
            read_image(image)
    gc.collect()
    gc.freeze()  # the collector would copy every page that it looks at
    return originals


def results(originals: list[Original], first: int, count: int) -> Iterator[Result]:
    """Judges the mutants of consecutive seeds."""
    return (judge(originals, seed) for seed in range(first, first + count))


def serve(originals: list[Original]) -> None:
    """Answers each line of stdin, "first count", by as many lines of JSON."""
    for line in sys.stdin:
        first, count = map(int, line.split())
        for result in results(originals, first, count):
            print(json.dumps(result), flush=True)


def report(found: Iterator[Result], count: int) -> int:
    """Prints failures as they come and a summary in the end; returns the number of failures."""
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    slowest, largest, start = 0.0, 0, time.perf_counter()
    for result in found:
        outcomes[result.outcome] += 1
        reasons[result.reason.split(" (")[0] if result.outcome == "listed" else result.outcome] += 1
        slowest, largest = max(slowest, result.seconds), max(largest, result.bytes)
        if result.outcome == "failed":
            print(result, flush=True)
    print(f"{count} mutants in {time.perf_counter() - start:.0f} s: {dict(outcomes)}")
    print(f"slowest {slowest:.2f} s; most memory {largest / 2**20:.0f} MiB")
    print("\n".join(f"{number:6d} {reason}" for reason, number in reasons.most_common()))
    return outcomes["failed"]


def main() -> None:
    """Judge the mutants that the command line asks for; exit with 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=2048)
    parser.add_argument("--real", type=Path, help="damage the files of this folder instead of small ones made here")
    parser.add_argument("--keep", type=Path, help="write the mutants of these seeds into this folder, and do no more")
    parser.add_argument("--serve", action="store_true", help="take seeds from stdin")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        originals = prepared(Path(folder), arguments.real)
        if arguments.serve:
            serve(originals)
        elif arguments.keep:
            for seed in range(arguments.first, arguments.first + arguments.count):
                original, data, ways = mutate(originals, seed)
                path = arguments.keep / str(seed) / original.path.name
                path.parent.mkdir(parents=True)
                path.write_bytes(data)
                print(f"{path}: {' + '.join(ways)}")
        else:
            sys.exit(report(results(originals, arguments.first, arguments.count), arguments.count) > 0)


if __name__ == "__main__":
    main()
