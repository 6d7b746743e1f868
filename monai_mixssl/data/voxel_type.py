# SPDX-License-Identifier: Apache-2.0
"""Keeps voxels in the smallest type that holds their values."""

from __future__ import annotations

import numpy as np

__all__ = ["smallest_type"]

# int16 before uint16: equal in size, and torch computes with the former alone
INTEGERS = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)


def smallest_type(array: np.ndarray) -> np.ndarray:
    """Returns the same values in the smallest integer type that holds them, or in float32.

    Decoders widen: a CT of 16-bit values comes back as int32 once it is rescaled, a scaled NIfTI file as float64.
    Whole numbers become integers however they are stored. Fractions become float32, rounded to its 24 bits; a rescaled
    value has no more than the 16 bits that were stored.

    Args:
        array: numbers of any type and byte order.

    Returns:
        The array itself where it fits already, in the machine's byte order.

    >>> import numpy as np
    >>> smallest_type(np.array([-1024.0, 3071.0])).dtype
    dtype('int16')
    >>> smallest_type(np.array([0.5, 1e300])).dtype
    dtype('float64')
    """
    if array.dtype == np.bool_ or array.size == 0:
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        return _floats(array)
    if array.dtype.kind not in "iu":
        return array  # complex numbers: the caller refuses them
    if array.dtype == np.uint8:
        return array
    return array.astype(_integer_for(int(array.min()), int(array.max())), copy=False)


def _floats(array: np.ndarray) -> np.ndarray:
    smallest, largest = float(array.min()), float(array.max())
    if not np.isfinite([smallest, largest]).all():  # NaN and infinity are the caller's to refuse
        return array.astype(np.float32) if array.dtype.itemsize < 4 else array.astype(array.dtype.newbyteorder("="))
    if max(-smallest, largest) < 2**31:
        wanted = _integer_for(int(smallest), int(largest))
        whole = array.astype(wanted)
        if np.array_equal(whole, array):
            return whole
    if max(-smallest, largest) > float(np.finfo(np.float32).max):
        return array.astype(np.float64, copy=False)
    return array.astype(np.float32, copy=False)


def _integer_for(smallest: int, largest: int) -> type[np.integer]:
    for kind in INTEGERS:
        limits = np.iinfo(kind)
        if limits.min <= smallest and largest <= limits.max:
            return kind
    return np.int64
