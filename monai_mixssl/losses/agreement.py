# SPDX-License-Identifier: Apache-2.0
"""Whether two views of one target, blended with different sources, have like embeddings."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from monai_mixssl.errors import ConfigError
from monai_mixssl.losses.tensors import as_float32

__all__ = ["AgreementLoss", "AgreementName"]

AgreementName = Literal["infonce", "vicreg"]

_VARIANCE_EPSILON = 1e-4


class AgreementLoss(nn.Module):
    """Draws the two views of each target together, with a term that keeps all targets from falling together.

    An addition of this package to the two objectives of the paper, which has no such term. Computed in float32. Of
    several processes each compares the views of its own share of the batch.

    Args:
        name: ``"infonce"``, the normalised temperature-scaled cross-entropy of Chen et al., "A simple framework for
            contrastive learning of visual representations", ICML 2020: of all other views in the batch, which is of the
            same target? The same number as ``monai.losses.ContrastiveLoss``, without its array of (2B, 2B, P).
            ``"vicreg"``, the terms for invariance, variance and covariance of Bardes et al., "VICReg", ICLR 2022, with
            their weights 25, 25 and 1, divided by 25.
        temperature: of ``"infonce"``, above 0.

    Raises:
        ConfigError: when the name is neither, or the temperature is not above 0.

    Example:
        >>> views = torch.eye(4)[[0, 1, 0, 1]]  # two targets, both views of each alike
        >>> round(float(AgreementLoss(temperature=0.5)(views)), 4)
        0.2395
    """

    def __init__(self, name: AgreementName = "infonce", temperature: float = 0.2) -> None:
        super().__init__()
        if name not in get_args(AgreementName):
            raise ConfigError(f"The agreement must be one of {', '.join(get_args(AgreementName))}, not {name!r}.")
        if not math.isfinite(temperature) or temperature <= 0:
            raise ConfigError(f"temperature must be a finite number above 0, not {temperature!r}.")
        self.name = name
        self.temperature = float(temperature)

    def forward(self, projection: torch.Tensor) -> torch.Tensor:
        """Compare the views of a batch.

        Args:
            projection: (2B, P), B at least 2: the first view of every target, then the second of every target.

        Returns:
            Scalar, float32.

        Raises:
            ConfigError: when there are not two views each of at least two targets.
        """
        if projection.ndim != 2 or len(projection) % 2 or len(projection) < 4:
            raise ConfigError(
                f"The agreement needs two views each of at least two targets, not {tuple(projection.shape)}; set views "
                "to 2 and batch_size to at least 2."
            )
        projection = as_float32(projection)
        # mixed precision would multiply matrices in half precision again, where products overflow
        with torch.autocast(projection.device.type, enabled=False):
            return self._contrast(projection) if self.name == "infonce" else _vicreg(*projection.chunk(2))

    def _contrast(self, projection: torch.Tensor) -> torch.Tensor:
        count = len(projection)
        directions = functional.normalize(projection, dim=1, eps=1e-8)
        logits = directions @ directions.T / self.temperature
        logits = logits.masked_fill(torch.eye(count, dtype=torch.bool, device=logits.device), -torch.inf)
        other_view = torch.arange(count, device=logits.device).roll(count // 2)
        return functional.cross_entropy(logits, other_view)


def _vicreg(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    variance = torch.stack([functional.relu(1 - _deviation(view)).mean() for view in (first, second)]).mean()
    covariance = _covariance(first) + _covariance(second)
    return functional.mse_loss(first, second) + variance + covariance / 25


def _deviation(view: torch.Tensor) -> torch.Tensor:
    return (view.var(dim=0) + _VARIANCE_EPSILON).sqrt()


def _covariance(view: torch.Tensor) -> torch.Tensor:
    """Mean over features of the squared covariances with every other feature."""
    centred = view - view.mean(dim=0)
    matrix = centred.T @ centred / (len(view) - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / view.shape[1]
