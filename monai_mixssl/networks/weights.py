# SPDX-License-Identifier: Apache-2.0
"""The encoder's weights as a file: safetensors, with the record of the encoder in it. No pickle is ever read."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monai
import safetensors
import safetensors.torch
import torch
from torch import nn

import monai_mixssl
from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.networks.embedding import EncoderEmbedding, Pooling
from monai_mixssl.networks.encoders import build_encoder

__all__ = ["load_embedding", "load_encoder", "save_encoder"]

_KEY = "monai_mixssl"
_FORMAT_VERSION = 1
_BUILD_KEYS = ("backbone", "spatial_dims", "in_channels", "norm", "feature_size")


def save_encoder(path: str | os.PathLike[str], net: nn.Module, metadata: Mapping[str, Any] | None = None) -> None:
    """Write an encoder's weights and record, all or nothing: a killed or failing call leaves an earlier file as it was.

    All metadata stand as one JSON text, keys sorted, under the key ``monai_mixssl`` of the safetensors header (several
    keys would be written in a random order): equal weights and metadata give equal bytes.

    Args:
        path: the file, usually ``encoder.safetensors``.
        net: a network with ``encoder`` and ``record``, such as ``MixSSLNet`` (not wrapped for several processes).
        metadata: whatever its user needs besides, as JSON types: patch size, spacing, axis order, normalisation, hash
            of the data list, objectives. The file is meant to be given away: no names, ids or paths.

    Raises:
        ConfigError: when an entry of the metadata is not JSON, or has a name that this function fills itself.
    """
    own = {
        "format_version": _FORMAT_VERSION,
        "record": net.record,
        "monai_mixssl_version": monai_mixssl.__version__,
        "monai_version": monai.__version__,
        "torch_version": str(torch.__version__),
    }
    extra = dict(metadata or {})
    if clash := sorted(set(own) & set(extra)):
        raise ConfigError(f"The metadata entry {clash[0]!r} is filled by save_encoder itself; give it another name.")
    try:
        text = json.dumps({**own, **extra}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The encoder's metadata must be JSON types only: {error}.") from error
    encoder: nn.Module = net.encoder  # type: ignore[assignment]  # torch types attributes loosely
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    _write_atomically(Path(path), safetensors.torch.save(tensors, {_KEY: text}))


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
    try:
        with safetensors.safe_open(os.fspath(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except FileNotFoundError as error:
        raise DataError(
            "The encoder file does not exist; give the encoder.safetensors of a pretraining run."
        ) from error
    except (safetensors.SafetensorError, OSError) as error:
        raise DataError(
            "The encoder file cannot be read as safetensors; it is damaged or of another kind, so copy it again from "
            "the pretraining run."
        ) from error
    metadata = _read_metadata(header)
    encoder = _rebuild(metadata["record"])
    try:
        encoder.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise DataError(
            "The weights in the encoder file do not fit the encoder that the file describes; write it again with "
            "save_encoder."
        ) from error
    return encoder.eval(), metadata


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


def _write_atomically(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        # mkstemp lets only the owner read; the file gets the mode that open() would have given it
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _read_metadata(header: Mapping[str, str]) -> dict[str, Any]:
    try:
        metadata = json.loads(header[_KEY])
        if set(_BUILD_KEYS) <= set(metadata["record"]) and metadata["format_version"] == _FORMAT_VERSION:
            return metadata
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("The file holds no encoder of monai-mixssl; give the encoder.safetensors of a run.") from error
    raise DataError(
        "The encoder file has a format that this version of monai-mixssl does not know; update the package."
    )


def _rebuild(record: dict[str, Any]) -> nn.Module:
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
