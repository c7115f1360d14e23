"""Conversations: lists of turns, {"role": ..., "content": ...}, as chat APIs and their data sets have them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from onetrunk.core.errors import BadValueError

ANSWERS = "assistant"  # whose turns are learnt, and written
_ROLE = re.compile(r"\S{1,64}")


def is_conversation(value: Any) -> bool:
    """Is this meant as one? Whether it is a proper one, `turns` says."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(turn, Mapping) for turn in value)


def turns(value: Any) -> list[tuple[str, str]]:
    """Role and content of every turn. Raises BadValueError for what is no such turn, and for an empty one."""
    proper = []
    for i, turn in enumerate(value):
        fields = {key: field for key, field in turn.items() if field is not None}
        role, content = fields.get("role"), fields.get("content")
        if fields.keys() != {"role", "content"} or not isinstance(role, str) or not isinstance(content, str):
            raise BadValueError(
                f"turn {i} of a conversation must be {{'role': text, 'content': text}}, found {str(turn)[:60]!r}"
            )
        if not _ROLE.fullmatch(role) or not content:
            raise BadValueError(f"turn {i} of a conversation has the role {role[:64]!r} and {len(content)} characters")
        proper.append((role, content))
    return proper


def replies(value: Any) -> list[str]:
    """What is learnt of a conversation."""
    return [content for role, content in turns(value) if role == ANSWERS]


def rendered(value: Any) -> str:
    """For a person, also of turns that are not proper."""
    return "\n".join(f"{turn.get('role')}: {turn.get('content')}" for turn in value)
