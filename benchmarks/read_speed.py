# SPDX-License-Identifier: Apache-2.0
"""How long it takes to read a DICOM series, as a multiple of SimpleITK's own series reader on the same list of files.

Each round reads the series once in each way, one after another, so that a busy machine slows all of them alike; the
figures are medians of the rounds. Files are in the file system's cache from the second round on; the first is not
counted.

    python benchmarks/read_speed.py FOLDER_OF_ONE_SERIES
    MIXSSL_TEST_DATA=… python benchmarks/read_speed.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from monai.data import PydicomReader

from monai_mixssl.data.read import read_image
from monai_mixssl.data.reader import ScanReader
from monai_mixssl.data.scan import scan

LIMITS = {"ours, scanned before": 1.5, "ours, with the scan": 2.5}


def main() -> None:
    """Print the table, and exit with 1 where a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", help="default: mr_t1w_structural of MIXSSL_TEST_DATA")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # MONAI's reader says the same in every round
    folder = arguments.folder or Path(os.environ["MIXSSL_TEST_DATA"]) / "dicom" / "mr_t1w_structural"
    ways = readers(Path(folder))
    (reference, *others) = (np.asarray(way()) for way in ways.values())
    for name, other in zip(list(ways)[1:], others, strict=True):
        same = other.shape == reference.shape and bool((other == reference).all())
        print(f"{name}: {'the same voxels' if same else 'other voxels, or in another order'} as SimpleITK")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    first = next(iter(times))
    print(f"\n| {len(list(Path(folder).iterdir()))} files | ms | times SimpleITK | limit |\n|---|---|---|---|")
    failed = False
    for name, seconds in times.items():
        ratio = statistics.median(one / base for one, base in zip(seconds, times[first], strict=True))
        limit = LIMITS.get(name)
        failed |= limit is not None and ratio > limit
        print(f"| {name} | {1000 * statistics.median(seconds):.0f} | {ratio:.2f} | {limit or ''} |")
    raise SystemExit(1 if failed else 0)


def readers(folder: Path) -> dict[str, Callable[[], Any]]:
    """The ways to read the series; each returns (columns, rows, slices)."""
    files = sitk.ImageSeriesReader().GetGDCMSeriesFileNames(str(folder))
    (image,) = scan(folder, salt=b"", progress=False).images
    ours, monais = ScanReader(), PydicomReader()

    def simpleitk() -> np.ndarray:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(files)
        return sitk.GetArrayFromImage(reader.Execute()).transpose(2, 1, 0)

    return {
        "SimpleITK's ImageSeriesReader": simpleitk,
        "ours, scanned before": lambda: read_image(image).array[0],
        "ours, with the scan": lambda: ours.get_data(ours.read(list(files)))[0],
        "MONAI's PydicomReader": lambda: monais.get_data(monais.read(str(folder)))[0],
    }


if __name__ == "__main__":
    main()
