# SPDX-License-Identifier: Apache-2.0
"""What a classifier achieves: numbers, a table of predictions, pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
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

__all__ = ["classification_scores", "predict", "report_classification", "report_tables", "write_predictions"]


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
    tables = {
        split: None
        if len(loader.dataset) == 0  # type: ignore[attr-defined]  # a DataLoader has one
        else predict(network, loader, device, multi_label=multi_label, loss_function=loss_function, precision=precision)
        for split, loader in loaders.items()
    }
    return report_tables(folder, tables, classes, details, pictures=pictures)


def report_tables(
    folder: RunFolder,
    tables: Mapping[str, PredictionTable | None],
    classes: Sequence[str],
    details: Mapping[str, Any],
    *,
    pictures: bool = True,
) -> dict[str, Any]:
    """Print the scores of predictions and write ``metrics.json``, ``predictions.csv`` and pictures.

    Args:
        folder: the output folder.
        tables: predictions and labels by split; None for one without images.
        classes: names of the classes.
        details: further entries of ``metrics.json``.
        pictures: draw the confusion matrices, too.

    Returns:
        What ``metrics.json`` holds.
    """
    scores = {split: None if table is None else classification_scores(table) for split, table in tables.items()}
    for split, values in scores.items():
        if values is None:
            continue
        print(_sentence(split, values), flush=True)
        if pictures:
            folder.pictures.mkdir(exist_ok=True)
            shown, what = (values["scans"], "scans") if values["scans"] else (values, "images")
            title = f"{split}: {shown['count']} {what}"
            matrix = np.array(shown["confusion_matrix"])
            draw_confusion(folder.pictures / f"confusion_{split}.png", matrix, classes, title)
    write_predictions(folder, {split: table for split, table in tables.items() if table is not None}, classes)
    result = {**details, **scores}
    write_json(folder.metrics, result, "metrics.json", indent=2)
    print(f"Done: metrics.json, predictions.csv{', pictures/' * pictures} are in the output folder.", flush=True)
    return result


def write_predictions(folder: RunFolder, tables: Mapping[str, PredictionTable], classes: Sequence[str]) -> None:
    """Write ``predictions.csv``, a row an image or slice, by id; and a row a scan, where several slices belong to one.

    Columns: ``id``, ``slice`` (its number in the volume; empty for whole images), ``split`` and ``true`` (of labelled
    images), ``predicted``, ``probability <class>`` for each. Several labels of one image are separated by ``;``.
    ``predictions_by_scan.csv`` has the same columns, ``slice`` excepted, and holds the mean probabilities of each scan.

    Args:
        folder: the output folder.
        tables: predictions by split; images without labels are in one split, however it is called.
        classes: names of the classes.
    """
    rows, scans = [], []
    labelled = any(table.labels is not None for table in tables.values())
    for split, table in tables.items():
        labels = None if table.labels is None else table.labels.numpy()
        probabilities = table.probabilities.numpy()

        def cells(label: Any, said: np.ndarray, split: str = split, several: bool = table.multi_label) -> list[str]:
            decided = (said >= 0.5).astype(float).tolist() if several else int(said.argmax())
            known = [split, "" if label is None else _names(label, classes)] if labelled else []
            return [*known, _names(decided, classes), *(f"{p:.6f}" for p in said.tolist())]

        for number, image in enumerate(table.ids):
            k = table.slices[number]
            label = None if labels is None else labels[number].tolist()
            rows.append([image, "" if k is None else k, *cells(label, probabilities[number])])
        if len(set(table.ids)) < len(table.ids):
            order = list(dict.fromkeys(table.ids))
            true, means = _by_scan(table.ids, np.zeros(len(table.ids)) if labels is None else labels, probabilities)
            for number, image in enumerate(order):
                scans.append([image, *cells(None if labels is None else true[number].tolist(), means[number])])
    known = ["split", "true"] if labelled else []
    columns = [*known, "predicted", *(f"probability {name}" for name in classes)]
    _write_csv(folder.predictions, ["id", "slice", *columns], rows)
    if not labelled:
        print(f"Done: predictions.csv of {len(rows)} images or slices is in the output folder.", flush=True)
    if scans:
        _write_csv(folder.path / "predictions_by_scan.csv", ["id", *columns], scans)


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    content = text.getvalue().encode()
    write_atomically(path, lambda file: file.write(content), path.name)


def _names(label: Any, classes: Sequence[str]) -> str:
    if isinstance(label, list):
        return ";".join(name for name, holds in zip(classes, label, strict=True) if holds)
    return classes[int(label)]


def _scores(true: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    from sklearn.metrics import confusion_matrix

    width = probabilities.shape[1]
    if true.ndim == 2:
        # not scikit-learn's multilabel_confusion_matrix, to which a single label is two classes
        said = probabilities >= 0.5
        matrix = np.array([confusion_matrix(true[:, k], said[:, k], labels=(0, 1)) for k in range(width)])
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
