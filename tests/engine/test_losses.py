"""Weights of several losses and the merging of their gradients, against closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import CONFIG, Tiny, batches, trainer

from onetrunk.core import rng
from onetrunk.engine.losses import PCGrad, Weights, pcgrad


def test_given_weights_are_by_name_then_by_prefix() -> None:
    weights = Weights({"predict": 0.5, "predict/sign": 3.0}, learnt=False)
    weights.observe({"predict/y": 7.0, "other": 7.0})
    assert [weights["predict/y"], weights["predict/sign"], weights["other"]] == [0.5, 3.0, 1.0]


def test_learnt_weights_are_where_the_uncertain_loss_is_least() -> None:
    """At a constant loss L, exp(-s) L + s is least where exp(-s) is the weight."""
    weights = Weights({"b": 2.0}, learnt=True)
    for _ in range(3):
        weights.observe({"a": 4.0, "b": 0.5, "below": -3.0})
    for name, loss, given in (("a", 4.0, 1.0), ("b", 0.5, 2.0)):
        s = np.linspace(-4, 4, 8001)
        best = s[np.argmin(np.exp(-s) * loss + s)]
        assert weights[name] == pytest.approx(given * np.exp(-best), rel=1e-3)
    assert weights["below"] == pytest.approx(10.0), "a loss below zero has the floor's weight"


def test_pcgrad_of_two_vectors_is_the_papers_projection() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    (result,) = pcgrad([[a], [b]], key=0)
    projected_a = a - (a @ b) / (b @ b) * b
    projected_b = b - (b @ a) / (a @ a) * a
    torch.testing.assert_close(result, projected_a + projected_b)
    assert projected_a @ b == pytest.approx(0.0, abs=1e-7), "what is left does not go against the other"
    (agreeing,) = pcgrad([[a], [torch.tensor([1.0, 1.0])]], key=0)
    torch.testing.assert_close(agreeing, torch.tensor([2.0, 1.0]))


def test_parameters_that_one_task_reaches_belong_to_the_whole_vector() -> None:
    """Projection is of whole gradients: the dot product counts shared parameters, the step all of the other's."""
    tasks = [[torch.tensor([1.0]), None], [torch.tensor([-1.0]), torch.tensor([2.0])]]
    shared, own = pcgrad(tasks, key=0)
    # first: (1, 0) + 1/5 (-1, 2) = (.8, .4); second: (-1, 2) + (1, 0) = (0, 2)
    torch.testing.assert_close(shared, torch.tensor([0.8]))
    torch.testing.assert_close(own, torch.tensor([2.4]))
    assert pcgrad([[None], [None]], key=0) == [None]


def test_three_tasks_follow_the_keyed_order() -> None:
    vectors = [torch.from_numpy(v) for v in rng.normal(rng.mix(np.arange(3), "tasks"), 5)]
    vectors[2] = -vectors[0] - vectors[1] + 0.1 * vectors[2]
    expected = torch.zeros(5)
    for i, own in enumerate(vectors):
        own = own.clone()
        for j in rng.permutation(rng.key(11, i), 3).tolist():
            if j != i and own @ vectors[j] < 0:
                own -= (own @ vectors[j]) / (vectors[j] @ vectors[j]) * vectors[j]
        expected += own
    (result,) = pcgrad([[v] for v in vectors], key=11)
    torch.testing.assert_close(result, expected)


def test_apart_they_add_up_to_what_one_backward_gives() -> None:
    module = Tiny(dropout=0)
    parameters = list(module.parameters())
    apart = PCGrad(parameters)
    for batch in batches(0):
        apart.add({name: loss.sum for name, loss in module(batch).items()})
        sum(loss.sum for loss in module(batch).values()).backward()
    for i, parameter in enumerate(parameters):
        held = [gradients[i] for gradients in apart.by_loss.values() if gradients[i] is not None]
        torch.testing.assert_close(sum(held), parameter.grad)


def test_a_conflicting_step_is_another_step_and_both_train(tmp_path: Path) -> None:
    collected = {}
    for merge in ("sum", "pcgrad"):
        config = CONFIG.updated(merge=merge, steps=40, lr=0.02)
        collected[merge] = trainer(tmp_path / merge, config, module=Tiny(dropout=0), validate=None).run().history
    first, second = (history[-1]["losses"] for history in collected.values())
    assert first != second
    for history in collected.values():
        assert all(history[-1]["losses"][name] < history[0]["losses"][name] for name in first)
