# SPDX-License-Identifier: Apache-2.0
"""The labelled sets of the benchmarks, in the forms that pretraining and fine-tuning read.

    python benchmarks/provided_sets.py pneumoniamnist FOLDER    training images as PNG files, to pretrain on
    python benchmarks/provided_sets.py busi FOLDER
    python benchmarks/provided_sets.py hippocampus FOLDER       pretraining.json and labelled.json, test patients apart

The sets lie in the folder that MIXSSL_TEST_DATA names; FOLDER is written.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NPZ = {"pneumoniamnist": "pneumoniamnist.npz", "busi": "busi128.npz", "mednist": "mednist64.npz"}
# keys of the pretraining runs, beside the defaults; 0.002 was the default rate when the tables were made
PRETRAINING: dict[str, dict[str, Any]] = {
    "hippocampus": {"spatial_dims": 3, "patch_size": 32, "batch_size": 4, "max_epochs": 40, "learning_rate": 0.002},
    "pneumoniamnist": {"patch_size": 32, "batch_size": 64, "max_epochs": 12, "learning_rate": 0.002},
    "busi": {"batch_size": 32, "samples_per_image": 4, "max_epochs": 16, "learning_rate": 0.002},
    "mednist": {"batch_size": 32, "max_epochs": 8, "learning_rate": 0.002},
}
HIPPOCAMPUS_TEST = 60  # of 260 patients
HIPPOCAMPUS_VALIDATION = 20


def provided() -> Path:
    """The folder of the sets.

    Raises:
        SystemExit: where MIXSSL_TEST_DATA is unset.
    """
    root = os.environ.get("MIXSSL_TEST_DATA")
    if not root:
        raise SystemExit("MIXSSL_TEST_DATA is unset: set it to the folder of the labelled sets.")
    return Path(root).resolve()


def npz_path(name: str) -> Path:
    """The file of a set in MedMNIST's layout."""
    return provided() / NPZ[name]


def export_training_pictures(name: str, folder: Path) -> Path:
    """Write the training images of a set as PNG files, once; labels, validation and test images stay behind."""
    pictures = folder / name
    images = np.load(npz_path(name))["train_images"]
    pictures.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        path = pictures / f"{number:05d}.png"
        if not path.exists():
            Image.fromarray(image).save(path)
    return pictures


def split_hippocampus(folder: Path) -> tuple[Path, Path]:
    """Write the pretraining list (no test patient in it) and the labelled list with its splits.

    The split is the same for all methods and seeds: a permutation of the sorted files with seed 0.

    Returns:
        ``pretraining.json`` (key "training", images alone) and ``labelled.json`` (training, validation, test).
    """
    root = provided() / "hippocampus"
    names = sorted(path.name for path in (root / "imagesTr").glob("*.nii.gz"))
    order = [names[number] for number in np.random.RandomState(0).permutation(len(names))]
    parts = {
        "test": order[:HIPPOCAMPUS_TEST],
        "validation": order[HIPPOCAMPUS_TEST : HIPPOCAMPUS_TEST + HIPPOCAMPUS_VALIDATION],
        "training": order[HIPPOCAMPUS_TEST + HIPPOCAMPUS_VALIDATION :],
    }
    labelled = {
        part: [{"image": str(root / "imagesTr" / name), "label": str(root / "labelsTr" / name)} for name in sorted(few)]
        for part, few in parts.items()
    }
    seen = [{"image": item["image"]} for part in ("training", "validation") for item in labelled[part]]
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "pretraining.json", folder / "labelled.json"
    for path, content in zip(paths, ({"training": seen}, labelled), strict=True):
        path.write_text(json.dumps(content, indent=1))
    return paths


def unlabelled(name: str, folder: Path) -> str:
    """What a set is pretrained on: no test image is in it."""
    return str(split_hippocampus(folder / name)[0] if name == "hippocampus" else export_training_pictures(name, folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=[*NPZ, "hippocampus"])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    print(unlabelled(arguments.set, arguments.folder))


if __name__ == "__main__":
    main()
