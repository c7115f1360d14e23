"""The part of a recipe that says how a table is read. It needs no torch, whose import takes a second."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from onetrunk.core.config import Config
from onetrunk.data.event_rows import EventsConfig


class TableRecipe(Config):
    """How a table is read."""

    columns: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Column name to its type and the options of that type."
    )
    events: EventsConfig | None = Field(None, description="How a table of events becomes rows.")
