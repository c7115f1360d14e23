"""Opening a table for training: types, roles and splits, chosen and explained."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from onetrunk.core.encoder import Ordered
from onetrunk.core.errors import UsageError, nearest
from onetrunk.core.evaluation import Evaluation
from onetrunk.core.events import Listener, Note, RolesChosen, RowsSplit, ignore
from onetrunk.core.registry import column_types
from onetrunk.core.values import present, sample_present
from onetrunk.data.cache import ColumnCache
from onetrunk.data.conventions import conventions, with_notation
from onetrunk.data.event_rows import EventsConfig, rows_from_events
from onetrunk.data.file_names import unopened_files
from onetrunk.data.ledger import Ledger
from onetrunk.data.mixture import Mixture, mixture_of
from onetrunk.data.nested import unnested
from onetrunk.data.prepare import fit_columns
from onetrunk.data.prepared.table import damaged_shards, prepared_table
from onetrunk.data.seen_rows import absent_columns, splits_before
from onetrunk.data.split import Split, column_that_says, ordering, split
from onetrunk.data.table import Table, infer_types, read, roles, unlearnable
from onetrunk.training.options import DataOptions

if TYPE_CHECKING:  # torch, which they import, takes a second: who only looks at a table does without
    from onetrunk.inference.model_folder import Model
    from onetrunk.training.recipe import Recipe
    from onetrunk.training.table_recipe import TableRecipe

_DECIDING = ("ask", "given", "ignore", "types", "split", "seed", "allow_equal_rows")  # of the options
_FITTED = 1000  # values that say how an asked column is judged


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
    ledger: Ledger = field(default_factory=Ledger)  # what opening the rows lost
    events: EventsConfig | None = None
    missing: list[str] | None = None  # words that stand for a missing value, as told
    cache: ColumnCache | None = None
    mixture: Mixture | None = None  # of all rows
    of_encoding: Ledger = field(default_factory=Ledger)  # what encoding them lost, the last time
    told: set[str] = field(default_factory=set)  # lines of ledgers that the user has read

    def rows(self, split: str) -> Table:
        """The rows of `train`, `val` or `test`."""
        return self.table.take(self.split.indices()[split])

    @property
    def names(self) -> list[str]:
        return [*self.given, *self.ask]

    @property
    def lost(self) -> Ledger:
        """All that was lost. Rows that several models of one run encode count once."""
        whole = Ledger()
        whole.merge(self.ledger)
        whole.merge(self.of_encoding)
        return whole


def types_and_options(
    table: Table, recipe: TableRecipe, types: dict[str, str] | None, start: Model | None = None
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Every column's type, inferred where nobody named it and the model to start from does not know it, and its
    options, with how its values are written. Raises UsageError for unknown columns."""
    options = {name: dict(o) for name, o in recipe.columns.items()}
    for name in options:
        table[name]
    named = {name: o.pop("type") for name, o in options.items() if "type" in o}
    for name, spec in {**named, **(types or {})}.items():
        named[name], notation = with_notation(spec)
        options[name] = {**notation, **options.get(name, {})} if notation else options.get(name, {})
    inferred = infer_types(table, named, of_events=recipe.events is not None)
    known = {} if start is None else start.columns
    for name in inferred.keys() & known.keys() - named.keys():
        inferred[name] = known[name].type
    guessed = {name: kind for name, kind in inferred.items() if name not in named and name not in known}
    table.notes += [note for note in unopened_files(table, guessed) if note not in table.notes]
    return inferred, conventions(table, inferred, {name: own for name, own in options.items() if own})


def events_of(table: Table, recipe: TableRecipe, types: dict[str, str] | None) -> EventsConfig:
    """How events become rows, with how their numbers and moments are written, which all of them tell: new ones are read
    alike. The table's notes tell of it."""
    assert recipe.events is not None
    config, columns = recipe.events, dict(recipe.columns)
    order = config.order
    if order is not None and order in (types or {}):
        kind, notation = with_notation((types or {})[order])
        columns[order] = {**notation, **columns.get(order, {}), "type": kind}
    written = {name: dict(columns[name]) for name in [order] if name is not None and columns.get(name, {}).get("type")}
    written.update({name: dict(own) for name, own in config.columns.items()})
    events = table.without([*config.by, *written])
    kinds = infer_types(Table({**events.columns}, row=events.row))
    options = conventions(events, kinds, {})
    for name, kind in kinds.items():
        values = sample_present(events[name])
        if issubclass(column_types.get(kind).encoder, Ordered) and (
            options.get(name) or all(isinstance(value, int | float) for value in values)
        ):
            written[name] = {"type": kind, **options.get(name, {})}
    if order is not None and order not in written:
        encoder = ordering(table[order], order)
        written[order] = {"type": encoder.type_name, **encoder.options.model_dump(exclude_defaults=True)}
    return config.updated(columns=written)


def missing_words(options: DataOptions, model: Model | None) -> list[str] | None:
    """The words that stand for a missing value, as told, or as they were told in training; None: the usual ones."""
    named = options.missing_words()
    return model.missing if named is None and model is not None else named


def read_table(data: Any, options: DataOptions, model: Model | None = None) -> Table:
    """A table under the model's names. Without a model, objects in its cells become columns."""
    words = missing_words(options, model)
    table = read(
        data, allow_network=options.allow_network, missing=words, separator=options.separator, max_bad=options.max_bad
    )
    if model is None:
        table = unnested(table, list(options.types or {}))
    return renamed(table, options.map)


