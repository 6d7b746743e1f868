# SPDX-License-Identifier: Apache-2.0
"""Array transforms that blend a target image with an image of another domain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import RandomizableTransform, Transform
from monai.utils import MAX_SEED, TransformBackends, convert_to_tensor
from torch import Tensor
from torch.distributions import Distribution

from monai_mixssl.errors import ConfigError
from monai_mixssl.mixing import Match, blend, check_match, match_intensity
from monai_mixssl.sources.base import Source
from monai_mixssl.transforms.transparency import MapMode, TransparencySampler

__all__ = ["CrossDomainMixup", "RandCrossDomainMixup"]


class CrossDomainMixup(Transform):
    """Blend an image with a source and a transparency that the caller gives.

    Args:
        match: how the source is given the target's intensities, ``"mean_std"``, ``"histogram"`` or None; see
            :func:`monai_mixssl.mixing.blend`.
        renormalize: whether the blend is given the target's mean and standard deviation.

    Raises:
        ConfigError: when ``match`` is unknown.

    Examples:
        >>> mixup = CrossDomainMixup(match=None, renormalize=False)
        >>> mixup(torch.zeros(1, 1, 2), torch.ones(1, 1, 2), 0.75)
        metatensor([[[0.2500, 0.2500]]])
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI's convention)

    def __init__(self, match: Match | None = "mean_std", renormalize: bool = True) -> None:
        check_match(match)
        self.match = match
        self.renormalize = renormalize

    def __call__(  # type: ignore[override]  # as MONAI's transforms do: arguments of its own
        self, img: NdarrayOrTensor, source: NdarrayOrTensor, transparency: float | NdarrayOrTensor
    ) -> NdarrayOrTensor:
        """Blend one image.

        Args:
            img: the target, (C, *spatial).
            source: the image of the other domain, of the same shape, in any value range.
            transparency: the target's weight, a number in [0, 1] or a map of them, (1 | C, *spatial).

        Returns:
            The blend, a tensor of the target's dtype with its metadata.

        Raises:
            ConfigError: when the shapes do not fit or the transparency is not within [0, 1].
        """
        target = convert_to_tensor(img, track_meta=get_track_meta())
        return blend(
            target,
            convert_to_tensor(source),
            transparency,
            match=self.match,
            renormalize=self.renormalize,
        )


class RandCrossDomainMixup(RandomizableTransform):
    """Blend an image with a random image of another domain, at a random transparency.

    The last draw can be read from the attributes ``transparency`` (float32, without dimensions or a map (1, *spatial)),
    ``source_id`` (an opaque name of the source image, "" where the image was left as it is) and ``source_image``.

    Args:
        source: the second domain, such as :class:`monai_mixssl.sources.DeadLeaves`.
        transparency: a number in [0, 1], a range ``(low, high)`` drawn from uniformly, or a scalar
            ``torch.distributions`` object with draws in [0, 1].
        map_cells: 0 for one transparency per image; otherwise the number of cells along each axis of a map.
        match: how the source is given the target's intensities; see :func:`monai_mixssl.mixing.blend`.
        renormalize: whether the blend is given the target's mean and standard deviation.
        prob: how often an image is blended at all; the others come back as they are, with a transparency of 1.
        map_mode: how a map's cells are enlarged to the image, ``"nearest"`` or ``"linear"``.

    Raises:
        ConfigError: when any of these cannot be used.

    Examples:
        >>> from monai_mixssl.sources import DeadLeaves
        >>> mixup = RandCrossDomainMixup(DeadLeaves(), transparency=(0.2, 0.8)).set_random_state(seed=0)
        >>> mixup(torch.rand(1, 32, 32)).shape
        torch.Size([1, 32, 32])
        >>> bool(0.2 <= mixup.transparency <= 0.8)
        True
    """

    backend = CrossDomainMixup.backend

    def __init__(
        self,
        source: Source,
        transparency: float | Sequence[float] | Distribution = (0.0, 1.0),
        map_cells: int = 0,
        match: Match | None = "mean_std",
        renormalize: bool = True,
        prob: float = 1.0,
        map_mode: MapMode = "nearest",
    ) -> None:
        super().__init__(prob)
        if not isinstance(source, Source):
            raise ConfigError(
                f"source is a {type(source).__name__} but must be one of monai_mixssl.sources, such as DeadLeaves()."
            )
        self.source = source
        self.sampler = TransparencySampler(transparency, map_cells, map_mode)
        self.mixup = CrossDomainMixup(match, renormalize)
        self.transparency = torch.ones(())
        self.source_id = ""
        self.source_image: Tensor | None = None

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandCrossDomainMixup:
        """Seed this transform and its source."""
        super().set_random_state(seed, state)
        # a seed of its own: were both streams equal, the network could learn to read the transparency off the source
        self.source.set_random_state(int(self.R.randint(MAX_SEED, dtype="uint32")))
        return self

    def randomize(self, data: NdarrayOrTensor) -> None:
        """Draw whether to blend, the transparency and the source image, for an image of the shape of ``data``."""
        super().randomize(None)
        shape = tuple(data.shape)
        if not self._do_transform:
            self.transparency, self.source_id, self.source_image = self.sampler.opaque(shape[1:]), "", None
            return
        self.transparency = self.sampler.draw(self.R, shape[1:])
        self.source_image, self.source_id = self.source(shape)

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Blend one image.

        Args:
            img: the target, (C, *spatial).
            randomize: whether to draw anew; otherwise the last draw is applied again.

        Returns:
            The blend, a tensor of the target's dtype with its metadata; a copy of the target where none is drawn.

        Raises:
            ConfigError: when a draw of the transparency falls outside [0, 1], or an earlier draw was made for another
                shape.
        """
        if randomize:
            self.randomize(img)
        if self.source_image is None:
            return convert_to_tensor(img, track_meta=get_track_meta()).clone()
        return self.mixup(img, self.source_image, self.transparency)

    def matched_source(self, img: NdarrayOrTensor) -> Tensor:
        """The source image of the last draw as it was mixed into ``img``: its intensities matched.

        Args:
            img: the target of the last call, (C, *spatial).

        Returns:
            Plain tensor of the target's shape; the target itself where no source was drawn.
        """
        target = convert_to_tensor(img, track_meta=False)
        if self.source_image is None:
            return target.clone()
        return match_intensity(self.source_image, target, self.mixup.match)
