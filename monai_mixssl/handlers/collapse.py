# SPDX-License-Identifier: Apache-2.0
"""Is the representation collapsing?"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.engines.workflow import Workflow
from monai.metrics import EmbeddingCollapseMetric
from monai.utils.enums import CommonKeys as Keys

__all__ = ["CollapseMonitor", "embedding_spread"]

logger = logging.getLogger(__name__)


class CollapseMonitor:
    """Measure the embeddings of the validation images, log two indicators, and warn where they say collapse.

    - ``effective_rank``: how many dimensions the embeddings really fill (Roy and Vetterli 2007), from the label-free
      part of MONAI's ``EmbeddingCollapseMetric``, whose score is turned back into a number of dimensions.
    - ``embedding_spread``: the mean standard deviation of the embeddings, each scaled to length 1, times the square
      root of their width (Chen and He, SimSiam, 2021): 1 where they point everywhere, 0 where all are the same.

    Both are added to the validator's ``state.metrics``; attach this before the handlers that log them. Of several
    processes, in each of which it must be attached, the embeddings are taken together.

    Args:
        min_spread: warn below this spread (complete collapse).
        min_rank: warn below this effective rank (all on a line).
        min_images: say nothing about fewer embeddings than this.
        output_transform: from ``engine.state.output`` to the embeddings (B, D).
    """

    def __init__(
        self,
        min_spread: float = 0.01,
        min_rank: float = 1.5,
        min_images: int = 8,
        output_transform: Callable[[dict[str, Any]], torch.Tensor] = lambda output: output[Keys.PRED]["embedding"],
    ) -> None:
        self.min_spread = min_spread
        self.min_rank = min_rank
        self.min_images = min_images
        self.output_transform = output_transform
        self.metric = EmbeddingCollapseMetric(include_indicators=["effective_rank"])
        self._embeddings: list[torch.Tensor] = []

    def attach(self, engine: Workflow) -> None:
        """Register with a validator."""
        engine.add_event_handler(Events.STARTED, self._embeddings.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._measure)

    def _collect(self, engine: Workflow) -> None:
        self._embeddings.append(self.output_transform(engine.state.output).detach().float().cpu())

    def _measure(self, engine: Workflow) -> None:
        parts: list[Any] = [self._embeddings]
        if dist.is_available() and dist.is_initialized():
            parts = [None] * dist.get_world_size()
            dist.all_gather_object(parts, self._embeddings)
        gathered = [embeddings for part in parts for embeddings in part]
        if sum(map(len, gathered)) < self.min_images:
            return
        embeddings = torch.cat(gathered)
        if not torch.isfinite(embeddings).all():
            logger.warning("embeddings of validation images are not finite; lower learning_rate, or use amp none.")
            return
        spread = float(embedding_spread(embeddings))
        score = self.metric(embeddings)["effective_rank_score"]
        rank = (1.0 - float(score if score is not None else 1.0)) * min(len(embeddings) - 1, embeddings.shape[1])
        engine.state.metrics.update({"embedding_spread": spread, "effective_rank": rank})
        first = engine.state.rank == 0
        if first and (spread < self.min_spread or rank < self.min_rank):
            logger.warning(
                f"the representation is collapsing: embeddings of {len(embeddings)} validation images have spread "
                f"{spread:.4f} (warned below {self.min_spread}) and effective rank {rank:.2f} (warned below "
                f"{self.min_rank}); lower learning_rate, or raise the weight of the other objective."
            )


def embedding_spread(embeddings: torch.Tensor) -> torch.Tensor:
    """Mean standard deviation over images of embeddings scaled to length 1, times the root of their width.

    Args:
        embeddings: (N, D), N at least 2.

    Returns:
        0-d tensor, 0 (all point the same way) to about 1 (isotropic).
    """
    directions = torch.nn.functional.normalize(embeddings, dim=1)
    return directions.std(dim=0).mean() * embeddings.shape[1] ** 0.5
