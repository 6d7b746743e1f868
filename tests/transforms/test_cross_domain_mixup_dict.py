# SPDX-License-Identifier: Apache-2.0
"""The dictionary transforms inside MONAI's own pipelines."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Flipd,
    Invertd,
    LoadImaged,
    RandFlipd,
    RandomizableTransform,
    RandRotated,
    RandSpatialCropd,
    RandSpatialCropSamplesd,
    SaveImaged,
    ScaleIntensityd,
    Zoomd,
)
from PIL import Image

import monai_mixssl.transforms as mixssl_transforms
from monai_mixssl.errors import ConfigError
from monai_mixssl.mixing import blend
from monai_mixssl.sources import DeadLeaves, FolderImages
from monai_mixssl.transforms import CrossDomainMixupd, RandCrossDomainMixup, RandCrossDomainMixupd


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scans" / "scan.nii.gz"
    path.parent.mkdir()
    voxels = np.random.RandomState(0).randint(0, 1000, (72, 70, 66)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 3.0, 4.0, 1.0])), path)
    return path


def images(count: int, size: int = 16) -> list[dict]:
    random = np.random.RandomState(0)
    return [{"image": random.rand(1, size, size).astype(np.float32), "id": k} for k in range(count)]


def seeded(seed: int = 0, **options) -> RandCrossDomainMixupd:
    return RandCrossDomainMixupd("image", source=DeadLeaves(), **options).set_random_state(seed=seed)


def test_example_of_the_readme_runs_on_a_nifti_file(scan):
    chain = Compose([LoadImaged("image"), EnsureChannelFirstd("image"), ScaleIntensityd("image"), RandSpatialCropd("image", 64),  # noqa: E501 (as users type it)
             RandCrossDomainMixupd("image", source=DeadLeaves(), transparency=(0.2, 0.8))])  # fmt: skip
    sample = chain.set_random_state(seed=0)({"image": scan})
    target, mixed = sample["image_target"], sample["image"]
    assert target.shape == mixed.shape == (1, 64, 64, 64)
    assert not torch.equal(target, mixed)
    assert 0.2 <= sample["image_transparency"] <= 0.8
    assert re.fullmatch(r"dead_leaves:[0-9a-f]{8}", sample["image_source_id"])
    torch.testing.assert_close(mixed.mean(), target.mean())
    torch.testing.assert_close(mixed.std(), target.std())


def test_sample_holds_the_blend_the_untouched_target_the_transparency_and_an_opaque_id():
    transform, sample = seeded(), images(1)[0]
    result = transform(sample)
    assert set(result) == {"image", "id", "image_target", "image_transparency", "image_source_id"}
    assert torch.equal(result["image_target"].as_tensor(), torch.as_tensor(sample["image"]))
    t = result["image_transparency"]
    assert (type(t), t.dtype, t.shape) == (torch.Tensor, torch.float32, ())
    assert torch.equal(
        result["image"].as_tensor(), blend(result["image_target"], transform.mixup.source_image, t).as_tensor()
    )
    assert set(sample) == {"image", "id"}


def test_names_of_the_added_keys_can_be_chosen():
    result = seeded(target_postfix="clean", transparency_postfix="t", source_id_postfix="s", map_cells=2)(images(1)[0])
    assert set(result) == {"image", "id", "image_clean", "image_t", "image_s"}
    assert result["image_t"].shape == (1, 16, 16)


def test_dictionary_and_array_versions_give_the_same_numbers():
    array = RandCrossDomainMixup(DeadLeaves()).set_random_state(seed=5)
    sample = images(1)[0]
    assert torch.equal(seeded(5)(sample)["image"], array(sample["image"]))


def test_keys_share_one_draw():
    both = RandCrossDomainMixupd(["image", "second"], DeadLeaves()).set_random_state(seed=0)
    sample = images(1)[0]
    result = both({**sample, "second": sample["image"]})
    assert torch.equal(result["image"], result["second"])
    assert result["image_source_id"] == result["second_source_id"]
    result["image_transparency"].fill_(9)
    assert result["second_transparency"] <= 1


def test_missed_probability_leaves_the_target_and_keys_that_collate():
    result = seeded(prob=0.0)(images(1)[0])
    assert torch.equal(result["image"], result["image_target"])
    assert result["image"] is not result["image_target"]
    assert result["image_transparency"] == 1
    assert result["image_source_id"] == ""


def test_missing_key_is_named_unless_allowed():
    with pytest.raises(KeyError, match="`image` of transform `RandCrossDomainMixupd` was missing"):
        seeded()({"picture": torch.rand(1, 8, 8)})
    sample = {"picture": torch.rand(1, 8, 8)}
    assert seeded(allow_missing_keys=True)(sample) == sample


def test_keys_of_different_shapes_are_refused():
    both = RandCrossDomainMixupd(["image", "second"], DeadLeaves())
    with pytest.raises(ConfigError, match="source has shape"):
        both({"image": torch.rand(1, 8, 8), "second": torch.rand(3, 8, 8)})


def test_deterministic_version_blends_with_what_the_sample_holds():
    sample = {"image": torch.rand(1, 8, 8), "photograph": torch.rand(1, 8, 8), "t": torch.tensor(0.25)}
    result = CrossDomainMixupd("image", "photograph", "t", match=None, renormalize=False)(sample)
    torch.testing.assert_close(result["image"].as_tensor(), 0.25 * sample["image"] + 0.75 * sample["photograph"])
    assert torch.equal(result["photograph"], sample["photograph"])


def test_deterministic_version_leaves_a_sample_without_any_of_its_keys_where_that_is_allowed():
    sample = {"other": 1}
    assert CrossDomainMixupd("image", "photo", "t", allow_missing_keys=True)(sample) == sample


@pytest.mark.parametrize("missing", ["image", "photograph", "t"])
def test_deterministic_version_names_the_missing_key(missing):
    sample = {"image": torch.rand(1, 8, 8), "photograph": torch.rand(1, 8, 8), "t": 0.25}
    del sample[missing]
    with pytest.raises(KeyError, match=f"`{missing}` of transform `CrossDomainMixupd` was missing"):
        CrossDomainMixupd("image", "photograph", "t")(sample)


def test_target_can_be_saved_under_its_own_name_after_blending(scan, tmp_path):
    chain = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            RandCrossDomainMixupd("image", DeadLeaves()),
            SaveImaged("image", output_dir=tmp_path / "out", output_postfix="blend", print_log=False),
        ]
    )
    chain({"image": scan})
    saved = nib.load(tmp_path / "out" / "scan" / "scan_blend.nii.gz")
    assert saved.shape == (72, 70, 66)
    np.testing.assert_allclose(np.abs(np.diag(saved.affine)), [2, 3, 4, 1])


def test_metadata_of_the_target_stays_and_no_path_of_the_source_is_added(scan, tmp_path):
    secret = tmp_path / "Doe_John"
    secret.mkdir()
    pixels = np.random.RandomState(0).randint(0, 255, (90, 90), dtype=np.uint8)
    Image.fromarray(pixels).save(secret / "holiday.png")
    load = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])
    result = RandCrossDomainMixupd("image", FolderImages(secret))(load({"image": scan}))
    before = load({"image": scan})["image"]
    for key in ("image", "image_target"):
        image = result[key]
        assert isinstance(image, MetaTensor)
        assert image.meta.keys() == before.meta.keys()
        assert image.meta["filename_or_obj"] == before.meta["filename_or_obj"]
        assert torch.equal(image.affine, before.affine)
    told = repr({key: getattr(value, "meta", value) for key, value in result.items()})
    assert "Doe" not in told
    assert "holiday" not in told


def test_spatial_transforms_before_the_blend_can_still_be_inverted(scan):
    chain = Compose(
        [LoadImaged("image"), EnsureChannelFirstd("image"), Flipd("image", 0), Zoomd("image", 0.5, keep_size=False)]
    )
    blended = Compose([chain, RandCrossDomainMixupd("image", DeadLeaves(), transparency=1.0)])({"image": scan})
    plain = chain({"image": scan})
    restored = Invertd("image", chain, nearest_interp=False)
    assert torch.equal(restored(blended)["image"].as_tensor(), restored(plain)["image"].as_tensor())


def test_each_of_several_crops_has_a_blend_of_its_own():
    chain = Compose([RandSpatialCropSamplesd("image", 8, num_samples=4, random_size=False), seeded()])
    crops = chain.set_random_state(seed=0)(images(1)[0])
    assert len(crops) == 4
    assert len({crop["image_source_id"] for crop in crops}) == 4
    assert len({float(crop["image_transparency"]) for crop in crops}) == 4
    loader = DataLoader(Dataset(images(2), chain), batch_size=2, num_workers=0)
    batch = next(iter(loader))
    assert batch["image"].shape == (8, 1, 8, 8)
    assert batch["image_transparency"].shape == (8,)
    assert len(batch["image_source_id"]) == 8


def test_lazy_pipelines_resample_before_blending_with_the_same_result(scan):
    def run(lazy: bool) -> dict:
        chain = Compose(
            [
                LoadImaged("image"),
                EnsureChannelFirstd("image"),
                Flipd("image", 0),
                RandFlipd("image", 1.0, 1),
                RandCrossDomainMixupd("image", DeadLeaves()),
            ],
            lazy=lazy,
        )
        return chain.set_random_state(seed=0)({"image": scan})

    lazy, eager = run(True), run(False)
    torch.testing.assert_close(lazy["image_target"].as_tensor(), eager["image_target"].as_tensor())
    torch.testing.assert_close(lazy["image"].as_tensor(), eager["image"].as_tensor())
    assert lazy["image_source_id"] == eager["image_source_id"]
    assert not lazy["image"].pending_operations


def test_lazy_transforms_may_follow_the_blend():
    image = images(1)[0]

    def run(lazy):
        turn = RandRotated(["image", "image_target"], 0.5, prob=1.0, keep_size=True)
        return Compose([seeded(), turn], lazy=lazy).set_random_state(seed=3)(image)

    lazy, eager = run(True), run(False)
    for key in ("image", "image_target"):
        torch.testing.assert_close(lazy[key].as_tensor(), eager[key].as_tensor())
        assert not lazy[key].pending_operations
    assert torch.equal(lazy["image"].affine, lazy["image_target"].affine)
    assert not np.allclose(lazy["image_target"], image["image"], atol=0.01)  # it is turned


def test_it_is_a_random_transform_as_monai_knows_them():
    mixup = seeded(prob=0.5)
    assert isinstance(mixup, RandomizableTransform)
    assert mixup.prob == 0.5
    done = []
    for image in images(1) * 20:
        source = mixup(image)["image_source_id"]
        done.append(mixup._do_transform)
        assert mixup._do_transform == bool(source)
    assert {True, False} == set(done)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_sources_of_blended_and_of_missed_integer_images_collate(num_workers):
    items = [{"image": np.full((1, 8, 8), k, np.int16)} for k in range(8)]
    loader = DataLoader(Dataset(items, seeded(prob=0.5, blend=False)), batch_size=8, num_workers=num_workers)
    (batch,) = loader
    assert batch["image_source"].dtype == torch.float32
    missed = batch["image_transparency"] == 1
    assert 0 < missed.sum() < 8
    assert torch.equal(batch["image_source"][missed], batch["image"][missed].float())


def test_all_names_are_exported_with_monais_aliases():
    for name in ("CrossDomainMixup", "RandCrossDomainMixup"):
        versions = [f"{name}d", f"{name}D", f"{name}Dict"]
        assert {name, *versions} <= set(mixssl_transforms.__all__)
        assert len({getattr(mixssl_transforms, version) for version in versions}) == 1
