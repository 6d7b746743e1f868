# SPDX-License-Identifier: Apache-2.0
"""Hashes of all prepared arrays of some folders, to show that two versions of this package prepare the same.

    python benchmarks/prepared_hashes.py new.json phantoms hippocampus nifti dicom natural_cifar10
    PYTHONPATH=/an/older/clone python benchmarks/prepared_hashes.py old.json … && cmp old.json new.json

Folders lie in the one that MIXSSL_TEST_DATA names; phantoms are written. Ids are salted and differ; so the hashes are
sorted by themselves.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import monai_mixssl
from monai_mixssl.data.phantoms import write_phantoms
from monai_mixssl.data.prepared_data import prepare_data

KEYS: dict[str, dict[str, Any]] = {
    "hippocampus": {"spatial_dims": 3, "patch_size": 32},
    "natural_cifar10": {"patch_size": 32},
}
BELOW = {"hippocampus": "hippocampus/imagesTr"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("write", type=Path, help="JSON file")
    parser.add_argument("sets", nargs="+")
    arguments = parser.parse_args()
    hashes = {}
    for name in arguments.sets:
        with tempfile.TemporaryDirectory() as folder:
            if name == "phantoms":
                data = write_phantoms(Path(folder) / "phantoms")
            else:
                data = Path(os.environ["MIXSSL_TEST_DATA"]) / BELOW.get(name, name)
            hashes[name] = hashes_of(data, Path(folder) / "out", {"patch_size": 64, **KEYS.get(name, {})})
        print(f"{name}: {len(hashes[name])} arrays, {monai_mixssl.__file__}")
    arguments.write.write_text(json.dumps(hashes, indent=1) + "\n")


def hashes_of(data: Path, output: Path, keys: dict[str, Any]) -> list[str]:
    prepared = prepare_data(str(data), output, num_workers=2, progress=False, **keys)
    arrays = (np.load(prepared.folder / f"{one}.npy") for one in prepared.records)
    return sorted(hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for array in arrays)


if __name__ == "__main__":
    main()
