# SPDX-License-Identifier: Apache-2.0
"""Scans full of names, ids, dates and UIDs that must not turn up again, and a search for them."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image

from monai_mixssl.data.phantoms import write_phantoms

# case does not matter; the last two are in folder and file names
SENTINELS = re.compile(rb"quaxwort|zvpid|19330717|1\.2\.840\.99977|klbinst|mrnfolder|mrnfile", re.IGNORECASE)

LEFT_OUT = {  # what the file's name holds, and the reason that must be given
    "garbage": "not a DICOM, NIfTI, NRRD, MetaImage, PNG or JPEG file",
    "constant": "constant image",
    "tiny": "smaller than the patch by more than max_pad_factor",
    "truncated": "truncated file",
}


def write_named_scans(folder: Path, patients: int = 6, slices: int = 4) -> Path:
    """``folder`` with ``dicom/`` and ``nifti/``: phantoms under telling names, and one file of each of ``LEFT_OUT``."""
    plain = write_phantoms(folder.with_name(f"{folder.name}_plain"), patients=patients, image_size=32, slices=slices)
    for number, file in enumerate(sorted(plain.rglob("*.dcm"))):
        patient = file.parent.name[-4:]
        rewrite(file, folder / "dicom" / f"MRNFOLDER{patient} Quaxwort" / f"MRNFILE{number:03d}", patient)
    for file in sorted(plain.rglob("*.nii.gz")):
        image = nib.load(file)
        image.header["descrip"] = b"Quaxwort ZVPID"
        target = folder / "nifti" / f"MRNFOLDER_{file.name[:-7]}" / "MRNFILE.nii.gz"
        target.parent.mkdir(parents=True)
        nib.save(image, target)
    odd = folder / "nifti" / "MRNFOLDER odd"
    odd.mkdir()
    (odd / "MRNFILE garbage").write_text("Quaxwort")
    nib.save(nib.Nifti1Image(np.full((40, 40, 3), 7.0, np.float32), np.eye(4)), odd / "MRNFILE_constant.nii")
    ramp = np.arange(100, dtype=np.uint8).reshape(10, 10)
    Image.fromarray(ramp).save(odd / "MRNFILE_tiny.png", pnginfo=_named_png())
    broken = rewrite(next(plain.rglob("*.dcm")), odd / "MRNFILE_truncated", "9999")
    broken.write_bytes(broken.read_bytes()[:-1500])
    return folder


def _named_png() -> object:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Author", "Quaxwort")
    return info


def rewrite(file: Path, target: Path, patient: str) -> Path:
    """A DICOM file again, as if it came from a clinic."""
    dataset = pydicom.dcmread(file)
    dataset.PatientName, dataset.PatientID = f"Quaxwort^Jane{patient}", f"ZVPID{patient}"
    dataset.PatientBirthDate, dataset.InstitutionName = "19330717", "KLBINST"
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(dataset, name, f"1.2.840.99977.{int(patient)}.{dataset[name].value[-20:].lstrip('.0')}")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    # what a careless export writes: names where the VR does not allow them, which libraries quote in their warnings
    settings = pydicom.config.settings
    before = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = pydicom.config.IGNORE
    odd = {
        "StudyInstanceUID": f"QUAXWORT^JANE{patient}",
        "BurnedInAnnotation": "no quaxwort",
        "ImageType": ["ORIGINAL", "PRIMARY", f"Quaxwort^Jane{patient}"],
        "PatientID": f"ZVPID{patient} " * 12,  # longer than the 64 that are allowed
    }
    for keyword, value in odd.items():
        dataset.pop(keyword, None)  # an element that is there remembers how it was to be validated
        setattr(dataset, keyword, value)
    target.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(target)
    settings.reading_validation_mode, settings.writing_validation_mode = before
    return target


def leaks(folder: Path, more: bytes = b"") -> list[str]:
    """Where something of ``SENTINELS``, or ``more``, stands in the output folder: names, bytes, zip members, PNG texts.

    ``private/`` is left out: it is the one place for it.
    """
    found = []

    def look(where: str, content: bytes) -> None:
        match = SENTINELS.search(content)
        if match or (more and more in content):
            found.append(f"{where}: {match[0] if match else more!r}")

    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.split("/")[0] == "private":
            continue
        look(f"name of {name}", name.encode())
        if not path.is_file():
            continue
        look(name, path.read_bytes())
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    look(f"{name}:{member}", member.encode() + archive.read(member))
        if path.suffix == ".png":
            with Image.open(path) as picture:
                look(f"text of {name}", repr(picture.info).encode())
    return found
