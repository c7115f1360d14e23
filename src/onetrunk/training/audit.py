"""Looking at a model folder from its worst side: what the verb audit does."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core import rng
from onetrunk.core.errors import DataError, UsageError, unknown
from onetrunk.core.evaluation import Drawn
from onetrunk.core.events import LedgerLine, Listener, Note, ignore
from onetrunk.core.values import present
from onetrunk.data.ledger import Ledger
from onetrunk.data.seen_rows import record, splits_before
from onetrunk.data.table import Table, infer_types
from onetrunk.evaluation.audit.adversary import adversary
from onetrunk.evaluation.audit.asked import AskedRows
from onetrunk.evaluation.audit.by_group import fairness
from onetrunk.evaluation.audit.folder import look_through
from onetrunk.evaluation.audit.groups import group_rows
from onetrunk.evaluation.audit.page import page
from onetrunk.evaluation.audit.private import privacy
from onetrunk.evaluation.audit.record import AskedAudit, Audit, Audited
from onetrunk.evaluation.audit.robustness import MAX_ROWS, robustness
from onetrunk.evaluation.audit.slices import worst_slices
from onetrunk.evaluation.documents import check_document
from onetrunk.evaluation.documents import document as draft
from onetrunk.evaluation.record import FOLDER
from onetrunk.inference.model_folder import Model, load
from onetrunk.storage import atomic, hub
from onetrunk.storage.disk import disk_errors
from onetrunk.storage.locks import lock_folder, locks_end
from onetrunk.training.open_data import check_map, read_table, seen_splits
from onetrunk.training.options import AnswerOptions

WHAT = ("fairness", "slices", "robustness", "privacy", "security")
_JUDGED = {"fairness", "slices", "robustness"}  # by answers
MAX_JUDGED = 20_000  # rows of each kind that are looked at, a sample that is always the same
_SAMPLE = "audit"


@locks_end()
def run_audit(
    folder: str,
    data: Any,
    options: AnswerOptions,
    on_event: Listener = ignore,
    *,
    what: Sequence[str] | None = None,
    sensitive: Sequence[str] = (),
    training: Any = None,
    canaries: Any = None,
    document: str | None = None,
) -> Audit:
    """Audits a model folder on rows with known answers, of which those that it learnt from serve for privacy and the
    others for the rest. Leaves audit.json and audit.html in the folder `options.out`, else in the model's evidence, and
    with them the draft of a `document` (`evaluation.documents`)."""
    if document is not None:
        check_document(document)
    chosen = _what(what, data, sensitive, on_event)
    if folder.startswith(hub.HUB):
        raise UsageError(
            f"{folder} lies in the cache of the hub; copy it first (hf download OWNER/NAME --local-dir MODEL), then "
            "audit MODEL."
        )
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    audit = Audit(Path(folder).name, chosen, made=made, seed=options.seed, language=options.lang)
    if "security" in chosen:
        audit.security = look_through(atomic.real(folder))
    if rest := [name for name in chosen if name != "security"]:
        model = load(folder, device=options.device or "auto")
        audit.asked = _of_rows(model, data, options, rest, sensitive, training, canaries, on_event)
    drafts = {} if document is None else {f"{document}.md": draft(document, load(folder, device="cpu"), audit)}
    _write(audit, folder, options.out, drafts)
    on_event(Audited(audit))
    return audit


def _what(what: Sequence[str] | None, data: Any, sensitive: Sequence[str], on_event: Listener) -> list[str]:
    """The parts of the audit, in order. Raises UsageError for what is not there or cannot be done."""
    for name in what or ():
        if name not in WHAT:
            raise unknown("part of an audit", name, WHAT)
    chosen = [name for name in WHAT if what is None or name in what]
    if data is None and what is None:
        return ["security"]
    if data is None and chosen != ["security"]:
        raise UsageError(f"{' and '.join(chosen)} need rows with known answers: onetrunk audit MODEL ROWS")
    if "fairness" in chosen and not sensitive:
        if what is not None:
            raise UsageError("fairness needs a column that rows are grouped by: --sensitive COLUMN")
        on_event(Note("Fairness is left out: name a column that rows are grouped by with --sensitive."))
        chosen.remove("fairness")
    if sensitive and "fairness" not in chosen:
        raise UsageError("--sensitive names groups for fairness, which --what leaves out: add it, or leave one out.")
    return chosen


def _of_rows(
    model: Model,
    data: Any,
    options: AnswerOptions,
    what: Sequence[str],
    sensitive: Sequence[str],
    training: Any,
    canaries: Any,
    on_event: Listener,
) -> list[AskedAudit]:
    task = model.task(options.ask, options.given)
    names = [*task.given, *task.ask, *sensitive]
    check_map(model, options.map, sensitive)
    ledger = Ledger()

    def rows(source: Any) -> Table:
        table = read_table(source, options, model)
        table = model.as_learnt(model.to_judge(table, task.ask, ledger, options.max_bad))
        for name in sensitive:
            table[name]  # raises where it is not there
        return table

    table = rows(data)
    split = seen_splits(model, table, on_event)
    held_out = np.isin(split, (0, 1), invert=True)
    sliced = table.names if "slices" in what else names
    fresh = _loaded(table.take(held_out | options.allow_equal_rows), sliced)
    if not len(fresh):
        raise DataError(
            f"The model was trained on every row of {table.source}: expected rows it has not met. Give others, or "
            "judge it on these all the same: --allow-equal-rows"
        )
    if len(fresh) < len(table):
        on_event(Note(f"{len(fresh):,} of {len(table):,} rows are judged; the model learnt from the others."))
    taught = table.take(split == 0)
    learnt = _loaded(taught, names)
    if training is not None:
        given_as_learnt = rows(training)
        known = seen_splits(model, given_as_learnt)
        own = known == 0 if (known >= 0).any() else np.ones(len(given_as_learnt), dtype=bool)
        taught = given_as_learnt.take(own)
        learnt = _loaded(taught, names)
    strangers = fresh if not options.allow_equal_rows else _loaded(table.take(held_out), names)
    out = []
    for ask in task.ask:
        given = [name for name in task.given if name != ask]
        try:
            asked = AskedRows.of(model, fresh.columns, ask, given)
        except DataError as error:
            if len(task.ask) == 1:
                raise
            on_event(Note(f"{error} It is left out."))
            continue
        found = _audited(model, asked, fresh, what, sensitive, options.seed, on_event)
        if "privacy" in what:
            others = strangers
            if training is not None and isinstance(model.evaluation(ask), Drawn):
                others = _loaded(_not_among(model, table, taught, ask), names)
            found.privacy = privacy(
                model,
                ask,
                given,
                learnt.columns,
                others.columns,
                _planted(model, canaries, ask, options),
                options.seed,
            )
        out.append(found)
    ledger.check(len(table), options.max_bad)
    for line in ledger.lines():
        on_event(LedgerLine(line))
    if not out:
        raise DataError(f"No row of {table.source} has an answer to judge: expected one of {', '.join(task.ask)}.")
    return out


def _not_among(model: Model, table: Table, taught: Table, ask: str) -> Table:
    """Rows whose value of an asked column that is drawn is in no training row: what they are drawn from (a class)
    stands in training rows nearly always, so rows are not known by that."""
    types, none = {ask: model.columns[ask].type}, np.zeros(0, dtype=np.int64)
    learnt = record(taught, types, [ask], {"train": np.arange(len(taught)), "val": none, "test": none})
    return table.take(splits_before(table, [learnt]) < 0)


def _loaded(table: Table, names: Sequence[str]) -> Table:
    return table.sample(MAX_JUDGED, _SAMPLE).loaded(name for name in table.names if name in names)


def _audited(
    model: Model,
    asked: AskedRows,
    table: Table,
    what: Sequence[str],
    sensitive: Sequence[str],
    seed: int,
    on_event: Listener,
) -> AskedAudit:
    """Fairness and robustness of the answers to these rows."""
    main = asked.evaluation.metrics()[0]
    found = AskedAudit(asked.ask, asked.given, len(asked.rows), main.name, main.higher_is_better, None, main.unit)
    if asked.is_written_from_nothing:
        if _JUDGED & set(what):
            on_event(Note(f"{asked.ask!r} is asked from nothing, so answers cannot be right: only privacy is audited."))
        return found
    if not _JUDGED & set(what):
        return found
    answers = asked.answers()
    judge = asked.judged(answers, seed)
    found.score, _ = judge(answers, asked.measured(answers))
    found.metric = judge.metric
    for column in sensitive if "fairness" in what else ():
        groups = group_rows(column, [table[column][i] for i in asked.rows], _type_of(model, table, column))
        found.fairness.append(fairness(asked, answers, groups, seed))
    if "slices" in what and judge.each is not None:
        columns = {name: [table[name][i] for i in asked.rows] for name in table.names if name != asked.ask}
        types = infer_types(Table({**columns})) | {name: column.type for name, column in model.columns.items()}
        known = {name: values for name, values in columns.items() if name in types}
        found.slices = worst_slices(judge.each, judge.higher_is_better, known, types, seed)
    if "robustness" in what:
        some = np.sort(rng.permutation(rng.key(seed, "disturbed rows"), len(asked.rows))[:MAX_ROWS])
        disturbed, as_they_are = asked.take(some), [answers[i] for i in some]
        found.undisturbed, _ = disturbed.judged(as_they_are, seed)(as_they_are, disturbed.measured(as_they_are))
        found.robustness = robustness(disturbed, as_they_are, seed, on_event)
        found.adversary = adversary(model, disturbed, seed)
    return found


def _type_of(model: Model, table: Table, column: str) -> str:
    if column in model.columns:
        return model.columns[column].type
    types = infer_types(Table({column: table[column]}))
    if column not in types:
        raise DataError(f"Rows cannot be grouped by {column!r}: it has no values that any column type recognises.")
    return types[column]


def _planted(model: Model, canaries: Any, ask: str, options: AnswerOptions) -> dict[str, Sequence[Any]] | None:
    """The canaries that have a value of the asked column."""
    if canaries is None:
        return None
    table = model.as_learnt(read_table(canaries, options.but(map=None)))
    table = table.take(np.flatnonzero(present(table[ask])))
    if not len(table):
        raise DataError(f"The canaries expect values in the column {ask!r}, found none.")
    return dict(table.columns)


def _write(audit: Audit, folder: str, out: str | None, drafts: Mapping[str, str]) -> None:
    files = {
        **drafts,
        "audit.json": json.dumps(audit.as_json(), ensure_ascii=False, indent=1, allow_nan=False) + "\n",
        "audit.html": page(audit),
    }

    def write(place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name).write_text(text, encoding="utf-8", errors="backslashreplace")

    if out is not None:
        with disk_errors(Path(out)):
            write(Path(out))
        return
    lock_folder(atomic.real(folder))
    atomic.add_files(folder, lambda staging: write(staging / FOLDER))
