# SPDX-License-Identifier: Apache-2.0
"""The features of images as a table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import torch
from ignite.engine import Events
from monai.engines.workflow import Workflow
from monai.utils.enums import CommonKeys as Keys

from monai_mixssl.data.atomic import write_atomically

__all__ = ["EmbeddingTable"]


class EmbeddingTable:
    """Write a CSV with a row for each image or slice: ``id``, ``slice``, ``feature_0``, ….

    ``slice`` is the slice's number in its volume, as the image's metadata say (slices that show nothing are left out).
    It is empty for whole volumes.

    Images are named by id alone; ``private/files.csv`` of the same output folder says which file is behind an id.

    Args:
        path: the file, written when the engine has seen everything.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._rows: list[tuple[str, str, torch.Tensor]] = []

    def attach(self, engine: Workflow) -> None:
        """Register with an evaluator whose batches hold ``id`` and ``image`` and whose predictions are (B, D)."""
        engine.add_event_handler(Events.STARTED, self._rows.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _collect(self, engine: Workflow) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            meta = item[Keys.IMAGE].meta
            number = str(int(meta["slice"])) if "slice" in meta else ""
            self._rows.append((str(item["id"]), number, torch.as_tensor(output[Keys.PRED]).float().cpu()))

    def _write(self) -> None:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        width = len(self._rows[0][2]) if self._rows else 0
        table.writerow(["id", "slice", *(f"feature_{number}" for number in range(width))])
        table.writerows([image, number, *(f"{v:.6g}" for v in row.tolist())] for image, number, row in self._rows)
        content = text.getvalue().encode()
        write_atomically(self.path, lambda file: file.write(content) and None, "the table of embeddings")
