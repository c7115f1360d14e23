"""Items: what is read where, what may be answered, cold items, and how rankings are judged."""

from __future__ import annotations

import datetime
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import worlds

from onetrunk.columns.families.history.encoder import FIRST, MASK, MISSING, START, UNKNOWN
from onetrunk.columns.items.ranking import Catalogue, Ranking
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.content import Role
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.data.ledger import Ledger

Items = partial(worlds.Sides, "items")
ROWS = [["a", "b", "c"], ["b", "c"], ["c", "a", "b", "d"], ["d"], ["c", "c", "d"], ["e", "c"]]


def fitted(values: list[Any] = ROWS, width: int | None = 8, **options: Any) -> Any:
    sides = Items(options)
    sides.fit(values)
    if width:
        sides.build(width)
        worlds.wake(sides)
    return sides


def rows_of(sides: Any, *items: Any) -> list[int]:
    return [sides.finder(sides.asked)(str(i)) + FIRST for i in items]


# -- reading -------------------------------------------------------------------------------------------------
def test_the_catalogue_stands_by_popularity() -> None:
    sides = fitted(width=None)
    assert sides.classes["item"] == ["c", "b", "d", "a", "e"] and sides.counts == [6, 3, 3, 2, 1]
    assert sides.encode(["e", "never", None])["item"].tolist() == [FIRST + 4, UNKNOWN, MISSING]
    content = worlds.content_of(sides, [["a", "x"], ["y"]])
    assert sides.dropped(content) == {"items never seen in training": 2}
    with pytest.raises(DataError, match="at least 2 different items in the training rows; found 1"):
        fitted([["a"], ["a", "a"]])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "without any items"),
        ("a b c", "expected a list of items or a dict of lists, found 'a b c'"),
        ({"item": "a"}, "expected a list of items"),
        ([["a"], "b"], "expected one value a step, found"),
        (7, "expected a list of items"),
    ],
)
def test_what_is_no_history_says_why(value: Any, reason: str) -> None:
    with pytest.raises(BadValueError, match=reason):
        fitted(width=None).encode(value)


def test_fields_are_of_one_length_and_moments_are_gaps() -> None:
    day = datetime.datetime(2024, 1, 1)
    values = [{"page": ["a", "b"], "time": [day, day + datetime.timedelta(seconds=7)], "by": ["x", "y"]}]
    sides = fitted(values, None)
    assert sides.asked == "page"
    encoded = sides.encode(values[0])
    assert encoded["time"].tolist() == [MISSING, FIRST + 3], "7 seconds: the third power of two"
    assert sides.encode({"page": ["a", "b"], "time": ["2024-01-01", "2024-01-02"]})["by"].tolist() == [MISSING] * 2
    assert sides.encode({"page": ["a", "b"], "time": [5.0, 5.0]})["time"].tolist() == [MISSING, FIRST]
    with pytest.raises(BadValueError, match="'by' has 1 of 2 items"):
        sides.encode({"page": ["a", "b"], "time": [1, 2], "by": ["x"]})
    with pytest.raises(BadValueError, match="'soon' is no moment"):
        sides.encode({"page": ["a", "b"], "time": [1, "soon"], "by": ["x", "x"]})


def test_asked_items_enter_one_step_later() -> None:
    sides = fitted()
    content = worlds.content_of(sides, ROWS)
    segment = sides.segment(content, Role.ASKED, worlds.keys(len(ROWS)))
    a, b, c = rows_of(sides, "a", "b", "c")
    assert segment.content["item"][:5].tolist() == [START, a, b, START, b]
    assert (segment.targets["id"][:5] + FIRST).tolist() == [a, b, c, b, c]
    assert segment.order[:5].tolist() == [0, 1, 2, 0, 1]
    given = sides.segment(content, Role.GIVEN, worlds.keys(len(ROWS)))
    assert given.content["item"][:3].tolist() == [a, b, c] and given.order is None
    masked = sides.segment(content, Role.MASKED, worlds.keys(len(ROWS)))
    hidden = masked.content["item"] == MASK
    assert np.array_equal(np.flatnonzero(hidden), masked.reads)
    assert np.add.reduceat(hidden, np.cumsum(content.lens) - content.lens).min() >= 1, "one of every history at least"
    assert np.array_equal(masked.targets["id"] + FIRST, content.gather()["item"][masked.reads])


def test_long_histories_are_read_by_windows_and_answered_from_their_end() -> None:
    values = [["a", "b", "c", "d", "e", "a", "b"]] * 2
    sides = fitted(values, length=3)
    content = worlds.content_of(sides, values)
    windows, whose = sides.successive_windows(content)
    assert windows.lens.tolist() == [3, 3, 1] * 2 and whose.tolist() == [0, 0, 0, 1, 1, 1]
    segment = sides.segment(windows, Role.ASKED, worlds.keys(6))
    visible = [START, *content.gather()["item"][:6].tolist()]
    assert segment.content["item"][:7].tolist() == visible, "a window goes on from the step before it"
    state = sides.start(worlds.context(worlds.keys(2), prompt=content))
    assert state["steps of item"][0].tolist() == rows_of(sides, "d", "e", "a", "b")
    assert len(state["seen"][0]) == 7, "what was seen long ago is not answered either"


