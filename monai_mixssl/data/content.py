# SPDX-License-Identifier: Apache-2.0
"""Tells whether two files hold the same image, by a hash of the decoded values.

The plain hash of an image stays in `private/`; what goes further is hashed again under the run's salt, so that nobody
without the salt can test whether a known image is behind it.
"""

from __future__ import annotations

import hashlib

import numpy as np

from monai_mixssl.data.identity import short_id
from monai_mixssl.data.orientation import to_ras
from monai_mixssl.data.volume import Volume

__all__ = ["content_digest", "content_id", "values_digest"]


def content_digest(volume: Volume) -> str:
    """Hashes the values of an image: SHA-256, 64 hexadecimal digits.

    Format, compression, stored type and metadata do not matter, nor does the order of the axes of a volume (a DICOM
    series and the NIfTI file that was made of it agree), nor whether grey is stored as three equal colours. A single
    changed value does.

    Raises:
        LeftOut: the affine of a volume is singular.
    """
    array = volume.array
    if volume.affine is not None:
        array, _, _ = to_ras(array, volume.affine)
    if array.shape[0] == 3 and np.array_equal(array[0], array[1]) and np.array_equal(array[0], array[2]):
        array = array[:1]
    return values_digest(array)


def values_digest(array: np.ndarray) -> str:
    """Hashes shape and values of an array, as float32, whatever its stored type: SHA-256, 64 hexadecimal digits."""
    values = np.ascontiguousarray(array, dtype="<f4") + np.float32(0)  # makes 0 of −0
    digest = hashlib.sha256(repr(values.shape).encode())
    digest.update(values.data)
    return digest.hexdigest()


def content_id(salt: bytes, digest: str) -> str:
    """Returns the id of an image's content under the salt of a run, 12 hexadecimal digits."""
    return short_id(salt, "content", digest)
