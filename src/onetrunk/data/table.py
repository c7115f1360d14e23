"""A dataset is a table: named columns of Python values, None where missing; their types and their roles.

A column is a list, or `core.values.Values`, which make their values as they are looked at: a table may be larger than
memory, and nothing here copies more than its row numbers.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core import rng
from onetrunk.core.encoder import History
from onetrunk.core.errors import DataError, UsageError, unknown
from onetrunk.core.registry import column_types
from onetrunk.core.values import Values, blocks, loaded, rows_within, sample_present, take
from onetrunk.data import spool
from onetrunk.data.duplicates import NONE, block_keys, numbered, value_keys
from onetrunk.data.ledger import MAX_BAD
from onetrunk.data.prepared.folder import is_prepared
from onetrunk.data.readers import common, folders, hub, memory
from onetrunk.data.remote import fetched, is_remote
from onetrunk.data.sources import name_of, sources_of

IN_MEMORY = "memory"  # the source of a table that no file holds

_ID_NAME = re.compile(r"(?i:(?:^|[_\W])(?:id|uuid|guid|idx|index|key)$|^unnamed: \d+$)|[a-z]I[dD]$|编号$|序号$")
# What a table's row numbers are called where programs write them beside it: nothing, or a word of theirs.
_NAMELESS = re.compile(r"\s*|unnamed: \d+(\.\d+)*|(column |\.\.\.)1|level_\d+|__index_level_\d+__", re.I)
_INDEX_NAME = re.compile(r"index|row[._ ]?(names?|numbers?|nr|no|num)?", re.I)
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}|[0-9a-f]{16,64}", re.I)
_EXACT = 1 << 53
_SAMPLED_BYTES = 64 << 20  # of a sample of values that are not in memory
_MOSTLY_DIFFERENT = 0.5  # of row numbers: two shuffled files joined have some numbers twice
_SAYS_SPLIT = "says which split a row belongs to"
_TOLD = "ignored, as told"
_LOOKED_AT = 100  # rows: most columns have two values there
_ENOUGH_ROWS_PER_VALUE = 5  # with fewer, two columns may match value by value without telling of each other


class Table:
    """`row` int64 [rows] is where each row stood in its source (from 0): messages and ledgers name it. `tables` are the
    names of the tables that stand in it, one under the other, and how many rows each has, where it was read of several.
    """

    def __init__(
        self,
        columns: dict[str, Sequence[Any]],
        source: str = IN_MEMORY,
        row: np.ndarray | None = None,
        notes: list[str] | None = None,
        tables: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.columns, self.source, self.tables = columns, source, tables
        self.row = spool.kept(np.arange(len(self), dtype=np.int64)) if row is None else row
        self.notes: list[str] = [] if notes is None else notes

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def __getitem__(self, name: str) -> Sequence[Any]:
        if name not in self.columns:
            raise unknown("column", name, self.columns)
        return self.columns[name]

    @property
    def names(self) -> list[str]:
        return list(self.columns)

    @property
    def is_mapped(self) -> bool:
        """Is it too large to be held in memory?"""
        return any(isinstance(values, Values) for values in self.columns.values())

    def take(self, index: np.ndarray | Sequence[int]) -> Table:
        """The rows of `index` (numbers, or a mask as long as the table), in that order."""
        index = np.asarray(index)
        index = spool.kept(np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64, copy=False))
        columns = {name: take(values, index) for name, values in self.columns.items()}
        return Table(columns, self.source, spool.take(self.row, index), self.notes)

    def select(self, names: Iterable[str]) -> Table:
        return Table({name: self[name] for name in names}, self.source, self.row, self.notes, self.tables)

    def without(self, names: Iterable[str]) -> Table:
        left_out = set(names)
        return self.select(name for name in self.columns if name not in left_out)

    def sample(self, most: int, key: str) -> Table:
        """Itself, or `most` of its rows, in their order: always the same ones for a key. Of large values that are not
        in memory it is fewer rows, so that it can hold them."""
        outside = [values for values in self.columns.values() if isinstance(values, Values)]
        most = rows_within(outside, most, _SAMPLED_BYTES) if outside else most
        if len(self) <= most:
            return self
        return self.take(rng.some_of(rng.key(0, key), len(self), most))

    def loaded(self, names: Iterable[str]) -> Table:
        """These columns, as far as there are such, in memory."""
        columns = {name: values for name in names if (values := self.columns.get(name)) is not None}
        lists = {name: loaded(values) for name, values in columns.items()}
        return Table(lists, self.source, self.row, self.notes)

    def rename(self, names: Mapping[str, str]) -> Table:
        """`{"old": "new"}` renames the column old. Raises UsageError for unknown or clashing names."""
        for name in names:
            self[name]
        renamed = [names.get(name, name) for name in self.columns]
        twice = {name for name in renamed if renamed.count(name) > 1}
        if twice:
            raise UsageError(f"Renaming {dict(names)} gives two columns the name {sorted(twice)[0]!r}.")
        columns = dict(zip(renamed, self.columns.values(), strict=True))
        return Table(columns, self.source, self.row, self.notes, self.tables)

    def frame(self) -> Any:
        """As a pandas DataFrame of objects, indexed by row number."""
        import pandas

        columns = {name: pandas.Series(values, self.row, dtype=object) for name, values in self.columns.items()}
        return pandas.DataFrame(columns, index=self.row)

    @staticmethod
    def concat(tables: Sequence[Table]) -> Table:
        """One under the other; columns that one of them lacks are missing there."""
        names = list(dict.fromkeys(t.source for t in tables))
        rows = np.concatenate([t.row for t in tables]) if len(names) == 1 else None
        notes = list(dict.fromkeys(note for t in tables for note in t.notes))
        return Table(common.join([t.columns for t in tables]), " + ".join(names), rows, notes)


def read(
    source: Any,
    *,
    columns: Sequence[str] | None = None,
    allow_network: bool = False,
    missing: Sequence[str] | None = None,
    separator: str | None = None,
    max_bad: float = MAX_BAD,
) -> Table:
    """Reads a file, folder, DataFrame, table of Arrow's kind (pyarrow, polars), dict of lists, list of dicts, array
    [rows, columns] or Hugging Face dataset; or several of them, in a list, as paths with commas between, or as a
    pattern (`data/*.parquet`), one under the other. `file:name` is a sheet of a workbook or a table of a database. The
    folder that `prepare` made is read without the files that it was made of; `max_bad` is the share of its rows that
    may be lost by damage.

    `missing` are the words that stand for a missing value (none: only what is empty); by default those that are usual
    in text files, unless they stand in quotation marks. `separator` stands between the cells of CSV and TSV files; by
    default it is found in them. `hf://name[:config]` is a dataset of the hub.

    Values come typed (int, float, bool, str, date, datetime, Path, list, dict), None where missing. Strings that name
    media files beside a table become paths; rows in memory, perhaps from a request, never do. Raises UsageError for
    what is not there, DataError for what cannot be used, MissingExtraError where a package is needed and not installed.
    """
    notes: list[str] = []
    options = common.ReadOptions(None if missing is None else tuple(missing), separator)
    name = IN_MEMORY
    pandas = sys.modules.get("pandas")  # a DataFrame exists only if someone imported it
    if isinstance(source, Table):
        table = source
    elif (several := sources_of(source, allow_network)) is not None:
        parts = [
            read(each, allow_network=allow_network, missing=missing, separator=separator, max_bad=max_bad)
            for each in several
        ]
        table = Table.concat(parts)
        table.tables = [(name_of(each), len(part)) for each, part in zip(several, parts, strict=True)]
    elif isinstance(source, str | Path) and is_prepared(Path(source)):
        from onetrunk.data.prepared.table import PreparedTable  # which reads files by this function

        kept = PreparedTable.open(Path(source), max_bad)
        table = Table(kept.columns(), str(source), kept.rows, kept.notes, kept.tables)
    elif is_remote(source):
        with fetched(source, allow_network) as path:
            table = read(path, missing=missing, separator=separator)
            table = Table(table.columns, source, notes=table.notes)
    else:
        if isinstance(source, str) and source.startswith("hf://"):
            name, contents = source, hub.from_hub(source.removeprefix("hf://"), allow_network)
        elif isinstance(source, str | Path):
            name, contents = str(source), folders.from_path(Path(source), notes, options)
        elif pandas is not None and isinstance(source, pandas.DataFrame):
            contents = memory.from_frame(source)
        elif hub.is_dataset(source):
            contents = hub.from_dataset(source)
        elif hub.is_stream(source):
            contents = hub.from_stream(source)
        elif isinstance(source, np.ndarray):
            contents = memory.from_array(source)
        elif hasattr(source, "__arrow_c_stream__"):
            contents = memory.from_stream(source)
        elif isinstance(source, dict) and source and all(map(hub.is_dataset, source.values())):
            contents = folders.from_splits({each: hub.from_dataset(d) for each, d in source.items()})
        elif isinstance(source, dict):
            contents = memory.from_mapping(source)
        elif isinstance(source, list | tuple) and all(isinstance(r, dict) for r in source):
            contents = memory.from_records(source)
        else:
            raise UsageError(
                f"Cannot read a {type(source).__name__}: expected a path, a DataFrame, a table of Arrow's kind "
                "(pyarrow, polars), a dict of lists, a list of dicts, an array [rows, columns], a Hugging Face "
                "dataset or 'hf://name', or a list of these."
            )
        if options.missing:
            contents = {name: common.without_words(values, options.missing) for name, values in contents.items()}
        table = Table(common.unicode_only(contents, notes), name, notes=notes)
    if not len(table):
        raise DataError(f"The table {name} has no rows.")
    return table if columns is None else table.select(columns)


def infer_types(table: Table, overrides: Mapping[str, str] | None = None, *, of_events: bool = False) -> dict[str, str]:
    """The type of every column with values: the one that recognises it best, or what `overrides` say. In rows made of
    events (`of_events`) lists and dictionaries are histories, not sets of labels.

    A column without any value, or that nobody recognises, is left out and noted on the table.
    """
    overrides = overrides or {}
    for name, chosen in overrides.items():
        table[name]
        column_types.get(chosen)
    types = {}
    encoders = {kind: column_types.get(kind).encoder for kind in column_types.names()}
    for name, values in table.columns.items():
        sample = sample_present(values)
        if name in overrides:
            types[name] = overrides[name]
        elif not sample:
            table.notes.append(f"The column {name!r} has no values: left out.")
        else:
            scores = {kind: encoder.recognise(sample) for kind, encoder in encoders.items()}
            if of_events and isinstance(sample[0], list | dict):
                histories = {kind: s for kind, s in scores.items() if s and _is_history(kind)}
                scores = histories or scores
            best = max(scores, key=lambda kind: scores[kind])  # names are sorted: the first of equals
            if scores[best] > 0:
                types[name] = best
            else:
                example = type(sample[0]).__name__
                table.notes.append(
                    f"No column type recognises {name!r} (values like {example}): left out; see --types."
                )
    return types


def _is_history(kind: str) -> bool:
    return issubclass(column_types.get(kind).encoder, History)


def is_given_split(name: str, values: Sequence[Any]) -> bool:
    """Is this the column that says which split each row belongs to?"""
    if name != "split":
        return False
    words: set[str] = set()
    for block in blocks(values):
        present = {v for v in block if v is not None} if all(isinstance(v, str | None) for v in block) else {""}
        if not all(v.strip().lower() in folders.SPLIT_OF for v in present):
            return False
        words |= present
    return bool(words)


def roles(
    table: Table,
    types: Mapping[str, str],
    ask: Sequence[str] | None = None,
    given: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    split_by: str | None = None,
) -> tuple[list[str], list[str], dict[str, str]]:
    """What is given, what is asked, and why each other column is left out. `split_by` is a column that is named to say
    which split each row belongs to.

    Without `given`, everything is, but ids, constants and columns that tell the answer; naming them in
    `given` takes them all the same. Where there is no other column, what is asked is asked from nothing. Raises
    UsageError for names that do not exist, or that are in two places.
    """
    ask, ignore = list(ask or []), list(ignore or [])
    reasons = left_out(table, types, ask, ignore, split_by)
    _check_usable(table, types, given or [])
    for one, other, names in (
        ("asked", "given", set(ask) & set(given or [])),
        ("asked", "ignored", set(ask) & set(ignore)),
    ):
        if names:
            raise UsageError(f"The column {sorted(names)[0]!r} is both {one} and {other}: choose one.")
    if given is not None:
        chosen = [name for name in dict.fromkeys(given) if name not in ignore]
        others = [name for name in types if name not in chosen and name not in ask]
        return chosen, ask, {name: _TOLD if name in ignore else "not among those given" for name in others}
    chosen = [name for name in types if name not in ask and name not in reasons]
    useless = [f"{name} ({why})" for name, why in reasons.items() if why != _SAYS_SPLIT]
    if not chosen and useless and not any(_is_history(types[name]) for name in ask):
        listed = "; ".join(useless)
        raise UsageError(f"Nothing is left to be given: {listed}. Name the columns to give with --given.")
    return chosen, ask, reasons


def left_out(
    table: Table,
    types: Mapping[str, str],
    ask: Sequence[str],
    ignore: Sequence[str] = (),
    split_by: str | None = None,
) -> dict[str, str]:
    """Why each column that is not asked should not be given, for those that should not."""
    _check_usable(table, types, ask)
    for name in ignore:
        table[name]
    asked = {name: value_keys(table[name]) for name in ask}
    reasons = {}
    for name, values in table.columns.items():
        if name in ask:
            continue
        if name in ignore:
            reasons[name] = _TOLD
        elif name == split_by or is_given_split(name, values):
            reasons[name] = _SAYS_SPLIT
        elif name not in types:
            reasons[name] = "has no usable values"
        elif reason := _useless(name, values) or _leak(values, asked):
            reasons[name] = reason
    return reasons


def unlearnable(table: Table, names: Sequence[str], rows: np.ndarray) -> dict[str, str]:
    """Why some of these columns can teach nothing in these rows, int64 [n]: they have no value there, or always the
    same one."""
    reasons = {}
    for name in names:
        values = table[name]
        if not len(rows) or distinct_in(values, rows[:_LOOKED_AT]) != 1 or distinct_in(values, rows) != 1:
            continue
        first = values[int(rows[0])]
        missing = first is None
        reasons[name] = (
            "has no value in the training rows" if missing else f"always {str(first)[:40]!r} in the training rows"
        )
    return reasons


def distinct_in(values: Sequence[Any], rows: np.ndarray) -> int | None:
    """How many different values these rows have, a missing one being one of them; None where that is not cheaply
    known (`value_keys`)."""
    keys = value_keys(take(values, rows))
    return None if keys is None else len(np.unique(keys))


def _check_usable(table: Table, types: Mapping[str, str], names: Sequence[str]) -> None:
    for name in names:
        table[name]
        if name not in types:
            raise DataError(f"The column {name!r} has no values, or none that a column type knows.")


def _useless(name: str, values: Sequence[Any]) -> str | None:
    """Why a column can teach nothing: it numbers or names the rows, or is always the same."""
    n = len(values)
    if n < 2:
        return None
    nameless = _NAMELESS.fullmatch(name) is not None
    if (nameless or _INDEX_NAME.fullmatch(name)) and _numbers_rows(values, _MOSTLY_DIFFERENT if nameless else 1.0):
        return "an id: the numbers of the rows"
    keys = []
    for block in blocks(values):
        of_block = block_keys(block)
        if of_block is None or (of_block == NONE).any():  # missing or not is a difference; media are never ids
            return None
        keys.append(of_block)
        if 1 < len(np.unique(of_block)) < len(of_block):  # neither constant nor an id: most columns end here
            return None
    distinct = int(numbered(np.concatenate(keys)).max()) + 1
    if distinct == 1:
        return f"a constant: always {str(values[0])[:40]!r}"
    if distinct < n:
        return None
    if isinstance(values[0], int):
        return _counting(name, values)
    named = _ID_NAME.search(name) is not None
    for block in blocks(values):
        codes = all(isinstance(v, str) and len(v) <= 64 and not re.search(r"\s", v) for v in block)
        if not codes or not (named or all(_UUID.fullmatch(v) for v in block)):
            return None
    return "an id: a different code in every row"


def _numbers_rows(values: Sequence[Any], different: float) -> bool:
    """Are these row numbers: whole, from 0 on, and either counting up, anew in each of several files, or in another
    order, at least this share of them different? Missing ones are of files that have none."""
    rows = steps = 0
    last: int | None = None
    kept: list[np.ndarray] = []
    for block in blocks(values):
        numbers = [v for v in block if v is not None]
        if not all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v < _EXACT for v in numbers):
            return False
        for number in numbers:
            steps += last is not None and (number == last + 1 or number in (0, 1))
            last = number
        rows += len(numbers)
        kept.append(np.array(numbers, dtype=np.int64))
    if rows < 2:
        return False
    return steps == rows - 1 or len(np.unique(np.concatenate(kept))) >= different * rows


def _counting(name: str, values: Sequence[Any]) -> str | None:
    """Why different whole numbers are an id: they count up from 0 or 1, or their name says so."""
    low, high = math.inf, -math.inf
    for block in blocks(values):
        if not all(isinstance(v, int) and not isinstance(v, bool) for v in block):
            return None
        low, high = min(low, *block), max(high, *block)
    counts_up = low in (0, 1) and high - low == len(values) - 1
    return "an id: a different whole number in every row" if counts_up or _ID_NAME.search(name) else None


def _leak(values: Sequence[Any], asked: Mapping[str, np.ndarray | None]) -> str | None:
    """Why giving a column would tell an answer: it is a copy, or each of its few values has one answer."""
    open_ = {name: keys for name, keys in asked.items() if keys is not None}
    inputs, looked_at, look = np.full(len(values), NONE, dtype=np.int64), 0, 1
    for block in blocks(values):
        keys = block_keys(block) if open_ else None
        if keys is None:
            return None
        inputs[looked_at : looked_at + len(block)] = keys
        looked_at += len(block)
        if looked_at >= look:  # most columns are known by their first rows
            look *= 2
            open_ = {name: keys for name, keys in open_.items() if _may_tell(inputs[:looked_at], keys)}
    return next(filter(None, (_tells(inputs, keys, name) for name, keys in open_.items())), None)


def _may_tell(inputs: np.ndarray, answers: np.ndarray) -> bool:
    """May a column of which these are the first values still tell the answers?"""
    n = len(answers)
    answers = answers[: len(inputs)]
    both = (inputs != NONE) & (answers != NONE)
    if (inputs[both] == answers[both]).all():
        return True
    value, answer = numbered(inputs[both]), numbered(answers[both])
    n_inputs = int(value.max()) + 1
    one_each = int(numbered(value * (int(answer.max()) + 1) + answer).max()) + 1 == n_inputs
    return one_each and n_inputs * _ENOUGH_ROWS_PER_VALUE <= n


def _tells(inputs: np.ndarray, answers: np.ndarray, ask: str) -> str | None:
    both = (inputs != NONE) & (answers != NONE)
    pairs = int(both.sum())
    if pairs < max(2, 0.5 * (answers != NONE).sum()):
        return None
    inputs, answers = inputs[both], answers[both]
    answer = numbered(answers)
    n_answers = int(answer.max()) + 1
    if n_answers < 2:
        return None
    if pairs >= _ENOUGH_ROWS_PER_VALUE and (inputs == answers).all():
        return f"a leak: a copy of {ask}"
    value = numbered(inputs)
    n_inputs = int(value.max()) + 1
    if pairs < _ENOUGH_ROWS_PER_VALUE * n_inputs or int(numbered(value * n_answers + answer).max()) + 1 > n_inputs:
        return None
    same = "and the other way round" if n_inputs == n_answers else f"{n_inputs} values, {n_answers} answers"
    return f"a leak: each of its values goes with one {ask} only ({same})"
