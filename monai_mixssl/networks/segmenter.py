# SPDX-License-Identifier: Apache-2.0
"""An encoder with a decoder for segmentation: MONAI's FlexibleUNet or SwinUNETR, or pretraining's light decoder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE, FlexibleUNet
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import nn
from torch.nn import functional

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks.architecture_keys import encoder_for_task
from monai_mixssl.networks.decoder import LightDecoder
from monai_mixssl.networks.decoder_file import read_decoder_arguments
from monai_mixssl.networks.encoders import encoder_stride
from monai_mixssl.networks.normalization import NormSpec, norm_argument

__all__ = ["DecoderKind", "EncoderSwinUNETR", "EncoderUNet", "LightSegmenter", "build_segmenter", "segmenter_around"]

DecoderKind = Literal["unet", "light"]

_SWIN = "swin_unetr"
# a decoder much wider than its encoder would take most of a step's time: see the measurements in docs/networks.md
_FULL_RESOLUTION_CHANNELS = 16
_THIN_FULL_RESOLUTION_CHANNELS = 8
_THIN_BELOW = 256


class EncoderUNet(FlexibleUNet):
    """MONAI's ``FlexibleUNet`` around a given encoder: same keys, any norm of the encoder, any image size.

    ``FlexibleUNet`` builds its encoder from the arguments in ``FLEXUNET_BACKBONE``, into which it also writes, and can
    pass no norm on. Here the registry stays as it was, and the encoder is the one that is given.

    Args:
        encoder: the encoder, of a name that is registered.
        record: from which the encoder can be built again.
        num_classes: number of logits a position.
        decoder_channels: channels of the decoder's levels, from the last map upwards, one a feature map.
    """

    def __init__(
        self, encoder: nn.Module, record: Mapping[str, Any], num_classes: int, decoder_channels: Sequence[int]
    ) -> None:
        parameters = FLEXUNET_BACKBONE.register_dict[record["backbone"]]["parameter"]
        before = dict(parameters)
        norm = ("batch", {"eps": 1e-3, "momentum": 0.1}) if record["norm"] is None else norm_argument(record["norm"])
        try:
            super().__init__(
                in_channels=record["in_channels"],
                out_channels=num_classes,
                backbone=record["backbone"],
                pretrained=False,
                decoder_channels=tuple(decoder_channels),
                spatial_dims=record["spatial_dims"],
                norm=norm,
            )
        except (TypeError, ValueError) as error:
            raise ConfigError(f"The decoder cannot be built with norm {record['norm']!r}: {error}") from error
        finally:
            parameters.clear()
            parameters.update(before)
        self.encoder = encoder
        self.record = dict(record)
        self.model_record = _model_record(record, num_classes, "unet", {"decoder_channels": list(decoder_channels)})

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Segment images (B, C, *spatial) of any size as logits (B, num_classes, *spatial)."""
        # FlexibleUNet fails at other sizes: it pads skips for encoders that round sizes down, and these round up
        padded = _padded(inputs, encoder_stride(self.record))
        return _cropped(super().forward(padded), inputs)


class EncoderSwinUNETR(SwinUNETR):
    """MONAI's ``SwinUNETR``, same keys, around a given encoder, for any image size of over 32.

    Args:
        encoder: its ``swinViT``.
        record: from which the encoder can be built again.
        num_classes: number of logits a position.
    """

    __jit_unused_properties__ = ["encoder"]  # noqa: RUF012  # the name and form that TorchScript asks for

    def __init__(self, encoder: nn.Module, record: Mapping[str, Any], num_classes: int) -> None:
        super().__init__(
            in_channels=record["in_channels"],
            out_channels=num_classes,
            spatial_dims=record["spatial_dims"],
            **record["arguments"],
        )
        self.swinViT = encoder  # type: ignore[assignment]  # it is one: the record's family says so
        self.record = dict(record)
        self.model_record = _model_record(record, num_classes, "unet", {})

    def forward(self, x_in: torch.Tensor) -> torch.Tensor:
        """Segment images (B, C, *spatial) as logits (B, num_classes, *spatial)."""
        return _cropped(super().forward(_padded(x_in, encoder_stride(self.record))), x_in)

    @property
    def encoder(self) -> nn.Module:
        """The encoder."""
        swin: nn.Module = self.swinViT
        return swin


class LightSegmenter(nn.Module):
    """The encoder with the decoder that pretraining trained, whose last layer gives one logit a class.

    Args:
        encoder: network from images to the list of its feature maps.
        record: from which the encoder can be built again.
        num_classes: number of logits a position.
        decoder_arguments: ``decoder_channels``, ``skip_connections`` and ``norm`` of
            :class:`~monai_mixssl.networks.decoder.LightDecoder`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        record: Mapping[str, Any],
        num_classes: int,
        decoder_arguments: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = LightDecoder(
            record["spatial_dims"], record["feature_channels"], num_classes, **decoder_arguments
        )
        self.record = dict(record)
        self.model_record = _model_record(record, num_classes, "light", self.decoder.arguments)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Segment images (B, C, *spatial) as logits (B, num_classes, *spatial)."""
        logits: torch.Tensor = self.decoder(self.encoder(image), image.shape[2:])
        return logits


