# SPDX-License-Identifier: Apache-2.0
"""From a collated batch to what the network and the loss take."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines.utils import PrepareBatch

from monai_mixssl.errors import ConfigError
from monai_mixssl.mixing import blend
from monai_mixssl.transforms import CrossDomainMixup

__all__ = ["PrepareMixupBatch"]


class PrepareMixupBatch(PrepareBatch):
    """Blend as the input; untouched target and transparency as what is to be predicted.

    Args:
        key: the key under which :py:class:`~monai_mixssl.transforms.RandCrossDomainMixupd` left the blend; the target
            and the transparency stand under the same key with its postfixes.
        target_postfix: postfix of the untouched target's key.
        transparency_postfix: postfix of the transparency's key.
        mixup: blends the batch on the device, with its ``match`` and ``renormalize``, where the transform was told to
            leave that (``blend=False``); None where it has blended. Both call :py:func:`~monai_mixssl.mixing.blend`.

    Returns (of the call):
        ``(blend, {"image": target, "transparency": t})``: plain tensors (no ``MetaTensor``, whose bookkeeping costs
        time in every operation) on the device; blend and target (B, C, \\*spatial), t (B,) or a map (B, 1, \\*spatial).

    Raises:
        ConfigError: where the batch lacks one of the keys, or is blended already.
    """

    def __init__(
        self,
        key: str = "image",
        target_postfix: str = "target",
        transparency_postfix: str = "transparency",
        mixup: CrossDomainMixup | None = None,
    ) -> None:
        self.key = key
        self.mixup = mixup
        self.target_key = f"{key}_{target_postfix}"
        self.transparency_key = f"{key}_{transparency_postfix}"

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        other_key = self.target_key if self.mixup is None else f"{self.key}_source"
        missing = [k for k in (self.key, other_key, self.transparency_key) if k not in batchdata]
        if missing:
            blending = "" if self.mixup is None else ", blend=False"
            raise ConfigError(
                f"the batch has no {', '.join(missing)}; put RandCrossDomainMixupd('{self.key}', …{blending}) into the "
                f"transforms{'' if self.mixup is None else ' (in the bundle: or set blend_on_device to false)'}."
            )
        if self.mixup is not None and self.target_key in batchdata:
            raise ConfigError(
                "the batch is blended already; give RandCrossDomainMixupd blend=False, or leave mixup out."
            )

        def move(value: torch.Tensor) -> torch.Tensor:
            plain = value.as_tensor() if isinstance(value, MetaTensor) else value
            return plain.to(device=device, non_blocking=non_blocking, **kwargs)

        image, other, transparency = (move(batchdata[k]) for k in (self.key, other_key, self.transparency_key))
        transparency = transparency.to(torch.float32)
        if self.mixup is None:
            return image, {"image": other, "transparency": transparency}
        match, renormalize = self.mixup.match, self.mixup.renormalize
        blended = blend(image, other, transparency, match=match, renormalize=renormalize, batch=True)
        return blended, {"image": image, "transparency": transparency}
