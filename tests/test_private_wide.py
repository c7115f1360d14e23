"""The private fit of a wide read-out: gradient descent without noise, no row above its bound, no feature of a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import worlds
from torch.nn.functional import cross_entropy

from onetrunk.core.secret import Secret
from onetrunk.engine.private import Privacy
from onetrunk.model.wide import WideReadout
from onetrunk.training.wide import Rows, wide_rows
from onetrunk.training.wide.features import design_of
from onetrunk.training.wide.private import fit_private, hashed_readout

TYPES = {"note": "text", "kind": "category", "size": "number", "label": "category"}
KEY = bytes(32)
EPS = 1e9  # weights go as far as they ever can


def rows_of(more: dict[str, Any] | None = None) -> Rows:
    """Twelve rows, or thirteen, as the encoders of the twelve see them."""
    table: dict[str, list[Any]] = {
        "note": ["the red boat", "a green tree", "green, green tree!", "一只白猫"] * 3,
        "kind": ["a", "b", "c"] * 4,
        "size": [None, 0.5, -1.0, 2.0] * 3,
        "label": ["warm", "cold", "cold", "warm"] * 3,
    }
    made = worlds.model(table, TYPES, awake=False)
    whole = {name: [*values, more[name]] for name, values in table.items()} if more else table
    rows = wide_rows(worlds.store_of(made, whole), ["note", "kind", "size"], "label", np.arange(12 + bool(more)))
    assert rows is not None
    return rows


def privacy(noise: float, clip: float, steps: int) -> Privacy:
    return Privacy(1e-5, clip, noise, 1.0, 12.0, steps)


def fitted(rows: Rows, private: Privacy, key: bytes = KEY) -> WideReadout:
    readout = hashed_readout(rows)
    fit_private(readout, rows, private, EPS, Secret(key), lambda step, loss: None)
    return readout


def outputs(readout: WideReadout, rows: Rows) -> torch.Tensor:
    return readout(readout.tensors(rows.features, rows.present), rows.count)


def test_without_noise_and_bound_it_is_gradient_descent() -> None:
    """Against torch: momentum, and the mean of the last half of the steps."""
    rows, steps, clip = rows_of(), 6, 1e3
    readout = fitted(rows, privacy(0.0, clip, steps))
    x = torch.from_numpy(design_of(readout, rows).x.toarray()).double()
    parts = 1 + sum(len(kinds) for kinds in readout.shape.features.values())
    x = torch.cat([x, torch.ones(rows.count, 1)], dim=1) / parts**0.5
    weights = torch.zeros(x.shape[1], 2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weights], 30_000 * 0.1 / (steps * clip), momentum=0.9)
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(x @ weights, torch.from_numpy(rows.target)).backward()
        optimizer.step()
        seen.append(weights.detach().clone())
    expected = x @ torch.stack(seen[steps // 2 :]).mean(0)
    torch.testing.assert_close(outputs(readout, rows).double(), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("size", [0.1, 1e30])
def test_a_row_more_moves_a_step_by_the_bound_at_most(size: float) -> None:
    private = privacy(0.0, 0.05, 1)
    row = {"note": "猫 and boats " * 50, "kind": "a", "size": size, "label": "warm"}
    less, more = (fitted(rows, private) for rows in (rows_of(), rows_of(row)))
    moved = sum(float((a - b).square().sum()) for a, b in zip(less.buffers(), more.buffers(), strict=True)) ** 0.5
    parts, rate = 1 + sum(len(kinds) for kinds in less.shape.features.values()), 30_000 * 0.1 / 0.05
    bound = rate * 0.05 / 12 / parts**0.5
    assert moved == pytest.approx(bound, rel=1e-2), "its own gradient is longer than the bound"


def test_noise_is_of_the_secret_and_as_large_as_said() -> None:
    quiet, loud = (fitted(rows_of(), privacy(noise, 0.5, 1)) for noise in (0.0, 3.0))
    differences = [(b - a).flatten() for a, b in zip(quiet.buffers(), loud.buffers(), strict=True)]
    noise = torch.cat([each for each in differences if len(each) > 1000])
    parts = 1 + sum(len(kinds) for kinds in quiet.shape.features.values())
    expected = 30_000 * 0.1 / 0.5 * 3.0 * 0.5 / 12 / parts**0.5
    assert float(noise.std()) == pytest.approx(expected, rel=0.02) and abs(float(noise.mean())) < 0.02 * expected
    other = fitted(rows_of(), privacy(3.0, 0.5, 1), bytes(31) + b"\1")
    assert not torch.equal(outputs(loud, rows_of()), outputs(other, rows_of()))


def test_which_features_there_are_says_nothing_of_rows() -> None:
    """A word in one row is a weight in no other shape, and unknown words still have a weight."""
    row = {"note": "secret 123456", "kind": "a", "size": 1.0, "label": "cold"}
    assert hashed_readout(rows_of()).as_json() == hashed_readout(rows_of(row)).as_json()
    rows = rows_of(row)
    readout = fitted(rows_of(), privacy(1.0, 1.0, 2))
    given = readout.tensors(rows.features, rows.present)
    column = readout.column("note")
    for i, kind in enumerate(column.kinds):
        at, index, weight = column.matched(i, given["note"], rows.count)
        assert len(at) == len(given["note"][f"{kind}.row"]) and int(index.max()) < 4096
        lengths = torch.zeros(rows.count).index_add(0, at, weight.square())
        torch.testing.assert_close(lengths, torch.ones(rows.count))
