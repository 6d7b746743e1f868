# SPDX-License-Identifier: Apache-2.0
"""Labelled sets of 2D images in MedMNIST's layout, at one size, and which of their labels a method may see."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["KNOWN", "SPLITS", "LabelledSet", "label_draws", "load_photographs", "load_set"]

KNOWN = {"pneumoniamnist": "pneumoniamnist.npz", "busi": "busi128.npz", "mednist": "mednist64.npz"}
SPLITS = ("train", "val", "test")
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class LabelledSet:
    """Images (N, 1, size, size) in [0, 1] and labels (N,) by split."""

    name: str
    images: dict[str, Tensor]
    labels: dict[str, np.ndarray]

    @property
    def num_classes(self) -> int:
        return int(max(labels.max() for labels in self.labels.values())) + 1


def load_set(name_or_path: str, size: int) -> LabelledSet:
    """Load a known set from the folder that MIXSSL_TEST_DATA names, or any ``.npz`` in MedMNIST's layout.

    Raises:
        SystemExit: where the file is not there or not in that layout.
    """
    path = Path(name_or_path)
    if name_or_path in KNOWN:
        path = _provided() / KNOWN[name_or_path]
    if not path.is_file():
        raise SystemExit(f"no set {name_or_path}: give one of {', '.join(KNOWN)}, or the path of an .npz file.")
    with np.load(path) as arrays:
        missing = [f"{split}_{part}" for split in SPLITS for part in ("images", "labels")]
        if missing := [key for key in missing if key not in arrays]:
            raise SystemExit(f"{path.name} lacks {', '.join(missing)} of MedMNIST's layout.")
        images = {split: to_grey(arrays[f"{split}_images"], size) for split in SPLITS}
        labels = {split: arrays[f"{split}_labels"].reshape(len(images[split]), -1) for split in SPLITS}
    if any(values.shape[1] != 1 for values in labels.values()):
        raise SystemExit(f"{path.name} has several labels an image; this benchmark takes one.")
    return LabelledSet(
        path.stem if name_or_path not in KNOWN else name_or_path,
        images,
        {split: values[:, 0].astype(np.int64) for split, values in labels.items()},
    )


def load_photographs(size: int) -> Tensor:
    """The provided everyday photographs, (N, 1, size, size) in [0, 1]."""
    with np.load(_provided() / "natural_cifar10.npz") as arrays:
        key = max(arrays.files, key=lambda name: arrays[name].ndim)
        return to_grey(arrays[key], size)


def to_grey(images: np.ndarray, size: int) -> Tensor:
    """uint8 (N, H, W) or (N, H, W, 3) to float32 (N, 1, size, size), averaged over areas where that is smaller."""
    values = torch.from_numpy(images.astype(np.float32) / 255)
    if values.ndim == 4:
        values = values @ torch.tensor(LUMINANCE)
    values = values[:, None]
    if values.shape[-1] == size and values.shape[-2] == size:
        return values
    return interpolate(values, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def label_draws(labels: np.ndarray, amount: str, seed: int, count: int) -> list[np.ndarray]:
    """Indices of the labelled images, the same for every method.

    Args:
        labels: (N,) of the training images.
        amount: how many a class, or "all" (a single draw).
        seed: of the run.
        count: number of draws.
    """
    if amount == "all":
        return [np.arange(len(labels))]
    draws = []
    for number in range(count):
        random = np.random.RandomState([seed, number, int(amount)])
        draws.append(
            np.concatenate([random.permutation(np.flatnonzero(labels == k))[: int(amount)] for k in np.unique(labels)])
        )
    return draws


def _provided() -> Path:
    root = os.environ.get("MIXSSL_TEST_DATA")
    if not root:
        raise SystemExit("MIXSSL_TEST_DATA is unset: set it to the folder of the labelled sets.")
    return Path(root).resolve()
