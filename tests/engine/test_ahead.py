"""Micro-batches that are made while an accelerator computes are those that would be made then."""

from __future__ import annotations

import threading

import pytest
import torch

from onetrunk.core.errors import DataError
from onetrunk.engine.ahead import Ahead

ACCELERATOR, CPU = torch.device("meta"), torch.device("cpu")


def test_the_next_is_made_in_the_meantime_and_none_after_the_last() -> None:
    made: list[tuple[int, str]] = []
    second = threading.Event()

    def make(number: int) -> int:
        made.append((number, threading.current_thread().name))
        second.set() if number == 1 else None
        return number * 10

    ahead = Ahead(make, 2, ACCELERATOR)
    assert ahead(0) == 0 and second.wait(10), "nobody has asked for it yet"
    assert [ahead(1), ahead(2)] == [10, 20]
    ahead.close()
    assert [number for number, _ in made] == [0, 1, 2]
    assert [name.startswith("onetrunk-ahead") for _, name in made] == [False, True, True]


def test_a_cpu_makes_nothing_ahead() -> None:
    made: list[int] = []
    ahead = Ahead(lambda number: made.append(number) or number, 9, CPU)
    assert ahead(0) == 0 and made == [0]
    assert ahead(1) == 1 and made == [0, 1]
    ahead.close()


@pytest.mark.parametrize("device", [ACCELERATOR, CPU])
def test_an_error_is_raised_where_its_number_is_asked_for_and_it_may_be_asked_again(device: torch.device) -> None:
    def make(number: int) -> int:
        if number == 1 and not again:
            raise DataError("row 7")
        return number

    again: list[bool] = []
    ahead = Ahead(make, 5, device)
    assert ahead(0) == 0
    with pytest.raises(DataError, match="row 7"):
        ahead(1)
    again.append(True)
    assert [ahead(1), ahead(4), ahead(5)] == [1, 4, 5], "in whatever order"
    ahead.close()