# -- answers -------------------------------------------------------------------------------------------------
def answered(sides: Any, histories: list[Any], sampling: Sampling | None = None) -> list[Any]:
    made = worlds.model({"h": ROWS}, {"h": "items"}, options={"h": sides.options.model_dump()})
    return made.answer({"h": histories}, "h", [], sampling)


def test_what_was_seen_is_not_answered_unless_asked() -> None:
    for repeat in (False, True):
        result = answered(fitted(repeat=repeat, top=5), [["a", "b"], ["c"], None, ["never seen"]])
        assert [sorted(a.value) for a in result][2] == ["a", "b", "c", "d", "e"], "no history: everything"
        seen = [set(a.value) & set(h) for a, h in zip(result, (["a", "b"], ["c"]), strict=False)]
        assert all(seen) if repeat else not any(seen)
        for a in result:
            assert a.scores == sorted(a.scores, reverse=True) and sum(a.scores) == pytest.approx(1, rel=1e-4)
            assert a.probability == a.scores[0]


def test_cold_items_are_counted_and_answered() -> None:
    made = worlds.model({"h": ROWS}, {"h": "items"})
    ledger = Ledger()
    answers = made.answer({"h": [["new"], ["a", "new"]]}, "h", [], ledger=ledger)
    assert all(a.value for a in answers) and "2 × items never seen in training" in " ".join(ledger.lines())
    sides = worlds.Sides.of(made, "h")
    metrics = sides.measure(answers, [["newer"], ["b"]])
    assert metrics["unseen"] == 1 and metrics["hit_rate_10"] == 0.5 and np.isfinite(metrics["mrr"])


def test_drawn_answers_follow_their_probabilities() -> None:
    sides = fitted(top=2).eval()
    n = 4000
    state = sides.start(worlds.context(worlds.keys(n), Sampling(temperature=1.0)))
    h = torch.zeros(n, 1, 8)
    state = sides.step(state, h, None)
    p = sides.bias.detach().softmax(0)
    share = torch.bincount(state["top"][:, 0], minlength=5) / n
    assert (share - p).abs().max() < 0.03
    assert (state["top"][:, 0] != state["top"][:, 1]).all()


def test_ranks_are_among_all_that_may_be_answered() -> None:
    catalogue = Catalogue(np.zeros((5, 0)), np.array([0.4, 0.1, 9.0, 0.3, 0.1]))
    sides = fitted(width=None)
    c, b, d, a, _ = sides.classes["item"]
    answer = Ranking([c], catalogue=catalogue, query=np.zeros(0), excluded=np.array([2]))
    metrics = {item: sides.metrics_per_row([answer], [[item]])["mrr"][0] for item in (c, a, b, d, "new")}
    assert metrics == pytest.approx({c: 1, a: 1 / 2, b: 1 / 3, d: 0, "new": 0}), "ties are as good as the better half"
    assert sides.measure([Answer(["b", "a"])], [["a"]])["mrr"] == 0.5, "a list alone is ranked as it stands"
    assert answer.ranks[sides.next_item([a])] == (2.0, 4)


def test_rankings_are_plain_data_and_share_one_catalogue_while_it_stays() -> None:
    made = worlds.model({"h": ROWS}, {"h": "items"}, options={"h": {"top": 2}})
    sides, histories, then = worlds.Sides.of(made, "h"), [["a", "b"], ["c"], ["e", "d"]], [["d"], ["a"], ["c"]]
    answers = [a for history in histories for a in made.answer({"h": [history]}, "h", [])]
    assert len({id(a.catalogue) for a in answers}) == 1
    again = pickle.loads(pickle.dumps(answers))
    metrics = sides.measure(answers, then)
    assert sides.measure(again, then) == metrics
    for answer, history in zip(answers, histories, strict=True):
        scores = answer.catalogue.scores(answer.query[None])[0]
        scores[[sides.finder("item")(i) for i in history]] = -np.inf
        p = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        assert answer.scores == pytest.approx(sorted(p, reverse=True)[:2], rel=1e-4), "they rank what it answered"
    with torch.no_grad():
        sides.bias += torch.arange(5) * 1.0
    other = made.answer({"h": histories}, "h", [])
    assert other[0].catalogue is not answers[0].catalogue and sides.measure(again, then) == metrics


