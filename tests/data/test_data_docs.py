# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/data.md run, and do what they say."""

from __future__ import annotations

import re
from pathlib import Path

from tiny_scans import blob, write_series

DOCS = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_examples_load_a_folder_and_crop_reproducibly(tmp_path):
    write_series(tmp_path / "Doe^John", blob((20, 40, 40)), PatientName="Doe^John")
    blocks = re.findall("```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    names = {"path": str(tmp_path / "Doe^John"), "cache_dir": str(tmp_path / "cache")}
    for block in blocks:
        exec(block, names)
    image = names["load"]({"image": names["path"]})["image"]
    assert image.shape == (1, 40, 40, 20)
    assert (float(image.min()), float(image.max())) == (0, 1)
    assert image.meta["normalization"]["rule"] == "percentiles"
    assert "Doe" not in str(image.meta)
    first, again = names["dataset"][0]["image"], names["dataset"][0]["image"]
    assert first.shape == (1, 16, 16, 16)
    assert (first == again).all()
    assert len(list((tmp_path / "cache").iterdir())) == 1
