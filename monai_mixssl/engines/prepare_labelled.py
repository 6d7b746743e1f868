# SPDX-License-Identifier: Apache-2.0
"""From a collated batch to images and labels."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines.utils import PrepareBatch
from monai.utils.enums import CommonKeys as Keys

from monai_mixssl.errors import ConfigError

__all__ = ["PrepareLabelledBatch"]


class PrepareLabelledBatch(PrepareBatch):
    """The image as the input, the label as what is to be predicted.

    Args:
        image_key: key of the images.
        label_key: key of the labels; None, or a batch without it, gives None in their place (inference).

    Returns (of the call):
        ``(image, label)``: plain tensors (no ``MetaTensor``, whose bookkeeping costs time in every operation) on the
        device; images (B, C, \\*spatial), labels as the batch holds them, (B,), (B, L) or (B, 1, \\*spatial).

    Raises:
        ConfigError: where the batch has no image.
    """

    def __init__(self, image_key: str = Keys.IMAGE, label_key: str | None = Keys.LABEL) -> None:
        self.image_key = image_key
        self.label_key = label_key

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.image_key not in batchdata:
            raise ConfigError(f"the batch has no {self.image_key}; load it in the first transform.")

        def move(value: torch.Tensor) -> torch.Tensor:
            plain = value.as_tensor() if isinstance(value, MetaTensor) else value
            return plain.to(device=device, non_blocking=non_blocking, **kwargs)

        label = None if self.label_key is None else batchdata.get(self.label_key)
        return move(batchdata[self.image_key]), None if label is None else move(label)
