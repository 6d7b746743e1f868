# SPDX-License-Identifier: Apache-2.0
"""Short ids that stand for files, series and patients wherever a name must not.

An id is the start of an HMAC-SHA256 under a random salt: without the salt (which lies in `private/` alone) nobody can
test whether a known name or UID is behind it, and two runs do not share ids.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable

__all__ = ["ID_LENGTH", "list_hash", "new_salt", "short_id"]

ID_LENGTH = 12  # hexadecimal digits: 48 bits, one chance in 56,000 that any two of 100,000 ids collide


def new_salt() -> bytes:
    """Returns 32 random bytes from the operating system."""
    return secrets.token_bytes(32)


def short_id(salt: bytes, *parts: str, length: int = ID_LENGTH) -> str:
    """Hashes `parts` to an id of 12 hexadecimal digits, or another number of them.

    Args:
        salt: secret of this run, see `new_salt`.
        parts: what the id stands for. The first is a kind ("file", "series", "patient"), so that equal texts of two
            kinds get different ids.
        length: number of digits, at most 64.
    """
    # the separator cannot occur in a path or a UID, so ("a", "bc") and ("ab", "c") differ
    message = "\0".join(parts).encode("utf-8", errors="surrogateescape")
    return hmac.digest(salt, message, "sha256").hex()[:length]


def list_hash(ids: Iterable[str]) -> str:
    """Returns the SHA-256 of the sorted ids: two data lists are the same when this is, whatever their order."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
