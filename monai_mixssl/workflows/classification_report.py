# SPDX-License-Identifier: Apache-2.0
"""What a classifier achieves: numbers, a table of predictions, pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from monai_mixssl.data.atomic import write_atomically, write_json
from monai_mixssl.engines import PrecisionEvaluator
from monai_mixssl.handlers import PredictionTable
from monai_mixssl.probes import class_scores
from monai_mixssl.workflows.classification_pictures import draw_confusion
from monai_mixssl.workflows.run_folder import RunFolder

__all__ = ["classification_scores", "predict", "report_classification", "write_predictions"]


def predict(
    network: nn.Module,
    loader: Iterable[Any],
    device: str | torch.device,
    *,
    multi_label: bool = False,
    loss_function: Callable[..., Any] | None = None,
    precision: str = "none",
) -> PredictionTable:
    """What a classifier says about all images of a loader.

    Args:
        network: gives logits (B, K); is moved to the device.
        loader: batches with ``image`` and ``id``, and with ``label`` where it is known.
        device: where to run.
        multi_label: several labels may hold for one image.
        loss_function: for the mean loss; None: it is not computed.
        precision: ``"none"``, ``"bf16"`` or ``"fp16"``.
    """
    table = PredictionTable(multi_label)
    evaluator = PrecisionEvaluator(
        device, loader, network.to(device), loss_function, precision, val_handlers=[table], non_blocking=True
    )
    evaluator.run()
    return table


def classification_scores(table: PredictionTable) -> dict[str, Any]:
    """The scores of a table with labels, of images or slices, and of scans where several slices belong to one.

    Returns:
        ``count``, ``loss``, ``accuracy``, ``balanced_accuracy``, ``auc`` (see
        :py:func:`~monai_mixssl.probes.class_scores`; None where not defined), ``confusion_matrix`` (rows: true,
        columns: predicted; with several labels an image one [[tn, fp], [fn, tp]] for each label), and ``scans``: the
        same of the probabilities averaged over the slices of each scan, None where each image stands alone.
    """
    labels = table.labels
    assert labels is not None  # the caller's images are labelled
    true, probabilities = labels.numpy(), table.probabilities.numpy()
    scans = None
    if len(set(table.ids)) < len(table.ids):
        scans = _scores(*_by_scan(table.ids, true, probabilities))
    return {**_scores(true, probabilities), "loss": table.loss, "scans": scans}


def report_classification(
    folder: RunFolder,
    network: nn.Module,
    loaders: Mapping[str, Iterable[Any]],
    classes: Sequence[str],
    details: Mapping[str, Any],
    *,
    device: str | torch.device,
    multi_label: bool = False,
    loss_function: Callable[..., Any] | None = None,
    precision: str = "none",
    pictures: bool = True,
) -> dict[str, Any]:
    """Measure a classifier on each split, in the first process; write ``metrics.json``, ``predictions.csv``, pictures.

    Args:
        folder: the output folder.
        network: the classifier.
        loaders: labelled batches by split (``"validation"``, ``"test"``); one without images gives None.
        classes: names of the classes.
        details: further entries of ``metrics.json``, see :py:func:`~monai_mixssl.workflows.run_details`.
        device: where to run.
        multi_label: several labels may hold for one image.
        loss_function: for the mean loss.
        precision: ``"none"``, ``"bf16"`` or ``"fp16"``.
        pictures: draw the confusion matrices, too.

    Returns:
        What ``metrics.json`` holds.
    """
    if not folder.main:
        return {}
    scores: dict[str, Any] = {}
    tables: dict[str, PredictionTable] = {}
    for split, loader in loaders.items():
        scores[split] = None
        if len(loader.dataset) == 0:  # type: ignore[attr-defined]  # a DataLoader has one
            continue
        tables[split] = predict(
            network, loader, device, multi_label=multi_label, loss_function=loss_function, precision=precision
        )
        scores[split] = classification_scores(tables[split])
        print(_sentence(split, scores[split]), flush=True)
        if pictures:
            folder.pictures.mkdir(exist_ok=True)
            best = scores[split]["scans"] or scores[split]
            draw_confusion(
                folder.pictures / f"confusion_{split}.png",
                np.array(best["confusion_matrix"]),
                classes,
                f"{split}: {best['count']} {'scans' if scores[split]['scans'] else 'images'}",
            )
    write_predictions(folder, tables, classes)
    result = {**details, **scores}
    write_json(folder.metrics, result, "metrics.json", indent=2)
    print(f"Done: metrics.json, predictions.csv{', pictures/' * pictures} are in the output folder.", flush=True)
    return result


def write_predictions(folder: RunFolder, tables: Mapping[str, PredictionTable], classes: Sequence[str]) -> None:
    """Write ``predictions.csv``: a row an image or slice, by id.

    Columns: ``id``, ``slice`` (its number in the volume; empty for whole images), ``split``, ``true`` (empty where not
    known), ``predicted``, ``probability <class>`` for each. Several labels of one image are separated by ``;``.

    Args:
        folder: the output folder.
        tables: predictions by split.
        classes: names of the classes.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "slice", "split", "true", "predicted", *(f"probability {name}" for name in classes)])
    for split, table in tables.items():
        labels = table.labels
        rows = table.probabilities.tolist()
        for number, (image, row) in enumerate(zip(table.ids, rows, strict=True)):
            k = table.slices[number]
            true = "" if labels is None else _names(labels[number].tolist(), classes)
            decided = [float(p >= 0.5) for p in row] if table.multi_label else int(np.argmax(row))
            said = _names(decided, classes)
            writer.writerow([image, "" if k is None else k, split, true, said, *(f"{p:.6f}" for p in row)])
    content = text.getvalue().encode()
    write_atomically(folder.predictions, lambda file: file.write(content), "predictions.csv")


def _names(label: Any, classes: Sequence[str]) -> str:
    if isinstance(label, list):
        return ";".join(name for name, holds in zip(classes, label, strict=True) if holds)
    return classes[int(label)]


def _scores(true: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix

    width = probabilities.shape[1]
    if true.ndim == 2:
        matrix = multilabel_confusion_matrix(true.astype(int), (probabilities >= 0.5).astype(int))
    else:
        matrix = confusion_matrix(true, probabilities.argmax(axis=1), labels=range(width))
    return {"count": len(true), **class_scores(true, probabilities), "confusion_matrix": matrix.tolist()}


def _by_scan(ids: Sequence[str], true: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and mean probabilities of each id, in the order of their first rows."""
    _, first, group = np.unique(np.asarray(ids), return_index=True, return_inverse=True)
    sums = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(sums, group, probabilities)
    order = np.argsort(first)
    return true[first[order]], (sums / np.bincount(group)[:, None])[order]


def _sentence(split: str, scores: Mapping[str, Any]) -> str:
    def numbers(values: Mapping[str, Any], what: str) -> str:
        parts = ", ".join(
            f"{label} {'not defined' if values[name] is None else format(values[name], '.3f')}"
            for label, name in (("AUC", "auc"), ("accuracy", "accuracy"), ("balanced accuracy", "balanced_accuracy"))
        )
        return f"{values['count']} {what}: {parts}"

    sliced = scores["scans"] is not None
    said = numbers(scores, "slices" if sliced else "images")
    return f"{split.capitalize()}: {said}{'; ' + numbers(scores['scans'], 'scans') if sliced else ''}."
