# SPDX-License-Identifier: Apache-2.0
"""Dictionary versions of the transforms in :mod:`monai_mixssl.transforms.cross_domain_mixup`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import get_track_meta
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_tensor
from torch.distributions import Distribution

from monai_mixssl.errors import ConfigError
from monai_mixssl.mixing import Match
from monai_mixssl.sources.base import Source
from monai_mixssl.transforms.cross_domain_mixup import CrossDomainMixup, RandCrossDomainMixup
from monai_mixssl.transforms.transparency import MapMode

__all__ = [
    "CrossDomainMixupD",
    "CrossDomainMixupDict",
    "CrossDomainMixupd",
    "RandCrossDomainMixupD",
    "RandCrossDomainMixupDict",
    "RandCrossDomainMixupd",
]


class CrossDomainMixupd(MapTransform):
    """Dictionary-based version of :class:`CrossDomainMixup`: blends with a source that the sample holds.

    Args:
        keys: keys of the target images, (C, *spatial) each.
        source_key: key of the image of the other domain, of the targets' shape.
        transparency_key: key of the transparency, a number in [0, 1] or a map (1 | C, *spatial).
        match: how the source is given the target's intensities; see :func:`monai_mixssl.mixing.blend`.
        renormalize: whether the blend is given the target's mean and standard deviation.
        allow_missing_keys: whether a sample may lack some of ``keys``.

    Raises:
        ConfigError: when ``match`` is unknown.

    Examples:
        >>> import torch
        >>> sample = {"image": torch.zeros(1, 1, 2), "photograph": torch.ones(1, 1, 2), "t": 0.75}
        >>> CrossDomainMixupd("image", "photograph", "t", match=None, renormalize=False)(sample)["image"]
        metatensor([[[0.2500, 0.2500]]])
    """

    backend = CrossDomainMixup.backend

    def __init__(
        self,
        keys: KeysCollection,
        source_key: str,
        transparency_key: str,
        match: Match | None = "mean_std",
        renormalize: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source_key = source_key
        self.transparency_key = transparency_key
        self.mixup = CrossDomainMixup(match, renormalize)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Blend the images under ``keys``.

        Raises:
            KeyError: when a key is missing.
            ConfigError: when the shapes do not fit or the transparency is not within [0, 1].
        """
        d = dict(data)
        if self.first_key(d) == ():  # none of the keys, and that is allowed
            return d
        for needed in (self.source_key, self.transparency_key):
            if needed not in d:
                raise KeyError(f"Key `{needed}` of transform `{type(self).__name__}` was missing in the data.")
        for key in self.key_iterator(d):
            d[key] = self.mixup(d[key], d[self.source_key], d[self.transparency_key])
        return d


