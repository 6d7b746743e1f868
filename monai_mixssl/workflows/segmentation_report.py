# SPDX-License-Identifier: Apache-2.0
"""What a segmentation network achieves: numbers, a table of images, pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import nn

from monai_mixssl.data.atomic import write_atomically, write_json
from monai_mixssl.data.network_grid import NetworkGrid
from monai_mixssl.data.shares import spread
from monai_mixssl.engines import PrecisionEvaluator
from monai_mixssl.handlers import OwnMasks, SegmentationPictures, SegmentationScores
from monai_mixssl.workflows.run_folder import RunFolder

__all__ = [
    "picture_ids",
    "report_masks",
    "report_segmentation",
    "write_segmentation_scores",
    "write_segmentation_table",
]

_PICTURES = 4


def report_segmentation(
    folder: RunFolder,
    network: nn.Module,
    loaders: Mapping[str, Iterable[Any]],
    classes: Sequence[str],
    details: Mapping[str, Any],
    *,
    device: str | torch.device,
    inferer: Inferer,
    grid: NetworkGrid,
    precision: str = "none",
    pictures: bool = True,
) -> dict[str, Any]:
    """Measure a network on each split, in the first process; write ``metrics.json``, ``predictions.csv``, pictures.

    Masks are compared on the images' own grids, distances are in millimetres (in pixels where files state no spacing).

    Args:
        folder: the output folder.
        network: the network.
        loaders: batches with ``image``, ``label`` (on the image's own grid) and ``id``, by split (``"validation"``,
            ``"test"``); one without images gives None.
        classes: names, background first.
        details: further entries of ``metrics.json``, see :py:func:`~monai_mixssl.workflows.run_details`.
        device: where to run.
        inferer: runs the network over a whole image.
        grid: the transform that has brought the images to the network's grid.
        precision: ``"none"``, ``"bf16"`` or ``"fp16"``.
        pictures: draw some images with their outlines, too.

    Returns:
        What ``metrics.json`` holds: the details, and for each split what
        :py:func:`~monai_mixssl.engines.segmentation_metrics.mean_scores` gives, with ``unit`` of the distances.
    """
    if not folder.main:
        return {}
    tables: dict[str, SegmentationScores] = {}
    for split, loader in loaders.items():
        items = loader.dataset.data  # type: ignore[attr-defined]  # MONAI's Dataset, in a DataLoader
        if not items:
            continue
        scores = SegmentationScores(classes, distances=True, gather=False)
        handlers: list[Any] = [OwnMasks(grid), scores]
        if pictures:
            handlers.append(SegmentationPictures(folder.pictures, grid, classes, picture_ids(items), split))
        evaluator = PrecisionEvaluator(
            device, loader, network.to(device), precision=precision, inferer=inferer, val_handlers=handlers
        )
        evaluator.run()
        tables[split] = scores
    return write_segmentation_scores(folder, tables, classes, {**details, **dict.fromkeys(loaders)})


def write_segmentation_scores(
    folder: RunFolder, tables: Mapping[str, SegmentationScores], classes: Sequence[str], details: Mapping[str, Any]
) -> dict[str, Any]:
    """Print the scores of each split, and write ``metrics.json`` and ``predictions.csv``.

    Args:
        folder: the output folder.
        tables: scores by split.
        classes: names, background first.
        details: further entries of ``metrics.json``.

    Returns:
        What ``metrics.json`` holds.
    """
    results = {split: {**scores.means(), "unit": scores.unit} for split, scores in tables.items()}
    for split, scores in results.items():
        print(_sentence(split, scores), flush=True)
    write_segmentation_table(folder, tables, classes)
    result = {**details, **results}
    write_json(folder.metrics, result, "metrics.json", indent=2)
    pictures = ", pictures/" if folder.pictures.is_dir() else ""
    print(f"Done: metrics.json, predictions.csv{pictures} are in the output folder.", flush=True)
    return result


def report_masks(folder: RunFolder, items: Sequence[Mapping[str, Any]]) -> None:
    """Say where the masks are.

    Args:
        folder: the output folder.
        items: the datalist that was segmented.
    """
    print(
        f"Done: masks/ of the output folder holds {len(items)} masks, named by id, in the geometry of their images; "
        "private/files.csv says which file is behind an id.",
        flush=True,
    )


def picture_ids(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Ids of the images that are drawn: a few, evenly spread over a datalist."""
    return [str(item["id"]) for item in spread(items, _PICTURES)]


def write_segmentation_table(
    folder: RunFolder, tables: Mapping[str, SegmentationScores], classes: Sequence[str]
) -> None:
    """Write ``predictions.csv``: a row an image and class, by id.

    Columns: ``id``, ``split``, ``class``, ``dice``, ``surface_distance``, ``hausdorff95`` (empty where not defined),
    ``true_voxels``, ``predicted_voxels``.

    Args:
        folder: the output folder.
        tables: scores by split.
        classes: names, background first.
    """
    columns = ("dice", "surface_distance", "hausdorff95")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "split", "class", *columns, "true_voxels", "predicted_voxels"])
    for split, table in tables.items():
        for image in sorted(table.cases):
            for name, entry in zip(classes[1:], table.cases[image], strict=True):
                numbers = ("" if entry[column] is None else f"{entry[column]:.6f}" for column in columns)
                writer.writerow([image, split, name, *numbers, entry["true_voxels"], entry["predicted_voxels"]])
    content = text.getvalue().encode()
    write_atomically(folder.predictions, lambda file: file.write(content), "predictions.csv")


def _sentence(split: str, scores: Mapping[str, Any]) -> str:
    def shown(value: float | None, digits: int = 3) -> str:
        return "not defined" if value is None else f"{value:.{digits}f}"

    lines = [
        f"{split.capitalize()}, {scores['count']} images: mean Dice {shown(scores['mean_dice'])}, surface distance "
        f"{shown(scores['mean_surface_distance'], 2)}, 95th percentile {shown(scores['mean_hausdorff95'], 2)} "
        f"({scores['unit']})."
    ]
    for name, one in scores["classes"].items():
        lines.append(
            f"  {name}: Dice {shown(one['dice'])} in {one['images']} images ({one['missed']} missed), "
            f"{one['false_alarms']} false alarms in the others"
        )
    return "\n".join(lines)
