"""amazon_video_games: which game next? Hit rate of the last purchase of 31,013 people, against SASRec's kept figures.

    python -m bench amazon_video_games      about 12 minutes on 2 cores

The last item of everyone with at least three is the test split's, the one before it the validation part's. The rival is
a kept figure, not run here: SASRec (arXiv 1808.09781, table 3, "Games"): HR@10 .7410, NDCG@10 .5360, the true item
among 100 others drawn at random from all 23,715 games, met in training or not. That protocol is ours too; a game never
met counts as last, which is a miss where it is the true one. Full ranking stands beside it. Popularity and item kNN are
run on the same rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.common import Figures, Run

RIVAL = {"hit_rate_10_of_101": 0.7410, "ndcg_10_of_101": 0.5360}

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 64, "layers": 2, "heads": 2, "dropout": 0.4},
    "columns": {"items": {"type": "items", "length": 50, "dropout": 0.4, "catalogue": 23_715}},
    "train": {"tensorboard": False},
    "finetune": {"documents": 512, "steps": 2500},
}


def read(folder: Path) -> dict[str, list[Any]]:
    """Everyone's items up to the one asked for, by part."""
    people: dict[str, list[int]] = {}
    for line in (folder / "Video.txt").read_text().splitlines():
        person, item = line.split()
        people.setdefault(person, []).append(int(item))
    rows = []
    for items in people.values():
        if len(items) < 3:
            rows.append((items, "train"))
        else:
            rows += [(items[:-2], "train"), (items[:-1], "val"), (items, "test")]
    return {"items": [items for items, _ in rows], "split": [part for _, part in rows]}


def compare(run: Run) -> Figures:
    from bench.recommend import compare_next

    return compare_next(
        run, SETTINGS, read(run.data()), metric="hit_rate_10_of_101", name="SASRec (kept figure)", kept=RIVAL
    )
