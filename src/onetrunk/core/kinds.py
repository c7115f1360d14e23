"""Are the attributes of an object of the kinds that its class says? Asked of what was read from a file."""

from __future__ import annotations

import inspect
import sys
import typing
from dataclasses import is_dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

_ANY_CLASS = ConfigDict(arbitrary_types_allowed=True)
_known: dict[type, dict[str, TypeAdapter[Any]]] = {}


def check_kinds(thing: Any) -> None:
    """Raises TypeError where an attribute, or one of a dataclass in it, is not of the kind that its class says."""
    for name, kind in _kinds(type(thing)).items():
        value = vars(thing).get(name)
        if is_dataclass(value) and not isinstance(value, type):
            check_kinds(value)
        elif name in vars(thing):
            try:
                kind.validate_python(value, strict=True)
            except ValidationError as error:
                first = error.errors()[0]
                path = ".".join(map(str, (name, *first["loc"])))
                raise TypeError(f"{path}: {first['msg'].lower()}, found {str(first['input'])[:60]!r}") from None


def _kinds(of: type) -> dict[str, TypeAdapter[Any]]:
    """Of each attribute with an annotation, but for those whose class is not known where it stands."""
    if of not in _known:
        _known[of] = _read(of)
    return _known[of]


def _read(of: type) -> dict[str, TypeAdapter[Any]]:
    out = {}
    for each in reversed(of.__mro__):
        names = vars(sys.modules[each.__module__])
        for name, said in inspect.get_annotations(each).items():
            try:
                kind = typing.get_type_hints(type("_", (), {"__annotations__": {name: said}}), names)[name]
            except NameError:  # imported for type checkers alone
                continue
            if typing.get_origin(kind) is not ClassVar and kind is not ClassVar:
                out[name] = TypeAdapter(kind, config=None if _has_config(kind) else _ANY_CLASS)
    return out


def _has_config(kind: Any) -> bool:
    """Does it say itself what may be in it?"""
    return hasattr(kind, "model_config") or is_dataclass(kind)
