"""What onetrunk.json says of a model, read with the kinds of all its words checked, before anything is made of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from onetrunk.core.config import Config
from onetrunk.core.encoder import Column, Encoder
from onetrunk.core.errors import UsageError
from onetrunk.core.kinds import check_kinds
from onetrunk.core.registry import column_types

_EARLIER_NAMES = {"given": "attention", "fold": "events"}  # of keys, in folders of this format


class ColumnEntry(Config):
    name: str
    type: str
    key: str


class EncoderEntry(Config):
    options: dict[str, Any]
    knowledge: dict[str, Any]


class TaskEntry(Config):
    given: list[str]
    ask: list[str]


class Description(Config):
    """The keys of `Model.save`."""

    format: int | None = None
    attention: Literal["causal", "bidirectional"]
    columns: list[ColumnEntry]
    encoders: dict[str, EncoderEntry]
    tasks: list[TaskEntry]
    wide: dict[str, dict[str, Any]] = Field({})
    events: dict[str, Any] | None
    calibration: dict[str, dict[str, Any]] = Field({})
    missing: list[str] | None = None

    @classmethod
    def of(cls, data: dict[str, Any]) -> Description:
        """Raises UsageError for what cannot be, names that stand for nothing among it."""
        parsed = cls.parse({_EARLIER_NAMES.get(key, key): value for key, value in data.items()}, "the description")
        names = [column.name for column in parsed.columns]
        if len(set(names)) < len(names):
            raise UsageError("two columns have one name")
        told = [*parsed.wide, *parsed.calibration, *(n for task in parsed.tasks for n in (*task.given, *task.ask))]
        for name in told:
            if name not in names:
                raise UsageError(f"there is no column {name!r}")
        return parsed

    def column_list(self) -> list[Column]:
        return [Column(column.name, column.type, column.key) for column in self.columns]

    def fresh_encoders(self) -> dict[str, Encoder]:
        """New ones, with what they know. Raises TypeError, LookupError or ValueError for what none can know."""
        kinds = {column.key: column.type for column in self.columns}
        encoders = {}
        for key, saved in self.encoders.items():
            encoder = column_types.get(kinds[key]).encoder(saved.options)
            encoder.set_knowledge(saved.knowledge)
            check_kinds(encoder)
            encoders[key] = encoder
        return encoders
