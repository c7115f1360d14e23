"""Holds what is written to a grammar: which tokens may come next, as the library llguidance says.

A grammar is compiled once for an encoder and kept; every answer gets a copy of its own, which follows what is drawn.
Limits hold both in bounds, since grammars come from strangers.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from onetrunk.core.decoding import State
from onetrunk.core.encoder import Encoder, Spelt
from onetrunk.core.errors import MissingExtraError, UsageError
from onetrunk.core.grammar import Grammar
from onetrunk.core.module import ColumnModule, Constrained
from onetrunk.inference.sampler import Rows

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_KEPT = 32  # compiled grammars of one encoder
_ONE_SPACE = {
    "whitespace_pattern": " ?"
}  # between the parts of JSON: a model that knows no better would write on and on
_LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 100_000,
    "step_lexer_fuel": 100_000,
    "step_max_items": 20_000,
    "max_lexer_states": 50_000,
    "max_grammar_size": 100_000,
    "verbose_errors": False,
}


class Matcher:
    """Follows one answer."""

    def __init__(self, matcher: LLMatcher, tokens: int, ends: Sequence[int]) -> None:
        self._matcher, self._tokens = matcher, tokens
        self._ends = np.zeros(-(-tokens // 32), dtype=np.uint32)
        for end in ends:
            self._ends[end // 32] |= np.uint32(1 << end % 32)

    def copy(self) -> Matcher:
        copied = object.__new__(Matcher)
        copied._matcher, copied._tokens, copied._ends = self._matcher.deep_copy(), self._tokens, self._ends
        return copied

    def take(self, token: int) -> None:
        """This token was drawn."""
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token)

    def forbidden(self) -> np.ndarray:
        """The tokens that may not be drawn now, as bits in int32 [W]. Where nothing may follow only an end may be
        drawn."""
        allowed = self._ends
        if not self._matcher.is_stopped():
            bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint32)[: len(self._ends)]
            allowed = bits if bits.any() else self._ends
        return (~allowed).view(np.int32)

    @property
    def failed(self) -> bool:
        """Can it not be followed any further: too much work, or nothing that fits can be spelt?"""
        return self._matcher.is_error()

    def problem(self) -> str | None:
        """Why nothing can be written, as the library says; None where something can: one token is tried."""
        allowed = np.unpackbits((~self.forbidden()).view(np.uint8), bitorder="little")
        if not self.failed:
            if self._matcher.is_stopped() and not self._matcher.is_accepting():
                return "Unsatisfiable"
            tried = self.copy()
            tried.take(int(allowed.argmax()))
            tried.forbidden()
            return tried._matcher.get_error() or None
        return self._matcher.get_error() or "it cannot be followed"


class _Compiler:
    """Of one encoder."""

    def __init__(self, encoder: Encoder) -> None:
        try:
            from llguidance import LLTokenizer, TokenizerWrapper
        except ModuleNotFoundError:
            raise MissingExtraError("llguidance", "serve", "Holding an answer to a grammar") from None
        if not isinstance(encoder, Spelt):
            raise UsageError(f"A grammar is for columns of text; this one is of the type {encoder.type_name!r}.")
        self.ends = encoder.ends()
        vocabulary = _Vocabulary(encoder.spellings(), self.ends)
        self.tokenizer: LLTokenizer = LLTokenizer(TokenizerWrapper(vocabulary), eos_token=self.ends)
        self.tokens = len(vocabulary.tokens)
        self._kept: OrderedDict[Grammar, Matcher] = OrderedDict()
        self._lock = threading.Lock()

    def matcher(self, grammar: Grammar) -> Matcher:
        with self._lock:
            made = self._kept.get(grammar)
            if made is None:
                made = self._kept[grammar] = self._compiled(grammar)
            self._kept.move_to_end(grammar)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return made.copy()

    def _compiled(self, grammar: Grammar) -> Matcher:
        from llguidance import LLMatcher, LLParserLimits

        if grammar.kind == "regex":
            text = LLMatcher.grammar_from_regex(grammar.text)
        else:
            text = LLMatcher.grammar_from_json_schema(grammar.text, overrides=_ONE_SPACE)  # type: ignore[arg-type]
        made = LLMatcher(self.tokenizer, text, log_level=0, limits=LLParserLimits(**_LIMITS))
        matcher = Matcher(made, self.tokens, self.ends)
        if (problem := matcher.problem()) is not None:
            raise UsageError(_in_our_words(grammar, problem))
        return matcher


class _Vocabulary:
    """As llguidance wants to be told of tokens."""

    bos_token_id = None

    def __init__(self, tokens: list[bytes], ends: Sequence[int]) -> None:
        # A token of no bytes is none that could be drawn; a name keeps an end from being taken for one.
        self.tokens = [f"<|{i}|>".encode() if i in ends else token for i, token in enumerate(tokens)]
        self.eos_token_id = ends[0]
        self.special_token_ids = list(ends)
        self._number = {token: i for i, token in enumerate(tokens) if token and i not in ends}
        self._longest = max(map(len, self._number), default=1)

    def __call__(self, text: bytes) -> list[int]:
        """Tokens of what must come next: the longest that fits, each time. Ends where none does."""
        out, first = [], 0
        while first < len(text):
            sizes = range(min(self._longest, len(text) - first), 0, -1)
            size = next((size for size in sizes if text[first : first + size] in self._number), 0)
            if not size:
                break
            out.append(self._number[text[first : first + size]])
            first += size
        return out


_compilers: WeakKeyDictionary[Encoder, _Compiler] = WeakKeyDictionary()


def matcher_for(encoder: Encoder, grammar: Grammar) -> Matcher:
    """A matcher at its beginning, of an encoder that is `Spelt`. Raises UsageError for a grammar that is none, that
    nothing can follow, or that is too much work."""
    compiler = _compilers.get(encoder)
    if compiler is None:
        compiler = _compilers[encoder] = _Compiler(encoder)
    return compiler.matcher(grammar)


def _in_our_words(grammar: Grammar, problem: str) -> str:
    what = "regular expression" if grammar.kind == "regex" else "JSON schema"
    if "nsatisfiable" in problem or "NoExtension" in problem:
        return f"Nothing follows this {what}: it contradicts itself, or has no end. Loosen it."
    if "Unimplemented" in problem:
        return (
            "This JSON schema has keywords that what is written cannot be held to, such as not, if, uniqueItems, "
            "contains. Leave them out, and check them afterwards."
        )
    if any(word in problem for word in ("too big", "too many", "limit", "TooComplex", "fuel")):
        return f"This {what} is too large to be followed. Ask for less: fewer repetitions, fewer or shorter values."
    if grammar.kind == "regex":
        return "This is no regular expression that can be followed: it has a fault, or looks ahead, behind or back."
    return "This is no JSON schema that can be followed: a type, a reference or a pattern in it is wrong."


class Held:
    """The matchers of a session's answers, by slot."""

    def __init__(self) -> None:
        self._matchers: dict[int, Matcher] = {}

    def begin(self, module: ColumnModule[Any], rows: Rows, grammar: Grammar | None) -> None:
        """From now on these new rows follow the grammar, if there is one."""
        if grammar is None:
            return
        assert isinstance(module, Constrained), "others are refused before"
        for slot in rows.own["slot"].tolist():
            self._matchers[slot] = matcher_for(module.encoder, grammar)
        self._forbid(rows.state, rows.own["slot"].tolist())

    def advance(self, module: ColumnModule[Any], rows: Rows) -> None:
        """After a step of rows: what comes next, and an end without one where that is not known."""
        if not self._matchers or not isinstance(module, Constrained):
            return
        slots = rows.own["slot"].tolist()
        for slot, token in zip(slots, module.drawn(rows.state).tolist(), strict=True):
            if slot in self._matchers and token >= 0:
                self._matchers[slot].take(token)
        self._forbid(rows.state, slots)

    def _forbid(self, state: State, slots: Sequence[int]) -> None:
        forbidden = state["forbidden"]
        for i, slot in enumerate(slots):
            if (matcher := self._matchers.get(slot)) is not None:
                forbidden[i] = torch.from_numpy(matcher.forbidden()).to(forbidden.device)
                state["done"][i] |= matcher.failed

    def leave(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self._matchers.pop(slot, None)

    def clear(self) -> None:
        self._matchers.clear()
