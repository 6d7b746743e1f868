# SPDX-License-Identifier: Apache-2.0
"""Whether the run that the leakage guard compares with is the one that made the encoder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist

from monai_mixssl.data.labels.leakage import pretraining_hash
from monai_mixssl.errors import RunFolderError

__all__ = ["PRETRAINING_HASH", "check_model_origin", "check_origin"]

PRETRAINING_HASH = "pretraining_data_hash"  # in a fine-tuned model's file: what the encoder file says of its data
_PRETRAINING = "pretraining"


def check_origin(
    pretrain_run: str | os.PathLike[str] | None,
    data_hash: Any,
    key: str = "pretrained",
    *,
    given: bool = True,
    quiet: bool = False,
) -> None:
    """Refuse a run that is no pretraining, or that did not make a file; print where that cannot be known.

    Args:
        pretrain_run: output folder of a pretraining run; None: nothing is compared.
        data_hash: the hash of the data list that the file records; None: it records none.
        key: of the config that names the file.
        given: whether there is a file; without one, only the kind of the run is looked at.
        quiet: print nothing.

    Raises:
        RunFolderError: the folder holds no run that can be read, one of another kind, or another pretraining's.
    """
    if pretrain_run is None:
        return
    kind = _kind(Path(pretrain_run).expanduser() / "run.json")
    if kind not in (None, _PRETRAINING):
        raise RunFolderError(
            f"pretrain_run holds a run of the kind {kind}, whose images are not those of the pretraining; give the "
            "output folder of the pretraining run"
        )
    known = pretraining_hash(pretrain_run)
    if not given:
        return
    if data_hash is None:
        if quiet:
            return
        _say(
            f"The file that {key} names does not record its data: whether pretrain_run is the run that made it is not "
            "known."
        )
    elif data_hash != known:
        raise RunFolderError(
            f"pretrain_run is not the run that made the file of {key}, so comparing with its images would say nothing; "
            "give the output folder that the encoder file was written to"
        )


def check_model_origin(pretrain_run: str | os.PathLike[str] | None, metadata: Mapping[str, Any]) -> None:
    """The same for a fine-tuned model.

    Args:
        pretrain_run: output folder of a pretraining run; None: nothing is compared.
        metadata: of the model's file.

    Raises:
        RunFolderError: see :py:func:`check_origin`.
    """
    check_origin(pretrain_run, metadata.get(PRETRAINING_HASH), "model")


def _kind(file: Path) -> Any:
    """What ``run.json`` says the run is; None where it is gone, which a manifest with its hash makes up for."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise RunFolderError("run.json in pretrain_run cannot be read; copy the whole output folder again") from None
    return content.get("kind") if isinstance(content, dict) else None


def _say(text: str) -> None:
    if not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0:
        print(text, flush=True)
