"""A table of events: what comes next, forecast by ours and by the simple forecasts, on the same rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.common import Figures, Run
from onetrunk.data.table import Table
from onetrunk.evaluation.baselines import before_and_then, run_baselines
from onetrunk.evaluation.intervals import interval, row_draws
from onetrunk.training.finetune import finetune_model
from onetrunk.training.recipe import Recipe
from onetrunk.training.stage import new_model

_RESAMPLES = 1000
_DAYS = 20  # of trading that the bootstrap keeps together: calm and stormy days come in runs


@dataclass
class Forecasts:
    """Of the rows of the part that is judged: what was seen and came, and every forecaster's answers."""

    before: list[Any]
    truths: list[Any]
    answers: dict[str, list[Any]]
    medians: list[Any]  # of ours
    rows: Table
    also: dict[str, Any] = field(default_factory=dict)


def forecasts(run: Run, config: Recipe, table: Table, ask: str, given: list[str]) -> Forecasts:
    """Trains on the part train, chooses the step on val, and answers the run's part."""
    data = run.open(table, config, ask=[ask], given=given)
    model = new_model(data, config, run.seed)
    model = finetune_model(data, run.context(config, run.place / "model"), model, pretrained=False).model
    evaluation, rows, train = model.evaluation(ask), data.rows(run.split), data.rows("train")
    before, truths = before_and_then(model.encoder(ask), rows[ask])
    columns = {**{name: rows[name] for name in given}, ask: before}
    predicted = model.answer(columns, ask, given)
    answers = {"ours": [a.value for a in predicted]}
    if run.rival:
        seen, came = before_and_then(model.encoder(ask), train[ask])
        rivals = run_baselines({ask: evaluation}, evaluation, {ask: seen}, {ask: before}, came, truths, seconds=3600)
        answers |= {name: [a.value for a in rival.answers] for name, rival in rivals.items() if rival.answers}
    made = model.provenance["stages"][-1]
    also = {
        "metrics": evaluation.measure(predicted, truths),
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "training_seconds": made["seconds"],
        "steps": made["steps"],
        "rows": made["rows"],
    }
    return Forecasts(before, truths, answers, [a.quantiles[0.5] for a in predicted], rows, also)


def intervals(errors: dict[str, np.ndarray], rival: str, block: int, seed: int) -> dict[str, Any]:
    """The interval of our mean error and, paired, of its difference to the rival's; blocks of neighbouring rows are
    drawn whole, for their errors are alike."""
    ours = _blocks(errors["ours"], block)
    result = {"interval": _ends(ours, seed)}
    if rival in errors:
        result["difference"] = _ends(ours - _blocks(errors[rival], block), seed)
    return result


def _blocks(errors: np.ndarray, block: int) -> np.ndarray:
    """Means of successive rows; what is left at the end counts with the last block."""
    return np.array([part.mean() for part in np.array_split(errors, max(1, len(errors) // block))])


def _ends(values: np.ndarray, seed: int) -> list[float]:
    bounds = interval(float(values.mean()), row_draws(values, n=_RESAMPLES, seed=seed))
    return [bounds.low, bounds.high]


def next_day(
    run: Run,
    config: Recipe,
    table: Table,
    ask: str,
    given: list[str],
    *,
    close: str,
    unit: str,
    relative: bool = False,
) -> Figures:
    """The next close among the channels of `ask`, against the last one: the mean absolute error of the median forecast,
    in per cent of the last close where `relative`."""
    made = forecasts(run, config, table, ask, given)

    def closes(values: list[Any]) -> np.ndarray:
        return np.array([value[close][0] for value in values])

    last = np.array([value[close][-1] for value in made.before])
    unit_of = last / 100 if relative else 1.0
    answered = {**made.answers, "ours": made.medians}
    errors = {name: np.abs(closes(result) - closes(made.truths)) / unit_of for name, result in answered.items()}
    ends = intervals(errors, "last value", _DAYS, run.seed)
    lead = ends.get("difference")
    beaten = "nothing was compared" if lead is None else "ours is better" if lead[1] < 0 else "nothing beats naive"
    if lead is not None and lead[0] > 0:
        beaten = "ours is worse"
    return Figures(
        ours=float(errors["ours"].mean()),
        interval=ends["interval"],
        unit=f"{unit} (less is better)",
        rival_name="the last close",
        rival=float(errors["last value"].mean()) if run.rival else None,
        split={"part": run.split, "days": len(errors["ours"])},
        also={
            "difference_interval": lead,
            "verdict": beaten,
            "rivals": {name: float(each.mean()) for name, each in errors.items() if name != "ours"},
            **made.also,
        },
    )
