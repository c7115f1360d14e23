"""How a checkpoint spells a conversation: its own chat template, in Jinja, as transformers renders it.

A template is a program of other people. It runs in Jinja's sandbox, and every loop, macro, product and character costs:
a template that asks for too much is refused, like one that does what the sandbox forbids.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from onetrunk.core.errors import BadValueError, ModelFileError

MAX_TEMPLATE = 200_000  # characters
_MAX_STEPS = 200_000  # of all loops and macros of one conversation together
_MAX_LENGTH = 10_000_000  # characters of a text that a product or a conversation makes

_FAULTS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)

Turn = Mapping[str, Any]


class _Generation(Extension):
    """Marks what the assistant says; what it marks stands there as it is."""

    tags = {"generation"}  # noqa: RUF012  (as Jinja declares it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.steps = 0
        self.filters = {name: _small(function) for name, function in {**self.filters, "tojson": _as_json}.items()}
        for name in ("replace", "join"):
            self.filters[name] = _measured(name, self.filters[name])
        self.filters |= {"metered": self._metered, "joined": _joined}
        self.globals["raise_exception"] = _refuse
        self.globals["range"] = _range
        self.globals["count_step"] = self._step

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" or (operator == "%" and not numbers):
            raise SecurityError(f"a chat template may not use {operator} so")
        if operator == "*" and not numbers:
            longest = max((len(x) for x in (left, right) if hasattr(x, "__len__")), default=0)
            _check_length(longest * next((x for x in (left, right) if isinstance(x, int)), 1))
        result = super().call_binop(context, operator, left, right)
        _check_length(len(result) if hasattr(result, "__len__") else 0)
        return result

    def call(self, context: Any, function: Any, /, *args: Any, **keywords: Any) -> Any:
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str):
            _check_product(getattr(function, "__name__", ""), owner, *args)
        return _small(super().call, first=2)(context, function, *args, **keywords)

    def _metered(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self._step()
            yield value

    def _step(self) -> str:
        self.steps += 1
        if self.steps > _MAX_STEPS:
            raise SecurityError(f"a chat template took more than {_MAX_STEPS:,} steps")
        return ""


class _Metering(NodeTransformer):
    """Counts every loop and macro, and bounds what is joined."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise ModelFileError("The chat template has a recursive loop, which is not read.")
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "metered", [], [], None, None)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, nodes.Output([nodes.Call(nodes.Name("count_step", "load"), [], [], None, None)]))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), "joined", [], [], None, None)


def _check_length(length: int) -> None:
    if length > _MAX_LENGTH:
        raise SecurityError(f"a chat template made a text of more than {_MAX_LENGTH:,} characters")


def _range(*bounds: int) -> range:
    out = range(*bounds)
    if len(out) > _MAX_STEPS:
        raise SecurityError(f"a chat template asked for {len(out):,} numbers")
    return out


def _check_product(name: str, *values: Any) -> None:
    """What is put in many places at once makes long texts of short ones."""
    sizes = [len(value) if hasattr(value, "__len__") else 1 for value in values]
    if name == "replace" and len(sizes) > 2:
        _check_length((sizes[0] + 1) * sizes[2])
    elif name == "join" and len(sizes) > 1:
        _check_length(sizes[0] * sizes[1])


def _measured(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter, whose first argument is Jinja's own."""

    @functools.wraps(function)
    def checked(context: Any, *args: Any, **keywords: Any) -> Any:
        _check_product(name, *args, *keywords.values())
        return function(context, *args, **keywords)

    return checked


def _joined(values: Iterable[Any]) -> str:
    texts = [str(value) for value in values]
    _check_length(sum(map(len, texts)))
    return "".join(texts)


def _small(function: Callable[..., Any], first: int = 0) -> Callable[..., Any]:
    """Neither takes large numbers (widths) after its first arguments nor gives long texts."""

    @functools.wraps(function)
    def checked(*args: Any, **keywords: Any) -> Any:
        for value in (*args[first:], *keywords.values()):
            _check_length(abs(value) if isinstance(value, int) else 0)
        result = function(*args, **keywords)
        _check_length(len(result) if isinstance(result, str) else 0)
        return result

    return checked


def _as_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> None:
    raise TemplateError(message)


class ChatTemplate:
    """`tokens` are the names of special tokens that the template may use, to how they are spelt."""

    def __init__(self, text: str, tokens: Mapping[str, str]) -> None:
        """Raises ModelFileError for a text that is no template."""
        self.text, self.tokens = text, dict(tokens)
        if len(text) > MAX_TEMPLATE:
            raise ModelFileError(f"A chat template has {len(text):,} characters; at most {MAX_TEMPLATE:,}.")
        self.day = datetime(2024, 7, 26)  # which templates name that say of what day it is: no model learns today's
        self._sandbox = _Sandbox()
        self._sandbox.globals["strftime_now"] = lambda form: self.day.strftime(form)
        try:
            self._template = self._compiled()
        except (TemplateError, RecursionError) as error:
            raise ModelFileError(f"The chat template is not one that can be read: {error}.") from None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies are made anew: a compiled template cannot be copied."""
        return ChatTemplate, (self.text, self.tokens)

    def _compiled(self) -> Template:
        """With every loop and macro counted."""
        tree = _Metering().visit(self._sandbox.parse(self.text))
        for node in (tree, *tree.find_all(nodes.Node)):
            node.environment = self._sandbox
            node.lineno = getattr(node, "lineno", None) or 1
        return self._sandbox.from_string(tree)

    def render(self, turns: Sequence[Turn], waits: bool) -> str:
        """The text of a conversation; with what opens the assistant's turn, if it `waits` for one. Raises BadValueError
        where the template takes no such conversation, or asks for too much."""
        self._sandbox.steps, out, length = 0, [], 0
        try:
            variables = {"messages": [dict(turn) for turn in turns], "add_generation_prompt": waits, **self.tokens}
            for piece in self._template.generate(tools=None, documents=None, **variables):
                length += len(piece)
                if length > _MAX_LENGTH:
                    raise SecurityError(f"a chat template made more than {_MAX_LENGTH:,} characters")
                out.append(piece)
        except (TemplateError, *_FAULTS) as error:
            raise BadValueError(f"a conversation that the model's own chat template does not take ({error})") from None
        return "".join(out)

    def encode(
        self, turns: Sequence[Turn], answers: str, tokenise: Callable[[str], tuple[list[int], list[tuple[int, int]]]]
    ) -> tuple[list[int], list[bool]]:
        """The tokens of a conversation, and which of them are learnt: what the assistant says (`answers` is its role),
        with what ends its turn. `tokenise` gives tokens and where each stands in a text."""
        waits = turns[-1]["role"] != answers
        text = self.render(turns, waits)
        ids, places = tokenise(text)
        learnt = [False] * len(ids)
        for i in (i for i, turn in enumerate(turns) if turn["role"] == answers):
            before, after = self.render(turns[:i], True), self.render(turns[: i + 1], False).rstrip()
            if not text.startswith(before) or not text.startswith(after):
                continue  # earlier turns are spelt otherwise once there are later ones
            for j, (first, end) in enumerate(places):
                learnt[j] = learnt[j] or (first >= len(before) and len(before) < end <= len(after))
        if not waits and not any(learnt):
            raise BadValueError(
                "a conversation whose reply the model's own chat template spells otherwise than asked for"
            )
        return ids, learnt
