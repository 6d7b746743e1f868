# SPDX-License-Identifier: Apache-2.0
"""Finds the files of a data folder, of several, or of a MONAI datalist."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_mixssl.errors import DataError

__all__ = ["Found", "FoundFile", "data_roots", "find_files", "split_roots"]

DatasetDir = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class FoundFile:
    """A file and its key: its place below the data folder, the same wherever that folder lies."""

    key: str
    path: Path


@dataclass
class Found:
    """Files in the order of their keys, and (key, path, reason) of what could not be looked at."""

    files: list[FoundFile] = field(default_factory=list)
    problems: list[tuple[str, Path, str]] = field(default_factory=list)


def split_roots(text: str) -> list[str]:
    """Splits what a user typed as `dataset_dir` into paths: at commas, unless all of it names something that exists.

    Returns:
        The paths as typed, without the blanks around them; nothing where nothing but commas and blanks is given.
    """
    if os.path.exists(os.path.expanduser(text)):
        return [text]
    return [part.strip() for part in text.split(",") if part.strip()]


def data_roots(dataset_dir: DatasetDir) -> list[Path]:
    """Splits `dataset_dir` into its folders and files.

    Args:
        dataset_dir: a path, several separated by commas (see `split_roots`), or a list of paths.

    Raises:
        DataError: nothing given, or one of them does not exist.
    """
    parts: Sequence[str | os.PathLike[str]]
    if isinstance(dataset_dir, str):
        parts = split_roots(dataset_dir)
    else:
        parts = [dataset_dir] if isinstance(dataset_dir, os.PathLike) else dataset_dir
    if not parts:
        raise DataError(
            "dataset_dir is empty; give a folder of scans, several separated by commas, or a datalist JSON."
        )
    roots = [Path(part).expanduser().absolute() for part in parts]
    for number, root in enumerate(roots, start=1):
        if not root.exists():
            which = f"entry {number} of {len(roots)} of dataset_dir" if len(roots) > 1 else "dataset_dir"
            raise DataError(f"There is no such file or folder as {which} names; check the spelling.")
    return roots


def find_files(dataset_dir: DatasetDir, skip: Collection[Path] = ()) -> Found:
    """Walks every folder of `dataset_dir` once and lists the files in an order that the file system does not decide.

    Links are followed; a folder or file that was seen already (by a link, or in overlapping roots) is not taken twice.

    Args:
        dataset_dir: see `data_roots`; a `.json` file is read as a MONAI datalist.
        skip: folders that are not entered (the run's own output folder may lie within the data).

    Raises:
        DataError: a root is missing, or a datalist cannot be used.
    """
    found = Found()
    seen: set[tuple[int, int]] = set()
    skipped = {os.path.realpath(folder) for folder in skip}
    for number, root in enumerate(data_roots(dataset_dir)):
        is_datalist = root.is_file() and root.suffix.lower() == ".json"
        starts = _datalist_files(root) if is_datalist else [("", root)]
        for name, start in starts:
            _walk(f"{number}/{name}" if name else f"{number}", start, skipped, seen, found)
    return found


def _walk(key: str, path: Path, skipped: set[str], seen: set[tuple[int, int]], found: Found) -> None:
    # an explicit stack: a tree deeper than Python's recursion limit is odd, but no reason to fail
    stack = [(key, path)]
    while stack:
        key, path = stack.pop()
        try:
            status = path.stat()
            identity = (status.st_dev, status.st_ino)
            if path.is_dir():
                if identity in seen or os.path.realpath(path) in skipped:
                    continue
                seen.add(identity)
                with os.scandir(path) as entries:
                    names = sorted((entry.name for entry in entries), reverse=True)
                stack.extend((f"{key}/{name}", path / name) for name in names)
            elif not path.is_file():
                found.problems.append((key, path, "not a regular file"))
            elif identity in seen:
                found.problems.append((key, path, "a link to a file that is used already"))
            else:
                seen.add(identity)
                found.files.append(FoundFile(key, path))
        except PermissionError:
            found.problems.append((key, path, "no permission to read it"))
        except FileNotFoundError:
            found.problems.append((key, path, "the file does not exist"))
        except OSError:  # a loop of links, a name too long, a share that went away
            found.problems.append((key, path, "the file system cannot open it"))


def _datalist_files(file: Path) -> list[tuple[str, Path]]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"The datalist JSON cannot be read ({type(error).__name__}); check its syntax.") from None
    entries = content.get("training") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise DataError('The datalist JSON must be a list, or hold one under "training", of {"image": path} entries.')
    return [(path, file.parent / path) for entry in entries for path in _entry_paths(entry)]


def _entry_paths(entry: Any) -> Iterator[str]:
    image = entry.get("image") if isinstance(entry, dict) else entry
    paths = image if isinstance(image, list) else [image]
    for path in paths:
        if not isinstance(path, str):
            raise DataError(
                'An entry of the datalist JSON has no path under "image"; each needs one, or a list of them.'
            )
        yield path
