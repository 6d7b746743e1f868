# SPDX-License-Identifier: Apache-2.0
"""A trained segmentation network on other images, with masks or without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from monai_mixssl.data.label_maps import grid_of, read_one
from monai_mixssl.data.labels import LabelledData, segmentation_data
from monai_mixssl.data.labels.manifest import load_labelled
from monai_mixssl.data.manifest import write_excluded
from monai_mixssl.data.prepared_data import write_files_table, write_index
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.data.records import Excluded, LeftOut, ScanImage
from monai_mixssl.data.scan import scan
from monai_mixssl.data.summary import summarize
from monai_mixssl.errors import ConfigError, DataError
from monai_mixssl.networks import load_model
from monai_mixssl.workflows.finetune_origin import check_model_origin
from monai_mixssl.workflows.finetune_rules import require_file, require_run
from monai_mixssl.workflows.run_folder import RunFolder
from monai_mixssl.workflows.segmentation import segmentation_phantoms
from monai_mixssl.workflows.tracking import NO_TRACKING_RULES
from monai_mixssl.workflows.values import Rule, boolean, choice, device, integer, number, optional, path, workers

__all__ = [
    "SEGMENTATION_EVALUATE_RULES",
    "SEGMENTATION_INFER_RULES",
    "MaskedImages",
    "check_segmentation_evaluate_keys",
    "check_segmentation_infer_keys",
    "images_to_segment",
    "load_segmenter",
    "masked_images",
    "segmenter_metadata",
]

SEGMENTATION_INFER_RULES: dict[str, Rule] = {
    "dataset_dir": optional(lambda value: [path(v) for v in value] if isinstance(value, list | tuple) else path(value)),
    "model": optional(path),
    "output_dir": path,
    "device": device,
    "batch_size": integer(1),
    "num_workers": workers,
    "overlap": optional(number(0)),
    "amp": choice("none", "bf16", "fp16"),
    "resume": boolean,
    "progress": boolean,
    "pictures": boolean,
    **NO_TRACKING_RULES,
}
SEGMENTATION_EVALUATE_RULES: dict[str, Rule] = {
    **SEGMENTATION_INFER_RULES,
    "dataset_dir": optional(path),
    "run_dir": optional(path),
    "split": choice("test", "validation", "training"),
    "pretrain_run": optional(path),
}
_NEEDED = ("classes", "preparation", "patch_size", "overlap", "label_values")
_NO_VALUE = -(2**40)  # of a class that the data's masks do not know


@dataclass(frozen=True)
class MaskedImages:
    """Images and masks for a network, by its own class numbers.

    Attributes:
        model: the network's file.
        items: the datalist.
        label_values: the value in these masks of each of the network's classes.
        split: what to call them.
        details: for ``metrics.json``.
    """

    model: str
    items: list[dict[str, Any]] = field(repr=False)
    label_values: list[int]
    split: str
    details: dict[str, Any]


def check_segmentation_infer_keys(config: Mapping[str, Any]) -> None:
    """Refuse a model file that is not there, or an overlap of whole windows.

    Raises:
        ConfigError: naming the key.
    """
    require_file("model", config.get("model"), "the model.safetensors of a fine-tuning run")
    overlap = config.get("overlap")
    if isinstance(overlap, int | float) and overlap >= 1:
        raise ConfigError(f"overlap must be from 0 to below 1, not {overlap!r}")


def check_segmentation_evaluate_keys(config: Mapping[str, Any]) -> None:
    """Refuse to evaluate nothing, or two things at once.

    Raises:
        ConfigError: neither a run nor data with a model, or both; a run with ``pretrain_run``, which goes with
            ``dataset_dir``; or a run or file that is not there.
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
    check_segmentation_infer_keys(config)
    require_run("run_dir", run_dir, "a fine-tuning run")
    require_run("pretrain_run", config.get("pretrain_run"), "a pretraining run")
    if run_dir and not model:
        require_file("run_dir", str(Path(run_dir) / "model.safetensors"), "the folder of a run that is complete")


def load_segmenter(path: str | Path) -> nn.Module:
    """The network of a file, in evaluation mode: images (B, C, \\*spatial) to logits (B, K, \\*spatial).

    Raises:
        DataError: where the file cannot be read or holds no segmentation network.
    """
    return _read(path)[0]


def segmenter_metadata(path: str | Path) -> dict[str, Any]:
    """What a network's file says of itself: ``classes``, ``label_values``, ``preparation``, ``patch_size``, ….

    Raises:
        DataError: as :py:func:`load_segmenter`.
    """
    return _read(path)[1]


