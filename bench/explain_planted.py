"""explain_planted: is the one part that decides the part that an explanation names first? Of every column type.

    python -m bench explain_planted             about 10 minutes on 2 cores; none after explain_faithful
    python -m bench explain_planted --quick     two types, a few steps; nothing is kept

In every type's rows one part (a word, a patch, a step, a column) decides alone over the answer, and it is known which
(`bench/planted.py`). A small model learns them, and rows of the test part that it answers right are explained. `ours`
is the mean, over the types, of how often the default method, marginals, names the cause first; it should be .95 at
least. The rival is integrated gradients, on the same rows. `also` holds every type by itself, occlusion, and what
naming any part would reach. What is measured of a type is kept at once: a run that is stopped, or asked for some
types alone (`--set types=[number,items]`), leaves them for the next.
"""

from __future__ import annotations

import numpy as np

from bench.common import Figures, Run
from bench.planted import METHODS, measured
from bench.planted import QUICK as QUICK


def compare(run: Run) -> Figures:
    from onetrunk.evaluation.intervals import bootstrap

    found = measured(run)
    each = {
        kind: {
            **{method: float(np.mean(hits)) if hits else 0.0 for method, hits in of["hits"].items()},
            **{name: of[name] for name in ("any part", "answered right", "rows", "seconds")},
        }
        for kind, of in found.items()
    }
    ours, rival = (float(np.mean([result[how] for result in each.values()])) for how in METHODS[::2])
    interval = bootstrap(np.concatenate([np.array(of["hits"][METHODS[0]]) for of in found.values()]), seed=run.seed)
    return Figures(
        ours=ours,
        interval=[interval.low, interval.high],
        unit="share of rows whose cause is named first, mean of the column types",
        rival_name="integrated gradients",
        rival=rival if run.rival else None,
        split={"part": "test", "rows": sum(of["rows"] for of in found.values())},
        also={"of all types": min(result[METHODS[0]] for result in each.values()) >= 0.95, **each},
    )
