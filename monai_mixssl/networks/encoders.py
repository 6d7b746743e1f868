# SPDX-License-Identifier: Apache-2.0
"""Encoders by name, each with a record of everything that is needed to build it again."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from monai.networks.nets.efficientnet import EfficientNet
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from monai.networks.nets.resnet import ResNetEncoder, get_inplanes, resnet_params
from monai.networks.nets.swin_unetr import SwinTransformer
from monai.utils import optional_import
from torch import nn

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks.encoder_within import EFFICIENTNET_HEAD
from monai_mixssl.networks.normalization import NormSpec, parse_norm
from monai_mixssl.networks.small_stem_resnet import SmallStemResNetEncoder, register_small_stem_resnets

__all__ = ["backbone_names", "build_encoder", "check_patch_size", "encoder_stride"]

register_small_stem_resnets()

_SWIN = "swin_unetr"
_SWIN_FEATURE_SIZE = 24
# SwinUNETR's own defaults, stated here because a change of them in MONAI would change keys or features
_SWIN_ARGUMENTS: dict[str, Any] = {
    "patch_size": 2,
    "depths": [2, 2, 2, 2],
    "num_heads": [3, 6, 12, 24],
    "window_size": 7,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "patch_norm": False,
    "downsample": "merging",
    "use_v2": False,
}
_LARGEST_STRIDE_SHARE = 4


def backbone_names() -> list[str]:
    """Names that :func:`build_encoder` knows: all of MONAI's ``FLEXUNET_BACKBONE``, and ``"swin_unetr"``."""
    return [*FLEXUNET_BACKBONE.register_dict, _SWIN]


