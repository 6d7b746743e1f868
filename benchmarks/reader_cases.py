# SPDX-License-Identifier: Apache-2.0
"""The cases of `readers.py`: each writes small files, and says what a reader should make of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "data"))
sys.path.insert(0, str(Path(__file__).parent))
import reader_nifti
from reader_case import Case
from reader_nifti import STEPS, VOLUME, XYZ, content, nifti
from tiny_scans import blob, write_dicom, write_enhanced, write_mosaic, write_png, write_series

__all__ = ["BAD", "GOOD", "Case"]

AXIAL = [1, 0, 0, 0, 1, 0]
PLANE = VOLUME[2]


def series(**arguments: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_series(folder / "case", VOLUME, **{"order": [3, 0, 5, 1, 4, 2], **arguments})
        return folder / "case"

    return write


def slices(
    places: Any, each: Callable[[int], dict[str, Any]] = lambda number: {}, names: Any = range(6), **tags: Any
) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for number, place in enumerate(places):
            write_dicom(
                folder / "case" / f"{names[number]}.dcm", VOLUME[number], ImageOrientationPatient=AXIAL,
                ImagePositionPatient=[float(one) for one in place],
                **{"PixelSpacing": [2.0, 1.5], "InstanceNumber": number + 1, **tags, **each(number)},
            )  # fmt: skip
        return folder / "case"

    return write


def mosaic(**arguments: Any) -> Callable[[Path], Path]:
    return lambda folder: write_mosaic(folder / "case.dcm", VOLUME, **arguments)


def single(pixels: np.ndarray = PLANE, name: str = "case.dcm", **tags: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        place = {"ImageOrientationPatient": AXIAL, "ImagePositionPatient": [0, 0, 0], "PixelSpacing": [2.0, 1.5]}
        return write_dicom(folder / name, pixels, **{**place, "InstanceNumber": 1, **tags})

    return write


def two_series(folder: Path) -> Path:
    write_series(folder / "case", VOLUME)
    for path in write_series(folder, blob((6, 12, 10), seed=1), SeriesInstanceUID="1.9"):
        path.rename(folder / "case" / f"b{path.name}")
    return folder / "case"


def time_points(folder: Path) -> Path:
    for time in range(2):
        for path in write_series(folder, blob((6, 12, 10), seed=time), AcquisitionTime=f"12000{time}"):
            dataset = pydicom.dcmread(path)
            dataset.InstanceNumber = 6 * time + int(dataset.InstanceNumber)
            (folder / "case").mkdir(exist_ok=True)
            dataset.save_as(folder / "case" / f"{time}{path.name}")
            path.unlink()
    return folder / "case"


def with_copy(folder: Path) -> Path:
    paths = write_series(folder / "case", VOLUME)
    (folder / "case" / "copy").write_bytes(paths[2].read_bytes())
    return folder / "case"


def with_others(folder: Path) -> Path:
    write_series(folder / "case", VOLUME)
    write_dicom(folder / "case" / "report", PLANE, Modality="SR", Rows=None, Columns=None, PixelData=None)
    (folder / "case" / "notes.txt").write_text("seen")
    return folder / "case"


def compressed(code: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(folder / "case.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor(code)
        writer.Execute(sitk.GetImageFromArray(PLANE.astype(np.uint16)[None]))
        dataset = pydicom.dcmread(folder / "case.dcm")
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        dataset.save_as(folder / "case.dcm")
        return folder / "case.dcm"

    return write


def recoded(syntax: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        dataset = pydicom.dcmread(single()(folder))
        if syntax == RLELossless:
            dataset.compress(RLELossless)
            dataset.save_as(folder / "case.dcm")
            return folder / "case.dcm"
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = PLANE.astype(">i2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(folder / "case.dcm", dataset, little_endian=syntax != ExplicitVRBigEndian, implicit_vr=False)
        return folder / "case.dcm"

    return write


COLOURS = np.random.RandomState(0).randint(0, 256, (12, 10, 3)).astype(np.uint8)
COLOUR_TAGS = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1", "Modality": "US", "SamplesPerPixel": 3, "PlanarConfiguration": 0,
    "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0,
}  # fmt: skip


def ybr(folder: Path) -> Path:
    stored = pydicom.pixels.processing.convert_color_space(COLOURS, "RGB", "YBR_FULL")
    return single(
        COLOURS[..., 0], **COLOUR_TAGS, PhotometricInterpretation="YBR_FULL", PixelData=stored.tobytes()
    )(folder)  # fmt: skip


INDEX = np.random.RandomState(1).randint(20, 220, (12, 10)).astype(np.uint8)
TABLE = np.random.RandomState(2).randint(0, 256, (3, 200)).astype(np.uint8)


def palette(first: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        tags: dict[str, Any] = {**COLOUR_TAGS, "SamplesPerPixel": 1, "PlanarConfiguration": None}
        for colour, table in zip(("Red", "Green", "Blue"), TABLE, strict=True):
            whole = table if first else np.concatenate([np.zeros(20, np.uint8), table])
            tags[f"{colour}PaletteColorLookupTableDescriptor"] = [len(whole), first, 8]
            tags[f"{colour}PaletteColorLookupTableData"] = whole.tobytes()
        return single(INDEX, PhotometricInterpretation="PALETTE COLOR", PixelData=INDEX.tobytes(), **tags)(folder)

    return write


def enhanced(rescales: list[tuple[float, float]], positions: list[float]) -> Callable[[Path], Path]:
    return lambda folder: write_enhanced(folder / "case.dcm", VOLUME, positions, rescales)


def cut(write: Callable[[Path], Path], share: float) -> Callable[[Path], Path]:
    def shorter(folder: Path) -> Path:
        path = write(folder)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return path

    return shorter


def with_loops(folder: Path) -> Path:
    write_series(folder / "case", VOLUME)
    (folder / "case" / "loop").symlink_to(folder / "case", target_is_directory=True)
    (folder / "case" / "itself").symlink_to(folder / "case" / "itself")
    return folder / "case"


def for_all(write: Callable[[Path], Path]) -> Callable[[Path], Path]:
    """In a folder that anyone may enter."""

    def opened(folder: Path) -> Path:
        folder.chmod(0o755)
        return write(folder)

    return opened


def unknown_syntax(folder: Path) -> Path:
    path = compressed("JPEG2000")(folder)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.99"))
    return path


def picture(name: str) -> Callable[[Path], Path]:
    return lambda folder: write_png(folder / name, PLANE.astype(float) / PLANE.max() * 255)


TILT = np.array(STEPS)
TILT[1, 2] = -0.6
SLOPES = [(1.0, 0.0), (2.5, -10.0), (0.5, 100.0), (1.0, 0.0), (3.0, 7.0), (1.0, -1024.0)]
RESCALED = np.stack([plane * slope + add for plane, (slope, add) in zip(VOLUME, SLOPES, strict=True)]).transpose(
    2, 1, 0
)
TWO = [(1.28, 0.0)] * 3 + [(0.244, -500.0)] * 3

STACKED = {(10, 12, 12): "both stacked into one volume", (10, 12, 6): "one of the two, the other is lost"}
TILES = {(30, 36): "a picture of tiles", (30, 36, 1): "a picture of tiles"}
STACKED_SIX = {(10, 12, 6): STACKED[10, 12, 12], (12, 6, 10): "both stacked into one volume, axes in another order"}
INDICES = {(10, 12): "indices instead of colours", (10, 12, 1): "indices instead of colours"}
RESCALE = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}
EVEN = [(0, 0, 3.0 * number) for number in range(6)]
FRAMES = [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
FRAME_STEPS = np.diag([-1.0, -1.0, 2.0, 1.0])
WHITE_IS_LOW = {"PhotometricInterpretation": "MONOCHROME1"}
TWELVE = {"BitsStored": 12, "HighBit": 11}


def own_rescale(number: int) -> dict[str, Any]:
    return {"RescaleSlope": SLOPES[number][0], "RescaleIntercept": SLOPES[number][1]}


GOOD = [
    Case("one series, names in another order", slices(EVEN, names=[3, 0, 5, 1, 4, 2]), XYZ, STEPS),
    Case("the same as NIfTI: the same voxels", nifti(XYZ), XYZ, STEPS),
    Case("instance numbers in another order than positions", series(), XYZ, STEPS),
    Case("no InstanceNumber", slices(EVEN, InstanceNumber=None), XYZ, STEPS),
    Case("a file without `.dcm`, or with a wrong ending", single(name="case.png"), PLANE.T),
    Case("two series in one folder", two_series, say="refused", remarks={**STACKED, (10, 12, 12): "interleaved"}),
    Case("two time points in one series", time_points, say="refused", remarks=STACKED),
    Case(
        "the same object twice", with_copy, XYZ, STEPS, "left out", remarks={(10, 12, 7): "that slice is there twice"}
    ),
    Case("a report and a text file among the slices", with_others, XYZ, STEPS, "left out"),
    Case("links that lead in circles among the slices", with_loops, XYZ, STEPS, "left out"),
    Case("a slice is missing", slices([(0, 0, 3.0 * z) for z in (0, 1, 2, 4, 5, 6)]), XYZ, say="missing slices"),
    Case("uneven slice distances", slices([(0, 0, z) for z in (0, 3, 6, 10.3, 13, 15)]), XYZ, say="uneven"),
    Case("tilted gantry", slices([(0, 0.6 * n, 3.0 * n) for n in range(6)]), XYZ, TILT, "tilted"),
    Case("CT of 16 bits with a rescale", slices(EVEN, **RESCALE), XYZ - 1024, STEPS, show_type=True),
    Case("each slice has its own rescale", slices(EVEN, own_rescale), RESCALED, STEPS),
    Case("enhanced: 6 frames, 2 mm apart", enhanced([(1.0, 0.0)] * 6, FRAMES), XYZ, FRAME_STEPS),
    Case("enhanced: each frame has its own rescale", enhanced(SLOPES, FRAMES), RESCALED, FRAME_STEPS),
    Case("enhanced: 3 positions, 2 kinds of image", enhanced(TWO, FRAMES[:3] * 2), say="refused", remarks=STACKED_SIX),
    Case("Siemens mosaic", mosaic(), XYZ, STEPS, remarks=TILES),
    Case("mosaic whose private header was taken out", mosaic(private=b""), say="refused", remarks=TILES),
    Case("MONOCHROME1", single(**WHITE_IS_LOW, PixelRepresentation=0), 65535 - PLANE.T.astype(int)),
    Case("MONOCHROME1, signed, 12 bits", single(**WHITE_IS_LOW, **TWELVE), -1 - PLANE.T.astype(int)),
    Case("CT without rescale tags", single(Modality="CT"), PLANE.T, say="no rescale"),
    Case("no PixelSpacing", slices(EVEN, PixelSpacing=None), XYZ, say="no pixel spacing"),
    Case("storage class that GDCM does not know", single(SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.7"), PLANE.T),
    Case("big endian", recoded(ExplicitVRBigEndian), PLANE.T),
    Case("deflated", recoded(DeflatedExplicitVRLittleEndian), PLANE.T),
    Case("run-length coded", recoded(RLELossless), PLANE.T),
    Case("JPEG lossless", compressed("JPEG"), PLANE.T),
    Case("JPEG 2000 lossless", compressed("JPEG2000"), PLANE.T),
    Case("YBR colour", ybr, COLOURS.transpose(1, 0, 2), tolerance=2),
    Case("palette", palette(0), TABLE.T[INDEX.T.astype(int) - 20], remarks=INDICES),
    Case("palette that begins at 20", palette(20), TABLE.T[INDEX.T.astype(int) - 20], remarks=INDICES),
    Case("NIfTI named .dcm", reader_nifti.misnamed("case.dcm"), XYZ, STEPS),
    Case("compressed NIfTI without an ending", reader_nifti.misnamed("case", packed=True), XYZ, STEPS),
    Case("compressed NIfTI named .nii", reader_nifti.misnamed("case.nii", packed=True), XYZ, STEPS),
    Case("uncompressed NIfTI named .nii.gz", reader_nifti.misnamed("case.nii.gz"), XYZ, STEPS),
    Case("NIfTI of two files, .hdr and .img", reader_nifti.apart, XYZ, STEPS),
    Case("NIfTI whose lengths are in metres", reader_nifti.metres, XYZ, STEPS, "metres"),
    Case("NIfTI without spacing and position", reader_nifti.placeless, XYZ, say="no voxel spacing"),
]

NAN = XYZ.astype(np.float32)
NAN[4, 4, 2] = np.nan
INFINITE = XYZ.astype(np.float32)
INFINITE[4, 4, 2] = np.inf
SEVENS = np.full_like(XYZ, 7)
BAD = [
    Case("empty file", content("case.dcm", b"")),
    Case("random bytes", content("case.dcm", np.random.RandomState(0).bytes(5000))),
    Case("DICOM cut in the middle of its pixels", cut(single(blob((64, 64))), 0.6)),
    Case("DICOM cut in its header", cut(single(blob((64, 64))), 0.05)),
    Case("JPEG 2000 DICOM cut in half", cut(compressed("JPEG2000"), 0.7)),
    Case("unknown transfer syntax", unknown_syntax),
    Case("DICOM header that claims 65000 × 65000 pixels", single(Rows=65000, Columns=65000)),  # noqa: RUF001 (a times sign)
    Case("DICOM header that claims two billion frames", single(NumberOfFrames=2_000_000_000)),
    Case("DICOM without pixels", single(Rows=None, Columns=None, PixelData=None)),
    Case("a picture named .dcm", picture("case.dcm"), np.round(PLANE.T / PLANE.max() * 255).astype(int), tolerance=1),
    Case("text named .nii", content("case.nii", b"text " * 200)),
    Case("NIfTI cut in half", cut(nifti(XYZ, "case.nii"), 0.5)),
    Case("NIfTI, compressed, cut in half", cut(nifti(XYZ), 0.5)),
    Case("NIfTI header that claims 27 × 10¹² voxels", reader_nifti.absurd_nifti),  # noqa: RUF001 (a times sign)
    Case("NIfTI whose voxels are said to begin at byte 0", reader_nifti.from_the_first_byte),
    Case(".hdr whose .img is gone", reader_nifti.apart_and_lost),
    Case("NIfTI with a NaN", nifti(NAN), NAN, say="NaN"),
    Case("NIfTI with an infinite value", nifti(INFINITE), INFINITE, say="infinite"),
    Case("NIfTI of one value", nifti(SEVENS), SEVENS, say="constant"),
    Case("a file that nobody may read", for_all(single()), locked=True),
    Case("NIfTI that nobody may read", for_all(nifti(XYZ)), locked=True),
]
