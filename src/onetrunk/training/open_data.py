"""Opening a table for training: types, roles and splits, chosen and explained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onetrunk.core.events import Listener, Note, RolesChosen, RowsSplit, ignore
from onetrunk.data.cache import ColumnCache
from onetrunk.data.events import EventsConfig, rows_from_events
from onetrunk.data.ledger import Ledger
from onetrunk.data.seen_rows import absent_columns, splits_before
from onetrunk.data.split import Split, split
from onetrunk.data.table import Table, infer_types, read, roles
from onetrunk.inference.model_folder import Model
from onetrunk.training.options import DataOptions
from onetrunk.training.recipe import Recipe


@dataclass
class Data:
    """A table opened for training: types, roles and splits, chosen and explained."""

    table: Table
    types: dict[str, str]
    options: dict[str, dict[str, Any]]
    given: list[str]
    ask: list[str]
    reasons: dict[str, str]
    split: Split
    ledger: Ledger = field(default_factory=Ledger)
    events: EventsConfig | None = None
    cache: ColumnCache | None = None

    def rows(self, split: str) -> Table:
        """The rows of `train`, `val` or `test`."""
        return self.table.take(self.split.indices()[split])

    @property
    def names(self) -> list[str]:
        return [*self.given, *self.ask]


def types_and_options(
    table: Table, recipe: Recipe, types: dict[str, str] | None
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Every column's type, inferred where nobody named it, and its options. Raises UsageError for unknown columns."""
    options = {name: dict(o) for name, o in recipe.columns.items()}
    for name in options:
        table[name]
    named = {name: o.pop("type") for name, o in options.items() if "type" in o}
    return infer_types(table, {**named, **(types or {})}, of_events=recipe.events is not None), options


def renamed(table: Table, map: dict[str, str] | None) -> Table:
    """`{"model_column": "table_column"}`: the table under the model's names."""
    return table.rename({theirs: ours for ours, theirs in (map or {}).items()})


def open_data(
    data: Any,
    options: DataOptions,
    recipe: Recipe,
    on_event: Listener = ignore,
    start: Model | None = None,
) -> Data:
    """Reads a table, makes rows of events, finds types, chooses roles and splits, and tells what was chosen. Rows keep
    the split that they had for `start`, the model that training goes on from."""
    cache = None if recipe.cache is None else ColumnCache(recipe.cache)
    table, ledger = renamed(read(data, allow_network=options.allow_network), options.map), Ledger()
    if recipe.events is not None:
        table = rows_from_events(
            table, recipe.events, options.ask or [],
            split=options.split, seed=options.seed, ledger=ledger, max_bad=options.max_bad,
        )  # fmt: skip
    types, column_options = types_and_options(table, recipe, options.types)
    given, asked, reasons = roles(table, types, options.ask, options.given, options.ignore)
    if recipe.row_weight in given:
        given.remove(recipe.row_weight)
        reasons[recipe.row_weight] = "the rows' weights"
    before = None if start is None else seen_splits(start, table, on_event)
    if recipe.events is not None:  # they are split already; what an asked column has seen tells rows apart
        chosen = split(table, types, "given:split", options.seed, given=[], ask=asked, before=before)
    else:
        chosen = split(
            table, types, options.split, options.seed,
            given=given, ask=asked, allow_equal_rows=options.allow_equal_rows, before=before,
        )  # fmt: skip
    for i in chosen.repeated.tolist():
        ledger.add("rows with the inputs of a row in an earlier split, left out", "the table", int(table.row[i]))
    for message in [*table.notes, *chosen.notes]:
        on_event(Note(message))
    on_event(RolesChosen({name: types[name] for name in given}, {name: types[name] for name in asked}, dict(reasons)))
    on_event(RowsSplit({name: len(index) for name, index in chosen.indices().items()}, chosen.how))
    return Data(table, types, column_options, given, asked, reasons, chosen, ledger, recipe.events, cache)


def seen_splits(model: Model, table: Table, on_event: Listener = ignore) -> np.ndarray:
    """The split each row was in when the model was trained, int64 [rows], -1 where it was not seen
    (`data.seen_rows`)."""
    stages = model.provenance.get("stages", [])
    records = [stage.get("seen_rows", stage.get("met")) for stage in stages]  # "met": the first edition's folders
    records = [record for record in records if record is not None]
    if absent := absent_columns(table, records):
        on_event(
            Note(
                "The rows that the model learnt from cannot be recognised here, because the table lacks "
                f"{', '.join(absent)}: some may be among those held out."
            )
        )
    return splits_before(table, records)
