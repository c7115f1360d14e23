"""How much an explanation is worth: does the answer change most when what it names first is left out?

Deletion and insertion (arXiv 1806.07421) against random orders of the same parts. Left out means what it means in
training (missing columns, fewer parts), so that no model has to be tuned for it, as F-Fidelity does (arXiv 2410.02970).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onetrunk.core import rng
from onetrunk.evaluation.intervals import Interval, bootstrap
from onetrunk.evaluation.language import called, say
from onetrunk.explanation.attribution import Attribution
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Method
from onetrunk.explanation.question import Question

ORDERS = 10  # random ones, beside the explanation's
STEPS = 12  # of a curve at most
_REPEATS = 3  # of a row that has lost one part
_ROWS = 4  # of which stability is measured: each is explained anew
_FEW = 3  # parts of which ranks are not compared


@dataclass(frozen=True)
class Curves:
    """Of one row: the mean outcome while parts are left out (deletion) or put in (insertion), float64 [steps + 1], in
    the explanation's order; and of random orders [orders, steps + 1]."""

    deletion: np.ndarray
    insertion: np.ndarray
    random_deletion: np.ndarray
    random_insertion: np.ndarray

    def gained(self) -> tuple[np.ndarray, np.ndarray]:
        """How much smaller the area under the deletion curve, and larger that under the insertion curve, is than a
        random order's: float64 [orders] each."""
        deletion = self.random_deletion.mean(1) - self.deletion.mean()
        return deletion, self.insertion.mean() - self.random_insertion.mean(1)


@dataclass(frozen=True)
class Faithfulness:
    """Of one method on some rows. Gains are in the unit of what is explained; above 0 is better than random."""

    rows: int
    deletion: Interval | None  # None where no row has several parts
    insertion: Interval | None
    unit: str
    stability: float | None = None  # mean rank correlation with explanations of rows that lost one part
    agreement: dict[str, float] = field(default_factory=dict)  # mean rank correlation with other methods
    completeness_error: float | None = None  # the mean

    @property
    def better_than_random(self) -> bool | None:
        """Does the interval of the deletion gain lie above 0?"""
        return None if self.deletion is None else self.deletion.low > 0

    def sentence(self) -> str:
        """What a person should know before an explanation is relied on."""
        if self.deletion is None:
            return say("There is one part, so no order of parts to be judged.")
        figures = f"{self.deletion.value:+.3g} [{self.deletion.low:+.3g}, {self.deletion.high:+.3g}]"
        unit = f" {called(self.unit)}" if self.unit else ""
        if self.better_than_random:
            return say(
                "Better than random: leaving out what it names first moves the answer by {figures}{unit} more.",
                figures=figures,
                unit=unit,
            )
        return say(
            "No better than random (deletion gain {figures}{unit}): do not rely on this explanation; try another "
            "method, or more rows.",
            figures=figures,
            unit=unit,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "better_than_random": self.better_than_random,
            "deletion_gain": None if self.deletion is None else vars(self.deletion),
            "insertion_gain": None if self.insertion is None else vars(self.insertion),
            "unit": self.unit,
            "stability": self.stability,
            "agreement": self.agreement,
            "completeness_error": self.completeness_error,
            "message": self.sentence(),
        }


def judge(
    questions: Sequence[Question],
    explained: Sequence[Attribution],
    method: Method | None = None,
    others: Mapping[str, Sequence[Attribution]] | None = None,
    seed: int = 0,
) -> Faithfulness:
    """Of explanations of the same questions by one method; with it, how stable it is; and how `others` agree.

    Of several rows the interval is of rows; of one, of random orders.
    """
    curves = [curves_of(q, a, seed) for q, a in zip(questions, explained, strict=True)]
    deletion, insertion = gains(curves, seed)
    pairs = list(zip(questions, explained, strict=True))[: 0 if method is None else _ROWS]
    stable = [stability(q, a, method, seed) for q, a in pairs if method is not None]
    known = [x for x in stable if x is not None]
    agreement = {}
    for name, theirs in (others or {}).items():
        alike = [rank_correlation(a.total(), b.total()) for a, b in zip(explained, theirs, strict=True)]
        if there := [x for x in alike if x is not None]:
            agreement[name] = float(np.mean(there))
    return Faithfulness(
        len(explained), deletion, insertion, explained[0].unit if explained else "",
        float(np.mean(known)) if known else None, agreement,
        float(np.mean([a.completeness_error for a in explained])) if explained else None,
    )  # fmt: skip


