# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest

from monai_mixssl.errors import ConfigError
from monai_mixssl.sources import InstalledImages, installed

LOADERS = {"clock_motion": "clock"}


def test_thirteen_photographs_are_found_where_both_packages_are_installed():
    pytest.importorskip("skimage", reason="its pictures are the source")
    pytest.importorskip("sklearn", reason="its pictures are the source")
    source = InstalledImages().set_random_state(0)
    assert len(source) == 13
    assert len({source((1, 8, 8))[1] for _ in range(200)}) == 13


@pytest.mark.parametrize("file", installed.LICENCES["skimage/data"])
def test_scikit_image_states_the_licence_that_is_listed(file):
    data = pytest.importorskip("skimage.data", reason="its pictures are the source")
    name = file.split(".")[0]
    text = " ".join(getattr(data, LOADERS.get(name, name)).__doc__.split())
    listed = installed.LICENCES["skimage/data"][file]
    stated = {"CC0": "CC0", "public domain": "public domain", "no known": "No known copyright restrictions"}
    assert next(words for start, words in stated.items() if listed.startswith(start)) in text


@pytest.mark.parametrize("file", installed.LICENCES["sklearn/datasets/images"])
def test_scikit_learn_states_the_licence_that_is_listed(file):
    sklearn = pytest.importorskip("sklearn", reason="its pictures are the source")
    with open(f"{sklearn.__path__[0]}/datasets/images/README.txt") as readme:
        part = re.search(rf"Image: {file}(.*?)(?=Image: |\Z)", readme.read(), re.S).group(1)
    assert "creative commons license" in part
    assert "licenses/by/2.0" in part
    author = re.search(r"\((\w+), flickr", installed.LICENCES["sklearn/datasets/images"][file]).group(1)
    assert f"flickr.com/photos/{author}" in part


def test_drawing_imports_neither_package_and_downloads_nothing():
    pytest.importorskip("skimage", reason="its pictures are the source")
    code = (
        "import sys\n"
        "from monai_mixssl.sources.installed import InstalledImages\n"
        "before = set(sys.modules)\n"
        "InstalledImages().set_random_state(0)((3, 16, 16))\n"
        "print(sorted(m for m in set(sys.modules) - before if m.startswith(('skimage', 'sklearn', 'pooch'))))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_without_the_packages_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(installed, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install monai-mixssl\[pictures\]"):
        InstalledImages()


def test_one_package_is_enough_and_a_warning_says_how_many_photographs_are_missing(monkeypatch):
    pytest.importorskip("sklearn", reason="its pictures are the source")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(installed, "find_spec", lambda name: None if name == "skimage" else find_spec(name))
    with pytest.warns(UserWarning, match=r"Of the 13 photographs .* 2 are there.*monai-mixssl\[pictures\]"):
        source = InstalledImages()
    assert len(source) == 2
