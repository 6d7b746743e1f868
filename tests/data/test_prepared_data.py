# SPDX-License-Identifier: Apache-2.0
"""From a folder to data for training: what is prepared, kept, re-used, resumed, and kept private."""

from __future__ import annotations

import csv
import errno
import gzip
import inspect
import json
import shutil
import stat
from collections import namedtuple
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_scans import blob, write_dicom, write_nifti, write_png, write_series

from monai_mixssl.data.foreground_crop import RandForegroundCropd
from monai_mixssl.data.manifest import load_prepared
from monai_mixssl.data.picture_file import read_picture, read_picture_size
from monai_mixssl.data.prepared_data import prepare_data
from monai_mixssl.data.prepared_transforms import LoadPreparedd
from monai_mixssl.data.settings import PrepareSettings
from monai_mixssl.errors import ConfigError, DataError, RunFolderError

QUIET = {"progress": False, "num_workers": 0, "patch_size": 16}


@pytest.fixture
def scans(tmp_path):
    """Three NIfTI volumes, a DICOM series, three pictures."""
    folder = tmp_path / "scans"
    for number in range(3):
        write_nifti(folder / f"{number}.nii.gz", blob((20, 22, 24), seed=number))
        write_png(folder / f"{number}.png", blob((20, 24), seed=number, top=250))
    write_series(folder / "series", blob((18, 20, 22)), step=1.5)
    return folder


def reasons(data):
    return sorted(one.reason for one in data.excluded)


def first_image(data):
    return LoadPreparedd("image", data.folder)((data.train + data.validation)[0])["image"]


