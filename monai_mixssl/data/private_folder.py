# SPDX-License-Identifier: Apache-2.0
"""`<output_dir>/private/`: the one place where paths, the salt and the id-to-file table may stand."""

from __future__ import annotations

import csv
import io
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from monai_mixssl.data.atomic import TEMPORARY, disk_errors, is_leftover, write_atomically
from monai_mixssl.data.identity import new_salt

__all__ = ["PrivateFolder"]


class PrivateFolder:
    """Creates `private/` (mode 0700) in an output folder, or opens the one that is there.

    It holds `salt` (secret of the ids), `files.csv` (which file is behind an id), `index.json` (what the scan found),
    `scan/` (what it saw of each file, see `ScanIndex`) and `prepared/` (the normalised arrays).

    Args:
        output_dir: the run's output folder; created when missing.

    Raises:
        RunFolderError: the folder cannot be written.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.path = Path(output_dir) / "private"
        self.prepared = self.path / "prepared"
        self.index = self.path / "index.json"
        self.scan = self.path / "scan"
        with disk_errors("the folder private/"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            self.path.chmod(0o700)  # mkdir's mode is subject to the umask, and the folder may be older
            self.prepared.mkdir(mode=0o700, exist_ok=True)

    def salt(self) -> bytes:
        """Returns the salt of this run; the first call draws it."""
        file = self.path / "salt"
        if not file.exists():
            self._draw_salt(file)
        return bytes.fromhex(file.read_text().strip())

    def _draw_salt(self, file: Path) -> None:
        """Writes a salt, unless another process is first: two with one folder must not have two."""
        own = self.path / f"salt.{secrets.token_hex(4)}"
        write_atomically(own, lambda opened: opened.write(new_salt().hex().encode()), "the salt")
        own.chmod(0o600)
        try:
            os.link(own, file)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(own, file)
        finally:
            own.unlink(missing_ok=True)

    def write_files(self, rows: Iterable[tuple[str, str, str, int]]) -> None:
        """Writes `files.csv`: one row (id, use, path, part) for each file behind an id; part is its frame or volume."""
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(["id", "use", "path", "part"])
        table.writerows(rows)
        content = text.getvalue().encode("utf-8", errors="surrogateescape")
        write_atomically(self.path / "files.csv", lambda file: file.write(content), "the table of files")

    def remove_leftovers(self) -> None:
        """Deletes what a killed run left half-written, and nothing that another process is writing."""
        for file in self.prepared.glob(f"*{TEMPORARY}"):
            if is_leftover(file):
                file.unlink(missing_ok=True)
