"""decisions: are probabilities as right as they say? ECE before and after calibration, coverage of sets and intervals.

    python -m bench decisions              about 40 minutes on 2 cores: every set is trained without settings
    python -m bench.decisions easyvqa      these alone, any of `defaults` (nothing is kept); --split val while building

Six sets of classes and two of numbers, each with at least 500 test rows, are trained as `onetrunk train` does it by
default, each in a process of its own with two threads. Its test rows are answered twice: with the calibration that
training made, and without it (the probabilities that the model had before). `ours` is the worst expected calibration
error after; `holds` says of each set whether it is at most .03, or its 95 % interval (bootstrap) reaches that.
Beside it stand the coverage of the sets and intervals that promise 90 % and how large they are, of classes and of
numbers, with the interval that chance allows (Wilson). `conformal` judges the coverage of the same models, without
training them again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import Figures, Run
from bench.defaults import SETS, table_of
from onetrunk.core.events import ignore

CLASSES = ("adult", "compas", "open_payments", "chnsenticorp_hotel", "ag_news", "mnist_10k")
NUMBERS = ("employee_salaries", "chocolate")
BOUND, COVERAGE, CLOSE = 0.03, 0.9, 0.01
MIN_ROWS = 500  # of the test part
QUICK = ["settings=quick"]  # one small table made here, instead of the sets
_RESAMPLES = 1000


def judge(columns: dict[str, list[Any]], ask: str, seed: int, place: str, settings: list[str]) -> dict[str, Any]:
    """Trains on a table with a column `split`, and judges its test rows, with and without the calibration."""
    import onetrunk
    from onetrunk.core.module import Calibrated
    from onetrunk.data.table import read

    began = time.monotonic()
    onetrunk.train(
        columns, ask=[ask], split="given:split", seed=seed, out=f"{place}/model", allow_equal_rows=True, quiet=True,
        settings=settings,
    )  # fmt: skip
    seconds = time.monotonic() - began
    model = onetrunk.load(f"{place}/model")
    test = [i for i, part in enumerate(columns["split"]) if part == "test" and columns[ask][i] is not None]
    given = model.task([ask]).given
    rows = model.as_learnt(read({name: [columns[name][i] for i in test] for name in (*given, ask)}))
    truths, asked = list(rows[ask]), {name: list(rows[name]) for name in given}
    after = model.answer(asked, ask, given)
    fitted, module = model.calibration(ask), model.module(ask)
    found: dict[str, Any] = {"rows": len(test), "seconds": seconds, "kept": model.provenance["decision"]["kept"]}
    if fitted is None or not isinstance(module, Calibrated):
        return {**found, "calibrated": False}
    module.calibration = None
    before = model.answer(asked, ask, given)
    evaluation = model.evaluation(ask)
    measured = {"before": evaluation.measure(before, truths), "after": evaluation.measure(after, truths)}
    found |= {"fitted_on": f"{fitted.rows} {fitted.fitted_on}", "temperature": fitted.temperature}
    found["coverage"] = measured["after"]["coverage"]
    found["size"] = measured["after"].get("set_size", measured["after"].get("interval_width"))
    if "ece" in measured["after"]:
        found["ece"] = {
            when: _ece(evaluation, each, truths, seed) for when, each in (("before", before), ("after", after))
        }
        found["log_loss"] = {when: figures["log_loss"] for when, figures in measured.items()}
        found["empty_sets"] = float(np.mean([not a.conformal_set for a in after]))
        found["by_probability"] = _fewest(evaluation, after, truths)
    return found | _held(found["coverage"], len(test))


def _ece(evaluation: Any, answers: list[Any], truths: list[Any], seed: int) -> list[float]:
    """The calibration error, and its 95 % interval."""
    from onetrunk.metrics.classification import ece

    sure, right = np.array([a.certainty for a in answers]), evaluation.rightness(answers, truths)
    rng = np.random.default_rng(seed)
    drawn = [ece(sure[i], right[i]) for i in rng.integers(0, len(sure), (_RESAMPLES, len(sure)))]
    return [ece(sure, right), *np.quantile(drawn, [0.025, 0.975]).tolist()]


def _fewest(evaluation: Any, answers: list[Any], truths: list[Any]) -> list[float]:
    """The fewest classes that together are as likely as is promised: how often they hold the truth, how many they
    are."""
    held, sizes = [], []
    for answer, truth in zip(answers, truths, strict=True):
        names = sorted(answer.of_classes, key=lambda name: -answer.of_classes[name])
        count = int((np.cumsum([answer.of_classes[name] for name in names]) < COVERAGE).sum()) + 1
        sizes.append(count)
        held.append(evaluation.encoder.name(truth) in names[:count])
    return [float(np.mean(held)), float(np.mean(sizes))]


def _held(coverage: float, rows: int) -> dict[str, Any]:
    from onetrunk.evaluation.intervals import wilson

    interval = wilson(coverage * rows, rows)
    return {
        "distance": abs(coverage - COVERAGE),
        "coverage_interval": [interval.low, interval.high],
        "within_a_point": abs(coverage - COVERAGE) <= CLOSE,
        "chance_reaches_it": interval.low <= COVERAGE + CLOSE and interval.high >= COVERAGE - CLOSE,
    }


def one(name: str, part: str, seed: int, settings: list[str], place: str) -> dict[str, Any]:
    """One set in this process; `made`: a small table made here."""
    columns, ask = (_made(seed), "label") if name == "made" else (table_of(name, part), SETS[name].ask)
    return judge(columns, ask, seed, place, settings)


def _made(seed: int, rows: int = 1500) -> dict[str, list[Any]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3))
    label = ["yes" if v else "no" for v in rng.random(rows) < 1 / (1 + np.exp(-2 * x[:, 0] - x[:, 1]))]
    split = np.where(np.arange(rows) % 5 < 2, "test", np.where(np.arange(rows) % 5 == 2, "val", "train"))
    return {
        "a": x[:, 0].tolist(),
        "b": x[:, 1].tolist(),
        "c": x[:, 2].tolist(),
        "label": label,
        "split": split.tolist(),
    }


def judge_all(run: Run, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Each set in a process of its own; those with too few test rows are left out."""
    from bench.speed import one_side

    quick = QUICK[0] in run.settings
    settings = ["size=nano", "finetune.steps=4", "train.tensorboard=false"] if quick else []
    sets: dict[str, dict[str, Any]] = {}
    for name in ("made",) if quick else names:
        side = {"call": "bench.decisions:one", "name": name, "part": run.split, "seed": run.seed, "settings": settings}
        found = one_side(run, name, side)
        print(json.dumps({name: found}), file=sys.stderr)
        if found["rows"] >= MIN_ROWS:
            sets[name] = found
    return sets


