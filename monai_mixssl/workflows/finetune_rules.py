# SPDX-License-Identifier: Apache-2.0
"""The keys that all fine-tuning configs share, and what each may hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_mixssl.data.normalize import NORMALIZATIONS
from monai_mixssl.errors import ConfigError
from monai_mixssl.networks import read_encoder_metadata
from monai_mixssl.networks.encoders import backbone_names
from monai_mixssl.networks.normalization import parse_norm
from monai_mixssl.workflows.finetune_origin import check_origin
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
    workers,
)

__all__ = ["FINETUNE_RULES", "check_finetune_keys", "require_file", "require_run"]

FINETUNE_RULES: dict[str, Rule] = {
    # where things are
    "dataset_dir": optional(path),
    "output_dir": path,
    "resume": boolean,
    "pretrained": optional(path),
    "from_scratch": boolean,
    "pretrain_run": optional(path),
    "data_from": optional(path),
    "min_loaded": fraction(),
    "adapt_stem": boolean,
    "device": device,
    "seed": integer(0, 2**32 - 1),
    "label_seed": optional(integer(0, 2**32 - 1)),
    # what is read; none: as the encoder file says, else as in pretraining
    "spatial_dims": optional(choice(2, 3)),
    "in_channels": optional(choice(1, 3)),
    "spacing": optional(each(number(0, above=True), 2, 3)),
    "normalization": optional(choice(*NORMALIZATIONS)),
    "min_foreground": optional(fraction()),
    "backbone": optional(choice(*backbone_names())),
    "norm": optional(parse_norm),
    "labels_per_class": optional(integer(1)),
    "label_fraction": optional(number(0, above=True)),
    "val_fraction": fraction(ends=False),
    "test_fraction": fraction(),
    "max_bad_share": fraction(),
    "batch_size": integer(1),
    "num_workers": workers,
    # how it is trained
    "max_epochs": integer(1),
    "min_steps_per_epoch": integer(1),
    "learning_rate": number(0, above=True),
    "weight_decay": number(0),
    "encoder_factor": number(0),
    "layer_decay": number(0, above=True),
    "frozen_epochs": integer(0),
    "amp": choice("none", "bf16", "fp16"),
    "max_grad_norm": optional(number(0, above=True)),
    "select": choice("best", "last"),
    # what is left behind, and when
    "val_interval": integer(1),
    "log_interval": integer(1),
    "checkpoint_interval": integer(1),
    "checkpoint_minutes": number(0, above=True),
    "progress": boolean,
    "pictures": boolean,
    **TRACKING_RULES,
}


def check_finetune_keys(config: Mapping[str, Any]) -> None:
    """Check the keys that must fit one another, and that the files that they name are there.

    Args:
        config: the top level of the config, with values that the rules have passed; a key may be absent or hold an
            expression, and is then left alone.

    Raises:
        ConfigError: a missing file or run, two ways to say how many labels, an architecture to train from scratch
            without the file that describes it, shares that leave nothing to train on, or a precision that the device
            lacks.
        DataError: an encoder file that cannot be read.
        RunFolderError: a pretraining run that did not make the encoder file.
    """
    pretrained = config.get("pretrained")
    require_file("pretrained", pretrained, "the encoder.safetensors of a pretraining run")
    require_run("pretrain_run", config.get("pretrain_run"), "a pretraining run")
    if _is_typed(run := config.get("pretrain_run")):
        read = Path(str(pretrained)).expanduser() if _is_typed(pretrained) else None
        data_hash = None if read is None else read_encoder_metadata(read).get("data_hash")
        check_origin(run, data_hash, given=read is not None, quiet=True)
    require_run("data_from", config.get("data_from"), "a run on the same data")
    if config.get("from_scratch") is True and not pretrained:
        raise ConfigError(
            "from_scratch takes the architecture from the file that pretrained names; give pretrained, or leave "
            "from_scratch out (without pretrained all weights are random anyway)"
        )
    if pretrained is None and config.get("adapt_stem") is True:
        raise ConfigError("adapt_stem adapts pretrained weights; give pretrained, or leave adapt_stem out")
    for name in ("label_fraction", "layer_decay"):
        value = config.get(name)
        if isinstance(value, int | float) and value > 1:
            raise ConfigError(f"{name} must be a number above 0 and at most 1, not {value!r}")
    if config.get("labels_per_class") is not None and config.get("label_fraction") is not None:
        raise ConfigError("labels_per_class and label_fraction are both set; use one of them")
    shares = [config.get(name) for name in ("val_fraction", "test_fraction")]
    if all(isinstance(share, int | float) for share in shares) and sum(shares) >= 1:  # type: ignore[arg-type]  # checked
        raise ConfigError("val_fraction and test_fraction together leave nothing to train on; make them smaller")
    check_precision(config)


def require_file(key: str, value: Any, what: str) -> None:
    """Refuse a key that names a file that is not there; None and expressions are left alone.

    Raises:
        ConfigError: naming the key, not the path.
    """
    if _is_typed(value) and not Path(value).expanduser().is_file():
        raise ConfigError(f"{key} names no file; give {what}")


def require_run(key: str, value: Any, what: str) -> None:
    """Refuse a key that names no output folder; None and expressions are left alone.

    Raises:
        ConfigError: naming the key, not the path.
    """
    if _is_typed(value) and not (Path(value).expanduser() / "manifest.json").is_file():
        raise ConfigError(f"{key} names no output folder with a manifest.json; give that of {what}")


def _is_typed(value: Any) -> bool:
    return isinstance(value, str | os.PathLike) and not str(value).startswith(("$", "@"))
