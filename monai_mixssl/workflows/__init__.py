# SPDX-License-Identifier: Apache-2.0
"""What the bundles' configs and the bundle command name."""

from __future__ import annotations

from monai_mixssl.data.labels import classification_data, segmentation_data
from monai_mixssl.data.shares import rank_batches, rank_share, spread
from monai_mixssl.data.worker_signals import outlive_signals
from monai_mixssl.engines import classification_metrics
from monai_mixssl.handlers import RandomState, scalars
from monai_mixssl.networks import build_classifier, build_segmenter, parameter_groups
from monai_mixssl.workflows.announcement import announce
from monai_mixssl.workflows.before_work import check_before_work
from monai_mixssl.workflows.bundle_folder import bundle_file, bundle_root
from monai_mixssl.workflows.classification import (
    CLASSIFICATION_RULES,
    cached_items,
    check_classification_keys,
    classifier_network,
    common_size,
)
from monai_mixssl.workflows.classification_evaluation import (
    CLASSIFICATION_EVALUATE_RULES,
    CLASSIFICATION_INFER_RULES,
    check_evaluate_keys,
    check_infer_keys,
    evaluation_data,
    load_classifier,
    model_metadata,
    prediction_data,
)
from monai_mixssl.workflows.classification_report import (
    predict,
    report_classification,
    report_tables,
    write_predictions,
)
from monai_mixssl.workflows.config_check import check_config
from monai_mixssl.workflows.distributed import distribute, end_processes, start_processes
from monai_mixssl.workflows.export import (
    exportable,
    exportable_classifier,
    exportable_embedding,
    exportable_segmenter,
    save_state,
)
from monai_mixssl.workflows.fine_tuned import last_validation, run_details, save_finetuned
from monai_mixssl.workflows.finetune_announcement import announce_finetuning
from monai_mixssl.workflows.finetune_record import FineTuneRecord
from monai_mixssl.workflows.finetune_rules import FINETUNE_RULES, check_finetune_keys, require_file, require_run
from monai_mixssl.workflows.finetune_start import PretrainedStart, check_start
from monai_mixssl.workflows.inference import INFERENCE_RULES, inference_data, recorded_stride
from monai_mixssl.workflows.labelled_data import finetune_data, labelled_phantoms, repeated
from monai_mixssl.workflows.named import (
    ClassificationEvaluateWorkflow,
    ClassificationInferWorkflow,
    ClassificationWorkflow,
    InferenceWorkflow,
    PretrainWorkflow,
    SegmentationEvaluateWorkflow,
    SegmentationInferWorkflow,
    SegmentationWorkflow,
    TwoViewsWorkflow,
)
from monai_mixssl.workflows.pretrain_rules import PRETRAIN_RULES, check_pretrain_keys
from monai_mixssl.workflows.probe_run import probe
from monai_mixssl.workflows.probe_while_training import check_probe, online_probe
from monai_mixssl.workflows.run_folder import RunFolder
from monai_mixssl.workflows.run_record import RunRecord
from monai_mixssl.workflows.running_config import refuse_load, require_check
from monai_mixssl.workflows.segmentation import (
    SEGMENTATION_RULES,
    check_cache,
    check_segmentation_keys,
    check_segmentation_start,
    segmentation_inferer,
    segmentation_patch,
    segmentation_phantoms,
    segmenter_network,
)
from monai_mixssl.workflows.segmentation_evaluation import (
    SEGMENTATION_EVALUATE_RULES,
    SEGMENTATION_INFER_RULES,
    check_segmentation_evaluate_keys,
    check_segmentation_infer_keys,
    images_to_segment,
    load_segmenter,
    masked_images,
    segmenter_metadata,
)
from monai_mixssl.workflows.segmentation_report import (
    picture_ids,
    report_masks,
    report_segmentation,
    write_segmentation_scores,
)
from monai_mixssl.workflows.task_settings import FineTuneSettings, finetune_settings, weights_drawn_from
from monai_mixssl.workflows.unlabelled_data import run_data
from monai_mixssl.workflows.validation_at_end import final_validation
from monai_mixssl.workflows.weights import save_pretrained, start_from

__all__ = [
    "CLASSIFICATION_EVALUATE_RULES",
    "CLASSIFICATION_INFER_RULES",
    "CLASSIFICATION_RULES",
    "FINETUNE_RULES",
    "INFERENCE_RULES",
    "PRETRAIN_RULES",
    "SEGMENTATION_EVALUATE_RULES",
    "SEGMENTATION_INFER_RULES",
    "SEGMENTATION_RULES",
    "ClassificationEvaluateWorkflow",
    "ClassificationInferWorkflow",
    "ClassificationWorkflow",
    "FineTuneRecord",
    "FineTuneSettings",
    "InferenceWorkflow",
    "PretrainWorkflow",
    "PretrainedStart",
    "RandomState",
    "RunFolder",
    "RunRecord",
    "SegmentationEvaluateWorkflow",
    "SegmentationInferWorkflow",
    "SegmentationWorkflow",
    "TwoViewsWorkflow",
    "announce",
    "announce_finetuning",
    "build_classifier",
    "build_segmenter",
    "bundle_file",
    "bundle_root",
    "cached_items",
    "check_before_work",
    "check_cache",
    "check_classification_keys",
    "check_config",
    "check_evaluate_keys",
    "check_finetune_keys",
    "check_infer_keys",
    "check_pretrain_keys",
    "check_probe",
    "check_segmentation_evaluate_keys",
    "check_segmentation_infer_keys",
    "check_segmentation_keys",
    "check_segmentation_start",
    "check_start",
    "classification_data",
    "classification_metrics",
    "classifier_network",
    "common_size",
    "distribute",
    "end_processes",
    "evaluation_data",
    "exportable",
    "exportable_classifier",
    "exportable_embedding",
    "exportable_segmenter",
    "final_validation",
    "finetune_data",
    "finetune_settings",
    "images_to_segment",
    "inference_data",
    "labelled_phantoms",
    "last_validation",
    "load_classifier",
    "load_segmenter",
    "masked_images",
    "model_metadata",
    "online_probe",
    "outlive_signals",
    "parameter_groups",
    "picture_ids",
    "predict",
    "prediction_data",
    "probe",
    "rank_batches",
    "rank_share",
    "recorded_stride",
    "refuse_load",
    "repeated",
    "report_classification",
    "report_masks",
    "report_segmentation",
    "report_tables",
    "require_check",
    "require_file",
    "require_run",
    "run_data",
    "run_details",
    "save_finetuned",
    "save_pretrained",
    "save_state",
    "scalars",
    "segmentation_data",
    "segmentation_inferer",
    "segmentation_patch",
    "segmentation_phantoms",
    "segmenter_metadata",
    "segmenter_network",
    "spread",
    "start_from",
    "start_processes",
    "weights_drawn_from",
    "write_predictions",
    "write_segmentation_scores",
]
