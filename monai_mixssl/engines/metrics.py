# SPDX-License-Identifier: Apache-2.0
"""What is measured on held-out data while pretraining."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.metrics import Loss, Metric
from ignite.metrics.metric import sync_all_reduce
from ignite.metrics.regression import R2Score
from monai.metrics import SSIMMetric
from monai.utils.enums import CommonKeys as Keys

__all__ = ["mean_over_images", "structural_similarity", "validation_metrics"]

_LOSSES = ("loss", "reconstruction_loss", "transparency_loss")


def validation_metrics(spatial_dims: int, agreement: bool = False) -> dict[str, Metric]:
    """Ignite metrics over the output of :py:class:`~monai_mixssl.engines.MixSSLEvaluator`.

    Every one is a mean over images, whatever the sizes of the batches, and is summed over processes by Ignite.

    Args:
        spatial_dims: 2 or 3.
        agreement: whether the loss has that part.

    Returns:
        ``val_loss``, ``val_reconstruction_loss``, ``val_transparency_loss``, with the agreement
        ``val_agreement_loss``; ``transparency_r2`` (1 is perfect, 0 is
        what the mean transparency reaches, not a number for a single image); ``reconstruction_ssim`` and ``blend_ssim``
        (structural similarity to the target of the reconstruction, and of the blend as it was put in: the
        reconstruction's trivial answer).
    """

    def similarity(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        return structural_similarity(image, reference, spatial_dims).mean()

    parts = (*_LOSSES, "agreement_loss") if agreement else _LOSSES
    metrics: dict[str, Metric] = {f"val_{name}": mean_over_images(name) for name in parts}
    metrics["transparency_r2"] = _DefinedR2(output_transform=_transparencies)
    metrics["reconstruction_ssim"] = Loss(
        similarity, output_transform=lambda output: (output[Keys.PRED]["reconstruction"], output[Keys.LABEL]["image"])
    )
    metrics["blend_ssim"] = Loss(
        similarity, output_transform=lambda output: (output[Keys.IMAGE], output[Keys.LABEL]["image"])
    )
    return metrics


def mean_over_images(name: str) -> Metric:
    """The mean over images of a loss that stands in an engine's output, whatever the sizes of the batches.

    Args:
        name: its key in ``engine.state.output``, a batch's mean.
    """
    # Ignite's Loss weighs each batch's mean by its number of images
    return Loss(_reported, output_transform=_loss_of(name))


def structural_similarity(image: torch.Tensor, reference: torch.Tensor, spatial_dims: int) -> torch.Tensor:
    """Mean structural similarity of each image, by MONAI's ``SSIMMetric`` with intensities in [0, 1].

    Args:
        image: (B, C, \\*spatial).
        reference: the same shape.
        spatial_dims: 2 or 3.

    Returns:
        (B,), each at most 1. The window is 11 pixels wide, less where an image is smaller than that.
    """
    window = min(11, *(s if s % 2 else s - 1 for s in reference.shape[2:]))
    metric = SSIMMetric(spatial_dims, data_range=1.0, win_size=window, reduction="none")
    values = torch.as_tensor(metric(image.float(), reference.float()))
    return values.reshape(len(reference), -1).mean(1)


class _DefinedR2(R2Score):
    """Ignite's R², but not a number where the true values do not vary, as with a single image: not a huge one."""

    @sync_all_reduce("_num_examples", "_sum_of_errors", "_y_sq_sum", "_y_sum")
    def compute(self) -> float:
        variance = self._y_sq_sum / self._num_examples - (self._y_sum / self._num_examples) ** 2
        error = self._sum_of_errors / self._num_examples
        return float(1 - error / variance) if float(variance) > 1e-6 else float("nan")


def _reported(loss: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return loss.float()


def _loss_of(name: str) -> Callable[[dict[str, Any]], tuple[torch.Tensor, torch.Tensor]]:
    """A batch's mean loss, and its images, which say how many it is the mean of."""
    return lambda output: (output[name], output[Keys.IMAGE])


def _transparencies(output: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    predicted = output[Keys.PRED]["transparency"].float()
    true = output[Keys.LABEL]["transparency"]
    if true.ndim > 1 and true.shape != predicted.shape:  # a map: compared on the head's coarser grid
        true = torch.nn.functional.interpolate(true, size=predicted.shape[2:], mode="area")
    return predicted.flatten(), true.flatten()
