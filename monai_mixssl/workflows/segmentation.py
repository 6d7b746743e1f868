# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning for segmentation: keys, patch, network, sliding windows."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.inferers import Inferer, SliceInferer, SlidingWindowInferer
from monai.utils import ensure_tuple_rep
from torch import nn

from monai_mixssl.data.labels import LabelledData
from monai_mixssl.data.phantoms import write_segmentation_phantoms
from monai_mixssl.errors import ConfigError
from monai_mixssl.networks import build_segmenter, encoder_stride, read_encoder_metadata
from monai_mixssl.networks.encoders import check_patch_size
from monai_mixssl.networks.segmenter import DecoderKind
from monai_mixssl.workflows.finetune_rules import FINETUNE_RULES, check_finetune_keys, require_file
from monai_mixssl.workflows.finetune_start import PretrainedStart
from monai_mixssl.workflows.task_settings import FineTuneSettings, weights_drawn_from
from monai_mixssl.workflows.values import Rule, boolean, choice, fraction, integer, number, optional, path, size

__all__ = [
    "SEGMENTATION_RULES",
    "check_cache",
    "check_segmentation_keys",
    "check_segmentation_start",
    "segmentation_inferer",
    "segmentation_patch",
    "segmentation_phantoms",
    "segmenter_network",
]

_PATCH = {2: 64, 3: 32}  # where neither the user nor the encoder file says it
_BYTES_A_VOXEL = 5  # image and mask
_SMALLEST_SWIN = 33  # below, the last of its maps has a single position, which its norm refuses


def _widths(value: Any) -> list[int]:
    given = [value] if isinstance(value, int) else value
    if not isinstance(given, list | tuple):
        raise ConfigError(f"must be a list of whole numbers, one a level of the decoder, not {value!r}")
    return [int(integer(1)(one)) for one in given]


SEGMENTATION_RULES: dict[str, Rule] = {
    **FINETUNE_RULES,
    "patch_size": optional(size),
    "samples_per_image": integer(1),
    "augment": boolean,
    "flip": boolean,
    "decoder": choice("unet", "light"),
    "decoder_channels": optional(_widths),
    "pretrained_decoder": optional(path),
    "overlap": number(0),
    "cache_rate": fraction(),
}


def check_segmentation_keys(config: Mapping[str, Any]) -> None:
    """Check the keys that must fit one another; see :py:func:`~monai_mixssl.workflows.check_finetune_keys`.

    Raises:
        ConfigError: besides, an overlap of 1 or more, a patch with another number of axes than the images, or a
            pretrained decoder without its encoder or for another kind of decoder.
    """
    check_finetune_keys(config)
    overlap = config.get("overlap")
    if isinstance(overlap, int | float) and overlap >= 1:
        raise ConfigError(f"overlap must be from 0 to below 1, not {overlap!r}")
    dims, patch = config.get("spatial_dims"), config.get("patch_size")
    if isinstance(dims, int) and isinstance(patch, list) and len(patch) != dims:
        raise ConfigError(f"patch_size has {len(patch)} axes and spatial_dims is {dims}; give one number per axis")
    decoder_file = config.get("pretrained_decoder")
    require_file("pretrained_decoder", decoder_file, "the decoder.safetensors of a pretraining run")
    if decoder_file and config.get("pretrained") is None:
        raise ConfigError("pretrained_decoder belongs to an encoder; give pretrained, too, or leave it out")
    if decoder_file and config.get("decoder") == "unet":
        raise ConfigError("pretrained_decoder is the light decoder of pretraining; set decoder light, or leave it out")


def segmentation_patch(settings: FineTuneSettings, patch_size: int | Sequence[int] | None = None) -> list[int]:
    """The size of training patches and of sliding windows, pixels or voxels along each axis of the network's images.

    Args:
        settings: with the encoder file, if any.
        patch_size: what the user says. None: as in pretraining, else 64 in 2D and 32 in 3D.

    Raises:
        ConfigError: where the patch has another number of axes than the images.
    """
    dims = settings.spatial_dims
    if patch_size is None and settings.pretrained is not None:
        preparation = read_encoder_metadata(settings.pretrained).get("preparation") or {}
        if preparation.get("spatial_dims") == dims:
            patch_size = preparation.get("patch_size")
    try:
        return [int(side) for side in ensure_tuple_rep(_PATCH[dims] if patch_size is None else patch_size, dims)]
    except ValueError:
        raise ConfigError(f"patch_size has another number of axes than the images, {dims}; give one per axis") from None


