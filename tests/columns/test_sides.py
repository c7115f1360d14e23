"""The sides of every column type have their contracts' signatures, and no flag of a contract stands for one type."""

from __future__ import annotations

import inspect
from collections import defaultdict
from typing import Any

import pytest

from onetrunk.core import encoder, evaluation, module, wide
from onetrunk.core.registry import column_types

SIDES = ("encoder", "module", "evaluation")
CONTRACTS = [
    each
    for contract in (encoder, evaluation, module, wide)
    for each in vars(contract).values()
    if isinstance(each, type) and each.__module__ == contract.__name__
]


def methods(of: type) -> dict[str, Any]:
    """The public methods and properties that a class writes itself."""
    return {name: each for name, each in vars(of).items() if not name.startswith("_") and _parameters(each) is not None}


def _parameters(method: Any) -> list[tuple[str, Any, Any]] | None:
    """Name, kind and default of each parameter; None of what is no method."""
    if isinstance(method, property):
        return []
    if isinstance(method, classmethod | staticmethod):
        method = method.__func__
    if not inspect.isfunction(method):
        return None
    return [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", column_types.names())
def test_no_signature_is_another_than_its_contracts(name: str, side: str) -> None:
    kind = getattr(column_types.get(name), side)
    checked = 0
    for contract in CONTRACTS:
        if not issubclass(kind, contract):
            continue
        for method, promised in methods(contract).items():
            for owner in kind.__mro__[: kind.__mro__.index(contract)]:
                if method in vars(owner):
                    written = _parameters(vars(owner)[method])
                    assert written is None or written == _parameters(promised), f"{owner.__name__}.{method}"
                    checked += 1
    assert checked > 2


def test_no_flag_of_a_contract_stands_for_one_type() -> None:
    """What one type alone can do is a small class, asked for with `isinstance`."""
    flags = {
        (contract, name)
        for contract in (encoder.Encoder, module.ColumnModule, evaluation.Evaluation)
        for name, value in vars(contract).items()
        if isinstance(value, bool) and not name.startswith("_")
    }
    users = defaultdict(set)
    for kind in map(column_types.get, column_types.names()):
        for contract, name in flags:
            for side in (getattr(kind, side) for side in SIDES):
                if issubclass(side, contract) and getattr(side, name) != getattr(contract, name):
                    users[name].add(kind.name)
    assert {name for _, name in flags} == users.keys(), "a flag that no type sets is of no use"
    assert all(len(names) > 1 for names in users.values()), users
