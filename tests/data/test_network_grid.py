# SPDX-License-Identifier: Apache-2.0
"""Images reach the network as in pretraining, and what it says of them comes back to where it belongs."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset, decollate_batch
from monai.transforms import Compose
from PIL import Image
from tiny_scans import blob, write_nifti, write_series

from monai_mixssl.data.label_maps import read_one
from monai_mixssl.data.load_scan import LoadScan, LoadScand
from monai_mixssl.data.network_grid import NetworkGrid, NetworkGridd
from monai_mixssl.data.normalize import NormalizeByModalityd
from monai_mixssl.data.prepare_image import prepare_image
from monai_mixssl.data.settings import PrepareSettings
from monai_mixssl.errors import ConfigError


def oblique() -> np.ndarray:
    """Axes stored as (front to back, top to bottom, left to right), tilted by ten degrees, anisotropic."""
    angle = np.deg2rad(10)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    order = np.array([[0, 0, 1.0], [-1.0, 0, 0], [0, -1.0, 0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ order @ np.diag([1.5, 2.0, 5.0])
    affine[:3, 3] = (11, -7, 3)
    return affine


def write(kind: str, folder) -> str:
    if kind == "oblique NIfTI":
        return str(write_nifti(folder / "image.nii.gz", blob((14, 16, 6)), oblique()))
    if kind == "DICOM":
        write_series(folder / "series", blob((5, 16, 14)), orientation=(0, 1, 0, 0, 0, -1))
        return str(folder / "series")
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (14, 16)).astype(np.uint8)).save(folder / "image.png")
    return str(folder / "image.png")


CASES = [
    (dims, spacing, kind)
    for kind in ("oblique NIfTI", "DICOM", "picture")
    for dims in (2, 3)
    for spacing in (None, 1.25)
    if not (kind == "picture" and dims == 3)
]


@pytest.mark.parametrize(("dims", "spacing", "kind"), CASES)
def test_the_network_sees_what_pretraining_prepared(tmp_path, dims, spacing, kind):
    source = write(kind, tmp_path)
    settings = PrepareSettings(dims, patch_size=1, spacing=spacing, min_foreground=0.0)
    prepared, record = prepare_image(*read_one(source), settings)
    chain = Compose([LoadScand(), NetworkGridd("image", dims, spacing), NormalizeByModalityd("image")])
    image = chain({"image": source})["image"].as_tensor().numpy()
    if dims == 2:  # (C, rows, columns, slices) to (slices, C, rows, columns); some slices are left out in pretraining
        image = np.moveaxis(image, 3, 0)[record["slices"]]
    # pretraining cuts away empty borders
    assert all(ours >= theirs for ours, theirs in zip(image.shape, prepared.shape, strict=True))
    assert any(
        np.abs(piece - prepared).max() < 1e-3  # stored as float16
        for piece in pieces(image, prepared.shape)
    )


def pieces(image: np.ndarray, shape: tuple[int, ...]):
    room = [ours - theirs + 1 for ours, theirs in zip(image.shape, shape, strict=True)]
    for corner in np.ndindex(*room):
        yield image[tuple(slice(c, c + size) for c, size in zip(corner, shape, strict=True))]


@pytest.mark.parametrize(("dims", "spacing", "kind"), CASES)
def test_what_comes_back_lies_where_the_image_was(tmp_path, dims, spacing, kind):
    image, _ = LoadScan()(write(kind, tmp_path))
    steps = torch.meshgrid(*(torch.arange(size) for size in image.shape[1:]), indexing="ij")
    ramp = sum(factor * axis for factor, axis in zip((1.0, 20.0, 400.0), steps, strict=True))[None]
    image.set_(ramp.float())  # linear interpolation there and back gives a linear function again, but at the border
    grid = NetworkGrid(dims, spacing)
    moved = grid(image)
    back = grid.back(moved.as_tensor(), moved)
    assert back.shape == image.shape
    if spacing is None or kind == "picture":  # a picture states no spacing
        assert torch.equal(back, ramp)
    else:
        assert moved.shape != image.shape
        inner = (0, *(slice(2, -2) if size > 5 else slice(1, -1) for size in ramp.shape[1:]))
        torch.testing.assert_close(back[inner], ramp[inner], rtol=0, atol=0.3)


def test_the_way_back_survives_a_loader_and_its_workers(tmp_path):
    items = [{"image": write("oblique NIfTI", tmp_path), "id": "a"}]
    step = NetworkGridd("image", 2, None)
    chain = Compose([LoadScand(), step, NormalizeByModalityd("image")])
    own = LoadScan()(items[0]["image"])[0]
    cached = CacheDataset(items, chain, progress=False, copy_cache=False)
    for dataset, context in ((Dataset(items, chain), None), (cached, "fork"), (cached, "forkserver")):
        arguments = {} if context is None else {"num_workers": 1, "multiprocessing_context": context}
        batch = next(iter(DataLoader(dataset, batch_size=1, **arguments)))
        moved = decollate_batch(batch["image"])[0]
        marked = (moved.as_tensor() > 0.5).to(torch.uint8)
        back = step.grid.back(marked, moved)
        low, high = np.percentile(own.numpy(), (0.5, 99.5))
        np.testing.assert_array_equal(back.numpy(), own.numpy() > (low + high) / 2)
        assert moved.applied_operations  # left as they were


def test_slices_are_those_of_the_largest_spacing_upright(tmp_path):
    array = np.zeros((4, 6, 3), np.float32)
    array[0, 5, 2] = 1.0  # right or left? front or back?
    image, _ = LoadScan()(str(write_nifti(tmp_path / "a.nii.gz", array, np.diag([1.0, 1.0, 4.0, 1.0]))))
    moved = NetworkGrid(2)(image)
    assert moved.shape == (1, 6, 4, 3)
    # RAS+: x = 0 is the patient's left, y = 5 the front; a viewer shows the front above and the left at the right
    assert moved[0, 0, 3, 2] == 1.0
    assert nib.aff2axcodes(np.asarray(moved.affine)) == ("P", "L", "S")


@pytest.mark.parametrize(("dims", "spacing"), [(4, None), (3, (1.0, 2.0)), (2, (1.0, 2.0, 3.0)), (3, -1.0)])
def test_what_makes_no_grid_is_refused(dims, spacing):
    with pytest.raises(ConfigError):
        NetworkGrid(dims, spacing)
