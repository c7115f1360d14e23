"""What a written answer must be: JSON of a schema, or a text that a regular expression matches from end to end."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from onetrunk.core.errors import UsageError

_MOST_CHARACTERS = 100_000


@dataclass(frozen=True)
class Grammar:
    """Made by `json_schema`, `regex` or `choice`. It is only checked where it is first used (`inference.grammars`)."""

    kind: Literal["json_schema", "regex"]
    text: str

    def __post_init__(self) -> None:
        if len(self.text) > _MOST_CHARACTERS:
            raise UsageError(
                f"A grammar has at most {_MOST_CHARACTERS:,} characters, found {len(self.text):,}. Ask for less."
            )

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any]) -> Grammar:
        """JSON that the schema allows, with at most one space between its parts; `{"type": "object"}` is any object."""
        try:
            return cls("json_schema", json.dumps(schema, ensure_ascii=False, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            raise UsageError("A JSON schema holds only what JSON can hold, and not without end.") from None

    @classmethod
    def regex(cls, pattern: str) -> Grammar:
        """A text that the pattern matches from its beginning to its end."""
        return cls("regex", pattern)

    @classmethod
    def choice(cls, texts: Sequence[str]) -> Grammar:
        """One of these texts."""
        if not texts:
            raise UsageError("A choice is one of some texts; there are none.")
        return cls("regex", "|".join(f"(?:{re.escape(text)})" for text in texts))
