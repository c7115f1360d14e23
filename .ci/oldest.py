"""Prints pip constraints: every dependency that the package needs at its lower bound, those of the extras that are
named too, and no torch but the one that is installed here.

    python .ci/oldest.py serve,tune

Torch's own oldest release is not among them: it draws gigabytes of CUDA packages from some indexes.
"""

from __future__ import annotations

import sys
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


def dependencies(extras: list[str]) -> list[str]:
    """Of the package and of these extras. Raises KeyError for one that there is not."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    return [*project["dependencies"], *(each for extra in extras for each in project["optional-dependencies"][extra])]


if __name__ == "__main__":
    print(*map(lowest, dependencies([extra for names in sys.argv[1:] for extra in names.split(",")])), sep="\n")
