"""vix_daily: the next trading day's close of a volatility index, against the last close.

    python -m bench vix_daily      a few minutes on 2 cores

Days before 2016 are for training, 2016 to 2018 for validation, from 2019 on for the test; each day is answered from the
days before it alone: its close, open, high and low. The error is the mean absolute one, of the median forecast.
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run

SEEN = 64
SETTINGS: dict[str, Any] = {
    "trunk": {"width": 32, "layers": 2, "heads": 2, "dropout": 0.2},
    "events": {
        "order": "DATE", "window": SEEN + 1, "ahead": 1, "least": SEEN,
        "join": {"index": ["CLOSE", "OPEN", "HIGH", "LOW"]},
    },
    "columns": {"index": {"type": "series", "horizon": 1, "length": SEEN, "patch": 8, "period": 1, "paths": False}},
    "train": {"optimizer": "adamw", "lr": 1e-3, "tensorboard": False},
    "finetune": {"documents": 128, "steps": 400},
}  # fmt: skip


def compare(run: Run) -> Figures:
    from bench.forecasts import next_day
    from onetrunk.data.table import read

    table = read(run.data() / "vix-daily.csv")
    days = [str(day)[:10] for day in table["DATE"]]
    part = ["train" if day < "2016" else "val" if day < "2019" else "test" for day in days]
    table.columns["split"] = part
    config, _ = run.config(SETTINGS)
    return next_day(run, config, table, "index", [], close="CLOSE", unit="mean absolute error, index points")
