# SPDX-License-Identifier: Apache-2.0
"""Keeps a second process out of an output folder while a first is at work in it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import IO

from monai_mixssl.errors import RunFolderError

try:
    import fcntl
except ImportError:  # Windows has none; there a second process is the user's to avoid
    fcntl = None  # type: ignore[assignment]

__all__ = ["RunLock"]


class RunLock:
    """A lock on a file, held by this process until it is released or the process ends, however it ends.

    A record lock of POSIX: unlike ``flock``'s it is not handed on to the loader's workers, which may outlive a killed
    run by seconds, and it works across machines that share a folder by NFS. A process never locks itself out.

    Args:
        file: what to lock; made where it does not exist.
    """

    def __init__(self, file: Path) -> None:
        self._path = file
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock; without effect where it is held already, or where the file system has no locks.

        Raises:
            RunFolderError: another process holds it.
        """
        if fcntl is None or self._file is not None:
            return
        file = open(self._path, "a")  # noqa: SIM115  # it is open as long as the lock is held
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise RunFolderError(
                    "another process is at work in output_dir; wait until it has ended, or choose a new folder"
                ) from None
            return
        self._file = file

    def release(self) -> None:
        """Let others have it."""
        if self._file is not None:
            self._file.close()
            self._file = None
