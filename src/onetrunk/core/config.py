"""Strict configuration: each class owns its nested `Config` beside it; an unknown key is an error with a hint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from onetrunk.core.errors import UsageError, nearest

_MAX_YAML_BYTES = 1_000_000
_MAX_DEPTH = 50
_LARGEST = 1 << 53  # of whole numbers: a float holds each one up to it
_OPENING = (
    yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken, yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken,
)  # fmt: skip
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
_FOUND_CHARACTERS = 100  # of a wrong value, in a message


class Config(BaseModel):
    """Base of every configuration. Field types, bounds and docs live in the subclass."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _countable(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError(f"a whole number should be at most {_LARGEST}")
        return value

    @classmethod
    def parse(cls, data: dict[str, Any], where: str = "configuration") -> Self:
        """Builds it from plain data. Raises UsageError naming the key, what was found and what was expected."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(str(p) for p in first["loc"])
            if first["type"] == "extra_forbidden":
                name = str(first["loc"][-1])
                elsewhere = list(_paths_to(cls, name))
                hint = f" Did you mean {' or '.join(map(repr, elsewhere))}?" if elsewhere else None
                hint = hint or nearest(name, _fields_at(cls, first["loc"][:-1]))
                raise UsageError(f"Unknown key {path!r} in {where}.{hint}") from None
            # Of a field of several types each says what it expected; their names are no part of the path.
            same = [e for e in error.errors() if e["input"] is first["input"] and e["loc"][:-1] == first["loc"][:-1]]
            path = path.rpartition(".")[0] if len(same) > 1 else path
            expected = " or ".join(dict.fromkeys(e["msg"].lower().removeprefix("value error, ") for e in same))
            value = repr(first["input"])
            value = value if len(value) <= _FOUND_CHARACTERS else f"{value[:_FOUND_CHARACTERS]}…"
            key = f"Key {path!r} in {where}" if path else where.capitalize()
            raise UsageError(f"{key}: {expected}, found {value}.") from None

    def updated(self, **changes: Any) -> Self:
        """A validated copy with some fields changed."""
        return type(self).parse({**self.model_dump(), **changes})


def _fields_at(cls: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        cls = dict(_groups(cls)).get(str(part), cls)
    return [field.alias or name for name, field in cls.model_fields.items()]


def _paths_to(cls: type[BaseModel], name: str) -> Iterator[str]:
    """Where a key of this name does stand."""
    if name in cls.model_fields:
        yield name
    for group, inner in _groups(cls):
        yield from (f"{group}.{path}" for path in _paths_to(inner, name))


def _groups(cls: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in cls.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield name, inner


class _Loader(yaml.SafeLoader):
    """Plain data, with YAML 1.2's booleans: on, off, yes and no are words."""


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def parse_yaml(text: str, where: str) -> Any:
    """Plain data of YAML: no objects, and no aliases, of which a few hundred bytes can grow to billions of nodes.
    Raises UsageError, which begins with `where`, for whatever is none."""
    try:
        depth = 0
        for token in yaml.scan(text, Loader=_Loader):
            if isinstance(token, yaml.AliasToken):
                raise UsageError(f"{where} uses YAML aliases (*name); write the value out.")
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            if depth > _MAX_DEPTH:
                raise UsageError(f"{where} is nested more than {_MAX_DEPTH} levels deep; at most so many are read.")
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: the 31st of February, an integer of 5,000 digits
        reason = " ".join(str(error).split())
        raise UsageError(f"{where} is not valid YAML: {reason[:300]}") from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Reads one strict YAML file (`parse_yaml`)."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"The configuration {path} is no file.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read the configuration {path}: {error}.") from None
    if len(text) > _MAX_YAML_BYTES:
        raise UsageError(f"The configuration {path} has {len(text):,} characters; at most {_MAX_YAML_BYTES:,}.")
    data = parse_yaml(text, f"The configuration {path}")
    if not isinstance(data, dict):
        raise UsageError(f"The configuration {path} must be a mapping of keys to values.")
    return data


def take_part(text: str, separators: str) -> tuple[str, str, str]:
    """The first part of a text, the separator that ends it (empty at the end), and what follows.

    A part in double quotes may hold separators; a quote inside it is doubled.
    """
    ends = f"[{re.escape(separators)}]"
    quoted = re.match(rf'\s*"((?:[^"]|"")*)"\s*({ends}|\Z)', text)
    if quoted:
        return quoted[1].replace('""', '"'), quoted[2], text[quoted.end() :]
    end = re.search(ends, text)
    return (text, "", "") if end is None else (text[: end.start()], end[0], text[end.end() :])


def with_settings(data: dict[str, Any], settings: list[str] | None) -> dict[str, Any]:
    """Applies `["train.lr=3e-4"]` to nested data; values are read as YAML. Returns a new dict. A key that holds a dot
    stands in quotes: `columns."Sepal.Length".type=number`."""
    out = _copied(data)
    for setting in settings or []:
        path, sign, value = [], ".", setting
        while sign == ".":
            part, sign, value = take_part(value, ".=")
            path.append(part)
        if not sign or path == [""]:
            raise UsageError(f"--set expects key=value (for example train.lr=3e-4), found {setting!r}.")
        *parents, last = path
        inner = out
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise UsageError(f"--set {setting}: {parent!r} is a value, not a group of keys.")
        inner[last] = _number(parse_yaml(value, f"--set {setting[:_FOUND_CHARACTERS]}: the value"))
    return out


def _copied(data: dict[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, dict) else v for k, v in data.items()}


def _number(value: Any) -> Any:
    """YAML 1.1 reads 3e-4 as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
