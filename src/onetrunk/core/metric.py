"""A metric of answers: its name, its unit, and whether higher values are better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onetrunk.core.errors import unknown


@dataclass(frozen=True)
class Metric:
    """`unit` is "" for shares and scores without one."""

    name: str
    higher_is_better: bool
    unit: str = ""

    def better(self, value: float | None, other: float | None) -> bool:
        """Is `value` better than `other`? What is undefined (None) is never better, and whatever is defined is better
        than it."""
        if value is None or other is None:
            return value is not None and other is None
        return value > other if self.higher_is_better else value < other


def metric_named(name: str, metrics: Iterable[Metric]) -> Metric:
    """The metric of this name. Raises UsageError that names the nearest where there is none."""
    by_name = {metric.name: metric for metric in metrics}
    if name not in by_name:
        raise unknown("metric", name, by_name)
    return by_name[name]
