"""Opening a table for training: types, roles and splits, chosen and explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console

from onetrunk.core.terminal import literal
from onetrunk.data.cache import ColumnCache
from onetrunk.data.events import EventsConfig, rows_from_events
from onetrunk.data.ledger import Ledger
from onetrunk.data.seen_rows import absent_columns, splits_before
from onetrunk.data.split import Split, split
from onetrunk.data.table import Table, infer_types, read, roles
from onetrunk.inference.model_folder import Model
from onetrunk.training.recipe import Recipe


@dataclass
class Data:
    """A table opened for training: types, roles and parts chosen and explained."""

    table: Table
    types: dict[str, str]
    options: dict[str, dict[str, Any]]
    given: list[str]
    ask: list[str]
    reasons: dict[str, str]
    split: Split
    ledger: Ledger = field(default_factory=Ledger)
    fold: EventsConfig | None = None
    cache: ColumnCache | None = None

    def part(self, name: str) -> Table:
        return self.table.take(self.split.indices()[name])

    @property
    def names(self) -> list[str]:
        return [*self.given, *self.ask]


def types_and_options(
    table: Table, config: Recipe, types: dict[str, str] | None
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Every column's type, inferred where nobody said it, and its options. Raises UsageError for unknown columns."""
    options = {name: dict(o) for name, o in config.columns.items()}
    for name in options:
        table[name]
    told = {name: o.pop("type") for name, o in options.items() if "type" in o}
    return infer_types(table, {**told, **(types or {})}, folded=config.fold is not None), options


def renamed(table: Table, map: dict[str, str] | None) -> Table:
    """`{"model_column": "table_column"}`: the table under the model's names."""
    return table.rename({theirs: ours for ours, theirs in (map or {}).items()})


def open_data(
    data: Any,
    *,
    ask: Sequence[str] | None,
    given: Sequence[str] | None,
    ignore: Sequence[str] | None,
    types: dict[str, str] | None,
    map: dict[str, str] | None,
    split_spec: str,
    seed: int,
    allow_equal_rows: bool,
    network: bool,
    config: Recipe,
    console: Console,
    start: Model | None = None,
    max_bad: float = 0.01,
) -> Data:
    """Reads, folds, types, chooses roles and splits, and says what it chose. Rows keep the part they had for `start`,
    the model that training goes on from."""
    cache = None if config.cache is None else ColumnCache(config.cache)
    table, ledger = renamed(read(data, allow_network=network), map), Ledger()
    if config.fold is not None:
        table = rows_from_events(
            table, config.fold, ask or [], split=split_spec, seed=seed, ledger=ledger, max_bad=max_bad
        )
    kinds, options = types_and_options(table, config, types)
    given_names, asked, reasons = roles(table, kinds, ask, given, ignore)
    if config.row_weight in given_names:
        given_names.remove(config.row_weight)
        reasons[config.row_weight] = "the rows' weights"
    before = None if start is None else seen_splits(start, table, console)
    if config.fold is not None:  # its rows are in parts; what an asked column has seen tells equal ones apart
        parts = split(table, kinds, "given:split", seed, given=[], ask=asked, before=before)
    else:
        parts = split(
            table, kinds, split_spec, seed, given=given_names, ask=asked, allow_equal_rows=allow_equal_rows,
            before=before,
        )  # fmt: skip
    for note in [*table.notes, *parts.notes]:
        console.print(f"[yellow]Note:[/] {literal(note)}", highlight=False)
    shown = ", ".join(f"{literal(n)} [dim]{kinds[n]}[/]" for n in given_names) or "nothing"
    console.print(f"[bold]Given[/] {shown}", highlight=False)
    if asked:
        console.print("[bold]Asked[/] " + ", ".join(f"{literal(n)} [dim]{kinds[n]}[/]" for n in asked), highlight=False)
    for name, reason in reasons.items():
        console.print(f"[bold]Left out[/] {literal(name)} [dim]{literal(reason)}[/]", highlight=False)
    sizes = " · ".join(f"{name} {len(index):,}" for name, index in parts.indices().items())
    console.print(f"[bold]Rows[/] {sizes} [dim]{literal(parts.how)}[/]", highlight=False)
    return Data(table, kinds, options, given_names, asked, reasons, parts, ledger, config.fold, cache)


def seen_splits(model: Model, table: Table, console: Console) -> np.ndarray:
    """The part each row had when the model was trained, int64 [rows], -1 where it was not met (`data.seen_rows`)."""
    stages = model.provenance.get("stages", [])
    records = [stage.get("seen_rows", stage.get("met")) for stage in stages]  # "met": the first edition's folders
    records = [record for record in records if record is not None]
    if absent := absent_columns(table, records):
        console.print(
            "[yellow]Note:[/] rows that the model learnt from cannot be told here, for want of "
            f"{literal(', '.join(absent))}: do not hold them out.",
            highlight=False,
        )
    return splits_before(table, records)
