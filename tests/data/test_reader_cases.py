# SPDX-License-Identifier: Apache-2.0
"""Our column of the table of readers: nothing wrong, nothing unusual in silence, bad files refused without a path."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImage

from monai_mixssl.data.reader import ScanReader
from monai_mixssl.errors import DataError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LOAD = LoadImage(reader=ScanReader, dtype=None)


def load_cases():
    spec = importlib.util.spec_from_file_location("reader_cases", BENCHMARKS / "reader_cases.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["reader_cases"] = module
    spec.loader.exec_module(module)
    return [*module.GOOD, *module.BAD]


@pytest.mark.parametrize("case", load_cases(), ids=lambda case: case.name)
def test_ours_is_right_or_refuses(tmp_path, case):
    if case.locked and (os.name != "posix" or os.geteuid() == 0):
        pytest.skip("the superuser may read everything")
    path = case.write(tmp_path)
    if case.locked:
        path.chmod(0)
    if case.array is None:
        with pytest.raises(DataError) as error:
            LOAD(str(path))
        assert str(tmp_path) not in str(error.value)
        return
    image = LOAD(str(path))
    assert case.say.lower() in image.meta["notes"].lower()
    array = image.numpy().squeeze()
    expected = case.array.squeeze()
    if case.affine is not None:
        assert bool(case.say) or image.meta["notes"] == ""
        # the same corner, and the same values from there on
        turned = [np.sign(np.sum(image.affine.numpy()[:3, axis] * case.affine[:3, axis])) for axis in range(3)]
        expected = expected[tuple(slice(None, None, int(step)) for step in turned)]
        last = [0 if step > 0 else size - 1 for step, size in zip(turned, expected.shape, strict=True)]
        assert np.allclose(image.affine.numpy()[:3, 3], (case.affine @ [*last, 1])[:3], atol=1e-3)
    assert np.nanmax(np.abs(array.astype(float) - expected)) <= case.tolerance
