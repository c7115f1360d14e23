"""explain_planted: is the one part that decides the part that an explanation names first? Of every column type.

    python -m bench explain_planted             about 15 minutes on 2 cores
    python -m bench explain_planted --quick     two types, a few steps; nothing is kept

In every type's rows one part (a word, a patch, a step, a column) decides alone over the answer, and it is known which
(`bench/planted.py`). A small model learns them, and rows of the test part that it answers right are explained. `ours`
is the mean, over the types, of how often the default method, marginals, names the cause first; it should be .95 at
least. The rival is integrated gradients, on the same rows. `also` holds every type by itself, occlusion, and what
naming any part would reach.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bench.common import Figures, Run
from bench.planted import WORLDS, first_is_cause, learnt, questions
from onetrunk.core.config import with_settings
from onetrunk.core.events import Note

METHODS = ("marginals", "occlusion", "integrated_gradients")
QUICK = ["types=[number,items]", "rows=200", "steps=40", "explained=8"]


class Amounts(BaseModel):
    """How much is learnt and explained."""

    model_config = ConfigDict(extra="forbid")
    types: list[str] = list(WORLDS)
    rows: int = Field(1500, ge=50)  # of each world
    steps: int = Field(500, ge=1)
    explained: int = Field(100, ge=1)  # test rows


def amounts(run: Run) -> tuple[Amounts, Run]:
    """What `--set` says, and the run without it."""
    return Amounts.model_validate(with_settings(Amounts().model_dump(), run.settings)), replace(run, settings=[])


def compare(run: Run) -> Figures:
    from onetrunk.evaluation.intervals import bootstrap

    chosen, run = amounts(run)
    each, hits = {}, {}
    for kind in chosen.types:
        each[kind], hits[kind] = _found(run, kind, chosen)
        run.on_event(Note(f"{kind}: {each[kind]}"))
    ours, rival = (float(np.mean([result[how] for result in each.values()])) for how in METHODS[::2])
    interval = bootstrap(np.concatenate(list(hits.values())), seed=run.seed)
    return Figures(
        ours=ours,
        interval=[interval.low, interval.high],
        unit="share of rows whose cause is named first, mean of the column types",
        rival_name="integrated gradients",
        rival=rival if run.rival else None,
        split={"part": "test", "rows of each type": chosen.explained},
        also={"of all types": min(result[METHODS[0]] for result in each.values()) >= 0.95, **each},
    )


def _found(run: Run, kind: str, chosen: Amounts) -> tuple[dict[str, Any], np.ndarray]:
    """How often each method names the cause first, and where the first did."""
    from onetrunk.explanation.attribution import Attribution
    from onetrunk.explanation.method import explain

    model, made, rows = learnt(run, kind, chosen.rows, chosen.steps)
    rows = rows[: chosen.explained]
    asked, right = questions(model, made, rows)
    found: dict[str, list[bool]] = {method: [] for method in METHODS}
    chance = []
    for question, is_cause in asked:
        for method in METHODS:
            explained = explain(question, method)
            assert isinstance(explained, Attribution)
            found[method].append(first_is_cause(question, explained.total(), is_cause))
        causes = [is_cause(c.column, c.parts, k) for c in question.columns for k in range(len(c.parts))]
        chance.append(float(np.mean(causes)))
    means: dict[str, Any] = {name: float(np.mean(hits)) if hits else 0.0 for name, hits in found.items()}
    means |= {"any part": float(np.mean(chance)) if chance else 0.0, "answered right": right, "rows": len(asked)}
    return means, np.array(found[METHODS[0]], dtype=float)
