"""few_labels: one model pretrained on all columns of all training rows, then 100 labels; against the same from nothing.

    python -m bench few_labels      about 20 minutes on 2 cores

Five data sets of several column types each. Of the training rows 100 keep their answer, and as many validation rows
choose the step; the others are pretrained on without it. Ours is the mean over data sets; each is shown with the
interval of its difference, in `also`.
"""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import Figures, Run, data_folder

LABELLED = 100
_RESAMPLES = 500
ASKED = {
    "adult": "income",
    "bbbp": "p_np",
    "compas": "two_year_recid",
    "easyvqa": "answer",
    "heart_cleveland": "target",
}
FINETUNE: dict[str, Any] = {"documents": 32, "steps": 200, "rate": 0.5}


def compare(run: Run) -> Figures:
    each = {name: _gain(run, name, ask) for name, ask in ASKED.items()}
    ours, scratch = (float(np.mean([found[key] for found in each.values()])) for key in ("pretrained", "from nothing"))
    return Figures(
        ours=ours,
        interval=None,
        unit="accuracy, mean of five data sets",
        rival_name="the same trunk from nothing",
        rival=scratch,
        split={"part": run.part, "labelled": LABELLED},
        without_pretraining=scratch,
        also={"better_beyond_the_interval": sum(found["difference"][0] > 0 for found in each.values()), **each},
    )


def _gain(run: Run, name: str, ask: str) -> dict[str, Any]:
    """Accuracies on the part `run.part`, pretrained and from nothing, and the 95 % interval of their difference."""
    from onetrunk.verbs import _stages
    from onetrunk.verbs._setup import open_data

    bench = importlib.import_module(f"bench.{name}")
    settings = {key: value for key, value in bench.SETTINGS.items() if key not in ("finetune", "ensemble")}
    config, _ = run.config({**settings, "finetune": FINETUNE})
    ignore = ["num"] if name == "heart_cleveland" else None
    data = open_data(
        getattr(bench, "read", Path)(data_folder(name)), ask=[ask], given=None, ignore=ignore, types=None, map=None,
        split_spec="given:split", seed=run.seed, allow_equal_rows=True, network=False, config=config,
        console=run.console,
    )  # fmt: skip
    dice = np.random.default_rng(run.seed)
    answers = list(data.table[ask])
    for part in (data.split.train, data.split.val):
        known = [i for i in part if answers[i] is not None]
        kept = set(dice.permutation(known)[:LABELLED].tolist())
        for i in part:
            if int(i) not in kept:
                answers[i] = None
    data.table.columns[ask] = answers
    held = data.part(run.part)
    held = held.take([i for i, value in enumerate(held[ask]) if value is not None])
    foundation = _stages.pretrain(data, config, run.place / name, run.seed, None, None, 0.01, run.console)
    right = {}
    for how in ("pretrained", "from nothing"):
        from_it = how == "pretrained"
        model = copy.deepcopy(foundation) if from_it else _stages.build(data, config, run.seed)
        place = run.place / f"{name}-{how}"
        model, _ = _stages.finetune(data, config, place, run.seed, model, from_it, 0.01, run.console)
        codec = model.codec(ask)
        found = codec.target([a.value for a in model.answer(held, ask, data.given)])
        right[how] = (np.array(found) == np.array(codec.target(held[ask]))).astype(float)
    draws = dice.integers(0, len(held), (_RESAMPLES, len(held)))
    difference = right["pretrained"] - right["from nothing"]
    ends = np.quantile(difference[draws].mean(1), [0.025, 0.975])
    return {**{how: float(r.mean()) for how, r in right.items()}, "difference": [float(x) for x in ends]}
