# SPDX-License-Identifier: Apache-2.0
"""MONAI's evaluator with mixed precision on any device, and the loss of what it evaluates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from monai_mixssl.engines.precision import autocast
from monai_mixssl.engines.precision_trainer import named_losses, prepared, refuse_amp
from monai_mixssl.engines.prepare_labelled import PrepareLabelledBatch

__all__ = ["PrecisionEvaluator"]


class PrecisionEvaluator(SupervisedEvaluator):
    """MONAI's ``SupervisedEvaluator`` with the precision of :py:class:`~monai_mixssl.engines.PrecisionTrainer`.

    Where there are a loss function and labels, every scalar of the loss stands in ``engine.state.output`` under its own
    name, before any postprocessing.

    Args:
        device: where to run.
        val_data_loader: yields the batches that ``prepare_batch`` takes.
        network: as in the trainer; the network itself where it is wrapped for several processes.
        loss_function: as in the trainer; None: no loss is computed.
        precision: ``"none"``, ``"bf16"`` or ``"fp16"``.
        prepare_batch: default :py:class:`~monai_mixssl.engines.PrepareLabelledBatch`.
        decollate: as in the parent, but off by default.
        val_handlers: handlers with an ``attach`` method.
        kwargs: further arguments of ``SupervisedEvaluator``, such as ``key_val_metric``, but for ``amp`` and
            ``amp_kwargs``, whose place ``precision`` takes.

    Raises:
        ConfigError: as the trainer.
    """

    def __init__(
        self,
        device: str | torch.device,
        val_data_loader: Iterable[Any] | DataLoader[Any],
        network: torch.nn.Module,
        loss_function: Callable[..., torch.Tensor | dict[str, torch.Tensor]] | None = None,
        precision: str = "none",
        prepare_batch: Callable[..., Any] | None = None,
        decollate: bool = False,
        val_handlers: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        device = torch.device(device)
        refuse_amp(kwargs)
        autocast(device, precision)  # refuses a wrong precision now rather than in the first batch
        self.precision = precision
        self.loss_function = loss_function
        super().__init__(
            device=device,
            val_data_loader=val_data_loader,
            # a distributed wrapper exchanges buffers at every forward pass: ranks with unequal numbers of batches hang
            network=network.module if isinstance(network, DistributedDataParallel) else network,
            prepare_batch=PrepareLabelledBatch() if prepare_batch is None else prepare_batch,
            decollate=decollate,
            val_handlers=val_handlers,
            **kwargs,
        )

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> dict[str, Any]:
        inputs, targets, args, options = prepared(engine, batchdata)
        engine.state.output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        with engine.mode(engine.network), autocast(engine.state.device, self.precision):
            engine.state.output[Keys.PRED] = engine.inferer(inputs, engine.network, *args, **options)
            engine.fire_event(IterationEvents.FORWARD_COMPLETED)
            if self.loss_function is not None and targets is not None:
                engine.state.output.update(named_losses(self.loss_function(engine.state.output[Keys.PRED], targets)))
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output
