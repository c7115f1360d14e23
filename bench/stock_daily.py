"""stock_daily: the next trading day's close of four stocks, against the last close.

    python -m bench stock_daily      a few minutes on 2 cores

The parts are the data's own (before 2017, to the middle of 2017, after it); each day is answered from that stock's days
before it alone: close, open, high and low. The error is the mean absolute one of the median forecast, in per cent of
the last close, so that each stock counts alike.
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run

SEEN = 32
SETTINGS: dict[str, Any] = {
    "trunk": {"width": 32, "layers": 2, "heads": 2, "dropout": 0.2},
    "events": {
        "by": "symbol", "order": "date", "window": SEEN + 1, "ahead": 1, "least": SEEN,
        "join": {"price": ["close", "open", "high", "low"]},
    },
    "columns": {"price": {"type": "series", "horizon": 1, "length": SEEN, "patch": 8, "period": 1, "paths": False}},
    "train": {"optimizer": "adamw", "lr": 1e-3, "tensorboard": False},
    "finetune": {"documents": 128, "steps": 300},
}  # fmt: skip


def compare(run: Run) -> Figures:
    from bench.forecasts import next_day
    from onetrunk.data.table import read

    table = read(run.data())
    config, _ = run.config(SETTINGS)
    unit = "mean absolute error, % of the last close"
    return next_day(run, config, table, "price", [], close="close", unit=unit, relative=True)
