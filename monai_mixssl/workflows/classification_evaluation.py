# SPDX-License-Identifier: Apache-2.0
"""A trained classifier on labelled images: those of its own run, or others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from monai_mixssl.data.labels import LabelledData, classification_data
from monai_mixssl.data.labels.manifest import load_labelled
from monai_mixssl.data.manifest import PreparedData
from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.networks import load_model
from monai_mixssl.probes import require_sklearn
from monai_mixssl.workflows.finetune_origin import check_model_origin
from monai_mixssl.workflows.finetune_rules import require_file, require_run
from monai_mixssl.workflows.run_folder import RunFolder
from monai_mixssl.workflows.tracking import NO_TRACKING_RULES
from monai_mixssl.workflows.unlabelled_data import run_data
from monai_mixssl.workflows.values import Rule, boolean, choice, device, integer, optional, path, workers

__all__ = [
    "CLASSIFICATION_EVALUATE_RULES",
    "CLASSIFICATION_INFER_RULES",
    "EvaluationData",
    "check_evaluate_keys",
    "check_infer_keys",
    "evaluation_data",
    "load_classifier",
    "model_metadata",
    "prediction_data",
]

CLASSIFICATION_INFER_RULES: dict[str, Rule] = {
    "dataset_dir": optional(lambda value: [path(v) for v in value] if isinstance(value, list | tuple) else path(value)),
    "model": optional(path),
    "output_dir": path,
    "device": device,
    "batch_size": integer(1),
    "num_workers": workers,
    "amp": choice("none", "bf16", "fp16"),
    "resume": boolean,
    "progress": boolean,
    **NO_TRACKING_RULES,
}
CLASSIFICATION_EVALUATE_RULES: dict[str, Rule] = {
    **CLASSIFICATION_INFER_RULES,
    "dataset_dir": optional(path),
    "run_dir": optional(path),
    "split": choice("test", "validation", "training"),
    "pretrain_run": optional(path),
    "pictures": boolean,
}
_NEEDED = ("task", "classes", "multi_label", "preparation", "image_size")


@dataclass(frozen=True)
class EvaluationData:
    """Labelled images for a classifier, their class numbers its own.

    Attributes:
        model: the classifier's file.
        folder: where the prepared arrays lie.
        items: the datalist.
        split: what to call them.
        details: for ``metrics.json``.
    """

    model: str
    folder: Path
    items: list[dict[str, Any]] = field(repr=False)
    split: str
    details: dict[str, Any]


def check_infer_keys(config: Mapping[str, Any]) -> None:
    """Refuse a model file that is not there.

    Raises:
        ConfigError: naming the key.
    """
    require_file("model", config.get("model"), "the model.safetensors of a fine-tuning run")


def check_evaluate_keys(config: Mapping[str, Any]) -> None:
    """Refuse to evaluate nothing, or two things at once.

    Raises:
        ConfigError: neither a run nor data with a model, or both; a run with ``pretrain_run``, which goes with
            ``dataset_dir``; a run or file that is not there; or scikit-learn is missing.
    """
    run_dir, dataset_dir, model = (config.get(name) for name in ("run_dir", "dataset_dir", "model"))
    if run_dir and dataset_dir:
        raise ConfigError("run_dir evaluates a run on its own images, dataset_dir a model on others; give one of them")
    if not run_dir and not (dataset_dir and model):
        raise ConfigError("nothing to evaluate; give run_dir, the output folder of a run, or dataset_dir and model")
    if run_dir and config.get("pretrain_run"):
        raise ConfigError(
            "the images of run_dir were to be compared with its pretraining when it was trained (leakage in its "
            "metrics.json says whether they were); leave pretrain_run out here, or give dataset_dir and model"
        )
    check_infer_keys(config)
    require_sklearn()  # for the metrics
    require_run("run_dir", run_dir, "a fine-tuning run")
    require_run("pretrain_run", config.get("pretrain_run"), "a pretraining run")
    if run_dir and not model:
        require_file("run_dir", str(Path(run_dir) / "model.safetensors"), "the folder of a run that is complete")


def load_classifier(path: str | Path) -> nn.Module:
    """The classifier of a file, in evaluation mode: images (B, C, \\*spatial) to logits (B, K).

    Raises:
        DataError: where the file cannot be read or holds no classifier.
    """
    return _read(path)[0]


def model_metadata(path: str | Path) -> dict[str, Any]:
    """What a classifier's file says of itself: ``classes``, ``multi_label``, ``preparation``, ``image_size``, ….

    Raises:
        DataError: as :py:func:`load_classifier`.
    """
    return _read(path)[1]


def _read(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    network, metadata = load_model(path)
    if metadata.get("task") != "classification" or any(name not in metadata for name in _NEEDED):
        raise DataError("the model file holds no classifier of a fine-tuning run; give its model.safetensors")
    return network, metadata


def evaluation_data(
    folder: RunFolder,
    run_dir: str | None = None,
    dataset_dir: str | None = None,
    model: str | None = None,
    *,
    split: str = "test",
    pretrain_run: str | None = None,
    num_workers: int | None = None,
    progress: bool = True,
) -> EvaluationData:
    """The images of a fine-tuning run's split, or all labelled images of a folder.

    Args:
        folder: the output folder of the evaluation.
        run_dir: output folder of a fine-tuning run; its own prepared images are taken.
        dataset_dir: labelled images; all of them, whatever splits they name, are evaluated as ``"test"``.
        model: the classifier's file; None: that of the run.
        split: which of the run's images.
        pretrain_run: output folder of the pretraining run, for the leakage guard on ``dataset_dir``.
        num_workers, progress: of the preparation.

    Raises:
        DataError: no usable images, a class that the classifier does not know, or, in ``dataset_dir``, patients or
            images that the pretraining has seen.
        RunFolderError: where the run's folder cannot be read, or ``pretrain_run`` is not the pretraining of the model.
    """
    if run_dir is not None:
        file = model or str(Path(run_dir) / "model.safetensors")
        data = load_labelled(run_dir)
        items = {"test": data.test, "validation": data.validation, "training": data.train}[split]
    else:
        assert dataset_dir is not None  # check_evaluate_keys has seen to it
        assert model is not None
        file, split = model, "test"
        check_model_origin(pretrain_run, model_metadata(file))
        folder.lock()
        data = classification_data(
            dataset_dir,
            folder.path,
            preparation=_whole_images(model_metadata(file)),
            val_fraction=0.0,
            test_fraction=0.0,
            pretrain_run=pretrain_run,
            num_workers=num_workers,
            progress=progress,
            resume=folder.resuming,
            evaluate=True,
            report=lambda text: print(text, flush=True),
        )
        _refuse_seen(data)
        items = [*data.train, *data.validation, *data.test]
    if not items:
        raise DataError(f"the run in run_dir has no {split} images; choose another split, or give dataset_dir")
    metadata = model_metadata(file)
    details = {
        "task": "classification",
        "classes": metadata["classes"],
        "images": {split: len({item["id"] for item in items})},
        "leakage": data.leakage,
        "model_data_hash": metadata.get("data_hash"),
        "data_hash": data.data_hash,
    }
    return EvaluationData(file, data.folder, _renumbered(items, data, metadata), split, details)


def prediction_data(
    dataset_dir: str | list[str] | None, folder: RunFolder, model: str | Path, **settings: Any
) -> PreparedData:
    """Scan and prepare unlabelled images as those were that a classifier was trained on.

    Args:
        dataset_dir: as in :py:func:`~monai_mixssl.workflows.unlabelled_data.run_data`.
        folder: the output folder.
        model: the classifier's file.
        settings: ``num_workers`` and ``progress`` of the preparation.

    Raises:
        DataError: where the file cannot be read, or there is nothing usable.
    """
    return run_data(dataset_dir, folder, **_whole_images(model_metadata(model)), val_fraction=None, **settings)


def _whole_images(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return dict(metadata["preparation"])


def _refuse_seen(data: LabelledData) -> None:
    shared = {name: sum(data.leakage.get(name, {}).values()) for name in ("patients_shared", "images_shared")}
    if any(shared.values()):
        raise DataError(
            f"the pretraining has seen {shared['patients_shared']} of these patients and {shared['images_shared']} of "
            "these images, so this would measure what was seen before; leave them out"
        )


def _renumbered(items: list[dict[str, Any]], data: LabelledData, metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items with the class numbers of the classifier in place of those of the data."""
    classes, several = list(metadata["classes"]), bool(metadata["multi_label"])
    unknown = [name for name in data.classes if name not in classes]
    if unknown:
        raise DataError(
            f"{len(unknown)} classes of the data (such as {unknown[0]!r}) are none of the classifier's "
            f"({', '.join(classes)}); name them as it does, or take these images out"
        )
    if data.multi_label and not several:
        raise DataError("the images have several labels each and the classifier gives one; evaluate one that fits")
    numbers = [classes.index(name) for name in data.classes]

    def own(label: Any) -> Any:
        if not several:
            return numbers[label]
        held = [number for number, holds in zip(numbers, label, strict=True) if holds] if data.multi_label else []
        held = held if data.multi_label else [numbers[label]]
        return [float(number in held) for number in range(len(classes))]

    return [{**item, "label": own(item["label"])} for item in items]
