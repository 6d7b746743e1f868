# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.engines import SupervisedEvaluator

from monai_mixssl.handlers import CollapseMonitor, embedding_spread


class ConstantEncoder(torch.nn.Module):
    """Tells nothing about the image."""

    def __init__(self, noise: float):
        super().__init__()
        self.direction = torch.nn.Parameter(torch.rand(64) + 0.1)
        self.noise = noise

    def forward(self, image):
        embedding = self.direction.expand(len(image), -1) + self.noise * torch.rand(len(image), 64)
        return {
            "reconstruction": torch.zeros_like(image),
            "transparency": torch.full((len(image),), 0.5),
            "embedding": embedding,
        }


class LineEncoder(ConstantEncoder):
    """Tells the image's brightness and nothing else."""

    def forward(self, image):
        brightness = image.flatten(1).mean(1, keepdim=True)
        centred = 50 * (brightness - brightness.mean())
        return super().forward(image) | {"embedding": 1 + centred * self.direction}


EMBEDDINGS = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))


def indicators(batches: list[torch.Tensor]) -> dict[str, float]:
    engine = SupervisedEvaluator(
        torch.device("cpu"), [{"image": one, "label": one} for one in batches], torch.nn.Identity(), decollate=False
    )
    CollapseMonitor(min_images=8, output_transform=lambda output: output["pred"]).attach(engine)
    engine.run()
    return {name: engine.state.metrics[name] for name in ("embedding_spread", "effective_rank")}


def one_of_two(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = indicators([EMBEDDINGS[rank * 6 : rank * 6 + 6]])  # too few by themselves
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def test_several_processes_are_judged_by_the_embeddings_of_all(tmp_path):
    torch.multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    expected = indicators(list(EMBEDDINGS.split(5)))
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("encoder", [ConstantEncoder(0.0), ConstantEncoder(1e-3), LineEncoder(0.0)])
def test_a_collapsed_encoder_raises_the_warning(small_run, caplog, encoder):
    run = small_run(network=encoder)
    CollapseMonitor().attach(run.evaluator)
    run.evaluator.run()
    assert "the representation is collapsing" in caplog.text


def test_a_healthy_run_raises_none_and_logs_both_indicators(small_run, caplog):
    run = small_run(max_epochs=6)
    CollapseMonitor().attach(run.evaluator)
    run.evaluator.run()
    run.trainer.run()
    run.evaluator.run()
    assert "collapsing" not in caplog.text
    assert run.evaluator.state.metrics["embedding_spread"] > 0.02
    assert run.evaluator.state.metrics["effective_rank"] > 2


def test_effective_rank_is_that_of_roy_and_vetterli(small_run):
    run = small_run()
    fixed = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)) @ torch.diag(
        torch.tensor([9.0, 3, 1, 0, 0, 0])
    )
    batches = iter(fixed.split([3, 3, 2]))
    CollapseMonitor(output_transform=lambda output: next(batches)).attach(run.evaluator)
    run.evaluator.run()
    values = np.linalg.svd((fixed - fixed.mean(0)).numpy(), compute_uv=False)
    p = values[values > 1e-6] / values.sum()
    expected = np.exp(-(p * np.log(p)).sum())
    assert run.evaluator.state.metrics["effective_rank"] == pytest.approx(expected, rel=0.02)


def test_spread_is_one_for_isotropic_and_zero_for_equal_embeddings():
    isotropic = torch.randn(4000, 50, generator=torch.Generator().manual_seed(0))
    assert float(embedding_spread(isotropic)) == pytest.approx(1.0, abs=0.01)
    assert float(embedding_spread(torch.ones(10, 50))) == pytest.approx(0.0, abs=1e-6)
