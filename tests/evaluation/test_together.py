"""Held-out rows that several processes answer: each its part, put together in their order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import worlds
from worlds import CASES

from onetrunk.core.errors import UsageError
from onetrunk.engine.world import World, packed, unpacked
from onetrunk.evaluation.together import TogetherModel
from onetrunk.inference.model_folder import Model

TYPES = {"title": "text", "price": "number", "kind": "category"}


class Two(World):
    """Rank 0 of two processes; what it hands out is done here as the other would do it."""

    def __init__(self) -> None:
        super().__init__(0, 2, 0, 2)
        self.sizes: list[list[int]] = []

    def hand_out(self, task: Any) -> None:
        self.task = unpacked(packed(task))

    def gather(self, value: Any) -> list[Any]:
        theirs: list[Any] = []
        other = World(1, 2, 1, 2)
        other.gather = lambda made: theirs.append(made) or []  # type: ignore[method-assign]
        self.task(other)
        self.sizes.append([len(made if isinstance(made, list) else made[0]) for made, _ in (value, *theirs) if made])
        return [value, *theirs]


@pytest.fixture
def made() -> Model:
    return worlds.model(rows(), TYPES)


def rows() -> dict[str, list[Any]]:
    return {name: list(CASES[kind].values) for name, kind in TYPES.items()}


@pytest.mark.parametrize("ask", list(TYPES))
@pytest.mark.parametrize("before", [False, True])
def test_the_answers_and_losses_are_those_of_one_process(made: Model, ask: str, before: bool) -> None:
    columns, given, world = rows(), [name for name in TYPES if name != ask], Two()
    encoded = worlds.store_of(made, columns) if before else None
    together = TogetherModel(made, world)
    answers = together.answer(columns, ask, given, encoded=encoded)
    expected = made.answer(columns, ask, given, encoded=encoded)
    for a, b in zip(answers, expected, strict=True):
        assert a.value == (pytest.approx(b.value, rel=1e-4) if ask == "price" else b.value)
    for a, b in zip(together.losses(columns, ask, given), made.losses(columns, ask, given), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    half = len(answers) // 2
    assert world.sizes == [[len(answers) - half, half]] * 2


def test_what_is_drawn_for_a_row_follows_from_its_number(made: Model) -> None:
    columns = {"kind": [CASES["category"].values[0]] * 8, "price": [1.0] * 8}
    drawn = TogetherModel(made, Two()).answer(columns, "title", ["kind", "price"])
    assert [a.value for a in drawn] == [a.value for a in made.answer(columns, "title", ["kind", "price"])]


def test_the_error_of_one_is_told_by_rank_0(made: Model) -> None:
    with pytest.raises(UsageError, match="Unknown column 'nothing'"):
        TogetherModel(made, Two()).answer(rows(), "nothing", ["title"])
