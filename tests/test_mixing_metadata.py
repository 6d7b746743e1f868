# SPDX-License-Identifier: Apache-2.0
"""What a blend keeps of the target's metadata, and what it never takes from the source."""

from __future__ import annotations

import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Flip, SpatialPad

from monai_mixssl.mixing import blend, match_intensity, renormalize


def scan(name: str, spacing: float, size: tuple[int, ...] = (1, 8, 8)) -> MetaTensor:
    affine = torch.diag(torch.tensor([spacing, spacing, 1.0, 1.0]))
    return MetaTensor(torch.rand(size), affine=affine, meta={"filename_or_obj": name, "note": [1, 2]})


def test_blend_keeps_the_targets_metadata():
    target, source = scan("target", 2.0), scan("source", 5.0)
    mixed = blend(target, source, 0.5)
    assert isinstance(mixed, MetaTensor)
    assert mixed.meta["filename_or_obj"] == "target"
    assert torch.equal(mixed.affine, target.affine)
    assert "source" not in repr(mixed.meta)


def test_blend_keeps_the_targets_transforms_so_that_they_can_be_inverted():
    flip, pad = Flip(0), SpatialPad((12, 12))
    original = scan("target", 2.0)
    mixed = blend(pad(flip(original)), torch.rand(1, 12, 12), 1.0)
    restored = flip.inverse(pad.inverse(mixed))
    assert torch.equal(restored.as_tensor(), original.as_tensor())
    assert torch.equal(restored.affine, original.affine)


def test_changing_the_blends_metadata_leaves_the_targets_alone():
    target = scan("target", 2.0)
    mixed = blend(target, torch.rand(1, 8, 8), 0.5)
    mixed.meta["filename_or_obj"] = "changed"
    mixed.affine = torch.eye(4)
    assert target.meta["filename_or_obj"] == "target"
    assert target.affine[0, 0] == 2.0


def test_plain_target_gives_a_plain_blend_even_of_a_described_source():
    mixed = blend(torch.rand(1, 8, 8), scan("source", 5.0), MetaTensor(torch.tensor(0.5)))
    assert type(mixed) is torch.Tensor


def test_numbers_do_not_depend_on_metadata():
    target, source = scan("target", 2.0), scan("source", 5.0)
    assert torch.equal(blend(target, source, 0.5).as_tensor(), blend(target.as_tensor(), source.as_tensor(), 0.5))


def test_batch_from_monais_collate_keeps_every_images_metadata():
    targets = list_data_collate([scan("first", 2.0), scan("second", 3.0)])
    sources = list_data_collate([scan("source", 5.0), scan("source", 6.0)])
    mixed = blend(targets, sources, torch.tensor([0.2, 0.9]), batch=True)
    assert mixed.is_batch
    items = decollate_batch(mixed)
    assert [item.meta["filename_or_obj"] for item in items] == ["first", "second"]
    assert [float(item.affine[0, 0]) for item in items] == [2.0, 3.0]


def test_matching_and_renormalising_keep_the_metadata_of_what_they_change():
    target, source = scan("target", 2.0), scan("source", 5.0)
    assert match_intensity(source, target).meta["filename_or_obj"] == "source"
    assert renormalize(source, target).meta["filename_or_obj"] == "source"
