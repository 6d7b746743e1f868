# SPDX-License-Identifier: Apache-2.0
"""The keys of the pretraining config and what each may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_mixssl.data.normalize import NORMALIZATIONS
from monai_mixssl.data.slice_stack import GEOMETRIES
from monai_mixssl.errors import ConfigError
from monai_mixssl.networks.encoders import backbone_names
from monai_mixssl.networks.normalization import parse_norm
from monai_mixssl.sources import SOURCES
from monai_mixssl.workflows.tracking import TRACKING_RULES
from monai_mixssl.workflows.values import (
    Rule,
    boolean,
    check_precision,
    choice,
    device,
    each,
    fraction,
    integer,
    number,
    optional,
    path,
    paths,
    size,
    span,
    workers,
)

__all__ = ["PRETRAIN_RULES", "check_pretrain_keys"]


PRETRAIN_RULES: dict[str, Rule] = {
    # where things are
    "dataset_dir": optional(paths),
    "output_dir": path,
    "resume": boolean,
    "init_weights": optional(path),
    "device": device,
    "seed": integer(0, 2**32 - 1),
    # what is read
    "spatial_dims": choice(2, 3),
    "in_channels": choice(1, 3),
    "patch_size": size,
    "spacing": optional(each(number(0, above=True), 2, 3)),
    "normalization": choice(*NORMALIZATIONS),
    "min_foreground": fraction(),
    "max_bad_share": fraction(),
    "max_pad_factor": number(1),
    "geometry": choice(*GEOMETRIES),
    "val_fraction": fraction(ends=False),
    "val_samples": integer(1),
    "batch_size": integer(1),
    "num_workers": workers,
    "samples_per_image": integer(1),
    "views": choice(1, 2),
    "zoom": number(1),
    "jitter": number(0),
    # how it is mixed
    "source": choice(*SOURCES),
    "source_dir": optional(path),
    "transparency": span,
    "transparency_map_cells": integer(0),
    "match": optional(choice("mean_std", "histogram")),  # "none" becomes the None that `blend` takes
    "renormalize": boolean,
    "blend_on_device": boolean,
    # what is trained
    "backbone": choice(*backbone_names()),
    "norm": optional(parse_norm),
    "skip_connections": boolean,
    "reconstruction_weight": number(0),
    "transparency_weight": number(0),
    "agreement_weight": number(0),
    "agreement": choice("infonce", "vicreg"),
    "temperature": number(0, above=True),
    "projection_size": integer(1),
    "max_epochs": integer(1),
    "learning_rate": number(0, above=True),
    "weight_decay": number(0),
    "amp": choice("none", "bf16", "fp16"),
    "accumulation_steps": integer(1),
    "max_grad_norm": optional(number(0, above=True)),
    # what is measured on labelled images meanwhile
    "probe_dir": optional(path),
    "probe_interval": optional(integer(1)),
    "probe_labels_per_class": optional(integer(1)),
    "probe_samples": integer(3),
    # what is left behind, and when
    "val_interval": integer(1),
    "log_interval": integer(1),
    "checkpoint_interval": integer(1),
    "checkpoint_minutes": number(0, above=True),
    "progress": boolean,
    "pictures": boolean,
    **TRACKING_RULES,
}


def check_pretrain_keys(config: Mapping[str, Any]) -> None:
    """Check the keys that must fit one another.

    Args:
        config: the top level of the config, with values that the rules have passed; a key may be absent or hold an
            expression, and is then left alone.

    Raises:
        ConfigError: a patch with another number of axes than the images, a folder of sources that is missing or not
            used, a precision that the device lacks, more cells than pixels, objectives that all weigh nothing, or an
            agreement without two views of several targets.
    """
    dims, patch = config.get("spatial_dims"), config.get("patch_size")
    if isinstance(dims, int) and isinstance(patch, list) and len(patch) != dims:
        raise ConfigError(f"patch_size has {len(patch)} axes and spatial_dims is {dims}; give one number per axis")
    source, folder = config.get("source"), config.get("source_dir")
    if source == "folder" and not folder:
        raise ConfigError("source 'folder' needs source_dir; give the folder that holds the source images")
    if folder and source in SOURCES and source != "folder":
        raise ConfigError(f"source_dir is not used by source '{source}'; set source to folder or leave source_dir out")
    check_precision(config)
    transparency, agreement = config.get("transparency"), config.get("agreement_weight")
    if transparency in (0, [0, 0]):
        raise ConfigError("transparency is 0, which leaves nothing of the target; give a range, such as [0.2,0.8]")
    if transparency in (1, [1, 1]) and agreement == 0:
        raise ConfigError("transparency is 1, which leaves nothing to undo or predict; give a range, such as [0.2,0.8]")
    cells = config.get("transparency_map_cells")
    shortest = min(patch) if isinstance(patch, list) else patch
    if isinstance(cells, int) and isinstance(shortest, int) and cells > shortest:
        raise ConfigError(f"transparency_map_cells is {cells} and the patch has {shortest} pixels; use fewer cells")
    weights = ("reconstruction_weight", "transparency_weight", "agreement_weight")
    if all(config.get(name) == 0 for name in weights):
        raise ConfigError(f"{', '.join(weights)} are all 0; give at least one objective weight")
    if isinstance(agreement, int | float) and agreement > 0:
        if config.get("views") == 1:
            raise ConfigError("agreement_weight is above 0 and views is 1; set views to 2, or agreement_weight to 0")
        if config.get("batch_size") == 1:
            raise ConfigError("agreement_weight is above 0 and batch_size is 1; views are compared with other targets'")
