"""Epsilon of private training, against formulas and a composition of our own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from onetrunk.core.errors import UsageError
from onetrunk.engine.accountant import Spent, epsilon, noise_for

DELTA = 1e-5
_SIDE, _WIDTH = 1 << 19, 1e-4  # of the grid of privacy losses: 26 to either side


def composed(spent: list[Spent], delta: float) -> float:
    """Epsilon by the privacy loss itself: its distribution in one step on a fine grid, all steps by FFT; the larger of
    both directions (a row more, a row less)."""
    whole: list[np.ndarray] = []
    for more in (True, False):
        spectrum = np.ones(_SIDE, dtype=np.complex128)
        for noise, rate, steps in spent:
            x = np.linspace(-13 * noise, 13 * noise + 1, 1_000_001)
            without, with_it = stats.norm.pdf(x, 0, noise), stats.norm.pdf(x, 1, noise)
            mixed = (1 - rate) * without + rate * with_it
            ratio = np.log1p(rate * np.expm1((2 * x - 1) / (2 * noise**2)))
            mass, loss = (mixed, ratio) if more else (without, -ratio)
            cell = np.rint(loss / _WIDTH).astype(np.int64) % _SIDE
            spectrum *= np.fft.fft(np.bincount(cell, mass * (x[1] - x[0]), _SIDE)) ** steps
        whole.append(np.fft.ifft(spectrum).real)
    losses = _WIDTH * np.fft.fftfreq(_SIDE, 1 / _SIDE)

    def exceeds(eps: float) -> float:
        above = losses > eps
        return max(float((mass[above] * -np.expm1(eps - losses[above])).sum()) for mass in whole) - delta

    return float(optimize.brentq(exceeds, 1e-6, 25))


@pytest.mark.parametrize(
    "spent",
    [
        [Spent(1.0, 0.02, 500)],
        [Spent(4.0, 0.5, 100)],
        [Spent(2.0, 0.05, 200), Spent(1.2, 0.1, 20)],
        [Spent(0.9, 0.1, 12)],
    ],
    ids=["many small steps", "few large ones", "two stages", "a short run"],
)
def test_it_is_that_of_another_accountant_within_one_percent_and_never_below(spent: list[Spent]) -> None:
    expected = composed(spent, DELTA)
    assert epsilon(spent, DELTA) == pytest.approx(expected, rel=0.01)
    assert epsilon(spent, DELTA) > expected * (1 - 1e-3)


def test_of_all_rows_in_every_step_it_is_the_gaussian_mechanism() -> None:
    """Its delta has a closed form (Balle and Wang, arXiv 1805.06530)."""
    mu = math.sqrt(30) / 8.0

    def exceeds(eps: float) -> float:
        return stats.norm.cdf(mu / 2 - eps / mu) - math.exp(eps) * stats.norm.cdf(-mu / 2 - eps / mu) - DELTA

    expected = float(optimize.brentq(exceeds, 0.01, 20))
    assert epsilon([Spent(8.0, 1.0, 30)], DELTA) == pytest.approx(expected, rel=0.01)


def test_noise_is_the_least_that_keeps_the_promise() -> None:
    noise = noise_for(3.0, DELTA, 0.1, 20)
    assert 2.9 < epsilon([Spent(noise, 0.1, 20)], DELTA) <= 3.0
    before = [Spent(noise, 0.1, 10)]
    more = noise_for(3.0, DELTA, 0.1, 20, before)
    assert more > noise and epsilon([*before, Spent(more, 0.1, 20)], DELTA) <= 3.0


def test_what_cannot_be_promised_is_refused() -> None:
    assert epsilon([], DELTA) == epsilon([Spent(1.0, 0.1, 0)], DELTA) == 0.0
    assert epsilon([Spent(0.0, 0.1, 1)], DELTA) == math.inf
    with pytest.raises(UsageError, match=r"already at delta 1e-05: expected a larger one"):
        noise_for(0.5, DELTA, 0.1, 20, [Spent(1.0, 0.1, 20)])
