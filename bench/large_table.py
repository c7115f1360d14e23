"""large_table: how much more memory any verb takes on a table of 10 GB than on 600 rows; at most 1.5 GB are allowed.

    python -m bench large_table                                 10 GB of CSV: some hours and 60 GB of disk on 2 cores
    python -m bench large_table --quick                         two verbs on a few MB; nothing is kept
    python -m bench large_table --set gb=30 --set csv=false     30 GB, as three files of compressed Parquet

A row is a text of about 2 kB, a number, a day and a class of three that the text begins with; a table has a file for
every 10 GB. Every verb that reads tables is given all of it, one after the other, each in a process of its own: what
counts is the private memory of it and its children (what is mapped from files is none). The models are the smallest
there are, and are made anew from either table. A run that was stopped goes on after the last verb that ended.
"""

from __future__ import annotations

import math
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import Figures, Run
from bench.large import TEXT_BYTES, watched, write_table
from onetrunk.core.config import with_settings
from onetrunk.core.events import Note

QUICK = ["gb=0.004", 'verbs=["inspect", "prepare"]']
WANTED = 1.5  # GB
LEAST_ROWS = 600
FILE_GB = 10
CLASSES = ("calm", "windy", "stormy")
_SHORT = ["--set", "columns.text.length=32", "--set", "train.tensorboard=false"]


def verbs(data: str, place: Path, budget: str) -> dict[str, list[str]]:
    """Words of the command line, in an order in which each finds what it needs."""
    store, foundation, model, new = (str(place / name) for name in ("store", "foundation", "model", "new"))
    made = ["--size", "nano", *_SHORT]
    answers = {kind: str(place / f"answers.{kind}") for kind in ("csv", "parquet")}
    return {
        "inspect": ["inspect", data],
        "plan": ["plan", data],
        "prepare": ["prepare", data, "--ask", "weather", "--out", store, *_SHORT[:2]],
        "pretrain": ["pretrain", store, "--out", foundation, "--budget", budget, *made],
        "finetune": ["finetune", store, "--from", foundation, "--ask", "weather", "--out", model, "--budget", budget],
        "train": ["train", data, "--ask", "weather", "--out", new, "--budget", budget, *made],
        "evaluate": ["evaluate", model, data, "--allow-equal-rows"],
        "predict to CSV": ["predict", model, data, "--out", answers["csv"]],
        "predict to Parquet": ["predict", model, data, "--out", answers["parquet"]],
        "embed": ["embed", model, data, "--out", str(place / "vectors.parquet")],
        "explain": ["explain", model, data],
        "audit": ["audit", model, data],
    }


def compare(run: Run) -> Figures:
    options = with_settings({"gb": 10.0, "csv": True, "budget": "60s", "verbs": []}, run.settings)
    peaks: dict[str, dict[str, float]] = {}
    minutes: dict[str, float] = {}
    size = 0.0
    for side, gb in (("small", 0.0), ("large", options["gb"])):
        (place := run.unfinished / side).mkdir(exist_ok=True)
        kind = "csv" if options["csv"] else "parquet"
        size = run.part(f"rows, {side}", partial(table, place, kind, gb, run.seed))["gb"]
        for name, words in verbs(str(place / f"rows*.{kind}"), place, options["budget"]).items():
            if options["verbs"] and name not in options["verbs"]:
                continue
            took = run.part(f"{name}, {side}", partial(_of_verb, words))
            peaks.setdefault(name, {})[side], minutes[name] = took["gb"], took["minutes"]
            run.on_event(Note(f"{name}, {side}: {took['gb']:.2f} GB, {took['minutes']:.1f} min"))
    more = {name: of["large"] - of["small"] for name, of in peaks.items()}
    return Figures(
        ours=max(more.values()),
        interval=[min(more.values()), max(more.values())],
        unit="GB of private memory more than on 600 rows, the most of any verb (less is better)",
        rival_name="allowed",
        rival=WANTED,
        split={"rows_gb": size, "format": kind},
        also={
            "peak_gb": peaks,
            "minutes": minutes,
            "holds": max(more.values()) <= WANTED,
            "interval_is": "least and most",
        },
    )


def _of_verb(words: list[str]) -> dict[str, float]:
    seconds, peak = watched([sys.executable, "-m", "onetrunk", *words, "--quiet"], {"HF_HUB_OFFLINE": "1"})
    return {"gb": peak / 1e9, "minutes": seconds / 60}


def table(place: Path, kind: str, gb: float, seed: int) -> dict[str, float]:
    """Writes about so many GB, at least enough rows to learn from, in files of one size; says how many it has become,
    those of Parquet before it is compressed."""
    rows = max(LEAST_ROWS, int(gb * 1e9 / (TEXT_BYTES + 40)))
    files = max(1, math.ceil(gb / FILE_GB))
    paths = [place / f"rows{n}.{kind}" for n in range(files)]
    with ProcessPoolExecutor(2) as others:
        return {"gb": sum(others.map(_file, paths, [rows // files] * files, range(seed, seed + files))) / 1e9}


def _file(path: Path, rows: int, seed: int) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    types = {"text": pa.string(), "price": pa.float64(), "day": pa.date32(), "weather": pa.string()}
    write_table(path, types, rows, seed, _columns, compression="zstd")
    if path.suffix == ".csv":
        return path.stat().st_size
    about = parquet.read_metadata(path)
    return sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups))


def _columns(texts: list[str], dice: np.random.Generator) -> dict[str, Any]:
    n = len(texts)
    classes = [CLASSES[c] for c in dice.integers(0, len(CLASSES), n)]
    return {
        "text": [f"{name} {text}" for name, text in zip(classes, texts, strict=True)],
        "price": np.round(dice.lognormal(3, 1, n), 2),
        "day": (np.datetime64("2020-01-01") + dice.integers(0, 2000, n)).astype("datetime64[D]"),
        "weather": classes,
    }
