# SPDX-License-Identifier: Apache-2.0
"""The encoder's weights as a file: safetensors, with the record of the encoder in it. No pickle is ever read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.networks.embedding import EncoderEmbedding, Pooling
from monai_mixssl.networks.encoders import build_encoder
from monai_mixssl.networks.tensor_file import read_header, read_tensors, write_tensors

__all__ = ["load_embedding", "load_encoder", "read_encoder_metadata", "rebuild_encoder", "save_encoder"]

_BUILD_KEYS = ("backbone", "spatial_dims", "in_channels", "norm", "feature_size")


def save_encoder(path: str | os.PathLike[str], net: nn.Module, metadata: Mapping[str, Any] | None = None) -> None:
    """Write an encoder's weights and record, all or nothing: a killed or failing call leaves an earlier file as it was.

    Equal weights and metadata give equal bytes.

    Args:
        path: the file, usually ``encoder.safetensors``.
        net: a network with ``encoder`` and ``record``, such as ``MixSSLNet`` (not wrapped for several processes).
        metadata: whatever its user needs besides, as JSON types: patch size, spacing, axis order, normalisation, hash
            of the data list, objectives. The file is meant to be given away: no names, ids or paths.

    Raises:
        ConfigError: when an entry of the metadata is not JSON, or has a name that this function fills itself.
    """
    encoder: nn.Module = net.encoder  # type: ignore[assignment]  # torch types attributes loosely
    write_tensors(path, encoder, {"record": net.record}, metadata, "encoder")


def load_encoder(path: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """Build the encoder that a file of :func:`save_encoder` describes, and load its weights, every one of them.

    Args:
        path: the file.

    Returns:
        The encoder on the CPU, in evaluation mode, and the file's metadata, ``record`` among them.

    Raises:
        DataError: when the file is missing, damaged, of another kind, or does not fit the encoder that this version
            builds from its record.
    """
    tensors, metadata = read_tensors(path)
    encoder = rebuild_encoder(metadata["record"])
    try:
        encoder.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise DataError(
            "The weights in the encoder file do not fit the encoder that the file describes; write it again with "
            "save_encoder."
        ) from error
    return encoder.eval(), metadata


def read_encoder_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What an encoder file says about itself: ``record``, versions, and what the pretraining run added.

    Args:
        path: a file of :func:`save_encoder`.

    Returns:
        The metadata; a pretraining run's hold ``preparation``, ``data_hash``, ``objectives`` and ``axis_order``.

    Raises:
        DataError: when the file is missing, damaged, or of another kind.
    """
    return read_header(path)


def load_embedding(path: str | os.PathLike[str], pooling: Pooling = "last") -> EncoderEmbedding:
    """The encoder of a file as a network that gives one tensor, in evaluation mode.

    Args:
        path: a file of :func:`save_encoder`.
        pooling: see :func:`~monai_mixssl.networks.embedding.pool_features`.

    Returns:
        Network from images (B, C, *spatial) to embeddings (B, D).

    Raises:
        DataError: see :func:`load_encoder`.
        ConfigError: when the pooling is not known.
    """
    return EncoderEmbedding(load_encoder(path)[0], pooling).eval()


def rebuild_encoder(record: Mapping[str, Any]) -> nn.Module:
    """Build the encoder that a record describes, with random weights.

    Args:
        record: as :func:`~monai_mixssl.networks.encoders.build_encoder` gave it.

    Returns:
        The encoder, on torch's default device.

    Raises:
        DataError: when it cannot be built here, or this version builds another architecture under the same name.
    """
    if missing := [key for key in _BUILD_KEYS if key not in record]:
        raise DataError(f"The encoder's record lacks {missing[0]!r}; write the file again with save_encoder.")
    try:
        encoder, rebuilt = build_encoder(**{key: record[key] for key in _BUILD_KEYS})
    except ConfigError as error:
        raise DataError(f"The encoder that the file describes cannot be built here: {error}") from error
    if differing := sorted(key for key in rebuilt if rebuilt[key] != record.get(key)):
        raise DataError(
            f"The encoder file was written for another architecture of the same name (differing: "
            f"{', '.join(differing)}); use the versions of MONAI and monai-mixssl named in the file."
        )
    return encoder
