# SPDX-License-Identifier: Apache-2.0
"""The labelled images that a pretraining run is probed on, and the handler that does it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, EnsureTyped, ResizeWithPadOrCropd, ToTensord

from monai_mixssl.data.fit_inside import FitInsided
from monai_mixssl.data.labels import LabelledData, classification_data, read_labels
from monai_mixssl.data.manifest import PreparedData
from monai_mixssl.data.prepared_transforms import LoadPreparedd
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.data.shares import spread
from monai_mixssl.errors import DataError
from monai_mixssl.handlers import OnlineProbe
from monai_mixssl.networks import MixSSLNet
from monai_mixssl.probes import require_sklearn, undisturbed
from monai_mixssl.workflows.classification import common_size
from monai_mixssl.workflows.run_folder import RunFolder

__all__ = ["check_probe", "online_probe"]

_VALIDATION, _TEST = 0.2, 0.3  # shares of patients, where the labels come without splits
_INTERVAL = 4
_MOST_SHARE = 0.05
_FORWARD = 0.25  # what embedding a patch costs, as a share of training on it: see docs/online_probe.md
_MOST_PATCHES = {2: 4, 3: 2}  # by number of axes: images are scaled down to so many patches a side


def check_probe(probe_dir: str | None) -> None:
    """Find out before any long work whether the labels can be read and scikit-learn is there.

    Args:
        probe_dir: the labelled images; None: there is no probe.

    Raises:
        ConfigError: scikit-learn is not installed.
        DataError: there are no labels, or a mistake is in them.
    """
    if probe_dir is None:
        return
    require_sklearn()
    try:
        read_labels(probe_dir, "classification")
    except DataError as error:
        raise DataError(str(error).replace("dataset_dir", "probe_dir")) from None  # the key that the user has typed


def online_probe(
    probe_dir: str,
    folder: RunFolder,
    data: PreparedData,
    network: MixSSLNet,
    patch: Sequence[int],
    epoch_images: int,
    *,
    interval: int | None = None,
    labels_per_class: int | None = None,
    samples: int = 384,
    batch_size: int = 16,
    seed: int = 0,
    num_workers: int = 0,
    progress: bool = True,
    device: torch.device | str = "cpu",
    summary_writer: Any = None,
) -> OnlineProbe:
    """Prepare labelled images as the run's own were, and make the handler that probes the encoder with them.

    Prints what is used, and how many of the images that scores are computed on (or their patients) are pretrained on:
    that is no error, since no label is seen in pretraining, but scores then say less about patients never seen.

    Args:
        probe_dir: labelled images in any form that :func:`~monai_mixssl.data.labels.read_labels` knows.
        folder: the run's output folder; the images are prepared in ``private/probe`` of it.
        data: what is pretrained on.
        network: the network that is pretrained, or is going to be.
        patch: size of a training patch. Larger images are scaled down to 4 patches a side (2D) or 2 (3D), smaller
            ones padded with zeros to the size of the largest.
        epoch_images: patches that this process trains on in an epoch.
        interval: epochs between two probes; None: 4, or as many as it takes for probes to cost an estimated 5 % of the
            time at most (small data sets have short epochs).
        labels_per_class: fit to the labels of so many patients (else series, else files) of each class; None: all.
        samples: at most so many images (in 2D: slices) are looked at, in all three splits together.
        batch_size: images embedded at a time.
        seed: of the splits and the label subset.
        num_workers: processes of the preparation.
        progress: whether the preparation shows bars.
        device: where the network stands.
        summary_writer: TensorBoard's.

    Returns:
        The handler, to be attached in the first process only.

    Raises:
        ConfigError, DataError, RunFolderError: see :func:`~monai_mixssl.data.labels.classification_data`.
    """
    output = _same_salt(folder.path)
    whole = {**data.settings.as_dict(), "patch_size": [1] * len(patch)}  # no image is too small to be embedded
    with undisturbed():
        labelled = classification_data(
            probe_dir,
            output,
            preparation=whole,
            val_fraction=_VALIDATION,
            test_fraction=_TEST,
            seed=seed,
            labels_per_class=labels_per_class,
            num_workers=num_workers,
            progress=progress,
            resume=folder.resuming,
            report=lambda text: None,
        )
    splits = _thinned(labelled, samples)
    limit = [_MOST_PATCHES[len(patch)] * side for side in patch]
    size = common_size(labelled.largest, network.record, limit, main=False)
    if interval is None:
        work = _FORWARD * sum(map(len, splits.values())) * math.prod(size) / (epoch_images * math.prod(patch))
        interval = max(_INTERVAL, math.ceil(work / _MOST_SHARE))
    print(f"{_summary(labelled, splits, _overlap(labelled, data))} It runs every {interval} epochs.", flush=True)
    transform = Compose(
        [
            LoadPreparedd("image", labelled.folder),
            FitInsided("image", size),
            ResizeWithPadOrCropd("image", size),
            ToTensord("image", track_meta=False),
            EnsureTyped("label", dtype=torch.float32 if labelled.multi_label else torch.int64, track_meta=False),
        ]
    )
    loaders = {
        name: DataLoader(Dataset(items, transform), batch_size=batch_size, generator=torch.Generator())
        for name, items in splits.items()
        if items
    }
    return OnlineProbe(loaders, len(labelled.classes), device, interval, log=folder.log, summary_writer=summary_writer)


def _same_salt(run: Path) -> Path:
    """The folder of the probe's images, under the salt of the run: patients and images have the same ids in both."""
    output = PrivateFolder(run).path / "probe"
    salt = PrivateFolder(output).path / "salt"
    if not salt.exists():
        PrivateFolder(run).salt()  # draws it, if this is the first call
        shutil.copy2(run / "private" / "salt", salt)
    return output


