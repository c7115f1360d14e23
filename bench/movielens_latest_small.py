"""movielens_latest_small: which film next? The latest film of each of 610 people, against popularity and item kNN.

    python -m bench movielens_latest_small      about 6 minutes on 2 cores

The data's parts: everyone's latest tenth is the test split, the tenth before it the validation part. One film a person
is asked for, the first of the part, from all before it: hit rate among the first 10 of the whole catalogue. Both rivals
are run on the same rows; the better one is the rival. With 610 people the interval is wide.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from bench.common import Figures, Run

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 64, "layers": 2, "heads": 2, "dropout": 0.3},
    "columns": {"items": {"type": "items", "length": 100, "dropout": 0.3, "item": "film", "small": 20_000}},
    "train": {"tensorboard": False},
    "finetune": {"documents": 64, "steps": 400},
}


def read(folder: Path) -> dict[str, list[Any]]:
    """Everyone's films, with moments, up to the first of the part that is asked for."""
    people: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for part in ("train", "val", "test"):
        with (folder / f"ratings_{part}.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                mine = people.setdefault(row["userId"], {"train": [], "val": [], "test": []})
                mine[part].append((int(row["timestamp"]), int(row["movieId"])))
    histories, parts = [], []
    for mine in people.values():
        seen: list[tuple[int, int]] = []
        for part, events in mine.items():
            events = sorted(events)
            asked = seen + (events if part == "train" else events[:1])
            if asked and events:
                histories.append({"film": [film for _, film in asked], "time": [moment for moment, _ in asked]})
                parts.append(part)
            seen += events
    return {"items": histories, "split": parts}


def compare(run: Run) -> Figures:
    from bench.recommend import compare_next

    return compare_next(run, SETTINGS, read(run.data()), metric="hit_rate_10")
