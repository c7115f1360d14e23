"""Levels of a category: their order, where the option `ordered` says that they have one, and how likely each is beside
a score (cumulative logits with proportional odds, McCullagh 1980). NumPy only; `nn.heads.ordinal` is the network's."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from onetrunk.core.errors import DataError

_PRIOR_ROWS = 0.5  # that each level counts beside those that were seen
_TINY = 1e-12
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
# Words that questionnaires and grades use, the lowest first; several words of one rank say the same.
_SCALES: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("none", "no"), ("very low", "lowest"), ("low",), ("medium", "mid", "middle", "moderate", "normal", "average"),
     ("high",), ("very high", "highest"), ("extreme", "critical")),
    (("none",), ("minimal",), ("mild", "minor", "slight"), ("moderate",), ("severe", "major"), ("critical",)),
    (("never",), ("rarely", "seldom"), ("sometimes", "occasionally"), ("often", "frequently", "usually"), ("always",)),
    (("strongly disagree",), ("disagree",), ("neutral", "neither", "neither agree nor disagree", "undecided"),
     ("agree",), ("strongly agree",)),
    (("very dissatisfied",), ("dissatisfied",), ("neutral",), ("satisfied",), ("very satisfied",)),
    (("very negative",), ("negative",), ("neutral",), ("positive",), ("very positive",)),
    (("terrible", "awful"), ("very bad", "very poor"), ("bad", "poor"), ("fair", "okay", "ok", "average"), ("good",),
     ("very good",), ("excellent", "great"), ("ideal",)),
    (("fair",), ("good",), ("very good",), ("premium",), ("ideal",)),
    (("xxs",), ("xs",), ("s", "small"), ("m", "medium"), ("l", "large"), ("xl",), ("xxl",), ("xxxl",)),
    (("tiny",), ("small",), ("medium",), ("large", "big"), ("huge",)),
    (("beginner",), ("elementary",), ("intermediate",), ("advanced",), ("expert",)),
    (("bronze",), ("silver",), ("gold",), ("platinum",), ("diamond",)),
    (("first",), ("second",), ("third",), ("fourth",), ("fifth",)),
    (("无",), ("很低", "极低"), ("低",), ("中", "中等"), ("高",), ("很高", "极高")),
    (("从不",), ("很少",), ("有时",), ("经常",), ("总是",)),
    (("非常不同意",), ("不同意",), ("中立", "一般"), ("同意",), ("非常同意",)),
    (("非常不满意", "很不满意"), ("不满意",), ("一般", "中立"), ("满意",), ("非常满意", "很满意")),
    (("很差", "极差"), ("差", "较差", "不及格"), ("中", "一般", "及格"), ("良", "良好", "较好", "好"),
     ("优", "优秀", "很好")),
)  # fmt: skip


def in_order(names: Sequence[str]) -> list[str]:
    """Names of levels from the lowest on: by the numbers that they hold, or as a known scale has them. Raises DataError
    where neither tells."""
    by_number = _by_number(names)
    if by_number is not None:
        return by_number
    plain = {name: " ".join(name.lower().replace("_", " ").replace("-", " ").split()) for name in names}
    for scale in _SCALES:
        rank = {word: i for i, words in enumerate(scale) for word in words}
        if all(word in rank for word in plain.values()) and len({rank[w] for w in plain.values()}) == len(names):
            return sorted(names, key=lambda name: rank[plain[name]])
    first, last = min(names), max(names)
    raise DataError(
        f"nothing tells the order of its levels {', '.join(sorted(names)[:12])}. Say it, the lowest first: "
        f"--types 'COLUMN=category:{first}<...<{last}'"
    )


def _by_number(names: Sequence[str]) -> list[str] | None:
    """Where each name holds one number, and no two the same."""
    numbers = {}
    for name in names:
        found = _NUMBER.findall(name.replace("–", "-"))
        if len(found) != 1:
            return None
        numbers[name] = float(found[0] if name.lstrip().startswith(found[0]) else found[0].lstrip("-+"))
    return sorted(names, key=numbers.__getitem__) if len(set(numbers.values())) == len(names) else None


def as_given(levels: Sequence[str], found: Sequence[str]) -> list[str]:
    """The levels that a user gave. Raises DataError where training rows hold others."""
    if others := [name for name in found if name not in levels]:
        raise DataError(
            f"the training rows hold {', '.join(others[:5])}, which is not among the levels given: {', '.join(levels)}."
        )
    return list(levels)


# -- beside a score ----------------------------------------------------------------------------------------------------
def first_cuts(counts: Sequence[float]) -> np.ndarray:
    """Cuts [K - 1] under which levels are as frequent as they were, whatever is given."""
    held = np.asarray(counts, dtype=np.float64) + _PRIOR_ROWS
    share = np.cumsum(held)[:-1] / held.sum()
    return np.log(share / (1 - share))


def fit_levels(score: np.ndarray, level: np.ndarray, count: int) -> tuple[float, np.ndarray]:
    """The slope and the cuts [count - 1] with P(level <= k) = sigmoid(cut_k - slope * score) under which levels float64
    [r] of scores [r] are likeliest; a level between two is partly each. A prior of one standard normal on the slope, in
    spreads of the score, keeps few rows from making it sure of all."""
    from scipy import optimize

    low = np.floor(level).astype(np.int64).clip(0, count - 1)
    part = np.clip(level - low, 0, 1)
    target = np.zeros((len(score), count))
    target[np.arange(len(score)), low] += 1 - part
    target[np.arange(len(score)), np.minimum(low + 1, count - 1)] += part
    centre, spread = float(score.mean()), float(score.std()) or 1.0
    x = (score - centre) / spread

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        slope, first, gaps = values[0], values[1], np.exp(values[2:])
        cuts = np.concatenate([[first], first + np.cumsum(gaps)])
        reached = 1 / (1 + np.exp(np.clip(slope * x[:, None] - cuts, -500, 500)))
        p = np.diff(reached, axis=1, prepend=0.0, append=1.0).clip(min=_TINY)
        ratio = target / p
        by_cut = (ratio[:, :-1] - ratio[:, 1:]) * reached * (1 - reached)  # d log-likelihood / d cut - slope x
        of_cuts = by_cut.sum(0)
        of_gaps = gaps * np.cumsum(of_cuts[::-1])[::-1][1:]
        gradient = np.concatenate([[slope + (by_cut * x[:, None]).sum()], [-of_cuts.sum()], -of_gaps])
        return float(-(target * np.log(p)).sum() + slope**2 / 2), gradient

    cuts = first_cuts(target.sum(0).tolist())
    begin = np.concatenate([[1.0], cuts[:1], np.log(np.maximum(np.diff(cuts), 0.01))])
    best = optimize.minimize(objective, begin, jac=True, method="L-BFGS-B").x
    cuts = np.concatenate([best[1:2], best[1] + np.cumsum(np.exp(best[2:]))])
    slope = float(best[0]) / spread
    return slope, cuts + slope * centre
