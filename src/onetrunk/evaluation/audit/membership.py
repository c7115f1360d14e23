"""Can somebody tell whether a row was in the training data? By its loss, which is lower where it was learnt by heart
(Yeom et al., arXiv 1709.01604), alone and less the row's own difficulty (Watson et al., arXiv 2111.08440).

An average says little: what counts is how many are found by somebody who is hardly ever wrong, the share of members at
1 % false alarms (Carlini et al., arXiv 2112.03570). Rows whose memberships are shuffled say what chance gives.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onetrunk.core import rng
from onetrunk.evaluation import intervals
from onetrunk.evaluation.audit.fairness import CHANCE
from onetrunk.evaluation.audit.record import Attack, Membership
from onetrunk.evaluation.intervals import Interval

FALSE_ALARMS = 0.01
MAX_ROWS = 2000  # of members, and of others
_FEWEST = 20
_SHUFFLES = 500


def membership(members: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray], seed: int = 0) -> Membership | None:
    """Attacks by scores, name to a number for each row, higher for members if the attack works. None where there are
    too few rows of either kind."""
    m, n = (len(next(iter(side.values()))) for side in (members, others))
    if min(m, n) < _FEWEST:
        return None
    attacks = [attack(name, members[name], others[name], seed) for name in members]
    note = ""
    if n < 1 / FALSE_ALARMS:
        note = f"Of {n} rows that were not learnt, 1 % is less than one: the threshold lets none of them pass."
    return Membership(m, n, attacks, note)


def attack(name: str, members: np.ndarray, others: np.ndarray, seed: int = 0) -> Attack:
    """One score against chance; intervals by resampling members and others."""
    keys = [np.random.default_rng(rng.key(seed, "resampled", side)) for side in ("members", "others")]
    drawn = np.array(
        [_figures(*(dice.choice(x, len(x)) for dice, x in zip(keys, (members, others), strict=True)))
         for _ in range(_SHUFFLES)]
    )  # fmt: skip
    together = np.concatenate([members, others])
    dice = np.random.default_rng(rng.key(seed, "shuffled memberships"))
    null = []
    for _ in range(_SHUFFLES):
        shuffled = dice.permutation(together)
        null.append(_figures(shuffled[: len(members)], shuffled[len(members) :]))
    figures, shuffled_figures = np.array(_figures(members, others)), np.array(null)
    by_chance = np.quantile(shuffled_figures, CHANCE, axis=0)
    p = (1 + (shuffled_figures >= figures - 1e-12).sum(0)) / (1 + _SHUFFLES)
    area, found = (_interval(float(figures[i]), drawn[:, i]) for i in (0, 1))
    return Attack(name, area, float(by_chance[0]), float(p[0]), found, float(by_chance[1]), float(p[1]))


def _interval(value: float, draws: np.ndarray) -> Interval:
    result = intervals.interval(value, draws)
    assert result is not None, "both are defined for any rows"
    return result


def _figures(members: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    return auc(members, others), tpr_at(members, others)


def auc(members: np.ndarray, others: np.ndarray) -> float:
    """How often a member has the higher score of a member and another row; ties count half."""
    ordered = np.sort(others)
    below, up_to = (np.searchsorted(ordered, members, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(others)))


def tpr_at(members: np.ndarray, others: np.ndarray, false_alarms: float = FALSE_ALARMS) -> float:
    """The share of members above the least threshold that at most this share of the others exceeds."""
    k = int(false_alarms * len(others))
    threshold = np.partition(others, len(others) - 1 - k)[len(others) - 1 - k]
    return float((members > threshold).mean())
