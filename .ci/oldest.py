"""Prints pip constraints: every dependency that the package needs at its lower bound, and no torch but the one that is
installed here.

Torch's own oldest release is not among them: it draws gigabytes of CUDA packages from some indexes.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest(dependency: str) -> str:
    """`numpy==1.26` for `numpy>=1.26`; raises ValueError where there is no lower bound, or several."""
    needed = Requirement(dependency)
    if needed.name == "torch":
        return f"torch=={version('torch')}"
    bounds = [each.version for each in needed.specifier if each.operator == ">="]
    if len(bounds) != 1:
        raise ValueError(f"{dependency!r} in {PROJECT.name}: expected one lower bound (>=), found {len(bounds)}.")
    return f"{needed.name}=={bounds[0]}"


if __name__ == "__main__":
    print(*map(lowest, tomllib.loads(PROJECT.read_text())["project"]["dependencies"]), sep="\n")
