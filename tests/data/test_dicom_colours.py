# SPDX-License-Identifier: Apache-2.0
"""What stored pixels mean: MONOCHROME1, YBR, palettes, compression; pydicom's values are the reference."""

from __future__ import annotations

import os

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import RLELossless
from tiny_scans import blob, write_dicom

from monai_mixssl.data.read import read_image
from monai_mixssl.data.scan import scan

ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
# largest error in Hounsfield units of the lossy copies of the provided CT slice, measured once, rounded up
LOSSY = {"4.91": 5, "4.81": 1, "4.51": 36, "4.53": 36, "4.55": 36, "4.50": 65}
LOSSLESS = ("4.90", "4.80", "4.57", "4.70", "5", "2", "1.99", "1", "")


def read_one(path):
    (image,) = scan(path, salt=b"0", progress=False).images
    return image, read_image(image).array


def write_colours(path, pixels, **tags):
    """Writes rows × columns × 3 of uint8, or bytes as they are."""
    stored = pixels.astype(np.uint8).tobytes()
    return write_dicom(
        path, pixels[..., 0], **{
            "SOPClassUID": ULTRASOUND, "Modality": "US", "SamplesPerPixel": 3, "PlanarConfiguration": 0,
            "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0,
            "PixelData": stored + bytes(len(stored) % 2), **tags,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tags", "top"),
    [
        ({"PixelRepresentation": 0, "BitsStored": 12, "HighBit": 11}, 4095),
        ({"PixelRepresentation": 0}, 65535),
        ({"PixelRepresentation": 1}, -1),
        ({"PixelRepresentation": 1, "BitsStored": 12, "HighBit": 11}, -1),
    ],
)
@pytest.mark.parametrize("slope", [1, 2])
def test_monochrome1_is_inverted_before_it_is_rescaled_and_noted(tmp_path, tags, top, slope):
    pixels = blob((6, 8))
    path = write_dicom(
        tmp_path / "x", pixels, PhotometricInterpretation="MONOCHROME1", RescaleSlope=slope, RescaleIntercept=-5, **tags
    )
    image, array = read_one(path)
    assert np.array_equal(array[0], (top - pixels.T.astype(int)) * slope - 5)
    assert "MONOCHROME1, inverted" in image.notes


@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("planar", [0, 1])
def test_colours_come_back_as_rgb(tmp_path, kind, planar):
    pixels = np.random.RandomState(0).randint(0, 256, (6, 8, 3))
    path = write_colours(tmp_path / "x", pixels, PhotometricInterpretation=kind, PlanarConfiguration=planar)
    image, array = read_one(path)
    reference = pydicom.dcmread(path).pixel_array  # pydicom turns YBR into RGB, too
    assert image.channels == 3
    assert array.dtype == "uint8"
    assert np.abs(array.transpose(2, 1, 0).astype(int) - reference).max() <= 1


@pytest.mark.parametrize(
    ("entries", "first", "bits", "stored"), [(256, 0, 8, 8), (256, 0, 16, 8), (200, 20, 16, 8), (4096, 0, 16, 16)]
)
def test_palettes_become_rgb(tmp_path, entries, first, bits, stored):
    draw = np.random.RandomState(0)
    pixels = draw.randint(first, min(entries + first, 2**stored), (6, 8))
    tags = {}
    for colour in ("Red", "Green", "Blue"):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [entries, first, bits]
        table = draw.randint(0, 2**bits, entries).astype(f"<u{bits // 8}")
        tags[f"{colour}PaletteColorLookupTableData"] = table.tobytes()
    path = write_dicom(
        tmp_path / "x", pixels, PhotometricInterpretation="PALETTE COLOR", BitsAllocated=stored,
        BitsStored=12 if stored == 16 else 8, HighBit=11 if stored == 16 else 7, PixelRepresentation=0,
        PixelData=pixels.astype(f"<u{stored // 8}").tobytes(), SOPClassUID=ULTRASOUND, Modality="US", **tags,
    )  # fmt: skip
    _, array = read_one(path)
    dataset = pydicom.dcmread(path)
    reference = apply_color_lut(dataset.pixel_array, dataset) / (257 if bits == 16 else 1)
    assert array.dtype == "uint8"
    assert np.abs(array.transpose(2, 1, 0) - reference).max() <= 1


@pytest.mark.parametrize("code", ["JPEG", "JPEG2000"])
def test_what_simpleitk_compresses_without_loss_comes_back_as_it_was(tmp_path, code):
    pixels = blob((32, 40), top=4000)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(tmp_path / "x.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor(code)
    writer.Execute(sitk.GetImageFromArray(pixels.astype(np.uint16)[None]))
    dataset = pydicom.dcmread(tmp_path / "x.dcm")
    assert dataset.file_meta.TransferSyntaxUID.is_compressed
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    dataset.save_as(tmp_path / "y.dcm")
    assert np.array_equal(read_one(tmp_path / "y.dcm")[1].squeeze(), pixels.T)


def test_run_lengths_and_deflated_files_come_back_as_they_were(tmp_path):
    pixels = blob((32, 40), top=4000)
    dataset = pydicom.dcmread(write_dicom(tmp_path / "plain", pixels))
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "plain")
    assert np.array_equal(read_one(tmp_path / "plain")[1][0], pixels.T)


def test_a_compressed_file_that_is_cut_short_is_refused_and_says_nothing(tmp_path, capfd, provided_data):
    name = "CTImage.dcm_JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm"
    content = (provided_data / "dicom" / "ct_transfer_syntaxes" / name).read_bytes()
    (tmp_path / "x").write_bytes(content[: len(content) // 2])
    (image,) = scan(tmp_path, salt=b"0", progress=False).images
    with pytest.raises(ValueError, match=r"cannot be decoded|size differs"):
        read_image(image)
    assert capfd.readouterr() == ("", "")


def test_every_provided_transfer_syntax_is_decoded(provided_data):
    folder = provided_data / "dicom" / "ct_transfer_syntaxes"
    plain = pydicom.dcmread(folder / "CTImage.dcm").pixel_array.T - 1024.0
    seen = set()
    for name in sorted(os.listdir(folder)):
        if name == "no-pixel-data.dcm":
            assert not scan(folder / name, salt=b"0", progress=False).images
            continue
        _, array = read_one(folder / name)
        if name.startswith("CTImage.dcm"):
            ending = name.removesuffix(".dcm").partition("_1.2.840.10008.1.2")[2].lstrip(".")
            error = np.abs(array[0].squeeze() - plain).max()
            assert error <= LOSSY.get(ending, 0), name
            assert ending in (LOSSY if error else LOSSLESS), name
            seen.add(ending)
        else:
            assert array.min() < array.max()
    assert seen == {*LOSSY, *LOSSLESS}
    # no uncompressed twin, but a known extent: Hounsfield units of a chest and a head
    for name, low, high in (("CT1_J2KR", -3024, 1254), ("CT2_J2KR", -2048, 1433)):
        array = read_one(folder / name)[1]
        assert (array.dtype, array.min(), array.max()) == (np.int16, low, high)


@pytest.mark.parametrize("name", ["US-YBR_FULL_422-EVRLE.dcm", "no-pixel-spacing.dcm"])
def test_the_provided_colour_files_are_as_pydicom_reads_them(provided_data, name):
    path = provided_data / "dicom" / "ct_transfer_syntaxes" / name
    dataset = pydicom.dcmread(path)
    reference = dataset.pixel_array
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        reference = apply_color_lut(reference, dataset) / 257
    image, array = read_one(path)
    assert np.abs(array.transpose(2, 1, 0) - reference).max() <= 1
    assert "no pixel spacing" in image.notes
    assert image.spacing is None
