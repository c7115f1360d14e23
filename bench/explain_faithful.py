"""explain_faithful: does leaving out what an explanation names first move the answer more than random? For 12 types.

    python -m bench explain_faithful             about 20 minutes on 2 cores
    python -m bench explain_faithful --quick     two types, a few steps; nothing is kept

Small models of `bench/planted.py`, one of each column type; test rows that they answer right are explained. The gain is
how much smaller the area under the deletion curve is than that of 10 random orders (`evaluation.faithfulness`), nats.
`ours` is for how many types the 95 % interval of the gain of the default method, marginals, lies above 0; it should be
all 12. The rival is integrated gradients. `also` holds their gains, occlusion's, and those of random values, whose
interval should hold 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bench.common import Figures, Run
from bench.explain_planted import QUICK as QUICK
from bench.explain_planted import Amounts, amounts
from bench.planted import learnt, questions
from onetrunk.core.events import Note


def compare(run: Run) -> Figures:
    chosen, run = amounts(run)
    each = {}
    for kind in chosen.types:
        each[kind] = _gains(run, kind, chosen)
        run.on_event(Note(f"{kind}: {each[kind]}"))

    def above(how: str) -> int:
        return sum(result[how]["interval"][0] > 0 for result in each.values())

    return Figures(
        ours=float(above("marginals")),
        interval=None,
        unit=f"column types of {len(each)} whose deletion gain is above 0",
        rival_name="integrated gradients",
        rival=float(above("integrated_gradients")) if run.rival else None,
        split={"part": "test", "rows of each type": chosen.explained},
        also={"random_explanations_above_0": above("random"), **each},
    )


def _gains(run: Run, kind: str, chosen: Amounts) -> dict[str, Any]:
    from onetrunk.evaluation.faithfulness import judge
    from onetrunk.explanation.attribution import Attribution
    from onetrunk.explanation.method import explain

    model, made, rows = learnt(run, kind, chosen.rows, chosen.steps)
    pairs, right = questions(model, made, rows[: chosen.explained])
    asked = [question for question, _ in pairs]
    out: dict[str, Any] = {"answered right": right, "rows": len(asked)}
    explained: dict[str, list[Attribution]] = {}
    for method in ("marginals", "occlusion", "integrated_gradients"):
        found = [explain(question, method) for question in asked]
        explained[method] = [each for each in found if isinstance(each, Attribution)]
    explained["random"] = [_shuffled(each, i) for i, each in enumerate(explained["marginals"])]
    for method, attributions in explained.items():
        gain = judge(asked, attributions, seed=run.seed).deletion
        assert gain is not None, f"rows of {kind} have one part"
        out[method] = {"gain": gain.value, "interval": [gain.low, gain.high]}
    return out


def _shuffled(each: Any, seed: int) -> Any:
    """The same values, of other parts."""
    dice = np.random.default_rng(seed)
    total = dice.permutation(each.total())
    ends = np.cumsum([len(c.parts) for c in each.columns])
    columns = [
        replace(c, by_part=total[None, end - len(c.parts) : end], values=total[None, end - len(c.parts) : end].sum(1))
        for c, end in zip(each.columns, ends.tolist(), strict=True)
    ]
    return replace(each, columns=columns)
