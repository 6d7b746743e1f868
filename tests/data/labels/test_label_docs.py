# SPDX-License-Identifier: Apache-2.0
"""The example of docs/labels.md runs, and gives what it says."""

from __future__ import annotations

import re
from pathlib import Path

from monai_mixssl.data.phantoms import write_phantoms

DOCS = Path(__file__).parents[3] / "docs" / "labels.md"


def test_the_example_runs_on_the_phantoms(tmp_path, monkeypatch):
    write_phantoms(tmp_path / "scans", patients=24, image_size=48, slices=2)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall("```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    names: dict = {}
    exec(block, names)
    data = names["data"]
    item = data.train[0]
    assert item == {"image": item["id"], "id": item["id"], "label": item["label"], "slice": 0}
    assert data.classes == ["0", "1"]
    assert data.split_by == "patient"
    assert sum(data.counts().values()) == 24
