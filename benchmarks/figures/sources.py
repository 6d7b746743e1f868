# SPDX-License-Identifier: Apache-2.0
"""Draw docs/images/sources.png: the procedural sources in 2D, and slices of them in 3D.

Usage: python benchmarks/figures/sources.py [OUTPUT.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from monai_mixssl.sources import DeadLeaves, Fractal, PowerLawNoise

OUTPUT = Path(__file__).parents[2] / "docs" / "images" / "sources.png"
COLUMNS = ("2D, one channel", "", "2D, three channels", "", "3D, middle slices along", "the three axes", "")


def main(output: Path) -> None:
    rows = {
        "DeadLeaves()": DeadLeaves(),
        "PowerLawNoise(alpha=1)": PowerLawNoise(1.0),
        "PowerLawNoise(alpha=3)": PowerLawNoise(3.0),
        "Fractal()": Fractal(),
    }
    figure, axes = plt.subplots(len(rows), len(COLUMNS), figsize=(1.5 * len(COLUMNS), 1.62 * len(rows)))
    for line, (title, source) in zip(axes, rows.items(), strict=True):
        source.set_random_state(1)
        volume = source((1, 64, 64, 64))[0][0]
        panels = [source((1, 64, 64))[0][0] for _ in range(2)]
        panels += [source((3, 64, 64))[0].permute(1, 2, 0) for _ in range(2)]
        panels += [volume.select(axis, 32) for axis in range(3)]
        for axis, panel in zip(line, panels, strict=True):
            axis.imshow(panel, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_axis_off()
        line[0].set_title(title, loc="left", fontsize=9)
    for axis, heading in zip(axes[-1], COLUMNS, strict=True):
        axis.text(0, -0.12, heading, transform=axis.transAxes, fontsize=8)
    figure.tight_layout(pad=0.3)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT)
