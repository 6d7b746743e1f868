# SPDX-License-Identifier: Apache-2.0
"""Trains the rest of a network first, the encoder later."""

from __future__ import annotations

from typing import Any

from ignite.engine import Events
from monai.engines.utils import IterationEvents
from monai.engines.workflow import Workflow
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from monai_mixssl.errors import ConfigError
from monai_mixssl.networks.encoder_within import encoder_parameters, find_encoder

__all__ = ["FreezeEncoder"]


class FreezeEncoder:
    """Keep an encoder as it is for the first epochs of training, statistics of batch norm included, then let it learn.

    Whether it is frozen follows from the number of the epoch alone, so a resumed run goes on as it would have. The
    optimizer must hold the encoder's parameters from the start; it leaves those without a gradient as they are.

    In one process, frozen parameters need no gradient, which saves its computation. Under
    ``DistributedDataParallel``, which fixes at its construction which gradients it waits for, they are computed and
    dropped before the optimizer's step.

    Args:
        network: see :func:`~monai_mixssl.networks.encoder_within.find_encoder`; wrapped, where it is trained so.
        epochs: number of epochs to freeze the encoder for, at least 0.

    Attributes:
        frozen: whether the encoder is frozen now.

    Raises:
        ConfigError: when the number is not a whole one of at least 0, or the network has no encoder that is known.
    """

    def __init__(self, network: nn.Module, epochs: int) -> None:
        if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 0:
            raise ConfigError(f"frozen_epochs must be a whole number of at least 0, not {epochs!r}.")
        self.epochs = epochs
        self.frozen = False
        self._encoder = find_encoder(network)[0]
        self._parameters = [p for p in encoder_parameters(network).values() if p.requires_grad]
        self._drop_gradients = isinstance(network, DistributedDataParallel)
        self._hook: RemovableHandle | None = None

    def attach(self, engine: Workflow) -> None:
        """Register with a trainer."""
        if self.epochs:
            engine.add_event_handler(Events.EPOCH_STARTED, self)
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._after_backward)
            engine.add_event_handler(Events.COMPLETED, self._release)

    def __call__(self, engine: Workflow) -> None:
        """Freeze or unfreeze, by the engine's epoch."""
        self._set(engine.state.epoch <= self.epochs)

    def _release(self) -> None:
        """Leave the network as it is without this handler, for example for export."""
        self._set(False)

    def _set(self, frozen: bool) -> None:
        if frozen == self.frozen:
            return
        self.frozen = frozen
        if not self._drop_gradients:
            for parameter in self._parameters:
                parameter.requires_grad_(not frozen)
        if frozen:
            for parameter in self._parameters:  # one of before would be decayed and carried on by the optimizer
                parameter.grad = None
            # the trainer sets the whole network to training mode in every iteration; here the encoder is turned back,
            # just before it runs, so that neither statistics nor dropped connections change from batch to batch
            self._hook = self._encoder.register_forward_pre_hook(_evaluate)
        elif self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _after_backward(self, engine: Workflow) -> None:
        if self.frozen and self._drop_gradients:
            for parameter in self._parameters:
                parameter.grad = None


def _evaluate(module: nn.Module, _: tuple[Any, ...]) -> None:
    module.eval()
