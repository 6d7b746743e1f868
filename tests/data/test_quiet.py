# SPDX-License-Identifier: Apache-2.0
"""Values that libraries find odd may name a patient: neither logs nor warnings may quote them."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings

import numpy as np
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tiny_scans import blob, write_dicom, write_nifti

from monai_mixssl.data.quiet import LOGGERS, quiet_libraries
from monai_mixssl.data.read import read_image
from monai_mixssl.data.scan import scan

NAME = "QUAXWORT^JANE"
ODD = {  # values that their VR does not allow, in tags that the scan reads
    "StudyInstanceUID": NAME,
    "ImageType": ["ORIGINAL", "PRIMARY", f"{NAME} {NAME}".lower()],
    "PatientID": f"{NAME} " * 8,
    "BurnedInAnnotation": f"no {NAME}".lower(),
    "SliceThickness": 1.5,
}


@pytest.fixture
def heard(caplog):
    """All that is logged or warned about while every logger may say everything."""
    caplog.set_level(logging.DEBUG)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield lambda: [*caplog.messages, *(str(one.message) for one in warned)]
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@contextlib.contextmanager
def writing_anything():
    settings = pydicom.config.settings
    before = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        yield
    finally:
        settings.reading_validation_mode, settings.writing_validation_mode = before


def odd_scans(folder):
    with writing_anything():
        write_dicom(folder / "dicom", blob((20, 20)), **ODD)
    odd = write_nifti(folder / "odd.nii", blob((8, 8, 8)))
    content = bytearray(odd.read_bytes())
    content[252:254] = (99).to_bytes(2, "little")  # qform code
    content[76:80] = np.float32(7).tobytes()  # qfac must be 1 or -1
    odd.write_bytes(content)
    info = PngInfo()
    info.add_text("Author", NAME)
    Image.fromarray(blob((20, 20), top=255).astype(np.uint8)).save(folder / "x.png", pnginfo=info)


def test_a_scan_quotes_no_value_in_logs_or_warnings(tmp_path, heard, capfd):
    odd_scans(tmp_path)
    result = scan(tmp_path, salt=b"0", progress=False)
    assert sorted(image.kind for image in result.images) == ["dicom", "image", "nifti"]
    for image in result.images:
        read_image(image)
    assert heard() == []
    assert capfd.readouterr() == ("", "")


def test_the_same_files_make_the_libraries_talk_otherwise(tmp_path, heard):
    odd_scans(tmp_path)
    dataset = pydicom.dcmread(tmp_path / "dicom")
    for keyword in ODD:
        dataset.get(keyword)
    assert any(NAME in message for message in heard())


def test_reading_leaves_what_the_user_has_set(tmp_path):
    odd_scans(tmp_path)
    before = [*warnings.filters], [logging.getLogger(name).level for name in LOGGERS]
    scan(tmp_path, salt=b"0", progress=False)
    assert ([*warnings.filters], [logging.getLogger(name).level for name in LOGGERS]) == before


def test_overlapping_threads_stay_mute_until_the_last_is_out():
    logger = logging.getLogger("pydicom")
    before = logger.level
    inside, leave = threading.Event(), threading.Event()

    @quiet_libraries()
    def other():
        inside.set()
        leave.wait(10)

    thread = threading.Thread(target=other)
    with quiet_libraries():
        thread.start()
        assert inside.wait(10)
    assert not logger.isEnabledFor(logging.CRITICAL)
    leave.set()
    thread.join()
    assert logger.level == before
