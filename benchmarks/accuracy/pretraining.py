# SPDX-License-Identifier: Apache-2.0
"""One pretraining run: any method, a budget of images through the encoder, the package's engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from ignite.engine import Events
from monai.optimizers import WarmupCosineSchedule
from patches import Images
from peer import WITH_OUR_IMAGES
from recipes import RECIPES
from restoring_peers import RESTORING
from source_pool import SourcePool
from torch import Tensor, nn
from tqdm import tqdm

from monai_mixssl.engines import PrecisionTrainer
from monai_mixssl.networks import build_encoder

__all__ = ["METHODS_WITHOUT_TRAINING", "Budget", "Pretrained", "pretrain"]

METHODS_WITHOUT_TRAINING = ("random", "scratch")


@dataclass(frozen=True)
class Budget:
    """What every method gets.

    Attributes:
        images: through the encoder, each view counted.
        batch_size: targets a step; a method of two views sends twice as many through the encoder.
        learning_rate: peak, after a linear warm-up over a tenth of the steps; then a cosine to 0.
        weight_decay: of AdamW.
        precision: ``"none"`` or ``"bf16"``, of all methods' losses, too, but for what these compute in float32.
        backbone: name of the encoder.
    """

    images: int = 48_000
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    precision: str = "bf16"
    backbone: str = "resnet10_s8_thin"


@dataclass(frozen=True)
class Pretrained:
    """An encoder and what it took; `seconds` is processor time on a CPU, since other programs may be running."""

    encoder: nn.Module
    record: dict[str, Any]
    images_seen: int
    seconds: float
    last_loss: float


class _Batches:
    """Batches of targets in random order, as many as the budget has steps; views are made on the way."""

    def __init__(self, method: nn.Module, images: Images, batch_size: int, steps: int, seed: int) -> None:
        self.method, self.images, self.batch_size, self.steps = method, images, batch_size, steps
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        order = torch.empty(0, dtype=torch.long)
        for _ in range(self.steps):
            while len(order) < self.batch_size:
                order = torch.cat([order, torch.randperm(len(self.images), generator=self.generator)])
            chosen, order = order[: self.batch_size], order[self.batch_size :]
            yield self.method.prepare(self.images[chosen], self.generator)


def pretrain(
    method: str, images: Images, seed: int, budget: Budget, device: str = "cpu", progress: bool = False
) -> Pretrained:
    """Pretrain an encoder on images or volumes (N, 1, *size)."""
    torch.manual_seed(seed)
    record = build_encoder(budget.backbone, len(images.shape) - 2, 1)[1]
    torch.manual_seed(seed)
    if method in METHODS_WITHOUT_TRAINING:
        return Pretrained(build_encoder(budget.backbone, len(images.shape) - 2, 1)[0], record, 0, 0.0, float("nan"))
    network = build_method(method, budget, images, seed)
    steps = int(budget.images / (budget.batch_size * network.views))
    optimizer = torch.optim.AdamW(network.parameters(), lr=budget.learning_rate, weight_decay=budget.weight_decay)
    schedule = WarmupCosineSchedule(optimizer, warmup_steps=steps // 10, t_total=steps, warmup_multiplier=0.1)
    network = network.to(device)
    if len(images.shape) == 4:
        network = network.to(memory_format=torch.channels_last)
    trainer = PrecisionTrainer(
        device=device,
        max_epochs=1,
        train_data_loader=_Batches(network, images, budget.batch_size, steps, seed),
        network=network,
        optimizer=optimizer,
        loss_function=lambda losses, _: losses,
        precision=budget.precision,
        max_grad_norm=5.0,
        prepare_batch=_prepared,
    )
    bar = tqdm(total=steps, desc=f"{method} {seed}", disable=not progress, unit="step", mininterval=5)

    @trainer.on(Events.ITERATION_COMPLETED)
    def _after_step(engine: Any) -> None:
        schedule.step()
        network.after_step(engine.state.iteration / steps)
        bar.update()

    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    trainer.run()
    seconds = clock() - start
    bar.close()
    return Pretrained(
        network.encoder,
        record,
        int(steps * budget.batch_size * network.views),
        seconds,
        float(trainer.state.output["loss"]),
    )


def build_method(name: str, budget: Budget, images: Images, seed: int) -> nn.Module:
    """A recipe of ours, or a peer."""
    backbone = budget.backbone
    if name in RECIPES:
        from mixing_method import MixingMethod

        recipe = RECIPES[name]
        return MixingMethod(recipe, backbone, SourcePool(recipe.source, images, seed, budget.images), seed)
    if name in RESTORING:
        return RESTORING[name](backbone, None, len(images.shape) - 2)
    from peers import PEERS  # needs lightly

    if name not in PEERS:
        known = [*METHODS_WITHOUT_TRAINING, *RECIPES, *RESTORING, *PEERS]
        raise SystemExit(f"no method {name}: there are {', '.join(known)}.")
    source = WITH_OUR_IMAGES.get(name)
    pool = SourcePool(source, images, seed, budget.images) if source else None
    return PEERS[name](backbone, pool)


def _prepared(batch: Any, device: Any, non_blocking: bool, **kwargs: Any) -> tuple[Any, None]:
    return _to(batch, device), None


def _to(value: Any, device: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.to(device)
        return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
    if isinstance(value, dict):
        return {name: _to(one, device) for name, one in value.items()}
    return tuple(_to(one, device) for one in value)
