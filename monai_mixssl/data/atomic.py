# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from monai_mixssl.errors import RunFolderError

__all__ = ["disk_errors", "is_leftover", "write_atomically", "write_json"]

TEMPORARY = ".part"  # suffix of a file that is still being written
# forbidden or read-only, in the place of a file, not there and not to be made (as below /proc), or no name of a folder
_NO_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST} | {
    errno.ENOENT,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.ELOOP,
}


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turns a full or read-only disk, or a place where nothing can be written, into one sentence.

    Args:
        what: what is being written, as the sentence names it; never a path.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFolderError(
                f"The disk of output_dir is full while writing {what}; free some space and go on with --resume True."
            ) from None
        if error.errno in _NO_PLACE:
            raise RunFolderError(
                f"output_dir cannot be written ({what}); choose a folder that you may write to."
            ) from None
        raise


def write_atomically(path: Path, write: Callable[[IO[bytes]], object], what: str) -> None:
    """Writes beside `path`, then moves the result into place: a reader sees the old file or the new one, never a half.

    Args:
        path: file to write; its folder exists.
        write: writes the content to the binary file that it is given.
        what: what is being written, for the error message.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written; the old file is then untouched.
    """
    temporary = path.with_name(f"{path.name}.{threading.get_ident()}.{_machine()}-{os.getpid()}{TEMPORARY}")
    with disk_errors(what):
        try:
            with open(temporary, "wb") as file:
                write(file)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Returns whether a half-written file was left by a process that is gone, not by one that is writing it.

    Of another machine that shares the folder, what has not been touched for a day.
    """
    machine, _, process = path.name.removesuffix(TEMPORARY).rpartition(".")[2].partition("-")
    try:
        if machine == _machine() and not _alive(int(process)):
            return True
        return path.stat().st_mtime < time.time() - 86400
    except (OSError, ValueError):  # gone meanwhile, or named otherwise
        return False


def _machine() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]  # the name itself may say where one works


def _alive(process: int) -> bool:
    if os.name == "nt":  # where signal 0 is no question but Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is someone else's
        return True
    return True


def write_json(path: Path, value: Any, what: str, *, indent: int | None = None) -> None:
    """Writes `value` as JSON, atomically; NaN is refused, since other programs cannot read it."""
    text = json.dumps(value, indent=indent, allow_nan=False)
    write_atomically(path, lambda file: file.write(text.encode()), what)