def _read(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    network, metadata = load_model(path)
    if metadata.get("task") != "segmentation" or any(name not in metadata for name in _NEEDED):
        raise DataError("the model file holds no segmentation network of a fine-tuning run; give its model.safetensors")
    return network, metadata


def masked_images(
    folder: RunFolder,
    run_dir: str | None = None,
    dataset_dir: str | None = None,
    model: str | None = None,
    *,
    split: str = "test",
    pretrain_run: str | None = None,
    num_workers: int | None = None,
    progress: bool = True,
) -> MaskedImages:
    """The images of a fine-tuning run's split, or all images with masks of a folder.

    Args:
        folder: the output folder of the evaluation.
        run_dir: output folder of a fine-tuning run; its images are read from where they were.
        dataset_dir: images and masks; all of them, whatever splits they name, are evaluated as ``"test"``.
        model: the network's file; None: that of the run.
        split: which of the run's images.
        pretrain_run: output folder of the pretraining run, for the leakage guard on ``dataset_dir``.
        num_workers, progress: of the check of images and masks.

    Raises:
        DataError: no usable images, a class that the network does not know, or, in ``dataset_dir``, patients or images
            that the pretraining has seen.
        RunFolderError: where the run's folder cannot be read, or ``pretrain_run`` is not the pretraining of the model.
    """
    if run_dir is not None:
        file = model or str(Path(run_dir) / "model.safetensors")
        metadata, data = segmenter_metadata(file), load_labelled(run_dir)
        if data.task != "segmentation":
            raise DataError("the run in run_dir is not one of segmentation; give one, or dataset_dir and model")
        items = {"test": data.test, "validation": data.validation, "training": data.train}[split]
    else:
        assert dataset_dir is not None  # the check of the keys has seen to it
        assert model is not None
        file, split, metadata = model, "test", segmenter_metadata(model)
        check_model_origin(pretrain_run, metadata)
        folder.lock()
        data = segmentation_data(
            dataset_dir,
            folder.path,
            spatial_dims=metadata["preparation"]["spatial_dims"],
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
    details = {
        "task": "segmentation",
        "classes": metadata["classes"],
        "images": {split: len(items)},
        "leakage": data.leakage,
        "model_data_hash": metadata.get("data_hash"),
        "data_hash": data.data_hash,
    }
    return MaskedImages(file, items, _values_for(metadata, data.classes, data.label_values), split, details)


def images_to_segment(
    dataset_dir: str | Sequence[str] | None, folder: RunFolder, model: str | Path, progress: bool = True
) -> list[dict[str, Any]]:
    """Find images that a network can segment, read each once to see that it can be, and write down what is left out.

    Args:
        dataset_dir: one folder or datalist, or several; None for the package's phantoms.
        folder: the output folder; gets ``excluded.jsonl`` and ``private/``.
        model: the network's file.
        progress: show progress bars.

    Returns:
        Datalist of ``{"image": what the scan found, "id": id}``.

    Raises:
        DataError: nothing usable found, or the model file cannot be read.
    """
    dims = int(segmenter_metadata(model)["preparation"]["spatial_dims"])
    folder.lock()
    private = PrivateFolder(folder.path)
    if dataset_dir is None:
        dataset_dir = str(segmentation_phantoms(private.path / "phantoms") / "imagesTr")
    given = dataset_dir if isinstance(dataset_dir, str) else list(dataset_dir)
    skip = [] if isinstance(given, str) and given.startswith(str(private.path)) else [folder.path]
    found = scan(given, salt=private.salt(), skip=skip, progress=progress, index=private.scan)
    write_index(private, found)
    images, unusable = [], []
    for image in found.images:
        try:
            _refuse_unusable(image, dims)
            images.append(image)
        except LeftOut as reason:
            unusable.append(Excluded(image.id, reason.reason, reason.detail))
        except Exception as error:  # whatever a damaged file does to a library, the run goes on
            unusable.append(Excluded(image.id, "cannot be read", type(error).__name__))
    write_files_table(private, found, left_out={one.id for one in unusable})
    excluded = [*found.excluded, *unusable]
    write_excluded(folder.path, excluded)
    print(summarize(images, excluded, "Segmenting"), flush=True)
    if not images:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in Counter(e.reason for e in excluded).items())
        raise DataError(f"no image can be segmented ({reasons or 'none was found'}); excluded.jsonl lists them by id")
    return [{"image": image, "id": image.id} for image in images]


def _refuse_unusable(image: ScanImage, dims: int) -> None:
    volume = read_one(image)[1]
    if dims == 3 and (1 in grid_of(volume).shape or volume.affine is None):
        raise LeftOut("a single image, and the network segments volumes")
    if not np.isfinite(volume.array).all():
        raise LeftOut("NaN or infinite values")
    if volume.array.min() == volume.array.max():
        raise LeftOut("constant image")


def _refuse_seen(data: LabelledData) -> None:
    shared = {name: sum(data.leakage.get(name, {}).values()) for name in ("patients_shared", "images_shared")}
    if any(shared.values()):
        raise DataError(
            f"the pretraining has seen {shared['patients_shared']} of these patients and {shared['images_shared']} of "
            "these images, so this would measure what was seen before; leave them out"
        )


def _values_for(metadata: Mapping[str, Any], classes: Sequence[str], values: Sequence[int]) -> list[int]:
    """The value in some masks of each of a network's classes: by name, else, where masks alone name them, by value."""
    own, own_values = list(metadata["classes"]), list(metadata["label_values"])
    found = [_NO_VALUE - number for number in range(len(own))]
    for position, (name, value) in enumerate(zip(classes, values, strict=True)):
        if position == 0:
            number = 0
        elif name in own[1:]:
            number = own.index(name, 1)
        elif name == str(value) and value in own_values[1:]:
            number = own_values.index(value, 1)
        else:
            raise DataError(
                f"the masks hold the class {name!r}, which is none of the network's ({', '.join(own[1:])}); name the "
                "classes as it does, or take these masks out"
            )
        found[number] = int(value)
    return found
