# SPDX-License-Identifier: Apache-2.0
"""Finds the files of a data folder, of several, or of a MONAI datalist."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from monai_mixssl.data.pause_gc import pause_gc
from monai_mixssl.errors import DataError
from monai_mixssl.output_folder import EARLIER_RUN, OUTPUT_MARKS, is_output_folder

__all__ = ["Found", "FoundFile", "data_roots", "find_files", "split_roots"]

MASK_FOLDERS = ("labelsTr", "labelsTs")
MASKS = "masks of a Decathlon folder, no images"

DatasetDir = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class FoundFile(NamedTuple):
    """A file and its key: its place below the data folder, the same wherever that folder lies.

    Size in bytes; times of its content and of its status in nanoseconds.
    """

    key: str
    path: str
    size: int
    modified: int
    changed: int


@dataclass
class Found:
    """Files in the order of their keys, and (key, path, reason) of what could not be looked at."""

    files: list[FoundFile] = field(default_factory=list)
    problems: list[tuple[str, str, str]] = field(default_factory=list)

    def state(self) -> str:
        """Returns a hash that differs where a file was added, taken away, moved or changed."""
        lines = [f"{key}\0{size}\0{modified}\0{changed}" for key, _, size, modified, changed in self.files]
        lines += [f"{key}\0{reason}" for key, _, reason in self.problems]
        return hashlib.sha256("\n".join(lines).encode("utf-8", errors="surrogatepass")).hexdigest()


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


@pause_gc()
def find_files(dataset_dir: DatasetDir, skip: Collection[Path] = ()) -> Found:
    """Walks every folder of `dataset_dir` once and lists the files in an order that the file system does not decide.

    Links are followed, after all else, so that a file is used where it lies; what a link leads to is not taken twice.
    Output folders of this package are not entered: a file in one is taken where `dataset_dir` names the file itself, or
    a folder below the output folder. Nor are the masks of a Medical Segmentation Decathlon folder, beside `imagesTr`.

    Args:
        dataset_dir: see `data_roots`; a `.json` file is read as a MONAI datalist.
        skip: folders that are not entered (the run's own output folder may lie within the data).

    Raises:
        DataError: a root is missing, or a datalist cannot be used.
    """
    walk = _Walk(skip)
    for number, root in enumerate(data_roots(dataset_dir)):
        is_datalist = root.is_file() and root.suffix.lower() == ".json"
        for name, start in _datalist_files(root) if is_datalist else [("", root)]:
            walk.start(f"{number}/{name}" if name else f"{number}", str(start))
    walk.follow_links()
    walk.found.files.sort()
    return walk.found


class _Walk:
    """Strings and `os.scandir` only: objects for each path would take longer than the file system."""

    def __init__(self, skip: Collection[Path]) -> None:
        self.found = Found()
        self.folders: set[tuple[int, int]] = set()
        for folder in skip:
            with contextlib.suppress(OSError):  # it is not there yet
                status = os.stat(folder)
                self.folders.add((status.st_dev, status.st_ino))
        self.skipped = frozenset(self.folders)
        self.files: set[tuple[int, int]] = set()
        self.links: deque[tuple[str, str]] = deque()

    def start(self, key: str, path: str, is_link: bool = False) -> None:
        """Looks at a file, or at a folder and all that is in it."""
        # an explicit stack: a tree deeper than Python's recursion limit is odd, but no reason to fail
        stack: list[tuple[str, str]] = []
        self._look(key, path, stack, is_link)
        while stack:
            self._list(*stack.pop(), stack)

    def follow_links(self) -> None:
        """Looks at what links lead to; there may be further links."""
        while self.links:
            self.start(*self.links.popleft(), is_link=True)

    def _look(self, key: str, path: str, stack: list[tuple[str, str]], is_link: bool) -> None:
        try:
            status = os.stat(path)
        except OSError as error:
            self._problem(key, path, error, is_link)
            return
        except ValueError:  # a datalist may hold anything: a zero character, half of a surrogate pair
            shown, place = (text.encode("utf-8", "backslashreplace").decode() for text in (key, path))
            self.found.problems.append((shown, place, "no path that a file could have"))
            return
        if not stat.S_ISDIR(status.st_mode):
            self._file(key, path, status)
            return
        identity = (status.st_dev, status.st_ino)
        if identity not in self.folders:
            self.folders.add(identity)
            stack.append((key, path))
        elif is_link and identity not in self.skipped:
            self.found.problems.append((key, path, "a link to a folder that is looked at already"))

    def _list(self, key: str, path: str, stack: list[tuple[str, str]]) -> None:
        try:
            with os.scandir(path) as opened:
                entries = sorted(opened, key=lambda entry: entry.name)
        except PermissionError:
            self.found.problems.append((key, path, "no permission to read a folder, and all that is in it"))
            return
        except OSError as error:
            self._problem(key, path, error)
            return
        if any(entry.name in OUTPUT_MARKS for entry in entries) and is_output_folder(path):
            self.found.problems.append((key, path, EARLIER_RUN))
            return
        decathlon = any(entry.name == "imagesTr" for entry in entries)
        for entry in entries:
            name = f"{key}/{entry.name}"
            if decathlon and entry.name in MASK_FOLDERS:
                self.found.problems.append((name, entry.path, MASKS))
                continue
            try:
                if entry.is_symlink():
                    self.links.append((name, entry.path))
                elif entry.is_dir(follow_symlinks=False):
                    self._look(name, entry.path, stack, False)
                else:
                    self._file(name, entry.path, entry.stat(follow_symlinks=False))
            except OSError as error:
                self._problem(name, entry.path, error)

    def _file(self, key: str, path: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            self.found.problems.append((key, path, "not a regular file"))
            return
        identity = (status.st_dev, status.st_ino)
        if status.st_ino:  # os.scandir does not know it on Windows
            if identity in self.files:
                self.found.problems.append((key, path, "a link to a file that is used already"))
                return
            self.files.add(identity)
        self.found.files.append(FoundFile(key, path, status.st_size, status.st_mtime_ns, status.st_ctime_ns))

    def _problem(self, key: str, path: str, error: OSError, is_link: bool = False) -> None:
        if isinstance(error, PermissionError):
            reason = "no permission to read it"
        elif isinstance(error, FileNotFoundError):
            reason = "a link to a file that does not exist" if is_link else "the file does not exist"
        elif error.errno == errno.ELOOP:
            reason = "a link that leads to itself"
        else:  # a name too long, a share that went away
            reason = "the file system cannot open it"
        self.found.problems.append((key, path, reason))


def _datalist_files(file: Path) -> list[tuple[str, Path]]:
    try:
        content = json.loads(file.read_text())
    except PermissionError:
        raise DataError("There is no permission to read the datalist JSON that dataset_dir names.") from None
    except (OSError, ValueError, RecursionError) as error:
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
