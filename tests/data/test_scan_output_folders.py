# SPDX-License-Identifier: Apache-2.0
"""What this package has written is no data: output folders that lie among the scans are left out, each once."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from tiny_scans import blob, write_nifti, write_png

from monai_mixssl.__main__ import main
from monai_mixssl.compare import Plan, parse_amounts
from monai_mixssl.compare.records import Records
from monai_mixssl.data.damage import is_damage
from monai_mixssl.data.labels import read_labels
from monai_mixssl.data.prepared_data import prepare_data
from monai_mixssl.data.private_folder import PrivateFolder
from monai_mixssl.data.scan import scan
from monai_mixssl.output_folder import is_output_folder
from monai_mixssl.sources import FolderImages

REASON = "output folder of an earlier run"


@pytest.fixture
def data(tmp_path):
    """A folder of two scans, with room for what runs leave in it."""
    write_nifti(tmp_path / "data" / "v.nii.gz", blob((16, 16, 8)))
    write_png(tmp_path / "data" / "later" / "x.png", blob((16, 16), top=255))
    return tmp_path / "data"


def look(folder, index=None):
    return scan(folder, salt=b"0" * 32, progress=False, index=index)


def files(result):
    return {os.path.basename(part.path) for image in result.images for part in image.parts}


def reasons(result):
    return [one.reason for one in result.excluded]


def run(folder, elsewhere=None):
    """As `RunFolder` begins one; that every kind of run is recognised is tested where runs are."""
    PrivateFolder(folder).salt()
    state = {"format": 1, "kind": "pretraining", "status": "running"}
    (folder / "run.json").write_text(json.dumps(state, indent=2))
    write_png(folder / "pictures" / "examples.png", blob((32, 32), top=255))


def shared_run(folder, elsewhere=None):
    run(folder)
    shutil.rmtree(folder / "private")  # as it is given to others


def doctor(folder, elsewhere=None):
    scans = elsewhere / "others"
    write_nifti(scans / "w.nii.gz", blob((16, 16, 8)))
    main(["doctor", str(scans), "--output_dir", str(folder)])


def prepared(folder, elsewhere=None):
    scans = elsewhere / "others"
    for number in range(3):
        write_nifti(scans / f"{number}.nii.gz", blob((40, 40, 8), seed=number))
    prepare_data(scans, folder, patch_size=16, progress=False, num_workers=0)
    write_png(folder / "pictures" / "of_mine.png", blob((16, 16), top=255))


def comparison(folder, elsewhere=None):
    encoder = elsewhere / "encoder.safetensors"
    encoder.write_bytes(b"weights")
    records = Records(folder, Plan("classification", [str(encoder)], parse_amounts("all"), seeds=1))
    write_png(folder / "comparison.png", blob((32, 32), top=255))
    run(records.path / "runs" / "scratch_all_0")


@pytest.mark.parametrize("made", [run, shared_run, doctor, prepared, comparison])
def test_an_output_folder_among_the_scans_is_left_out_and_listed_once(data, tmp_path, made):
    made(data / "results" / "first", tmp_path)
    result = look(data)
    assert files(result) == {"v.nii.gz", "x.png"}
    assert reasons(result) == [REASON]
    assert [path for _, path in result.excluded_files] == [str(data / "results" / "first")]
    assert not is_damage(REASON)


def test_the_second_of_two_runs_does_not_train_on_the_pictures_of_the_first(data):
    for name in ("first", "second"):
        prepare_data(data, data / name, patch_size=16, progress=False, num_workers=0)
        write_png(data / name / "pictures" / "examples.png", blob((32, 32), top=255))
    listed = [json.loads(line) for line in (data / "second" / "excluded.jsonl").read_text().splitlines()]
    assert [one["reason"] for one in listed] == [REASON]  # the first: its own folder is nothing that is left out
    assert "examples.png" not in (data / "second" / "private" / "files.csv").read_text()


def test_a_run_that_begins_between_two_scans_is_left_out_in_spite_of_the_index(data, tmp_path):
    write_png(data / "late" / "pictures" / "examples.png", blob((32, 32), top=255))
    assert files(look(data, tmp_path / "index")) == {"v.nii.gz", "x.png", "examples.png"}
    run(data / "late")
    for _ in range(2):  # found anew, then from the index
        result = look(data, tmp_path / "index")
        assert files(result) == {"v.nii.gz", "x.png"}
        assert reasons(result) == [REASON]
        assert result.opened == 0


def test_a_link_to_an_output_folder_is_not_followed_into_it(data, tmp_path):
    run(tmp_path / "elsewhere")
    (data / "link").symlink_to(tmp_path / "elsewhere")
    assert files(look(data)) == {"v.nii.gz", "x.png"}
    assert reasons(look(data)) == [REASON]


def test_a_folder_or_file_of_a_run_that_is_named_itself_is_taken(data, tmp_path):
    run(data / "first")
    assert files(look(data / "first" / "pictures")) == {"examples.png"}
    assert files(look(data / "first" / "pictures" / "examples.png")) == {"examples.png"}
    assert reasons(look(data / "first")) == [REASON]  # the output folder as a whole is no data


@pytest.mark.parametrize(
    "names",
    [
        {"run.json": '{"run": 3, "scanner": "A"}', "private/notes.txt": "mine"},
        {"run.json": "[1, 2]"},
        {"run.json": "\u007b" * 100_000},
        {"run.json/a.txt": "a folder", "private": "a file"},
        {"private/salt": "a file of mine"},
        {"private/prepared/a.txt": "mine", "excluded.jsonl": ""},
    ],
)
def test_folders_of_the_user_that_only_sound_alike_are_entered(data, names):
    for name, text in names.items():
        (data / "later" / name).parent.mkdir(parents=True, exist_ok=True)
        (data / "later" / name).write_text(text)
    assert files(look(data)) == {"v.nii.gz", "x.png"}
    assert REASON not in reasons(look(data))


def test_the_private_folder_of_somebody_else_is_recognised_without_looking_into_it(data, tmp_path, monkeypatch):
    doctor(data / "looked", tmp_path)
    (data / "looked" / "private" / "salt").unlink()
    assert not is_output_folder(data / "looked")

    def refuse(path):
        raise PermissionError

    monkeypatch.setattr("monai_mixssl.output_folder.os.listdir", refuse)
    assert is_output_folder(data / "looked")
    assert not is_output_folder(data / "later")


def test_an_output_folder_beside_folders_of_classes_is_no_class(tmp_path):
    for name in ("a", "b"):
        write_png(tmp_path / name / "x.png", blob((16, 16), top=255))
    run(tmp_path / "earlier")
    assert read_labels(tmp_path, "classification").classes == ["a", "b"]


def test_pictures_of_a_run_are_no_second_domain(tmp_path):
    write_png(tmp_path / "photos" / "x.png", blob((16, 16), top=255))
    run(tmp_path / "photos" / "earlier")
    assert len(FolderImages(tmp_path / "photos")) == 1
