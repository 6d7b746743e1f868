# SPDX-License-Identifier: Apache-2.0
"""Measure how long finding takes: the first scan of a tree, a second one with its index, and pydicom alone.

Writes small DICOM slices (8 × 8 pixels; about 90 elements as scanners write them, private ones included, with made-up
values) below a temporary folder, 100 a series, and prints a Markdown table: processor time and wall time a file, in
microseconds, and the peak of memory. Each row is a process of its own without further ones; the files come from the
file cache, as they have just been written.

Usage: OMP_NUM_THREADS=1 python benchmarks/scan_speed.py --files 5000 50000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

PER_SERIES = 100
ROWS = {
    "libraries": "imports alone",
    "dcmread": "`dcmread(stop_before_pixels=True)`",
    "tags": "… and reading the same tags",
    "first": "first scan, writing its index",
    "second": "second scan, nothing has changed",
    "changed": "third scan, one file has changed",
}


def header() -> Dataset:
    """A header as scanners write them: about 100 elements, a few of them private, one of these large."""
    made = Dataset()
    made.SOPClassUID, made.Modality, made.Manufacturer = MRImageStorage, "MR", "made up"
    made.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"]
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "PatientBirthDate"):
        setattr(made, keyword, "20200101")
    for keyword in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(made, keyword, "120000.5")
    for keyword in (
        "PatientName", "PatientID", "AccessionNumber", "InstitutionName", "ReferringPhysicianName", "StationName",
        "StudyDescription", "SeriesDescription", "PerformingPhysicianName", "OperatorsName", "ManufacturerModelName",
        "ProtocolName", "SoftwareVersions", "DeviceSerialNumber", "StudyID", "PatientComments",
        "TransmitCoilName", "SequenceName", "RequestedProcedureDescription", "PerformedProcedureStepDescription",
    ):  # fmt: skip
        setattr(made, keyword, "made up")
    for keyword in (
        "SliceThickness", "RepetitionTime", "EchoTime", "NumberOfAverages", "ImagingFrequency", "MagneticFieldStrength",
        "SpacingBetweenSlices", "PercentSampling", "PercentPhaseFieldOfView", "PixelBandwidth", "SAR", "FlipAngle",
        "SliceLocation", "WindowCenter", "WindowWidth", "PatientWeight",
    ):  # fmt: skip
        setattr(made, keyword, "1.5")
    for keyword in (
        "SeriesNumber",
        "AcquisitionNumber",
        "EchoNumbers",
        "EchoTrainLength",
        "NumberOfPhaseEncodingSteps",
    ):
        setattr(made, keyword, 1)
    made.PatientSex, made.PatientAge, made.PatientPosition, made.BodyPartExamined = "O", "050Y", "HFS", "HEAD"
    made.ScanningSequence, made.SequenceVariant, made.MRAcquisitionType = "GR", "SP", "3D"
    made.PixelSpacing, made.ImageOrientationPatient = ["1.25", "1.25"], [1, 0, 0, 0, 1, 0]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = 8
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    for group, creator, count, size in ((0x0019, "MADE UP A", 8, 8), (0x0029, "MADE UP B", 4, 2000)):
        block = made.private_block(group, creator, create=True)
        for element in range(count):
            block.add_new(element, "OB", bytes(size))
    made.PixelData = np.zeros((8, 8), "<u2").tobytes()
    return made


def write_tree(folder: Path, files: int) -> None:
    """Writes the slices, four series a patient."""
    base = header()
    for number in range(files):
        series, place = divmod(number, PER_SERIES)
        below = folder / f"patient{series // 4:04d}" / f"series{series % 4}"
        below.mkdir(parents=True, exist_ok=True)
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, MRImageStorage
        base.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = f"2.25.1.{number + 1}"
        base.StudyInstanceUID, base.SeriesInstanceUID = f"2.25.2.{series // 4 + 1}", f"2.25.3.{series + 1}"
        base.PatientID, base.InstanceNumber = f"patient {series // 4}", place + 1
        base.ImagePositionPatient = [-5.0, -5.0, 1.5 * place]
        path = below / f"{place:04d}"
        FileDataset(path, base, file_meta=meta, preamble=b"\0" * 128).save_as(path, enforce_file_format=True)


def read_alone(folder: Path, tags: bool) -> None:
    """What a script of a few lines would do."""
    import pydicom

    from monai_mixssl.data.dicom_header import TAGS

    wanted = list(dict.fromkeys(TAGS))
    warnings.simplefilter("ignore")
    for top, _, names in os.walk(folder):
        for name in names:
            dataset = pydicom.dcmread(os.path.join(top, name), stop_before_pixels=True)
            if tags:
                for tag in wanted:
                    dataset.get(tag)


def one_row(row: str, folder: Path, index: Path) -> None:
    """Does what a row of the table says, in this process, and prints times and memory as JSON."""
    from monai_mixssl.data.scan import scan

    if row == "changed":
        path = folder / "patient0000" / "series0" / "0000"
        os.utime(path)
        (index / "result.json").unlink()
    start = time.perf_counter(), time.process_time()
    images = 0
    if row in ("dcmread", "tags"):
        read_alone(folder, row == "tags")
    elif row != "libraries":
        images = len(scan(folder, salt=b"0" * 32, progress=False, index=index).images)
    end = time.perf_counter(), time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall": end[0] - start[0], "cpu": end[1] - start[1], "peak": peak, "images": images}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[5000, 50000])
    parser.add_argument("--row", choices=list(ROWS), help=argparse.SUPPRESS)
    parser.add_argument("--tree", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        one_row(arguments.row, arguments.tree, arguments.index)
        return
    print(f"{platform.platform()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}\n")
    print("| files | | processor µs a file | wall µs a file | peak memory, MB | times as fast as the first scan |")
    print("|---|---|---|---|---|---|")
    for files in arguments.files:
        with tempfile.TemporaryDirectory() as folder:
            tree, index = Path(folder) / "tree", Path(folder) / "index"
            write_tree(tree, files)
            first = 0.0
            for row, title in ROWS.items():
                command = [sys.executable, __file__, "--row", row, "--tree", str(tree), "--index", str(index)]
                done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                first = done["cpu"] if row == "first" else first
                ratio = f"{first / done['cpu']:.1f}" if row in ("second", "changed") else ""
                cpu, wall = (f"{1e6 * done[key] / files:.1f}" for key in ("cpu", "wall"))
                print(f"| {files} | {title} | {cpu} | {wall} | {done['peak']:.0f} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
