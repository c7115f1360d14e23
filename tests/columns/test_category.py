"""Category: one spelling a class, losses against PyTorch's own, unseen and several classes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import worlds

from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.content import Role

Category = partial(worlds.Sides, "category")

WIDTH = 8


def fitted(values: list[Any], **options: Any) -> Any:
    sides = Category(options)
    sides.fit(values)
    sides.build(WIDTH)
    worlds.wake(sides)
    return sides


@pytest.mark.parametrize(
    ("values", "names", "kept"),
    [
        ([3, 20, 100, 3.0], ["3", "20", "100"], int),
        (["3", "20", "100"], ["100", "20", "3"], str),
        ([0.5, 2.5, 10], ["0.5", "2.5", "10"], float),
        ([True, False, np.True_], ["False", "True"], bool),
        ([" yes", "no ", "yes"], ["no", "yes"], str),
        ([10**401 + 1, 10**401, 7], ["7", str(10**401), str(10**401 + 1)], int),  # what no float holds
    ],
)
def test_classes_have_one_spelling_and_keep_their_kind(values: list[Any], names: list[str], kept: type) -> None:
    sides = fitted(values)
    assert sides.classes == names
    assert [type(sides.value(i)) for i in range(len(names))] == [kept] * len(names)


@pytest.mark.parametrize(
    ("values", "likely"),
    [
        (["yes", "no"] * 20, True),
        ([True, False], True),
        ([["a"], ["a", "b"]], True),
        ([0, 1, 2] * 20, True),
        ([f"name {i}" for i in range(100)], False),
        (["one long sentence after another, with commas and more"] * 50, False),
        ([i * 0.37 for i in range(100)], False),
    ],
)
def test_recognises_few_short_values(values: list[Any], likely: bool) -> None:
    assert (Category().recognise(values) >= 0.6) == likely


def test_one_class_can_be_given_and_teaches_nothing_where_it_is_asked() -> None:
    """Whether it is there says something."""
    encoder = Category()
    encoder.fit(["a", "a", "a"])
    assert (
        encoder.class_names() == ["a"]
        and not encoder.teaches(encoder.encode_all(["a", "a"], lambda i, why: None)[0]).any()
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_cross_entropy(smoothing: float) -> None:
    sides = fitted(list("abcd"), smoothing=smoothing)
    h, ids, w = torch.randn(6, 2 * WIDTH), torch.tensor([0, 1, 2, 3, 1, 0]), torch.tensor([1.0, 2, 0, 1, 1, 0.5])
    loss = sides.loss(h, {"id": ids, "w": w})
    each = F.cross_entropy(h @ sides.head.T + sides.bias, ids, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(loss.each, each.detach())
    torch.testing.assert_close(loss.sum, (each * w).sum())
    assert float(loss.count) == 5.5
    torch.testing.assert_close(
        sides.eval().loss(h, {"id": ids, "w": w}).each,
        F.cross_entropy(h @ sides.head.T + sides.bias, ids, reduction="none").detach(),
        msg="what is reported is not smoothed",
    )


def test_the_loss_of_several_at_once_is_binary_cross_entropy() -> None:
    sides = fitted([["a", "b"], ["c"], []])
    h, hot, w = torch.randn(4, 2 * WIDTH), torch.randint(0, 2, (4, 3)).float(), torch.tensor([1.0, 2, 0, 1])
    loss = sides.loss(h, {"hot": hot, "w": w})
    logits = h @ sides.head.T + sides.bias
    each = F.binary_cross_entropy_with_logits(logits, hot, reduction="none").mean(1)
    torch.testing.assert_close(loss.sum, (each * w).sum())


def test_balance_gives_every_class_the_same_weight_in_all() -> None:
    values = ["a"] * 90 + ["b"] * 9 + ["c"]
    sides = fitted(values, balance=True)
    segment = sides.segment(worlds.content_of(sides, values), Role.ASKED, worlds.keys(100))
    totals = [segment.targets["w"][np.array(values) == c].sum() for c in "abc"]
    assert totals == pytest.approx([100 / 3] * 3, rel=1e-5)


def test_an_unseen_class_is_shown_as_unknown_and_never_trained_on() -> None:
    sides = fitted(list("abab"), balance=True)
    content = worlds.content_of(sides, ["a", "new", "b"])
    assert sides.dropped(content) == {"classes unseen in training": 1}
    visible = sides.embed(worlds.tensors(sides.segment(content, Role.GIVEN, worlds.keys(3)).content))
    torch.testing.assert_close(visible[1], sides.unknown)
    asked = sides.segment(content, Role.ASKED, worlds.keys(3))
    assert asked.targets["w"].tolist() == [1, 0, 1]
    h = torch.randn(3, 2 * WIDTH, requires_grad=True)
    sides.loss(h, worlds.tensors(asked.targets)).sum.backward()
    assert not h.grad[1].any() and h.grad[0].any()


def test_training_shows_unknown_now_and_then_so_that_it_is_learnt() -> None:
    sides = fitted(list("ab"))
    content = worlds.content_of(sides, ["a"] * 5000)
    visible = [sides.segment(content, Role.GIVEN, worlds.keys(5000), x).content["id"] for x in (True, False)]
    assert 0.015 < (visible[0] == -1).mean() < 0.025 and not (visible[1] == -1).any()


@torch.inference_mode()
def test_sampled_answers_follow_the_probabilities() -> None:
    sides = fitted(list("abc")).eval()
    n = 4000
    h = torch.randn(1, 1, 2 * WIDTH).expand(n, -1, -1)
    state = sides.start(worlds.context(worlds.keys(n), Sampling(temperature=1.0)))
    answers = sides.finish(sides.step(state, h, None))
    expected = (h[0, 0] @ sides.head.T + sides.bias).softmax(-1).tolist()
    drawn = [np.mean([a.value == c for a in answers]) for c in "abc"]
    assert drawn == pytest.approx(expected, abs=0.025)
    assert list(answers[0].probability.values()) == pytest.approx(expected, abs=1e-5)


def test_unseen_ones_of_several_classes_are_counted_and_the_others_kept() -> None:
    sides = fitted([["a", "b"], ["b"], ["c"]])
    content = worlds.content_of(sides, [["a", "x", "x", "y"], ["b"], ["z"], []])
    assert sides.dropped(content) == {"classes unseen in training": 3}
    assert sides.dropped(content.take(np.array([1, 3]))) == {}
    assert content.data["hot"].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_metrics_are_scikit_learns_and_count_the_unseen() -> None:
    from sklearn.metrics import accuracy_score

    sides = fitted(list("abc"))
    truths = ["a", "b", "b", "c", "new"]
    guesses = ["a", "b", "c", "c", "a"]
    metrics = sides.measure([Answer(g, {c: float(c == g) for c in "abc"}) for g in guesses], truths)
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truths, guesses)) and metrics["unseen"] == 1
    assert sides.per_row([Answer(g) for g in guesses], truths).tolist() == [1, 1, 0, 1, 0]


def test_extending_starts_new_classes_in_the_middle_of_the_old() -> None:
    sides = fitted(list("abab"))
    table, head, bias = (p.data.clone() for p in (sides.table, sides.head, sides.bias))
    assert sides.extend(["b", "d", "c"]) == 2 and sides.classes == ["a", "b", "c", "d"]
    assert torch.equal(sides.table[:2], table) and torch.equal(sides.head[:2], head)
    torch.testing.assert_close(sides.table[2], table.mean(0))
    assert torch.equal(sides.bias[:2], bias) and float(sides.bias[3]) == pytest.approx(float(bias.min()))
    assert sides.encode("d")["id"] == 3 and sides.extend(["a", "d"]) == 0
