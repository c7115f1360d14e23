"""predict_table: answering a million rows of adult, rows/s; against gradient boosting's predict_proba.

    python -m bench predict_table             about 6 minutes on 2 cores
    python -m bench predict_table --quick     a small run; nothing is kept

The rows are adult's, again and again, with ages and hours moved a little. Ours is a model that `train` made of adult in
half a minute; it reads the rows from a Parquet file and writes them to another with their answers, as `predict` does.
The rival's is fitted on the same rows; it reads the same file, and writes its answers to another. Beside them: where
our seconds go, of a part of the rows.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bench.common import Figures, Run

QUICK = ["rows=400", "sample=200", "fitted=400", "budget=1s", "size=nano", "rounds=1"]
ASK = "income"


class Amounts(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rows: int = Field(1_000_000, ge=10)
    sample: int = Field(20_000, ge=10)  # of which it is told where the seconds go
    fitted: int = Field(1_000_000, ge=100)  # rows that both may learn from, at most
    budget: str = "30s"
    size: str = "auto"
    rounds: int = Field(1, ge=1)


def adult(folder: str, part: str) -> Any:
    import pandas as pd

    return pd.read_csv(Path(folder) / f"{part}.csv")


def many(frame: Any, rows: int) -> Any:
    """So many rows made of these: numbers moved by one or two, at random."""
    dice = np.random.default_rng(0)
    out = frame.iloc[np.arange(rows) % len(frame)].reset_index(drop=True)
    for name in out.select_dtypes("number").columns:
        out[name] = (out[name] + dice.integers(0, 3, rows)).astype(frame[name].dtype)
    return out


def ours(folder: str, rows: int, sample: int, fitted: int, budget: str, size: str, place: str) -> dict[str, Any]:
    import onetrunk

    here = Path(place)
    train = adult(folder, "train").head(fitted)
    settings = [] if size == "auto" else [f"size={size}"]
    onetrunk.train(train, ask=ASK, out=str(here / "model"), budget=budget, quiet=True, settings=settings)
    table = many(adult(folder, "test").drop(columns=ASK), rows)
    table.to_parquet(here / "rows.parquet")
    start = time.perf_counter()
    onetrunk.predict(str(here / "model"), str(here / "rows.parquet"), out=str(here / "answers.parquet"), quiet=True)
    seconds = time.perf_counter() - start
    return {"rows_per_s": rows / seconds, "seconds": seconds, **shares(str(here / "model"), table.head(sample))}


def shares(folder: str, frame: Any) -> dict[str, float]:
    """Seconds of each part of answering some rows."""
    import onetrunk
    from onetrunk.core.answer import Sampling
    from onetrunk.data.ledger import Ledger
    from onetrunk.data.prepare import encode
    from onetrunk.data.table import read
    from onetrunk.inference.answer_rows import answer
    from onetrunk.inference.model_folder import answer_columns
    from onetrunk.inference.wide_outputs import add_wide

    model = onetrunk.load(folder)
    given = model.task([ASK]).given
    out, moment = {}, time.perf_counter()

    def passed(name: str) -> None:
        nonlocal moment
        out[f"{name}_seconds"] = time.perf_counter() - moment
        moment = time.perf_counter()

    table = model.as_learnt(read(frame))
    passed("reading")
    columns = [column for name, column in model.columns.items() if name in given]
    store = encode(table, columns, model.network.encoders, Ledger())
    passed("encoding")
    add_wide(model.network, store, given, ASK)
    passed("wide")
    answers = answer(model.network, store, given, ASK, Sampling())
    passed("answering")
    answer_columns(ASK, answers, model.encoder(ASK))
    passed("table_of_answers")
    return out


def rival(folder: str, rows: int, fitted: int, place: str) -> dict[str, float]:
    import pandas as pd

    from bench.tables import gradient_boosting

    here = Path(place)
    train = adult(folder, "train").head(fitted)
    model = gradient_boosting().fit(train.drop(columns=ASK), train[ASK])
    many(adult(folder, "test").drop(columns=ASK), rows).to_parquet(here / "rows.parquet")
    start = time.perf_counter()
    table = pd.read_parquet(here / "rows.parquet")
    read = time.perf_counter()
    p = model.predict_proba(table)
    predicted = time.perf_counter()
    table.assign(**{f"{ASK}_p_{name}": p[:, i] for i, name in enumerate(model.classes_)}).to_parquet(
        here / "answers.parquet"
    )
    seconds = time.perf_counter() - start
    return {"rows_per_s": rows / seconds, "seconds": seconds, "predict_proba_seconds": predicted - read}


def compare(run: Run) -> Figures:
    from bench.common import data_folder
    from bench.speed import alternate, amounts_of, figures

    amounts, folder = amounts_of(run, Amounts), str(data_folder("adult"))
    shared = {"folder": folder, "rows": amounts.rows, "fitted": amounts.fitted}
    own = {"sample": amounts.sample, "budget": amounts.budget, "size": amounts.size}
    sides = {"ours": {"call": "bench.predict_table:ours", **shared, **own}}
    if run.rival:
        sides["gradient boosting"] = {"call": "bench.predict_table:rival", **shared}
    found = alternate(run, sides, amounts.rounds)
    parts = {name: value for name, value in found["ours"][0].items() if name.endswith("_seconds")}
    parts.pop("whole_seconds")
    limit = max(parts, key=lambda name: parts[name])
    return figures(
        found, "rows_per_s", "rows/s", faster_is_more=True, split=amounts.model_dump(),
        limited_by=f"{limit.removesuffix('_seconds')} ({parts[limit] / sum(parts.values()):.0%} of the seconds)",
    )  # fmt: skip