def build_segmenter(
    num_classes: int,
    *,
    encoder_file: str | os.PathLike[str] | None = None,
    spatial_dims: int | None = None,
    in_channels: int | None = None,
    backbone: str | None = None,
    norm: NormSpec | None = None,
    feature_size: int | None = None,
    decoder: DecoderKind = "unet",
    decoder_channels: Sequence[int] | None = None,
    decoder_file: str | os.PathLike[str] | None = None,
) -> nn.Module:
    """Build a segmentation network with random weights; ``load_pretrained`` fills its encoder, and a light decoder.

    Args:
        num_classes: number of logits a position, background included where there is one.
        encoder_file: an ``encoder.safetensors``: the architecture is that of its record. Each of the next five
            arguments, where it is given, takes the place of the record's.
        spatial_dims: 2 or 3; None for the record's, 3 without a file.
        in_channels: channels of the image; None for the record's, 1 without a file.
        backbone: see :func:`~monai_mixssl.networks.encoders.backbone_names`; None for the record's,
            ``"resnet10_s8_thin"`` without a file.
        norm: see :func:`~monai_mixssl.networks.encoders.build_encoder`; the decoder gets it too.
        feature_size: width of ``"swin_unetr"``.
        decoder: ``"unet"``, a decoder with skip connections (``FlexibleUNet``'s; ``SwinUNETR``'s for
            ``"swin_unetr"``), or ``"light"``, the one of pretraining, which can start from its weights.
        decoder_channels: channels of the decoder's levels, from the last map upwards, one a feature map; not for
            ``SwinUNETR``. None for 16 · 2^level ("unet"; half of that for thin backbones) or ``LightDecoder``'s own.
        decoder_file: a ``decoder.safetensors``: the light decoder is that of its record.

    Returns:
        Network from images (B, in_channels, *spatial) to logits (B, num_classes, *spatial), with ``encoder``,
        ``record`` and ``model_record``, as :class:`~monai_mixssl.networks.classifier.EncoderClassifier` has.

    Raises:
        DataError: when a file cannot be read.
        ConfigError: when an argument is not known or does not fit the others.
    """
    if not isinstance(num_classes, int) or isinstance(num_classes, bool) or num_classes < 1:
        raise ConfigError(f"num_classes must be a whole number of at least 1, not {num_classes!r}.")
    if decoder not in ("unet", "light"):
        raise ConfigError(f"decoder must be 'unet' or 'light', not {decoder!r}.")
    if decoder_file is not None and decoder != "light":
        raise ConfigError("Pretraining's decoder is a light one: set decoder to 'light', or leave its file out.")
    encoder, record = encoder_for_task(encoder_file, 3, spatial_dims, in_channels, backbone, norm, feature_size)
    arguments = _decoder_arguments(record, decoder, decoder_channels, decoder_file)
    return segmenter_around(encoder, record, num_classes, decoder, arguments)


def _decoder_arguments(
    record: Mapping[str, Any],
    decoder: str,
    channels: Sequence[int] | None,
    file: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    given = {} if channels is None else {"decoder_channels": list(channels)}
    if decoder == "light":
        own = {"norm": LightDecoder.norm_beside(record)} if file is None else read_decoder_arguments(file)
        return {**own, **given}
    if record["backbone"] == _SWIN:
        if given:
            raise ConfigError(f"The decoder of {_SWIN!r} follows feature_size; leave decoder_channels out.")
        return {}
    levels = len(record["feature_channels"])
    if channels is None:
        thin = record["feature_channels"][-1] < _THIN_BELOW
        narrowest = _THIN_FULL_RESOLUTION_CHANNELS if thin else _FULL_RESOLUTION_CHANNELS
        return {"decoder_channels": [narrowest * 2**level for level in reversed(range(levels))]}
    if len(channels) != levels or any(width < 1 for width in channels):
        raise ConfigError(
            f"decoder_channels must hold {levels} positive numbers, one a feature map, not {list(channels)}."
        )
    return given


def segmenter_around(
    encoder: nn.Module, record: Mapping[str, Any], num_classes: int, decoder: str, decoder_arguments: Mapping[str, Any]
) -> nn.Module:
    """Put a decoder behind an encoder, as a ``model_record`` describes it: what ``load_model`` builds from."""
    if decoder == "light":
        return LightSegmenter(encoder, record, num_classes, decoder_arguments)
    if record["backbone"] == _SWIN:
        return EncoderSwinUNETR(encoder, record, num_classes)
    return EncoderUNet(encoder, record, num_classes, **decoder_arguments)


def _padded(image: torch.Tensor, stride: int) -> torch.Tensor:
    """Repeat the border at the end of each axis up to the next multiple of the stride."""
    missing = [-size % stride for size in reversed(image.shape[2:])]
    if not any(missing):
        return image
    return functional.pad(image, [side for end in missing for side in (0, end)], mode="replicate")


def _cropped(logits: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    for axis, size in enumerate(image.shape[2:], start=2):
        if logits.shape[axis] != size:
            logits = logits.narrow(axis, 0, size)
    return logits


def _model_record(
    record: Mapping[str, Any], num_classes: int, decoder: str, decoder_arguments: Mapping[str, Any]
) -> dict[str, Any]:
    arguments = {"num_classes": num_classes, "decoder": decoder, "decoder_arguments": dict(decoder_arguments)}
    return {"kind": "segmenter", "encoder": dict(record), "arguments": arguments}
