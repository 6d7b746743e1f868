# SPDX-License-Identifier: Apache-2.0
"""The examples of loading in docs/networks.md run, and print what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pretrained import pretrained

PAGE = Path(__file__).parents[2] / "docs" / "networks.md"


def test_the_examples_of_loading_run_and_print_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = re.search(r"^## Loading the encoder elsewhere$(.*?)^## ", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert section is not None
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", section[1], re.M | re.S)
    assert [kind for kind, _ in blocks] == ["python", "python", "text"]
    pretrained(tmp_path)
    monkeypatch.chdir(tmp_path)
    printed = []
    for _, code in blocks[:2]:
        exec(code, {})
        printed.append(capsys.readouterr().out)
    assert printed[0].count("(100.0 %) came from the file") == 4  # three encoders and a decoder
    assert printed[1] == blocks[2][1]