def _thinned(labelled: LabelledData, samples: int) -> dict[str, list[dict[str, Any]]]:
    """The datalists, each thinned evenly by the same factor where there are more than so many samples."""
    splits = {"training": labelled.train, "validation": labelled.validation, "test": labelled.test}
    total = sum(len(items) for items in splits.values())
    if total <= samples:
        return splits
    return {
        name: spread(items, max(1, round(samples * len(items) / total))) if items else []
        for name, items in splits.items()
    }


def _overlap(labelled: LabelledData, data: PreparedData) -> tuple[int, int, int]:
    """How many images are scored, how many of those are pretrained on, and of how many others the patient is."""
    scored_split = "test" if labelled.test else "validation"
    pretrained = [record for record in data.records.values() if record["split"] == "training"]
    ids = {record["id"] for record in pretrained}  # all there is to compare in a manifest of an earlier version
    contents = {record["content"] for record in pretrained if "content" in record}
    groups = {record["group"] for record in pretrained}
    scored = [record for record in labelled.records.values() if record["split"] == scored_split]
    others = [record for record in scored if record["content"] not in contents and record["id"] not in ids]
    return len(scored), len(scored) - len(others), sum(record["group"] in groups for record in others)


def _summary(labelled: LabelledData, splits: dict[str, list[dict[str, Any]]], overlap: tuple[int, int, int]) -> str:
    used = {name: len(items) for name, items in splits.items()}
    unit = "slices" if labelled.settings is not None and labelled.settings.spatial_dims == 2 else "images"
    total = len(labelled.train) + len(labelled.validation) + len(labelled.test)
    scored, images, patients = overlap
    lines = [
        f"Online probe: {used['training']} labelled {unit} to fit to, {used['validation']} to choose on, "
        f"{used['test']} to score ({len(labelled.classes)} {'labels' if labelled.multi_label else 'classes'}"
        + (f"; evenly thinned from {total})" if total > sum(used.values()) else ")")
        + (
            f"; {len(labelled.excluded)} files and images are left out (private/probe/excluded.jsonl)."
            if labelled.excluded
            else "."
        )
    ]
    if images or patients:
        lines.append(
            f"Of the {scored} images that it scores, {images} are themselves pretrained on, and {patients} more are of "
            "patients (else series, else files) that are: its scores say less about patients never seen."
        )
    return "\n".join(lines)
