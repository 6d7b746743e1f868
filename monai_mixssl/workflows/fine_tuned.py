# SPDX-License-Identifier: Apache-2.0
"""A fine-tuned network, out of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from monai_mixssl.data.atomic import write_atomically
from monai_mixssl.data.labels import LabelledData
from monai_mixssl.engines import PrecisionEvaluator, PrecisionTrainer
from monai_mixssl.handlers import BestModel
from monai_mixssl.networks import save_model
from monai_mixssl.workflows.finetune_origin import PRETRAINING_HASH
from monai_mixssl.workflows.run_folder import RunFolder
from monai_mixssl.workflows.task_settings import FineTuneSettings

__all__ = ["last_validation", "run_details", "save_finetuned"]


def last_validation(trainer: PrecisionTrainer, evaluator: PrecisionEvaluator) -> None:
    """Validate once more after the last epoch, unless the interval has just done so.

    Args:
        trainer: a trainer that has run.
        evaluator: its evaluator.
    """
    if evaluator.state.epoch != trainer.state.epoch:
        evaluator.run(trainer.state.epoch)


def save_finetuned(
    folder: RunFolder,
    network: nn.Module,
    best: BestModel,
    select: str,
    data: LabelledData,
    settings: FineTuneSettings,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Choose the weights and write ``model.safetensors`` and ``model.pt``; afterwards the network has them.

    Args:
        folder: the run's output folder; only the first process writes.
        network: the network as it was built (not wrapped for several processes).
        best: what validation has kept.
        select: ``"best"`` on validation, or ``"last"``.
        data: the labelled data.
        settings: how images were prepared.
        details: further metadata of the file, JSON types only: what inference needs besides.
    """
    chosen = select == "best" and best.use()
    if not folder.main:
        return
    if chosen:
        print(f"Using the weights of epoch {best.epoch}: {best.metric} {best.score:.4f} on validation.", flush=True)
    elif select == "best":
        print(f"Using the weights of the last epoch: {best.metric} was never defined on validation.", flush=True)
    axes = "RAS" if settings.spatial_dims == 3 else "rows, columns"
    metadata = {
        "task": data.task,
        "classes": list(data.classes),
        "multi_label": data.multi_label,
        "preparation": settings.preparation,
        "axis_order": axes,
        "data_hash": data.data_hash,
        PRETRAINING_HASH: settings.pretraining_data_hash,
        **(details or {}),
    }
    network.cpu()
    save_model(folder.model, network, metadata)
    state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    write_atomically(folder.model_state, lambda file: torch.save(state, file), "model.pt")


def run_details(
    data: LabelledData, best: BestModel, select: str, share: float, seed: int, label_seed: int | None = None
) -> dict[str, Any]:
    """What ``metrics.json`` says about a run beside its scores.

    Args:
        data: the labelled data.
        best: what validation has kept.
        select: ``"best"`` or ``"last"``.
        share: share of the encoder's parameters that came from the pretrained file.
        seed: of everything random.
        label_seed: of the label subset; None: the same.

    Returns:
        ``task``, ``classes``, ``labels`` (labelled training images), ``images`` by split, ``split_by``, ``loaded``,
        ``leakage``, ``selected``, ``seed``, ``label_seed``, ``data_hash``.
    """
    counts = data.counts()
    used_best = select == "best" and best.score is not None
    return {
        "task": data.task,
        "classes": list(data.classes),
        "labels": counts["training"],
        "images": counts,
        "split_by": data.split_by,
        "loaded": share,
        "leakage": data.leakage,
        "selected": {
            "by": best.metric if used_best else "last epoch",
            "epoch": best.epoch if used_best else None,
            "score": best.score if used_best else None,
        },
        "seed": seed,
        "label_seed": seed if label_seed is None else label_seed,
        "data_hash": data.data_hash,
    }
