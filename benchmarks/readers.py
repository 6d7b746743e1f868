# SPDX-License-Identifier: Apache-2.0
"""What MONAI's readers and ours make of clinical files: a table of what really happens, case by case.

    python benchmarks/readers.py                            prints the tables
    python benchmarks/readers.py --write docs/reading.md    puts them between the marks in that file

MONAI's readers are called themselves (for NIfTI its `NibabelReader`, for a picture its `PILReader`), since `LoadImage`
would try others where the named one fails; ours through `LoadImage(reader=ScanReader)`. `ITKReader` needs the package
itk, which is no dependency of this one; without it its column says so. Each case runs in a process of its own with
2 GB more than it starts with, and 60 s. With MIXSSL_TEST_DATA set, the provided files follow.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

os.environ.setdefault("ITK_GLOBAL_DEFAULT_THREADER", "Platform")  # a pool of threads does not survive a fork
import pydicom
from monai.data import ITKReader, NibabelReader, PydicomReader
from monai.transforms import LoadImage
from reader_cases import BAD, GOOD, Case

from monai_mixssl.data.metadata import KeepAllowedMetadata
from monai_mixssl.data.reader import ScanReader
from monai_mixssl.errors import DataError

MARKS = "<!-- written by benchmarks/readers.py -->\n", "<!-- end -->\n"
HAS_ITK = importlib.util.find_spec("itk") is not None
MEMORY, SECONDS = 2 * 2**30, 60
NOBODY = 65534
NAME = "QUAXWORT^JANE"
LOAD = LoadImage(reader=ScanReader, dtype=None)

Result = tuple[np.ndarray, np.ndarray | None, str]
"""Values, affine, and what the metadata say is unusual."""


def monai_pydicom(path: Path) -> Result:
    """MONAI's reader for DICOM by pydicom, and its readers for what is named as something else."""
    kinds = {".nii": NibabelReader, ".gz": NibabelReader, ".hdr": NibabelReader}
    reader = kinds.get(path.suffix, PydicomReader)()
    array, meta = reader.get_data(reader.read(str(path)))
    return np.asarray(array), np.asarray(meta["affine"]), ""


def monai_itk(path: Path) -> Result:
    """MONAI's reader for DICOM and NIfTI by ITK."""
    reader = ITKReader()
    array, meta = reader.get_data(reader.read(str(path)))
    return np.asarray(array), np.asarray(meta["affine"]), ""


def ours(path: Path) -> Result:
    """Ours, as a pipeline calls it."""
    image = LOAD(str(path))
    return image.numpy(), image.affine.numpy(), str(image.meta["notes"])


READERS: dict[str, Callable[[Path], Result]] = {
    "MONAI `PydicomReader`": monai_pydicom,
    "MONAI `ITKReader`": monai_itk,
    "ours": ours,
}


def judge(case: Case, result: Result, printed: bool) -> str:
    """Says in a few words what is right or wrong about a result."""
    array, affine, notes = result
    array = array.squeeze()
    told = bool(case.say) and case.say.lower() in notes.lower()
    silence = "" if not case.say and not printed else ", warns" if printed else ", in silence"
    note = ", **noted**" if told else silence
    shape = " × ".join(map(str, array.shape))  # noqa: RUF001 (a times sign)
    if array.shape in case.remarks:
        return f"wrong: {case.remarks[array.shape]}{note or ', in silence'}"
    if case.array is None:
        return f"wrong: returns {shape} values{note}"
    expected = case.array.squeeze()
    if case.affine is not None and affine is not None and array.ndim == expected.ndim == 3:
        turns = [nib.orientations.io_orientation(one) for one in (affine, case.affine)]
        corners = []
        for one, turn, matrix in ((array, turns[0], affine), (expected, turns[1], case.affine)):
            last = np.array([*(size - 1 for size in one.shape), 1])
            corners.append(matrix @ nib.orientations.inv_ornt_aff(turn, one.shape) @ last)
        array, expected = (
            nib.orientations.apply_orientation(one, turn) for one, turn in zip((array, expected), turns, strict=True)
        )
        off = np.abs(corners[0] - corners[1]).max() if array.shape == expected.shape else 0.0
        if off > 0.1:
            return f"wrong place: up to {off:.0f} mm off{note}"
    if array.shape != expected.shape:
        return f"wrong: {shape} instead of {' × '.join(map(str, expected.shape))}{note}"  # noqa: RUF001 (a times sign)
    error = np.nanmax(np.abs(array.astype(float) - expected))
    if error > case.tolerance:
        return (
            f"wrong values, off by up to {error:.0f}{note}"
            if error > 1
            else f"wrong values, off by up to {error}{note}"
        )
    kind = f" ({array.dtype})" if case.show_type else ""
    return f"{'right' if case.affine is not None or not case.say else 'values right'}{kind}{note}"


