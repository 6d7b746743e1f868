# SPDX-License-Identifier: Apache-2.0
"""Keeps a second process out of an output folder while a first is at work in it."""

from __future__ import annotations

import errno
import os
import time
import weakref
from pathlib import Path
from typing import IO

from monai_mixssl.errors import RunFolderError

try:
    import fcntl
except ImportError:  # Windows has none; there a second process is the user's to avoid
    fcntl = None  # type: ignore[assignment]

__all__ = ["RunLock"]

PATIENCE = 15.0  # seconds: a run that was told to end saves a checkpoint first
# The files that this process holds, and for how many: the system drops a lock when any copy of its file is closed.
_HELD: dict[tuple[int, int], tuple[IO[str], int]] = {}


class RunLock:
    """A lock on a file, held by this process until it is released or the process ends.

    A record lock of POSIX: unlike ``flock``'s it is not handed on to the loader's workers, which may outlive a killed
    run by seconds, and it works across machines that share a folder by NFS. A process never locks itself out. (The
    library ``filelock``, which torch brings along, is built on ``flock``.)

    Args:
        file: what to lock; made where it does not exist.
    """

    def __init__(self, file: Path) -> None:
        self._path = file
        self._release: weakref.finalize[[tuple[int, int]], RunLock] | None = None

    def acquire(self) -> bool:
        """Take the lock, waiting some seconds for another process to end.

        Returns:
            Whether it was taken now; False where it is held already, or where the system or its file system has none.

        Raises:
            RunFolderError: another process holds it.
        """
        if fcntl is None or self._release is not None:
            return False
        if self._path.exists() and (key := _identity(os.stat(self._path))) in _HELD:
            file, count = _HELD[key]
        else:
            file, count = open(self._path, "a"), 0  # noqa: SIM115  # it is open as long as the lock is held
            try:
                if not _lock(file):
                    file.close()
                    return False
            except RunFolderError:
                file.close()
                raise
            key = _identity(os.fstat(file.fileno()))
        _HELD[key] = file, count + 1
        self._release = weakref.finalize(self, _let_go, key)  # of a run that failed in a notebook, too
        self._release.atexit = False  # the system does that
        return True

    def release(self) -> None:
        """Let others have it, unless another object of this process holds it, too."""
        if self._release is not None:
            self._release()
            self._release = None


def _let_go(key: tuple[int, int]) -> None:
    file, count = _HELD.pop(key)
    if count > 1:
        _HELD[key] = file, count - 1
    else:
        file.close()


def _lock(file: IO[str]) -> bool:
    """Lock an open file; False where the file system has no locks."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                return False
        else:
            return True
        if time.monotonic() > until:
            raise RunFolderError(
                "another process is at work in output_dir; wait until it has ended, or choose a new folder"
            )
        time.sleep(0.25)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
