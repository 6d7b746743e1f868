# SPDX-License-Identifier: Apache-2.0
"""Photographs that scikit-image and scikit-learn install with themselves, as the second domain."""

from __future__ import annotations

import hashlib
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from monai_mixssl.errors import ConfigError
from monai_mixssl.sources._pictures import fit_picture, open_picture
from monai_mixssl.sources.base import Source

__all__ = ["LICENCES", "InstalledImages"]

# package -> file -> licence, as stated in the docstring of the function in skimage.data that loads the file, and in
# sklearn/datasets/images/README.txt
LICENCES: dict[str, dict[str, str]] = {
    "skimage/data": {
        "astronaut.png": "public domain (NASA)",
        "brick.png": "CC0 (CC0Textures)",
        "camera.png": "CC0 (Lav Varshney)",
        "chelsea.png": "CC0 (Stefan van der Walt)",
        "clock_motion.png": "public domain (Stefan van der Walt)",
        "coffee.png": "CC0 (Rachel Michetti)",
        "coins.png": "no known copyright restrictions (Brooklyn Museum)",
        "grass.png": "CC0 (linolafett, DeviantArt)",
        "gravel.png": "CC0 (CC0Textures)",
        "hubble_deep_field.jpg": "public domain (NASA)",
        "rocket.jpg": "public domain (SpaceX)",
    },
    "sklearn/datasets/images": {
        "china.jpg": "CC BY 2.0 (danielbuechele, flickr)",
        "flower.jpg": "CC BY 2.0 (vultilion, flickr)",
    },
}


class InstalledImages(Source):
    """Random parts of thirteen photographs that come with scikit-image and scikit-learn: nothing is downloaded.

    Either package is enough, though fewer photographs were never measured, and a warning says how many are missing.
    They serve as :class:`~monai_mixssl.sources.FolderImages` do: crop, mirror, resize,
    channels, and extrusion along a drawn axis for 3D targets. The files are opened where the packages lie, without
    importing either. Used are

    - scikit-image: astronaut, hubble_deep_field (NASA), rocket (SpaceX), clock_motion (S. van der Walt): public
      domain; coins (Brooklyn Museum): no known copyright restrictions; brick and gravel (CC0Textures), camera
      (L. Varshney), chelsea (S. van der Walt), coffee (R. Michetti), grass (linolafett): CC0;
    - scikit-learn: china (danielbuechele, flickr) and flower (vultilion, flickr): CC BY 2.0, which asks for the
      author to be named wherever the picture is shown.

    Not used, though installed: files with no stated licence (moon, page, logo, motorcycle, color …), drawings, and
    medical or microscopic ones, which are no second domain (retina, microaneurysms, ihc, cell, phantom).

    Raises:
        ConfigError: neither package is installed, or none of the files is there.
    """

    name = "installed"

    def __init__(self) -> None:
        self._files = _installed_files()
        if not self._files:
            raise ConfigError(
                "The source 'installed' needs the photographs of scikit-image or scikit-learn, which are not there: "
                "pip install monai-mixssl[pictures]"
            )
        whole = sum(map(len, LICENCES.values()))
        if len(self._files) < whole:
            warnings.warn(
                f"Of the {whole} photographs of the source 'installed' {len(self._files)} are there: scikit-image or "
                "scikit-learn is not installed, or has other files; for all: pip install monai-mixssl[pictures]",
                stacklevel=2,
            )

    def __len__(self) -> int:
        """How many photographs can be drawn."""
        return len(self._files)

    def _draw(self, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
        picture, identifier = _load(self._files[self.R.randint(len(self._files))])
        return fit_picture(picture, shape, self.R), f"{self.name}:{identifier}"


def _installed_files() -> list[str]:
    found = []
    for folder, files in LICENCES.items():
        package, *below = folder.split("/")
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            found += [str(file) for name in files if (file := Path(place, *below, name)).is_file()]
    return found


@cache
def _load(file: str) -> tuple[Image.Image, str]:
    """The decoded photograph (13 of them take 11 MB in all) and the hash of its content; kept per process."""
    content = Path(file).read_bytes()
    return open_picture(file), hashlib.blake2b(content, digest_size=6).hexdigest()
