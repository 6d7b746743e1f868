# SPDX-License-Identifier: Apache-2.0
"""The cross-domain mix-up of two images, as pure functions on tensors.

With a target image ``x`` (medical), a source image ``s`` (another domain) and a transparency ``t`` in [0, 1], the blend
is

    m = t · x + (1 − t) · match(s)

after which ``m`` is given the mean and standard deviation of ``x``. Both steps close a shortcut: without matching,
``t`` can be read from the blend's brightness; with matching alone, ``|t − ½|`` can be read from its contrast, because
the variance of a blend of two uncorrelated images is ``t² + (1 − t)²`` times theirs. ``docs/shortcut.md`` has the
figures.

Source: Y. Zhang et al., "Mix-up Self-Supervised Learning for Contrast-agnostic Applications", ICME 2022, for blending
across domains and predicting the transparency; matching and renormalising are choices of this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_mixssl.errors import ConfigError

__all__ = ["Match", "blend", "check_match", "match_intensity", "renormalize"]

Match = Literal["mean_std", "histogram"]


def blend(
    target: Tensor,
    source: Tensor,
    transparency: float | Tensor | np.ndarray,
    *,
    match: Match | None = "mean_std",
    renormalize: bool = True,
    batch: bool = False,
) -> Tensor:
    """Blend a target image with a source image: ``t · target + (1 − t) · source``.

    All statistics are taken per image and channel, over the whole image. Integers are computed in floating point, then
    rounded and clamped to what their type holds; floating-point results are *not* clamped, so a renormalised blend of
    images in [0, 1] can leave that range a little (clamping would bring back the shortcut that renormalising closes).

    Args:
        target: the medical image, (C, *spatial), or with ``batch`` (B, C, *spatial); 2 or 3 spatial dimensions or any
            other number, any integer or floating-point type, any value range.
        source: the image of the other domain, of the same shape; its type, device and value range may differ.
        transparency: the target's weight in [0, 1]. A number; with ``batch`` also one per image, (B,); or a map
            that broadcasts to the image, (1 | C, *spatial), with ``batch`` (1 | B, 1 | C, *spatial).
        match: how the source is given the target's intensities before blending: ``"mean_std"`` (its mean and standard
            deviation), ``"histogram"`` (all of its distribution) or None (not at all).
        renormalize: whether the blend is given the target's mean and standard deviation. The method as published is
            ``match=None, renormalize=False``.
        batch: whether the first dimension counts images.

    Returns:
        The blend, with the shape, type and device of the target and, where that is a ``MetaTensor``, with a copy of its
        metadata. A transparency of 1 everywhere gives the target's values, whatever the options.

    Raises:
        ConfigError: when the shapes do not fit, the transparency is not within [0, 1], ``match`` is unknown, or the
            images are boolean or complex.

    Examples:
        >>> x, s = torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[8.0, 4.0]]])
        >>> blend(x, s, 0.75, match=None, renormalize=False)
        tensor([[[2.0000, 2.5000]]])
        >>> blend(x, s, 0.75)  # matched, the source is [2, 0] and the blend [0.5, 1.5]; renormalised it is the target
        tensor([[[0., 2.]]])
        >>> blend(torch.stack([x, x]), torch.stack([s, s]), torch.tensor([1.0, 0.0]), batch=True).flatten(1)
        tensor([[0., 2.],
                [2., 0.]])
    """
    check_match(match)
    x, s = _as_float_pair(target, source, "source", batch)
    t = _as_weight(transparency, x, batch)
    s = _match(s, x, match, batch)
    mixed = t * x + (1 - t) * s
    if renormalize:
        mixed = _give_mean_std(mixed, x, batch)
    return _like(mixed, target.dtype, target)


def match_intensity(source: Tensor, target: Tensor, match: Match | None = "mean_std", *, batch: bool = False) -> Tensor:
    """Give the source the target's intensities, per image and channel.

    ``"mean_std"`` is the one linear map that does it. ``"histogram"`` replaces each value by the target's value at the
    same rank (equal values share their mean rank, and so stay equal), interpolating between the target's values. A
    constant source becomes the target's mean, or its median for ``"histogram"``.

    Args:
        source: the image to change, (C, *spatial), or with ``batch`` (B, C, *spatial).
        target: the image whose intensities are wanted, of the same shape.
        match: ``"mean_std"``, ``"histogram"`` or None (a copy: only the type and device change).
        batch: whether the first dimension counts images.

    Returns:
        The matched source, in the target's type and on its device, with the metadata of ``source``.

    Raises:
        ConfigError: when the shapes differ, ``match`` is unknown, or an image is boolean or complex.

    Examples:
        >>> match_intensity(torch.tensor([[[1.0, 2.0, 9.0]]]), torch.tensor([[[30.0, 10.0, 20.0]]]), "histogram")
        tensor([[[10., 20., 30.]]])
    """
    check_match(match)
    x, s = _as_float_pair(target, source, "source", batch)
    # a copy where nothing is changed, as everywhere else
    return _like(_match(s, x, match, batch) if match else s.clone(), target.dtype, source)


def renormalize(image: Tensor, target: Tensor, *, batch: bool = False) -> Tensor:
    """Give an image the target's mean and standard deviation back, per image and channel.

    Args:
        image: the image to change, usually a blend, (C, *spatial), or with ``batch`` (B, C, *spatial).
        target: the image whose mean and standard deviation are wanted, of the same shape.
        batch: whether the first dimension counts images.

    Returns:
        The image, in the target's type and on its device, with the metadata of ``image``. One that is constant becomes
        the target's mean, since it has no contrast to scale.

    Raises:
        ConfigError: when the shapes differ or an image is boolean or complex.

    Examples:
        >>> renormalize(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[10.0, 30.0]]]))
        tensor([[[10., 30.]]])
    """
    x, m = _as_float_pair(target, image, "image", batch)
    return _like(_give_mean_std(m, x, batch), target.dtype, image)


def check_match(match: object) -> None:
    """Raise ConfigError unless ``match`` names a way of matching that :func:`blend` knows."""
    if match is not None and match not in get_args(Match):
        known = ", ".join(f'"{name}"' for name in get_args(Match))
        raise ConfigError(f"match is {match!r} but must be {known} or None.")


def _match(source: Tensor, target: Tensor, match: Match | None, batch: bool) -> Tensor:
    if match == "mean_std":
        return _give_mean_std(source, target, batch)
    if match == "histogram":
        return _give_histogram(source, target, batch)
    return source


def _give_mean_std(image: Tensor, reference: Tensor, batch: bool) -> Tensor:
    dims = tuple(range(2 if batch else 1, image.ndim))
    std, mean = torch.std_mean(image, dims, correction=0, keepdim=True)
    reference_std, reference_mean = torch.std_mean(reference, dims, correction=0, keepdim=True)
    # what is left of a constant image after rounding is no contrast, and must not be blown up into noise
    constant = std <= 8 * torch.finfo(image.dtype).eps * mean.abs()
    scale = torch.where(constant, 0.0, reference_std / std)
    # in this form an image that has the statistics already comes back unchanged, to the bit
    return image * scale + (reference_mean - mean * scale)


def _give_histogram(image: Tensor, reference: Tensor, batch: bool) -> Tensor:
    first = 2 if batch else 1
    values = image.flatten(first).contiguous()
    ordered, wanted = values.sort(dim=-1).values, reference.flatten(first).sort(dim=-1).values
    # mean rank of each value, counted from 0, so that equal values are not torn apart
    below = torch.searchsorted(ordered, values)
    rank = (below + torch.searchsorted(ordered, values, right=True) - 1).to(image.dtype) / 2
    low = rank.floor().long()
    high = rank.ceil().long()
    return torch.lerp(wanted.gather(-1, low), wanted.gather(-1, high), rank - low).reshape(image.shape)


def _as_float_pair(target: Tensor, other: Tensor, name: str, batch: bool) -> tuple[Tensor, Tensor]:
    """Both images as plain tensors on the target's device, in the floating-point type to compute in."""
    for what, image in (("target", target), (name, other)):
        if not isinstance(image, Tensor):
            raise ConfigError(
                f"The {what} is of type {type(image).__name__}: give a tensor, such as torch.as_tensor makes."
            )
    if target.shape != other.shape:
        raise ConfigError(f"The {name} has shape {tuple(other.shape)} but needs the target's, {tuple(target.shape)}.")
    if target.ndim < (3 if batch else 2):
        layout = "(B, C, *spatial)" if batch else "(C, *spatial)"
        raise ConfigError(f"The target has shape {tuple(target.shape)} but must be laid out as {layout}.")
    dtype = _compute_dtype(target, other)
    # statistics of a MetaTensor would be MetaTensors too: slower, and the metadata of the wrong operand could win
    return tuple(_plain(image).to(target.device, dtype) for image in (target, other))  # type: ignore[return-value]  # a pair


