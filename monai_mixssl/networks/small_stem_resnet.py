# SPDX-License-Identifier: Apache-2.0
"""ResNet encoders with a small stem, for patches under 128 voxels.

MONAI's stock ResNet encoder shrinks its input by 32 (a 7-wide stem of stride 2, a max-pool, three strided stages),
which leaves a 64-wide patch two positions. The encoders here have a 3-wide stem and no max-pool. Their names tell all:
``resnet<depth>_s<total stride>[_thin]``. They differ from MONAI's stock encoder in two more points, both needed here:
every block gets the chosen normalisation (MONAI passes it to the stem only), and shortcuts are of type B (type A
detaches the shortcut from the gradient where a stage changes width).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from monai.networks.blocks import BaseEncoder
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from monai.networks.nets.resnet import ResNet
from torch import nn

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks.normalization import NormSpec, norm_argument

__all__ = ["SmallStemResNetEncoder", "register_small_stem_resnets"]


class _Design(NamedTuple):
    """What a backbone's name stands for."""

    block: str
    layers: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    stem_stride: int


_DEPTHS: dict[str, tuple[str, tuple[int, int, int, int]]] = {
    "resnet10": ("basic", (1, 1, 1, 1)),
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
}
_WIDTHS = (64, 128, 256, 512)
_THIN_WIDTHS = (24, 48, 96, 192)
_EXPANSION = {"basic": 1, "bottleneck": 4}
_STEM_STRIDES = {"s8": 1, "s16": 2}


def _designs() -> dict[str, _Design]:
    designs = {}
    for depth, (block, layers) in _DEPTHS.items():
        for stride_name, stem_stride in _STEM_STRIDES.items():
            designs[f"{depth}_{stride_name}"] = _Design(block, layers, _WIDTHS, stem_stride)
            if depth in ("resnet10", "resnet18"):
                designs[f"{depth}_{stride_name}_thin"] = _Design(block, layers, _THIN_WIDTHS, stem_stride)
    return designs


_DESIGNS = _designs()


class SmallStemResNetEncoder(ResNet, BaseEncoder):
    """MONAI's ResNet with a 3-wide stem, no max-pool, shortcuts of type B and one normalisation throughout.

    The forward pass gives the feature maps that ``FlexibleUNet`` asks for, each half the size of the one before, the
    first at stride 2: three maps (strides 2, 4, 8) for ``_s8``, four (2, 4, 8, 16) for ``_s16``. In ``_s8`` stem and
    first stage work at full resolution and feed the first map.

    The keys are those of MONAI's ``ResNet`` built with :meth:`resnet_arguments`, so that the same weights serve
    classification; only its last layer, ``fc``, is missing.

    Args:
        model_name: one of :meth:`get_encoder_names`, for example ``"resnet18_s16"``.
        pretrained: must be False; the argument exists because ``FlexibleUNet`` passes it.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        norm: ``"batch"``, ``"instance"``, ``"group"``, or a pair of name and arguments.

    Raises:
        ConfigError: when the name or norm is not known, or pretrained weights are asked for.
    """

    def __init__(
        self,
        model_name: str,
        pretrained: bool = False,
        spatial_dims: int = 2,
        in_channels: int = 1,
        norm: NormSpec = "batch",
    ) -> None:
        if pretrained:
            raise ConfigError("No published weights exist for the small-stem ResNets; leave pretrained at False.")
        arguments = self.resnet_arguments(model_name, norm)
        # set before the parent's constructor, which already builds the stages
        self._block_norm = arguments["norm"]
        self.full_resolution_stages = _DESIGNS[model_name].stem_stride == 1
        super().__init__(**arguments, spatial_dims=spatial_dims, n_input_channels=in_channels, feed_forward=False)

    def _make_layer(self, *args: Any, **kwargs: Any) -> nn.Sequential:
        return super()._make_layer(*args, **{**kwargs, "norm": self._block_norm})

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]  # an encoder: all maps
        """Compute the feature maps.

        Args:
            x: images, (B, in_channels, *spatial).

        Returns:
            Feature maps (B, C_i, *spatial / 2^i), i = 1, 2, …, sizes rounded up.
        """
        x = self.layer1(self.act(self.bn1(self.conv1(x))))
        features = [] if self.full_resolution_stages else [x]
        for stage in (self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features

    @classmethod
    def resnet_arguments(cls, model_name: str, norm: NormSpec = "batch") -> dict[str, Any]:
        """Everything but dimensions, channels and classes that MONAI's ``ResNet`` needs for the same keys.

        Args:
            model_name: one of :meth:`get_encoder_names`.
            norm: normalisation. MONAI's own ``ResNet`` gives it to the stem only: anything but batch norm needs this
                class.

        Returns:
            Keyword arguments of ``monai.networks.nets.ResNet``.

        Raises:
            ConfigError: when the name or norm is not known.
        """
        if model_name not in _DESIGNS:
            raise ConfigError(f"No small-stem ResNet is called {model_name!r}; use one of {', '.join(_DESIGNS)}.")
        design = _DESIGNS[model_name]
        return {
            "block": design.block,
            "layers": list(design.layers),
            "block_inplanes": list(design.widths),
            "conv1_t_size": 3,
            "conv1_t_stride": design.stem_stride,
            "no_max_pool": True,
            "shortcut_type": "B",
            "bias_downsample": False,
            "norm": norm_argument(norm),
        }

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        """Names under which the encoders are registered."""
        return list(_DESIGNS)

    @classmethod
    def get_encoder_parameters(cls) -> list[dict[str, Any]]:
        """Constructor arguments, one dictionary a name."""
        return [
            {"model_name": name, "pretrained": False, "spatial_dims": 2, "in_channels": 1, "norm": "batch"}
            for name in _DESIGNS
        ]

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """Channels of the feature maps, first to last, one tuple a name."""
        return [
            tuple(width * _EXPANSION[design.block] for width in design.widths[2 - design.stem_stride :])
            for design in _DESIGNS.values()
        ]

    @classmethod
    def num_outputs(cls) -> list[int]:
        """Number of feature maps, one a name."""
        return [len(channels) for channels in cls.num_channels_per_output()]


def register_small_stem_resnets() -> None:
    """Make the encoders known to ``FlexibleUNet``; a second call changes nothing."""
    if not set(_DESIGNS) <= set(FLEXUNET_BACKBONE.register_dict):
        FLEXUNET_BACKBONE.register_class(SmallStemResNetEncoder)
