# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_mixssl doctor``: what the user types, and what comes back."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monai_mixssl.data.dicom_rules import KEEPABLE, check_keep
from monai_mixssl.data.find import data_roots, split_roots
from monai_mixssl.data.identity import new_salt
from monai_mixssl.data.manifest import write_excluded
from monai_mixssl.data.prepared_data import write_index
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.data.processes import default_workers, most_workers
from monai_mixssl.data.scan import ScanResult, scan
from monai_mixssl.doctor.advice import advise
from monai_mixssl.doctor.examination import examine, sample_intensities
from monai_mixssl.doctor.picture import HAS_MATPLOTLIB, draw_histograms
from monai_mixssl.doctor.text import command_for, describe
from monai_mixssl.errors import ConfigError, DataError, InterruptedRunError, RunFolderError

__all__ = ["TOO_MANY_DAMAGED", "add_command"]

TOO_MANY_DAMAGED = 3  # exit code; 1 is an error, 2 what argparse and shells use themselves

_DESCRIPTION = (
    "Looks at a folder of scans as training would, without reading a pixel: what is in it, what is left out and why, "
    "sizes and spacings, which identifying tags are filled, and settings to begin with."
)
_EPILOGUE = (
    "Exit code: 0 where there is something to train on; 1 where there is nothing, or an argument cannot be used (the "
    f"last line on stderr says which); {TOO_MANY_DAMAGED} where more than --max_bad_share is damaged."
)


def add_command(commands: Any) -> None:
    """Add ``doctor`` to the subcommands of an argument parser.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` returned.
    """
    parser = commands.add_parser(
        "doctor", help="what is in my data?", description=_DESCRIPTION, epilog=_EPILOGUE, allow_abbrev=False
    )
    parser.add_argument("dataset_dir", nargs="+", metavar="FOLDER", help="folders, files, or a MONAI datalist JSON")
    parser.add_argument(
        "--output_dir",
        help="a new folder, for the list of what is left out, a picture of sizes and spacings, and an index that makes "
        "the next look, or a pretraining with the same output_dir, start at once",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--spatial_dims", type=int, choices=(2, 3), help="suggest settings for 2D or 3D")
    parser.add_argument(
        "--read", type=int, default=0, metavar="N", help="read N images, drawn at random, to see what their values are"
    )
    parser.add_argument(
        "--max_bad_share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of damaged files from which the exit code says so (default: 0.1)",
    )
    parser.add_argument(
        "--keep", default="", help=f"take what is left out by rule all the same: {', '.join(KEEPABLE)}; with commas"
    )
    parser.add_argument("--num_workers", type=int, help="processes that read headers (default: one a core, at most 4)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    if rest:
        raise ConfigError(f"doctor knows no argument '{rest[0]}'; --help lists all")
    if not 0 <= arguments.max_bad_share <= 1:
        raise ConfigError(f"max_bad_share is {arguments.max_bad_share:g}; use a share from 0 to 1")
    if arguments.read < 0:
        raise ConfigError(f"read is {arguments.read}; use a number of at least 0")
    if not 0 <= (arguments.num_workers or 0) <= most_workers():
        raise ConfigError(f"num_workers is {arguments.num_workers}; use a number from 0 to {most_workers()}")
    try:
        code = _look(arguments)
    except KeyboardInterrupt:
        raise InterruptedRunError("the look was stopped; the same command begins anew") from None
    if code:
        sys.exit(code)


def _look(arguments: argparse.Namespace) -> int:
    # one typed path may name several, as dataset_dir does
    roots = [root for typed in arguments.dataset_dir for root in split_roots(typed)]
    data_roots(roots)  # a misspelt folder leaves no output folder behind
    output = None if arguments.output_dir is None else Path(arguments.output_dir)
    keep = check_keep([word for word in arguments.keep.split(",") if word])
    found = _scan(roots, output, arguments.num_workers, keep)
    examination = examine(found)
    if arguments.read:
        found.excluded += sample_intensities(examination, found.images, arguments.read)
    advice = advise(examination, found.images, arguments.spatial_dims) if found.images else None
    command = "" if advice is None else command_for(advice, arguments.dataset_dir, arguments.output_dir)
    bad = examination.damaged_share > arguments.max_bad_share
    if arguments.json:
        settings = None if advice is None else asdict(advice)
        verdict = 1 if not found.images else TOO_MANY_DAMAGED if bad else 0
        print(json.dumps({**asdict(examination), "advice": settings, "exit_code": verdict}, indent=1))
    else:
        print(describe(examination, advice, command, listed=output is not None))
    if output is not None:
        _write(output, found, said=not arguments.json)
    sys.stdout.flush()
    if not found.images:
        raise DataError("Nothing usable was found; give a folder of DICOM, NIfTI, NRRD, MetaImage, PNG or JPEG images.")
    return TOO_MANY_DAMAGED if bad else 0


def _scan(roots: Sequence[str], output: Path | None, num_workers: int | None, keep: Collection[str]) -> ScanResult:
    workers = default_workers() if num_workers is None else num_workers
    if output is None:
        return scan(roots, salt=new_salt(), num_workers=workers, progress=sys.stderr.isatty(), keep=keep)
    if (output / "run.json").exists() or (output / "manifest.json").exists():
        raise RunFolderError("output_dir holds a run; choose a new folder for the look")
    private = PrivateFolder(output)
    return scan(
        roots, salt=private.salt(), skip=[output], num_workers=workers, progress=sys.stderr.isatty(),
        index=private.scan, keep=keep,
    )  # fmt: skip


def _write(output: Path, found: ScanResult, said: bool) -> None:
    write_index(PrivateFolder(output), found)
    write_excluded(output, found.excluded)
    if not found.images:
        return
    if HAS_MATPLOTLIB:
        draw_histograms(output / "pictures" / "doctor.png", found.images)
    elif said:
        print("matplotlib is not installed, so no picture is drawn; pip install 'monai-mixssl[bundle]' adds it.")
