"""Of a batch that is changed, moved or pinned no tensor is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
import worlds
from torch import Tensor

from onetrunk.core.batch import Batch
from onetrunk.core.documents import Documents, alike

TABLE = {"text": ["to be", "or not"], "image": [worlds._picture(0), worlds._picture(1)], "label": ["a", "b"]}
TYPES = {"text": "text", "image": "image", "label": "category"}


def tensors_in(thing: Any) -> Iterator[Tensor]:
    """Whatever holds it: all dicts and dataclasses are looked through."""
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from tensors_in(value)
    elif is_dataclass(thing):
        for each in fields(thing):
            yield from tensors_in(getattr(thing, each.name))


def batch_of(rows: list[int]) -> Batch:
    made = worlds.model(TABLE, TYPES)
    return worlds.batch(worlds.store_of(made, TABLE), rows, ["text", "image"], ["label"])


def test_a_changed_batch_is_changed_in_every_tensor() -> None:
    batch = batch_of([0, 1])
    before = list(tensors_in(batch))
    after = list(tensors_in(batch.map(Tensor.double)))
    assert len(before) == len(after) > 15
    for old, new in zip(before, after, strict=True):
        assert new.dtype == torch.float64 and torch.equal(new, old.double())
    assert (again := batch.map(Tensor.double)).tokens == batch.tokens and again.counts == batch.counts
    assert batch.to("cpu") is batch


@pytest.mark.parametrize("kind", ["packed", "by rows"])
def test_pinning_takes_every_tensor(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pin_memory` needs a CUDA device; what it is asked for does not."""
    batch = batch_of([0, 1]) if kind == "packed" else Documents.of(alike([batch_of([0])])[0])
    wanted = list(tensors_in(batch)) if kind == "packed" else [*batch.own.values(), *batch.shared.values()]
    asked: list[int] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: asked.append(id(tensor)) or tensor)
    batch.pinned()
    assert sorted(asked) == sorted(id(tensor) for tensor in wanted)
