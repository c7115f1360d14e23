"""Conversations: lists of turns, as chat APIs and their data sets have them.

The field's forms mean the same here: {"role", "content"} of OpenAI's, with parts of content, calls of tools and keys
that are not read (name, id); {"role": "model", "parts"} of Gemini's; {"from": "human", "value"} of ShareGPT's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from onetrunk.core.errors import BadValueError
from onetrunk.core.values import some_are

ANSWERS = "assistant"  # whose turns are learnt, and written
_ROLE = re.compile(r"\S{1,64}")
_ROLES = {
    "human": "user",
    "gpt": ANSWERS,
    "chatgpt": ANSWERS,
    "bot": ANSWERS,
    "model": ANSWERS,
    "function_call": ANSWERS,
    "observation": "tool",
    "function": "tool",
}
_WHO, _WHAT = ("role", "from"), ("content", "value", "parts")
_CALLS = ("tool_calls", "function_call")


def is_conversation(value: Any) -> bool:
    """Is this meant as one? Whether it is a proper one, `turns` says."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(turn, Mapping) for turn in value)


def some_conversations(values: Sequence[Any]) -> bool:
    """Is any of them meant as one?"""
    return some_are(values, list | tuple) and any(map(is_conversation, values))


def has_turns(value: Any) -> bool:
    """Does every turn say whose it is, and something?"""
    return is_conversation(value) and all(_key(turn, _WHO) and _key(turn, (*_WHAT, *_CALLS)) for turn in value)


def turns(value: Any) -> list[tuple[str, str]]:
    """Role and content of every turn. Raises BadValueError for what is no such turn, and for an empty one."""
    return [_turn(i, turn) for i, turn in enumerate(value)]


def _turn(i: int, turn: Mapping[str, Any]) -> tuple[str, str]:
    who, what = _key(turn, _WHO), _key(turn, _WHAT)
    calls = [text for key in _CALLS if turn.get(key) is not None for text in _calls(i, turn[key])]
    role = turn.get(who) if who else None
    if not isinstance(role, str) or not (what or calls):
        raise BadValueError(
            f"turn {i} of a conversation must be {{'role': text, 'content': text}}, found {str(dict(turn))[:60]!r}"
        )
    content = "\n".join([text for text in [_text(i, turn[what]) if what else ""] if text] + calls)
    if not _ROLE.fullmatch(role) or not content:
        raise BadValueError(f"turn {i} of a conversation has the role {role[:64]!r} and {len(content)} characters")
    return _ROLES.get(role.lower(), role), content


def _key(turn: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if turn.get(name) is not None), None)


def _text(i: int, content: Any) -> str:
    """A text, or parts of which each is one."""
    if isinstance(content, str):
        return content
    texts = []
    for part in content if isinstance(content, list | tuple) else [content]:
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(text, str):
            kind = part.get("type", "without a type") if isinstance(part, Mapping) else type(part).__name__
            raise BadValueError(
                f"turn {i} of a conversation has a part that is no text ({kind}): put pictures and sounds in columns "
                "of their own"
            )
        texts.append(text)
    return "".join(texts)


def _calls(i: int, calls: Any) -> list[str]:
    """Calls of tools as text, each between tags, as Hermes and Qwen have them."""
    out = []
    for call in calls if isinstance(calls, list | tuple) else [calls]:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise BadValueError(
                f"turn {i} of a conversation calls a tool without a name: expected {{'function': {{'name': ..., "
                f"'arguments': ...}}}}, found {str(call)[:60]!r}"
            )
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            with suppress(ValueError, RecursionError):  # a model wrote it: what is no JSON stays as it is
                arguments = json.loads(arguments)
        made = json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)
        out.append(f"<tool_call>\n{made}\n</tool_call>")
    return out


def proper(value: Any) -> list[dict[str, str]]:
    """A conversation in the one form that all others mean."""
    return [{"role": role, "content": content} for role, content in turns(value)]


def replies(value: Any) -> list[str]:
    """What is learnt of a conversation."""
    return [content for role, content in turns(value) if role == ANSWERS]


def rendered(value: Any) -> str:
    """For a person, also of turns that are not proper."""
    try:
        return "\n".join(f"{role}: {content}" for role, content in turns(value))
    except BadValueError:
        return "\n".join(f"{turn.get('role')}: {turn.get('content')}" for turn in value)