def compare(run: Run, names: Sequence[str] = CLASSES + NUMBERS) -> Figures:
    sets = judge_all(run, names)
    judged = {name: found["ece"] for name, found in sets.items() if "ece" in found}
    worst = max(judged, key=lambda name: judged[name]["after"][0])
    return Figures(
        ours=judged[worst]["after"][0],
        interval=judged[worst]["after"][1:],
        unit="worst ECE after calibration",
        rival_name="the same models before calibration, worst ECE",
        rival=max(each["before"][0] for each in judged.values()),
        split={"part": run.split, "sets": len(sets)},
        also={
            "worst": worst,
            "holds": {name: each["after"][1] <= BOUND for name, each in judged.items()},
            "coverage": {name: found["coverage"] for name, found in sets.items() if "coverage" in found},
            "sets": sets,
        },
    )


def main() -> None:
    """Some sets alone."""
    parser = argparse.ArgumentParser(prog="python -m bench.decisions", description=__doc__)
    parser.add_argument("names", nargs="+", choices=list(SETS))
    parser.add_argument("--split", choices=("test", "val"), default="val")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        run = Run("decisions", told.split, 0, [], True, Path(place), ignore)
        print(json.dumps(judge_all(run, told.names), indent=1))


if __name__ == "__main__":
    main()
