"""Next-item recommendation, leave-one-out: ours, popularity and item kNN on the same rows, and kept figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.common import Figures, Run
from onetrunk.data.split import Split
from onetrunk.data.table import Table
from onetrunk.evaluation.baselines import before_and_then, run_baselines
from onetrunk.evaluation.intervals import bootstrap
from onetrunk.training.finetune import finetune_model
from onetrunk.training.open_data import Data, types_and_options
from onetrunk.training.stage import new_model

_PARTS = ("train", "val", "test")


def compare_next(
    run: Run,
    settings: dict[str, Any],
    columns: dict[str, list[Any]],
    *,
    metric: str,
    name: str | None = None,
    kept: dict[str, float] | None = None,
) -> Figures:
    """Asks for the last item of each history in `items`. `metric` is shown; `kept` are figures of the rival `name`,
    without which it is the better one of popularity and item kNN."""
    config, _ = run.config(settings)
    parts = columns.pop("split")
    table = Table(columns, run.name)
    split = Split(
        *(np.flatnonzero(np.array(parts) == part) for part in _PARTS), "the last item held out, and the one before"
    )
    data = Data(table, *types_and_options(table, config, None), [], ["items"], {}, split)
    model = new_model(data, config, run.seed)
    model = finetune_model(data, run.context(config, run.place), model, pretrained=False).model
    made = model.provenance["stages"][-1]

    encoder, evaluation = model.encoder("items"), model.evaluation("items")
    before, then = before_and_then(encoder, data.rows(run.split)["items"])
    answers = model.answer({"items": before}, "items", [])
    metrics = evaluation.measure(answers, then)
    ends = bootstrap(evaluation.metrics_per_row(answers, then)[metric], seed=run.seed)
    also: dict[str, Any] = {"metrics": metrics, "training_seconds": made["seconds"], "steps": made["steps"]}
    rivals = {}
    if run.rival:
        seen, came = before_and_then(encoder, data.rows("train")["items"])
        rows = [i for i, value in enumerate(came) if value is not None]
        seen, came = [seen[i] for i in rows], [came[i] for i in rows]
        baselines = run_baselines(
            {"items": evaluation}, evaluation, {"items": seen}, {"items": before}, came, then, seconds=3600
        )
        rivals = {key: baseline.metrics for key, baseline in baselines.items()}
        also["rivals"] = rivals
    if kept is None:
        name = max(rivals, key=lambda key: rivals[key][metric]) if rivals else "item kNN"
    else:
        also["kept"] = kept
    rival = kept[metric] if kept is not None else rivals[name][metric] if rivals else None
    return Figures(
        ours=metrics[metric],
        interval=[ends.low, ends.high],
        unit=f"{metric.replace('_', ' ')} (100 negatives and the true item)" if metric.endswith("101") else metric,
        rival_name=name,
        rival=rival if run.rival else None,
        split={"part": run.split, "rows": {part: len(index) for part, index in split.indices().items()}},
        also=also,
    )
