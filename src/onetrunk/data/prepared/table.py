"""A prepared table: opened in place of the files that it was made of, without reading or encoding them again.

Its columns are `KeptValues`. They look like any other column of a table; fitting and encoding ask them for what is kept
(`fitted_before`, `encoded_before`), which they have as long as nobody has changed the values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onetrunk.core.content import Content
from onetrunk.core.errors import DataError, ModelFileError
from onetrunk.core.values import BLOCK, Values, blocks, present, take, written
from onetrunk.data import spool
from onetrunk.data.prepared.columns import column_key, open_column
from onetrunk.data.prepared.crew import cores
from onetrunk.data.prepared.folder import ENCODED, FITTED, PREPARED, ROW_SPLITS, VALUES, part_folder
from onetrunk.data.prepared.parts import Part, Shard, sha256_of
from onetrunk.data.readers.common import join
from onetrunk.data.sources import name_of
from onetrunk.data.split import SPLITS, Split
from onetrunk.storage.arrays import map_arrays
from onetrunk.storage.strict_json import read_json

if TYPE_CHECKING:
    from onetrunk.core.encoder import Encoder
    from onetrunk.data.table import Table

REPEATED = len(SPLITS)  # beside the numbers of splits: left out, for it equals a row of an earlier one
AGAIN = "The command that prepared it, given again, makes what is damaged anew."


class PreparedTable:
    """The folder of one. `damaged` are the shards whose bytes are not what was written: their rows are left out."""

    def __init__(self, folder: Path, parts: Sequence[Part], *, check: bool = True) -> None:
        self.folder, self.parts = folder, parts
        self.shards = [shard for part in parts for shard in part.shards]
        self.damaged = self._damaged() if check else []
        self.rows = self._rows()
        self._columns: dict[str, Sequence[Any]] | None = None
        self._fitted: list[dict[str, Any]] | None = None
        self._encoded: dict[str, tuple[Content, np.ndarray] | None] = {}

    @classmethod
    def open(cls, folder: Path, max_bad: float) -> PreparedTable:
        """A finished one. DataError where more than `max_bad` of its rows are lost, or where it is not finished."""
        if not (folder / PREPARED).is_file():
            raise DataError(
                f"{folder} is a table that is being prepared, and not finished: give the command again that began it."
            )
        made = read_json(folder / PREPARED)
        try:
            opened = cls(folder, [Part.open(part_folder(folder, number)) for number in made["parts"]])
        except ModelFileError as error:
            raise DataError(f"The prepared table {folder} is damaged: {error} {AGAIN}") from None
        opened.check(max_bad)
        return opened

    def check(self, max_bad: float) -> None:
        """Raises DataError where damaged shards hold more than this share of all rows."""
        lost, total = sum(shard.rows for shard in self.damaged), sum(shard.rows for shard in self.shards)
        if lost > max_bad * total:
            listed = ", ".join(map(str, self.damaged[:5])) + (", …" if len(self.damaged) > 5 else "")
            raise DataError(
                f"{len(self.damaged):,} of {len(self.shards):,} shards of the prepared table {self.folder} are damaged "
                f"({listed}), and with them {lost:,} of {total:,} rows; at most {max_bad:.2%} may be lost. {AGAIN}"
            )

    def _damaged(self) -> list[Shard]:
        with ThreadPoolExecutor(cores()) as pool:
            return [shard for shard, whole in zip(self.shards, pool.map(self._is_whole, self.shards), strict=True)
                    if not whole]  # fmt: skip

    def _is_whole(self, shard: Shard) -> bool:
        path = self.folder / VALUES / str(shard).partition("/")[2]
        try:
            return path.stat().st_size == shard.bytes and sha256_of(path) == shard.sha256
        except OSError:
            return False

    def _rows(self) -> np.ndarray | None:
        """Which of all rows are there, int64; None: all."""
        if not self.damaged:
            return None
        which = np.repeat([shard not in self.damaged for shard in self.shards], [shard.rows for shard in self.shards])
        return np.flatnonzero(which)

    def __len__(self) -> int:
        return sum(shard.rows for shard in self.shards) if self.rows is None else len(self.rows)

    @property
    def digest(self) -> str:
        """Equal for equal values, in equal shards."""
        return hashlib.blake2b("".join(shard.sha256 for shard in self.shards).encode(), digest_size=16).hexdigest()

    @property
    def notes(self) -> list[str]:
        return list(dict.fromkeys(note for part in self.parts for note in part.notes))

    @property
    def tables(self) -> list[tuple[str, int]]:
        """The names of the files that it was made of, and how many rows of each are there."""
        lost = [sum(shard.rows for shard in self.damaged if shard.part == part.number) for part in self.parts]
        return [(name_of(part.source), part.rows - less) for part, less in zip(self.parts, lost, strict=True)]

    def columns(self) -> dict[str, Sequence[Any]]:
        """All of them, over the rows that are there."""
        if self._columns is None:
            joined = join([part.columns(self.damaged) for part in self.parts])
            self._columns = {name: KeptValues(self, name, values) for name, values in joined.items()}
        return self._columns

    # -- what is kept of earlier work ----------------------------------------------------------------------------------
    def splits(self) -> np.ndarray | None:
        """The number of each row's split, int8 [rows]; -1 where it is in none."""
        try:
            of_all = map_arrays(self.folder / ROW_SPLITS)["split"]
        except (ModelFileError, KeyError):
            return None
        return of_all if self.rows is None else of_all[self.rows]

    def decided(self, said: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was decided of types, roles and splits where all of this was said; else None."""
        try:
            made = read_json(self.folder / PREPARED)["decided"]
        except (ModelFileError, KeyError):  # it is being made
            return None
        asked: dict[str, Any] = made["question"]
        return made if all(name in asked and asked[name] == value for name, value in said.items()) else None

    def split(self, kept: Mapping[str, Any]) -> Split | None:
        """The split that was decided."""
        numbers = self.splits()
        if numbers is None:
            return None
        rows = {name: spool.kept(np.flatnonzero(numbers == i)) for i, name in enumerate(SPLITS)}
        repeated = np.flatnonzero(numbers == REPEATED)
        return Split(**rows, how=kept["how"], equal_across=kept["equal_across"], repeated=repeated, notes=kept["notes"])

    def knowledge(self, kind: str, options: Mapping[str, Any], names: Sequence[str], rows: str) -> Any:
        """What an encoder learnt from these columns' values in these rows (`rows_digest`), else None."""
        if self._fitted is None:
            try:
                made = read_json(self.folder / FITTED)
                self._fitted = made["fitted"] if made["of"] == self.digest else []
            except (ModelFileError, KeyError):
                self._fitted = []
        wanted = {"type": kind, "options": dict(options), "names": list(names), "rows": rows}
        return next((each["knowledge"] for each in self._fitted if wanted.items() <= each.items()), None)

    def encoded(self, name: str, encoder: Encoder) -> tuple[Content, np.ndarray] | None:
        """A whole column as this encoder encodes it, and where each row's value is in it, int64 [rows], -1 where it has
        none; None where nobody has encoded it so, or where that is damaged."""
        key = column_key(name, encoder)
        if key not in self._encoded:
            self._encoded[key] = open_column(self.folder / ENCODED / key, self.shards)
        opened = self._encoded[key]
        if opened is None:
            return None
        content, index = opened
        return content, index if self.rows is None else index[self.rows]


class KeptValues(Values):
    """A column of a prepared table: its values in these `rows`, None for all."""

    def __init__(self, table: PreparedTable, name: str, values: Sequence[Any], rows: np.ndarray | None = None) -> None:
        self.table, self.name, self._values, self.rows = table, name, values, rows

    def __len__(self) -> int:
        return len(self._values) if self.rows is None else len(self.rows)

    def take(self, index: np.ndarray) -> KeptValues:
        return KeptValues(self.table, self.name, self._values, index if self.rows is None else self.rows[index])

    @property
    def written(self) -> Sequence[Any]:
        return KeptValues(self.table, self.name, written(self._values), self.rows)

    def present(self) -> np.ndarray:
        return present(self._values if self.rows is None else take(self._values, self.rows))

    def blocks(self, size: int = BLOCK) -> Iterator[list[Any]]:
        return blocks(self._values if self.rows is None else take(self._values, self.rows), size)


def rows_digest(values: KeptValues) -> str:
    """Equal for the same rows of a table."""
    if values.rows is None:
        return f"all {len(values)}"
    return hashlib.blake2b(np.ascontiguousarray(values.rows).tobytes(), digest_size=16).hexdigest()


def fitted_before(columns: Sequence[Sequence[Any]], kind: str, options: Mapping[str, Any]) -> Any:
    """What an encoder of this type and with these options learnt from these columns, where that is kept."""
    kept = [values for values in columns if isinstance(values, KeptValues)]
    if not kept or len(kept) < len(columns) or kept[0].table.damaged:
        return None
    return kept[0].table.knowledge(kind, options, [each.name for each in kept], rows_digest(kept[0]))


def encoded_before(values: Sequence[Any], encoder: Encoder) -> tuple[Content, np.ndarray] | None:
    """The column's kept content, and where each of these values is in it, int64 [n], -1 where there is none."""
    if not isinstance(values, KeptValues):
        return None
    kept = values.table.encoded(values.name, encoder)
    if kept is None:
        return None
    content, index = kept
    return content, index if values.rows is None else index[values.rows]


def prepared_table(table: Table) -> PreparedTable | None:
    """The prepared table that this is, all of it."""
    first = next((values for values in table.columns.values() if isinstance(values, KeptValues)), None)
    return first.table if first is not None and first.rows is None else None


def damaged_shards(table: Table) -> list[Shard]:
    """The files of a prepared table whose rows are left out, because they are not what was written."""
    prepared = prepared_table(table)
    return [] if prepared is None else prepared.damaged
