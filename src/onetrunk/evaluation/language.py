"""The language in which evidence is told. English stands where it is said; `chinese` has one line for each of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from onetrunk.core.errors import UsageError
from onetrunk.evaluation.chinese import METRICS, NAMES, SENTENCES

LANGUAGES = {"en": "en", "zh": "zh-CN"}  # and how HTML calls them
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


def called(name: str) -> str:
    """What data call something (a baseline, a stage, a group of samples), where its name in the language is known."""
    return name if _language.get() == "en" else NAMES.get(name, name)


def metric_words(metric: str, label: str, meaning: str) -> tuple[str, str]:
    """A metric's label and what it means."""
    return (label, meaning) if _language.get() == "en" else METRICS.get(metric, (label, meaning))
