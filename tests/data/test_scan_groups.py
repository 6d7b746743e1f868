# SPDX-License-Identifier: Apache-2.0
"""One DICOM series that holds several volumes: what tells them apart, whatever the files are called."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from tiny_scans import ENHANCED_MR, blob, write_dicom, write_enhanced

from monai_mixssl.data.read import read_image
from monai_mixssl.data.scan import scan

SALT = b"0" * 32
PLACES = 5
VALUES = [np.stack([np.full((6, 6), 10 * volume + place + 1) for place in range(PLACES)]) for volume in range(6)]


def look(folder):
    return scan(folder, salt=SALT, progress=False).images


def write_volumes(folder, tags_of, count=2, *, seed=0, skip=()):
    """Writes `count` volumes of one series, interleaved; names and instance numbers give nothing away."""
    numbers = np.random.RandomState(seed).permutation(count * PLACES)
    for volume in range(count):
        for place in range(PLACES):
            if (volume, place) in skip:
                continue
            number = int(numbers[volume * PLACES + place])
            tags = {
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1],
                "ImagePositionPatient": [0, 0, 2.0 * place], "InstanceNumber": number + 1,
                "SOPInstanceUID": f"1.2.9.{volume + 1}.{place + 1}",
            }  # fmt: skip
            write_dicom(folder / f"{number:03d}", VALUES[volume][place], **{**tags, **tags_of(volume, place)})


def volumes(images):
    """The volumes as lists of the values that their slices hold, in order."""
    return [read_image(image).array[0, 0, 0].tolist() for image in images]


def expected(count=2):
    return [values[:, 0, 0].tolist() for values in VALUES[:count]]


@pytest.mark.parametrize(
    "tags_of",
    [
        pytest.param(lambda volume, place: {"EchoNumbers": volume + 1}, id="echo"),
        pytest.param(lambda volume, place: {"EchoTime": [2.46, 4.92][volume]}, id="echo time"),
        pytest.param(lambda volume, place: {"DiffusionBValue": [0.0, 1000.0][volume]}, id="b-value"),
        pytest.param(lambda volume, place: {"TemporalPositionIdentifier": volume + 1}, id="time point"),
        pytest.param(lambda volume, place: {"AcquisitionNumber": volume + 1}, id="acquisition"),
        pytest.param(lambda volume, place: {"TriggerTime": 40.5 * volume}, id="trigger"),
        pytest.param(lambda volume, place: {"AcquisitionTime": f"10151{volume}.25"}, id="acquisition time"),
        pytest.param(
            lambda volume, place: {"ImageType": ["ORIGINAL", "PRIMARY", "PM"[volume]], "EchoTime": 5.0}, id="image type"
        ),
        pytest.param(lambda volume, place: {"ImagePositionPatient": [90 * volume, 0, 2.0 * place]}, id="place"),
        # each slice has a time of its own: the volumes are not torn apart, the time still orders the slices
        pytest.param(
            lambda volume, place: {"AcquisitionTime": f"1015{10 * volume + place:02d}"}, id="time of each slice"
        ),
        pytest.param(lambda volume, place: {"TriggerTime": 300.0 * volume + 7 * place}, id="trigger of each slice"),
    ],
)
def test_what_lies_at_one_position_is_told_apart_by(tmp_path, tags_of):
    write_volumes(tmp_path, tags_of)
    assert sorted(volumes(look(tmp_path))) == expected()


def test_a_volume_that_lacks_a_slice_does_not_take_one_of_its_neighbour(tmp_path):
    write_volumes(tmp_path, lambda volume, place: {"EchoNumbers": volume + 1}, skip={(0, 2)})
    first, second = expected()
    assert sorted(volumes(look(tmp_path))) == sorted([[value for value in first if value != 3], second])


def test_echoes_at_several_times_are_told_apart_by_both(tmp_path):
    write_volumes(
        tmp_path,
        lambda volume, place: {"EchoNumbers": volume % 2 + 1, "TemporalPositionIdentifier": volume // 2 + 1},
        count=6,
    )
    assert sorted(volumes(look(tmp_path))) == expected(6)


@pytest.mark.parametrize(
    ("group", "creator", "element", "values"),
    [
        (0x0019, "SIEMENS MR HEADER", (0x0C, "IS"), ["0", "1000"]),
        (0x2001, "Philips Imaging DD 001", (0x03, "FL"), [0.0, 1000.0]),
        (0x0043, "GEMS_PARM_01", (0x39, "IS"), [["1000000000", "8"], ["1000001000", "8"]]),
    ],
)
def test_b_values_in_private_tags_are_understood(tmp_path, group, creator, element, values):
    write_volumes(tmp_path, lambda volume, place: {})
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        block = dataset.private_block(group, creator, create=True)
        volume = int(dataset.SOPInstanceUID.split(".")[3]) - 1
        block.add_new(element[0], element[1], values[volume])
        dataset.save_as(path)
    images = look(tmp_path)
    assert sorted(volumes(images)) == expected()
    assert not any("order alone" in note for image in images for note in image.notes)


def test_directions_of_one_b_value_are_told_apart(tmp_path):
    directions = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    write_volumes(
        tmp_path,
        lambda volume, place: {
            "DiffusionBValue": 1000.0 * (volume > 0), "DiffusionGradientOrientation": directions[volume],
        },
        count=3,
    )  # fmt: skip
    assert sorted(volumes(look(tmp_path))) == expected(3)


def test_what_only_the_order_tells_apart_carries_a_note(tmp_path):
    write_volumes(tmp_path / "order", lambda volume, place: {"InstanceNumber": 10 * volume + place})
    write_volumes(tmp_path / "echo", lambda volume, place: {"EchoNumbers": volume, "SeriesInstanceUID": "1.2.3.5",
                                                            "SOPInstanceUID": f"1.2.8.{volume}.{place}"})  # fmt: skip
    images = look(tmp_path)
    assert sorted(volumes(images)) == sorted(expected() * 2)
    noted = [any("order alone" in note for note in image.notes) for image in images]
    assert noted == [False, False, True, True]


def test_a_trait_that_cannot_be_read_is_no_reason_to_leave_a_file_out(tmp_path):
    write_volumes(tmp_path, lambda volume, place: {"EchoNumbers": volume + 1})
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        tag = bytes([0x18, 0, 0x86, 0]) + b"IS"  # EchoNumbers
        at = content.index(tag) + 8
        path.write_bytes(content[:at] + b"x" + content[at + 1 :])
    images = look(tmp_path)
    assert sum(image.shape[2] for image in images) == 2 * PLACES


def test_names_and_order_of_files_change_nothing(tmp_path):
    found = []
    for seed, suffix in ((0, ""), (1, ".dcm")):
        folder = tmp_path / str(seed)
        write_volumes(folder, lambda volume, place: {"AcquisitionNumber": volume + 1, "InstanceNumber": 1}, count=4)
        order = np.random.RandomState(seed).permutation(4 * PLACES)
        for number, path in zip(order, sorted(folder.iterdir()), strict=True):
            path.rename(folder / f"z{number:02d}{suffix}")
        images = look(folder)
        found.append({image.id: volume for image, volume in zip(images, volumes(images), strict=True)})
    assert found[0] == found[1]
    assert sorted(found[0].values()) == expected(4)


def enhanced(path, groups_of, count=2):
    """One enhanced file of `count` volumes; `groups_of` gives the functional groups of a frame."""
    per_frame = []
    for volume in range(count):
        for place in range(PLACES):
            item = Dataset()
            groups = {
                "PlanePositionSequence": {"ImagePositionPatient": [0.0, 0.0, 2.0 * place]},
                "PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
                "PixelMeasuresSequence": {"PixelSpacing": [1.0, 1.0], "SliceThickness": 2.0},
                **groups_of(volume, place),
            }
            for sequence, content in groups.items():
                inner = Dataset()
                for keyword, value in content.items():
                    setattr(inner, keyword, value)
                setattr(item, sequence, Sequence([inner]))
            per_frame.append((volume, place, item))
    order = np.random.RandomState(3).permutation(len(per_frame))
    frames = np.stack([VALUES[per_frame[k][0]][per_frame[k][1]] for k in order])
    write_dicom(
        path, frames, SOPClassUID=ENHANCED_MR, SharedFunctionalGroupsSequence=Sequence([Dataset()]),
        PerFrameFunctionalGroupsSequence=Sequence([per_frame[k][2] for k in order]),
    )  # fmt: skip


@pytest.mark.parametrize(
    "groups_of",
    [
        pytest.param(lambda v, p: {"MRDiffusionSequence": {"DiffusionBValue": 500.0 * v}}, id="b-value"),
        pytest.param(lambda v, p: {"MREchoSequence": {"EffectiveEchoTime": 5.0 + v}}, id="echo"),
        pytest.param(lambda v, p: {"FrameContentSequence": {"TemporalPositionIndex": v + 1}}, id="time point"),
        pytest.param(
            lambda v, p: {"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": 30.0 * v}}, id="trigger"
        ),
        pytest.param(
            lambda v, p: {"FrameContentSequence": {"DimensionIndexValues": [1, p + 1, v + 1]}}, id="dimension"
        ),
        pytest.param(
            lambda v, p: {"MRImageFrameTypeSequence": {"FrameType": ["ORIGINAL", "PRIMARY", "MF"[v], "NONE"]}},
            id="type",
        ),
    ],
)
def test_frames_of_an_enhanced_file_are_told_apart_by(tmp_path, groups_of):
    enhanced(tmp_path / "e", groups_of)
    images = look(tmp_path)
    assert sorted(volumes(images)) == expected()
    assert not any("order alone" in note for image in images for note in image.notes)


def test_frames_that_differ_in_rescale_alone_are_told_apart_by_it(tmp_path):
    frames = np.stack([blob((8, 8), seed=seed) for seed in range(4)])
    path = write_enhanced(
        tmp_path / "e", frames, [2.0, 2.0, 0.0, 0.0], [(2.0, 1.0), (0.5, -7.0), (2.0, 1.0), (0.5, -7.0)]
    )
    first, second = (read_image(image).array[0] for image in look(path))
    assert np.allclose(first[..., 0].T, frames[2] * 2.0 + 1)
    assert np.allclose(second[..., 0].T, frames[3] * 0.5 - 7)


def test_the_provided_enhanced_files_give_one_volume_a_kind(provided_data):
    folder = provided_data / "dicom" / "mr_enhanced_multiframe"
    philips = look(folder / "Philips")
    assert [image.shape for image in philips] == [(64, 64, 32)] * 2
    assert not any("order alone" in note for image in philips for note in image.notes)
    positions = {image.affine for image in philips}
    assert len(positions) == 1
    siemens = look(folder / "Siemens")
    assert [image.shape[2] for image in siemens] == [6] * len(siemens)