def segmenter_network(
    num_classes: int,
    settings: FineTuneSettings,
    patch: Sequence[int],
    *,
    decoder: DecoderKind = "unet",
    decoder_channels: Sequence[int] | None = None,
    pretrained_decoder: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> nn.Module:
    """A network with one logit a class and position, its random weights drawn from the seed alone.

    Args:
        num_classes: number of classes, background included.
        settings: with the architecture.
        patch: size of the training patch.
        decoder, decoder_channels: see :py:func:`~monai_mixssl.networks.build_segmenter`.
        pretrained_decoder: a ``decoder.safetensors`` that says how the light decoder is built.
        seed: of the random weights.

    Raises:
        ConfigError: where the network shrinks the patch too far, or cannot be built so.
    """
    with weights_drawn_from(seed):
        network = build_segmenter(
            num_classes,
            decoder=decoder,
            decoder_channels=decoder_channels,
            decoder_file=pretrained_decoder,
            **settings.architecture,
        )
    record: Any = network.record
    if record["backbone"] != "swin_unetr":
        check_patch_size(patch, encoder_stride(record))
    elif min(patch) < _SMALLEST_SWIN:
        raise ConfigError(f"patch_size {min(patch)} is too small for swin_unetr; use one of at least 64")
    return network


def check_segmentation_start(
    settings: FineTuneSettings,
    patch: Sequence[int],
    *,
    from_scratch: bool = False,
    min_loaded: float = 0.9,
    adapt_stem: bool = False,
    pretrained_decoder: str | os.PathLike[str] | None = None,
    **arguments: Any,
) -> None:
    """Build a network of two classes and load the weights, before the scan: what does not fit should not cost an hour.

    Args:
        settings: with the architecture and the file.
        patch: size of the training patch.
        from_scratch, min_loaded, adapt_stem: as in :py:class:`~monai_mixssl.workflows.PretrainedStart`.
        pretrained_decoder: a ``decoder.safetensors``.
        arguments: further arguments of :py:func:`segmenter_network`.

    Raises:
        DataError, ConfigError: as there.
    """
    network = segmenter_network(2, settings, patch, pretrained_decoder=pretrained_decoder, **arguments)
    PretrainedStart(
        network,
        settings.pretrained,
        from_scratch=from_scratch,
        min_loaded=min_loaded,
        adapt_stem=adapt_stem,
        decoder=None if pretrained_decoder is None else os.fspath(pretrained_decoder),
        main=False,
    )


def segmentation_inferer(
    spatial_dims: int, patch: Sequence[int], overlap: float = 0.25, windows: int = 8, progress: bool = False
) -> Inferer:
    """MONAI's sliding window, over volumes in 3D and over each slice in 2D; predictions are blended smoothly.

    Args:
        spatial_dims: 2: the images are (rows, columns, slices), and the network sees one slice at a time.
        patch: size of a window. Images smaller than it are padded with zeros (air), and predictions cropped again.
        overlap: of neighbouring windows, as a share of their size, in [0, 1).
        windows: so many go through the network at once.
        progress: show a progress bar for each image.
    """
    arguments: dict[str, Any] = {
        "roi_size": tuple(patch),
        "sw_batch_size": windows,
        "overlap": overlap,
        "mode": "gaussian",
        "progress": progress,
    }
    return SliceInferer(spatial_dim=2, **arguments) if spatial_dims == 2 else SlidingWindowInferer(**arguments)


def check_cache(data: LabelledData, settings: FineTuneSettings, cache_rate: float) -> None:
    """Refuse to keep more images in memory than there is room for, before they are read.

    Args:
        data: the data; training and validation images are kept.
        settings: with the spacing that images are resampled to.
        cache_rate: share of them that is kept.

    Raises:
        ConfigError: with a share that fits.
    """
    free = _free_memory()
    kept = {item["id"] for item in (*data.train, *data.validation)}
    needed = cache_rate * sum(_voxels(data.records[one], settings) for one in kept) * _BYTES_A_VOXEL
    if free is not None and needed > free:
        raise ConfigError(
            f"cache_rate {cache_rate:g} would keep {needed / 2**30:.1f} GB of images in memory, and "
            f"{free / 2**30:.1f} GB are free; set cache_rate to at most {int(50 * cache_rate * free / needed) / 100:g}"
        )


def _voxels(record: Mapping[str, Any], settings: FineTuneSettings) -> float:
    """How many voxels an image has after it was resampled."""
    count = float(math.prod(record["shape"]))
    own, wanted = record.get("spacing"), settings.spacing
    if own is None or wanted is None:
        return count
    steps = ensure_tuple_rep(wanted, settings.spatial_dims)
    # in 2D the slices keep their distance, which is the largest
    return count * math.prod(sorted(own)[: settings.spatial_dims]) / math.prod(steps)


def _free_memory() -> int | None:
    """Bytes that programs can still have, None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None


def segmentation_phantoms(folder: Path) -> Path:
    """Write the phantoms of segmentation, with a mask for each patient, and return where they lie.

    Args:
        folder: an empty folder, or one that holds them already.
    """
    return write_segmentation_phantoms(folder)
