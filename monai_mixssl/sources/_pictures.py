# SPDX-License-Identifier: Apache-2.0
"""How a two-dimensional picture becomes a source of the asked channels, size and number of axes."""

from __future__ import annotations

import numpy as np
from PIL import Image

__all__ = ["fit_picture", "open_picture"]

SMALLEST_CROP = 0.25  # least part of the largest possible crop's sides


def open_picture(file: object) -> Image.Image:
    """The picture in ``file`` (a path or a binary stream), decoded, in 8-bit RGB.

    Raises:
        Exception: whatever Pillow raises for the file, which is of many types.
    """
    with Image.open(file) as picture:  # type: ignore[arg-type]  # any file that can be read
        if picture.mode[0] in "IF":
            # 16-bit and floating-point grey, which Pillow would clip at 255
            values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
            values = (values - values.min()) / max(float(np.ptp(values)), 1e-12)
            return Image.fromarray((values * 255).astype(np.uint8)).convert("RGB")
        return picture.convert("RGB")


def fit_picture(picture: Image.Image, shape: tuple[int, ...], random: np.random.RandomState) -> np.ndarray:
    """A random part of an RGB ``picture`` as float32 of ``shape`` (C, *spatial) in [0, 1].

    The part has the asked proportions, a quarter to all of the largest possible sides, any place, and is mirrored
    half of the time; it is resized with antialiasing. One channel gets the luminance, more get red, green, blue in
    turn. For three spatial axes one is drawn along which the picture repeats (extrusion); it fills the other two.
    """
    channels, *spatial = shape
    plane = list(spatial)
    along = int(random.randint(3)) if len(spatial) == 3 else None
    if along is not None:
        del plane[along]
    height, width = plane

    zoom = min(picture.width / width, picture.height / height) * random.uniform(SMALLEST_CROP, 1.0)
    left = random.uniform(0.0, picture.width - zoom * width)
    top = random.uniform(0.0, picture.height - zoom * height)
    mirrored = random.uniform() < 0.5
    part = picture.resize(
        (width, height), Image.Resampling.BILINEAR, box=(left, top, left + zoom * width, top + zoom * height)
    )
    values = np.asarray(part.convert("L") if channels == 1 else part, dtype=np.float32) / np.float32(255)
    values = values[None] if channels == 1 else values.transpose(2, 0, 1)[np.arange(channels) % 3]
    if mirrored:
        values = values[..., ::-1]
    if along is not None:
        values = np.broadcast_to(np.expand_dims(values, along + 1), shape)
    return values
