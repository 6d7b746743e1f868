# SPDX-License-Identifier: Apache-2.0
"""What a segmentation network predicts, on the grid of the image as it was read."""

from __future__ import annotations

import torch
from ignite.engine import Events
from monai.data import MetaTensor, decollate_batch
from monai.engines.workflow import Workflow
from monai.utils.enums import CommonKeys as Keys

from monai_mixssl.data.network_grid import NetworkGrid

__all__ = ["MASKS", "OwnMasks"]

MASKS = "masks"
"""Key of the engine's output under which the masks stand."""


class OwnMasks:
    """Bring each prediction back to its image's own grid, as ``engine.state.output["masks"]``.

    There they are a list with one tensor an image, (x, y, z) class numbers, uint8, on the CPU, in the voxel order of
    the file. Where the image was resampled, probabilities are interpolated, class by class, and the largest decides.

    Args:
        grid: the transform that has brought the images to the network's grid.
    """

    def __init__(self, grid: NetworkGrid) -> None:
        self.grid = grid

    def attach(self, engine: Workflow) -> None:
        """Register with an evaluator whose predictions are logits (B, C, *spatial), before what uses the masks."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Workflow) -> None:
        """Add the masks of a batch to the engine's output."""
        images = decollate_batch(engine.state.batch[Keys.IMAGE])
        logits = engine.state.output[Keys.PRED]
        engine.state.output[MASKS] = [self.mask(one, image) for one, image in zip(logits, images, strict=True)]

    def mask(self, logits: torch.Tensor, image: MetaTensor) -> torch.Tensor:
        """The mask of one image.

        Args:
            logits: (C, *spatial) on the network's grid.
            image: (any, *spatial), what the transform has made of the image.

        Returns:
            (x, y, z), uint8, on the CPU.
        """
        if not self.grid.resamples:
            return self.grid.back(logits.argmax(dim=0, keepdim=True).to(torch.uint8), image)[0].cpu()
        probabilities = logits.float().softmax(dim=0)
        best = self.grid.back(probabilities[:1], image)
        mask = torch.zeros_like(best, dtype=torch.uint8)
        for number in range(1, len(probabilities)):  # one class at a time: all of a large volume's may not fit
            share = self.grid.back(probabilities[number : number + 1], image)
            larger = share > best
            mask[larger] = number
            best = torch.where(larger, share, best)
        return mask[0].cpu()
