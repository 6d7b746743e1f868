# SPDX-License-Identifier: Apache-2.0
"""The data of an inference run, prepared as those were that the encoder was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_mixssl.data.manifest import PreparedData
from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.networks import load_encoder
from monai_mixssl.networks.encoders import encoder_stride
from monai_mixssl.workflows.run_folder import RunFolder
from monai_mixssl.workflows.tracking import NO_TRACKING_RULES
from monai_mixssl.workflows.unlabelled_data import run_data
from monai_mixssl.workflows.values import Rule, boolean, choice, device, optional, path, paths, workers

__all__ = ["INFERENCE_RULES", "inference_data", "recorded_stride"]

INFERENCE_RULES: dict[str, Rule] = {
    "dataset_dir": optional(paths),
    "output_dir": path,
    "encoder": path,
    "state_file": path,
    "device": device,
    "pooling": choice("last", "all", "last2x2"),
    "num_workers": workers,
    "resume": boolean,
    "progress": boolean,
    **NO_TRACKING_RULES,
}


def inference_data(
    dataset_dir: str | Sequence[str] | None, folder: RunFolder, encoder: str | Path, **settings: Any
) -> PreparedData:
    """Scan and prepare images with the settings that an encoder file records; nothing is held out.

    Args:
        dataset_dir: as in :py:func:`~monai_mixssl.workflows.unlabelled_data.run_data`.
        folder: the output folder.
        encoder: an ``encoder.safetensors``.
        settings: ``num_workers`` and ``progress`` of the preparation.

    Returns:
        The prepared images, all in ``train``.

    Raises:
        DataError: where the encoder file records no preparation, or there is nothing usable.
    """
    _, metadata = load_encoder(encoder)
    preparation = metadata.get("preparation")
    if not isinstance(preparation, dict):
        raise DataError("the encoder file does not say how its images were prepared; give one of a pretraining run")
    # whole images are embedded, of whatever size: none is too small
    patch = [1] * int(preparation["spatial_dims"])
    try:
        return run_data(dataset_dir, folder, **{**preparation, "patch_size": patch}, val_fraction=None, **settings)
    except TypeError:
        raise ConfigError("the encoder file was written by another version of monai-mixssl; use that version") from None


def recorded_stride(encoder: str | Path) -> int:
    """The total stride of an encoder file's network: image sides are padded to multiples of it."""
    return encoder_stride(load_encoder(encoder)[1]["record"])
