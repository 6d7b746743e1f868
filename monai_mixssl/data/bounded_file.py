# SPDX-License-Identifier: Apache-2.0
"""An open file of which nobody can ask for more than it holds."""

from __future__ import annotations

import io
import os

__all__ = ["BoundedFile"]


class BoundedFile(io.BufferedReader):
    """Opens a file to read it; takes no more memory than the file is long, whatever is asked for.

    Python takes memory for all bytes that are asked for before it reads the first, and pydicom asks for what an element
    says of its length: up to 4 GB in a file of a few bytes, if these are damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(open(path, "rb", 0))  # noqa: SIM115 (closed with this)
        self._most = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads up to `size` bytes, all that is left by default."""
        return super().read(size if size is None or size <= self._most else self._most)
