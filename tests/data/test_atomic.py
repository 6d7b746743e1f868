# SPDX-License-Identifier: Apache-2.0
"""Places where nothing can be written end in a sentence that does not name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.errors import RunFolderError


def in_the_place_of_a_file(folder: Path) -> Path:
    (folder / "doe_jane").write_text("a letter")
    return folder / "doe_jane"


def below_a_link_that_leads_back(folder: Path) -> Path:
    (folder / "doe_jane").symlink_to(folder / "doe_jane")
    return folder / "doe_jane" / "run"


PLACES = {
    "a file": in_the_place_of_a_file,
    "a loop": below_a_link_that_leads_back,
    "a name that is too long": lambda folder: folder / ("doe_jane" * 100),
    "where no folder can be made": lambda folder: Path("/proc/doe_jane"),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_output_folder_that_cannot_be_made_is_one_sentence(place, tmp_path):
    if place == "where no folder can be made" and not Path("/proc/self").exists():
        pytest.skip("this system has no /proc")
    with pytest.raises(RunFolderError, match=r"^output_dir cannot be written .* choose a folder that") as caught:
        PrivateFolder(PLACES[place](tmp_path))
    assert "doe_jane" not in str(caught.value)
