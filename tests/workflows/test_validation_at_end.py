# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from monai_mixssl.workflows import final_validation


@pytest.mark.parametrize(
    ("transparency", "said"), [((0.0, 1.0), "R² of the predicted transparency "), (0.5, "all true ones are equal")]
)
def test_a_fixed_transparency_has_no_r2(small_run, capsys, transparency, said):
    run = small_run(max_epochs=1, mixup={"transparency": transparency})
    run.trainer.run()
    final_validation(run.trainer, run.evaluator)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("On held-out images: SSIM to the target ")
    assert said in line
    assert "nan" not in line
