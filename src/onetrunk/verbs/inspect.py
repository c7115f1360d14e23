"""inspect: what is in a table, before anything is trained on it."""

from __future__ import annotations

from typing import Any


def inspect(
    data: Any,
    *,
    ask: list[str] | None = None,
    types: dict[str, str] | None = None,
    events: dict[str, str] | None = None,
    split: str | None = None,
    seed: int = 0,
    config: Any = None,
    settings: list[str] | None = None,
    allow_network: bool = False,
    quiet: bool = False,
) -> Any:
    """Show a table: types, ranges, lengths, missing values, classes, samples, repeats, leaks, what training would cut.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name.
        ask: columns to be predicted: finds leaks and class balance.
        types: column=type, where the inferred type is wrong.
        events: key=value, how a table of events becomes rows, like by=user,order=time,window=50.
        split: look at this split too: auto, random, stratified, or group, scaffold, time or given:COLUMN.
        seed: of the split.
        config: a YAML file with any setting.
        settings: key=value, like columns.review.length=128.
        allow_network: allow hf:// names to use the network.
        quiet: print nothing.

    Returns:
        The inspection; `as_json()` gives it as data.
    """
    from rich.console import Console

    from onetrunk.core.errors import DataError
    from onetrunk.data.events import rows_from_events as make_rows
    from onetrunk.data.inspect import inspect as look
    from onetrunk.data.inspect import to_prepare
    from onetrunk.data.ledger import Ledger
    from onetrunk.data.prepare import fit_columns
    from onetrunk.data.split import split as divide
    from onetrunk.data.table import read, roles
    from onetrunk.training.open_data import types_and_options
    from onetrunk.training.recipe import make_recipe

    recipe = make_recipe(config, settings, events=events)
    table, lost = read(data, allow_network=allow_network), Ledger()
    if recipe.events is not None:
        table = make_rows(table, recipe.events, ask or [], split=split, seed=seed, ledger=lost)
        split = split and "given:split"
    kinds, options = types_and_options(table, recipe, types)
    given, asked, _ = roles(table, kinds, ask)
    parts = divide(table, kinds, split, seed, given=given, ask=asked, allow_equal_rows=True) if split else None
    prepared, sample = {}, to_prepare(table)
    for name in [*given, *asked]:
        try:
            (column,), codecs = fit_columns(sample, [name], kinds, options)
            prepared[name] = codecs[column.codec]
        except DataError as error:
            table.notes.append(str(error))
    table.notes += lost.lines()
    found = look(table, kinds, asked, parts, prepared=prepared)
    if not quiet:
        found.show(Console())
    return found
