"""fsdd_tasks: the digit and the speaker of a recording by one model at once, against a model for each.

    python -m bench fsdd_tasks      about 12 minutes on 2 cores

The recordings of `fsdd`; all three models start from one that was pretrained on the training part's sounds alone, and
take as many steps. Mean accuracy of the two answers on 300 other takes; each task stands beside it.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import Any

import numpy as np

from bench import fsdd
from bench.common import Figures, Run, data_folder

TASKS = ("digit", "speaker")
SETTINGS: dict[str, Any] = {
    **fsdd.SETTINGS,
    "columns": {
        "audio": {"type": "audio"},
        **{name: {"type": "category", "smoothing": 0.05} for name in TASKS},
    },
    "pretrain": {
        "steps": 200,
        "objectives": [{"kind": "contrast", "documents": 32, "weight": 0.3}, {"kind": "masked", "documents": 32}],
    },
}


def compare(run: Run) -> Figures:
    from bench.adaptation import RESAMPLES
    from bench.tables import MOST_BAD, ends
    from onetrunk.training.finetune import finetune_model
    from onetrunk.training.pretrain import pretrain_model
    from onetrunk.training.stage import extend_model

    config, _ = run.config(SETTINGS)
    data = run.open(fsdd.read(data_folder("fsdd")), config, ask=list(TASKS), given=["audio"])
    sounds = dataclasses.replace(data, ask=[])
    base = pretrain_model(sounds, run.context(config, run.place / "pretraining", max_bad=MOST_BAD))
    test = data.rows(run.split)
    right: dict[str, dict[str, np.ndarray]] = {"one": {}, "single": {}}
    seconds = {"one": 0.0, "single": 0.0}
    parameters = {"one": 0, "single": 0}
    for kind, asked in (("one", TASKS), *(("single", (name,)) for name in TASKS if run.rival)):
        part, model, start = dataclasses.replace(data, ask=list(asked)), copy.deepcopy(base), time.monotonic()
        extend_model(model, part, run.seed, on_event=run.on_event)
        place = run.place / "-".join((kind, *asked))
        tuned = finetune_model(part, run.context(config, place, max_bad=MOST_BAD), model, pretrained=True).model
        seconds[kind] += time.monotonic() - start
        parameters[kind] += sum(p.numel() for p in tuned.network.parameters())
        for name in asked:
            answers = tuned.answer(test, name, ["audio"])
            right[kind][name] = tuned.evaluation(name).per_row(answers, test[name])
    both = {kind: np.mean(list(result.values()), axis=0) for kind, result in right.items() if result}
    draws = np.random.default_rng(run.seed).integers(0, len(test), (RESAMPLES, len(test)))
    also: dict[str, Any] = {
        "accuracy": {
            kind: {name: float(each.mean()) for name, each in result.items()} for kind, result in right.items()
        },
        "intervals": {kind: {n: ends(each[draws].mean(1)) for n, each in f.items()} for kind, f in right.items()},
        "finetuning_seconds": seconds,
        "parameters": parameters,
    }
    if run.rival:
        also["difference_interval"] = ends((both["one"] - both["single"])[draws].mean(1))
    return Figures(
        ours=float(both["one"].mean()),
        interval=ends(both["one"][draws].mean(1)),
        unit="mean accuracy of digit and speaker",
        rival_name="two models, one a task",
        rival=float(both["single"].mean()) if run.rival else None,
        split={"part": run.split, "rows": {name: len(index) for name, index in data.split.indices().items()}},
        also=also,
    )
