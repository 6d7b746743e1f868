# SPDX-License-Identifier: Apache-2.0
"""Keeps the libraries that read files from writing on the console.

GDCM's JPEG codec prints "Unsupported JPEG data precision 12" on C's stderr for files that it then decodes; Python's
`redirect_stderr` does not reach that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import ClassVar

__all__ = ["quiet_libraries", "quiet_stderr"]

LOGGERS = ("pydicom", "nibabel.global", "PIL")  # Pillow's plugins log below "PIL"

_lock = threading.Lock()
_users = 0
_saved = -1


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Sends file descriptor 2 to nowhere while the block runs; threads may overlap, the last one out restores it."""
    global _users, _saved
    with _lock:
        if _users == 0:
            with contextlib.suppress(AttributeError, ValueError, OSError):  # no stderr at all, or a closed one
                sys.stderr.flush()
            with contextlib.suppress(OSError):
                _saved = os.dup(2)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.close(nowhere)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _saved >= 0:
                os.dup2(_saved, 2)
                os.close(_saved)
                _saved = -1


class _Muted:
    """What was there before the first of several overlapping blocks."""

    users = 0
    levels: ClassVar[dict[str, int]] = {}
    filters: warnings.catch_warnings[None]


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Mutes Python's warnings and the loggers of pydicom, nibabel and Pillow while the block runs.

    They quote values that they find odd, and such a value may be a patient's name in the wrong place. What matters
    comes back as the reason for which a file is left out. Outside the block everything is as the user has set it, so
    this is not done at import. Threads may overlap, the last one out restores it. Also serves as a decorator.
    """
    with _lock:
        if _Muted.users == 0:
            _Muted.filters = warnings.catch_warnings()
            _Muted.filters.__enter__()
            warnings.simplefilter("ignore")
            for name in LOGGERS:
                logger = logging.getLogger(name)
                _Muted.levels[name] = logger.level
                logger.setLevel(logging.CRITICAL + 1)
        _Muted.users += 1
    try:
        yield
    finally:
        with _lock:
            _Muted.users -= 1
            if _Muted.users == 0:
                for name, level in _Muted.levels.items():
                    logging.getLogger(name).setLevel(level)
                _Muted.filters.__exit__(None, None, None)
