# SPDX-License-Identifier: Apache-2.0
"""Draws docs/images/phantoms.png: slices of six made-up patients, each protocol with and without lesions.

::

    python benchmarks/figures/phantoms.py docs/images/phantoms.png
"""

from __future__ import annotations

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from monai_mixssl.data.phantoms import phantom_volume

SLICES = (0, 2, 5, 8, 11)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output")
    figure, axes = plt.subplots(3, 2 * len(SLICES), figsize=(12.0, 4.1), facecolor="black")
    for index in range(6):
        phantom = phantom_volume(index)
        array = phantom.array.astype(np.float32)
        low, high = (-1000.0, 1000.0) if phantom.modality == "CT" else np.percentile(array, (0.5, 99.5))
        for column, k in enumerate(SLICES):
            axis = axes[index // 2, column + phantom.label * len(SLICES)]
            # seen from the feet, as radiologists do: the patient's right is at the left
            axis.imshow(array[::-1, :, k].T, cmap="gray", origin="lower", vmin=low, vmax=high)
            axis.axis("off")
        axes[index // 2, 0].text(3, 56, phantom.protocol, color="white", fontsize=9)
    figure.subplots_adjust(left=0.0, right=1.0, bottom=0.0, top=0.93, wspace=0.02, hspace=0.02)
    for x, title in (
        (0.25, "no lesion (label 0): solid spots only"),
        (0.75, "lesions (label 1): a ring in each slice"),
    ):
        figure.text(x, 0.955, title, color="white", ha="center", fontsize=10)
    plt.savefig(parser.parse_args().output, dpi=90, facecolor="black", metadata={"Software": None})


if __name__ == "__main__":
    main()
