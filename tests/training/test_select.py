"""The choice of the best: by the metric's own direction, and what is undefined never wins."""

from __future__ import annotations

import pytest

from onetrunk.core.errors import UsageError
from onetrunk.core.metric import Metric, metric_named
from onetrunk.training.select import best_of

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
