"""What is in a table, for a person: types, missing values, balance, samples, repeats, leaks, losses."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

import numpy as np

from onetrunk.core.encoder import Encoder
from onetrunk.core.registry import column_types
from onetrunk.core.spans import spans
from onetrunk.core.terminal import printable
from onetrunk.core.values import blocks, in_memory, of_present, take
from onetrunk.data import spool
from onetrunk.data.duplicates import (
    NONE,
    are_first,
    fingerprint_keys,
    first_of_each,
    keys_by,
    numbered,
    row_keys,
)
from onetrunk.data.ledger import Ledger
from onetrunk.data.split import SPLITS, Split
from onetrunk.data.store import ENCODED_AT_ONCE
from onetrunk.data.table import Table, left_out

if TYPE_CHECKING:
    from rich.console import Console

DESCRIBED = 50_000  # rows that ranges, lengths and words are told of
PREPARED = 10_000  # rows from which is told what training would lose
_DESCRIBED_BYTES = 32 << 20  # of one column: of longer values fewer are described
_EXAMPLES = 5
_SAMPLE_CHARACTERS = 60
_FEW_CLASSES = 50
_SHORT_SAMPLE = 20
_FEW_SHOWN = 6  # of a column's classes or words
_NEAR = "near_duplicate_key"
_RARE = 10  # rows of a class: fewer teach and prove little


@dataclass
class ColumnReport:
    """`balance`: how often each value occurs, where there are few; `role`: given, asked, or why neither."""

    name: str
    type: str
    role: str
    present: int
    missing: int
    distinct: int
    summary: dict[str, Any]
    balance: dict[str, int] | None
    samples: list[str]


@dataclass
class Repeats:
    """Rows that equal an earlier one: how many, how many of them in another split, pairs of row numbers."""

    rows: int = 0
    across_splits: int = 0
    examples: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Inspection:
    """`equal` and `near` compare inputs, `duplicates` answers too; `contradicting` counts equal inputs with
    unequal answers; `lost` is what training would drop or cut."""

    source: str
    rows: int
    columns: list[ColumnReport]
    duplicates: Repeats
    equal: Repeats
    near: Repeats
    contradicting: int
    split: dict[str, Any] | None
    lost: list[dict[str, Any]]
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def warnings(self) -> list[str]:
        """What a person should look at, in plain words."""
        messages = []
        if self.duplicates.rows:
            messages.append(f"Rows that are equal to an earlier one: {_count(self.duplicates)}.")
        if self.contradicting:
            messages.append(f"Rows with the inputs of an earlier one but another answer: {self.contradicting:,}.")
        if self.near.rows:
            messages.append(f"Rows that are nearly equal to an earlier one: {_count(self.near)}.")
        for repeats, like in ((self.equal, "the same"), (self.near, "nearly the same")):
            if repeats.across_splits:
                messages.append(
                    f"Rows with {like} inputs as one in another split: {repeats.across_splits:,}. "
                    "They make a model look better than it is."
                )
        for c in self.columns:
            rare = [value for value, n in (c.balance or {}).items() if n < _RARE] if c.role == "asked" else []
            if rare:
                messages.append(f"{c.name}: fewer than {_RARE} rows each have {', '.join(rare[:_EXAMPLES])}: too few.")
        messages += [f"Training would lose, of {e['column']}: {e['count']:,} × {e['reason']}." for e in self.lost]
        return messages + self.notes

    def show(self, console: Console) -> None:
        """Prints tables and plain sentences."""
        from rich.markup import escape as escape_markup
        from rich.table import Table as Grid

        def escape(text: str) -> str:
            """Literally: brackets are no markup, and control characters are written out."""
            return escape_markup(printable(text))

        console.print(f"[bold]{escape(self.source)}[/bold]: {self.rows:,} rows, {len(self.columns)} columns")
        grid = Grid(box=None, show_header=False, pad_edge=False, padding=(0, 2, 1, 0))
        grid.add_column(max_width=22, overflow="fold")
        grid.add_column(max_width=14)
        grid.add_column(ratio=1)
        for c in self.columns:
            missing = f"\n[yellow]{c.missing / max(self.rows, 1):.0%} missing[/]" if c.missing else ""
            between = " · " if all(len(sample) <= _SHORT_SAMPLE for sample in c.samples) else "\n"
            like = f"\n[dim]{escape(between.join(c.samples))}[/]" if c.samples and not c.balance else ""
            grid.add_row(
                f"[bold]{escape(c.name)}[/]",
                f"{escape(c.type)}\n[dim]{escape(c.role)}[/]{missing}",
                escape(in_words(c.summary, _FEW_SHOWN)) + like,
            )
        console.print(grid)
        for kind in dict.fromkeys(c.type for c in self.columns):
            console.print(f"  [dim]{escape(_meaning(kind))}[/dim]")
        for c in self.columns:
            if c.role == "asked" and c.balance:
                console.print(f"How often each answer of {escape(c.name)} occurs:")
                most = max(c.balance.values())
                for value, count in list(c.balance.items())[:20]:
                    bar = "█" * max(1, round(24 * count / most))
                    console.print(f"  {escape(value[:24]):24} {bar} {count:,} ({count / c.present:.1%})")
        if self.split:
            counts = ", ".join(f"{name} {count:,}" for name, count in self.split["rows"].items())
            console.print(f"Split {escape(self.split['how'])}: {counts}")
        for warning in self.warnings():
            console.print(f"[yellow]![/yellow] {escape(warning)}")


def inspect(
    table: Table,
    types: Mapping[str, str],
    ask: Sequence[str] | None = None,
    split: Split | None = None,
    context: int | None = None,
    prepared: Mapping[str, Encoder] | None = None,
    split_by: str | None = None,
    reasons: Mapping[str, str] | None = None,
) -> Inspection:
    """Looks at every value for what is missing, equal or a leak; ranges and words are of at most `DESCRIBED` rows.

    `prepared` (fitted) encoders, of columns that may lose something, say what training would drop of these and, with
    `context` (positions of one sequence), what would be cut. `split_by` is a column that says which split a row belongs
    to. `reasons`, where they are known, are what `left_out` gives; else it raises as that does.
    """
    ask = list(ask or [])
    reasons = left_out(table, types, ask, split_by=split_by) if reasons is None else reasons
    notes = list(table.notes)
    if len(table) > DESCRIBED:
        notes.append(f"Ranges, lengths and words are of a sample of {DESCRIBED:,} of {len(table):,} rows.")
    if prepared is not None and len(table) > PREPARED:
        notes.append(f"What training would lose is counted in a sample of {PREPARED:,} rows.")
    sample = table.sample(DESCRIBED, "describe")
    keys = {name: fingerprint_keys(table[name], kind) for name, kind in types.items()}
    encoders = prepared or {}
    columns = [
        _column(table, sample, name, kind, keys[name], ask, reasons, encoders.get(name)) for name, kind in types.items()
    ]
    inputs = [name for name in types if name not in ask and name not in reasons]
    splits = _splits_of(split, len(table))
    n = len(table)
    equal = first_of_each(row_keys((keys[name] for name in inputs), n)) if inputs else np.arange(n)
    whole = first_of_each(row_keys([equal + 1, *(keys[name] for name in ask)], n))
    return Inspection(
        source=table.source,
        rows=len(table),
        columns=columns,
        duplicates=_repeats(whole, table.row, splits),
        equal=_repeats(equal, table.row, splits),
        near=_nearly(table, types, inputs, equal, splits),
        contradicting=int((whole != equal).sum()) if ask else 0,
        split=split.as_json() if split else None,
        lost=_lost(to_prepare(table), prepared or {}, context).as_json(),
        notes=notes,
    )


def in_words(summary: Any, most: int | None = None) -> str:
    """An encoder's summary as a line a person can read: `classes: 2; counts: no 760, yes 240`; of inner lists and
    mappings at most so many."""
    if isinstance(summary, Mapping):
        rest = {k: v for k, v in summary.items() if k != "samples"}  # these have a place of their own
        nested = any(isinstance(v, Mapping | list) for v in rest.values())
        if nested:
            return "; ".join(f"{k}: {in_words(_first(v, most))}" for k, v in rest.items())
        return ", ".join(f"{k} {in_words(v)}".strip() for k, v in rest.items())
    if isinstance(summary, list | tuple):
        return ", ".join(map(in_words, summary))
    if isinstance(summary, bool):
        return "yes" if summary else "no"
    if isinstance(summary, float):
        return _grouped(round(summary)) if abs(summary) >= 1000 else f"{summary:.4g}"
    return _grouped(summary) if isinstance(summary, int) else str(summary)


def _grouped(number: int) -> str:
    """With commas between thousands from five digits on: 2015 is a year."""
    return f"{number:,}" if abs(number) >= 10_000 else str(number)


def _first(items: Any, most: int | None) -> Any:
    if most is None or not isinstance(items, Mapping | list) or len(items) <= most:
        return items
    return {**dict(list(items.items())[:most]), "…": ""} if isinstance(items, Mapping) else [*items[:most], "…"]


def to_prepare(table: Table) -> Table:
    """The rows that encoders are fitted on to tell what training would lose."""
    return table.sample(PREPARED, "prepare")


def _column(
    table: Table,
    sample: Table,
    name: str,
    kind: str,
    keys: np.ndarray,
    ask: Sequence[str],
    reasons: Mapping[str, str],
    prepared: Encoder | None,
) -> ColumnReport:
    encoder = column_types.get(kind).encoder
    there = np.flatnonzero(keys != NONE)
    new = are_first(first_of_each(keys)) & (keys != NONE)
    distinct = int(new.sum())
    few = distinct <= _FEW_CLASSES and len(there) >= 2 * distinct
    texts = [encoder.show(v).get("text") for v in take(table[name], there[:: max(1, len(there) // 3)][:3])]
    described = list(in_memory(of_present(sample[name]), most_bytes=_DESCRIBED_BYTES))
    described = described if prepared is None else prepared.plain(described)
    return ColumnReport(
        name=name,
        type=kind,
        role="asked" if name in ask else reasons.get(name, "given"),
        present=len(there),
        missing=len(table) - len(there),
        distinct=distinct,
        summary=(encoder.describe(described) | _unit(prepared)) if described else {},
        balance=_balance(table[name], kind, keys, np.flatnonzero(new)) if few else None,
        samples=[" ".join(text.split())[:_SAMPLE_CHARACTERS] for text in texts if text is not None],
    )


def _unit(prepared: Encoder | None) -> dict[str, str]:
    return {"unit": prepared.unit} if prepared is not None and prepared.unit else {}


def _balance(values: Sequence[Any], kind: str, keys: np.ndarray, rows: np.ndarray) -> dict[str, int]:
    """How often each value occurs, the most frequent first, then as they come; `rows` are the first of each."""
    order = np.argsort(keys[rows])
    known, counts = keys[rows[order]], np.zeros(len(rows), dtype=np.int64)
    for span in spans(len(keys)):
        there = keys[span][keys[span] != NONE]
        counts[order] += np.bincount(np.searchsorted(known, there), minlength=len(known))
    often = np.argsort(-counts, kind="stable")
    fingerprint = column_types.get(kind).encoder.fingerprint
    return dict(zip(map(fingerprint, take(values, rows[often])), counts[often].tolist(), strict=True))


def _repeats(first: np.ndarray, row: np.ndarray, splits: np.ndarray | None) -> Repeats:
    """`first` [rows]: the position of the first row that counts as the same; `row` [rows]: their numbers."""
    again = np.flatnonzero(~are_first(first))
    across = 0
    if splits is not None:
        # Counted as the split counts them: rows whose like stands in an earlier split.
        earliest = np.full(len(first), len(SPLITS), dtype=np.uint8)
        np.minimum.at(earliest, first, splits)
        across = int((splits > earliest[first]).sum())
    pairs = [(int(row[i]), int(row[first[i]])) for i in again[:_EXAMPLES]]
    return Repeats(len(again), across, pairs)


def _nearly(
    table: Table, types: Mapping[str, str], inputs: Sequence[str], equal: np.ndarray, splits: np.ndarray | None
) -> Repeats:
    """Rows alike in every input whose type has a notion of nearly the same, and not equal."""
    # One row of each that are equal: what is equal is reported as that.
    distinct = spool.kept(np.flatnonzero(are_first(equal)))
    kept = spool.kept(np.arange(len(distinct)))  # which of these may still be like another one
    keys = spool.zeros((len(kept),), np.int64)
    for name in inputs:
        kind = column_types.get(types[name]).encoder
        if getattr_static(kind, _NEAR) is getattr_static(Encoder, _NEAR):  # its type has no such notion
            continue
        of_column = keys_by(take(table[name], distinct[kept]), kind.near_duplicate_key)
        keys = row_keys([keys, of_column], len(kept))
        group = numbered(keys)
        several = (np.bincount(group) > 1)[group]
        kept, keys = kept[several], keys[several]
    alike = spool.kept(np.arange(len(distinct)))
    alike[kept] = kept[first_of_each(keys)]
    return _repeats(alike, table.row[distinct], None if splits is None else splits[distinct])


def _lost(table: Table, prepared: Mapping[str, Encoder], context: int | None) -> Ledger:
    ledger = Ledger()
    for name, encoder in prepared.items():
        first = 0
        for block in blocks(table[name], ENCODED_AT_ONCE):
            row = table.row[first : first + len(block)]
            first += len(block)

            def bad(i: int, reason: str, name: str = name, row: np.ndarray = row) -> None:
                ledger.add(reason, name, int(row[i]), bad=True)

            content, present = encoder.encode_all(block, bad)
            for reason, n in encoder.dropped(content).items():
                ledger.add(reason, name, n=n)
            if context is not None and len(content):
                longer = np.flatnonzero(present)[encoder.max_positions(content) > context]
                for i in longer.tolist():
                    ledger.add(f"longer than a sequence of {context} positions", name, int(row[i]))
    return ledger


def _splits_of(split: Split | None, n: int) -> np.ndarray | None:
    if split is None:
        return None
    splits = np.zeros(n, dtype=np.uint8)
    for i, name in enumerate(SPLITS):
        splits[getattr(split, name)] = i
    return splits


def _meaning(kind: str) -> str:
    """The first line of a column type's own file says what it is."""
    text = importlib.import_module(column_types.get(kind).module_name).__doc__ or kind
    return text.strip().partition("\n")[0]


def _count(repeats: Repeats) -> str:
    row, like = repeats.examples[0]
    more = ", …" if repeats.rows > 1 else ""
    return f"{repeats.rows:,} (row {row} = row {like}{more})"
