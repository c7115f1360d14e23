"""bbbp: does a molecule cross the blood-brain barrier? 1,631 training molecules; against Morgan fingerprints.

    python -m bench bbbp      about 8 minutes on 2 cores

AUC of 204 molecules whose scaffolds are in no other part. The answer is the mean of models of
several seeds. The rival is logistic regression on Morgan fingerprints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from bench.common import Figures, Run

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 3, "heads": 4, "dropout": 0.2},
    "columns": {"smiles": {"type": "molecule", "bigrams": 1024}, "p_np": {"type": "category", "dropout": 0.2}},
    "train": {"tensorboard": False, "lr": 2e-3},
    "pretrain": {
        "steps": 150,
        "objectives": [{"kind": "masked", "documents": 64}, {"kind": "predict", "documents": 64}],
    },
    "finetune": {"documents": 64, "steps": 250, "metric": "auc", "rate": 1.0},
    "ensemble": 1,
}


def read(folder: Path) -> pd.DataFrame:
    """Molecules and classes, with a column `split`."""
    parts = [pd.read_csv(folder / f"{part}.csv").assign(split=part) for part in ("train", "val", "test")]
    return pd.concat(parts, ignore_index=True)


def morgan() -> Any:
    """Logistic regression on the fingerprints that evidence gives rivals of a molecule."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    from onetrunk.columns.molecule.encoder import MoleculeEncoder
    from onetrunk.columns.molecule.evaluation import MoleculeEvaluation

    fingerprints = MoleculeEvaluation(MoleculeEncoder()).features()
    smiles = FunctionTransformer(lambda frame: list(frame["smiles"]))
    return make_pipeline(smiles, fingerprints, LogisticRegression(max_iter=2000))


def compare(run: Run) -> Figures:
    from bench.tables import Rival, compare_classes

    rival = Rival("logistic regression on Morgan fingerprints", morgan)
    return compare_classes(run, SETTINGS, ask="p_np", metric="auc", rival=rival, read=read)
