# SPDX-License-Identifier: Apache-2.0
"""MONAI's trainer with mixed precision on any device, clipping, and checkpoints that are complete."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents, PrepareBatch
from monai.engines.workflow import Workflow
from monai.utils.enums import CommonKeys as Keys
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from monai_mixssl.engines.precision import autocast, grad_scaler, warn_where_slow
from monai_mixssl.engines.prepare_labelled import PrepareLabelledBatch
from monai_mixssl.errors import ConfigError, TrainingError

__all__ = ["PrecisionTrainer", "detached", "minimised", "named_losses", "prepared", "refuse_amp"]


class PrecisionTrainer(SupervisedTrainer):
    """MONAI's ``SupervisedTrainer`` for pretraining and fine-tuning alike.

    Adds to its parent: a loss that may return a dictionary (every scalar of it stands in ``engine.state.output`` under
    its own name, for the stock handlers to log), bf16 on any device and fp16 with a scaler on a GPU, gradient clipping,
    no gradient exchange between processes until a step is due, and a stop where the loss is no longer finite. A step is
    due at the iterations where ``engine.state.optimizer_stepped`` is true: only there is a checkpoint complete.

    Args:
        device: where to train.
        max_epochs: number of epochs.
        train_data_loader: yields the batches that ``prepare_batch`` takes.
        network: takes images (B, C, \\*spatial), returns a tensor, or a dictionary, list or tuple that holds some.
        optimizer: a torch optimizer.
        loss_function: called as ``loss_function(prediction, target)``, returns a tensor, whose mean is minimised, or a
            dictionary of scalars whose ``"loss"`` is.
        precision: ``"none"``, ``"bf16"`` or ``"fp16"``.
        max_grad_norm: clip the gradients' total norm to this value; None leaves them.
        accumulation_steps: batches whose gradients are averaged before a step; a last, shorter group of an epoch is
            averaged over its own number.
        prepare_batch: default :py:class:`~monai_mixssl.engines.PrepareLabelledBatch`.
        decollate: as in the parent, but off by default: nothing in the default run needs the batch taken apart.
        train_handlers: handlers with an ``attach`` method.
        kwargs: further arguments of ``SupervisedTrainer``, but for ``amp`` and ``amp_kwargs``, whose place
            ``precision`` takes.

    Raises:
        ConfigError: where ``amp`` is asked for, or, while running, a dictionary of losses has no ``"loss"``.
        TrainingError: while running, where the loss or the gradient is not finite; the message names epoch, iteration
            and sample ids. With fp16 the scaler first halves its scale, leaving out a step each time, until that is
            below 1.
    """

    default_prepare_batch: ClassVar[type[PrepareBatch]] = PrepareLabelledBatch

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable[Any] | DataLoader[Any],
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: Callable[..., torch.Tensor | dict[str, torch.Tensor]],
        precision: str = "none",
        max_grad_norm: float | None = None,
        accumulation_steps: int = 1,
        prepare_batch: Callable[..., Any] | None = None,
        decollate: bool = False,
        train_handlers: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        device = torch.device(device)
        refuse_amp(kwargs)
        autocast(device, precision)  # refuses a wrong precision now rather than in the first step
        warn_where_slow(device, precision)
        self.precision = precision
        self.max_grad_norm = max_grad_norm
        self.gradient_scaler = grad_scaler(device, precision)
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,
            loss_function=loss_function,
            prepare_batch=self.default_prepare_batch() if prepare_batch is None else prepare_batch,
            accumulation_steps=accumulation_steps,
            decollate=decollate,
            train_handlers=train_handlers,
            **kwargs,
        )
        self.state.optimizer_stepped = False
        self._stepped_on: list[str] = []  # images whose gradients the next step takes

    def run(self) -> None:  # type: ignore[override]  # as MONAI does: no arguments
        """Train until ``max_epochs``, from wherever the state stands."""
        # MONAI's Trainer.run makes a new CUDA scaler at every call, which would lose a restored one
        self.scaler = self.gradient_scaler  # type: ignore[assignment]  # MONAI names the deprecated CUDA-only class
        Workflow.run(self)

    def state_dict(self) -> OrderedDict[str, Any]:
        """The engine's state, with that of the loss scaler where there is one."""
        state = super().state_dict()
        if self.gradient_scaler is not None:
            state["gradient_scaler"] = self.gradient_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what :py:meth:`state_dict` gave."""
        state = dict(state_dict)
        scaler = state.pop("gradient_scaler", None)
        super().load_state_dict(state)
        if self.gradient_scaler is not None and scaler is not None:
            self.gradient_scaler.load_state_dict(scaler)

    def _accumulation(self) -> tuple[bool, bool, int]:
        """Whether this iteration begins a group of batches, whether it ends it, and the group's number of batches."""
        group = self.accumulation_steps
        length = self.state.epoch_length
        position = (self.state.iteration - 1) % length if length else self.state.iteration - 1
        first = position - position % group
        size = min(group, length - first) if length else group
        return position == first, position + 1 == first + size, size

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> dict[str, Any]:
        inputs, targets, args, options = prepared(engine, batchdata)
        engine.state.output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        begins, ends, group = self._accumulation()
        engine.network.train()
        if begins:
            self._stepped_on.clear()
            engine.optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
        self._stepped_on += _image_ids(batchdata)

        with _local_gradients(engine.network, enabled=not ends):
            with autocast(engine.state.device, self.precision):
                engine.state.output[Keys.PRED] = engine.inferer(inputs, engine.network, *args, **options)
                engine.fire_event(IterationEvents.FORWARD_COMPLETED)
                losses = named_losses(engine.loss_function(engine.state.output[Keys.PRED], targets))
            loss = minimised(losses)
            engine.state.output.update({name: value.detach() for name, value in losses.items()})
            engine.fire_event(IterationEvents.LOSS_COMPLETED)
            self._refuse_non_finite(engine, _image_ids(batchdata))
            scaled = loss / group
            (scaled if self.scaler is None else self.scaler.scale(scaled)).backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if ends:
            self._step(engine)
        engine.state.optimizer_stepped = ends
        # the graph is of no use to a handler and would hold its memory until the next iteration
        engine.state.output[Keys.PRED] = detached(engine.state.output[Keys.PRED])
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _step(self, engine: Any) -> None:
        if self.scaler is not None:
            self.scaler.unscale_(engine.optimizer)
        bound = math.inf if self.max_grad_norm is None else self.max_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(engine.network.parameters(), bound)
        # the scaler leaves out steps until its scale is small enough; below 1 that was not the reason
        hopeless = self.scaler is None or self.scaler.get_scale() < 1
        if hopeless and not torch.isfinite(norm):  # a step would make the weights, and the next checkpoint, useless
            raise TrainingError(
                f"the gradient is not finite in epoch {engine.state.epoch}, iteration {engine.state.iteration} "
                f"({_parts(engine)}; images {', '.join(dict.fromkeys(self._stepped_on))}); the last checkpoint is "
                "kept: lower learning_rate, use amp none, or leave these images out (private/files.csv says which "
                "files they are)."
            )
        if self.scaler is None:
            engine.optimizer.step()
        else:
            self.scaler.step(engine.optimizer)
            self.scaler.update()

    @staticmethod
    def _refuse_non_finite(engine: Any, images: Sequence[str]) -> None:
        if torch.isfinite(engine.state.output[Keys.LOSS]):
            return
        raise TrainingError(
            f"the loss is not finite in epoch {engine.state.epoch}, iteration {engine.state.iteration} "
            f"({_parts(engine)}; images {', '.join(dict.fromkeys(images))}); the last checkpoint is kept: "
            "lower learning_rate, set max_grad_norm, or leave these images out (private/files.csv says which files "
            "they are)."
        )


