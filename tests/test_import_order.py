# SPDX-License-Identifier: Apache-2.0
"""Imports run one way, as CONTRIBUTING.md says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import monai_mixssl

PACKAGE = Path(monai_mixssl.__file__).parent
# each imports from those before it
LAYERS = [
    ["errors", "output_folder"],
    ["mixing"],
    ["sources"],
    ["transforms", "data"],
    ["networks", "losses"],
    ["probes"],
    ["engines"],
    ["handlers"],
    ["workflows"],
    ["compare", "doctor"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imported(file: Path) -> Iterator[str]:
    """The parts of the package that a file imports, anywhere in it; a name of the package itself is none."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.module, f"{file.name} has a relative import"
            assert not node.level, f"{file.name} has a relative import"
            modules = [node.module] if "." in node.module else [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in modules if name.startswith("monai_mixssl."))


@pytest.mark.parametrize("part", LEVEL)
def test_a_part_imports_from_those_below_it_alone(part):
    files = [PACKAGE / f"{part}.py"] if (PACKAGE / f"{part}.py").exists() else [*(PACKAGE / part).glob("**/*.py")]
    assert files
    found = {name for file in files for name in imported(file)} - {part, "__version__"}
    assert {name for name in found if LEVEL[name] >= LEVEL[part]} == set()


def test_every_part_has_its_place():
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__", "bundles"} == LEVEL.keys()
