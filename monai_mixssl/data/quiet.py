# SPDX-License-Identifier: Apache-2.0
"""Keeps C libraries from writing on the console.

GDCM's JPEG codec prints "Unsupported JPEG data precision 12" on C's stderr for files that it then decodes; Python's
`redirect_stderr` does not reach that.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

__all__ = ["quiet_stderr"]

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
