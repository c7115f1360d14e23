"""Learning from a teacher (`--teacher`): the student takes over its encoders, split and answers to unlabelled rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from onetrunk.core.encoder import Column, Encoder
from onetrunk.core.errors import UsageError
from onetrunk.core.events import Listener, Note, ignore
from onetrunk.core.module import ColumnModule, with_distribution
from onetrunk.data.table import Table
from onetrunk.inference.model_folder import Model, load
from onetrunk.objectives.distil import DistilOptions
from onetrunk.training.open_data import Data


def open_teacher(folder: str, student: Model | None) -> Model:
    """Raises UsageError where the student reads its rows in another order."""
    teacher = load(folder)
    if student is not None and student.network.given_causal != teacher.network.given_causal:
        raise UsageError(
            f"The teacher {folder} and the model of --from differ in `attention`, causal or bidirectional: a student "
            "reads as its teacher does. Start from another model, or from nothing."
        )
    return teacher


def both_met(teacher: Model | None, student: Model | None) -> Model | None:
    """Whose rows keep the part they had: no row that one of them learnt from is held out from the other."""
    if teacher is None or student is None:
        return teacher or student
    stages = [stage for model in (teacher, student) for stage in model.provenance.get("stages", [])]
    return replace(student, provenance={"stages": stages})


def student_columns(teacher: Model, data: Data) -> tuple[list[Column], dict[str, Encoder]]:
    """Columns and encoders of a new student, which know what the teacher's know."""
    _check_known(teacher, data.names)
    for name, options in data.options.items():
        own = teacher.encoder(name).options.model_dump() if name in data.names else {}
        for key, value in options.items():
            if name in data.names and value != own.get(key):
                raise UsageError(f"columns.{name}.{key} is {own.get(key)!r} in the teacher, and so in its student.")
    columns = [replace(teacher.columns[name]) for name in data.names]
    made = {}
    for key in dict.fromkeys(column.key for column in columns):
        known = teacher.network.encoders[key]
        made[key] = type(known)(known.options.model_dump())
        made[key].set_knowledge(json.loads(json.dumps(known.knowledge())))
    return columns, made


def teach(student: Model, teacher: Model, data: Data, config: DistilOptions, on_event: Listener = ignore) -> None:
    """Training rows that lack an asked value get the teacher's answer. Raises UsageError where the two do not know the
    same, or answers are no distribution."""
    _check_known(teacher, data.names)
    for name in data.names:
        own, theirs = student.encoder(name), teacher.encoder(name)
        if type(own) is not type(theirs) or own.options != theirs.options or own.knowledge() != theirs.knowledge():
            raise UsageError(
                f"The column {name!r} has other options, classes or words in the student than in its teacher: expected "
                "the same. Start from nothing, or from a model of the same training rows."
            )
    for name in data.ask:  # on no reads: raises where there is no distribution
        learning, taught = with_distribution(student.module(name)), teacher.module(name)
        learning.divergence(_nothing(student, learning), taught, _nothing(teacher, taught), config.temperature)
    train = data.split.indices()["train"]
    for name in data.ask:
        values = list(data.table[name])
        unknown = [int(i) for i in train if values[i] is None]
        if not unknown:
            continue
        for i, answer in zip(unknown, teacher.answer(data.table.take(unknown), name, data.given), strict=True):
            values[i] = answer.value
        table = data.table
        data.table = Table({**table.columns, name: values}, table.source, table.row, table.notes)
        data.ledger.add("answered by the teacher", name, n=len(unknown))
        on_event(Note(f"The teacher answers {len(unknown):,} rows that have no {name}."))


def _check_known(teacher: Model, names: Sequence[str]) -> None:
    absent = [name for name in names if name not in teacher.columns]
    if absent:
        raise UsageError(
            f"The teacher does not know the columns {', '.join(absent)}, only {', '.join(teacher.columns)}. A student "
            "reads what its teacher reads: name the columns with --given, or others with --map."
        )


def _nothing(model: Model, module: ColumnModule[Any]) -> torch.Tensor:
    return torch.zeros(0, model.network.width * (1 + module.pooled))
