# SPDX-License-Identifier: Apache-2.0
"""The data of a run: the user's scans, or the phantoms where none are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.distributed as dist

from monai_mixssl.data.manifest import PreparedData, load_prepared
from monai_mixssl.data.phantoms import PATIENTS, write_phantoms
from monai_mixssl.data.prepared_data import prepare_data
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.workflows.run_folder import RunFolder

__all__ = ["run_data"]


def run_data(dataset_dir: str | Sequence[str] | None, folder: RunFolder, **settings: Any) -> PreparedData:
    """Scan, prepare and split the data of a run, in its first process; the others wait and read what it wrote.

    Args:
        dataset_dir: one folder or datalist, or several; None for the package's phantoms, which are written to
            ``private/phantoms`` of the output folder.
        folder: the run's output folder; where it is resumed, its manifest stands.
        settings: further arguments of :py:func:`~monai_mixssl.data.prepared_data.prepare_data`.

    Returns:
        The prepared data.

    Raises:
        DataError: nothing usable found, or not enough of it.
        RunFolderError: the disk is full, or the run was prepared with other settings.
    """
    data = None
    if folder.main:
        folder.lock()
        if dataset_dir is None:
            dataset_dir = _phantoms(folder)
        given = dataset_dir if isinstance(dataset_dir, str) else list(dataset_dir)
        said: list[str] = []

        def report(text: str) -> None:
            said.append(text.partition("\n")[2])
            print(text, flush=True)

        data = prepare_data(given, folder.path, resume=folder.resuming, report=report, **settings)
        if data.summary.partition("\n")[2] not in said:  # preparing has left out more than the scan did
            print(data.summary, flush=True)
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
    return load_prepared(folder.path) if data is None else data


def _phantoms(folder: RunFolder) -> list[str]:
    phantoms = PrivateFolder(folder.path).path / "phantoms"
    if not (phantoms / "labels.csv").exists():  # written last
        print(
            f"No dataset_dir given: writing {PATIENTS} made-up patients to {phantoms.relative_to(folder.path)}/ of the "
            "output folder.",
            flush=True,
        )
        write_phantoms(phantoms)
    return [str(phantoms / "dicom"), str(phantoms / "nifti")]  # beside them lies labels.csv, which is no image
