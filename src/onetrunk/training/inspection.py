"""What the verb inspect does: looks at a table before anything is trained on it."""

from __future__ import annotations

from typing import Any

from onetrunk.core.errors import DataError
from onetrunk.data.events import rows_from_events
from onetrunk.data.inspect import Inspection, inspect, to_prepare
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import fit_columns
from onetrunk.data.split import split
from onetrunk.data.table import read, roles
from onetrunk.training.jobs import recipe_of
from onetrunk.training.open_data import types_and_options
from onetrunk.training.options import TrainingOptions


def run_inspection(data: Any, options: TrainingOptions, how: str | None = None) -> Inspection:
    """Types, ranges, samples, repeats, leaks, what training would cut; and the split `how`, where one is named."""
    recipe, asked, seed = recipe_of(options), options.ask or [], options.seed
    table, lost = read(data, allow_network=options.allow_network), Ledger()
    if recipe.events is not None:
        table = rows_from_events(table, recipe.events, asked, split=how, seed=seed, ledger=lost)
        how = how and "given:split"
    types, column_options = types_and_options(table, recipe, options.types)
    given, asked, _ = roles(table, types, options.ask)
    chosen = split(table, types, how, seed, given=given, ask=asked, allow_equal_rows=True) if how else None
    prepared, sample = {}, to_prepare(table)
    for name in [*given, *asked]:
        try:
            (column,), encoders = fit_columns(sample, [name], types, column_options)
            prepared[name] = encoders[column.key]
        except DataError as error:
            table.notes.append(str(error))
    table.notes += lost.lines()
    return inspect(table, types, asked, chosen, prepared=prepared)
