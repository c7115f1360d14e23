"""What puts certainty right: against SciPy's minimisers and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize, special, stats

from onetrunk.core.calibration import Calibration, doubt_after
from onetrunk.metrics.classification import ece
from onetrunk.nn.heads.calibration import (
    each_of,
    fit_spread,
    fit_temperature,
    interval_score,
    loss_of_each,
    loss_of_one,
    one_of,
)


def _overconfident(rows: int, classes: int = 3, factor: float = 4.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are `factor` times too large, and classes that were drawn from the right ones."""
    rng = np.random.default_rng(0)
    right = rng.normal(size=(rows, classes)) * 1.5
    ids = [rng.choice(classes, p=special.softmax(row)) for row in right]
    return torch.from_numpy(factor * right), torch.tensor(ids)


@pytest.mark.parametrize("rows", [25, 400])
@pytest.mark.parametrize("doubt", [0.0, 0.02])
def test_the_temperature_is_that_of_scipys_minimiser(rows: int, doubt: float) -> None:
    logits, ids = _overconfident(rows)

    def objective(log_temperature: float) -> float:
        p = (1 - doubt) * special.softmax(logits.numpy() / np.exp(log_temperature), axis=1) + doubt / 3
        return -np.log(p[np.arange(rows), ids.numpy()]).sum() + (log_temperature / 0.5) ** 2 / 2

    theirs = np.exp(optimize.minimize_scalar(objective, bounds=(-2, 2.9), method="bounded", options={"xatol": 1e-9}).x)
    ours = fit_temperature(lambda t: float(loss_of_one(logits, ids, Calibration(rows, "", t, doubt)).sum()))
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert 1 < ours < 4.6, "a few rows move it less than what made them, many as far"
    assert rows < 100 or ours > 3.2


def test_losses_are_of_the_probabilities() -> None:
    logits, ids = _overconfident(50)
    made = Calibration(50, "", 2.5, 0.03)
    p = one_of(logits, made)
    torch.testing.assert_close(p.sum(1), torch.ones(50).double())
    torch.testing.assert_close(loss_of_one(logits, ids, made), -p[torch.arange(50), ids].log())
    hot = (torch.arange(3) == ids[:, None]).double()
    each = each_of(logits, made)
    torch.testing.assert_close(loss_of_each(logits, hot, made), -torch.where(hot > 0, each, 1 - each).log())


def test_certainty_falls_and_answers_stay() -> None:
    logits, ids = _overconfident(2000)
    fitted = Calibration(
        1000, "", fit_temperature(lambda t: float(loss_of_one(logits[:1000], ids[:1000], Calibration(0, "", t)).sum()))
    )
    errors = []
    for made in (None, fitted):
        sure, message = one_of(logits[1000:], made).max(1)
        errors.append(ece(sure.numpy(), (message == ids[1000:]).numpy()))
        assert (message == logits[1000:].argmax(1)).all()
    assert errors[0] > 0.1 and errors[1] < 0.04


@pytest.mark.parametrize("classes", [2, 3, 1000])
def test_nothing_is_surer_than_laplace_allows(classes: int) -> None:
    logits = torch.zeros(1, classes).double()
    logits[0, 0] = 1e4
    p = one_of(logits, Calibration(100, "", 1.0, doubt_after(100, classes)))
    assert float(p.max()) == pytest.approx(1 - 1 / 102, rel=1e-12)


def test_the_spread_has_the_least_pinball_loss_and_covers() -> None:
    rng = np.random.default_rng(1)
    rows, level = 4000, 0.9
    mean, wide = rng.normal(size=rows), rng.uniform(0.5, 2, size=rows)
    truth = mean + wide * rng.normal(size=rows)
    half = stats.norm.ppf(0.95) * wide / 3  # three times too narrow
    ours = fit_spread(half, half, truth - mean, level)
    ratio = np.abs(truth - mean) / half

    def pinball(spread: float) -> float:
        return np.maximum(level * (ratio - spread), (level - 1) * (ratio - spread)).mean()

    theirs = optimize.minimize_scalar(pinball, bounds=(1, 6), method="bounded").x
    assert ours == pytest.approx(theirs, abs=0.03) and ours == pytest.approx(3, abs=0.12)
    assert np.mean(ratio <= ours) == pytest.approx(0.9, abs=0.003)
    ends = [[mean - s * half, mean + s * half] for s in (1.0, ours)]
    assert interval_score(*ends[1], truth, level) < interval_score(*ends[0], truth, level)


def test_few_rows_hardly_move_a_spread() -> None:
    one = np.ones(1)
    assert fit_spread(np.zeros(0), np.zeros(0), np.zeros(0), 0.9) == pytest.approx(1, abs=0.03)
    assert 1 <= fit_spread(one, one, 50 * one, 0.9) < 3
    assert fit_spread(np.ones(500), np.ones(500), np.zeros(500), 0.9) == pytest.approx(1 / 20)


def test_what_cannot_be_is_refused() -> None:
    good = Calibration(30, "validation rows", 2.0, 0.01, before={"ece": 0.2}, after={"ece": 0.1})
    assert Calibration.parse(good.as_json()) == good
    for wrong in ({"temperature": 0}, {"doubt": 2}, {"spread": float("nan")}, {"temperature": "1"}, {"more": 1}):
        with pytest.raises(TypeError):
            Calibration.parse({**good.as_json(), **wrong})
