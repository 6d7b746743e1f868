# SPDX-License-Identifier: Apache-2.0
"""What makes two encoders answer differently even where the names and shapes of their weights agree."""

from __future__ import annotations

from functools import partial
from typing import Any

from monai.networks.nets.efficientnet import EfficientNet
from monai.networks.nets.resnet import ResNet
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import nn

from monai_mixssl.networks.encoder_within import untrained_prefixes

__all__ = ["architecture_differences"]

_FAMILIES = (ResNet, EfficientNet, SwinTransformer)
# attributes that do not change features in evaluation: widths show as shapes of weights, the rest works in training
_IRRELEVANT = {
    "bias_downsample",
    "drop_connect_rate",
    "drop_prob",
    "full_resolution_stages",
    "in_channels",
    "in_features",
    "in_planes",
    "inplace",
    "momentum",
    "normalized_shape",
    "num_channels",
    "num_classes",
    "num_features",
    "out_channels",
    "out_features",
    "p",
    "training",
    "use_checkpoint",
}
_MOST_NAMES = 3


def architecture_differences(theirs: nn.Module, ours: nn.Module) -> list[str]:
    """Compare two encoders, module by module, in everything but their weights.

    Args:
        theirs: the encoder that a file describes; it may be on the meta device.
        ours: the encoder to be filled.

    Returns:
        Phrases such as ``"stem stride 2 in the file, 1 here"``; empty where equal weights give equal features.
    """
    families = [_family(encoder) for encoder in (theirs, ours)]
    if families[0] != families[1]:
        return [f"family {families[0]} in the file, {families[1]} here"]
    dims = [_spatial_dims(encoder) for encoder in (theirs, ours)]
    if dims[0] != dims[1]:
        return [f"{dims[0]}D in the file, {dims[1]}D here"]
    found: dict[tuple[str, str, str], list[str]] = {}
    heads = (*untrained_prefixes(theirs), "avgpool")
    other = dict(ours.named_modules())
    for name, module in theirs.named_modules():
        if name not in other or name.split(".")[0] in heads:
            continue
        before, here = _described(name, module), _described(name, other[name])
        # layers of different types have different attributes, which say no more than the types do
        same = before.get("layer type") == here.get("layer type")
        for what in before if same else ("layer type",):
            pair = (str(before.get(what, "none")), str(here.get(what, "none")))
            if pair[0] != pair[1]:
                found.setdefault((what, *pair), []).append(name or "the whole encoder")
    return [_phrase(*difference, names) for difference, names in found.items()]


def _spatial_dims(encoder: nn.Module) -> int:
    """2 or 3, by the encoder's first convolution."""
    dims = {nn.Conv2d: 2, nn.Conv3d: 3}
    return next((n for module in encoder.modules() for kind, n in dims.items() if isinstance(module, kind)), 0)


def _family(encoder: nn.Module) -> str:
    return next((kind.__name__ for kind in _FAMILIES if isinstance(encoder, kind)), type(encoder).__name__)


def _described(name: str, module: nn.Module) -> dict[str, Any]:
    """What decides a module's answer besides its weights, in the words of the report."""
    described: dict[str, Any] = {}
    kind = type(module).__name__.replace("SyncBatchNorm", "BatchNorm")
    if not isinstance(module, (*_FAMILIES, nn.Sequential, nn.ModuleList)):
        described["layer type"] = kind.removesuffix("2d").removesuffix("3d")
    for key, value in vars(module).items():
        if key.startswith("_") or key in _IRRELEVANT:
            continue
        if isinstance(value, (bool, int, float, str)):
            described[key] = value
        elif isinstance(value, (tuple, list)) and all(isinstance(one, (int, float, str)) for one in value):
            described[key] = value[0] if value and len(set(value)) == 1 else tuple(value)
    if isinstance(module, ResNet):
        described["max pool"] = "no" if described.pop("no_max_pool") else "yes"
    elif name == "conv1" and "kernel_size" in described:  # the stem of a ResNet; its padding follows from its size
        described = {"stem size": described["kernel_size"], "stem stride": described["stride"]}
    elif "downsample" in vars(module) or "downsample" in module._modules:
        described["shortcut"] = _shortcut(getattr(module, "downsample", None))
    return described


def _shortcut(downsample: Any) -> str:
    if downsample is None:
        return "identity"
    return "type A" if isinstance(downsample, partial) else "type B"


def _phrase(what: str, theirs: str, ours: str, names: list[str]) -> str:
    where = ""
    if not what.startswith(("stem", "max pool")) and names != ["the whole encoder"]:
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        where = f" ({', '.join(names[:_MOST_NAMES])}{more})"
    return f"{what} {theirs} in the file, {ours} here{where}"