def test_in_2d_volumes_give_slices_and_pictures_stay(scans, tmp_path):
    data = prepare_data(scans, tmp_path / "run", **QUIET)
    assert sorted(record["kind"] for record in data.records.values()) == ["dicom"] + 3 * ["image"] + 3 * ["nifti"]
    items = data.train + data.validation
    assert len(items) == sum(record["shape"][0] for record in data.records.values()) > 50
    load = LoadPreparedd("image", data.folder)
    for item in items:
        image = load(item)["image"]
        assert image.ndim == 3
        assert image.shape[0] == 1
        assert 0 <= image.min() < image.max() <= 1
        assert image.meta["id"] == item["image"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_stands_upright_as_its_exif_says(tmp_path, orientation):
    upright = np.zeros((40, 64), np.uint8)
    upright[:20, :16] = 250  # the corner at the top left
    # how a camera has stored it: the transposition that undoes the one that the tag asks for
    undo = {2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM, 5: Image.TRANSPOSE,
            6: Image.ROTATE_90, 7: Image.TRANSVERSE, 8: Image.ROTATE_270}  # fmt: skip
    stored = Image.fromarray(upright)
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photograph.jpg", quality=95, exif=exif)
    assert read_picture_size(tmp_path / "photograph.jpg") == ((64, 40), 1)
    read = read_picture(tmp_path / "photograph.jpg").array[0].T
    assert read.shape == (40, 64)
    assert np.abs(read.astype(int) - upright).mean() < 3


def test_in_3d_pictures_are_left_out(scans, tmp_path):
    data = prepare_data(scans, tmp_path / "run", spatial_dims=3, **QUIET)
    assert len(data.train) + len(data.validation) == 4
    assert reasons(data) == ["a single image, and spatial_dims is 3"] * 3
    ball = np.nonzero(blob((20, 22, 24)))
    assert first_image(data).shape == (1, *(np.ptp(axis) + 1 for axis in ball))  # cropped to the foreground


def test_the_result_does_not_depend_on_the_number_of_workers(scans, tmp_path):
    runs = [prepare_data(scans, tmp_path / f"run{n}", **{**QUIET, "num_workers": n}) for n in (0, 2)]
    for first, second in zip(*(run.records.items() for run in runs), strict=True):
        assert [first[1][key] for key in ("shape", "split")] == [second[1][key] for key in ("shape", "split")]
        assert np.array_equal(
            *(np.load(run.folder / f"{one[0]}.npy") for run, one in zip(runs, (first, second), strict=True))
        )


def test_the_same_anatomy_as_dicom_and_nifti_is_prepared_the_same(tmp_path):
    volume = blob((17, 20, 22))
    files = write_series(tmp_path / "scans" / "dicom", volume, step=3.0, PatientID="a")
    affine = np.array([[-1.5, 0, 0, 0], [0, -2.0, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 1]])
    write_nifti(tmp_path / "scans" / "x.nii", volume.transpose(2, 1, 0), affine)
    assert len(files) == 17
    data = prepare_data(tmp_path / "scans", tmp_path / "run", spatial_dims=3, **QUIET)
    first, second = (np.load(data.folder / f"{one}.npy") for one in data.records)
    assert np.array_equal(first, second)
    affines = [record["affine"] for record in data.records.values()]
    assert np.allclose(*affines)


def test_axial_slices_stand_upright_with_the_front_on_top(tmp_path):
    volume = np.zeros((20, 20, 20), dtype=np.int16)  # RAS+
    volume[2:18, 2:18, 2:18] = 100
    volume[12:16, 14:18, :] *= 5  # right and in front
    for number in range(2):
        write_nifti(tmp_path / "scans" / f"{number}.nii", volume + np.int16(volume > 0) * number)
    data = prepare_data(tmp_path / "scans", tmp_path / "run", **QUIET)
    image = first_image(data)[0].numpy()
    rows, columns = np.nonzero(image > 0.9)
    assert rows.max() < image.shape[0] / 2  # front: top
    assert columns.max() < image.shape[1] / 2  # the patient's right: left


def test_pictures_keep_rows_and_columns(tmp_path):
    picture = np.zeros((20, 40))
    picture[2, 30] = 200
    picture[3:18, 5:35] += 50
    for name in "ab":
        write_png(tmp_path / "scans" / f"{name}.png", picture)
    data = prepare_data(tmp_path / "scans", tmp_path / "run", **QUIET)
    image = first_image(data)[0].numpy()
    assert image.shape[0] < image.shape[1]
    assert np.unravel_index(image.argmax(), image.shape) == (0, 25)  # cropped to rows from 2 and columns from 5


def test_colour_becomes_luminance_or_stays(tmp_path):
    picture = np.random.RandomState(0).randint(0, 256, (20, 24, 3))
    for name in "ab":
        write_png(tmp_path / "scans" / f"{name}.png", picture)
    grey = prepare_data(tmp_path / "scans", tmp_path / "grey", **QUIET)
    colour = prepare_data(tmp_path / "scans", tmp_path / "colour", in_channels=3, **QUIET)
    luminance = picture @ [0.299, 0.587, 0.114]
    low, high = np.percentile(luminance, (0.5, 99.5))
    assert np.allclose(first_image(grey)[0], ((luminance - low) / (high - low)).clip(0, 1), atol=1e-3)
    low, high = np.percentile(picture, (0.5, 99.5))
    expected = ((picture - low) / (high - low)).clip(0, 1).transpose(2, 0, 1)
    assert np.allclose(first_image(colour), expected, atol=1e-3)


def test_images_are_resampled_to_the_spacing_that_is_wanted(tmp_path):
    for number in range(2):
        array = blob((40, 30, 20), seed=number)
        array[0, 0, 0] = array[-1, -1, -1] = 1000  # nothing to crop
        array[::2, ::2, ::2] += 500
        write_nifti(tmp_path / "scans" / f"{number}.nii", array, np.diag([1, 2, 3, 1]))
    data = prepare_data(tmp_path / "scans", tmp_path / "d3", spatial_dims=3, spacing=(2, 2, 2), **QUIET)
    assert first_image(data).shape[1:] == pytest.approx((20, 30, 30), abs=1)
    assert first_image(data).meta["spacing"] == [2, 2, 2]
    data = prepare_data(tmp_path / "scans", tmp_path / "d2", spacing=1, **QUIET)  # rows are y, columns x
    assert first_image(data).shape[1:] == pytest.approx((60, 40), abs=1)


def test_noise_named_as_images_counts_towards_max_bad_share_and_noise_of_no_name_does_not(scans, tmp_path):
    for number in range(30):
        (scans / f"Doe{number}").write_bytes(np.random.RandomState(number).bytes(2000))
    assert len(prepare_data(scans, tmp_path / "a", max_bad_share=0, **QUIET).records) == 7
    for number in range(30):
        (scans / f"Doe{number}").rename(scans / f"Doe{number}.dcm")
    files = 30 + sum(not path.name.startswith("Doe") for path in scans.rglob("*") if path.is_file())
    said = rf"30 of {files} files that should be images .*mostly: damaged: content is not what the name says"
    with pytest.raises(DataError, match=said) as error:
        prepare_data(scans, tmp_path / "b", max_bad_share=0.5, **QUIET)
    assert "Doe" not in str(error.value)


def test_unusable_images_are_left_out_with_their_reason(scans, tmp_path):
    write_png(scans / "constant.png", np.full((20, 20), 7))
    write_png(scans / "tiny.png", blob((7, 20), top=250))
    write_png(scans / "dark.png", np.pad(np.full((2, 2), 200), 60))
    spoiled = blob((20, 20, 20)).astype(np.float32)
    spoiled[3, 3, 3] = np.nan
    write_nifti(scans / "nan.nii", spoiled)
    whole = gzip.compress((scans / "nan.nii").read_bytes())
    (scans / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    write_dicom(scans / "no_pixels", blob((20, 20)), PixelData=None)
    data = prepare_data(scans, tmp_path / "run", **QUIET)
    assert len(data.records) == 7
    assert reasons(data) == [
        "NaN or infinite values", "constant image", "smaller than the patch by more than max_pad_factor",
        "too little foreground", "truncated file", "voxels cannot be read",
    ]  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "run" / "excluded.jsonl").read_text().splitlines()]
    assert sorted(line["reason"] for line in lines) == reasons(data)
    table = (tmp_path / "run" / "private" / "files.csv").read_text()
    assert all(line["id"] in table for line in lines)
    uses = {row["id"]: row["use"] for row in csv.DictReader(table.splitlines())}
    assert {uses[line["id"]] for line in lines} == {"left out"}
    assert {uses[one] for one in data.records} == {"image"}


