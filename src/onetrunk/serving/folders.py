"""Model folders that are served: what each can be asked, and how a request's rows become those of its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core.answer import Sampling
from onetrunk.core.encoder import Encoder, FileAnswers, FreeText, Gapped, Located, Ordered, class_names
from onetrunk.core.errors import UsageError, nearest
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode
from onetrunk.data.table import Table, read
from onetrunk.inference.given import GivenRows
from onetrunk.inference.model_folder import Model, Task
from onetrunk.inference.request import Request
from onetrunk.media.marking import Mark
from onetrunk.serving.bodies import decoded_file
from onetrunk.serving.engine_thread import Lanes
from onetrunk.serving.request_errors import RequestError, bad
from onetrunk.serving.request_limits import Limits
from onetrunk.serving.token_logprobs import Spelling


@dataclass
class Asked:
    """Rows and what is asked of them, ready for a session."""

    requests: dict[str, Request]  # by asked column
    positions: np.ndarray  # int64 [rows], of what is given and of the prompts
    notes: list[str]
    clean: bool = True  # was every value used, and whole?

    @property
    def rows(self) -> int:
        return len(self.positions)

    @property
    def tokens(self) -> int:
        return int(self.positions.sum())


@dataclass
class Folder:
    """One model folder."""

    name: str
    model: Model
    lanes: Lanes
    limits: Limits
    mark: Mark = field(default_factory=lambda: Mark.of(None, None))  # of files that it makes
    created: int = 0  # seconds since 1970, of the folder on disk
    types: dict[str, str] = field(default_factory=dict)
    _spellings: dict[str, Spelling] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.types = {name: column.type for name, column in self.model.columns.items()}
        if self.model.folder is not None:
            self.created = int((self.model.folder / "onetrunk.json").stat().st_mtime)

    # -- what it can be asked ----------------------------------------------------------------------------------------
    def task(self, ask: Sequence[str] | None = None, given: Sequence[str] | None = None) -> Task:
        """Raises RequestError for a column that it does not know, and for none."""
        if ask is not None and not ask:
            raise bad(f"ask names no column. The model {self.name!r} has {', '.join(self.types)}.", "ask")
        for param, names in (("ask", ask), ("given", given)):
            for name in names or []:
                if name not in self.types:
                    raise bad(f"The model {self.name!r} has no column {name!r}.{nearest(name, self.types)}", param)
        if ask is None and not self.model.tasks:
            raise bad(f"Say which column is asked, in ask. The model {self.name!r} has {', '.join(self.types)}.", "ask")
        return self.model.task(ask, given)

    def questions(self) -> list[str]:
        """The columns that it was made to answer."""
        return list(dict.fromkeys(name for task in self.model.tasks for name in task.ask))

    def given(self) -> list[str]:
        """The columns that its questions are answered from."""
        return list(dict.fromkeys(name for task in self.model.tasks for name in task.given))

    def writes(self) -> list[str]:
        """Columns of texts that it can write: asked ones, or whatever it learnt to write where it has no task."""
        able = [name for name in self.types if self._writes(name)]
        return [name for name in able if name in self.questions()] or able

    def _writes(self, name: str) -> bool:
        encoder = self.model.encoder(name)
        return isinstance(encoder, FreeText) and not self.fills(name)

    def text_column(self, named: str | None = None) -> str:
        """The column of a person's words, given ones first."""
        able = [name for name in self.types if isinstance(self.model.encoder(name), FreeText)]
        able = [name for name in able if name in self.given()] or able
        if named in able:
            return str(named)
        if named is not None or len(able) != 1:
            raise bad(f"Name one of the columns of text, in column: {', '.join(able) or 'there is none'}.", "column")
        return able[0]

    def spelling(self, column: str) -> Spelling:
        """What the tokens of a column that is written are."""
        if column not in self._spellings:
            self._spellings[column] = Spelling(self.model.encoder(column))
        return self._spellings[column]

    def positions_of(self, table: Table, columns: Sequence[str]) -> int:
        """How many positions of the trunk these columns of a table take."""
        wanted = [column for name, column in self.model.columns.items() if name in columns]
        store = encode(table, wanted, self.model.network.encoders, Ledger())
        return int(GivenRows(store, np.arange(len(table)), store.names).lengths().sum())

    @property
    def has_media(self) -> bool:
        """Are values of some column files?"""
        return any(media_kind(self.model.encoder(name)) is not None for name in self.types)

    def columns_of_media(self, kind: str) -> list[str]:
        """Columns whose values are files of one kind: image, audio or video."""
        return [name for name in self.types if media_kind(self.model.encoder(name)) == kind]

    def describe(self) -> dict[str, Any]:
        """As `GET /v1/models` shows it; in the form of OpenAI's, with more keys."""
        columns = []
        for name, kind in self.types.items():
            encoder = self.model.encoder(name)
            column: dict[str, Any] = {"name": name, "type": kind}
            if (classes := class_names(encoder)) is not None:
                column["classes"] = classes
            if encoder.unit:
                column["unit"] = encoder.unit
            columns.append(column)
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "onetrunk",
            "columns": columns,
            "tasks": [{"given": task.given, "ask": task.ask} for task in self.model.tasks],
            "questions": {name: question_types(self.model.encoder(name)) for name in self.questions()},
            "calibrated": [name for name in self.questions() if self.model.calibration(name) is not None],
        }

    # -- rows --------------------------------------------------------------------------------------------------------
    def table_of(self, rows: Sequence[Mapping[str, Any]]) -> Table:
        """Rows of JSON as a table: nested objects are columns by their path (customer.plan), and files are decoded."""
        return self.as_table(self.flat(rows))

    def flat(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Rows of JSON, their values by column. Raises RequestError for more than is allowed, and for files that are
        none."""
        if len(rows) > self.limits.rows:
            raise bad(
                f"{len(rows):,} rows; at most {self.limits.rows:,} are answered at once. Send them in parts.", "rows"
            )
        flat = [self._flat(row, i) for i, row in enumerate(rows)]
        if len({name for row in flat for name in row}) > self.limits.columns:
            raise bad(f"The rows have more than {self.limits.columns:,} columns.", "rows")
        if flat and not any(flat):
            raise bad("The rows are empty objects: expected columns and their values.", "rows")
        return flat

    def as_table(self, flat: Sequence[dict[str, Any]]) -> Table:
        return read(flat, missing=self.model.missing) if flat else Table({})

    def _flat(self, row: Mapping[str, Any], i: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        open_ = [("", row)]
        while open_:
            prefix, inner = open_.pop()
            for key, value in inner.items():
                name = f"{prefix}{key}"
                if name in self.types:
                    out[name] = self._value(name, value, f"rows.{i}.{name}")
                elif isinstance(value, dict) and value:
                    open_.append((f"{name}.", value))
                else:
                    out[name] = value
        return out

    def _value(self, name: str, value: Any, where: str) -> Any:
        """A value as the encoder may see it: one that is a file is never a path of this machine."""
        kind = media_kind(self.model.encoder(name))
        if kind is None or value is None or isinstance(value, bytes):
            return value
        if not isinstance(value, str):
            raise bad(f"{where}: expected a file as a data URL or base64, found a {type(value).__name__}.", where)
        data, is_kind = decoded_file(value, where)
        if is_kind not in (None, kind, "application"):
            raise bad(f"{where}: expected {kind}, found a data URL of {is_kind}.", where)
        return data

    def ask(
        self,
        table: Table,
        samplings: Mapping[str, Sampling],
        given: Sequence[str] | None = None,
        *,
        prompted: bool = False,
        max_bad: float = 0.0,
        first_row: int = 0,
    ) -> Asked:
        """What a session is asked for these rows: each column of `samplings`, from the columns of its task unless told
        otherwise. What is drawn goes by the seed and the row's number, from `first_row`. Raises RequestError for rows
        that cannot be answered."""
        tasks = {name: self.model.task([name], given) for name in samplings}
        needed = list(dict.fromkeys(name for task in tasks.values() for name in task.given))
        ledger, notes = Ledger(), list(table.notes)
        rows = self.model.to_answer(table, list(samplings), ledger)
        self.check_files(rows)
        notes += self._notes(table, rows, needed, prompted or any(name in rows.columns for name in samplings))
        wanted = [column for name, column in self.model.columns.items() if name in needed and name in rows.columns]
        store = encode(rows, wanted, self.model.network.encoders, ledger)
        requests = {
            name: self.model.request(rows, name, tasks[name].given, sampling, ledger, prompted, first_row, store)
            for name, sampling in samplings.items()
        }
        if self.lanes.repeatable and len(rows) > 1:
            self._compute_alone(requests, rows)
        worst = max(map(ledger.bad, [*samplings, *needed]))
        if worst > max_bad * len(rows):
            raise bad(f"{worst:,} of {len(rows):,} values cannot be used: {'; '.join(ledger.lines()[:5])}.", "rows")
        read = {tuple(request.given): _given_positions(request) for request in requests.values()}  # each once
        prompts = [request.prompt.lens for request in requests.values() if request.prompt is not None]
        lost = ledger.lines()[:20]
        return Asked(requests, np.sum([*read.values(), *prompts], axis=0), [*notes, *lost], clean=not lost)

    def _compute_alone(self, requests: Mapping[str, Request], rows: Table) -> None:
        """What a wide read-out says of each row, of each by itself: several at once differ in their last bits."""
        for name, request in requests.items():
            if name in request.store.wide:
                each = (self.model.request(rows.take([i]), name, request.given) for i in range(len(rows)))
                request.store.wide[name] = np.concatenate([alone.store.wide[name] for alone in each])

    def _notes(self, table: Table, rows: Table, needed: Sequence[str], own: bool) -> list[str]:
        """What a client should know of its columns; `own`: the rows have values of what is asked."""
        absent, notes = [name for name in needed if name not in rows.columns], []
        if absent and len(absent) == len(needed) and not own:
            there = ", ".join(rows.names[:20]) or "nothing"
            raise bad(f"The rows have none of the columns {', '.join(needed)}; found {there}.", "rows")
        if absent:
            notes.append(f"The rows lack {', '.join(absent)}: they are answered without.")
        before = rows if self.model.events is not None else table
        if strange := [name for name in before.names if name not in self.types][:20]:
            notes.append(f"The model does not know {', '.join(strange)}: not read.")
        return notes

    def check_files(self, rows: Table) -> None:
        """However a table came: nothing in it is opened as a path."""
        for name in rows.names:
            if name in self.types and media_kind(self.model.encoder(name)) is not None:
                for i, value in enumerate(rows[name]):
                    if value is not None and not isinstance(value, bytes):
                        raise bad(f"rows.{i}.{name}: expected a file's bytes, found a {type(value).__name__}.", "rows")

    def fills(self, name: str) -> bool:
        """Does this column only fill in gaps, and not write?"""
        encoder = self.model.encoder(name)
        return isinstance(encoder, Gapped) and encoder.answers_by != "writing"


def _given_positions(request: Request) -> np.ndarray:
    """int64 [rows]"""
    return GivenRows(request.store, np.arange(len(request.store.index)), request.given).lengths()


def media_kind(encoder: Encoder) -> str | None:
    """Of a column whose values are files: the first word of their MIME types."""
    return encoder.media if isinstance(encoder, FileAnswers) else None


def question_types(encoder: Encoder) -> list[str]:
    """Which questions of a decision a column can answer."""
    if isinstance(encoder, Located):
        return ["box"]
    classes = class_names(encoder)
    if classes is not None and not getattr(encoder, "multi", False):
        return (["predicate"] if len(classes) == 2 else []) + ["choice", "score"]
    return ["score"] if isinstance(encoder, Ordered) else []


class Folders:
    """All folders that are served, by name."""

    def __init__(self, folders: Sequence[Folder]) -> None:
        self._by_name = {folder.name: folder for folder in folders}

    def __iter__(self) -> Any:
        return iter(self._by_name.values())

    def get(self, name: Any) -> Folder:
        """Raises RequestError 404 for one that there is not. Of one alone the name may be left out."""
        if name is None and len(self._by_name) == 1:
            return next(iter(self._by_name.values()))
        if name is None:
            raise bad(f"Say which model is asked: {', '.join(self._by_name)}.", "model")
        if not isinstance(name, str) or name not in self._by_name:
            hint = nearest(str(name)[:100], self._by_name)
            raise RequestError(
                404, f"There is no model {str(name)[:100]!r}.{hint}", code="model_not_found", param="model"
            )
        return self._by_name[name]


def named(folders: Sequence[str]) -> dict[str, str]:
    """The folders' paths by the names that they are served under: NAME=FOLDER, or the folder's own name. Raises
    UsageError where two have one."""
    out: dict[str, str] = {}
    for each in folders:
        name, sign, path = each.partition("=")
        if not sign or not name or "/" in name or Path(each).is_dir():
            name, path = Path(each).resolve().name, each
        if name in out:
            raise UsageError(f"Two model folders are called {name!r}; name one of them: OTHER={path}")
        out[name] = path
    return out
