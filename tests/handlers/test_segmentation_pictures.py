# SPDX-License-Identifier: Apache-2.0
"""From a network's output to masks, scores, files and pictures on the images' own grids."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose
from PIL import Image

from monai_mixssl.data.load_scan import LoadScand
from monai_mixssl.data.network_grid import NetworkGridd
from monai_mixssl.engines import PrecisionEvaluator
from monai_mixssl.handlers import MaskFiles, OwnMasks, SegmentationPictures, SegmentationScores
from monai_mixssl.handlers.segmentation_pictures import Example, draw_outlines, shown_slices

# stored as (top to bottom, left to right, back to front), 3 mm between the coronal slices, and off the axes
AFFINE = np.array([[0.2, 1.0, 0, 3], [0, 0, 3.0, -8], [-1.0, 0.2, 0, 40], [0, 0, 0, 1]])
VALUES = [0, 5, 7]


class Thresholds(torch.nn.Module):
    """Logits that say class 1 above 10 and class 2 above 20."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([15 - x, torch.full_like(x, 5.0) - (x - 15).abs() * 0.01, x - 15], dim=1)


def truth(image: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return Thresholds()(torch.from_numpy(image)[None, None].float())[0].argmax(0).numpy()


@pytest.fixture
def volume(tmp_path) -> dict[str, str]:
    """A volume in which three boxes lie, and a mask of it that lacks a part of one."""
    image = np.zeros((14, 18, 6), np.float32)
    image[2:9, 3:9, 1:4] = 15.0
    image[3:6, 11:16, 2:5] = 30.0
    mask = np.asarray(VALUES, dtype=np.uint8)[truth(image)]
    mask[2:4, 3:9, 1:4] = 0
    nib.save(nib.Nifti1Image(image, AFFINE), tmp_path / "doe_jane.nii.gz")
    nib.save(nib.Nifti1Image(mask, AFFINE), tmp_path / "mask.nii.gz")
    return {"image": str(tmp_path / "doe_jane.nii.gz"), "label": str(tmp_path / "mask.nii.gz"), "id": "0a1b"}


def run(items, dims, handlers_for, spacing=None, network=None) -> PrecisionEvaluator:
    step = NetworkGridd("image", dims, spacing)
    chain = Compose([LoadScand(label_values=VALUES), step])
    loader = DataLoader(Dataset(items, chain), batch_size=1, num_workers=0)
    handlers = [OwnMasks(step.grid), *handlers_for(step.grid)]
    evaluator = PrecisionEvaluator("cpu", loader, network or Thresholds(), val_handlers=handlers)
    evaluator.run(4)
    return evaluator


@pytest.mark.parametrize("dims", [2, 3])
def test_masks_scores_and_files_are_on_the_images_own_grid(volume, tmp_path, dims):
    scores = SegmentationScores(["background", "a", "b"], distances=True)
    files = MaskFiles(tmp_path / "masks", VALUES)
    evaluator = run([volume], dims, lambda grid: [scores, files])

    image = nib.load(volume["image"])
    expected = truth(np.asarray(image.dataobj))
    written = nib.load(tmp_path / "masks" / "0a1b.nii.gz")
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.affine, image.affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(VALUES)[expected])
    assert files.written == 1

    true = np.asarray(nib.load(volume["label"]).dataobj) == 5
    ours = expected == 1
    dice = 2 * (ours & true).sum() / (ours.sum() + true.sum())
    assert evaluator.state.metrics["val_dice_a"] == pytest.approx(dice)
    assert evaluator.state.metrics["val_dice_b"] == 1.0
    assert evaluator.state.metrics["val_mean_dice"] == pytest.approx((dice + 1) / 2)
    # the part that the mask lacks is two voxels along the first axis, whose step is 1.02 mm
    assert scores.cases["0a1b"][0]["hausdorff95"] == pytest.approx(2 * np.hypot(1, 0.2), rel=1e-3)
    assert scores.unit == "mm"