def gains(curves: Sequence[Curves | None], seed: int = 0) -> tuple[Interval | None, Interval | None]:
    """The mean gains of deletion and insertion over rows; None where no row has several parts."""
    known = [each.gained() for each in curves if each is not None]
    if not known:
        return None, None
    deletion, insertion = (
        np.concatenate(x) if len(known) == 1 else np.array([g.mean() for g in x]) for x in zip(*known, strict=True)
    )
    return bootstrap(deletion, seed=seed), bootstrap(insertion, seed=seed)


def curves_of(question: Question, explained: Attribution, seed: int = 0) -> Curves | None:
    """None where there is one thing to leave out."""
    return curves_of_several(question, [explained], seed)[0]


def curves_of_several(question: Question, explained: Sequence[Attribution], seed: int = 0) -> list[Curves] | list[None]:
    """Of explanations of one question that speak of the same parts. All their orders, and the random ones that they are
    compared with, are asked about in one batch."""
    pairs = [_groups(question, each) for each in explained]
    groups = pairs[0][0]
    assert all(np.array_equal(groups, own) for own, _ in pairs), "explanations of different parts"
    count = int(groups.max(initial=-1)) + 1
    if count < 2:
        return [None] * len(explained)
    # Each row has orders of its own: shared ones would err alike in all rows, which no interval of rows shows.
    keys = rng.mix(np.arange(ORDERS), seed, question.key, question.row, "orders")
    random = rng.uniform(keys, count).argsort(1)
    orders = np.concatenate([*(np.argsort(-values, kind="stable")[None] for _, values in pairs), random])
    steps = np.unique(np.linspace(0, count, min(count, STEPS) + 1).round().astype(int))
    rank = orders.argsort(1)  # [orders, groups]
    first = rank[:, None] < steps[:, None]  # [orders, steps, groups]
    asked = np.concatenate([~first, first])[..., groups].reshape(-1, len(groups))
    scores = Game(question).scores(asked).sum(1).reshape(2, len(orders), len(steps))
    deletion, insertion = scores
    n = len(explained)
    return [Curves(deletion[i], insertion[i], deletion[n:], insertion[n:]) for i in range(n)]


def _groups(question: Question, explained: Attribution) -> tuple[np.ndarray, np.ndarray]:
    """What is left out together, the number of each part's group [P], and the value of each group: parts or, where the
    method speaks of them alone, columns."""
    if any(each.by_part is not None for each in explained.columns):
        return np.arange(question.part_count), explained.total()
    return question.owners(), np.array([each.values.sum() for each in explained.columns])


def stability(question: Question, explained: Attribution, method: Method, seed: int = 0) -> float | None:
    """The mean rank correlation with what the method says of the row when it has lost one part."""
    P = question.part_count
    if P <= _FEW or not any(each.by_part is not None for each in explained.columns):
        return None
    lost = rng.permutation(rng.key(seed, question.key, question.row, "lost"), P)[:_REPEATS]
    found = []
    for part in lost.tolist():
        absent = np.arange(P) == part
        again = method.explain(Game(question, absent))
        if isinstance(again, Attribution):
            found.append(rank_correlation(explained.total()[~absent], again.total()[~absent]))
    known = [x for x in found if x is not None]
    return float(np.mean(known)) if known else None


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's; None where ranks mean nothing."""
    from scipy.stats import rankdata

    if len(a) < _FEW or len(a) != len(b):
        return None
    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum() / size) if size > 0 else None
