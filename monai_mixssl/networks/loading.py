# SPDX-License-Identifier: Apache-2.0
"""Pretrained weights into a network, with a report of what came and what did not."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import nn

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.networks.architecture_differences import architecture_differences
from monai_mixssl.networks.decoder import LightDecoder
from monai_mixssl.networks.decoder_file import read_decoder_tensors
from monai_mixssl.networks.encoder_within import find_encoder, untrained_prefixes, unwrap
from monai_mixssl.networks.encoders import build_encoder
from monai_mixssl.networks.load_report import LoadReport, percent
from monai_mixssl.networks.mixssl_net import MixSSLNet
from monai_mixssl.networks.stem import adapt_channels, inflate
from monai_mixssl.networks.tensor_file import read_tensors
from monai_mixssl.networks.weights import rebuild_encoder

__all__ = ["load_pretrained"]

_SWIN = "swin_unetr"


def load_pretrained(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    minimum: float = 0.9,
    adapt_stem: bool = False,
    decoder_path: str | os.PathLike[str] | None = None,
    report: Callable[[str], object] = print,
) -> LoadReport:
    """Fill a network's encoder from a file of pretrained weights, and say what came from it.

    The network may have been built from the file's record (``build_classifier``, ``build_segmenter``), which loads
    everything, or otherwise: then the report names what stays random, and what makes features differ although the names
    of the weights agree. Nothing is unpickled. Where an error is raised, the network is as it was.

    Args:
        network: one of this package, or a ``ResNet``, ``EfficientNetBN``, ``FlexibleUNet`` or ``SwinUNETR`` of MONAI,
            on any device; changed in place.
        path: an ``encoder.safetensors``.
        minimum: share of the encoder's parameters, from 0 to 1, that must come from the file; and unless it is 0, the
            first convolution must.
        adapt_stem: whether to turn weights that do not fit: the first convolution between 1 and several image channels
            (:func:`~monai_mixssl.networks.stem.adapt_channels`), all convolutions from 2D to 3D
            (:func:`~monai_mixssl.networks.stem.inflate`).
        decoder_path: a ``decoder.safetensors``, for a network with pretraining's light decoder. Its last layer, which
            gives the image, is left out, except for a ``MixSSLNet``.
        report: what the report's text is given to, also where an error follows.

    Returns:
        The report.

    Raises:
        DataError: when a file is missing, damaged, of another kind, describes what cannot be built here, or holds
            weights that are NaN, infinite, whole numbers, or all 0.
        ConfigError: when less than ``minimum`` would come from the file, or the network has no encoder that is known,
            or no light decoder for ``decoder_path``.
    """
    if not 0 <= minimum <= 1:
        raise ConfigError(f"The least share to be loaded must be from 0 to 1, not {minimum!r}.")
    encoder, prefix = find_encoder(network)
    tensors, metadata = read_tensors(path)
    record = metadata["record"]
    theirs = _described_encoder(record)
    plan = _match(encoder, tensors, theirs, adapt_stem)
    differences = architecture_differences(_in_3d(record) if plan.inflated else theirs, encoder)
    inner = unwrap(network)
    if isinstance(inner, SwinUNETR) and not inner.normalize:
        differences.append("layer norm of the feature maps on in the file, off here")
    decoder = _match_decoder(inner, decoder_path)
    done = LoadReport(
        matched=tuple(plan.matched),
        missing=tuple(plan.missing),
        unexpected=tuple(plan.unexpected),
        mismatched=tuple(plan.mismatched),
        adapted=tuple(plan.adapted),
        differences=tuple(differences),
        outside=tuple(_outside(inner, prefix, encoder, decoder)),
        loaded=_count(encoder, plan.matched),
        total=_count(encoder, [*plan.matched, *plan.missing, *(name for name, _, _ in plan.mismatched)]),
        decoder_loaded=0 if decoder is None else _count(decoder.module, decoder.matched),
        decoder_total=0 if decoder is None else _count(decoder.module, [*decoder.matched, *decoder.others]),
    )
    report(str(done))
    _refuse_too_little(done, minimum, encoder, record, adapt_stem)
    encoder.load_state_dict(plan.matched, strict=False)
    if decoder is not None:
        decoder.module.load_state_dict(decoder.matched, strict=False)
    return done


@dataclass
class _Plan:
    matched: dict[str, torch.Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    inflated: int = 0


@dataclass
class _DecoderPlan:
    module: LightDecoder
    matched: dict[str, torch.Tensor]
    others: list[str]


def _described_encoder(record: Mapping[str, Any]) -> nn.Module:
    """The encoder of the file, to compare with; without memory for its weights where its construction allows it."""
    if record.get("family") == _SWIN:  # computes numbers while it is built
        return rebuild_encoder(record)
    with torch.device("meta"):
        return rebuild_encoder(record)


def _in_3d(record: Mapping[str, Any]) -> nn.Module:
    """The encoder that 2D weights are inflated for."""
    if record["family"] == _SWIN:
        return build_encoder(record["backbone"], 3, record["in_channels"], feature_size=record["feature_size"])[0]
    with torch.device("meta"):
        return build_encoder(record["backbone"], 3, record["in_channels"], record["norm"])[0]


def _match(encoder: nn.Module, tensors: Mapping[str, torch.Tensor], theirs: nn.Module, adapt: bool) -> _Plan:
    plan = _Plan()
    state = encoder.state_dict()
    heads = {*untrained_prefixes(encoder), *untrained_prefixes(theirs)}
    wanted = {name: tensor for name, tensor in state.items() if name.split(".")[0] not in heads}
    offered = {name: tensor for name, tensor in tensors.items() if name.split(".")[0] not in heads}
    stem = next(iter(wanted))
    for name, tensor in wanted.items():
        given = offered.pop(name, None)
        if given is None:
            plan.missing.append(name)
        elif tensor.is_floating_point() and not given.is_floating_point():
            raise DataError(
                f"The encoder file holds weights that are not numbers of the kind that a network has: {name} is of "
                f"{str(given.dtype).removeprefix('torch.')}; write the file again with save_encoder."
            )
        elif given.shape == tensor.shape:
            plan.matched[name] = given
        else:
            turned = _turned(given, tensor.shape, name == stem, plan) if adapt else None
            if turned is None:
                plan.mismatched.append((name, tuple(given.shape), tuple(tensor.shape)))
            else:
                plan.matched[name] = turned
    plan.unexpected = list(offered)
    if plan.inflated:
        plan.adapted.append(
            f"{plan.inflated} convolutions inflated from 2D to 3D, as for axial slices, each divided by its length "
            "along the new axis"
        )
    return plan


def _turned(given: torch.Tensor, shape: torch.Size, is_stem: bool, plan: _Plan) -> torch.Tensor | None:
    turned: torch.Tensor | None = given
    inflating = given.ndim == 4 and len(shape) == 5
    if inflating:
        turned = inflate(given, shape[2:])
    if turned is not None and is_stem and len(shape) > 1:
        turned = adapt_channels(turned, shape[1])
    if turned is None or turned.shape != shape:
        return None
    plan.inflated += inflating
    if shape[1] != given.shape[1]:
        how = f"weights repeated and divided by {shape[1]}" if given.shape[1] == 1 else "weights added up"
        plan.adapted.append(f"the first convolution from {given.shape[1]} to {shape[1]} image channels, {how}")
    return turned


def _match_decoder(inner: nn.Module, path: str | os.PathLike[str] | None) -> _DecoderPlan | None:
    if path is None:
        return None
    decoder = getattr(inner, "decoder", None)
    if not isinstance(decoder, LightDecoder):
        raise ConfigError(
            "The network has no light decoder that pretrained weights would fit; set decoder to 'light', or leave the "
            "decoder file out."
        )
    tensors = read_decoder_tensors(path)
    matched, others = {}, []
    for name, tensor in decoder.state_dict().items():
        if name.startswith("head.") and not isinstance(inner, MixSSLNet):
            continue
        given = tensors.get(name)
        if given is not None and given.shape == tensor.shape:
            matched[name] = given
        else:
            others.append(name)
    return _DecoderPlan(decoder, matched, others)


def _outside(inner: nn.Module, prefix: str, encoder: nn.Module, decoder: _DecoderPlan | None) -> list[tuple[str, int]]:
    """Parts outside the encoder that begin random; of a network that is encoder and head in one, its head."""
    if not prefix:
        parts = [(name, child) for name, child in inner.named_children() if name in untrained_prefixes(encoder)]
    else:
        parts = [(name, child) for name, child in inner.named_children() if f"{name}." != prefix]
    found = {name: sum(p.numel() for p in child.parameters()) for name, child in parts}
    if decoder is not None:
        found["the rest of the decoder"] = found.pop("decoder") - _count(decoder.module, decoder.matched)
    return [(name, count) for name, count in found.items() if count]


def _count(module: nn.Module, names: Any) -> int:
    parameters = dict(module.named_parameters())
    return sum(parameters[name].numel() for name in names if name in parameters)


def _refuse_too_little(
    done: LoadReport, minimum: float, encoder: nn.Module, record: Mapping[str, Any], adapt: bool
) -> None:
    override = "or lower min_loaded (minimum) to load it all the same"
    build = "build the network from the file's record (encoder_file), give the file of such an encoder"
    stem = next(iter(encoder.state_dict()))
    shapes = {name: (before, here) for name, before, here in done.mismatched}
    before, here = shapes.get(stem, ((), ()))
    if done.share < minimum:
        why = [*done.differences[:1], f"{len(done.missing)} tensors missing, {len(done.mismatched)} of another shape"]
        from_2d_to_3d = record["spatial_dims"] == 2 and any(p.ndim == 5 for p in encoder.parameters())
        if from_2d_to_3d and record["family"] == _SWIN:
            why.append("attention and patch merging of a transformer cannot be inflated")
        elif from_2d_to_3d and not adapt:
            build = f"set adapt_stem to True to inflate the convolutions, {build}"
        raise ConfigError(
            f"Only {percent(done.share)} of the encoder's parameters would come from the file, under the "
            f"{percent(minimum)} asked for ({'; '.join(why)}): {build}, {override}."
        )
    if minimum > 0 and stem in {*done.missing, *shapes}:
        override = "or set min_loaded (minimum) to 0 to load the rest all the same"
        if len(before) == len(here) > 1 and before[2:] == here[2:] and 1 in (before[1], here[1]):
            build = f"set in_channels to {before[1]}, or adapt_stem to True"
        raise ConfigError(
            f"The first convolution does not fit ({_sizes(before)} in the file, {_sizes(here)} here) and would stay "
            f"random, and the rest be of little use: {build}, {override}."
        )
    if done.decoder_share is not None and done.decoder_share < minimum:
        raise ConfigError(
            f"Only {percent(done.decoder_share)} of the decoder's parameters would come from the file, under the "
            f"{percent(minimum)} asked for: build the network with decoder_file, {override}."
        )


def _sizes(shape: tuple[int, ...]) -> str:
    if len(shape) < 3:
        return "none"
    return f"{shape[1]} image channels, size {' x '.join(str(size) for size in shape[2:])}"
