"""explain_faithful: does leaving out what an explanation names first move the answer more than random? For 12 types.

    python -m bench explain_faithful             about 10 minutes on 2 cores; none after explain_planted
    python -m bench explain_faithful --quick     two types, a few steps; nothing is kept

Small models of `bench/planted.py`, one of each column type; test rows that they answer right are explained. The gain is
how much smaller the area under the deletion curve is than that of 10 random orders (`evaluation.faithfulness`), nats.
`ours` is for how many types the 95 % interval of the gain of the default method, marginals, lies above 0; it should be
all 12. The rival is integrated gradients. `also` holds their gains, occlusion's, and those of random values, whose
interval should hold 0. What is measured of a type is kept at once: a run that is stopped, or asked for some types
alone (`--set types=[number,items]`), leaves them for the next.
"""

from __future__ import annotations

from bench.common import Figures, Run
from bench.planted import METHODS, RANDOM, measured
from bench.planted import QUICK as QUICK


def compare(run: Run) -> Figures:
    found = measured(run)
    each = {
        kind: {**of["gains"], "answered right": of["answered right"], "rows": of["rows"], "seconds": of["seconds"]}
        for kind, of in found.items()
    }

    def above(how: str) -> int:
        return sum(result[how] is not None and result[how]["interval"][0] > 0 for result in each.values())

    return Figures(
        ours=float(above(METHODS[0])),
        interval=None,
        unit=f"column types of {len(each)} whose deletion gain is above 0",
        rival_name="integrated gradients",
        rival=float(above(METHODS[2])) if run.rival else None,
        split={"part": "test", "rows": sum(of["rows"] for of in found.values())},
        also={"random_explanations_above_0": above(RANDOM), **each},
    )