def test_what_is_prepared_is_used_again(scans, tmp_path, monkeypatch):
    first = prepare_data(scans, tmp_path / "run", **QUIET)
    monkeypatch.setattr("monai_mixssl.data.prepare.read_image", lambda *_: pytest.fail("read again"))
    assert prepare_data(scans, tmp_path / "run", **QUIET).records == first.records


def test_a_changed_file_or_setting_is_prepared_again(scans, tmp_path):
    before = prepare_data(scans, tmp_path / "run", **QUIET)
    write_png(scans / "0.png", 250 - blob((20, 24), seed=9, top=250))
    after = prepare_data(scans, tmp_path / "run", **QUIET)
    changed = [one for one in before.records if before.records[one] != after.records[one]]
    assert [before.records[one]["kind"] for one in changed] == ["image"]
    assert prepare_data(scans, tmp_path / "run", in_channels=3, **QUIET).records[changed[0]]["shape"][1] == 3


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error")])
def test_what_could_not_be_read_for_the_moment_is_read_by_the_next_command(scans, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("monai_mixssl.data.prepare.read_image", fail)
        with pytest.raises(DataError):
            prepare_data(scans, tmp_path / "run", **QUIET)
    data = prepare_data(scans, tmp_path / "run", **QUIET)
    assert reasons(data) == []
    assert len(data.records) == 7


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error")])
def test_so_is_what_failed_within_a_library_that_reads(scans, tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("PIL.ImageFile.ImageFile.load", fail)
        patch.setattr("nibabel.dataobj_images.DataobjImage.get_fdata", fail)
        patch.setattr("nibabel.arrayproxy.ArrayProxy.__array__", fail)
        patch.setattr("nibabel.arrayproxy.ArrayProxy._get_scaled", fail)
        patch.setattr("nibabel.arrayproxy.ArrayProxy.get_unscaled", fail)
        try:
            first = reasons(prepare_data(scans, tmp_path / "run", max_bad_share=1.0, **QUIET))
        except DataError:
            first = ["all"]
    assert first
    data = prepare_data(scans, tmp_path / "run", **QUIET)
    assert reasons(data) == []
    assert len(data.records) == 7


def test_an_interrupted_preparation_goes_on(scans, tmp_path, monkeypatch):
    import monai_mixssl.data.prepare as prepare

    calls = []

    def interrupted(image, geometry, read=prepare.read_image):
        calls.append(image.id)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return read(image, geometry)

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "read_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_data(scans, tmp_path / "run", **QUIET)
        assert not (tmp_path / "run" / "manifest.json").exists()
        resumed = prepare_data(scans, tmp_path / "run", resume=True, **QUIET)
    assert len(calls) == 3 + 1 + 4  # three done, one interrupted, the remaining four
    assert len(resumed.records) == 7


def test_a_resumed_run_keeps_its_manifest_when_the_data_change(scans, tmp_path):
    before = prepare_data(scans, tmp_path / "run", **QUIET)
    write_png(scans / "new.png", blob((20, 24), top=250))
    (scans / "1.png").unlink()
    after = prepare_data(scans, tmp_path / "run", resume=True, **QUIET)
    assert after == before
    assert after.train == before.train
    assert after.data_hash == before.data_hash
    assert load_prepared(tmp_path / "run") == before


def test_deleted_arrays_are_made_again_on_resume_or_named(scans, tmp_path):
    before = prepare_data(scans, tmp_path / "run", **QUIET)
    shutil.rmtree(before.folder)
    assert prepare_data(scans, tmp_path / "run", resume=True, **QUIET) == before
    shutil.rmtree(before.folder)
    shutil.rmtree(scans)
    with pytest.raises(RunFolderError, match="7 prepared images of this run are gone"):
        prepare_data(scans, tmp_path / "run", resume=True, **QUIET)


def test_resuming_with_other_settings_is_refused(scans, tmp_path):
    prepare_data(scans, tmp_path / "run", **QUIET)
    with pytest.raises(RunFolderError, match="another patch_size, max_pad_factor;"):
        prepare_data(scans, tmp_path / "run", resume=True, **{**QUIET, "patch_size": 8, "max_pad": 3})


def test_the_output_folder_within_the_data_is_not_scanned(scans):
    before = prepare_data(scans, scans / "run", **QUIET)
    write_png(scans / "run" / "pictures" / "x.png", blob((20, 24), top=250))
    assert prepare_data(scans, scans / "run", **QUIET).records.keys() == before.records.keys()


def test_nothing_usable_is_an_error_that_leaves_the_list(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "x.txt").write_text("x")
    with pytest.raises(DataError, match="Nothing usable"):
        prepare_data(tmp_path / "scans", tmp_path / "run", **QUIET)
    assert (tmp_path / "run" / "excluded.jsonl").read_text().count("\n") == 1


def test_images_that_do_not_fit_the_keys_are_an_error_that_says_why(tmp_path):
    write_nifti(tmp_path / "x.nii", blob((20, 20, 20)))
    write_png(tmp_path / "y.png", blob((20, 20)))
    reason = "smaller than the patch by more than max_pad_factor"
    with pytest.raises(DataError, match=f"None of the 2 .*\\({reason}: 2\\); give other images, or keys that fit"):
        prepare_data(tmp_path, tmp_path / "run", **{**QUIET, "patch_size": 64})
    with pytest.raises(DataError) as caught:
        prepare_data(tmp_path, tmp_path / "run3", spatial_dims=3, **{**QUIET, "patch_size": 64})
    assert f"{reason}: 1" in str(caught.value)
    assert "a single image, and spatial_dims is 3: 1" in str(caught.value)


def test_a_misspelt_folder_leaves_nothing_behind(tmp_path):
    with pytest.raises(DataError, match="dataset_dir"):
        prepare_data(tmp_path / "scan", tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists()


def test_one_volume_cannot_be_split_but_can_be_embedded(tmp_path):
    write_nifti(tmp_path / "x.nii", blob((20, 20, 20)))
    with pytest.raises(DataError, match="training and validation need one each"):
        prepare_data(tmp_path / "x.nii", tmp_path / "run", **QUIET)
    data = prepare_data(tmp_path / "x.nii", tmp_path / "run", val_fraction=None, **QUIET)
    assert data.validation == []
    assert len(data.train) > 10


@pytest.mark.parametrize(
    "bad",
    [{"spatial_dims": 4}, {"in_channels": 2}, {"patch_size": 0}, {"patch_size": (8, 8, 8)}, {"spacing": -1},
     {"normalization": "z"}, {"min_foreground": 2}, {"max_pad": 0.5}, {"val_fraction": 1.5}],
)  # fmt: skip
def test_settings_out_of_range_are_named(scans, tmp_path, bad):
    name = next(iter(bad))  # by the key of the configuration
    with pytest.raises(ConfigError, match=f"^{'max_pad_factor' if name == 'max_pad' else name} is"):
        prepare_data(scans, tmp_path / "run", **{**QUIET, **bad})


def test_the_defaults_are_those_of_the_bundle():
    bundle = Path(__file__).parents[2] / "bundles" / "mixssl_pretraining" / "configs" / "train.json"
    config = json.loads(bundle.read_text())
    crop = inspect.signature(RandForegroundCropd).parameters["min_foreground"].default
    call = inspect.signature(prepare_data).parameters
    assert PrepareSettings().min_foreground == crop == config["min_foreground"]
    names = {"max_pad": "max_pad_factor"}
    for name in asdict(PrepareSettings()):
        assert call[name].default == getattr(PrepareSettings(), name) or name == "patch_size"
        assert call[name].default == config[names.get(name, name)]


def test_too_small_a_disk_is_refused_before_any_work(scans, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10, 10, 1000)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    monkeypatch.setattr("monai_mixssl.data.prepare.read_image", lambda *_: pytest.fail("work was done"))
    with pytest.raises(RunFolderError, match=r"has 0\.0 GB free"):
        prepare_data(scans, tmp_path / "run", **QUIET)


def test_what_is_prepared_already_needs_no_room(scans, tmp_path, monkeypatch):
    first = prepare_data(scans, tmp_path / "run", **QUIET)
    (tmp_path / "run" / "manifest.json").unlink()  # killed just before the end
    spare = 200 * 2**20
    values = 20 * 22 * 24
    free = namedtuple("usage", "total used free")(10, 10, spare + 2 * values + 4096 - 1)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: free)
    assert prepare_data(scans, tmp_path / "run", resume=True, **QUIET).records == first.records
    (tmp_path / "run" / "manifest.json").unlink()
    volume = next(one for one, record in first.records.items() if record["kind"] == "nifti")
    (first.folder / f"{volume}.npy").unlink()  # one byte too little for that one
    with pytest.raises(RunFolderError, match=r"has 0\.2 GB free"):
        prepare_data(scans, tmp_path / "run", resume=True, **QUIET)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_disk_that_fills_up_is_one_sentence(scans, tmp_path, monkeypatch, num_workers):
    def full(file, array):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(RunFolderError, match=r"^The disk of output_dir is full[^\n]*--resume True\.$"):
        prepare_data(scans, tmp_path / "run", **{**QUIET, "num_workers": num_workers})
    assert not list((tmp_path / "run").rglob("*.part"))


def test_nothing_that_identifies_leaves_private(tmp_path, capfd):
    sentinel = "SENTINEL"
    folder = tmp_path / "scans" / f"{sentinel}^folder"
    numbers = "987654321"
    tags = {
        "PatientName": f"{sentinel}^Name", "PatientID": f"{sentinel}-id", "PatientBirthDate": "19870605",
        "StudyInstanceUID": f"1.2.{numbers}.1", "SeriesInstanceUID": f"1.2.{numbers}.2", "AccessionNumber": sentinel,
        "InstitutionName": sentinel, "SeriesDescription": sentinel,
    }  # fmt: skip
    write_series(folder, blob((18, 20, 22)), **tags)
    write_series(folder / "second", blob((18, 20, 22), seed=1), **{**tags, "SeriesInstanceUID": f"1.2.{numbers}.3"})
    write_dicom(folder / f"{sentinel}.dcm", blob((20, 20)), **tags, PixelData=None)
    write_png(folder / f"{sentinel}.png", np.zeros((20, 20)))
    (folder / f"{sentinel}.txt").write_text("x")
    report = []
    data = prepare_data(
        tmp_path / "scans", tmp_path / "run", patch_size=16, num_workers=2, report=report.append, progress=True
    )
    images = [LoadPreparedd("image", data.folder)(item)["image"] for item in data.train]
    said = capfd.readouterr()
    texts = [said.out, said.err, *report, data.summary, *(str(image.meta) for image in images)]
    public = [path for path in (tmp_path / "run").rglob("*") if path.is_file() and "private" not in path.parts]
    assert {path.name for path in public} == {"manifest.json", "excluded.jsonl"}
    texts += [path.read_text() for path in public] + [str(path.relative_to(tmp_path)) for path in public]
    for word in (sentinel, numbers, "19870605"):
        assert not [text for text in texts if word in text]
    # within private/, names and ids do not stand either, but for paths
    for path in (tmp_path / "run" / "private").rglob("*"):
        if path.is_file():
            assert f"{sentinel}-id".encode() not in path.read_bytes()
            assert numbers.encode() not in path.read_bytes()
    assert len({record["group"] for record in data.records.values()}) == 1
    assert data.split_by == "series"
    mode = stat.S_IMODE((tmp_path / "run" / "private").stat().st_mode)
    assert mode == 0o700
