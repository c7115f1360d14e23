"""conformal: sets and intervals that promise 90 % hold how much? ours is the worst distance from it on three data sets.

    python -m bench conformal      at once after `decisions` of the same commit, whose models it judges; else 20 minutes

The three sets of `decisions` with the most test rows (adult, AG News, open_payments: 16,281, 7,600 and 2,959, of which
chance alone moves a coverage by .002, .003 and .006, a standard deviation; that of the calibration rows comes to it),
each trained by default. Beside it the rival: the fewest classes that together have a probability of 90 %, as the same
calibrated model says.
"""

from __future__ import annotations

import json
from typing import Any

from bench.common import RESULTS, Figures, Run, versions
from bench.decisions import COVERAGE, QUICK, judge_all

__all__ = ["QUICK", "compare"]
_SETS = ("adult", "ag_news", "open_payments")


def compare(run: Run) -> Figures:
    sets = _known(run) or judge_all(run, _SETS)
    worst = max(sets, key=lambda name: sets[name]["distance"])
    return Figures(
        ours=sets[worst]["distance"],
        interval=None,
        unit="worst distance from the promised coverage",
        rival_name="the fewest classes that have that probability",
        rival=max(abs(found["by_probability"][0] - COVERAGE) for found in sets.values()),
        split={"part": run.split, "sets": len(sets)},
        also={"worst": worst, "sets": sets},
    )


def _known(run: Run) -> dict[str, dict[str, Any]] | None:
    """What `decisions` found of these sets, where it was run on this commit, with this seed."""
    path = RESULTS / "decisions.json"
    if run.split != "test" or run.settings or not path.exists():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    commits = [of.get("commit", "").removesuffix("-dirty") for of in (kept["versions"], versions())]
    found: dict[str, dict[str, Any]] = kept["also"]["sets"]
    if commits[0] != commits[1] or not commits[0] or kept["seed"] != run.seed or not set(_SETS) <= found.keys():
        return None
    return {name: found[name] for name in _SETS}
