# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as skimage_ssim
from sklearn.metrics import r2_score

from monai_mixssl.engines.metrics import structural_similarity


def predictions(run):
    run.network.eval()
    samples = [run.val_dataset[i] for i in range(len(run.val_dataset))]
    blends = torch.stack([s["image"].as_tensor() for s in samples])
    with torch.no_grad():
        output = run.network(blends)
    targets = torch.stack([s["image_target"].as_tensor() for s in samples])
    return blends, targets, torch.stack([s["image_transparency"] for s in samples]), output


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_metrics_equal_those_computed_over_all_images_at_once(small_run, spatial_dims):
    run = small_run(spatial_dims, max_epochs=2)
    run.trainer.run()
    run.evaluator.run()
    metrics = run.evaluator.state.metrics
    _, targets, true, output = predictions(run)
    reconstruction = float((output["reconstruction"] - targets).pow(2).mean())
    transparency = float((output["transparency"] - true).pow(2).mean())
    # 8 images in batches of 3, 3 and 2: a mean over batches would be wrong
    assert metrics["val_reconstruction_loss"] == pytest.approx(reconstruction, rel=1e-4)
    assert metrics["val_transparency_loss"] == pytest.approx(transparency, rel=1e-4)
    assert metrics["val_loss"] == pytest.approx(reconstruction + transparency, rel=1e-4)
    expected = r2_score(true.numpy(), output["transparency"].numpy())
    assert metrics["transparency_r2"] == pytest.approx(expected, abs=1e-4)


def test_structural_similarity_agrees_with_scikit_image():
    generator = np.random.default_rng(0)
    reference = generator.random((48, 48)).astype(np.float32)
    image = np.clip(reference + 0.2 * generator.standard_normal((48, 48)), 0, 1).astype(np.float32)
    ours = structural_similarity(torch.tensor(image)[None, None], torch.tensor(reference)[None, None], 2)
    # MONAI looks at windows that lie wholly inside, with population statistics
    _, full = skimage_ssim(
        image, reference, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert float(ours[0]) == pytest.approx(full[5:-5, 5:-5].mean(), abs=0.005)


def test_identical_images_have_a_similarity_of_one_even_when_small():
    image = torch.rand(2, 1, 6, 7)
    torch.testing.assert_close(structural_similarity(image, image, 2), torch.ones(2))


def test_validation_twice_gives_the_same_numbers_and_leaves_the_weights(small_run):
    run = small_run()
    before = [p.clone() for p in run.network.state_dict().values()]
    run.evaluator.run()
    first = dict(run.evaluator.state.metrics)
    run.evaluator.run()
    assert first == run.evaluator.state.metrics
    assert all(torch.equal(a, b) for a, b in zip(before, run.network.state_dict().values(), strict=True))


def test_r2_of_a_single_image_is_not_a_number_rather_than_a_huge_one(small_run):
    run = small_run()
    run.evaluator.state.epoch_length = 1
    run.evaluator.data_loader = [
        {k: v[:1] for k, v in batch.items()} for batch in [next(iter(run.evaluator.data_loader))]
    ]
    run.evaluator.run()
    assert np.isnan(run.evaluator.state.metrics["transparency_r2"])
    assert np.isfinite(run.evaluator.state.metrics["val_loss"])
