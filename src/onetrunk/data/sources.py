"""What the words of a command name: a file, a folder, or several, one under the other, each as `table.read` takes it.

`a.csv,b.csv` are two files; `data/*.parquet` (in quotation marks, or the shell takes it apart) are all that the pattern
matches, in the order of their names, and `s3://bucket/data/*.parquet` is a pattern too. A folder of numbered files
(`part-000.parquet`, `part-001.parquet`) is all of them.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onetrunk.core.errors import UsageError
from onetrunk.data.prepared.folder import is_prepared
from onetrunk.data.readers.common import suffix_of
from onetrunk.data.readers.folders import READERS, SPLIT_OF
from onetrunk.data.remote import is_remote, remote_files

_PATTERN = ("*", "?", "[")
_NUMBERED = re.compile(r"(.*?)(?:^|[-_])\d+(?:[-_]of[-_]\d+)?")


def sources_of(source: Any, allow_network: bool = False) -> Sequence[Any] | None:
    """The several sources that one stands for; None where it is one. UsageError for a pattern that matches nothing, and
    for one of files elsewhere unless the network is allowed."""
    if isinstance(source, list | tuple):
        several = bool(source) and not any(isinstance(each, dict) for each in source)
        return [one for each in source for one in _each(each, allow_network)] if several else None
    names = _each(source, allow_network)
    return names if len(names) > 1 or names[0] is not source else None


def name_of(source: Any) -> str:
    """What a source is called: the name of its file without its number and what follows; `web` for `a/web-003.csv.gz`.
    Of a file in a folder of numbered ones, which have no other name, the folder's; of what is in memory, nothing."""
    if not isinstance(source, str | os.PathLike):
        return ""
    path = Path(str(source).partition("?")[0])
    stem = path.name.partition(".")[0] if suffix_of(path) in READERS else path.name
    match = _NUMBERED.fullmatch(stem)
    return (match[1] if match else stem) or path.parent.name


def _each(source: Any, allow_network: bool) -> Sequence[Any]:
    """The sources that one stands for: itself, most often."""
    if not isinstance(source, str | os.PathLike):
        return [source]
    words = str(source)
    if os.path.exists(words):
        return _numbered_files(Path(words)) or [source]
    parts = words.split(",")
    if len(parts) > 1 and all(parts):
        return [one for part in parts for one in _each(part, allow_network)]
    if not any(sign in words for sign in _PATTERN) or ("://" in words and not is_remote(words)):
        return [source]
    if is_remote(words):  # in an address, ? is not for one letter
        return remote_files(words, allow_network) if "*" in words else [source]
    matches = sorted(glob.glob(words, recursive=True))
    if not matches and not {"*", "?"} & set(words):  # a name with a bracket, which is not there
        return [source]
    if not matches:
        raise UsageError(f"No file matches {words!r}: expected at least one.")
    return matches


def _numbered_files(folder: Path) -> list[str]:
    """The files of a folder that holds nothing but a table in numbered files; nothing where it is another folder. Those
    of splits (`train-000.csv`) are not among them."""
    if not folder.is_dir() or is_prepared(folder):
        return []
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))
    kinds = {suffix_of(path) for path in inside}
    matches = [_NUMBERED.fullmatch(path.name.partition(".")[0]) for path in inside]
    names = {match[1] for match in matches if match is not None}
    if len(inside) < 2 or None in matches or len(kinds) != 1 or len(names) != 1 or not kinds <= {*READERS} - {".txt"}:
        return []
    return [] if names & SPLIT_OF.keys() else [str(path) for path in inside]
