# SPDX-License-Identifier: Apache-2.0
"""A second scan opens nothing that has not changed, and finds the same; a damaged index is made anew."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_scans import blob, write_dicom, write_enhanced, write_nifti, write_png, write_series

from monai_mixssl.data import index as index_module
from monai_mixssl.data import scan as scan_module
from monai_mixssl.data.prepared_data import prepare_data
from monai_mixssl.data.scan import scan

SALT = b"0" * 32


@pytest.fixture
def tree(tmp_path):
    """A bit of everything that a scan can find."""
    folder = tmp_path / "data"
    write_series(folder / "MARKER_FOLDER", blob((4, 8, 8)), PatientName="QUAXWORT^JANE", PatientID="MRN-778811",
                 ImageType=["ORIGINAL", "PRIMARY", "QUAXWORT JANE"], AcquisitionTime="101523",
                 SeriesDescription="QUAXWORT", StudyInstanceUID="1.2.840.99.1",
                 SeriesInstanceUID="1.2.840.99.2")  # fmt: skip
    write_dicom(folder / "twin_a", blob((8, 8)), SOPInstanceUID="1.2.840.99.3", SeriesInstanceUID="1.2.840.99.4")
    shutil.copy(folder / "twin_a", folder / "twin_b")
    frames = np.stack([blob((8, 8), seed=seed) for seed in range(4)])
    write_enhanced(folder / "enhanced", frames, [2.0, 2.0, 0.0, 0.0], [(2.0, 1.0), (0.5, -7.0)] * 2)
    write_dicom(folder / "report", blob((8, 8)), Modality="SR")
    write_nifti(folder / "times.nii.gz", np.stack([blob((8, 7, 6), seed=seed) for seed in range(3)], axis=-1))
    write_png(folder / "x.png", blob((8, 8), top=255))
    sitk.WriteImage(sitk.GetImageFromArray(blob((5, 7, 9))), str(folder / "v.mhd"))
    (folder / "notes.txt").write_text("hello")
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "self").symlink_to(folder / "self")
    return folder


def look(folder, index=None, **arguments):
    return scan(folder, salt=SALT, progress=False, index=index, **arguments)


def found(result):
    """All that a scan says, but for what it had to open."""
    return {**vars(result), "opened": 0}


def only_headers(index):
    (index / "result.json").unlink()


@pytest.mark.parametrize("forget", [None, only_headers])
def test_a_second_scan_opens_nothing_and_finds_the_same(tree, tmp_path, monkeypatch, forget):
    first = look(tree, tmp_path / "index")
    assert first.opened == 14
    assert {one.reason for one in first.excluded} >= {"empty file", "duplicate of another DICOM file"}
    if forget:
        forget(tmp_path / "index")

    def refuse(*arguments):
        raise AssertionError("a file was opened")

    monkeypatch.setattr(scan_module, "read_header", refuse)
    second = look(tree, tmp_path / "index")
    assert second.opened == 0
    assert found(second) == found(first) == found(look(tree, tmp_path / "index"))


def test_only_what_has_changed_is_opened_again(tree, tmp_path):
    index = tmp_path / "index"
    look(tree, index)
    write_png(tree / "x.png", blob((9, 9), top=255))
    write_png(tree / "y.png", blob((8, 8), top=255))
    (tree / "times.nii.gz").unlink()
    again = look(tree, index)
    assert again.opened == 2
    assert found(again) == found(look(tree))
    assert look(tree, index).opened == 0
    os.rename(tree / "MARKER_FOLDER", tree / "other")
    again = look(tree, index)
    assert again.opened == 4
    assert found(again) == found(look(tree))


def test_a_file_rewritten_in_its_old_size_and_time_is_opened_again(tree, tmp_path):
    index = tmp_path / "index"
    before = (tree / "twin_a").stat()
    look(tree, index)
    content = (tree / "twin_a").read_bytes()
    (tree / "twin_a").write_bytes(content.replace(b"1.2.840.99.4", b"1.2.840.99.5"))
    os.utime(tree / "twin_a", ns=(before.st_atime_ns, before.st_mtime_ns))
    again = look(tree, index)
    assert again.opened == 1
    assert found(again) == found(look(tree))


def test_a_data_folder_may_be_moved(tree, tmp_path):
    index = tmp_path / "index"
    look(tree, index)
    tree.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "self").unlink()
    again = look(tmp_path / "elsewhere", index)
    assert again.opened == 0
    assert found(again) == found(look(tmp_path / "elsewhere"))


def test_a_damaged_index_is_made_anew(tree, tmp_path):
    index = tmp_path / "index"
    first = look(tree, index)
    whole = {name: (index / name).read_bytes() for name in ("result.json", "headers.json")}
    random = np.random.RandomState(0)
    for damage in range(12):
        for name, content in whole.items():
            damaged = bytearray(content)
            place = int(random.randint(len(content)))
            if damage % 3 == 0:
                damaged = damaged[:place]
            else:
                damaged[place] ^= 1 << (damage % 8)
            (index / name).write_bytes(damaged)
        again = look(tree, index)
        assert again.opened == 14
        assert found(again) == found(first)


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"version": 1}', "[" * 100_000])
def test_an_index_that_someone_else_wrote_is_not_used(tree, tmp_path, text):
    import hashlib

    index = tmp_path / "index"
    first = look(tree, index)
    for name in ("result.json", "headers.json"):
        (index / name).write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")
    assert found(look(tree, index)) == found(first)


def test_other_rules_and_another_salt_make_the_index_anew(tree, tmp_path, monkeypatch):
    index = tmp_path / "index"
    look(tree, index)
    assert scan(tree, salt=b"1" * 32, progress=False, index=index).opened == 14
    assert look(tree, index).opened == 14
    write_dicom(tree / "localizer", blob((8, 8)), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    images = len(look(tree, index).images)
    kept = look(tree, index, keep=["localizer"])
    assert (kept.opened, len(kept.images)) == (15, images + 1)
    (tree / "localizer").unlink()
    monkeypatch.setattr(index_module, "RULES", index_module.RULES + 1)
    assert look(tree, index).opened == 14
    assert look(tree, index).opened == 0


def test_the_index_names_no_patient_and_no_uid(tree, tmp_path):
    look(tree, tmp_path / "index")
    for name in ("result.json", "headers.json"):
        content = (tmp_path / "index" / name).read_bytes()
        for secret in (b"QUAXWORT", b"MRN-778811", b"1.2.840.99", b"101523"):
            assert secret not in content
    assert (tmp_path / "index").stat().st_mode & 0o077 == 0


def test_what_may_be_readable_next_time_is_tried_again(tree, tmp_path, monkeypatch):
    index = tmp_path / "index"
    os.rename(tree / "v.raw", tmp_path / "v.raw")

    def refuse(path, *arguments, original=open):
        if str(path).endswith("x.png"):
            raise PermissionError
        return original(path, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", refuse)
        first = look(tree, index)
    reasons = {one.reason for one in first.excluded}
    assert reasons >= {"no permission to read it", "header whose voxels are in a file that is missing"}
    os.rename(tmp_path / "v.raw", tree / "v.raw")
    again = look(tree, index)
    assert again.opened == 3  # the picture, the header and its voxels
    assert found(again) == found(look(tree))


def test_an_interrupted_scan_keeps_what_it_has_read(tree, tmp_path, monkeypatch):
    index = tmp_path / "index"
    monkeypatch.setattr(scan_module, "CHUNK", 4)
    calls = []

    def interrupt(*arguments, original=scan_module.read_header):
        calls.append(arguments)
        if len(calls) > 9:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(scan_module, "read_header", interrupt)
        with pytest.raises(KeyboardInterrupt):
            look(tree, index)
    again = look(tree, index)
    assert again.opened == 14 - 8
    assert found(again) == found(look(tree))


def test_preparing_the_same_data_again_opens_no_header(tree, tmp_path, monkeypatch):
    settings = {"patch_size": 4, "min_foreground": 0.0, "num_workers": 0, "progress": False}
    first = prepare_data(tree, tmp_path / "out", **settings)

    def refuse(*arguments):
        raise AssertionError("a file was opened")

    monkeypatch.setattr(scan_module, "read_header", refuse)
    assert list(prepare_data(tree, tmp_path / "out", **settings).records) == list(first.records)
