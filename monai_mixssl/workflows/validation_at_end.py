# SPDX-License-Identifier: Apache-2.0
"""The validation that a finished run is judged by."""

from __future__ import annotations

import math

from monai_mixssl.engines import MixSSLEvaluator, MixSSLTrainer

__all__ = ["final_validation"]


def final_validation(trainer: MixSSLTrainer, evaluator: MixSSLEvaluator) -> None:
    """Validate once more after the last epoch, unless the interval has just done so, and print the result.

    Args:
        trainer: a trainer that has run.
        evaluator: its evaluator.
    """
    epoch = trainer.state.epoch
    if evaluator.state.epoch != epoch:
        evaluator.run(epoch)
    if evaluator.state.rank > 0:
        return
    metrics = evaluator.state.metrics
    r2 = metrics["transparency_r2"]
    shown = f"R² of the predicted transparency {r2:.3f}"
    if math.isnan(r2):
        shown = "no R² of the predicted transparency, since all true ones are equal"
    print(
        f"On held-out images: SSIM to the target {metrics['reconstruction_ssim']:.3f} (reconstruction), "
        f"{metrics['blend_ssim']:.3f} (blend as it was put in); {shown}.",
        flush=True,
    )
