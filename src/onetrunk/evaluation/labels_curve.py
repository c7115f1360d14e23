"""Would more labels help? The strongest simple baseline, fitted on fewer and fewer of the training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from onetrunk.core import rng
from onetrunk.core.evaluation import Evaluation
from onetrunk.evaluation import intervals
from onetrunk.evaluation.baselines import run_baselines, usable
from onetrunk.evaluation.judge import Judge

FEWEST_LABELS = 20
MOST_SIZES = 6


def labels_curve(
    name: str,
    given: Mapping[str, Evaluation[Any]],
    asked: Evaluation[Any],
    known: Mapping[str, Sequence[Any]],
    held_out: Mapping[str, Sequence[Any]],
    answered: Sequence[Any],
    truths: Sequence[Any],
    judge: Judge,
    seconds: float,
) -> dict[str, Any] | None:
    """The main metric of the baseline `name` after half, a quarter, ... of the labelled training rows, each a part of
    the next, down to 20; and what the last doubling gained. None where fewer than two sizes can be fitted."""
    labelled = usable(asked, answered)
    order = rng.permutation(rng.key(judge.seed, "labels"), len(labelled))
    sizes = [len(labelled) >> k for k in range(MOST_SIZES) if len(labelled) >> k >= FEWEST_LABELS]
    points: list[dict[str, Any]] = []
    draws: list[np.ndarray] = []
    for size in sizes:
        rows = [labelled[i] for i in np.sort(order[:size])]
        columns = {column: [values[i] for i in rows] for column, values in known.items()}
        made = run_baselines(
            given, asked, columns, held_out, [answered[i] for i in rows], truths, seconds=seconds / 2, only=[name]
        ).get(name)  # fmt: skip
        if made is None or made.answers is None or made.metrics is None:
            continue
        score, drawn = judge(made.answers, made.metrics)
        if score is not None:
            points.append({"rows": size, "score": asdict(score)})
            draws.append(drawn)
    if len(points) < 2:
        return None
    sign = 1 if judge.higher_is_better else -1
    last, before = (point["score"]["value"] for point in points[:2])
    gain = intervals.interval(sign * (last - before), sign * (draws[0] - draws[1]))
    return {"baseline": name, "points": points[::-1], "gain": None if gain is None else asdict(gain)}
