# SPDX-License-Identifier: Apache-2.0
"""Scans in which every place for text holds a word that must not turn up again."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from monai_mixssl.data.phantoms import write_phantoms

PATIENT, ROOT, BIRTH, DAY = "ZQX5551237", "1.2.826.0.1.9912377", "19410829", "20190213"
# what stands in headers: names, ids, dates, UIDs, places, free text
TAGS = ("quarzfels", "ottilie", PATIENT, ROOT, BIRTH, DAY, "ACQ90877", "hohenlinden", "zwickmuehle", "geheimnote")
DATES = tuple(f"{d[6:]}{s}{d[4:6]}{s}{d[:4]}" for d in (BIRTH, DAY) for s in ".-/") + tuple(
    f"{d[:4]}-{d[4:6]}-{d[6:]}" for d in (BIRTH, DAY)
)
NUMBER = "9.8765432"  # pydicom writes no word where a number belongs: this one becomes a word in the file
# what stands in the names of files and folders
PATHS = ("ordnerlein", "steinwald", "dateiwort")


def unsalted(*texts: str) -> tuple[str, ...]:
    """What a hash without a salt would make of an id: whoever knows the id recognises it."""
    return tuple(
        getattr(hashlib, kind)(t.encode()).hexdigest()[:12] for t in texts for kind in ("md5", "sha1", "sha256")
    )


def write_scans(folder: Path) -> Path:
    """Below ``folder``: ``scans`` to pretrain on, ``classes`` and ``masked`` to fine-tune on, ``bad`` files alone."""
    plain = write_phantoms(folder / "plain", patients=8, image_size=32, slices=4)
    series = sorted({file.parent for file in plain.rglob("*.dcm")})
    volumes = sorted(plain.rglob("*.nii.gz"))
    scans, classes, masked, bad = (folder / name for name in ("scans", "classes", "masked", "bad"))
    for number, of_patient in enumerate(series):
        target = scans if number < 3 else classes / "alpha"
        for slice_number, file in enumerate(sorted(of_patient.iterdir())):
            place = target / f"Ordnerlein Steinwald {number}" / f"Dateiwort^{slice_number}"
            named_dicom(file, place, number)
    for number, file in enumerate(volumes):
        image = nib.load(file)
        named_nifti(np.asarray(image.dataobj), image.affine, scans / "Ordnerlein nifti" / f"Dateiwort{number}.nii.gz")
    for name in ("alpha", "beta"):
        for number in range(4):
            place = classes / name / "Ordnerlein" / f"Dateiwort {number}.png"
            named_picture(texture(number + 9 * (name == "beta")), place)
    for number in range(5):
        image = texture(number, (32, 32, 4)).astype(np.int16)
        for part, array in (("imagesTr", image), ("labelsTr", (image > 128).astype(np.uint8))):
            named_nifti(array, np.eye(4), masked / part / f"Dateiwort_{number}.nii.gz")
    names = (f"Dateiwort_{number}.nii.gz,labelsTr/Dateiwort_{number}.nii.gz" for number in range(5))
    rows = (f"imagesTr/{name},{PATIENT}{number}" for number, name in enumerate(names, start=40))
    (masked / "labels.csv").write_text("\n".join(["path,label,patient", *rows, f"Dateiwort gone,x,{PATIENT}"]))
    write_bad(series[0], bad / "Ordnerlein bad")
    shutil.copytree(bad / "Ordnerlein bad", scans / "Ordnerlein bad")
    named_itk(texture(5, (4, 40, 40)), scans / "Ordnerlein nrrd" / "Dateiwort.nrrd")
    named_picture(texture(6, (48, 40)), scans / "Ordnerlein pictures" / "Dateiwort.jpg")
    shutil.rmtree(plain)
    return folder


def texture(seed: int, shape: tuple[int, ...] = (40, 40)) -> np.ndarray:
    """A bright ball on black, with noise."""
    grid = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    ball = sum(axis**2 for axis in grid) < 0.8
    return (ball * (100 + 155 * np.random.RandomState(seed).rand(*shape))).astype(np.uint8)


def named_dicom(file: Path, target: Path, patient: int, **more: Any) -> Path:
    """A DICOM file again, with a word wherever a clinic, or a careless export, may write one."""
    settings = pydicom.config.settings
    before = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = pydicom.config.IGNORE
    data = pydicom.dcmread(file)
    own = {
        **dict.fromkeys(("PatientName", "OtherPatientNames", "OperatorsName"), f"Quarzfels^Ottilie{patient}"),
        **dict.fromkeys(("PatientID", "OtherPatientIDs", "StudyID"), f"{PATIENT}{patient}"),
        **dict.fromkeys(("StudyDate", "SeriesDate", "ContentDate", "AcquisitionDate"), DAY),
        **dict.fromkeys(("InstitutionName", "StationName", "InstitutionAddress"), "Hohenlinden"),
        **dict.fromkeys(("StudyDescription", "SeriesDescription", "ProtocolName", "ImageComments"), "Zwickmuehle"),
        **{f"{level}InstanceUID": f"{ROOT}.{patient}.{n}" for n, level in enumerate(("Study", "Series"))},
        "FrameOfReferenceUID": f"{ROOT}.{patient}.2",
        "SOPInstanceUID": f"{ROOT}.{patient}.3.{data.InstanceNumber}",
        "PatientBirthDate": BIRTH,
        "AccessionNumber": "ACQ90877",
        "ImageType": ["ORIGINAL", "PRIMARY", "Zwickmuehle"],
        "BurnedInAnnotation": "no, Zwickmuehle",
        "RescaleType": "Zwickmuehle",
        "PatientPosition": "Zwickmuehle",
        "AcquisitionDateTime": f"{DAY}134455",
        **more,
    }
    for keyword, value in own.items():
        data.pop(keyword, None)  # an element that is there remembers how it was to be validated
        setattr(data, keyword, value)
    nested = Dataset()
    nested.ReferencedSOPInstanceUID, nested.CodeMeaning = f"{ROOT}.9", "Quarzfels"
    data.ReferencedImageSequence = data.RequestAttributesSequence = Sequence([nested])
    data.private_block(0x0029, "GEHEIMNOTE 1", create=True).add_new(0x10, "LO", "Geheimnote Quarzfels")
    data.add_new(0xFFFCFFFC, "OB", b"Geheimnote Quarzfels")
    data.preamble = b"Quarzfels".ljust(128, b"\0")
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.SourceApplicationEntityTitle = "HOHENLINDEN"
    target.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(target)
    target.write_bytes(target.read_bytes().replace(NUMBER.encode(), b"Quarzfels"))
    settings.reading_validation_mode, settings.writing_validation_mode = before
    return target


def named_nifti(array: np.ndarray, affine: np.ndarray, target: Path) -> None:
    """A NIfTI volume with words in its header and an extension."""
    image = nib.Nifti1Image(array, affine)
    image.header["descrip"], image.header["intent_name"] = b"Quarzfels Ottilie", b"Zwickmuehle"
    image.header["aux_file"], image.header["db_name"] = PATIENT.encode(), b"Geheimnote"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Quarzfels " + BIRTH.encode()))
    target.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, target)


def named_picture(array: np.ndarray, target: Path) -> None:
    """A picture with words beside its pixels."""
    info, exif = PngImagePlugin.PngInfo(), Image.Exif()
    info.add_text("Author", "Quarzfels")
    exif[0x010E] = exif[0x9286] = "Quarzfels Zwickmuehle"  # ImageDescription, UserComment
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(target, pnginfo=info, exif=exif, comment=b"Quarzfels")


def named_itk(array: np.ndarray, target: Path) -> None:
    """A NRRD volume with words among its key-value pairs."""
    image = sitk.GetImageFromArray(array)
    image.SetMetaData("patient", f"Quarzfels {PATIENT}")
    target.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(target))


def write_bad(series: Path, target: Path) -> None:
    """Files that cannot be used, each for another reason."""
    file = min(series.iterdir())
    odd = {
        "truncated": {},
        "modality": {"Modality": "QUARZFELS"},
        "report": {"Modality": "SR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"},
        "class": {"SOPClassUID": f"{ROOT}.7"},
        "colours": {"PhotometricInterpretation": "QUARZFELS"},
        "rescale": {"RescaleSlope": NUMBER},
        "position": {"ImagePositionPatient": [NUMBER, "1", "2"]},
    }
    for number, (name, more) in enumerate(odd.items(), start=20):
        named_dicom(file, target / f"Dateiwort {name}.dcm", number, **more)
    with open(target / "Dateiwort truncated.dcm", "r+b") as opened:
        opened.truncate(opened.seek(0, 2) - 1500)
    syntax = named_dicom(file, target / "Dateiwort syntax.dcm", 30)
    changed = syntax.read_bytes().replace(b"1.2.840.10008.1.2.1\0", ROOT.encode() + b"\0", 1)
    syntax.write_bytes(changed)
    (target / "Dateiwort notes.txt").write_text(f"Quarzfels {PATIENT}")
    named_nifti(np.full((40, 40, 3), 7.0, np.float32), np.eye(4), target / "Dateiwort constant.nii")
    (target / "Dateiwort short.nii.gz").write_bytes(gzip.compress(b"Quarzfels" * 40)[:-9])
    (target / "Dateiwort.nhdr").write_text(
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\ndata file: Dateiwort.raw\n"
    )