class RandCrossDomainMixupd(RandomizableTransform, MapTransform):
    """Dictionary-based version of :class:`RandCrossDomainMixup`, which leaves what pretraining needs in the sample.

    For each key, say ``"image"``, the sample afterwards holds

    - ``"image"``: the blend, with the target's metadata (nothing about the source is added to it);
    - ``"image_target"``: the target as it was;
    - ``"image_transparency"``: float32, without dimensions, or a map (1, *spatial);
    - ``"image_source_id"``: an opaque name of the source image, "" where the image was left as it is;
    - ``"image_source"``: the source image as it was mixed in, its intensities matched, where ``keep_source`` is on.

    With ``blend=False`` the blending is left to :class:`monai_mixssl.engines.PrepareMixupBatch`, which does it for a
    whole batch on the training device: then ``"image"`` stays the target, ``"image_source"`` is the source as it was
    drawn, and there is no ``"image_target"``.

    All keys share one draw and must be of one shape.

    Args:
        keys: keys of the target images, (C, *spatial) each.
        source: the second domain; see :class:`RandCrossDomainMixup`.
        transparency: a number in [0, 1], a range ``(low, high)`` drawn from uniformly, or a scalar
            ``torch.distributions`` object with draws in [0, 1].
        map_cells: 0 for one transparency per image; otherwise the number of cells along each axis of a map.
        match: how the source is given the target's intensities; see :func:`monai_mixssl.mixing.blend`.
        renormalize: whether the blend is given the target's mean and standard deviation.
        prob: how often a sample is blended at all; the others keep their target, with a transparency of 1.
        map_mode: how a map's cells are enlarged to the image, ``"nearest"`` or ``"linear"``.
        target_postfix: what the untouched target's key ends in.
        transparency_postfix: what the transparency's key ends in.
        source_id_postfix: what the key of the source's id ends in.
        keep_source: whether the source image stays in the sample, under the key's name and ``"source"``; for pictures.
        blend: whether to blend here; off, ``match`` and ``renormalize`` are not used.
        allow_missing_keys: whether a sample may lack some of ``keys``.

    Raises:
        ConfigError: when any of these cannot be used.

    Examples:
        >>> import torch
        >>> from monai_mixssl.sources import DeadLeaves
        >>> mixup = RandCrossDomainMixupd("image", source=DeadLeaves(), transparency=(0.2, 0.8))
        >>> list(mixup({"image": torch.rand(1, 32, 32)}))
        ['image', 'image_target', 'image_transparency', 'image_source_id']
    """

    backend = RandCrossDomainMixup.backend

    def __init__(
        self,
        keys: KeysCollection,
        source: Source,
        transparency: float | Sequence[float] | Distribution = (0.0, 1.0),
        map_cells: int = 0,
        match: Match | None = "mean_std",
        renormalize: bool = True,
        prob: float = 1.0,
        map_mode: MapMode = "nearest",
        target_postfix: str = "target",
        transparency_postfix: str = "transparency",
        source_id_postfix: str = "source_id",
        keep_source: bool = False,
        blend: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.keep_source = keep_source
        self.blend = blend
        self.mixup = RandCrossDomainMixup(source, transparency, map_cells, match, renormalize, prob, map_mode)
        self.target_postfix = target_postfix
        self.transparency_postfix = transparency_postfix
        self.source_id_postfix = source_id_postfix

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandCrossDomainMixupd:
        """Seed the array transform, which makes all draws, and through it the source."""
        super().set_random_state(seed, state)
        self.mixup.set_random_state(seed, state)
        return self

    def randomize(self, data: Any) -> None:
        """Draw anew for an image of the shape of ``data``."""
        self.mixup.randomize(data)
        self._do_transform = self.mixup._do_transform

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Blend the images under ``keys``.

        Raises:
            KeyError: when a key is missing and ``allow_missing_keys`` is off.
            ConfigError: when a draw of the transparency falls outside [0, 1], or the keys' shapes differ.
        """
        d = dict(data)
        first = self.first_key(d)
        if first == ():  # none of the keys, and that is allowed
            return d
        self.randomize(d[first])
        for key in self.key_iterator(d):
            target = convert_to_tensor(d[key], track_meta=get_track_meta())
            if self.blend:
                d[key] = self.mixup(target, randomize=False)
                d[f"{key}_{self.target_postfix}"] = target
                if self.keep_source:
                    d[f"{key}_source"] = self.mixup.matched_source(target)
            else:
                d[key] = target
                d[f"{key}_source"] = self._drawn_source(key, target)
            # a copy each, so that no key's later transforms can reach another's
            d[f"{key}_{self.transparency_postfix}"] = self.mixup.transparency.clone()
            d[f"{key}_{self.source_id_postfix}"] = self.mixup.source_id
        return d

    def _drawn_source(self, key: Hashable, target: torch.Tensor) -> torch.Tensor:
        drawn = self.mixup.source_image
        if drawn is None:
            # as drawn ones are: a batch holds both. At a transparency of 1 its values do not matter
            return convert_to_tensor(target, dtype=torch.float32, device="cpu", track_meta=False).clone()
        if drawn.shape != target.shape:
            raise ConfigError(
                f"the image under {key!r} is {tuple(target.shape)} and the source drawn for the first key is "
                f"{tuple(drawn.shape)}; all keys must be of one shape."
            )
        return drawn.clone()


CrossDomainMixupD = CrossDomainMixupDict = CrossDomainMixupd
RandCrossDomainMixupD = RandCrossDomainMixupDict = RandCrossDomainMixupd
