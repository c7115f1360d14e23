"""The contract of an objective, held by every registered one; and what each of them plans and counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import worlds
from worlds import CASES

from onetrunk.core.content import Role
from onetrunk.core.objective import Objective
from onetrunk.core.registry import objectives
from onetrunk.data.loader import Loader
from onetrunk.data.store import Store

TYPES = {"title": "text", "price": "number", "kind": "category", "picture": "image"}
every_objective = pytest.mark.parametrize("kind", objectives.names())


def world(times: int = 1) -> tuple[Any, Store]:
    """Rows with everything, with some of it, and with nothing (the last)."""
    rows = {name: list(CASES[kind].values) * times for name, kind in TYPES.items()}
    for i in range(len(rows["kind"])):
        if i % 3 == 0:
            rows["kind"][i] = None
        if i % 4 == 1:
            rows["title"][i] = rows["picture"][i] = None
    for values in rows.values():
        values[-1] = None
    made = worlds.model(rows, TYPES)
    return made, worlds.store_of(made, rows)


def drawn(objective: Objective, store: Store) -> np.ndarray:
    """The rows of one pass."""
    return np.repeat(np.arange(len(store.index)), objective.turns(store.present, store.windows()))


def planned(objective: Objective, store: Store, step: int = 0) -> tuple[np.ndarray, Any]:
    rows = drawn(objective, store)
    return rows, objective.assign_roles(rows, store.present[rows], worlds.keys(len(rows), step))


@every_objective
def test_plans_keep_within_what_is_there(kind: str) -> None:
    _, store = world(times=5)
    rows, group = planned(worlds.objective(store, kind), store)
    assert len(rows) and rows.max() < len(store.index) - 1, "the empty row is never drawn"
    assert group.roles.shape == (len(group.rows), 4) and len(group.rows) == len(rows) * group.unit
    assert (group.rows == np.repeat(rows, group.unit)).all()
    assert (group.roles[~store.present[group.rows]] == Role.ABSENT).all()
    assert (group.roles != Role.ABSENT).any(1).all(), "no document is empty"
    assert len(set(group.keys.tolist())) == len(group.keys)


@every_objective
def test_roles_are_keyed_and_do_not_depend_on_neighbours(kind: str) -> None:
    _, store = world(times=5)
    objective = worlds.objective(store, kind)
    rows, group = planned(objective, store)
    keys = worlds.keys(len(rows), 0)
    few = np.array([7, 2, 11])
    alone = objective.assign_roles(rows[few], store.present[rows[few]], keys[few])
    here = (few[:, None] * group.unit + np.arange(group.unit)).reshape(-1)
    assert (alone.roles == group.roles[here]).all() and (alone.keys == group.keys[here]).all()
    fixed = kind == "adversarial"  # it asks for the same in every row
    assert (planned(objective, store, step=1)[1].roles != group.roles).any() != fixed


@every_objective
def test_losses_are_named_by_the_tag_and_counted_beforehand(kind: str) -> None:
    made, store = world()
    options = {
        "distil": {"ask": ["title", "price", "kind"]},  # a picture has no distribution
        "adversarial": {"ask": ["price"]},  # it draws numbers
    }.get(kind, {})
    objective = worlds.objective(store, kind, documents=30, **options)
    objective.tag = "mine"
    if kind == "distil":
        objective.learn_from(world()[0].network)
    learner = worlds.learner(made, objective)
    for batch in Loader(store, [objective], seed=0, tokens_per_batch=200)(0):
        losses = learner.train()(batch)
        own = {"mine/price"} if kind == "adversarial" else set()  # it reads a column for losses of other names
        assert losses.keys() >= batch.counts.keys() - own and len(batch.counts)
        assert all(name == "mine" or name.startswith("mine/") for name in losses)
        for name, loss in losses.items():
            assert float(loss.count) == pytest.approx(batch.counts.get(name, 0.0))
            assert torch.isfinite(loss.sum) and loss.sum.requires_grad


# -- predict -------------------------------------------------------------------------------------------------
def test_free_roles_ask_for_each_column_about_equally_and_show_most_others() -> None:
    _, store = world(times=100)
    _, group = planned(worlds.objective(store, "predict"), store)
    present = store.present[group.rows]
    assert ((group.roles == Role.ASKED).any(1)).all(), "every document asks for something"
    full = present.all(1)
    assert full.sum() > 100
    asked = (group.roles[full] == Role.ASKED).mean(0)
    expected = 1 / 4 + 3 / 4 * 0.15
    assert np.abs(asked - expected).max() < 0.06
    assert np.abs((group.roles[full] == Role.GIVEN).mean(0) - 3 / 4 * 0.75).max() < 0.06


def test_rows_that_say_how_columns_go_together_make_up_half() -> None:
    rows = {"title": CASES["text"].values * 10, "kind": [*list("abcdef"), *[None] * 114]}
    made = worlds.model(rows, {"title": "text", "kind": "category"})
    store = worlds.store_of(made, rows)
    pool = drawn(worlds.objective(store, "predict"), store)
    assert 0.4 < store.present[pool].all(1).mean() < 0.6
    assert set(pool.tolist()) == set(range(120))


def test_a_task_fixes_roles_and_drops_a_given_column_now_and_then() -> None:
    _, store = world(times=100)
    objective = worlds.objective(store, "predict", given=["title", "price"], ask=["kind"])
    rows, group = planned(objective, store)
    title, price, kind, picture = group.roles.T
    assert (kind == Role.ASKED).all() and (picture == Role.ABSENT).all()
    there = store.present[rows]
    both = there[:, 0] & there[:, 1]
    for column in (title, price):
        assert 0.05 < (column[both] == Role.ABSENT).mean() < 0.16
    assert ((title == Role.GIVEN) | (price == Role.GIVEN)).all(), "never all of them"
    alone = worlds.objective(store, "predict", given=["price"], ask=["kind"])
    rows, group = planned(alone, store)
    assert (group.roles[:, 1] == Role.GIVEN).all(), "the only one is never dropped"


def test_what_guidance_steers_away_from_is_learnt_too() -> None:
    _, store = world(times=100)
    rows, group = planned(worlds.objective(store, "predict", given=["price"], ask=["picture"]), store)
    assert 0.05 < (group.roles[store.present[rows][:, 1], 1] == Role.ABSENT).mean() < 0.16


def test_windows_of_a_long_answer_come_up_as_often_as_there_are() -> None:
    rows = {"title": ["ab" * 25, "abc"], "price": [1.0, 2.0]}
    made = worlds.model(
        rows, {"title": "text", "price": "number"}, options={"title": {"unit": "character", "length": 10}}
    )
    store = worlds.store_of(made, rows)
    pool = drawn(worlds.objective(store, "predict", given=["price"], ask=["title"]), store)
    assert sorted(pool.tolist()) == [0] * 5 + [1]


# -- masked ----------------------------------------------------------------------------------------------------
def test_masks_are_on_columns_with_parts_or_where_none_has_on_whole_values() -> None:
    _, store = world(times=20)
    _, group = planned(worlds.objective(store, "masked"), store)
    masked = group.roles == Role.MASKED
    assert masked.any(1).all() and not masked[:, [1, 2]].any(), "a plain value has no parts to hide"
    assert (group.roles != Role.ASKED).all()
    plain = Store(store.names[1:3], store.encoders[1:3], store.contents[1:3], store.index[:, 1:3])
    _, group = planned(worlds.objective(plain, "masked"), plain)
    masked = group.roles == Role.MASKED
    assert masked.any(1).all() and masked.any(0).all() and (group.roles == Role.GIVEN).any()


# -- contrast --------------------------------------------------------------------------------------------------
def test_two_views_of_a_row_stand_side_by_side_and_differ() -> None:
    _, store = world(times=20)
    _, group = planned(worlds.objective(store, "contrast"), store)
    assert group.unit == 2 and (group.rows[0::2] == group.rows[1::2]).all()
    assert set(np.unique(group.roles)) <= {Role.ABSENT, Role.GIVEN}
    assert not group.roles[:, [1, 2]].any(), "a plain number has no two views"
    both = store.present[group.rows[0::2]][:, [0, 3]].all(1)
    assert (group.roles[0::2] != group.roles[1::2]).any(1)[both].mean() > 0.2
    assert (group.keys[0::2] != group.keys[1::2]).all()


class _View:
    def __init__(self, z: torch.Tensor) -> None:
        self.z = z

    def pooled(self, tag: str) -> torch.Tensor:
        return self.z


def test_contrast_is_infonce() -> None:
    """Against the definition, pair by pair."""
    _, store = world()
    z = torch.randn(8, 5, dtype=torch.float64)
    loss = worlds.objective(store, "contrast").loss(_View(z))["contrast"]
    unit = z / z.norm(dim=1, keepdim=True)
    expected = 0.0
    for i in range(8):
        scores = torch.tensor([float(unit[i] @ unit[j]) / 0.2 for j in range(8) if j != i])
        partner = [j for j in range(8) if j != i].index(i ^ 1)
        expected -= float(F.log_softmax(scores, 0)[partner])
    assert float(loss.sum) == pytest.approx(expected, rel=1e-5) and float(loss.count) == 8
    alike = z[torch.arange(8) // 2 * 2]
    assert float(worlds.objective(store, "contrast").loss(_View(alike))["contrast"].sum) < float(loss.sum)


def test_contrast_of_nothing_is_nothing() -> None:
    _, store = world()
    loss = worlds.objective(store, "contrast").loss(_View(torch.zeros(0, 5, requires_grad=True)))["contrast"]
    assert loss.sum.item() == 0 and float(loss.count) == 0
