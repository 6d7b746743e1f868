# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from PIL import Image

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.sources import SOURCES, FolderImages, SameDomain, build_source


@pytest.mark.parametrize("name", ["dead_leaves", "noise", "fractal", "installed"])
def test_a_source_is_built_by_name(name):
    if name == "installed":
        pytest.importorskip("skimage", reason="its pictures are the source")
    source = build_source(name)
    assert type(source) is SOURCES[name]
    assert source.name == name
    assert source((1, 8, 8))[1].startswith(f"{name}:")


def test_folder_and_same_domain_take_what_they_need(tmp_path):
    Image.linear_gradient("L").save(tmp_path / "a.png")
    assert isinstance(build_source("folder", folder=tmp_path), FolderImages)
    assert isinstance(build_source("same_domain", dataset=[torch.rand(1, 4, 4)]), SameDomain)


def test_an_unknown_name_is_answered_with_the_nearest_and_all_names():
    with pytest.raises(ConfigError, match="did you mean 'dead_leaves'") as error:
        build_source("deadleaves")
    assert all(name in str(error.value) for name in SOURCES)
    with pytest.raises(ConfigError, match="choose one of") as error:
        build_source("xyz")
    assert "did you mean" not in str(error.value)


def test_what_is_missing_or_not_asked_for_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="needs a folder"):
        build_source("folder")
    with pytest.raises(ConfigError, match="needs a dataset"):
        build_source("same_domain")
    with pytest.raises(ConfigError, match="choose the source 'folder'"):
        build_source("noise", folder=tmp_path)
    with pytest.raises(DataError, match="no image files"):
        build_source("folder", folder=tmp_path)