def _image_ids(batchdata: Any) -> list[str]:
    ids = batchdata.get("id", "unknown") if isinstance(batchdata, dict) else "unknown"
    return [ids] if isinstance(ids, str) else [str(one) for one in ids]


def _parts(engine: Any) -> str:
    """The parts of the loss, as a message names them."""
    parts = {k: float(v) for k, v in engine.state.output.items() if isinstance(v, torch.Tensor) and v.ndim == 0}
    return ", ".join(f"{name} {value:.3g}" for name, value in parts.items())


def refuse_amp(kwargs: dict[str, Any]) -> None:
    """Take MONAI's ``amp`` and ``amp_kwargs`` out of arguments; they are refused where they ask for anything."""
    if any([kwargs.pop("amp", False), kwargs.pop("amp_kwargs", None)]):
        raise ConfigError("amp has no effect here: say precision='bf16', or precision='fp16' on a GPU, instead.")


def prepared(engine: Any, batchdata: Any) -> tuple[Any, Any, Sequence[Any], Mapping[str, Any]]:
    """Inputs and targets of a batch, and what else the network is called with, as MONAI's engines take them."""
    batch = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
    return (*batch, (), {}) if len(batch) == 2 else batch


def named_losses(losses: torch.Tensor | dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The parts of a loss by name, ``"loss"`` for one that has no parts, as MONAI's trainer its mean.

    Computed on ``MetaTensor``s, a loss is one too, with the metadata of a whole batch: only its number is kept.
    """
    parts = losses if isinstance(losses, dict) else {str(Keys.LOSS): losses.mean()}
    return {name: part.as_tensor() if isinstance(part, MetaTensor) else part for name, part in parts.items()}


def minimised(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    """The one of the parts of a loss that training minimises."""
    if Keys.LOSS not in losses:
        raise ConfigError(
            f"the loss function gives {', '.join(map(repr, losses))} but needs a 'loss', to be minimised."
        )
    return losses[Keys.LOSS]


def detached(prediction: Any) -> Any:
    """A prediction without its graph: tensors, in dictionaries, lists and tuples; what is none stays as it is."""
    if isinstance(prediction, dict):
        return {name: detached(value) for name, value in prediction.items()}
    if isinstance(prediction, list | tuple):
        values = [detached(value) for value in prediction]
        return type(prediction)(*values) if hasattr(prediction, "_fields") else type(prediction)(values)
    return prediction.detach() if isinstance(prediction, torch.Tensor) else prediction


def _local_gradients(network: torch.nn.Module, enabled: bool) -> AbstractContextManager[None]:
    """Keep gradients to this process while a group of batches is not complete."""
    if enabled and isinstance(network, DistributedDataParallel):
        return network.no_sync()
    return nullcontext()
