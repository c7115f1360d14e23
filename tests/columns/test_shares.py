"""Labels that are distributions over classes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import worlds
from sklearn.linear_model import LogisticRegression

from onetrunk.core.answer import Answer
from onetrunk.core.calibration import Calibration
from onetrunk.core.content import Role
from onetrunk.core.encoder import class_names
from onetrunk.core.errors import BadValueError
from onetrunk.data.inspection import inspect
from onetrunk.data.table import Table, infer_types
from onetrunk.training.wide import fit_wide, wide_rows
from onetrunk.training.wide.rows import folds_of

Category = partial(worlds.Sides, "category")
LABELS: list[Any] = [{"yes": 0.7, "no": 0.3}, {"no": 1}, "yes", {"yes": 0.5, "no": 0.25, "maybe": 0.25}]


def fitted(values: list[Any], **options: Any) -> Any:
    sides = Category(options)
    sides.fit(values)
    sides.build(8)
    worlds.wake(sides)
    return sides


def test_shares_are_counted_and_one_class_is_all_of_it() -> None:
    sides = fitted(LABELS)
    assert sides.classes == ["maybe", "no", "yes"] and sides.counts == [0.25, 1.55, 2.2]
    content = worlds.content_of(sides, LABELS)
    np.testing.assert_allclose(content.data["p"], [[0, 0.3, 0.7], [0, 1, 0], [0, 0, 1], [0.25, 0.25, 0.5]])
    again = Category()
    again.set_knowledge(sides.knowledge())
    np.testing.assert_array_equal(worlds.content_of(again, LABELS).data["p"], content.data["p"])
    unseen = worlds.content_of(sides, [{"never": 0.5, "no": 0.5}, {"never": 1.0}])
    assert unseen.data["p"].tolist() == [[0, 1, 0], [0, 0, 0]]
    assert sides.dropped(unseen) == {"classes unseen in training": 2}
    assert sides.segment(unseen, Role.ASKED, worlds.keys(2)).targets["w"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"yes": 0.7, "no": 0.7}, "sums to 1.4"),
        ({"yes": -0.5, "no": 1.5}, "from 0 to 1"),
        ({"yes": "most"}, "not all numbers"),
        ({"yes": float("nan"), "no": 1}, "from 0 to 1"),
        ({}, "holds no share"),
        ({"yes": True}, "not all numbers"),
    ],
)
def test_what_is_no_distribution_is_refused_with_the_reason(value: Any, why: str) -> None:
    with pytest.raises(BadValueError, match=rf"sum to 1.*{why}"):
        fitted(LABELS).encode(value)
    assert Category().recognise([*LABELS, value]) == 0


def test_the_loss_is_cross_entropy_with_the_distribution() -> None:
    sides = fitted(LABELS)
    targets = worlds.tensors(sides.segment(worlds.content_of(sides, LABELS), Role.ASKED, worlds.keys(4)).targets)
    h = torch.randn(4, 16)
    logits = h @ sides.head.T + sides.bias
    each = -(targets["p"] * logits.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(sides.loss(h, targets).each, each.detach())
    sides.eval().module.calibration = Calibration(10, "", 1.7, 0.02)
    p = 0.98 * (logits / 1.7).softmax(-1) + 0.02 / 3
    torch.testing.assert_close(sides.loss(h, targets).each, -(targets["p"] * p.log()).sum(-1).detach())


def test_it_is_judged_by_the_distribution() -> None:
    sides = fitted(LABELS)
    truths = [{"yes": 0.7, "no": 0.3}, {"no": 0.6, "yes": 0.4}, {"yes": 0.5, "new": 0.5}]
    p = [
        {"yes": 0.6, "no": 0.4, "maybe": 0.0},
        {"yes": 0.8, "no": 0.2, "maybe": 0.0},
        {"yes": 1.0, "no": 0, "maybe": 0},
    ]
    answers = [Answer("yes", each, conformal_set=["yes"] if each["yes"] > 0.7 else []) for each in p]
    measured = sides.measure(answers, truths)
    q = np.array([[0.0, 0.3, 0.7], [0.0, 0.6, 0.4], [0.0, 0.0, 1.0]])
    log_p = np.log(np.clip([[each[c] for c in sides.classes] for each in p], 1e-15, 1))
    assert measured["log_loss"] == pytest.approx(-(q * log_p).sum(1).mean())
    assert measured["accuracy"] == pytest.approx(2 / 3), "the largest share; of equal ones the known one"
    assert measured["coverage"] == pytest.approx((0 + 0.4 + 0.5) / 3) and measured["set_size"] == pytest.approx(2 / 3)
    assert measured["ece"] == pytest.approx((abs(0.7 - 0.6) + abs(0.4 - 0.8) + abs(0.5 - 1.0)) / 3)
    assert sides.target(truths).tolist() == ["yes", "no", "yes"]


def test_inspection_says_what_they_are() -> None:
    rows = [dict(x=i, label={"yes": i / 10, "no": 1 - i / 10}) for i in range(1, 10)] * 3
    table = Table({"x": [r["x"] for r in rows], "label": [r["label"] for r in rows]})
    types = infer_types(table)
    assert types["label"] == "category"
    (_, column) = inspect(table, types, ["label"]).columns
    assert column.summary["distributions"] == 27 and column.summary["mean shares"] == {"yes": 0.5, "no": 0.5}
    assert column.samples[0] == "no 90 %, yes 10 %"


def test_a_wide_read_out_learns_shares_as_weighed_rows() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=160)
    yes = 1 / (1 + np.exp(-1.5 * x))
    table = {"x": x.tolist(), "label": [{"yes": float(p), "no": float(1 - p)} for p in yes]}
    made = worlds.model(table, {"x": "number", "label": "category"}, awake=False)
    store = worlds.store_of(made, table)
    rows = wide_rows(store, ["x"], "label", np.arange(160))
    assert rows is not None and rows.count == 320 and rows.weight.sum() == pytest.approx(160)
    for fold in folds_of(rows, 0):
        assert len(fold) % 2 == 0 and len(np.unique(rows.rows[fold])) == len(fold) // 2, "a row is in one fold"
    fit = fit_wide(rows)
    assert fit is not None
    entropy = float(-(yes * np.log(yes) + (1 - yes) * np.log(1 - yes)).mean())
    assert min(fit.scores.values()) == pytest.approx(entropy, abs=0.02), "nothing can be below it"
    # scikit-learn's own, with fractional weights: the probabilities that it learns are nearly the shares
    twice = LogisticRegression().fit(np.r_[x, x][:, None], [1] * 160 + [0] * 160, np.r_[yes, 1 - yes])
    made.network.add_wide("label", fit.readout)
    p = np.array([a.of_classes["yes"] for a in made.answer(table, "label", ["x"])])
    assert np.abs(p - yes).mean() < np.abs(twice.predict_proba(x[:, None])[:, 1] - yes).mean() + 0.03
    assert class_names(made.encoder("label")) == ["no", "yes"]


def test_given_it_is_the_mean_of_its_classes() -> None:
    sides = fitted(LABELS)
    content = sides.segment(worlds.content_of(sides, LABELS), Role.GIVEN, worlds.keys(4)).content
    embedded = sides.embed(worlds.tensors(content))
    torch.testing.assert_close(embedded[0], 0.3 * sides.table[1] + 0.7 * sides.table[2])
    torch.testing.assert_close(embedded[2], F.embedding(torch.tensor(2), sides.table))
