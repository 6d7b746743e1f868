# SPDX-License-Identifier: Apache-2.0
"""The bundles' configs as workflows with a name: nothing to download, and no path to a config to type.

``python -m monai.bundle run pretrain --workflow_name monai_mixssl.PretrainWorkflow --dataset_dir …`` works in any
folder once the package is installed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from monai.bundle import ConfigWorkflow
from monai.bundle.reference_resolver import ReferenceResolver

from monai_mixssl.errors import ConfigError
from monai_mixssl.workflows import last_line
from monai_mixssl.workflows.bundle_folder import bundle_root
from monai_mixssl.workflows.values import nearest

__all__ = [
    "ClassificationEvaluateWorkflow",
    "ClassificationInferWorkflow",
    "ClassificationWorkflow",
    "InferenceWorkflow",
    "PretrainWorkflow",
    "SegmentationEvaluateWorkflow",
    "SegmentationInferWorkflow",
    "SegmentationWorkflow",
    "TwoViewsWorkflow",
]


class _PackagedWorkflow(ConfigWorkflow):
    """A ``ConfigWorkflow`` whose config lies in this package unless the caller names another.

    Args:
        config_file: as in the parent; None means the packaged one, and then ``bundle_root`` is its bundle.
        run_id: as in the parent.
        workflow_type: as in the parent.
        kwargs: other arguments of ``ConfigWorkflow``, and overrides of the config.

    Raises:
        ConfigError: for an override below a section that the config lacks.
    """

    bundle = "mixssl_pretraining"
    config_name: str | tuple[str, ...]  # several: each goes on top of those before it
    default_run_id: str
    default_type: str

    def __init__(
        self,
        config_file: str | Sequence[str] | None = None,
        run_id: str | None = None,
        workflow_type: str | None = None,
        **kwargs: Any,
    ) -> None:
        last_line.install_for_run()
        if config_file is None:
            root = bundle_root(self.bundle)
            names = (self.config_name,) if isinstance(self.config_name, str) else self.config_name
            packaged = [str(root / "configs" / name) for name in names]
            config_file = packaged if len(packaged) > 1 else packaged[0]
            kwargs.setdefault("bundle_root", str(root))
        try:
            super().__init__(
                config_file=config_file,
                run_id=run_id or self.default_run_id,
                workflow_type=workflow_type or self.default_type,
                **kwargs,
            )
            self.config_files = config_file  # for refuse_words_for_parts
        except FileNotFoundError:
            files = [config_file] if isinstance(config_file, str) else config_file
            key = "logging_file" if all(os.path.isfile(file) for file in files) else "config_file"
            raise ConfigError(
                f"there is no such file as {key} names; check the spelling, or leave it out for the package's own"
            ) from None
        except (KeyError, IndexError, ValueError) as error:
            self._explain(kwargs, error)
            raise

    def _explain(self, overrides: dict[str, Any], error: Exception) -> None:
        """Raise an error that names the override that MONAI could not place, if that is what went wrong."""
        parser = getattr(self, "parser", None)
        if parser is None:
            return
        for name in overrides:
            *parents, _ = ReferenceResolver.split_id(name)
            for depth, key in enumerate(parents):
                section = parser.get("::".join(parents[:depth]))
                if "::".join(parents[: depth + 1]) not in parser:
                    known = list(section) if isinstance(section, dict) else []
                    hint = nearest(key, known) or "; the config has no such section, so leave it out"
                    raise ConfigError(f"unknown key '{name.replace('::', '#')}'{hint}") from error


class PretrainWorkflow(_PackagedWorkflow):
    """Mix-up pretraining: ``configs/train.json`` of the bundle ``mixssl_pretraining``, run id ``pretrain``."""

    config_name: str | tuple[str, ...] = "train.json"
    default_run_id = "pretrain"
    default_type = "train"


class TwoViewsWorkflow(PretrainWorkflow):
    """Pretraining with two views that must agree: ``configs/two_views.json`` of the bundle on top of its own."""

    config_name = ("train.json", "two_views.json")


class InferenceWorkflow(_PackagedWorkflow):
    """Features of images: ``configs/inference.json`` of the bundle ``mixssl_pretraining``, run id ``infer``."""

    config_name = "inference.json"
    default_run_id = "infer"
    default_type = "infer"


class ClassificationWorkflow(_PackagedWorkflow):
    """Fine-tuning a classifier: ``configs/train.json`` of ``mixssl_classification``, ids ``finetune``, ``probe``."""

    bundle = "mixssl_classification"
    config_name = "train.json"
    default_run_id = "finetune"
    default_type = "train"


class ClassificationEvaluateWorkflow(_PackagedWorkflow):
    """Measuring a classifier: ``configs/evaluate.json`` of ``mixssl_classification``, run id ``evaluate``."""

    bundle = "mixssl_classification"
    config_name = "evaluate.json"
    default_run_id = "evaluate"
    default_type = "infer"


class ClassificationInferWorkflow(_PackagedWorkflow):
    """Classifying images: ``configs/inference.json`` of ``mixssl_classification``, run id ``infer``."""

    bundle = "mixssl_classification"
    config_name = "inference.json"
    default_run_id = "infer"
    default_type = "infer"


class SegmentationWorkflow(ClassificationWorkflow):
    """Fine-tuning for segmentation: ``configs/train.json`` of ``mixssl_segmentation``, run id ``finetune``."""

    bundle = "mixssl_segmentation"


class SegmentationEvaluateWorkflow(ClassificationEvaluateWorkflow):
    """Measuring a segmentation: ``configs/evaluate.json`` of ``mixssl_segmentation``, run id ``evaluate``."""

    bundle = "mixssl_segmentation"


class SegmentationInferWorkflow(ClassificationInferWorkflow):
    """Segmenting images: ``configs/inference.json`` of ``mixssl_segmentation``, run id ``infer``."""

    bundle = "mixssl_segmentation"
