# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers, each doing one thing."""

from __future__ import annotations

from monai_mixssl.handlers.best_model import BestModel
from monai_mixssl.handlers.checkpoint import RunCheckpoint, latest_iteration
from monai_mixssl.handlers.collapse import CollapseMonitor, embedding_spread
from monai_mixssl.handlers.embedding_table import EmbeddingTable
from monai_mixssl.handlers.epoch_position import EpochPosition
from monai_mixssl.handlers.freeze import FreezeEncoder
from monai_mixssl.handlers.json_log import JsonLinesLog, read_log, scalars
from monai_mixssl.handlers.mask_files import MaskFiles
from monai_mixssl.handlers.mlflow_tracking import MLflowTracking
from monai_mixssl.handlers.online_probe import OnlineProbe
from monai_mixssl.handlers.own_masks import OwnMasks
from monai_mixssl.handlers.pictures import TrainingPictures
from monai_mixssl.handlers.prediction_table import PredictionTable
from monai_mixssl.handlers.progress import TrainingProgress
from monai_mixssl.handlers.random_state import RandomState
from monai_mixssl.handlers.segmentation_pictures import SegmentationPictures
from monai_mixssl.handlers.segmentation_scores import SegmentationScores
from monai_mixssl.handlers.substitutions import Substitutions

__all__ = [
    "BestModel",
    "CollapseMonitor",
    "EmbeddingTable",
    "EpochPosition",
    "FreezeEncoder",
    "JsonLinesLog",
    "MLflowTracking",
    "MaskFiles",
    "OnlineProbe",
    "OwnMasks",
    "PredictionTable",
    "RandomState",
    "RunCheckpoint",
    "SegmentationPictures",
    "SegmentationScores",
    "Substitutions",
    "TrainingPictures",
    "TrainingProgress",
    "embedding_spread",
    "latest_iteration",
    "read_log",
    "scalars",
]