def _compute_dtype(*images: Tensor) -> torch.dtype:
    """float32, or float64 where an image's values would not fit into float32."""
    for image in images:
        if image.dtype == torch.bool or image.dtype.is_complex:
            raise ConfigError(f"Images of type {image.dtype} cannot be blended: convert to integer or float first.")
    wide = {torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64}
    return torch.float64 if any(image.dtype in wide for image in images) else torch.float32


def _as_weight(transparency: float | Tensor | np.ndarray, image: Tensor, batch: bool) -> Tensor:
    """The transparency as a checked tensor that broadcasts to the image."""
    if not isinstance(transparency, Tensor):
        try:
            transparency = torch.as_tensor(transparency, dtype=image.dtype)
        except (TypeError, ValueError, RuntimeError):
            kind = type(transparency).__name__
            raise ConfigError(
                f"The transparency is of type {kind}: give a number in [0, 1], or a tensor of such."
            ) from None
    weight = _plain(transparency.to(image.device, image.dtype))
    if not bool(((weight >= 0) & (weight <= 1)).all()):  # this form refuses NaN too
        raise ConfigError("The transparency must lie within [0, 1]: it is the weight of the target in the blend.")
    if weight.ndim == 0:
        return weight
    if batch and weight.shape == image.shape[:1]:
        return weight.reshape(-1, *[1] * (image.ndim - 1))
    if weight.ndim == image.ndim and _broadcasts(weight.shape, image.shape, leading=2 if batch else 1):
        return weight
    expected = "a number, (B,), or a map (B, 1 | C, *spatial)" if batch else "a number or a map (1 | C, *spatial)"
    raise ConfigError(
        f"The transparency has shape {tuple(weight.shape)} but must be {expected} for an image {tuple(image.shape)}."
    )


def _broadcasts(shape: Sequence[int], image_shape: Sequence[int], leading: int) -> bool:
    """Whether the spatial sizes are equal and each of the ``leading`` sizes is equal or 1."""
    same_space = tuple(shape[leading:]) == tuple(image_shape[leading:])
    return same_space and all(n in (1, m) for n, m in zip(shape[:leading], image_shape[:leading], strict=True))


def _plain(image: Tensor) -> Tensor:
    return image.as_tensor() if isinstance(image, MetaTensor) else image


def _like(image: Tensor, dtype: torch.dtype, described: Tensor) -> Tensor:
    """The image in the type asked for, with a copy of the metadata of ``described`` where that has any."""
    if not dtype.is_floating_point:
        limits = torch.iinfo(dtype)
        # the largest float64 below 2**63 and not 2**63 itself, which would wrap around
        highest = min(limits.max, int(np.nextafter(float(limits.max), 0))) if limits.bits == 64 else limits.max
        image = image.round().clamp(limits.min, highest)
    image = image.to(dtype)
    return MetaTensor(image).copy_meta_from(described) if isinstance(described, MetaTensor) else image
