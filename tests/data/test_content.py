# SPDX-License-Identifier: Apache-2.0
"""The hash of an image's content: equal for equal images in whatever file, different otherwise, salted in manifests."""

from __future__ import annotations

import numpy as np
from tiny_scans import blob, write_nifti, write_png, write_series

from monai_mixssl.data.content import content_digest, content_id
from monai_mixssl.data.prepare import read_digests
from monai_mixssl.data.prepared_data import prepare_data
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.data.volume import Volume


def digest(array, affine=None):
    return content_digest(Volume(array, affine, None))


def test_stored_type_and_three_equal_colours_do_not_matter():
    grey = blob((1, 8, 9), top=200)
    assert digest(grey) == digest(grey.astype(np.float64)) == digest(np.repeat(grey, 3, axis=0).astype(np.uint8))
    assert digest(np.array([[[0.0, 1.0]]])) == digest(np.array([[[-0.0, 1.0]]]))


def test_the_order_of_the_axes_of_a_volume_does_not_matter():
    array = blob((1, 7, 8, 9))
    turned = array.transpose(0, 3, 1, 2)[:, ::-1]
    affine = np.array([[0, 1.0, 0, 0], [0, 0, 1.0, 0], [-1.0, 0, 0, 8.0], [0, 0, 0, 1]])
    assert digest(array, np.eye(4)) == digest(turned, affine)


def test_a_single_value_or_another_shape_makes_another_content():
    array = blob((1, 8, 9))
    other = array.copy()
    other[0, 3, 4] += 1
    assert (
        len(
            {
                digest(array),
                digest(other),
                digest(array.reshape(1, 9, 8)),
                digest(np.stack([array[0]] * 2 + [other[0]])),
            }
        )
        == 4
    )


def test_records_carry_the_content_under_the_salt_of_the_run(tmp_path):
    volume = blob((17, 20, 22))
    write_series(tmp_path / "scans" / "dicom", volume, step=3.0)
    affine = np.array([[-1.5, 0, 0, 0], [0, -2.0, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 1]])
    write_nifti(tmp_path / "scans" / "same.nii.gz", volume.transpose(2, 1, 0), affine)
    write_png(tmp_path / "scans" / "x.png", blob((20, 24), top=250))
    contents = []
    for run in ("a", "b"):
        data = prepare_data(tmp_path / "scans", tmp_path / run, patch_size=16, progress=False, num_workers=0)
        by_kind = {record["kind"]: record["content"] for record in data.records.values()}
        assert by_kind["dicom"] == by_kind["nifti"] != by_kind["image"]
        salt = PrivateFolder(tmp_path / run).salt()
        digests = read_digests(data.folder, data.records)
        assert {one: content_id(salt, digests[one]) for one in digests} == {
            one: record["content"] for one, record in data.records.items()
        }
        contents.append(set(by_kind.values()))
    assert not contents[0] & contents[1]
