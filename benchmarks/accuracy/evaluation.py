# SPDX-License-Identifier: Apache-2.0
"""How good is an encoder? Linear probe, nearest neighbours and fine-tuning, with the same labels for all methods."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from labelled_sets import LabelledSet, label_draws
from torch import Tensor
from torch.nn.functional import cross_entropy
from views import crop_and_flip

from monai_mixssl.engines.precision import autocast
from monai_mixssl.networks import EncoderClassifier
from monai_mixssl.probes import FeatureTable, class_scores, extract_features, knn_probe, linear_probe

__all__ = ["PROBES", "Effort", "evaluate"]

TAPS = ("last", "all", "last2x2")
PROBES = {"linear": linear_probe, "knn": knn_probe}


@dataclass(frozen=True)
class Effort:
    """How much is evaluated.

    Attributes:
        labels: amounts for the probes: images a class, or "all".
        probe_draws: draws of labels for the probes.
        finetune_draws: draws for fine-tuning.
        finetune_labels: amounts to fine-tune with.
        finetune_steps: steps of 32 images.
        taps: where features are taken for the probes.
        splits: "val", and "test" for what is reported: choices are made on "val" alone.
    """

    labels: tuple[str, ...] = ("5", "20", "all")
    probe_draws: int = 10
    finetune_draws: int = 2
    finetune_labels: tuple[str, ...] = ("5", "20")
    finetune_steps: int = 100
    taps: tuple[str, ...] = TAPS
    splits: tuple[str, ...] = ("val", "test")


def evaluate(
    encoder: torch.nn.Module,
    record: dict[str, Any],
    data: LabelledSet,
    seed: int,
    effort: Effort,
    precision: str = "bf16",
    device: str = "cpu",
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Scores of an encoder.

    Returns:
        Rows with ``labels``, ``protocol``, ``tap``, ``split``, ``metric``, and ``value`` (mean over draws); and
        the predicted classes (draws, N) of every row's images by "protocol labels tap split", for the bootstrap.
    """
    rows, predicted = [], {}
    cells = []
    if effort.labels:
        tables = _tables(encoder.to(device), data, effort, device)
        for amount in effort.labels:
            draws = label_draws(data.labels["train"], amount, seed, effort.probe_draws)
            for tap in effort.taps:
                for name in PROBES:
                    cells.append((amount, name, tap, [_probe(name, tables, draw, tap, data, effort) for draw in draws]))
    for amount in effort.finetune_labels:
        draws = label_draws(data.labels["train"], amount, seed, effort.finetune_draws)
        found = [_finetune(encoder, record, data, draw, seed, effort, precision, device) for draw in draws]
        cells.append((amount, "finetune", "last", found))
    for amount, protocol, tap, found in cells:
        for split in effort.splits:
            scores = [class_scores(data.labels[split], probabilities[split]) for probabilities in found]
            for metric, key in (("top1", "accuracy"), ("auc", "auc")):
                values = [float(score[key]) for score in scores]
                rows.append(
                    {
                        "labels": amount,
                        "protocol": protocol,
                        "tap": tap,
                        "split": split,
                        "metric": metric,
                        "value": round(float(np.mean(values)), 5),
                    }
                )
            predicted[f"{protocol} {amount} {tap} {split}"] = np.stack(
                [probabilities[split].argmax(1).astype(np.uint8) for probabilities in found]
            )
    return rows, predicted


def _tables(encoder: torch.nn.Module, data: LabelledSet, effort: Effort, device: str) -> dict[str, FeatureTable]:
    return {
        split: extract_features(encoder, _batches(data, split), device, effort.taps)
        for split in dict.fromkeys(("train", "val", *effort.splits))
    }


def _batches(data: LabelledSet, split: str) -> Iterator[dict[str, Any]]:
    images, labels = data.images[split], torch.from_numpy(data.labels[split])
    for start in range(0, len(images), 256):
        part = slice(start, start + 256)
        ids = [f"{split}{number}" for number in range(len(images))[part]]
        yield {"image": images[part], "label": labels[part], "id": ids}


def _probe(
    name: str, tables: dict[str, FeatureTable], draw: np.ndarray, tap: str, data: LabelledSet, effort: Effort
) -> dict[str, np.ndarray]:
    whole = tables["train"]
    train = FeatureTable({tap: whole.features[tap][draw]}, whole.labels[draw], [whole.ids[i] for i in draw])
    test = tables.get("test") if "test" in effort.splits else None
    result = PROBES[name](train, tables["val"], test, data.num_classes, tap, keep_probabilities=True)
    return {("val" if key == "validation" else key): value for key, value in result["probabilities"].items()}


def _finetune(
    encoder: torch.nn.Module,
    record: dict[str, Any],
    data: LabelledSet,
    draw: np.ndarray,
    seed: int,
    effort: Effort,
    precision: str,
    device: str,
) -> dict[str, np.ndarray]:
    """All weights are trained, by AdamW 1e-3, one cycle, crops and flips; the weights of the last step are used."""
    torch.manual_seed(seed)
    classifier = EncoderClassifier(copy.deepcopy(encoder), record, data.num_classes).to(device)
    classifier.requires_grad_(True).train()
    images, labels = data.images["train"][draw], torch.from_numpy(data.labels["train"][draw])
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=effort.finetune_steps)
    generator = torch.Generator().manual_seed(seed)
    for chosen in _repeated(len(images), 32, effort.finetune_steps, generator):
        with autocast(torch.device(device), precision):
            logits = classifier(crop_and_flip(images[chosen], generator).to(device))
        optimizer.zero_grad()
        cross_entropy(logits.float(), labels[chosen].to(device)).backward()
        optimizer.step()
        schedule.step()
    classifier.eval()
    return {split: _probabilities(classifier, data.images[split], device) for split in effort.splits}


def _repeated(count: int, batch: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < batch:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        yield order[:batch]
        order = order[batch:]


@torch.no_grad()
def _probabilities(classifier: torch.nn.Module, images: Tensor, device: str) -> np.ndarray:
    parts: Sequence[Tensor] = [classifier(part.to(device)).float().softmax(1).cpu() for part in images.split(256)]
    return torch.cat(list(parts)).double().numpy()
