# SPDX-License-Identifier: Apache-2.0
"""What the bundles' pages and metadata say of keys, files and packages is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from monai_mixssl import workflows
from monai_mixssl.workflows.tracking import NO_TRACKING_RULES

ROOT = Path(__file__).parents[2]
TASKS = ("classification", "segmentation")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("config", "rules"), [("evaluate", "EVALUATE_RULES"), ("inference", "INFER_RULES")])
def test_a_fine_tuning_bundles_page_names_the_keys_of_its_other_configs(task, config, rules):
    page = (ROOT / "bundles" / f"mixssl_{task}" / "docs" / "README.md").read_text()
    said = re.search(rf"`{config}\.json`: (.*?\.)(?: `inference|\n\n)", page, re.DOTALL)[1]
    keys = set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", said)))
    values = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"\(.*?\)", said))))
    known = getattr(workflows, f"{task.upper()}_{rules}").keys() - NO_TRACKING_RULES.keys()
    assert keys == known
    parts = json.loads((ROOT / "bundles" / f"mixssl_{task}" / "configs" / f"{config}.json").read_text())
    assert parts["output_dir"] in values


@pytest.mark.parametrize("task", ["pretraining", *TASKS])
def test_a_page_names_both_files_that_are_shared_and_how_they_are_loaded(task):
    bundle = ROOT / "bundles" / f"mixssl_{task}"
    page = (bundle / "docs" / "README.md").read_text()
    weights = "encoder.safetensors" if task == "pretraining" else "model.safetensors"
    for name in (f"models/{weights}", "models/model.pt"):
        assert f"path: {name}" in (bundle / "large_files.yml").read_text()
    call = f'monai.bundle.load("mixssl_{task}",bundle_dir="/my/bundles",workflow_type="inference")'
    assert call in "".join(page.split())
