"""A trained model and its folder: the one artefact every verb takes and leaves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.calibration import Calibration
from onetrunk.core.content import Content
from onetrunk.core.encoder import Column, Encoder, Gapped, History, Prompted, class_names, is_prompt
from onetrunk.core.errors import BadValueError, ModelFileError, UsageError, is_out_of_memory, unknown
from onetrunk.core.evaluation import Evaluation
from onetrunk.core.module import Calibrated, ColumnModule
from onetrunk.core.registry import column_types
from onetrunk.core.values import Values
from onetrunk.data.event_rows import EventsConfig, holds_events, latest_rows
from onetrunk.data.event_rows import rows_from_events as make_rows
from onetrunk.data.ledger import Ledger
from onetrunk.data.nested import unnested_for
from onetrunk.data.prepare import as_learnt, cells_of, encode
from onetrunk.data.readers.common import plain
from onetrunk.data.store import Store
from onetrunk.data.table import Table, read
from onetrunk.engine.runtime import Runtime
from onetrunk.inference import adapter as adapters
from onetrunk.inference.answer_rows import answer
from onetrunk.inference.description import Description
from onetrunk.inference.fill import fill
from onetrunk.inference.given import without
from onetrunk.inference.likelihood import row_losses
from onetrunk.inference.provenance import read_provenance, write_provenance
from onetrunk.inference.request import Request
from onetrunk.inference.wide_outputs import add_wide
from onetrunk.model import FoundationModel
from onetrunk.model.wide import WideReadout, WideShape
from onetrunk.nn import lora
from onetrunk.storage import atomic, hub
from onetrunk.storage.names import file_name
from onetrunk.storage.strict_json import read_json, write_json
from onetrunk.storage.tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    import pandas as pd

# What making a model of words that nobody wrote ends in; RuntimeError is PyTorch's, for sizes that cannot be.
_NO_MODEL = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, UsageError, ValueError)
_MOST_CLASS_COLUMNS = 20  # a table of answers has one probability column a class up to here


@dataclass
class Task:
    """Which columns are given and which are asked."""

    given: list[str]
    ask: list[str]


@dataclass
class Model:
    """A network with the columns it knows and the tasks it was made for. `onetrunk.load` gives one."""

    network: FoundationModel
    tasks: list[Task] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    events: EventsConfig | None = None  # how rows are made of a table of events
    missing: list[str] | None = None  # words that stand for a missing value in tables, as told; None: the usual ones
    adapter: adapters.Adapter | None = None  # what it learnt beside its base, already merged into the trunk

    @property
    def columns(self) -> dict[str, Column]:
        return self.network.columns

    def encoder(self, column: str) -> Encoder:
        return self.network.encoder(self._known(column).name)

    def module(self, column: str) -> ColumnModule[Any]:
        return self.network.module(self._known(column).name)

    def evaluation(self, column: str) -> Evaluation[Any]:
        return column_types.get(self._known(column).type).evaluation(self.encoder(column))

    def calibration(self, column: str) -> Calibration | None:
        """How sure its answers are was put right by this; None where it was not, or cannot be."""
        module = self.module(column)
        return module.calibration if isinstance(module, Calibrated) else None

    def _known(self, column: str) -> Column:
        if column not in self.columns:
            raise unknown("column", column, self.columns)
        return self.columns[column]

    def task(self, ask: Sequence[str] | str | None = None, given: Sequence[str] | str | None = None) -> Task:
        """The task with these asked columns, or the folder's first; by default every other column it knows is given.
        One column's name is a list of one."""
        ask, given = ([names] if isinstance(names, str) else names for names in (ask, given))
        for name in [*(ask or []), *(given or [])]:
            self._known(name)
        known = next((t for t in self.tasks if ask is None or set(ask) <= set(t.ask)), None)
        if ask is None and known is None:
            raise UsageError(f"Say which column to ask for with --ask. This model knows: {', '.join(self.columns)}.")
        asked = list(ask) if ask is not None else known.ask if known else []
        if given is None:
            given = known.given if known else [name for name in self.columns if name not in asked]
        return Task([name for name in given if name not in asked], asked)

    # -- rows --------------------------------------------------------------------------------------------------------
    def as_learnt(self, table: Table) -> Table:
        """The table, the values of columns that the model knows as its training rows had them (`data.prepare`)."""
        return as_learnt(table, self.columns.values(), self.network.encoders)

    def to_answer(self, table: Table, ask: Sequence[str], ledger: Ledger, max_bad: float = 0.01) -> Table:
        """A table of events as one row a history, as it stands at its end; other tables as they are. Objects in its
        cells become the columns that the model knows by their path."""
        table = unnested_for(table, self.columns)
        if self.events is None or not holds_events(table, self.events):
            return table
        return latest_rows(table, self.events, ask, ledger=ledger, max_bad=max_bad)

    def to_judge(self, table: Table, ask: Sequence[str], ledger: Ledger, max_bad: float = 0.01) -> Table:
        """A table of events as rows that hold what comes next, as in training; other tables as they are. Objects in
        its cells become the columns that the model knows by their path."""
        table = unnested_for(table, self.columns)
        if self.events is None or not holds_events(table, self.events):
            return table
        return make_rows(table, self.events, ask, split=None, ledger=ledger, max_bad=max_bad)

    # -- answers -----------------------------------------------------------------------------------------------------
    def answer(
        self,
        columns: Mapping[str, Sequence[Any]] | Table,
        ask: str,
        given: Sequence[str] | None = None,
        sampling: Sampling | None = None,
        ledger: Ledger | None = None,
        prompted: bool = False,
        first_row: int = 0,
        encoded: Store | None = None,
    ) -> list[Answer]:
        """One answer a row for one column, all at once. See `request`."""
        table = columns if isinstance(columns, Table) else _table(columns)
        gapped = self._gapped(table, ask, ledger if ledger is not None else Ledger())
        request = self.request(table, ask, given, sampling, ledger, prompted, first_row, encoded)
        filled = None if gapped is None else fill(self.network, request.store, request.given, ask, gapped)
        if filled is not None and (len(gapped or {}) == len(filled) or not self._learnt(ask)):
            return filled
        answers = answer(self.network, request.store, request.given, ask, request.sampling, request.prompt, first_row)
        return answers if filled is None else [filled[i] if i in (gapped or {}) else a for i, a in enumerate(answers)]

    def _learnt(self, ask: str) -> bool:
        """Has the model learnt to answer this column as any other, and not only to fill in what is hidden of it?"""
        encoder = self.encoder(ask)
        return (
            not isinstance(encoder, Gapped) or encoder.answers_by == "writing" or any(ask in t.ask for t in self.tasks)
        )

    def _gapped(self, table: Table, ask: str, ledger: Ledger) -> dict[int, Any] | None:
        """The rows' own values of the asked column whose gaps are to be filled in; None where answers are written.

        Raises UsageError where the model learnt to do neither.
        """
        encoder = self.encoder(ask)
        if not isinstance(encoder, Gapped):
            return None
        learnt = self._learnt(ask)
        if not learnt and encoder.answers_by == "nothing":
            raise UsageError(
                f"{ask!r} came without a read-out: it neither writes nor fills in. It describes values (onetrunk "
                "embed), and other columns are learnt on it (onetrunk finetune --from)."
            )
        values = list(table.columns.get(ask, []))
        gaps = [i for i, value in enumerate(values) if _has_gap(encoder, value)]
        if learnt and (self.network.given_causal or not gaps):
            return None
        if not gaps:
            raise UsageError(
                f"{ask!r} fills in what is hidden, and does not write: give it values with {encoder.gap}, like "
                f'\'{{"{ask}": "The {encoder.gap} was clean."}}\'.'
            )
        out = {}
        for i in gaps:
            try:
                encoder.encode_gaps(values[i])
                out[i] = values[i]
            except BadValueError as error:
                ledger.add(str(error), ask, int(table.row[i]), bad=True)
        if not learnt and (missed := len(values) - len(gaps)):
            ledger.add(f"values without a gap ({encoder.gap}), which are not answered", ask, n=missed)
        return out

    def request(
        self,
        columns: Mapping[str, Sequence[Any]] | Table,
        ask: str,
        given: Sequence[str] | None = None,
        sampling: Sampling | None = None,
        ledger: Ledger | None = None,
        prompted: bool = False,
        first_row: int = 0,
        encoded: Store | None = None,
    ) -> Request:
        """What a session is asked for one answer a row. Missing values and columns are left out; values that cannot be
        read too. They are counted in `ledger`, as are rows of which nothing is left that an answer could go by. With
        `prompted`, and always for histories and conversations, answers go on from the rows' own values of that column;
        a row without one begins at the beginning. Of a part of a table `first_row` is the number of its first row.
        `encoded` are the rows as `data.prepare.encode` made them, where that was done before."""
        task = self.task([ask], given)
        table = columns if isinstance(columns, Table) else _table(columns)
        # What is asked is not encoded: it need not be there, and if it is, nobody looks at it.
        # Columns stand in the model's order, as in training: recurrent and causal trunks read them in it.
        wanted = [column for name, column in self.columns.items() if name in task.given and name in table.columns]
        ledger = ledger if ledger is not None else Ledger()
        if encoded is None:
            store = encode(table, wanted, self.network.encoders, ledger)
        else:
            store = encoded.select([column.name for column in wanted])
        add_wide(self.network, store, task.given, ask)
        encoder, prompt = self.encoder(ask), None
        if prompted and not isinstance(encoder, Prompted):
            able = [name for name in self.columns if isinstance(self.encoder(name), Prompted)]
            raise UsageError(
                f"An answer of {ask!r} cannot go on from a prompt; of {', '.join(able) or 'no column'} can."
            )
        own = cells_of(encoder, table.columns.get(ask, [None] * len(table)))
        filled = [_has_gap(encoder, value) for value in own]
        own = [v if v is not None and (prompted or is_prompt(encoder, v)) else None for v in own]
        if isinstance(encoder, History) or any(v is not None for v in own):
            prompt = _prompts(own, table.row, ask, encoder, ledger)
        if encoded is None and task.given:
            known = store.present.any(1) | np.array(filled, dtype=bool)
            for i in np.flatnonzero(~(known if prompt is None else known | (prompt.lens > 0))):
                ledger.add(
                    "nothing is known of the row that it could be answered from", ask, int(table.row[i]), bad=True
                )
        return Request(store, ask, task.given, sampling or Sampling(), prompt, first_row=first_row)

    def losses(
        self, columns: Mapping[str, Sequence[Any]], ask: str, given: Sequence[str], encoded: Store | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """How unlikely the true values of a column are, from what is given: each row's loss (nats, of what is written)
        and how many elements (tokens) it is the sum of, float64 [rows] each."""
        table = _table(columns)
        wanted = [column for name, column in self.columns.items() if name in {ask, *given} & table.columns.keys()]
        if encoded is None:
            store = encode(table, wanted, self.network.encoders, Ledger())
        else:
            store = encoded.select([column.name for column in wanted])
        add_wide(self.network, store, given, ask)
        return row_losses(self.network, store, list(given), ask)

    def predict(
        self,
        rows: Any,
        ask: str | Sequence[str] | None = None,
        coverage: float | None = None,
        max_bad: float = 0.01,
        **options: Any,
    ) -> pd.DataFrame:
        """Answers as a pandas DataFrame, one row each: the value, its probability, every class's, an interval.
        In the rows' order, with the index of a DataFrame, so that `rows.join(answers)` fits.

        `rows` is anything `onetrunk.read` takes. `coverage` is how likely an interval holds what is true (0.9 where it
        is not given) and, where it is given, a set of classes. Other options are those of `answer`. What cannot be
        read, and rows of which nothing is known, are warnings; raises DataError where they are more than the share
        `max_bad` of the rows.
        """
        import pandas as pd

        task, ledger = self.task(ask, options.get("given")), options.setdefault("ledger", Ledger())
        asked = task.ask
        table = self.to_answer(read(rows, missing=self.missing), asked, ledger, max_bad)
        absent = without(task.given, asked, table)
        out = self.whose(table)
        if coverage is not None:
            options["sampling"] = replace(options.get("sampling") or Sampling(), coverage=coverage)
        for name in asked:
            answers = self.answer(table, name, **options)
            out |= answer_columns(name, answers, self.encoder(name), sets=coverage is not None)
        ledger.check(len(table), max_bad)
        for message in [*absent, *ledger.lines()]:
            warnings.warn(message, stacklevel=2)
        alike = isinstance(rows, pd.DataFrame) and len(rows) == len(table)  # not so of events, which became fewer rows
        return pd.DataFrame(out, index=rows.index if alike else None)

    def whose(self, table: Table) -> dict[str, Sequence[Any]]:
        """What tells rows made of events apart: whose they are, and of when."""
        names = [] if self.events is None else [*self.events.by, *filter(None, [self.events.order])]
        return {name: table[name] for name in names if name in table.columns}

    # -- files -------------------------------------------------------------------------------------------------------
    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Writes the model folder, all of it or nothing."""
        state = self.network.state_dict()
        trunk = {k.removeprefix("trunk."): v for k, v in state.items() if k.startswith("trunk.")}
        rest = {k: v for k, v in state.items() if not k.startswith("trunk.")}

        def write(staging: Path) -> None:
            write_json(staging / "config.json", {"model_type": "onetrunk", **self.network.trunk.config.model_dump()})
            save_tensors(staging / "model.safetensors", trunk)
            save_tensors(staging / "columns.safetensors", rest)
            write_json(staging / "onetrunk.json", self._description())
            write_provenance(staging, self.provenance)
            for name, text in self._assets().items():
                (staging / name).write_text(text, encoding="utf-8")
            if self.adapter is not None:
                adapters.write(self.adapter, rest, self._description(), staging / "adapter")

        atomic.commit(Path(path), write, replace=overwrite, needs=sum(t.nbytes for t in state.values()))
        self.folder = Path(path)

    def _assets(self) -> dict[str, str]:
        """Standard files of the encoders; the first of a name keeps it, others carry their encoder's key."""
        out: dict[str, str] = {}
        for key, encoder in self.network.encoders.items():
            for name, text in encoder.assets().items():
                out[name if name not in out else f"{file_name(key)}.{name}"] = text
        return out

    def as_json(self) -> dict[str, Any]:
        """What it is, in short."""
        return {
            "folder": None if self.folder is None else str(self.folder),
            "columns": [column.as_json() for column in self.columns.values()],
            "tasks": [{"given": task.given, "ask": task.ask} for task in self.tasks],
            "parameters": sum(p.numel() for p in self.network.parameters()),
        }

    def _description(self) -> dict[str, Any]:
        return {
            "format": atomic.FORMAT,
            "attention": "causal" if self.network.given_causal else "bidirectional",
            "columns": [column.as_json() for column in self.columns.values()],
            "encoders": {
                key: {"options": encoder.options.model_dump(), "knowledge": encoder.knowledge()}
                for key, encoder in self.network.encoders.items()
            },
            "tasks": [{"given": task.given, "ask": task.ask} for task in self.tasks],
            "wide": {
                name: readout.as_json() for name in self.columns if (readout := self.network.wide_of(name)) is not None
            },
            "events": None if self.events is None else self.events.model_dump(),
            "calibration": {
                name: calibration.as_json()
                for name in self.columns
                if (calibration := self.calibration(name)) is not None
            },
            **({} if self.missing is None else {"missing": self.missing}),
        }


def _table(columns: Mapping[str, Sequence[Any]]) -> Table:
    """Columns that a program holds, in which NaN may stand for what is missing, as in pandas'."""
    return Table({name: v if isinstance(v, Values) else [plain(cell) for cell in v] for name, v in columns.items()})


def _has_gap(encoder: Encoder, value: Any) -> bool:
    return isinstance(encoder, Gapped) and bool(encoder.gap) and isinstance(value, str) and encoder.gap in value


def _prompts(values: Sequence[Any], row: np.ndarray, ask: str, encoder: Encoder, ledger: Ledger) -> Content:
    """What every row's answer begins with, empty where it is missing or bad."""
    content, present = encoder.encode_all(values, lambda i, reason: ledger.add(reason, ask, int(row[i]), bad=True))
    for reason, count in encoder.dropped(content).items():
        ledger.add(reason, ask, n=count)
    lens, starts = np.zeros((2, len(values)), dtype=np.int64)
    lens[present], starts[present] = content.lens, content.starts
    return Content(content.data, lens, starts)


def answer_columns(
    name: str, answers: Sequence[Answer], encoder: Encoder, *, sets: bool = False
) -> dict[str, list[Any]]:
    """Answers of one column as table columns, with `sets` also the classes of each conformal set."""
    out: dict[str, list[Any]] = {name: [a.value for a in answers]}
    first = next((a for a in answers if a.value is not None), Answer(None))
    if isinstance(first.probability, dict):
        out[f"{name}_probability"] = [a.certainty for a in answers]
        classes = class_names(encoder) or []
        if len(classes) <= _MOST_CLASS_COLUMNS:
            out |= {f"{name}_p_{c}": [a.of_classes.get(c, 0.0) for a in answers] for c in classes}
    elif first.probability is not None:
        out[f"{name}_probability"] = [a.probability for a in answers]
    if sets and first.conformal_set is not None:
        out[f"{name}_set"] = [a.conformal_set for a in answers]
    if first.scores is not None:
        out[f"{name}_scores"] = [a.scores for a in answers]
    if first.interval is not None:
        ends = [a.interval or (None, None) for a in answers]
        out[f"{name}_low"], out[f"{name}_high"] = [low for low, _ in ends], [high for _, high in ends]
    if encoder.unit:
        out[f"{name}_unit"] = [encoder.unit] * len(answers)
    return out


def load(
    path: str | Path, adapter: str | Path | None = None, device: str = "auto", allow_network: bool = False
) -> Model:
    """Opens a model folder, with what an adapter folder adds to it, on a device: `cpu`, `cuda`, `cuda:N`, `mps`, or
    `auto`, which is CUDA where there is one and else the CPU. `hf://owner/name` is a model folder of the hub, in the
    local cache, which is filled only if the network is allowed.

    Raises ModelFileError when it is damaged, incomplete or newer than this onetrunk, or not the adapter's base;
    UsageError for a folder or a device that is not there.
    """
    runtime = Runtime.open(device)
    if isinstance(path, str) and path.startswith(hub.HUB):
        place = hub.snapshot(path.removeprefix(hub.HUB), allow_network)
        if not (place / "onetrunk.json").exists():
            raise UsageError(
                f"{path} is no model folder of onetrunk. A checkpoint: onetrunk import {path} --out MODEL."
            )
        path = place
    path = Path(path)
    atomic.restore(path)
    if not path.is_dir():
        raise UsageError(f"There is no model folder {path}.")
    atomic.verify(path)
    description = read_json(path / "onetrunk.json")
    trunk = read_json(path / "config.json")
    trunk.pop("model_type", None)
    instead: dict[str, Tensor] = {}
    added = None
    if adapter is not None:
        description, instead, added = adapters.read(Path(adapter), path)
    try:
        told = Description.of(description)
        columns, tasks = told.column_list(), [Task(list(task.given), list(task.ask)) for task in told.tasks]
        events = None if told.events is None else EventsConfig.parse(told.events, "the model's events")
        encoders = told.fresh_encoders()  # what they know stays real in the sketch
        with torch.device("meta"):  # shapes are checked before memory is taken
            sketch = _with_wide(FoundationModel(trunk, columns, encoders, told.attention), told)
        shapes = {name: tuple(t.shape) for name, t in sketch.state_dict().items()}
        state = _tensors(path, shapes, instead)
        network = FoundationModel(trunk, columns, told.fresh_encoders(), told.attention)
        _with_wide(network, told)
        _calibrate(network, told)
    except _NO_MODEL as error:
        if is_out_of_memory(error):
            raise
        raise ModelFileError(f"{path / 'onetrunk.json'} does not describe a model: {error}.") from None
    network.load_state_dict(state)
    if added is not None:
        lora.merge(network.trunk, added.learnt, added.config.scale)
    runtime.place(network)
    return Model(network.eval(), tasks, read_provenance(path), path, events, told.missing, added)


def _with_wide(network: FoundationModel, description: Description) -> FoundationModel:
    for name, shape in description.wide.items():
        network.add_wide(name, WideReadout(WideShape.parse(shape)))
    return network


def _calibrate(network: FoundationModel, description: Description) -> None:
    for name, saved in description.calibration.items():
        module = network.module(name)
        if not isinstance(module, Calibrated):
            raise TypeError(f"answers of the column {name!r} cannot be calibrated")
        module.calibration = Calibration.parse(saved)


def _tensors(path: Path, shapes: dict[str, tuple[int, ...]], instead: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors; beside the trunk, those of `instead` where it has them."""
    trunk = {k.removeprefix("trunk."): v for k, v in shapes.items() if k.startswith("trunk.")}
    rest = {k: v for k, v in shapes.items() if not k.startswith("trunk.")}
    out = {f"trunk.{k}": v for k, v in load_tensors(path / "model.safetensors", trunk).items()}
    if not instead:
        return out | load_tensors(path / "columns.safetensors", rest)
    beside = load_tensors(path / "columns.safetensors") | instead
    for name, shape in rest.items():
        actual = tuple(beside[name].shape) if name in beside else None
        if actual != shape:
            raise ModelFileError(f"The adapter's tensor {name!r} should have shape {list(shape)}, found {actual}.")
    return out | {name: beside[name] for name in rest}
