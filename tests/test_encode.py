"""`encode` and `read`: the one way through the trunk, and what comes out of it for every column type."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds
from worlds import CASES, Case

from onetrunk.core.errors import UsageError

SOURCE = Path(__file__).parents[1] / "src" / "onetrunk"
TRUNKS = {
    "transformer": worlds.TRUNK,
    "lstm": {"kind": "lstm", "width": 32, "layers": 2},
    "gru": {"kind": "gru", "width": 32, "layers": 2},
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
every_trunk = pytest.mark.parametrize("trunk", TRUNKS.values(), ids=TRUNKS.keys())


# -- one path --------------------------------------------------------------------------------------------------------
def trunk_calls(tree: ast.Module) -> list[str]:
    """`x.trunk(...)`, `trunk(...)`, `x.trunk.extend(...)` and `trunk.extend(...)`, by what is called."""

    def is_trunk(node: ast.expr) -> bool:
        return (isinstance(node, ast.Attribute) and node.attr == "trunk") or (
            isinstance(node, ast.Name) and node.id == "trunk"
        )

    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    whole = ["forward" for f in calls if is_trunk(f)]
    cached = ["extend" for f in calls if isinstance(f, ast.Attribute) and f.attr == "extend" and is_trunk(f.value)]
    return whole + cached


def test_the_trunk_is_called_in_two_places() -> None:
    """For whole batches, and for cached decoding; training, answers, likelihood and exports go through these."""
    files = {
        path.relative_to(SOURCE).as_posix(): calls
        for path in SOURCE.rglob("*.py")
        if (calls := trunk_calls(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert files == {"model/foundation.py": ["forward", "extend"]}


@pytest.mark.parametrize("call", ["model.trunk(x, layout)", "trunk.extend(x)", "self.network.trunk.extend(x, pos)"])
def test_a_planted_call_is_found(call: str) -> None:
    assert len(trunk_calls(ast.parse(call))) == 1


# -- what comes out --------------------------------------------------------------------------------------------------
def world(case: Case, trunk: dict[str, Any] = worlds.TRUNK) -> tuple[Any, Any, list[str]]:
    """A model of the case's column `x` beside a category, a batch in which `x` is given and the category asked."""
    beside = {} if case.on is None else {case.on[0]: case.on[1][:6]}
    table = {**beside, "x": case.values[:6], "label": ["a", "b"] * 3}
    types = {**({} if case.on is None else {case.on[0]: case.on[0]}), "x": case.type, "label": "category"}
    made = worlds.model(table, types, options={"x": case.options}, trunk=trunk)
    batch = worlds.batch(worlds.store_of(made, table), range(6), [*beside, "x"], ["label"])
    return made, batch, [f"embedding.{name}" for name in batch.embeds] + ["block.0", "block.1"]


@every_case
def test_gradients_reach_the_embeddings_of_a_given_column_and_every_block(case: Case) -> None:
    made, batch, names = world(case)
    model = made.network.eval()
    embed = batch.embeds["x"]
    own = model.embed("x", embed.content, embed.role_n).detach().requires_grad_()
    hidden = model.encode(batch, embeddings={"x": own}, capture=names)
    assert set(hidden.captured) == set(names) and hidden.captured["embedding.x"] is own
    options = model.read(hidden, "label")
    loss = model.module("label").loss(options, batch.reads["predict"]["label"].targets)
    gradients = torch.autograd.grad(loss.sum, [hidden.captured[name] for name in names])
    for name, gradient in zip(names, gradients, strict=True):
        assert gradient.shape == hidden.captured[name].shape
        assert bool(torch.isfinite(gradient).all()) and float(gradient.abs().sum()) > 0, name
    plain = model.encode(batch)
    assert not plain.captured and torch.equal(plain.h_BTD, hidden.h_BTD), "what is captured changes nothing"
    moved = model.encode(batch, embeddings={"x": own + 1.0})
    assert not torch.allclose(model.read(moved, "label"), options)


@every_trunk
def test_blocks_lead_from_the_embeddings_to_the_states(trunk: dict[str, Any]) -> None:
    made, batch, names = world(CASES["text"], trunk)
    model = made.network.eval()
    hidden = model.encode(batch, capture=names)
    there = batch.layout.doc_BT >= 0
    assert torch.allclose(model.trunk.norm(hidden.captured["block.1"])[there], hidden.h_BTD[there], atol=1e-5)
    last, first = (hidden.captured[f"block.{i}"] for i in (1, 0))
    assert first.shape == last.shape == (*batch.layout.doc_BT.shape, model.width)
    gradients = torch.autograd.grad(hidden.h_BTD[there].square().sum(), [hidden.captured[name] for name in names])
    assert all(float(gradient.abs().sum()) > 0 for gradient in gradients)
    assert torch.equal(model.encode(batch).h_BTD[there], hidden.h_BTD[there])


@every_trunk
def test_with_a_cache_the_states_are_the_same(trunk: dict[str, Any]) -> None:
    made = worlds.model({"x": CASES["text"].values}, {"x": "text"}, trunk=trunk)
    store = worlds.store_of(made, {"x": CASES["text"].values})
    batch = worlds.batch(store, range(12), ["x"], [], apart=True)
    model = made.network.eval()
    with torch.inference_mode():
        whole, cached = model.encode(batch), model.encode(batch, cache=model.start_cache(12))
    there = batch.layout.doc_BT >= 0
    torch.testing.assert_close(cached.h_BTD[there], whole.h_BTD[there], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(cached.pooled_MD, whole.pooled_MD, atol=1e-5, rtol=1e-4)
    assert cached.cache is not None and whole.cache is None


def test_a_read_out_is_told_the_given_states_where_it_pools() -> None:
    made, batch, _ = world(CASES["number"])
    model = made.network
    hidden, at = model.encode(batch), batch.reads["predict"]["label"]
    options = model.read(hidden, "label")
    assert torch.equal(options, torch.cat([hidden.h_ND[at.flat_r], hidden.pooled_MD[at.doc_r]], dim=1))
    h = hidden.h_ND[at.flat_r][:, None]
    assert torch.equal(model.with_pooled("label", h, hidden.pooled_MD[at.doc_r])[:, 0], options)


def test_what_is_asked_wrongly_is_said() -> None:
    made, batch, _ = world(CASES["number"])
    model = made.network
    with pytest.raises(UsageError, match=r"Unknown intermediate 'block.2'. Did you mean 'block"):
        model.encode(batch, capture=["block.2"])
    with pytest.raises(UsageError, match=r"embeddings of 'x' must be \[6, 32\].*found \[5, 32\]"):
        model.encode(batch, embeddings={"x": torch.zeros(5, 32)})
    with pytest.raises(UsageError, match=r"embeddings of 'other' must be \[0, 32\]"):
        model.encode(batch, embeddings={"other": torch.zeros(1, 32)})
    with pytest.raises(UsageError, match="must read the column 'x' for one objective; it does for 0"):
        model.read(model.encode(batch), "x")
