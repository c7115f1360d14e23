"""What the verb inspect does: looks at a table before anything is trained on it."""

from __future__ import annotations

from typing import Any

from onetrunk.core.errors import DataError
from onetrunk.core.registry import column_types
from onetrunk.core.values import of_present
from onetrunk.data.event_rows import rows_from_events
from onetrunk.data.inspection import Inspection, inspect, to_prepare
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import fit_columns
from onetrunk.data.split import column_that_says, split
from onetrunk.data.table import roles
from onetrunk.training.open_data import events_of, read_table, types_and_options
from onetrunk.training.options import TrainingOptions
from onetrunk.training.table_recipe import TableRecipe


def run_inspection(data: Any, options: TrainingOptions, how: str | None = None) -> Inspection:
    """Types, ranges, samples, repeats, leaks, what training would cut; and the split `how`, where one is named."""
    recipe, asked, seed = _recipe_of(options), options.ask or [], options.seed
    table, lost = read_table(data, options), Ledger()
    says = column_that_says(how, table)
    if recipe.events is not None:
        events = events_of(table, recipe, options.types)
        table = rows_from_events(table, events, asked, split=how, seed=seed, ledger=lost)
        how = how and "given:split"
    types, column_options = types_and_options(table, recipe, options.types)
    given, asked, reasons = roles(table, types, options.ask, split_by=says)
    chosen = (
        split(table, types, how, seed, given=given, ask=asked, allow_equal_rows=True, options=column_options)
        if how
        else None
    )
    prepared, sample = {}, to_prepare(table)
    for name in [*given, *asked]:
        try:
            encoder = column_types.get(types[name]).encoder(column_options.get(name, {}))
            if encoder.loses_nothing(list(of_present(sample[name]))):
                continue
            (column,), encoders = fit_columns(sample, [name], types, column_options)
            prepared[name] = encoders[column.key]
        except DataError as error:
            table.notes.append(str(error))
    table.notes += lost.lines()
    return inspect(table, types, asked, chosen, prepared=prepared, split_by=says, reasons=reasons)


def _recipe_of(options: TrainingOptions) -> TableRecipe:
    """Only who changes settings needs all of them, and with them torch."""
    if options.config is not None or options.settings:
        from onetrunk.training.recipe import recipe_of

        return recipe_of(options)
    return TableRecipe.parse({} if options.events is None else {"events": options.events}, "the settings")
