"""audit_compas: by group, how often is a score wrong? The published rates of the COMPAS score, from its own rows.

    python -m bench audit_compas      some seconds

Angwin, Larson, Mattu and Kirchner (ProPublica, 2016) published how often the score called defendants likely to be
charged again who then were not: 44.85 % of black and 23.45 % of white ones; and the other way round: 27.99 % and
47.72 %. The score is of nobody's model here: it is put through the audit as its answers are. `ours` is 1 if both rates
come out to .05 points.
"""

from __future__ import annotations

import csv

import numpy as np

from bench.common import Figures, Run, data_folder
from onetrunk.evaluation.audit.fairness import class_rates, compare_means
from onetrunk.evaluation.audit.groups import Groups, group_rows
from onetrunk.evaluation.audit.record import GroupMetric

PUBLISHED = {
    "false_positive_rate": {"African-American": 0.4485, "Caucasian": 0.2345},
    "false_negative_rate": {"African-American": 0.2799, "Caucasian": 0.4772},
}
MOST_APART = 0.0005
FROM = 5  # the score, 1 to 10, from which it says medium or high
CLASSES = ["charged again: no", "charged again: yes"]


def compare(run: Run) -> Figures:
    rows = []
    for part in ("train", "val", "test"):
        with (data_folder("compas") / f"{part}.csv").open(encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file))
    true = np.array([CLASSES[int(row["two_year_recid"])] for row in rows])
    answered = np.array([CLASSES[int(row["decile_score"]) >= FROM] for row in rows])
    groups = group_rows("race", [row["race"] for row in rows], "category")
    rates = {rate.name: rate for rate in class_rates(true, answered, CLASSES, groups, run.seed)}
    missed = (answered == CLASSES[0]).astype(np.float64)
    rates["false_negative_rate"] = compare_means(
        "false_negative_rate", CLASSES[1], missed, true == CLASSES[1], groups, run.seed
    )
    rates["accuracy"] = compare_means(
        "accuracy", "", (answered == true).astype(np.float64), np.ones(len(true), dtype=bool), groups, run.seed
    )
    published = PUBLISHED["false_positive_rate"]
    here = {group: _rate(rates["false_positive_rate"], groups, group) for group in published}
    good = all(abs(here[group] - value) <= MOST_APART for group, value in published.items())
    return Figures(
        float(good), None, "both published rates to .05 points", "wanted", 1.0, {"rows": len(rows)},
        also={
            "groups": {name: {f.group: [f.rows, *_ends(f.value)] for f in rate.groups} for name, rate in rates.items()},
            "gaps": {
                name: {"between": [rate.gap.high, rate.gap.low], "gap": _ends(rate.gap.value),
                       "by_chance_at_most": rate.gap.by_chance, "p": rate.gap.p}
                for name, rate in rates.items() if rate.gap is not None
            },
            "published": PUBLISHED,
        },
    )  # fmt: skip


def _rate(metric: GroupMetric, groups: Groups, group: str) -> float:
    value = metric.groups[groups.names.index(group)].value
    assert value is not None, f"no row of {group}"
    return value.value


def _ends(interval: object) -> list[float]:
    return [] if interval is None else [interval.value, interval.low, interval.high]  # type: ignore[attr-defined]
