"""Tells of columns whose texts name files of media that nobody opened: what would be learnt is the names."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onetrunk.core.registry import column_types
from onetrunk.core.values import sample_present
from onetrunk.data.readers.common import LONGEST_NAME
from onetrunk.data.readers.workbooks import split_name
from onetrunk.data.table import IN_MEMORY, Table

_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{1,7}$", re.I)  # few texts end in one, so few are looked up


def unopened_files(table: Table, types: Mapping[str, str]) -> list[str]:
    """A sentence for each column of `types` (`{name: inferred type}`) in which more than half of the values are names
    of files that one column type reads: how many of them were found where, and how to have them opened."""
    kind_of_suffix: dict[str, str | None] = {}
    notes = []
    for name, inferred in types.items():
        sample = sample_present(table[name])
        named, kind = _names_of_files(sample, kind_of_suffix)
        if kind not in (None, inferred):
            notes.append(_note(table.source, name, inferred, str(kind), named, len(sample)))
    return notes


def _names_of_files(values: Sequence[Any], kind_of_suffix: dict[str, str | None]) -> tuple[list[str], str | None]:
    """The values that name files of the most frequent kind, and the column type that reads these; none, where they are
    not more than half. `kind_of_suffix` is filled with what was looked up."""
    if not values or not isinstance(values[0], str):
        return [], None
    kinds: list[str | None] = []
    others = 0
    for value in values:
        kinds.append(_kind_of(value, kind_of_suffix))
        others += kinds[-1] is None
        if others >= len(values) / 2:  # most columns of texts end here
            return [], None
    kind, count = Counter(kinds).most_common(1)[0]
    if count <= len(values) / 2:
        return [], None
    return [value for value, its in zip(values, kinds, strict=True) if its == kind], kind


def _kind_of(value: Any, kind_of_suffix: dict[str, str | None]) -> str | None:
    if not isinstance(value, str) or len(value) > LONGEST_NAME or "\n" in value or not (found := _SUFFIX.search(value)):
        return None
    suffix = found[0].lower()
    if suffix not in kind_of_suffix:
        kind_of_suffix[suffix] = _kind_by_suffix(suffix)
    return kind_of_suffix[suffix]


def _kind_by_suffix(suffix: str) -> str | None:
    """The column type that recognises a file by this suffix, and not one without it."""
    gains = {}
    for kind in column_types.names():
        recognise = column_types.get(kind).encoder.recognise
        gains[kind] = recognise([Path(f"file{suffix}")]) - recognise([Path("file")])
    best = max(gains, key=lambda kind: gains[kind])
    return best if gains[best] > 0 else None


def _note(source: str, name: str, inferred: str, kind: str, named: list[str], looked_at: int) -> str:
    here, folders, all_named = Path.cwd(), _folders_of(source), f"{len(named):,}"
    what = (
        f"{name}: learnt as {inferred}, but {all_named} of the {looked_at:,} values looked at name files of the type "
        f"{kind}, for example {named[0][:100]!r}."
    )
    say = f"--types {name}={kind} (in Python types={{{name!r}: {kind!r}}})"
    from_here = f"from the working folder, {here}, where {_found(named, [here])} of {all_named} are"
    if not folders:
        return f"{what} Files that a table in memory names are opened only where you say so: {say}, {from_here}."
    beside = " and ".join(map(str, folders))
    return (
        f"{what} They were looked for in the table's folder, {beside}: {_found(named, folders)} of {all_named} are "
        f"there. Put the files there, or write whole paths into the table; or {say} opens them {from_here}."
    )


def _folders_of(source: str) -> list[Path]:
    """The folders of the files that a table was read from; none where it was in memory, or comes from a hub."""
    paths = [split_name(Path(part))[0] for part in source.split(" + ") if part != IN_MEMORY]
    there = [path.absolute() for path in paths if path.exists()]
    return list(dict.fromkeys(path if path.is_dir() else path.parent for path in there))


def _found(names: Sequence[str], folders: Sequence[Path]) -> str:
    """How many of the files are in one of the folders."""
    return f"{sum(any(os.path.isfile(folder / name) for folder in folders) for name in names):,}"
