# SPDX-License-Identifier: Apache-2.0
"""A search for words in every file of a folder, whatever it is packed in, and in every name."""

from __future__ import annotations

import gzip
import io
import sqlite3
import zipfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from PIL import Image


def readings(where: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """The bytes, and what is packed in them, at any depth."""
    yield where, content
    if content.startswith(b"PK\3\4"):  # also npz, pt, TorchScript
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                yield f"{where}:{member.filename}", member.filename.encode()
                yield from readings(f"{where}:{member.filename}", archive.read(member))
    elif content.startswith(b"\x1f\x8b"):
        yield from readings(f"{where}:unpacked", gzip.decompress(content))
    elif content.startswith(b"SQLite format 3\0"):
        connection = sqlite3.connect(":memory:")
        connection.deserialize(content)
        yield f"{where}:rows", "\n".join(connection.iterdump()).encode()
        connection.close()
    elif content.startswith(b"\x89PNG"):
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()  # texts may stand behind the pixels
            yield f"{where}:texts", repr((picture.info, dict(picture.getexif()))).encode()


def found_in(readable: Iterable[tuple[str, bytes]], words: Collection[str]) -> list[str]:
    """Where one of the words stands, in any case; in UTF-16 and UTF-32, too, which are ASCII with zeros between."""
    codes = [(word, word.lower().encode("ascii")) for word in words]
    hits = []
    for where, content in readable:
        plain = content.replace(b"\0", b"").lower()
        hits += [f"{where}: {word}" for word, code in codes if code in plain]
    return hits


def files_below(folder: Path, private: bool) -> Iterator[tuple[str, bytes]]:
    """Every file and every name in ``private/`` folders, or outside of them."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if ("private" in name.parts[:-1]) == private:
            yield f"name of {name}", name.name.encode()
            if path.is_file():
                yield from readings(str(name), path.read_bytes())


def found_below(folder: Path, words: Collection[str], private: bool = False) -> list[str]:
    """Where one of the words stands in a folder of outputs: outside of ``private/``, or in it."""
    return found_in(files_below(folder, private), words)
