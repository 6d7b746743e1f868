# SPDX-License-Identifier: Apache-2.0
"""How labelled images are split and thinned, and what they are compared with: the same for both tasks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from monai_mixssl.data.labels.leakage import pretraining_hash
from monai_mixssl.data.labels.split import check_fractions
from monai_mixssl.data.labels.subset import check_subset
from monai_mixssl.errors import RunFolderError

__all__ = ["SPLIT_CHOICES", "Choices", "refuse_change"]

SPLIT_CHOICES = ("val_fraction", "test_fraction", "seed")  # what a run that lends its splits has decided


@dataclass(frozen=True)
class Choices:
    """Arguments that `classification_data` and `segmentation_data` share; see there."""

    val_fraction: float
    test_fraction: float
    seed: int
    labels_per_class: int | None
    label_fraction: float | None
    label_seed: int
    pretrain_run: str | os.PathLike[str] | None
    evaluate: bool = False

    def __post_init__(self) -> None:
        check_fractions(self.val_fraction, self.test_fraction)
        check_subset(self.labels_per_class, self.label_fraction)

    def as_dict(self) -> dict[str, Any]:
        """Returns what goes into the manifest: no path, but the hash of the pretraining's data list."""
        return {
            "val_fraction": self.val_fraction,
            "test_fraction": self.test_fraction,
            "seed": self.seed,
            "labels_per_class": self.labels_per_class,
            "label_fraction": self.label_fraction,
            "label_seed": self.label_seed,
            "pretrain_run": pretraining_hash(self.pretrain_run),
        }


def refuse_change(before: Mapping[str, Any], now: Mapping[str, Any], but: Iterable[str] = ()) -> None:
    """Refuses to go on with a run whose data were chosen otherwise, `but` these names.

    Raises:
        RunFolderError: what was chosen differs; what does is named.
    """
    changed = [name for name in now if name not in but and now[name] != before.get(name)]
    if changed:
        raise RunFolderError(
            f"The run in output_dir was begun with another {', '.join(changed)}; resume it with the same settings, "
            "or start a new run in another folder."
        )
