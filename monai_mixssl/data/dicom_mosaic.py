# SPDX-License-Identifier: Apache-2.0
"""Siemens mosaics: all slices of a volume as the tiles of one picture.

The public header describes the picture as if it were one large slice. How many tiles are filled, and on which side the
next slice lies, stands in a private header, which nibabel reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from monai_mixssl.data.records import LeftOut

__all__ = ["Mosaic", "cut_tiles", "read_mosaic"]

MOST_SLICES = 4096


@dataclass(frozen=True)
class Mosaic:
    """Where the slices of a mosaic lie.

    Attributes:
        tiles: tiles along each side of the picture.
        rows, columns: size of a tile.
        positions: centre of the first pixel of each slice, in the order of the tiles, LPS+ millimetres.
        notes: what is unusual.
    """

    tiles: int
    rows: int
    columns: int
    positions: tuple[tuple[float, float, float], ...]
    notes: tuple[str, ...] = ()


def read_mosaic(dataset: Dataset) -> Mosaic:
    """Reads the layout of a mosaic.

    Args:
        dataset: a whole header, private tags included.

    Raises:
        LeftOut: the private header is missing, as after some ways of taking names out, or makes no sense.
    """
    try:
        # imported here: it takes a while, warns that it is experimental, and few folders hold a mosaic
        from nibabel.nicom.csareader import get_csa_header
        from nibabel.nicom.dicomwrappers import MosaicWrapper

        csa = get_csa_header(dataset)
        if csa is None:
            raise LeftOut("Siemens mosaic without its private header")
        mosaic = MosaicWrapper(dataset, csa)
        size, count = int(mosaic.mosaic_size), int(mosaic.n_mosaic)
        rows, columns = divmod(int(dataset.Rows), size), divmod(int(dataset.Columns), size)
        if not 0 < count <= MOST_SLICES or rows[1] or columns[1] or not rows[0] or not columns[0]:
            raise LeftOut("Siemens mosaic whose private header makes no sense", f"{count} slices")
        start, normal, step = mosaic.image_position, mosaic.slice_normal, float(mosaic.voxel_sizes[2])
        if start is None or normal is None or not np.isfinite([*start, *normal, step]).all() or not step > 0:
            raise LeftOut("Siemens mosaic without slice positions")
    except LeftOut:
        raise
    except Exception as error:  # nibabel raises many kinds on damaged private headers
        raise LeftOut("Siemens mosaic whose private header cannot be read", type(error).__name__) from None
    stated = any(dataset.get(keyword) for keyword in ("SpacingBetweenSlices", "SliceThickness"))
    places = np.asarray(start) + np.arange(count)[:, None] * step * np.asarray(normal)
    return Mosaic(
        tiles=size,
        rows=rows[0],
        columns=columns[0],
        positions=tuple((float(x), float(y), float(z)) for x, y, z in places),
        notes=() if stated else ("no slice distance, taken as 1 mm",),
    )


def cut_tiles(frame: np.ndarray, tiles: int) -> np.ndarray:
    """Cuts a mosaic, (rows, columns, C), into (tiles², tile rows, tile columns, C): by rows of tiles, from the top."""
    rows, columns, channels = frame.shape
    cut = frame.reshape(tiles, rows // tiles, tiles, columns // tiles, channels)
    return cut.swapaxes(1, 2).reshape(tiles * tiles, rows // tiles, columns // tiles, channels)
