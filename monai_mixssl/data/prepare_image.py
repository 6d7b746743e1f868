# SPDX-License-Identifier: Apache-2.0
"""Prepares one image: channels, orientation, spacing, normalisation, foreground, slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Spacing

from monai_mixssl.data.foreground import TOO_LITTLE, foreground_box, foreground_share
from monai_mixssl.data.normalize import choose_normalization
from monai_mixssl.data.orientation import slice_axis, to_ras, upright
from monai_mixssl.data.records import LeftOut, ScanImage
from monai_mixssl.data.settings import PrepareSettings
from monai_mixssl.data.volume import Volume

__all__ = ["prepare_image"]

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow's "L"


def prepare_image(image: ScanImage, volume: Volume, settings: PrepareSettings) -> tuple[np.ndarray, dict[str, Any]]:
    """Turns what was read into what is trained on.

    Args:
        image: what the scan says.
        volume: what was read.
        settings: how to prepare.

    Returns:
        A float16 array with values in [0, 1]: in 3D (C, x, y, z) in RAS+; in 2D (slices, C, rows, columns), upright,
        without the slices that are left out. Then a record of what was done, JSON types only and free of identifiers;
        in 2D "slices" are the numbers of those kept, "found_slices" is how many there were, and "left_out_slices" holds
        the numbers of the others by reason.

    Raises:
        LeftOut: the image cannot be used.
    """
    array, affine, spacing = volume.array, volume.affine, volume.spacing
    single = array.ndim == 3 or array.shape[1:].count(1) > 0
    if settings.spatial_dims == 3:
        if single:
            raise LeftOut("a single image, and spatial_dims is 3")
        if affine is None:
            raise LeftOut("frames without positions, and spatial_dims is 3")
    array = _channels(array, settings.in_channels)
    if not np.isfinite(array).all():
        raise LeftOut("NaN or infinite values")
    if array.min() == array.max():
        raise LeftOut("constant image")
    axis = 2
    if affine is not None:
        axis = (
            2 if image.kind == "dicom" else slice_axis(array.shape[1:], affine)
        )  # DICOM is stacked along its last axis
        array, affine, order = to_ras(array, affine)
        axis = order[axis]
        spacing = tuple(float(step) for step in np.linalg.norm(affine[:3, :3], axis=0))
    array, affine, spacing = _resample(array, affine, spacing, axis, settings)
    normalization = choose_normalization(array, volume.modality, settings.normalization)
    array = normalization.apply(array)
    record: dict[str, Any] = {"id": image.id, "kind": image.kind, "modality": volume.modality}
    if settings.spatial_dims == 3 and affine is not None:
        array, affine = _crop_volume(array, affine, settings)
        record["affine"] = np.round(affine, 6).tolist()
    else:
        array, spacing, left_out = _slices(array, affine, spacing, axis, settings)
        gone = {number for numbers in left_out.values() for number in numbers}
        record["found_slices"] = len(array)
        record["slices"] = [number for number in range(len(array)) if number not in gone]
        record["left_out_slices"] = left_out
        record["slice_axis"] = axis
        array = array[record["slices"]]
    record |= {
        "shape": list(array.shape),
        "spacing": None if spacing is None else [round(step, 6) for step in spacing],
        "normalization": normalization.as_dict(),
        "foreground": round(foreground_share(array if settings.spatial_dims == 3 else np.swapaxes(array, 0, 1)), 4),
        "notes": list(volume.notes or image.notes),
    }
    return np.ascontiguousarray(array, dtype=np.float16), record


def _channels(array: np.ndarray, wanted: int) -> np.ndarray:
    if array.shape[0] == 3 and wanted == 1:
        return np.tensordot(np.asarray(LUMINANCE, dtype=np.float32), array.astype(np.float32), axes=1)[None]
    if array.shape[0] == 1 and wanted == 3:
        return np.repeat(array, 3, axis=0)
    return array


def _resample(
    array: np.ndarray,
    affine: np.ndarray | None,
    spacing: tuple[float, ...] | None,
    axis: int,
    settings: PrepareSettings,
) -> tuple[np.ndarray, np.ndarray | None, tuple[float, ...] | None]:
    if settings.spacing is None or spacing is None:
        return array, affine, spacing
    wanted: list[float] = list(settings.spacing)  # type: ignore[arg-type]  # a tuple once checked
    if settings.spatial_dims == 2 and affine is not None:
        # rows and columns of an upright slice are the second and first of the two remaining axes
        wanted = wanted[::-1]
        wanted.insert(axis, spacing[axis])
    elif settings.spatial_dims == 2:
        wanted = wanted[::-1]
    matrix = affine if affine is not None else np.diag([*spacing[:2], 1.0, 1.0])
    extra = array.ndim == 3
    values = np.ascontiguousarray(array[..., None] if extra else array, dtype=np.float32)
    tensor = MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(matrix))
    out: Any = Spacing([*wanted, 1.0][:3], mode="bilinear", padding_mode="border", dtype=np.float32)(tensor)
    result = out.numpy()[..., 0] if extra else out.numpy()
    return result, None if affine is None else np.asarray(out.affine, dtype=float), tuple(wanted)


def _crop_volume(array: np.ndarray, affine: np.ndarray, settings: PrepareSettings) -> tuple[np.ndarray, np.ndarray]:
    patch: Sequence[int] = settings.patch_size  # type: ignore[assignment]  # a tuple once checked
    box = foreground_box(array, patch)
    array = array[(slice(None), *box)]
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ [piece.start for piece in box]
    _refuse_small(array.shape[1:], patch, settings.max_pad)
    if foreground_share(array) < max(settings.min_foreground, 1e-12):
        raise LeftOut(TOO_LITTLE)
    return array, moved


def _slices(
    array: np.ndarray,
    affine: np.ndarray | None,
    spacing: tuple[float, ...] | None,
    axis: int,
    settings: PrepareSettings,
) -> tuple[np.ndarray, tuple[float, ...] | None, dict[str, list[int]]]:
    """Returns all slices (slices, C, rows, columns), their spacing, and the numbers of those to leave out by reason."""
    patch: Sequence[int] = settings.patch_size  # type: ignore[assignment]  # a tuple once checked
    if affine is not None:
        stack = upright(array, axis)
        rest = [step for other, step in enumerate(spacing or ()) if other != axis]
        spacing = (rest[1], rest[0]) if rest else None
    else:  # (C, x, y[, frames]) is columns first
        stack = np.moveaxis(array if array.ndim == 4 else array[..., None], 3, 0).swapaxes(2, 3)
        spacing = None if spacing is None else (spacing[1], spacing[0])
    together = stack.max(axis=0)  # one box for all slices, so that they stay aligned
    stack = stack[(slice(None), slice(None), *foreground_box(together, patch))]
    _refuse_small(stack.shape[2:], patch, settings.max_pad)
    least = max(settings.min_foreground, 1e-12)
    left_out: dict[str, list[int]] = {}
    for number, one in enumerate(stack):
        if foreground_share(one) < least:
            left_out.setdefault(TOO_LITTLE, []).append(number)
        elif not one.min() < one.max():
            left_out.setdefault("constant", []).append(number)
    if sum(map(len, left_out.values())) == len(stack):
        raise LeftOut(TOO_LITTLE)
    return stack, spacing, left_out


def _refuse_small(shape: tuple[int, ...], patch: Sequence[int], max_pad: float) -> None:
    if any(size * max_pad < wanted for size, wanted in zip(shape, patch, strict=True)):
        sizes = " by ".join(map(str, shape)) + " for a patch of " + " by ".join(map(str, patch))
        raise LeftOut("smaller than the patch by more than max_pad_factor", sizes)
