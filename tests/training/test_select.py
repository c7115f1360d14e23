"""The choice of the best: by the metric's own direction, and what is undefined never wins."""

from __future__ import annotations

import pytest
import worlds
from worlds import CASES

from onetrunk.core.errors import UsageError
from onetrunk.core.metric import Metric, metric_named
from onetrunk.inference.model_folder import Model
from onetrunk.training.select import best_of, choosing_metric

ACCURACY, LOSS = Metric("accuracy", True), Metric("log_loss", False, "nats")


@pytest.mark.parametrize(
    ("values", "metric", "best"),
    [
        ([0.1, 0.3, 0.2], ACCURACY, 1),
        ([0.1, 0.3, 0.05], LOSS, 2),
        ([None, 0.3, None], LOSS, 1),
        ([None, -0.3, None], ACCURACY, 1),
        ([-0.5, None, -0.2], ACCURACY, 2),
        ([0.4, 0.4], LOSS, 0),
        ([None, None], ACCURACY, 0),
    ],
)
def test_the_best_is_by_the_metrics_direction_and_never_undefined(values, metric: Metric, best: int) -> None:
    assert best_of(values, metric) == best


def test_a_misspelt_metric_names_the_nearest() -> None:
    assert metric_named("log_loss", [ACCURACY, LOSS]) is LOSS
    with pytest.raises(UsageError, match=r"Unknown metric 'logloss'. Did you mean 'log_loss'\?"):
        metric_named("logloss", [ACCURACY, LOSS])


def _model(name: str) -> Model:
    """One that knows a column `y` of a case's type, and what that is read on."""
    case = CASES[name]
    beside = {} if case.on is None else {case.on[0]: case.on[1]}
    types = {**{column: column for column in beside}, "y": case.type}
    return worlds.model({**beside, "y": case.values}, types, options={"y": case.options})


@pytest.mark.parametrize(
    ("case", "name", "higher"),
    [
        ("category", None, False), ("category", "log_loss", False), ("category", "brier", False),
        ("number", None, False), ("number", "r2", True), ("series", None, False), ("series", "crps", False),
        ("items", "mrr", True), ("boxes", None, True), ("text", None, False), ("image", "loss", False),
    ],
)  # fmt: skip
def test_every_type_says_which_way_its_metrics_are_better(case: str, name: str | None, higher: bool) -> None:
    metric = choosing_metric(_model(case), "y", name)
    assert metric.higher_is_better == higher and name in (None, metric.name)


@pytest.mark.parametrize(
    ("case", "name", "message"),
    [
        ("category", "logloss", "Unknown metric 'logloss'. Did you mean 'log_loss'?"),
        ("number", "accuracy", "Unknown metric 'accuracy'."),
        ("text", "exact_match", "such models are compared by their loss"),
        ("text", "exact_mtch", "Unknown metric 'exact_mtch'. Did you mean 'exact_match'?"),
    ],
)
def test_a_metric_that_cannot_choose_is_refused(case: str, name: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        choosing_metric(_model(case), "y", name)
    assert message in str(error.value)