def check_map(model: Model, map: dict[str, str] | None, others: Iterable[str] = ()) -> None:
    """Raises UsageError for a name on the left that neither the model nor `others` have."""
    events = [] if model.events is None else [*model.events.by, *filter(None, [model.events.order])]
    known = {*model.columns, *events, *others}
    inside = {name[:i] for name in known for i, sign in enumerate(name) if sign == "."}  # of objects in cells
    for name in map or {}:
        if name not in known | inside:
            raise UsageError(
                f"--map {name}={(map or {})[name]}: the model has no column {name!r}.{nearest(name, known)} "
                "It is --map MODEL_COLUMN=TABLE_COLUMN."
            )


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
    table, ledger = read_table(data, options, start), Ledger()
    if start is not None:
        table = unnested(table, [*start.columns, *(options.types or {})])
    mixture = mixture_of(table.tables, recipe.mixture)
    events = None if recipe.events is None else events_of(table, recipe, options.types)
    if events is not None and mixture is not None:
        raise UsageError("A mixture is of tables of rows, and not of events: leave out --mixture or --events.")
    if events is not None:
        table = rows_from_events(
            table, events, options.ask or [],
            split=options.split, seed=options.seed, ledger=ledger, max_bad=options.max_bad,
        )  # fmt: skip
    for shard in damaged_shards(table):
        ledger.add(f"rows of a damaged file of the prepared table, left out: {shard}", "the table", n=shard.rows)
    decided = _decided_before(table, options, recipe) if start is None and events is None else None
    types, column_options, given, asked, reasons, chosen = decided or _decide(
        table, options, recipe, start, events, on_event
    )
    for i in chosen.repeated.tolist():
        ledger.add("rows with the inputs of a row in an earlier split, left out", "the table", int(table.row[i]))
    for message in [*table.notes, *chosen.notes]:
        on_event(Note(message))
    on_event(RolesChosen({name: types[name] for name in given}, {name: types[name] for name in asked}, dict(reasons)))
    on_event(RowsSplit({name: len(index) for name, index in chosen.indices().items()}, chosen.how))
    words = missing_words(options, start)
    opened = Data(table, types, column_options, given, asked, reasons, chosen, ledger, events, words, cache, mixture)
    if recipe.gates:
        from onetrunk.evaluation.gates import check_gates

        check_gates(recipe.gates, _evaluations(opened))
    return opened


Decided = tuple[dict[str, str], dict[str, dict[str, Any]], list[str], list[str], dict[str, str], Split]


def _decide(
    table: Table,
    options: DataOptions,
    recipe: Recipe,
    start: Model | None,
    events: EventsConfig | None,
    on_event: Listener,
) -> Decided:
    """Types, columns' options, what is given and asked, why other columns are left out, and the split."""
    types, column_options = types_and_options(table, recipe, options.types, start)
    says = column_that_says(options.split, table)
    given, asked, reasons = roles(table, types, options.ask, options.given, options.ignore, says)
    if recipe.row_weight in given:
        given.remove(recipe.row_weight)
        reasons[recipe.row_weight] = "the rows' weights"
    before = None if start is None else seen_splits(start, table, on_event)
    if events is not None:  # they are split already; what an asked column has seen tells rows apart
        chosen = split(table, types, "given:split", options.seed, given=[], ask=asked, before=before)
    else:
        chosen = split(
            table, types, options.split, options.seed,
            given=given, ask=asked, allow_equal_rows=options.allow_equal_rows, before=before, options=column_options,
        )  # fmt: skip
    if options.given is None:
        constant = unlearnable(
            table, [name for name in given if start is None or name not in start.columns], chosen.train
        )
        if len(constant) < len(given):  # else the training says what is wrong
            given, reasons = [name for name in given if name not in constant], reasons | constant
    return types, column_options, given, asked, reasons, chosen


def question_of(options: DataOptions, columns: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides about types, roles and splits, beside the table: as JSON."""
    told = {name: getattr(options, name) for name in _DECIDING}
    return json.loads(json.dumps(told | {"columns": dict(columns)}, default=str))


def _decided_before(table: Table, options: DataOptions, recipe: Recipe) -> Decided | None:
    """What was decided when the table was prepared, if all that is said now was said then, and if it is the whole
    table. What is not said is as it was."""
    prepared = prepared_table(table)
    if prepared is None or options.map or recipe.row_weight is not None:
        return None
    usual = question_of(DataOptions(), {})
    said = {name: value for name, value in question_of(options, recipe.columns).items() if value != usual[name]}
    made = prepared.decided(said)
    chosen = None if made is None else prepared.split(made)
    if made is None or chosen is None or not set(made["types"]) <= set(table.columns):
        return None
    return made["types"], made["options"], made["given"], made["ask"], made["reasons"], chosen


def _evaluations(data: Data) -> dict[str, Evaluation[Any]]:
    """How the asked columns are judged, as far as some of their values tell."""
    rows = data.rows("train")
    out = {}
    for name in data.ask:
        known = rows.take(np.flatnonzero(present(rows[name]))[:_FITTED])
        [column], encoders = fit_columns(known, [name], data.types, data.options)
        out[name] = column_types.get(column.type).evaluation(encoders[column.key])
    return out


def seen_splits(model: Model, table: Table, on_event: Listener = ignore) -> np.ndarray:
    """The split each row was in when the model was trained, int64 [rows], -1 where it was not seen
    (`data.seen_rows`)."""
    stages = model.provenance.get("stages", [])
    records = [stage["seen_rows"] for stage in stages if "seen_rows" in stage]
    if absent := absent_columns(table, records):
        on_event(
            Note(
                "The rows that the model learnt from cannot be recognised here, because the table lacks "
                f"{', '.join(absent)}: some may be among those held out."
            )
        )
    return splits_before(model.as_learnt(table), records)