def refusal(error: BaseException, path: Path, case: Case) -> str:
    """Says how a reader refused, and whether its message names the file."""
    leaks = ", names the path" if str(path) in str(error) else ""
    if isinstance(error, DataError):
        reason = str(error).removeprefix("There is no image to be read (").removesuffix("); leave it out.")
        return f"refused: {reason.split(';')[0]}{leaks}"
    kind = "fails" if case.array is not None or case.say == "refused" else "refused"
    return f"{kind}: {type(error).__name__}{leaks}"


def attempt(read: Callable[[Path], Result], case: Case, path: Path, pipe: Any) -> None:
    """Runs in a child process: reads, judges, sends the words."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    with tempfile.TemporaryFile() as console:
        for number in (1, 2):
            os.dup2(console.fileno(), number)
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            if case.locked:
                lock(read, path)
                console.truncate(0)
                warned.clear()
            try:
                array, affine, said = read(path)
                sys.stderr.flush()
                console.seek(0)
                printed = console.read().decode(errors="replace").strip()
                warned = [one for one in warned if issubclass(one.category, UserWarning) and "Nv" not in str(one)]
                pipe.send(judge(case, (array, affine, said), bool(printed or warned)))
            except BaseException as error:  # whatever a reader raises is what the table is about
                pipe.send(refusal(error, path, case))


def lock(read: Callable[[Path], Result], path: Path) -> None:
    """Takes the permission away; reads once before, since who has none may not be able to load modules either."""
    read(path)
    sys.stderr.flush()
    path.chmod(0)
    if os.geteuid() == 0:  # the superuser may read everything
        os.seteuid(NOBODY)


def run(read: Callable[[Path], Result], case: Case) -> str:
    """What a reader does with a case; what seems to hang is tried again, since a process may fork at a bad moment."""
    first = _run(read, case)
    return _run(read, case) if first.startswith("hangs") else first


def _run(read: Callable[[Path], Result], case: Case) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = case.write(Path(folder))
        ours_end, childs_end = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(target=attempt, args=(read, case, path, childs_end))
        child.start()
        childs_end.close()
        try:
            return str(ours_end.recv()) if ours_end.poll(SECONDS) else f"hangs for more than {SECONDS} s"
        except EOFError:
            return "the process dies"
        finally:
            child.kill()
            child.join()


def identifiers(name: str) -> str:
    """Which identifiers of a single DICOM file a reader puts into the metadata of its image."""
    from reader_cases import PLANE, write_dicom

    with tempfile.TemporaryDirectory() as folder:
        path = write_dicom(Path(folder) / "Doe" / "x.dcm", PLANE, PatientName=NAME, PatientID="ID-4711")
        readers = {"ours": ScanReader, "MONAI `ITKReader`": ITKReader, "MONAI `PydicomReader`": PydicomReader}
        image = LoadImage(reader=readers[name])(str(path))
        if name == "ours":
            image = KeepAllowedMetadata()(image)
        found = {"name": NAME, "id": "ID-4711", "path": "Doe"}
        return ", ".join(what for what, text in found.items() if text in str(image.meta)) or "none"


def table(title: str, cases: list[Case]) -> list[str]:
    """The rows of a table."""
    rows = [f"| {title} | {' | '.join(READERS)} |", "|---" * (1 + len(READERS)) + "|"]
    for case in cases:
        cells = [run(read, case) if HAS_ITK or read is not monai_itk else "not installed" for read in READERS.values()]
        rows.append(f"| {case.name} | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    return rows


def provided(folder: Path) -> list[Case]:
    """Cases of the provided files; what is right is what pydicom and the headers say."""
    mixed = folder / "dicom" / "mr_enhanced_multiframe" / "Philips" / "IM_0027_fMAP.dcm"
    syntaxes, head = folder / "dicom" / "ct_transfer_syntaxes", folder / "dicom" / "ct_head_tilted"
    plain = pydicom.dcmread(syntaxes / "CTImage.dcm").pixel_array.T - 1024
    stacked = {(64, 64, 64): "both stacked into one volume"}
    cases = [
        Case("Philips: 32 positions, 2 kinds of image", lambda _: mixed, say="refused", remarks=stacked),
        Case("head CT, tilted and uneven", lambda _: head, *head_values(head), "uneven", tolerance=0),
    ]
    for path in sorted(syntaxes.glob("CTImage.dcm_*")):
        lossy = {"2.4.91": 5, "2.4.81": 1, "2.4.51": 36, "2.4.53": 36, "2.4.55": 36, "2.4.50": 65}
        ending = path.name.removesuffix(".dcm").partition("1.2.840.10008.1.")[2]
        label = path.name.split("_")[1].removesuffix("TransferSyntax")
        bound = f" (within {lossy[ending]} HU)" if ending in lossy else ""
        cases.append(Case(f"{label}{bound}", lambda _, path=path: path, plain, tolerance=lossy.get(ending, 0)))
    return cases


def head_values(folder: Path) -> tuple[np.ndarray, None]:
    """The slices by height; they lie on no straight grid, so that no affine is right."""
    slices = sorted((pydicom.dcmread(path) for path in folder.iterdir()), key=lambda one: one.ImagePositionPatient[2])
    return np.stack([one.pixel_array.T * one.RescaleSlope + one.RescaleIntercept for one in slices], axis=-1), None


def main() -> None:
    """Print the tables, or write them into a document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", type=Path, help="Markdown file with the marks to write between")
    arguments = parser.parse_args()
    if HAS_ITK:
        with tempfile.TemporaryDirectory() as folder:  # itk loads its modules as it reads: once, not in every child
            for case in (GOOD[0], GOOD[1]):
                monai_itk(case.write(Path(folder)))
    names = ["monai", "pydicom", "SimpleITK", "nibabel", *(["itk"] if HAS_ITK else [])]
    lines = [
        ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)]) + ".",
        "",
    ]
    lines += [*table("what is read", GOOD), ""]
    held = [identifiers(name) if HAS_ITK or "ITK" not in name else "not installed" for name in READERS]
    lines += [f"| identifiers in the metadata | {' | '.join(READERS)} |", "|---" * 4 + "|"]
    lines += [f"| of a single file, behind `LoadImage` | {' | '.join(held)} |", ""]
    lines += [*table("bad files", BAD), ""]
    if os.environ.get("MIXSSL_TEST_DATA"):
        lines += [*table("real files", provided(Path(os.environ["MIXSSL_TEST_DATA"]))), ""]
    if arguments.write:
        before, _, rest = arguments.write.read_text().partition(MARKS[0])
        arguments.write.write_text(before + MARKS[0] + "\n" + "\n".join(lines) + MARKS[1] + rest.partition(MARKS[1])[2])
    else:
        print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
