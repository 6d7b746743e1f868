# SPDX-License-Identifier: Apache-2.0
"""That the search for names finds one, wherever it may be packed: its silence elsewhere says something."""

from __future__ import annotations

import gzip
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, PngImagePlugin
from sentinel_search import found_below
from torch.utils.tensorboard import SummaryWriter

PLANTED: dict[str, Any] = {}


def plants(name: str) -> Any:
    return lambda write: PLANTED.setdefault(name, write)


@plants("text.txt")
def _text(path: Path) -> None:
    path.write_text("Quarzfels")


@plants("utf16.txt")
def _utf16(path: Path) -> None:
    path.write_text("Quarzfels", encoding="utf-16")


@plants("utf16 of the other end.txt")
def _utf16_big(path: Path) -> None:
    path.write_bytes("Quarzfels".encode("utf-16-be"))


@plants("array.npz")
def _array(path: Path) -> None:
    np.savez_compressed(path, names=np.array(["Quarzfels"]))


@plants("nested.gz")
def _nested(path: Path) -> None:
    torch.save({"name": "Quarzfels"}, path)
    path.write_bytes(gzip.compress(path.read_bytes()))


@plants("weights.safetensors")
def _weights(path: Path) -> None:
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"name": "Quarzfels"})


@plants("traced.ts")
def _traced(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), path, _extra_files={"name": "Quarzfels"})


@plants("picture.png")
def _picture(path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "Quarzfels", zip=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path, pnginfo=info)


@plants("rows.db")
def _rows(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table params (value text)")
        connection.execute("insert into params values ('Quarzfels')")


@plants("events")
def _events(path: Path) -> None:
    with SummaryWriter(str(path)) as writer:
        writer.add_text("name", "Quarzfels")


@plants("Quarzfels/empty.txt")
def _name(path: Path) -> None:
    path.parent.mkdir()
    path.touch()


@pytest.mark.parametrize("name", PLANTED)
def test_the_search_finds_a_word_in_every_kind_of_file(name, tmp_path):
    (tmp_path / "out" / "private").mkdir(parents=True)
    PLANTED[name](tmp_path / "out" / name)
    assert found_below(tmp_path, ["quarzFELS"])
    assert not found_below(tmp_path, ["another word"])
    assert not found_below(tmp_path, ["quarzfels"], private=True)
