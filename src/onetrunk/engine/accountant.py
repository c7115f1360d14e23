"""How much privacy steps have cost: (epsilon, delta) of Poisson-sampled rows with Gaussian noise, composed numerically.

Two tables are neighbours where one has a row more. The accountant is Opacus' of privacy loss random variables (Gopi et
al., arXiv 2106.02848), whose upper bound is given; where its numbers do not converge, that of Rényi divergences
(arXiv 1908.10530), which is looser.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from onetrunk.core.errors import MissingExtraError, UsageError

_ERROR = 1e-3  # of epsilon, as a share: what the upper bound adds
_LEAST_ERROR = 1e-3
_NOISE = (0.3, 1e4)  # between these it is searched for
_NEAR = 1e-3  # as a share of the noise
_TIGHTER = 0.6  # of the noise that the looser accountant asks for


class Spent(NamedTuple):
    """So many steps, each of which took every row with probability `rate` and added noise of `noise` times the clipping
    norm."""

    noise: float
    rate: float
    steps: int


def epsilon(spent: Sequence[Spent], delta: float) -> float:
    """The upper bound of epsilon of all these steps together; 0 of none."""
    return _epsilon(tuple(each for each in spent if each.steps > 0 and each.rate > 0), delta)


@functools.lru_cache(maxsize=4096)
def _epsilon(spent: tuple[Spent, ...], delta: float) -> float:
    if not spent:
        return 0.0
    if any(each.noise == 0 for each in spent):
        return math.inf
    bound = _loose(spent, delta)
    tight = _accountants().PRVAccountant()
    tight.history = [tuple(each) for each in spent]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of logarithms of zero, which it takes care of
            return min(bound, float(tight.get_epsilon(delta, eps_error=max(_LEAST_ERROR, _ERROR * bound))))
    except (RuntimeError, ValueError):  # what it says where its grid is too coarse or too short
        return bound


def _loose(spent: Sequence[Spent], delta: float) -> float:
    """By Rényi divergences, which takes no time."""
    accountant = _accountants().RDPAccountant()
    accountant.history = [tuple(each) for each in spent]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the order, where the bound could be tighter
        return float(accountant.get_epsilon(delta))


def _accountants() -> Any:
    try:
        from opacus import accountants
    except ImportError:
        raise MissingExtraError("opacus", "privacy", "Private training") from None
    return accountants


def noise_for(target: float, delta: float, rate: float, steps: int, before: Sequence[Spent] = ()) -> float:
    """The least noise, to a thousandth, with which so many steps more cost at most `target`. Raises UsageError where no
    noise does."""
    if epsilon(before, delta) >= target:
        raise UsageError(
            f"private.eps is {target:g}, and what the model has learnt before has cost {epsilon(before, delta):.3g} "
            f"already at delta {delta:g}: expected a larger one."
        )
    low, high = _NOISE
    if epsilon([*before, Spent(high, rate, steps)], delta) > target:
        raise UsageError(
            f"private.eps is {target:g} at delta {delta:g}: too little for {steps:,} steps that each take "
            f"{100 * rate:.3g} % of the rows. Expected more, fewer steps, or a larger table."
        )
    _, high = _narrowed(low, high, lambda noise: _loose([*before, Spent(noise, rate, steps)], delta) <= target)
    low = max(low, _TIGHTER * high)  # so much less noise would do, at the most
    return _narrowed(low, high, lambda noise: epsilon([*before, Spent(noise, rate, steps)], delta) <= target)[1]


def _narrowed(low: float, high: float, enough: Callable[[float], bool]) -> tuple[float, float]:
    """Of noise: `high` is enough; `low` is not, or the least that is looked at."""
    while high > (1 + _NEAR) * low:
        middle = math.sqrt(low * high)
        if enough(middle):
            high = middle
        else:
            low = middle
    return low, high
