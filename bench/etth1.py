"""etth1: seven channels of a transformer station, 96 hours ahead, on every window of the test split.

    python -m bench etth1      minutes on 2 cores; expected: a mean squared error of at most .38

The standard protocol (arXiv 2012.07436): rows 0-8639 for training, 8640-11519 for validation, 11520-14399 for the test;
channels in the training rows' standard deviations; each window of the test split, its history reaching back before it.
The rival that is run is a linear forecast: one ridge regression for all channels, on normed histories of the same
length, shrunk towards a naive forecast. Kept figures, not run: DLinear .375 (arXiv 2205.13504), PatchTST .370 (arXiv
2211.14730).
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from bench.common import Figures, Run

AHEAD, SEEN = 96, 336
SETTINGS: dict[str, Any] = {
    "trunk": {"width": 32, "layers": 2, "heads": 2, "dropout": 0.2},
    "events": {"order": "date", "window": SEEN + AHEAD, "ahead": AHEAD, "stride": 1, "min_seen": SEEN},
    "columns": {
        "load": {"type": "series", "horizon": AHEAD, "length": SEEN, "period": 24, "paths": False, "dropout": 0.2}
    },
    "train": {"optimizer": "adamw", "lr": 1e-3, "validate_every": 50, "tensorboard": False},
    "finetune": {"documents": 64, "steps": 200},
}


def compare(run: Run) -> Figures:
    from bench.forecasts import forecasts, intervals
    from onetrunk.data.table import read

    borders = json.loads((run.data() / "splits.json").read_text(encoding="utf-8"))
    table = read(run.data() / "ETTh1.csv").take(np.arange(borders["test"][1]))
    names = [name for name in table.names if name != "date"]
    part = np.array(["train"] * len(table), dtype=object)
    for name in ("val", "test"):
        part[slice(*borders[name])] = name
    table.columns["split"] = part.tolist()
    config, _ = run.config(SETTINGS)
    config = config.updated(events={**config.events.model_dump(), "join": {"load": names}})
    train = np.array([table[name] for name in names])[:, slice(*borders["train"])]
    made = forecasts(run, config, table, "load", [])

    def scaled(values: list[dict[str, Any]]) -> np.ndarray:
        """[windows, channels, hours]"""
        result = np.array([[value[name] for name in names] for value in values])
        return (result - train.mean(1)[:, None]) / train.std(1)[:, None]

    true = scaled(made.truths)
    squared = {name: ((scaled(result) - true) ** 2).mean((1, 2)) for name, result in made.answers.items()}
    ends = intervals(squared, "linear", AHEAD, run.seed)
    return Figures(
        ours=float(squared["ours"].mean()),
        interval=ends["interval"],
        unit="MSE (less is better)",
        rival_name="linear, on the same windows",
        rival=float(squared["linear"].mean()) if run.rival else None,
        split={"part": run.split, "windows": len(true), "channels": len(names)},
        also={
            "difference_interval": ends.get("difference"),
            "mean_absolute_error": float(np.abs(scaled(made.answers["ours"]) - true).mean()),
            "rivals": {name: float(each.mean()) for name, each in squared.items() if name != "ours"},
            "kept_figures": {"DLinear": 0.375, "PatchTST": 0.370},
            **made.also,
        },
    )
