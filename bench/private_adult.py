"""private_adult: does a person earn over 50,000 a year, learnt with differential privacy at epsilon 1, 3 and 8?

    python -m bench private_adult      about 15 minutes on 2 cores

Accuracy on the official test part (16,281 people); `ours` is that at epsilon 3. The rival is Opacus on the same rows
with the same promise (delta 1e-5): a network of one hidden layer on standardised numbers and one-hot classes. How
numbers are scaled and which classes there are is learnt from the rows without privacy, by both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from bench.common import Figures, Run, data_folder
from bench.private_rows import DELTA, finetuned, labels, opacus_rightness, rightness
from bench.tables import ends
from onetrunk.training.open_data import Data

EPSILONS, MAIN = (1.0, 3.0, 8.0), 3.0
SETTINGS: dict[str, Any] = {
    "trunk": {"width": 32, "layers": 1, "heads": 2},
    "train": {"lr": 5e-3, "ema": 0.9, "weight_decay": 0.0, "warmup": 0.0, "schedule": "linear", "tensorboard": False},
    "finetune": {"documents": 2048, "steps": 100},
    "private": {"eps": MAIN, "delta": DELTA, "clip": 1.0},
}
QUICK = ["finetune.steps=2", "finetune.documents=32"]
_RESAMPLES = 200


def compare(run: Run) -> Figures:
    config, _ = run.config(SETTINGS)
    data = run.open(data_folder("adult"), config, ask=["income"])
    test = data.rows(run.split)
    draws = np.random.default_rng(run.seed).integers(0, len(test), (_RESAMPLES, len(test)))
    right: dict[str, dict[float, np.ndarray]] = {"ours": {}, "Opacus": {}}
    for eps in EPSILONS:
        model = finetuned(run, data, config, eps)
        right["ours"][eps] = rightness(model, test, "income", data.given)
        if run.rival:
            train_x, test_x = _numbers(data, run.split)
            train_y, test_y = (labels(model, data.rows(part), "income") for part in ("train", run.split))
            network = nn.Sequential(nn.Linear(train_x.shape[1], 64), nn.ReLU(), nn.Linear(64, 2))
            right["Opacus"][eps] = opacus_rightness(
                network, (train_x, train_y), (test_x, test_y),
                eps=eps, rate=0.2, rows=1024, epochs=12, clip=1.0, seed=run.seed,
            )  # fmt: skip
    means = {name: {eps: each[draws].mean(1) for eps, each in own.items()} for name, own in right.items()}
    at: dict[str, dict[str, Any]] = {}
    for eps in EPSILONS:
        at[f"epsilon {eps:g}"] = {name: float(own[eps].mean()) for name, own in right.items() if own}
        at[f"epsilon {eps:g}"] |= {f"{name}_interval": ends(own[eps]) for name, own in means.items() if own}
    also: dict[str, Any] = {"accuracy": at}
    if run.rival:
        also["difference_interval"] = ends(means["ours"][MAIN] - means["Opacus"][MAIN])
    return Figures(
        ours=float(right["ours"][MAIN].mean()),
        interval=ends(means["ours"][MAIN]),
        unit="accuracy at epsilon 3",
        rival_name="Opacus, one hidden layer",
        rival=float(right["Opacus"][MAIN].mean()) if run.rival else None,
        split={"part": run.split, "rows": {name: len(index) for name, index in data.split.indices().items()}},
        also=also,
    )


def _numbers(data: Data, part: str) -> list[np.ndarray]:
    """Training rows and those of the part, float32: standardised numbers and one-hot classes."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    train, rows = (data.rows(name).select(data.given).frame().infer_objects() for name in ("train", part))
    words = make_column_selector(dtype_include=[object, "str"])
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), words), remainder=numbers
    ).fit(train)
    return [columns.transform(each).astype(np.float32) for each in (train, rows)]
