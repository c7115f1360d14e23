"""compas: is a defendant charged again within two years? Against gradient boosting.

    python -m bench compas      about 4 minutes on 2 cores

AUC on 712 people. Given is what is known at screening (age, sex, race, charge, earlier offences), and not the score
that the court was shown, nor what happened later.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from bench.common import Figures, Run

KNOWN = ["age", "sex", "race", "juv_fel_count", "juv_misd_count", "juv_other_count", "priors_count",
         "c_charge_degree", "c_charge_desc"]  # fmt: skip
SETTINGS: dict[str, Any] = {
    "trunk": {"width": 64, "layers": 2, "heads": 4, "dropout": 0.1},
    "columns": {"two_year_recid": {"type": "category", "dropout": 0.3}},
    "train": {"lr": 2e-3, "muon_lr": 0.005, "tensorboard": False},
    "pretrain": {
        "steps": 300,
        "objectives": [{"kind": "masked", "documents": 96}, {"kind": "predict", "documents": 64}],
    },
    "finetune": {"documents": 128, "epochs": 6, "metric": "auc"},
    "ensemble": 3,
}


def read(folder: Path) -> dict[str, list[Any]]:
    """What is known of each, whether they were charged again, and their part."""
    rows = []
    for part in ("train", "val", "test"):
        with (folder / f"{part}.csv").open(encoding="utf-8", newline="") as file:
            rows += [{**row, "split": part} for row in csv.DictReader(file)]
    counts = [name for name in KNOWN if name == "age" or name.endswith("count")]
    columns = {name: [row[name] or None for row in rows] for name in (*KNOWN, "two_year_recid", "split")}
    return {**columns, **{name: [int(value) for value in columns[name]] for name in counts}}


def compare(run: Run) -> Figures:
    from bench.tables import Rival, compare_classes, gradient_boosting

    rival = Rival("gradient boosting", gradient_boosting)
    return compare_classes(run, SETTINGS, ask="two_year_recid", metric="auc", rival=rival, read=read)
