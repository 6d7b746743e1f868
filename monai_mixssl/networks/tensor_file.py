# SPDX-License-Identifier: Apache-2.0
"""Weights as safetensors files, with one JSON text in the header: written whole or not at all, never unpickled."""

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

__all__ = ["read_header", "read_tensors", "write_tensors"]

_KEY = "monai_mixssl"
_FORMAT_VERSION = 1
# what torch.save writes: a zip archive since 1.6, a bare pickle before
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")
# what a record must hold for an encoder to be built from it; each is checked further where it is
_RECORD: dict[str, type | tuple[type, ...]] = {
    "backbone": str,
    "spatial_dims": int,
    "in_channels": int,
    "norm": (list, str, type(None)),
    "feature_size": (int, type(None)),
}
_RUNS = {"encoder": "pretraining", "decoder": "pretraining", "model": "fine-tuning"}  # which run leaves which file


def write_tensors(
    path: str | os.PathLike[str],
    module: nn.Module,
    own: Mapping[str, Any],
    metadata: Mapping[str, Any] | None,
    what: str,
) -> None:
    """Write a module's state and a record; a killed or failing call leaves an earlier file as it was.

    All metadata stand as one JSON text, keys sorted, under the key ``monai_mixssl`` of the safetensors header (several
    keys would be written in a random order): equal weights and metadata give equal bytes.

    Args:
        path: the file.
        module: whose ``state_dict`` is written.
        own: what the caller fills itself, such as ``record``; format and versions are added here.
        metadata: whatever the file's user needs besides, as JSON types.
        what: what the file holds, as messages name it, for example ``"encoder"``.

    Raises:
        ConfigError: when an entry of the metadata is not JSON, or has a name that is filled already.
    """
    filled = {
        "format_version": _FORMAT_VERSION,
        **own,
        "monai_mixssl_version": monai_mixssl.__version__,
        "monai_version": monai.__version__,
        "torch_version": str(torch.__version__),
    }
    extra = dict(metadata or {})
    if clash := sorted(set(filled) & set(extra)):
        raise ConfigError(f"The metadata entry {clash[0]!r} is filled by save_{what} itself; give it another name.")
    try:
        text = json.dumps({**filled, **extra}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The {what}'s metadata must be JSON types only: {error}.") from error
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    _write_atomically(Path(path), safetensors.torch.save(tensors, {_KEY: text}))


def read_header(path: str | os.PathLike[str], what: str = "encoder", required: str = "record") -> dict[str, Any]:
    """Read a file's metadata alone.

    Args:
        path: a file of :func:`write_tensors`.
        what: what the file should hold, as messages name it.
        required: the entry that tells this kind of file.

    Returns:
        The metadata.

    Raises:
        DataError: when the file is missing, damaged, or of another kind.
    """
    return _read(path, what, required, tensors=False)[1]


def read_tensors(
    path: str | os.PathLike[str], what: str = "encoder", required: str = "record"
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a file's tensors, to the CPU, and its metadata.

    Args:
        path, what, required: see :func:`read_header`.

    Returns:
        The tensors by their names in the network, none of them with NaN or infinite values, and the metadata.

    Raises:
        DataError: see :func:`read_header`; or the file holds values that are not finite, or weights that are all 0.
    """
    tensors, metadata = _read(path, what, required, tensors=True)
    unusable = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if unusable:
        raise DataError(
            f"The {what} file holds weights that are not numbers (NaN or infinite) in {len(unusable)} of "
            f"{len(tensors)} tensors (such as {unusable[0]}): training had failed, or the file was changed; use "
            "that of another run."
        )
    matrices = [tensor for tensor in tensors.values() if tensor.ndim > 1 and tensor.is_floating_point()]
    if matrices and not any(tensor.any() for tensor in matrices):
        raise DataError(
            f"The weights in the {what} file are all 0, so nothing was trained; use the file of another run."
        )
    return tensors, metadata


def _read(
    path: str | os.PathLike[str], what: str, required: str, tensors: bool
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        with safetensors.safe_open(os.fspath(path), framework="pt") as file:
            header = file.metadata() or {}
            names = list(file.keys()) if tensors else []
            content = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError as error:
        if os.path.exists(path):  # safetensors calls a lack of permission the same
            raise DataError(f"There is no permission to read the {what} file.") from error
        raise DataError(
            f"The {what} file does not exist; give the {what}.safetensors of a {_RUNS[what]} run."
        ) from error
    except (safetensors.SafetensorError, OSError) as error:
        raise DataError(_unreadable(path, what)) from error
    return content, _metadata(header, what, required)


def _unreadable(path: str | os.PathLike[str], what: str) -> str:
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError:
        start = b""
    if start.startswith(_PICKLE_STARTS):
        return (
            f"The {what} file is damaged or of another kind: it looks like a torch checkpoint, a pickle, which is "
            f"never opened here, because opening one can run code; give the {what}.safetensors of a {_RUNS[what]} run."
        )
    return (
        f"The {what} file cannot be read as safetensors; it is damaged or of another kind, so copy it again from the "
        f"{_RUNS[what]} run."
    )


def _metadata(header: Mapping[str, str], what: str, required: str) -> dict[str, Any]:
    try:
        metadata = json.loads(header[_KEY])
        version, keys = metadata["format_version"], set(metadata)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"The file holds no {what} of monai-mixssl; give the {what}.safetensors of a {_RUNS[what]} run."
        ) from error
    if version != _FORMAT_VERSION:
        raise DataError(
            f"The {what} file has a format that this version of monai-mixssl does not know; update the package."
        )
    kinds = {"record": "encoder", "decoder": "decoder", "model": "model"}
    found = next((name for key, name in reversed(kinds.items()) if key in keys), "something else")
    if required not in keys or kinds.get(required, found) != found:
        raise DataError(
            f"The file holds no {what} of monai-mixssl but {found}; give the {what}.safetensors of a {_RUNS[what]} run."
        )
    if not isinstance(metadata[required], dict):
        raise DataError(f"The {what}'s record is no table of names and values; write the file again with save_{what}.")
    if what == "encoder":
        _check_record(metadata["record"])
    return dict(metadata)


def _check_record(record: Mapping[str, Any]) -> None:
    for key, kinds in _RECORD.items():
        if key not in record:
            raise DataError(f"The encoder's record lacks {key!r}; write the file again with save_encoder.")
        value = record[key]
        too_small = isinstance(value, int) and value < 1
        if not isinstance(value, kinds) or isinstance(value, bool) or too_small:
            raise DataError(
                f"The encoder's record has {key} {str(value)[:40]!r}, which no encoder has; write the file again with "
                "save_encoder."
            )


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
    except BaseException:  # Ctrl-C, too, leaves no half file behind; it is raised again
        os.unlink(temporary)
        raise
