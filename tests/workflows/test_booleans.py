# SPDX-License-Identifier: Apache-2.0
"""``python -m monai.bundle`` hands ``--resume false`` over as a string, which is true to Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bundle_runs import BUNDLE, SMALL

from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.workflows.last_line import PREFIX

KEYS = {
    "PretrainWorkflow": ("resume", "renormalize", "blend_on_device", "skip_connections", "progress", "pictures"),
    "InferenceWorkflow": ("resume", "progress"),
}
WORDS = {"true": True, "True": True, "1": True, "false": False, "False": False, "0": False}
# what the parser holds for each key and word after `initialize`, or the error's text; as fire would hand the word over
PROGRAM = """
import json, sys
from fire.parser import DefaultParseValue
import monai_mixssl.workflows as workflows
seen = []
for name, keys in json.loads(sys.argv[1]).items():
    for word in json.loads(sys.argv[2]):
        for key in keys:
            workflow = getattr(workflows, name)(logging_file=False, device="cpu", **{key: DefaultParseValue(word)})
            try:
                workflow.initialize()
                value = workflow.parser.get_parsed_content(key)
            except Exception as error:  # MONAI wraps the refusal, which is what is looked at
                value = str(error.__cause__)
            seen.append([name, key, word, value])
print(json.dumps(seen))
"""


def test_every_boolean_key_takes_six_words_and_no_other(command, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    words = [*WORDS, "yes", "no", "2", "TRUE"]
    ended = command(str(tmp_path / "program.py"), json.dumps(KEYS), json.dumps(words), cwd=tmp_path)
    assert ended.status == 0, ended.err
    seen = json.loads(ended.out.splitlines()[-1])
    assert len(seen) == len(words) * 8
    for name, key, word, value in seen:
        if word in WORDS:
            assert value is WORDS[word], (name, key, word)
        else:
            shown = word if word.isdigit() else repr(word)
            assert value == f"{key} must be true or false, not {shown}", (name, key, word)


@pytest.fixture(scope="module")
def pretrain(command, tmp_path_factory) -> Any:
    scans = write_phantoms(tmp_path_factory.mktemp("scans"), patients=3, image_size=32, slices=3)

    def run(output_dir: Path, **keys: Any) -> Any:
        given = {**SMALL, "dataset_dir": scans, "output_dir": output_dir, "max_epochs": 1, **keys}
        overrides = [part for key, value in given.items() for part in (f"--{key}", str(value))]
        return command("monai.bundle", "run", "pretrain", "--config_file", "configs/train.json", *overrides, cwd=BUNDLE)

    return run


@pytest.fixture(scope="module")
def finished(pretrain, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert pretrain(folder, pictures="false", progress="false").status == 0
    return folder


@pytest.mark.parametrize("word", ["false", "False", "0"])
def test_resume_false_does_not_resume(word, pretrain, finished):
    ended = pretrain(finished, resume=word)
    assert ended.status == 1
    assert "output_dir holds another run" in ended.last_line


@pytest.mark.parametrize("word", ["true", "1"])
def test_resume_true_goes_on(word, pretrain, finished):
    ended = pretrain(finished, resume=word)
    assert ended.status == 0, ended.err
    assert "resumed at epoch 1" in ended.out + ended.err


def test_resume_yes_is_refused(pretrain, finished):
    ended = pretrain(finished, resume="yes")
    assert ended.status == 1
    assert ended.last_line == f"{PREFIX}resume must be true or false, not 'yes'"


def test_pictures_false_leaves_no_picture_and_progress_false_no_bar(pretrain, finished, tmp_path):
    assert not list(finished.rglob("*.png"))
    assert "image/s" not in pretrain(tmp_path / "quiet", progress="false", pictures="0").err
    drawn = pretrain(tmp_path / "drawn", progress="true", pictures="true")
    assert len(list((tmp_path / "drawn" / "pictures").glob("*.png"))) >= 3
    for shown in ("image/s", "reconstruction=", "transparency="):
        assert shown in drawn.err
