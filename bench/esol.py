"""esol: how well does a molecule dissolve in water? 910 training molecules; against ridge on five descriptors.

    python -m bench esol      about 5 minutes on 2 cores

RMSE of the log of the solubility (mol/L) of 98 molecules: the interval is wide. The answer is the mean of
models of several seeds. The rival sees five of the data's descriptors; ours sees the SMILES alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.common import Figures, Run

ASK = "measured log solubility in mols per litre"
DESCRIPTORS = ["Molecular Weight", "Number of H-Bond Donors", "Number of Rings", "Number of Rotatable Bonds",
               "Polar Surface Area"]  # fmt: skip

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 3, "heads": 4, "dropout": 0.1},
    "columns": {"smiles": {"type": "molecule", "bigrams": 1024}, "solubility": {"type": "number", "bars": 32}},
    "train": {"tensorboard": False, "lr": 2e-3},
    "pretrain": {
        "steps": 150,
        "objectives": [{"kind": "masked", "documents": 64}, {"kind": "predict", "documents": 64}],
    },
    "finetune": {"documents": 64, "steps": 350, "rate": 1.0},
    "ensemble": 1,
}


def read(folder: Path) -> pd.DataFrame:
    """Molecules, descriptors and solubility, with a column `split`."""
    parts = [pd.read_csv(folder / f"{part}.csv").assign(split=part) for part in ("train", "val", "test")]
    return pd.concat(parts, ignore_index=True).rename(columns={ASK: "solubility"})[
        ["smiles", *DESCRIPTORS, "solubility", "split"]
    ]


def ridge() -> Any:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV())


def compare(run: Run) -> Figures:
    from onetrunk.evaluation.intervals import interval, metric_draws
    from onetrunk.training.finetune import finetune_model
    from onetrunk.training.pretrain import pretrain_model
    from onetrunk.training.stage import new_model

    config, members = run.config(SETTINGS)
    frame = read(run.data())
    data = run.open(frame[["smiles", "solubility", "split"]], config, ask=["solubility"])
    train, held = (frame[frame["split"] == part] for part in ("train", run.split))
    truth = held["solubility"].to_numpy()
    foundation = pretrain_model(data, run.context(config, run.place / "foundation"))

    def tuned(pretrained: bool) -> np.ndarray:
        """The mean answer of models of several seeds."""
        answers = []
        for seed in range(run.seed, run.seed + members):
            model = copy.deepcopy(foundation) if pretrained else new_model(data, config, seed)
            place = run.place / f"{'pretrained' if pretrained else 'scratch'}-{seed}"
            model = finetune_model(data, run.context(config, place, seed), model, pretrained=pretrained).model
            predicted = model.answer({"smiles": list(held["smiles"])}, "solubility", ["smiles"])
            answers.append([answer.value for answer in predicted])
        return np.mean(answers, axis=0)

    def ends(of: Callable[[np.ndarray], float]) -> list[float]:
        bounds = interval(of(np.arange(len(truth))), metric_draws(of, len(truth), 500, run.seed))
        return [bounds.low, bounds.high]

    def rmse(answers: np.ndarray, rows: Any = slice(None)) -> float:
        return float(np.sqrt(np.mean((answers[rows] - truth[rows]) ** 2)))

    ours, scratch = tuned(True), tuned(False)
    also: dict[str, Any] = {"models": members, "without_pretraining_interval": ends(lambda i: rmse(scratch, i))}
    rival = None
    if run.rival:
        rival = ridge().fit(train[DESCRIPTORS], train["solubility"]).predict(held[DESCRIPTORS])
        also["difference_interval"] = ends(lambda i: rmse(ours, i) - rmse(rival, i))
    return Figures(
        ours=rmse(ours),
        interval=ends(lambda i: rmse(ours, i)),
        unit="RMSE (less is better)",
        rival_name="ridge on five descriptors",
        rival=None if rival is None else rmse(rival),
        split={
            "part": run.split,
            "rows": {part: int((frame["split"] == part).sum()) for part in ("train", "val", "test")},
        },
        without_pretraining=rmse(scratch),
        also=also,
    )