def test_the_others_are_drawn_from_the_whole_catalogue() -> None:
    bias = np.array([0.4, 0.3, 0.2, 0.1, 0.1])
    for catalogue, others in ((None, 4), (5, 4), (505, 504)):
        sides = fitted(width=None, catalogue=catalogue, top=1)
        second = sides.classes["item"][1]
        answer = Ranking([], catalogue=Catalogue(np.zeros((5, 0)), bias), query=np.zeros(0))
        metrics = sides.measure([answer], [[second]])["hit_rate_1_of_101"]
        assert metrics == pytest.approx(1 - min(100, others) / others), "one item alone is better: is it drawn?"
    with pytest.raises(DataError, match="catalogue says that there are 3 items, but the training rows hold 5"):
        fitted(width=None, catalogue=3)


def test_what_is_judged_is_the_last_step() -> None:
    sides = fitted(width=None)
    assert sides.split(["a", "b", "c"]) == (["a", "b"], ["c"]) and sides.split(["a"]) == ([], ["a"])
    fields = fitted([{"page": ["a", "b"], "by": ["x", "y"]}], None)
    assert fields.split({"page": ["a", "b"], "by": ["x", "y"]}) == (
        {"page": ["a"], "by": ["x"]},
        {"page": ["b"], "by": ["y"]},
    )
    with pytest.raises(BadValueError, match="the item that came next is missing"):
        sides.target([[None]])


# -- learning ------------------------------------------------------------------------------------------------
def test_negatives_are_drawn_by_popularity_and_keyed() -> None:
    values = [["a"] * 90 + ["b"] * 10, ["c"]] * 3
    sides = fitted(values, negatives=500, small=0)
    content = worlds.content_of(sides, values)
    drawn = sides.segment(content, Role.ASKED, worlds.keys(6), True).targets["drawn"]
    assert drawn.shape == (303, 500) and ((drawn >= 0).all(1) == (drawn >= 0).any(1)).all()
    assert np.flatnonzero(drawn[:, 0] >= 0).tolist() == [0, 100, 101, 201, 202, 302], "at the first read of each"
    share = np.bincount(drawn[drawn >= 0], minlength=3) / (drawn >= 0).sum()
    counts = np.array(sides.counts) ** 0.75
    assert np.abs(share - counts / counts.sum()).max() < 0.03
    assert "drawn" not in fitted(values, small=3).segment(content, Role.ASKED, worlds.keys(6), True).targets


def test_it_learns_an_order_and_beats_its_baselines() -> None:
    """Everyone goes round the same circle."""
    items = [f"i{k}" for k in range(24)]
    dice = np.random.default_rng(0)
    rows = [[items[(start + k) % 24] for k in range(6)] for start in dice.integers(24, size=60)]
    options = {"h": {"negatives": 2, "small": 0, "top": 3}}
    made = worlds.model({"h": rows}, {"h": "items"}, options=options, awake=False)
    store = worlds.store_of(made, {"h": rows})
    task = worlds.objective(store, given=[], ask=["h"])
    learner, optimizer = worlds.learner(made, task).train(), torch.optim.Adam(made.network.parameters(), lr=1e-2)
    for step in range(80):
        planned = task.assign_roles(np.arange(60), store.present, worlds.keys(60, step))
        (loss,) = learner(worlds.assemble({task.tag: planned}, store)).values()
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        optimizer.step()
    learner.eval()
    sides = worlds.Sides.of(made, "h")
    before, then = zip(*map(sides.split, rows), strict=True)
    ours = sides.measure(made.answer({"h": list(before)}, "h", []), list(then))
    assert ours["mrr"] > 0.95 and made.answer({"h": [["i3"]]}, "h", [])[0].value[0] == "i4"
    x = sides.features().fit_transform(list(before))
    for baseline in sides.baselines().values():
        theirs = sides.measure(sides.answers_from(baseline.fit(x, sides.target(then)), x), list(then))
        assert 0 < theirs["mrr"] < ours["mrr"]


def test_item_knn_is_cosine_over_histories() -> None:
    sides = fitted(width=None)
    before, then = zip(*(sides.split(row) for row in ROWS), strict=True)
    x = sides.features().fit_transform(list(before))
    knn = sides.baselines()["item kNN"].fit(x, sides.target(then))
    hot = np.array([[c in row for c in sides.classes["item"]] for row in ROWS], dtype=float)
    cosine = (hot.T @ hot) / np.sqrt(np.outer(hot.sum(0), hot.sum(0)))
    np.fill_diagonal(cosine, 0)
    expected = (sides.features().fit_transform([["a", "b"]]).toarray() > 0) @ cosine
    np.testing.assert_allclose(knn.predict(sides.features().fit_transform([["a", "b"]])), expected, atol=1e-5)


def test_baselines_run_however_large_the_catalogue_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from onetrunk.evaluation import baselines

    monkeypatch.setattr(baselines, "_MOST_DENSE_COLUMNS", 2)
    sides = fitted(width=None)
    before, then = baselines.before_and_then(sides, ROWS[:3])
    result = baselines.run_baselines({"h": sides}, sides, {"h": before}, {"h": before}, then, then)
    assert all(baseline.metrics is not None for baseline in result.values()) and set(result) == {
        "popularity",
        "item kNN",
    }
