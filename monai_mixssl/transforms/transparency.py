# SPDX-License-Identifier: Apache-2.0
"""How a transparency is drawn: from a number, a range or a distribution, for the whole image or per cell of a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from monai.utils import MAX_SEED
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import interpolate

from monai_mixssl.errors import ConfigError

__all__ = ["MapMode", "TransparencySampler"]

MapMode = Literal["nearest", "linear"]
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class TransparencySampler:
    """Draws transparencies from a random state that the caller owns.

    Args:
        transparency: a number in [0, 1]; a range ``(low, high)`` within [0, 1], drawn from uniformly; or a scalar
            ``torch.distributions`` object on the CPU, whose draws must fall within [0, 1].
        map_cells: 0 for one number per image; otherwise the number of cells along each axis of a map, each with a draw
            of its own.
        map_mode: how the cells are enlarged to the image: ``"nearest"`` (flat cells) or ``"linear"`` (smooth).

    Raises:
        ConfigError: when any of these cannot be used.

    Examples:
        >>> TransparencySampler((0.25, 0.5)).draw(np.random.RandomState(0), (32, 32))
        tensor(0.3872)
        >>> TransparencySampler((0.0, 1.0), map_cells=2).draw(np.random.RandomState(0), (4, 4))[0, :, 0]
        tensor([0.5488, 0.5488, 0.6028, 0.6028])
    """

    def __init__(
        self,
        transparency: float | Sequence[float] | Distribution = (0.0, 1.0),
        map_cells: int = 0,
        map_mode: MapMode = "nearest",
    ) -> None:
        if not isinstance(map_cells, int | np.integer) or isinstance(map_cells, bool) or map_cells < 0:
            raise ConfigError(
                f"map_cells is {map_cells!r} but must be 0 (a number per image) or more (cells per axis)."
            )
        if map_mode not in ("nearest", "linear"):
            raise ConfigError(f'map_mode is {map_mode!r} but must be "nearest" or "linear".')
        if not isinstance(transparency, Distribution):
            transparency = _bounds(transparency)
        elif transparency.batch_shape + transparency.event_shape:
            raise ConfigError("The transparency's distribution must be of a scalar: give it plain numbers.")
        self.transparency = transparency
        self.map_cells = map_cells
        self.map_mode = map_mode

    def draw(self, random_state: np.random.RandomState, spatial_shape: Sequence[int]) -> Tensor:
        """Draw the transparency of one image.

        Args:
            random_state: the only generator that is drawn from.
            spatial_shape: the image's size without its channels.

        Returns:
            float32 on the CPU: a tensor without dimensions, or a map (1, *spatial_shape).

        Raises:
            ConfigError: when a distribution's draw falls outside [0, 1], or there are more cells than pixels.
        """
        if not self.map_cells:
            return self._values(random_state, ())
        if self.map_cells > min(spatial_shape):
            raise ConfigError(
                f"map_cells is {self.map_cells} but must not exceed the image's smallest side, {min(spatial_shape)}."
            )
        cells = self._values(random_state, (self.map_cells,) * len(spatial_shape))[None, None]
        mode = _LINEAR[len(spatial_shape)] if self.map_mode == "linear" else "nearest"
        return interpolate(cells, size=tuple(spatial_shape), mode=mode)[0]

    def opaque(self, spatial_shape: Sequence[int]) -> Tensor:
        """The transparency of an image that is left unblended, 1, in the form that :meth:`draw` has."""
        return torch.ones((1, *spatial_shape) if self.map_cells else ())

    def _values(self, random_state: np.random.RandomState, shape: tuple[int, ...]) -> Tensor:
        if not isinstance(self.transparency, Distribution):
            return torch.as_tensor(random_state.uniform(*self.transparency, shape), dtype=torch.float32)
        # distributions take no generator: seed the global one from ours, and give its state back afterwards
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(random_state.randint(MAX_SEED, dtype="uint32")))
            values = self.transparency.sample(shape).to(torch.float32)
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise ConfigError(
                f"The transparency's distribution {type(self.transparency).__name__} gave a value outside [0, 1]: "
                "choose one that lives on [0, 1], such as Beta."
            )
        return values


def _bounds(transparency: float | Sequence[float]) -> tuple[float, float]:
    try:
        if np.asarray(transparency).dtype.kind in "US":  # NumPy would read numbers in text
            raise TypeError
        low, high = np.broadcast_to(np.asarray(transparency, dtype=float), (2,)).tolist()
    except (TypeError, ValueError):
        low = high = float("nan")
    if (np.ndim(transparency) == 1 and np.size(transparency) != 2) or not 0 <= low <= high <= 1:
        raise ConfigError(
            f"transparency is {transparency!r} but must be a number in [0, 1], a range (low, high) within it, "
            "or a torch.distributions object."
        )
    return low, high
