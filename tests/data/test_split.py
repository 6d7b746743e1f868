# SPDX-License-Identifier: Apache-2.0
"""Holding out: by patient, never by slice, and the same in every run."""

from __future__ import annotations

import pytest

from monai_mixssl.data.records import Part, ScanImage
from monai_mixssl.data.split import split_by_group
from monai_mixssl.errors import ConfigError, DataError


def image(number, patient="", series="", kind="dicom"):
    return ScanImage(
        f"id{number}", patient, series or f"s{number}", kind, "", (8, 8), None, None, 1, (Part(f"{number}"),)
    )


def test_no_patient_is_on_both_sides():
    images = [image(number, patient=f"p{number % 7}") for number in range(40)]
    train, validation, by = split_by_group(images, 0.3)
    assert by == "patient"
    assert sorted(train + validation) == sorted(one.id for one in images)
    assert not {int(one[2:]) % 7 for one in train} & {int(one[2:]) % 7 for one in validation}
    assert len({int(one[2:]) % 7 for one in validation}) == 2


def test_volumes_of_one_file_stay_together():
    images = [image(number, series=f"f{number // 5}", kind="nifti") for number in range(20)]
    train, validation, by = split_by_group(images, 0.25)
    assert by == "file"
    assert len(validation) == 5
    assert {int(one[2:]) // 5 for one in train}.isdisjoint({int(one[2:]) // 5 for one in validation})


def test_the_draw_does_not_depend_on_the_ids():
    first = [image(number, patient=f"p{number % 5}") for number in range(20)]
    second = [image(100 + number, patient=f"q{number % 5}") for number in range(20)]
    places = [int(one[2:]) for one in split_by_group(first, 0.4, seed=3)[1]]
    assert places == [int(one[2:]) - 100 for one in split_by_group(second, 0.4, seed=3)[1]]


def test_another_seed_holds_out_another_part():
    images = [image(number) for number in range(30)]
    assert split_by_group(images, 0.2, seed=0)[1] != split_by_group(images, 0.2, seed=1)[1]


def test_series_are_held_out_where_all_name_one_patient():
    train, validation, by = split_by_group([image(number, patient="anonymous") for number in range(4)], 0.1)
    assert by == "series"
    assert (len(train), len(validation)) == (3, 1)


@pytest.mark.parametrize("val_fraction", [0.001, 0.999])
def test_both_sides_get_at_least_one(val_fraction):
    train, validation, _ = split_by_group([image(number) for number in range(3)], val_fraction)
    assert train
    assert validation


def test_too_little_data_is_an_error():
    with pytest.raises(DataError, match="one each"):
        split_by_group([image(number, series="s") for number in range(9)], 0.1)


@pytest.mark.parametrize("val_fraction", [0, 1, -1])
def test_a_share_out_of_range_is_an_error(val_fraction):
    with pytest.raises(ConfigError, match="val_fraction"):
        split_by_group([image(number) for number in range(9)], val_fraction)


def test_the_share_is_one_of_slices_not_of_patients():
    # one series of 128 slices, three of 28, and twenty single images: a tenth of 232 slices
    sizes = [128, 28, 28, 28] + [1] * 20
    images = [image(number, patient=f"p{number}") for number in range(len(sizes))]
    counts = {one.id: size for one, size in zip(images, sizes, strict=True)}
    for seed in range(20):
        train, validation, _ = split_by_group(images, 0.1, seed, counts)
        assert len(train) + len(validation) == len(images)
        assert 0.05 * 232 <= sum(counts[one] for one in validation) <= 0.2 * 232


def test_of_groups_that_all_are_too_large_the_smallest_is_held_out():
    images = [image(number, patient=f"p{number}") for number in range(3)]
    counts = {one.id: size for one, size in zip(images, (50, 30, 40), strict=True)}
    assert split_by_group(images, 0.05, 0, counts)[1] == [images[1].id]