@pytest.mark.parametrize("dims", [2, 3])
def test_masks_of_resampled_images_come_back_at_the_images_resolution(volume, tmp_path, dims):
    run([volume], dims, lambda grid: [MaskFiles(tmp_path / "masks")], spacing=0.6)
    image = nib.load(volume["image"])
    written = nib.load(tmp_path / "masks" / "0a1b.nii.gz")
    assert written.shape == image.shape
    np.testing.assert_array_equal(written.affine, image.affine)
    expected = truth(np.asarray(image.dataobj))
    agree = (np.asarray(written.dataobj) == expected)[expected > 0].mean()
    assert agree > 0.85  # borders of steps are smoothed twice


def test_a_picture_gets_a_picture(tmp_path):
    rows = np.zeros((12, 20), np.uint8)
    rows[2:5, 10:18] = 30
    rows[8:10, 1:4] = 15
    Image.fromarray(rows).save(tmp_path / "a.png")
    run([{"image": str(tmp_path / "a.png"), "id": "77"}], 2, lambda grid: [MaskFiles(tmp_path / "masks", VALUES)],
        network=Slices())  # fmt: skip
    mask = np.asarray(Image.open(tmp_path / "masks" / "77.png"))
    np.testing.assert_array_equal(mask, np.select([rows == 30, rows == 15], [7, 5], 0))


@pytest.mark.parametrize(("largest", "kind"), [(255, np.uint8), (300, np.uint16), (40000, np.uint16)])
def test_masks_keep_large_values_and_one_type_whatever_they_show(largest, kind, volume, tmp_path):
    run([volume], 3, lambda grid: [MaskFiles(tmp_path / "masks", [0, 1, largest])])
    written = nib.load(tmp_path / "masks" / "0a1b.nii.gz")
    assert written.get_data_dtype() == kind
    expected = truth(np.asarray(nib.load(volume["image"]).dataobj))
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray([0, 1, largest])[expected])


class Slices(Thresholds):
    """The images of the network's grid are volumes of slices in 2D, too."""


def test_pictures_are_drawn_of_the_images_that_are_named(volume, tmp_path):
    items = [volume, {**volume, "id": "ffff"}]
    drawn: list[SegmentationPictures] = []

    def handlers(grid):
        drawn.append(SegmentationPictures(tmp_path / "p", grid, ["background", "a", "b"], ["ffff"], "test", keep=True))
        return [SegmentationScores(["background", "a", "b"]), *drawn]

    run(items, 2, handlers)
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["test.png", "test_epoch_0004.png"]
    picture = np.asarray(Image.open(tmp_path / "p" / "test.png").convert("RGB")).astype(int)
    green, orange = ((np.abs(picture - np.array(colour)).sum(-1) < 40).sum() for colour in ((78, 154, 6), (206, 92, 0)))
    assert green > 50  # outlines, legend
    assert orange > 50

    # the parts of the example: coronal slices, head up, the patient's right at the left
    example = drawn[0]._examples["ffff"]
    image = np.asarray(nib.load(volume["image"]).dataobj)
    np.testing.assert_array_equal(example.image, image.transpose(2, 0, 1)[:, :, ::-1])
    true = np.asarray(nib.load(volume["label"]).dataobj).transpose(2, 0, 1)[:, :, ::-1]
    np.testing.assert_array_equal(np.asarray(VALUES)[example.true], true)
    assert example.aspect == pytest.approx(1.0)


def test_shown_slices_lie_where_something_is():
    empty = np.zeros((10, 4, 4))
    marked = empty.copy()
    marked[6:9, 1, 1] = 1
    assert shown_slices(Example("a", empty, marked, empty, 1.0)) == [6, 7, 8]
    assert shown_slices(Example("a", empty, None, marked, 1.0)) == [6, 7, 8]
    assert shown_slices(Example("a", empty, empty, empty, 1.0)) == [1, 5, 8]
    assert shown_slices(Example("a", empty[:1], None, empty[:1], 1.0)) == [0]


def test_odd_examples_can_be_drawn_too(tmp_path: Path):
    full = np.ones((3, 6, 5), np.uint8)
    line = np.zeros((2, 1, 7))
    examples = [
        Example("full", full.astype(float), full, full * 0, 2.0),
        Example("line", line, None, line.astype(np.uint8), 0.5),
    ]
    classes = ["background", *(f"class {n}" for n in range(30))]
    draw_outlines(tmp_path / "a.png", examples, classes, "odd")
    assert np.asarray(Image.open(tmp_path / "a.png")).std() > 1