def build_encoder(
    backbone: str,
    spatial_dims: int,
    in_channels: int,
    norm: NormSpec | None = None,
    feature_size: int | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Build an encoder with random weights from its name.

    Args:
        backbone: one of :func:`backbone_names`. ``"swin_unetr"`` gives the ``swinViT`` of MONAI's ``SwinUNETR``.
        spatial_dims: 2 or 3.
        in_channels: channels of the image, at least 1.
        norm: normalisation in place of the backbone's own, for example ``["group", {"num_groups": 8}]``; only the
            small-stem ResNets and the EfficientNets can take one.
        feature_size: width of ``"swin_unetr"``, a multiple of 12 (24 when None); None for every other backbone.

    Returns:
        The encoder, whose forward gives the list of its feature maps, each half the size of the one before and the
        first at stride 2, and its record: a dictionary that JSON keeps as it is, with the arguments of this function,
        ``family``, the ``arguments`` of MONAI's class that decide keys and features, ``feature_channels``,
        ``feature_strides``, and ``untrained``, the prefixes of weights that no feature map passes (they are frozen, so
        that ``DistributedDataParallel`` does not wait for their gradients).

    Raises:
        ConfigError: when the name is not known, or an argument does not fit the backbone.
    """
    if spatial_dims not in (2, 3):
        raise ConfigError(f"spatial_dims must be 2 or 3, not {spatial_dims!r}.")
    if not isinstance(in_channels, int) or isinstance(in_channels, bool) or in_channels < 1:
        raise ConfigError(f"in_channels must be a whole number of at least 1, not {in_channels!r}.")
    if backbone not in backbone_names():
        raise ConfigError(_unknown_backbone(backbone))
    if backbone == _SWIN:
        return _build_swin(spatial_dims, in_channels, norm, feature_size)
    if feature_size is not None:
        raise ConfigError(f"feature_size is for the backbone {_SWIN!r} only; leave it out for {backbone!r}.")
    return _build_registered(backbone, spatial_dims, in_channels, norm)


def encoder_stride(record: dict[str, Any]) -> int:
    """How many times smaller than the image the last feature map is, per axis."""
    return int(record["feature_strides"][-1])


def check_patch_size(patch_size: Sequence[int], stride: int) -> None:
    """Refuse a patch that the encoder would shrink to fewer than 4 positions an axis.

    Args:
        patch_size: size of the training patch in pixels or voxels, one number an axis.
        stride: total stride of the encoder, see :func:`encoder_stride`.

    Raises:
        ConfigError: when the stride is over a quarter of the patch's shortest side; the message names a backbone or a
            patch size that fits.
    """
    shortest = min(patch_size)
    if stride * _LARGEST_STRIDE_SHARE <= shortest:
        return
    if shortest >= 16 * _LARGEST_STRIDE_SHARE:
        advice = "take a backbone of stride 16 such as 'resnet18_s16'"
    elif shortest >= 8 * _LARGEST_STRIDE_SHARE:
        advice = "take a backbone of stride 8 such as 'resnet18_s8' or 'resnet10_s8_thin'"
    else:
        advice = (
            f"take a patch of at least {8 * _LARGEST_STRIDE_SHARE} and a backbone of stride 8 such as 'resnet18_s8'"
        )
    raise ConfigError(
        f"The backbone's total stride {stride} is over a quarter of the shortest patch side {shortest}: {advice}, "
        f"or enlarge the patch to {stride * _LARGEST_STRIDE_SHARE}."
    )


def _unknown_backbone(backbone: str) -> str:
    names = backbone_names()
    near = difflib.get_close_matches(str(backbone).lower(), names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"backbone {backbone!r} is not known; use one of {', '.join(names)}.{hint}"


def _build_registered(
    backbone: str, spatial_dims: int, in_channels: int, norm: NormSpec | None
) -> tuple[nn.Module, dict[str, Any]]:
    entry = FLEXUNET_BACKBONE.register_dict[backbone]
    # a copy: FlexibleUNet writes its own arguments into the entry, and "pretrained" in it would download weights
    parameters = {**entry["parameter"], "spatial_dims": spatial_dims, "in_channels": in_channels, "pretrained": False}
    spec = None if norm is None else parse_norm(norm)
    if spec is not None:
        if "norm" not in parameters:
            raise ConfigError(
                f"backbone {backbone!r} has batch norm built in; leave norm out, or take a small-stem ResNet "
                "such as 'resnet18_s16'."
            )
        parameters["norm"] = (spec[0], dict(spec[1]))
    try:
        encoder = entry["type"](**parameters)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"backbone {backbone!r} cannot be built with norm {norm!r}: {error}") from error
    untrained = EFFICIENTNET_HEAD if isinstance(encoder, EfficientNet) else ()
    for name in untrained:
        getattr(encoder, name).requires_grad_(False)
    record = {
        "backbone": backbone,
        "spatial_dims": spatial_dims,
        "in_channels": in_channels,
        "norm": spec,
        "feature_size": None,
        **_architecture(encoder, backbone, parameters),
        "feature_channels": list(entry["feature_channel"]),
        "feature_strides": [2 ** (level + 1) for level in range(entry["feature_number"])],
        "untrained": list(untrained),
    }
    return encoder, record


def _architecture(encoder: nn.Module, backbone: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Family and arguments of MONAI's class, with lists in place of tuples so that JSON keeps them."""
    if isinstance(encoder, SmallStemResNetEncoder):
        arguments = SmallStemResNetEncoder.resnet_arguments(backbone, parameters["norm"])
        return {"family": "small_stem_resnet", "arguments": {**arguments, "norm": list(arguments["norm"])}}
    if isinstance(encoder, ResNetEncoder):
        block, layers, shortcut_type, bias_downsample, _ = resnet_params[backbone]
        arguments = {
            "block": block,
            "layers": list(layers),
            "block_inplanes": get_inplanes(),
            "conv1_t_size": 7,
            "conv1_t_stride": 2,
            "no_max_pool": False,
            "shortcut_type": shortcut_type,
            "bias_downsample": bias_downsample,
            "norm": parse_norm("batch"),
        }
        return {"family": "resnet", "arguments": arguments}
    if isinstance(encoder, EfficientNet):
        arguments = {"model_name": backbone, "norm": list(parameters["norm"]), "adv_prop": parameters["adv_prop"]}
        return {"family": "efficientnet", "arguments": arguments}
    return {"family": type(encoder).__name__, "arguments": {}}


def _build_swin(
    spatial_dims: int, in_channels: int, norm: NormSpec | None, feature_size: int | None
) -> tuple[nn.Module, dict[str, Any]]:
    if norm is not None:
        raise ConfigError(f"backbone {_SWIN!r} has layer norm built in; leave norm out.")
    if not optional_import("einops")[1]:
        raise ConfigError(f"backbone {_SWIN!r} needs the package einops; install it with: pip install einops.")
    width = _SWIN_FEATURE_SIZE if feature_size is None else feature_size
    if not isinstance(width, int) or isinstance(width, bool) or width < 12 or width % 12:
        raise ConfigError(f"feature_size must be a multiple of 12, not {feature_size!r}.")
    arguments = dict(_SWIN_ARGUMENTS)
    per_axis = {name: [arguments[name]] * spatial_dims for name in ("patch_size", "window_size")}
    # its forward normalises each map with a layer norm without weights, as SwinUNETR does by default
    encoder = SwinTransformer(
        in_chans=in_channels, embed_dim=width, spatial_dims=spatial_dims, **{**arguments, **per_axis}
    )
    record = {
        "backbone": _SWIN,
        "spatial_dims": spatial_dims,
        "in_channels": in_channels,
        "norm": None,
        "feature_size": width,
        "family": _SWIN,
        "arguments": {**arguments, "feature_size": width, "normalize": True},
        "feature_channels": [width * 2**level for level in range(5)],
        "feature_strides": [2 ** (level + 1) for level in range(5)],
        "untrained": [],
    }
    return encoder, record
