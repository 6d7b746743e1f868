# SPDX-License-Identifier: Apache-2.0
"""What `monai_mixssl.data` offers, and what importing it costs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import monai_mixssl.data as data


@pytest.mark.parametrize("name", data.__all__)
def test_each_name_is_offered_and_is_the_one_of_its_module(name):
    found = getattr(data, name)
    module = importlib.import_module(found.__module__)
    assert getattr(module, name) is found
    assert name in module.__all__
    assert name in dir(data)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="LoadPreparedX"):
        _ = data.LoadPreparedX


def test_importing_the_package_imports_no_reader():
    heavy = "{'SimpleITK', 'pydicom', 'nibabel', 'PIL', 'torch', 'monai', 'numpy'}"
    code = f"import sys, monai_mixssl.data; print(sorted({heavy} & set(sys.modules)))"
    without = f"import sys, monai_mixssl; print(sorted({heavy} & set(sys.modules)))"
    ran = [subprocess.run([sys.executable, "-c", one], capture_output=True, text=True) for one in (code, without)]
    assert ran[0].stdout == ran[1].stdout != ""
