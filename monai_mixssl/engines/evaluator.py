# SPDX-License-Identifier: Apache-2.0
"""The engine that validates the dual objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from ignite.metrics import Metric
from torch.utils.data import DataLoader

from monai_mixssl.engines.metrics import validation_metrics
from monai_mixssl.engines.precision_evaluator import PrecisionEvaluator
from monai_mixssl.engines.prepare_batch import PrepareMixupBatch

__all__ = ["MixSSLEvaluator"]


class MixSSLEvaluator(PrecisionEvaluator):
    """MONAI's ``SupervisedEvaluator`` for the dual objective, with the metrics that tell whether anything was learned.

    ``engine.state.metrics`` holds, after a run, what
    :py:func:`~monai_mixssl.engines.metrics.validation_metrics` lists; the key metric is ``val_loss`` (lower is better).

    Args:
        device: where to run.
        val_data_loader: yields the batches that ``prepare_batch`` takes; the same ones at every run, if the losses of
            two epochs are to be compared.
        network: as in :py:class:`~monai_mixssl.engines.MixSSLTrainer`.
        loss_function: as in :py:class:`~monai_mixssl.engines.MixSSLTrainer`.
        spatial_dims: 2 or 3, for the structural similarity.
        precision: ``"none"``, ``"bf16"`` or ``"fp16"``.
        prepare_batch: default :py:class:`PrepareMixupBatch`.
        additional_metrics: further Ignite metrics by name.
        decollate: as in the parent, but off by default.
        val_handlers: handlers with an ``attach`` method.
        kwargs: further arguments of the parent, but for ``key_val_metric`` and ``metric_cmp_fn``, which are set.
    """

    def __init__(
        self,
        device: str | torch.device,
        val_data_loader: Iterable[Any] | DataLoader[Any],
        network: torch.nn.Module,
        loss_function: Callable[..., dict[str, torch.Tensor]],
        spatial_dims: int,
        precision: str = "none",
        prepare_batch: Callable[..., Any] | None = None,
        additional_metrics: dict[str, Metric] | None = None,
        decollate: bool = False,
        val_handlers: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        metrics = validation_metrics(spatial_dims, agreement=getattr(loss_function, "agreement_weight", 0.0) > 0)
        super().__init__(
            device=device,
            val_data_loader=val_data_loader,
            network=network,
            loss_function=loss_function,
            precision=precision,
            prepare_batch=PrepareMixupBatch() if prepare_batch is None else prepare_batch,
            key_val_metric={"val_loss": metrics.pop("val_loss")},
            additional_metrics={**metrics, **(additional_metrics or {})},
            metric_cmp_fn=_lower_is_better,
            decollate=decollate,
            val_handlers=val_handlers,
            **kwargs,
        )


def _lower_is_better(current: float, best: float) -> bool:
    return current < best
