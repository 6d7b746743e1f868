# SPDX-License-Identifier: Apache-2.0
"""Linear probe and nearest neighbours as a run of their own: how good are the features, untrained for the task?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any

import torch
from torch import nn

from monai_mixssl.data.atomic import write_json
from monai_mixssl.networks.embedding import Pooling
from monai_mixssl.probes import FeatureTable, extract_features, knn_probe, linear_probe, require_sklearn
from monai_mixssl.workflows.run_folder import RunFolder

__all__ = ["probe"]

_SCORES = ("accuracy", "balanced_accuracy", "auc")


def probe(
    folder: RunFolder,
    network: nn.Module,
    train: Iterable[Mapping[str, Any]],
    validation: Iterable[Mapping[str, Any]] | None,
    test: Iterable[Mapping[str, Any]] | None,
    classes: Sequence[str],
    *,
    poolings: Sequence[Pooling] = ("last", "all", "last2x2"),
    device: torch.device | str = "cpu",
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Probe a frozen encoder at each pooling, print a table and write ``probe.json``.

    Args:
        folder: the run's output folder.
        network: an encoder, or a network that holds one as its attribute ``encoder``; moved to the device.
        train: data loader of the labelled training images, in a fixed order and without augmentation; its batches hold
            ``image`` (B, C, \\*spatial), ``label`` ((B,) class numbers or (B, K) of 0 and 1) and ``id``.
        validation: likewise, for choosing the penalty and the number of neighbours; None or an empty one: defaults.
        test: likewise, for reporting; None or an empty one: nothing is reported on test images.
        classes: names of the classes or labels.
        poolings: where the features are taken, see :func:`~monai_mixssl.networks.embedding.pool_features`.
        device: where to run the network.
        details: further entries of ``probe.json``, JSON types only: what the weights are, whether leakage was checked.

    Returns:
        What ``probe.json`` holds: ``images`` and ``rows`` by split (the slices of a volume are a row each and one image
        together), ``classes``, ``trivial`` (the accuracy of always saying the commonest training class; None with
        several labels an image), and ``poolings``: for each its ``dimensions``, and ``linear`` and ``knn`` as
        :func:`~monai_mixssl.probes.linear_probe` and :func:`~monai_mixssl.probes.knn_probe` return them.

    Raises:
        ConfigError: when scikit-learn is not installed, or the labels do not fit the classes.
        DataError: when there are no training images.
        TrainingError: when features are not finite.
        RunFolderError: when the disk is full.
    """
    require_sklearn()
    network.to(device)
    tables: dict[str, FeatureTable | None] = {"training": extract_features(network, train, device, poolings)}
    for name, batches in (("validation", validation), ("test", test)):
        tables[name] = None if _is_empty(batches) else extract_features(network, batches, device, poolings)  # type: ignore[arg-type]  # None is empty
    fit = tables["training"]
    assert fit is not None  # extract_features refuses to return nothing
    count = len(classes)
    choice, report = tables["validation"], tables["test"]
    result: dict[str, Any] = {
        **(details or {}),
        "classes": list(classes),
        "images": {name: 0 if table is None else len(set(table.ids)) for name, table in tables.items()},
        "rows": {name: 0 if table is None else len(table) for name, table in tables.items()},
        "trivial": _trivial(fit, report),
        "poolings": {
            pooling: {
                "dimensions": int(fit.features[pooling].shape[1]),
                "linear": linear_probe(fit, choice, report, count, pooling),
                "knn": knn_probe(fit, choice, report, count, pooling),
            }
            for pooling in poolings
        },
    }
    if folder.main:
        write_json(folder.path / "probe.json", result, "probe.json", indent=2)
        print(_table(result), flush=True)
    return result


def _is_empty(batches: Iterable[Mapping[str, Any]] | None) -> bool:
    return batches is None or (isinstance(batches, Sized) and len(batches) == 0)


def _trivial(train: FeatureTable, test: FeatureTable | None) -> float | None:
    if train.multi_label or test is None:
        return None
    commonest = int(torch.bincount(train.labels).argmax())
    by_id = dict(zip(test.ids, test.labels.tolist(), strict=True))
    return sum(label == commonest for label in by_id.values()) / len(by_id)


def _table(result: Mapping[str, Any]) -> str:
    """The scores as text: of the test images, else of the validation images."""
    split = "test" if result["images"]["test"] else "validation"
    lines = [
        f"Frozen features, {result['images']['training']} labelled training images, scores of "
        f"{result['images'][split]} {split} images:",
        f"{'probe':<8}{'pooling':<9}{'features':>9}{'accuracy':>10}{'balanced':>10}{'AUC':>8}",
    ]
    for pooling, entry in result["poolings"].items():
        for kind in ("linear", "knn"):
            scores = entry[kind][split] or dict.fromkeys(_SCORES)
            accuracy, balanced, auc = ("-" if scores[name] is None else f"{scores[name]:.3f}" for name in _SCORES)
            lines.append(f"{kind:<8}{pooling:<9}{entry['dimensions']:>9}{accuracy:>10}{balanced:>10}{auc:>8}")
    if result["trivial"] is not None:
        lines.append(f"{'always the commonest class':<26}{result['trivial']:>10.3f}")
    return "\n".join(lines)
