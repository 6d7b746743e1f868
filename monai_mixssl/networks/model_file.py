# SPDX-License-Identifier: Apache-2.0
"""A fine-tuned network as one file, from which it can be built and used without its training configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.networks.classifier import EncoderClassifier
from monai_mixssl.networks.segmenter import segmenter_around
from monai_mixssl.networks.tensor_file import read_tensors, write_tensors
from monai_mixssl.networks.weights import rebuild_encoder

__all__ = ["load_model", "save_model"]

_KINDS: dict[str, Callable[..., nn.Module]] = {"classifier": EncoderClassifier, "segmenter": segmenter_around}


def save_model(path: str | os.PathLike[str], network: nn.Module, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a network's weights and record, all or nothing.

    Args:
        path: the file, usually ``model.safetensors``.
        network: of :func:`~monai_mixssl.networks.classifier.build_classifier` or
            :func:`~monai_mixssl.networks.segmenter.build_segmenter` (not wrapped for several processes).
        metadata: whatever its user needs besides, as JSON types: names of the classes, preparation, metrics. The file
            is meant to be given away: no names of people, ids or paths.

    Raises:
        ConfigError: when the network has no ``model_record``, or the metadata cannot be written.
    """
    record = getattr(network, "model_record", None)
    if not isinstance(record, dict):
        raise ConfigError("save_model writes networks of build_classifier and build_segmenter; this one has no record.")
    write_tensors(path, network, {"model": record}, metadata, "model")


def load_model(path: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network that a file of :func:`save_model` describes, and load its weights, every one of them.

    Args:
        path: the file.

    Returns:
        The network on the CPU, in evaluation mode, and the file's metadata, with ``model``, its ``model_record``.

    Raises:
        DataError: when the file is missing, damaged, of another kind, or does not fit the network that this version
            builds from its record.
    """
    tensors, metadata = read_tensors(path, "model", "model")
    record = metadata["model"]
    try:
        build, encoder_record, arguments = _KINDS[record["kind"]], dict(record["encoder"]), dict(record["arguments"])
        network = build(rebuild_encoder(encoder_record), encoder_record, **arguments)
    except (ConfigError, KeyError, TypeError) as error:
        raise DataError(f"The network that the model file describes cannot be built here: {error}") from error
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise DataError(
            "The weights in the model file do not fit the network that the file describes; write it again with "
            "save_model."
        ) from error
    return network.eval(), metadata
