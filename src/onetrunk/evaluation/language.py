"""The language in which evidence is told. English stands where it is said; `chinese` has one line for each of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from onetrunk.core.errors import UsageError
from onetrunk.evaluation.chinese import METRICS, NAMES, PHRASES, SENTENCES

LANGUAGES = {"en": "en", "zh": "zh-CN"}  # and how HTML calls them
_OF_DATA = {"ask", "answer"}  # what stands there in a phrase is a name that data gave
_language: ContextVar[str] = ContextVar("language", default="en")


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """What is said inside is said in this language."""
    token = _language.set(check_language(language))
    try:
        yield
    finally:
        _language.reset(token)


def check_language(language: str) -> str:
    """Raises UsageError for one that there is not."""
    if language not in LANGUAGES:
        raise UsageError(f"--lang expects {' or '.join(LANGUAGES)}, found {language!r}.")
    return language


def html_language() -> str:
    return LANGUAGES[_language.get()]


def say(sentence: str, /, **values: Any) -> str:
    """The sentence in the language that is spoken, values put in where {names} stand."""
    told = sentence if _language.get() == "en" else SENTENCES[sentence]
    return told.format(**values) if values else told


def begun(sentence: str) -> str:
    """A sentence with a capital, where the language has them; in Chinese its first letters are a name."""
    return sentence[:1].upper() + sentence[1:] if _language.get() == "en" else sentence


def called(name: str) -> str:
    """What data call something (a baseline, a stage, why a value was left out), where the language knows it."""
    if _language.get() == "en":
        return name
    return NAMES[name] if name in NAMES else _by_phrase(name)


@cache
def _phrases() -> list[tuple[re.Pattern[str], str]]:
    """Patterns of `PHRASES`; of those that fit, the one with the most words of its own is taken."""
    out = []
    for english in sorted(PHRASES, key=lambda each: -len(re.sub(r"\{\w+\}", "", each))):
        pieces = re.split(r"\{(\w+)\}", english)
        pattern = "".join(
            f"(?P<{x}>.+)" if i % 2 else re.escape(x.replace("{{", "{").replace("}}", "}"))
            for i, x in enumerate(pieces)
        )
        out.append((re.compile(pattern, re.DOTALL), PHRASES[english]))
    return out


def _by_phrase(name: str) -> str:
    """With what stands in it as it is, but for names that are known; what data call a column or a class stays."""
    for pattern, chinese in _phrases():
        if match := pattern.fullmatch(name):
            values = match.groupdict().items()
            return chinese.format(**{k: v if k in _OF_DATA else NAMES.get(v, v) for k, v in values})
    return name


def metric_words(metric: str, label: str, meaning: str) -> tuple[str, str]:
    """A metric's label and what it means."""
    return (label, meaning) if _language.get() == "en" else METRICS.get(metric, (label, meaning))
