# SPDX-License-Identifier: Apache-2.0
"""Splits by patient, and label subsets: given ones stand, drawn ones are stratified, small subsets are nested."""

from __future__ import annotations

from collections import Counter

import pytest

from monai_mixssl.data.labels.split import Unit, draw_splits
from monai_mixssl.data.labels.subset import label_subset
from monai_mixssl.errors import ConfigError, DataError


def units(count, patients=None, classes=2, given=lambda n: "", content=lambda n: "", prefix="i"):
    """Image n is of patient n modulo `patients`; a patient's images are of one class."""
    patients = patients or count
    return [
        Unit(f"{prefix}{n:03d}", f"{prefix}p{n % patients}", f"s{n}", (n % patients % classes,), given(n), content(n))
        for n in range(count)
    ]


def split_of(patient, data, splits):
    return {splits[unit.id] for unit in data if unit.patient == patient}


def test_no_patient_is_in_two_splits_and_classes_get_the_same_share():
    data = units(200, patients=50)
    splits, by = draw_splits(data, 0.1, 0.2, seed=4)
    assert by == "patient"
    assert all(len(split_of(unit.patient, data, splits)) == 1 for unit in data)
    counts = Counter((splits[unit.id], unit.labels[0]) for unit in data)
    for split, share in {"training": 0.7, "validation": 0.1, "test": 0.2}.items():
        for label in (0, 1):
            assert abs(counts[split, label] - share * 100) <= 4  # one patient has four images


def test_the_draw_depends_on_the_seed_and_not_on_the_ids():
    first, second = (draw_splits(units(40, prefix=prefix), seed=1)[0] for prefix in "iz")
    assert list(first.values()) == list(second.values())
    assert list(first.values()) != list(draw_splits(units(40), seed=2)[0].values())


def test_given_splits_stand_and_missing_ones_are_drawn():
    data = units(40, given=lambda n: "test" if n >= 30 else "")
    splits, by = draw_splits(data, 0.25, 0.5)
    assert {one for one, split in splits.items() if split == "test"} == {unit.id for unit in data[30:]}
    assert 4 <= sum(split == "validation" for split in splits.values()) <= 12
    assert by == "patient"
    data = units(40, given=lambda n: ("training", "validation", "test", "")[n % 4])
    splits, by = draw_splits(data)
    assert [splits[unit.id] for unit in data] == ["training", "validation", "test", "training"] * 10
    assert by == "given, patient"


def test_an_image_without_a_split_follows_its_patient():
    data = units(40, patients=20, given=lambda n: "test" if n < 5 else "")
    splits, _ = draw_splits(data)
    for n in range(5):
        assert splits[data[n + 20].id] == "test"


def test_a_patient_in_two_given_splits_stops_with_the_count():
    data = units(20, patients=10, given=lambda n: "test" if n in (3, 4, 14) else "training")
    with pytest.raises(DataError, match=r"1 of 10 patients are in more than one split .*such as ip3"):
        draw_splits(data)


def test_images_of_one_content_stay_together():
    data = units(60, content=lambda n: f"c{n % 30}")
    for seed in range(5):
        splits, _ = draw_splits(data, 0.2, 0.2, seed)
        assert all(splits[data[n].id] == splits[data[n + 30].id] for n in range(30))
        assert set(splits.values()) == {"training", "validation", "test"}


def test_a_single_name_for_all_patients_does_not_stop_the_split():
    data = [unit._replace(patient="anonymous") for unit in units(20)]
    splits, by = draw_splits(data)
    assert by == "file"
    assert Counter(splits.values()) == {"training": 14, "validation": 2, "test": 4}


def test_a_class_of_a_single_patient_stays_in_training():
    rare = [Unit(f"rare{n}", f"r{n}", f"r{n}", (n + 2,)) for n in range(10)]
    for seed in range(3):
        splits, _ = draw_splits(units(20) + rare, 0.2, 0.2, seed)
        assert {splits[unit.id] for unit in rare} == {"training"}
        assert set(splits.values()) == {"training", "validation", "test"}


def test_rare_combinations_of_labels_are_held_out_too():
    data = [unit._replace(labels=tuple(k for k in range(6) if n >> k & 1)) for n, unit in enumerate(units(64))]
    counts = Counter(draw_splits(data, 0.2, 0.25)[0].values())
    assert counts["test"] == 16
    assert abs(counts["validation"] - 13) <= 1


def test_too_few_patients_are_an_error():
    with pytest.raises(DataError, match="2 usable patients cannot be split into training, test and validation"):
        draw_splits(units(8, patients=2))


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.1), (0.1, 1), (0.5, 0.5)])
def test_shares_out_of_range_are_named(val, test):
    with pytest.raises(ConfigError, match="_fraction"):
        draw_splits(units(9), val, test)


def choose(data, labels_per_class=None, label_fraction=None, seed=0):
    return label_subset(data, {unit.id: unit.patient for unit in data}, labels_per_class, label_fraction, seed)


@pytest.mark.parametrize("seed", range(3))
def test_label_subsets_are_nested_and_count_patients_of_each_class(seed):
    data = units(120, patients=60, classes=3)
    subsets = [choose(data, n, seed=seed) for n in (1, 5, 20)]
    subsets += [choose(data, None, f, seed) for f in (0.05, 0.25, 1.0)]
    for small, large in (subsets[:2], subsets[1:3], subsets[3:5], subsets[4:]):
        assert small < large
    for subset, size in zip(subsets, (1, 5, 20, 1, 5, 20), strict=True):
        chosen = {(unit.patient, unit.labels[0]) for unit in data if unit.id in subset}
        assert Counter(label for _, label in chosen) == {0: size, 1: size, 2: size}
        assert len(subset) == 2 * len(chosen)  # both images of each patient
    assert subsets[1] == subsets[4]  # 5 of 20 are a quarter


def test_another_seed_chooses_other_labels_and_ids_do_not_matter():
    data, renamed = units(60), units(60, prefix="z")
    assert choose(data, 5, seed=0) != choose(data, 5, seed=1)
    assert {one[1:] for one in choose(data, 5)} == {one[1:] for one in choose(renamed, 5)}


def test_a_subset_larger_than_a_class_takes_all_of_it():
    data = [*units(20), Unit("rare", "r", "r", (2,))]
    subset = choose(data, 3)
    assert "rare" in subset
    assert len(subset) == 7


def test_images_of_no_class_count_as_a_class():
    data = [unit._replace(labels=()) if n % 2 else unit for n, unit in enumerate(units(40))]
    assert Counter(len(unit.labels) for unit in data if unit.id in choose(data, 4)) == {0: 4, 1: 4}


@pytest.mark.parametrize(("number", "share"), [(0, None), (None, 0), (None, 1.5), (3, 0.5), (2.5, None)])
def test_sizes_of_subsets_out_of_range_are_named(number, share):
    with pytest.raises(ConfigError, match=r"labels_per_class|label_fraction"):
        choose(units(9), number, share)
