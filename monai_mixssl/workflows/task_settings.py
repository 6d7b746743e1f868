# SPDX-License-Identifier: Apache-2.0
"""What a fine-tuning run takes from the encoder file, and what the user has said instead."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from monai_mixssl.errors import DataError
from monai_mixssl.networks import read_encoder_metadata
from monai_mixssl.networks.normalization import NormSpec
from monai_mixssl.workflows.finetune_origin import check_origin

__all__ = ["FineTuneSettings", "finetune_settings", "weights_drawn_from"]

_DEFAULTS: dict[str, Any] = {"in_channels": 1, "spacing": None, "normalization": "auto", "min_foreground": 0.1}


@dataclass(frozen=True)
class FineTuneSettings:
    """How images are prepared and which architecture is built.

    Attributes:
        pretrained: the encoder file, None where there is none.
        spatial_dims, in_channels, spacing, normalization, min_foreground: of the preparation, see ``PrepareSettings``.
        architecture: ``encoder_file`` and what the user wants other than in the file (None: as in the file): keyword
            arguments of ``build_classifier`` and ``build_segmenter``.
        source: where the preparation comes from, for the console.
        pretraining_data_hash: of the data that the encoder file says it was trained on; None: no file, or it says none.
        geometry: as the encoder file says: see ``PrepareSettings``. Segmentation reads voxels as they are stored, since
            masks are drawn on them.
    """

    pretrained: str | None
    spatial_dims: int
    in_channels: int
    spacing: float | tuple[float, ...] | None
    normalization: str
    min_foreground: float
    architecture: dict[str, Any]
    source: str
    pretraining_data_hash: str | None = None
    geometry: str = "accept"

    @property
    def preparation(self) -> dict[str, Any]:
        """Keyword arguments of ``PrepareSettings``, JSON types only; whole images are taken: none is too small."""
        return {
            "spatial_dims": self.spatial_dims,
            "in_channels": self.in_channels,
            "patch_size": [1] * self.spatial_dims,
            "spacing": list(self.spacing) if isinstance(self.spacing, tuple) else self.spacing,
            "normalization": self.normalization,
            "min_foreground": self.min_foreground,
            "geometry": self.geometry,
        }


def finetune_settings(
    pretrained: str | None = None,
    *,
    default_dims: int = 2,
    spatial_dims: int | None = None,
    in_channels: int | None = None,
    spacing: float | Sequence[float] | None = None,
    normalization: str | None = None,
    min_foreground: float | None = None,
    backbone: str | None = None,
    norm: NormSpec | None = None,
    pretrain_run: str | None = None,
) -> FineTuneSettings:
    """Each setting as the user gives it, else as the encoder file records it, else as pretraining's default.

    Args:
        pretrained: an ``encoder.safetensors``, or None.
        default_dims: number of spatial dimensions where neither says it.
        spatial_dims, in_channels, spacing, normalization, min_foreground: of the preparation; None: not given.
        backbone, norm: of the architecture; None: not given.
        pretrain_run: output folder of the run that is said to have made the file, for the leakage guard; None: none.

    Raises:
        DataError: where the file cannot be read.
        RunFolderError: where ``pretrain_run`` is no pretraining run, or not the one that made the file.
    """
    recorded: dict[str, Any] = {}
    data_hash: Any = None
    if pretrained is not None:
        metadata = read_encoder_metadata(pretrained)
        record, preparation = metadata["record"], metadata.get("preparation")
        if preparation is not None and not isinstance(preparation, dict):
            raise DataError("the encoder file's preparation cannot be read; give the file of a pretraining run")
        data_hash = metadata.get("data_hash")
        recorded = {**(preparation or {}), **{name: record[name] for name in ("spatial_dims", "in_channels")}}
    check_origin(pretrain_run, data_hash, given=pretrained is not None)
    dims = int(spatial_dims or recorded.get("spatial_dims", default_dims))
    if recorded.get("spatial_dims", dims) != dims:
        recorded.pop("spacing", None)  # millimetres of other axes
    given: dict[str, Any] = {
        "in_channels": in_channels,
        "spacing": spacing,
        "normalization": normalization,
        "min_foreground": min_foreground,
    }
    chosen = {
        name: value if value is not None else recorded.get(name, _DEFAULTS[name]) for name, value in given.items()
    }
    if isinstance(chosen["spacing"], list | tuple):
        chosen["spacing"] = tuple(chosen["spacing"])
    own = [name for name, value in given.items() if value is not None]
    source = "as the encoder file says" if recorded else "by pretraining's defaults"
    return FineTuneSettings(
        pretrained=pretrained,
        spatial_dims=dims,
        architecture={
            "encoder_file": pretrained,
            # without a file somebody must say it; with one, None means the file's
            "spatial_dims": spatial_dims if pretrained else dims,
            "in_channels": in_channels if pretrained else chosen["in_channels"],
            "backbone": backbone,
            "norm": norm,
        },
        source=f"{source}, but {', '.join(own)} as given" if own else source,
        pretraining_data_hash=data_hash,
        geometry=str(recorded.get("geometry", "accept")),
        **chosen,
    )


@contextlib.contextmanager
def weights_drawn_from(seed: int) -> Iterator[None]:
    """Within it, random weights depend on the seed alone, not on what was drawn before; afterwards nothing has changed.

    Args:
        seed: any integer from 0 up.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
