# SPDX-License-Identifier: Apache-2.0
"""The labelled data of a fine-tuning run: the user's, or the phantoms where none are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from monai_mixssl.data.labels import LabelledData
from monai_mixssl.data.phantoms import PATIENTS, write_phantoms
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.workflows.run_folder import RunFolder

__all__ = ["PHANTOM_SEED", "finetune_data", "labelled_phantoms", "repeated"]

PHANTOM_SEED = 1  # pretraining's default is the set of seed 0: no phantom patient is in both

T = TypeVar("T")


def labelled_phantoms(folder: Path) -> Path:
    """Write the phantoms of fine-tuning, with a label for each patient, and return where they lie.

    Args:
        folder: an empty folder, or one that holds them already.
    """
    return write_phantoms(folder, seed=PHANTOM_SEED)


def finetune_data(
    prepare: Callable[..., LabelledData],
    dataset_dir: str | None,
    folder: RunFolder,
    *,
    phantoms: Callable[[Path], Path] = labelled_phantoms,
    data_from: str | None = None,
    progress: bool = True,
    **settings: Any,
) -> LabelledData:
    """Read, prepare and split labelled data in a run's first process; the others wait and read what it wrote.

    Args:
        prepare: :py:func:`~monai_mixssl.data.labels.classification_data` or
            :py:func:`~monai_mixssl.data.labels.segmentation_data`.
        dataset_dir: labelled data in one of the forms that ``prepare`` reads; None for phantoms, which are written to
            ``private/phantoms`` of the output folder.
        folder: the run's output folder; where it is resumed, its manifest stands.
        phantoms: writes the phantoms of the task into a folder.
        data_from: output folder of another run on the same data.
        progress: show progress bars.
        settings: further arguments of ``prepare``.

    Returns:
        The labelled data.

    Raises:
        DataError: nothing usable found, not enough of it, or a patient in two places where only one is allowed.
        RunFolderError: the disk is full, or the run was prepared with other settings.
    """
    several = dist.is_available() and dist.is_initialized()
    data = None
    if folder.main:
        folder.lock()
        given = _phantoms(folder, phantoms, data_from) if dataset_dir is None else dataset_dir
        data = prepare(
            given,
            folder.path,
            data_from=data_from,
            progress=progress,
            resume=folder.resuming,
            report=_say,
            **settings,
        )
    if several:
        dist.barrier()
    if data is None:
        given = str(PrivateFolder(folder.path).path / "phantoms") if dataset_dir is None else dataset_dir
        return prepare(
            given,
            folder.path,
            data_from=data_from,
            progress=False,
            resume=True,
            report=_nothing,
            **settings,
        )
    return data


def repeated(items: Sequence[T], least: int) -> list[T]:
    """The items, as often in a row as it takes to have at least so many: few labels still make an epoch of some length.

    Args:
        items: at least one.
        least: how many are needed.
    """
    return [*items] * max(1, -(-least // max(1, len(items))))


def _phantoms(folder: RunFolder, write: Callable[[Path], Path], data_from: str | None) -> str:
    private = PrivateFolder(folder.path).path
    if data_from is not None and (Path(data_from) / "private" / "phantoms").is_dir():
        return str(Path(data_from) / "private" / "phantoms")
    phantoms = private / "phantoms"
    if not (phantoms / "labels.csv").exists() and not (phantoms / "dataset.json").exists():  # either is written last
        print(
            f"No dataset_dir given: writing {PATIENTS} made-up patients with labels to "
            f"{phantoms.relative_to(folder.path)}/ of the output folder.",
            flush=True,
        )
    return str(write(phantoms))


def _say(text: str) -> None:
    print(text, flush=True)


def _nothing(text: str) -> None:
    """The first process has said it."""
