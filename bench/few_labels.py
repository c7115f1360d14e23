"""few_labels: one model pretrained on everything but the answer, then 100 labels; against the same trunk from nothing.

    python -m bench few_labels      about 30 minutes on 2 cores

Five data sets. Pretraining sees all columns of all training rows, without the column that will be asked. Then 100
training rows have an answer, and 100 validation rows, which choose the step; five draws of them. Of molecules,
pretraining also sees 8,000 of zinc250k, and nine numbers that RDKit computes of each; both sides are given the SMILES
alone. Each is judged as in its own comparison and stands in `also`, with the interval of its gain over rows and draws;
ours is the mean of the four that ask for a class. The fifth, esol, is a number: its mean absolute error.
"""

from __future__ import annotations

import copy
import dataclasses
import gzip
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import Figures, Run, data_folder

ASKED = {
    "adult": ("income", "auc"),
    "compas": ("two_year_recid", "auc"),
    "easyvqa": ("answer", "accuracy"),
    "bbbp": ("p_np", "auc"),
    "esol": ("solubility", "mean absolute error"),
}
_MOLECULES = ("bbbp", "esol")
_LABELLED, _DRAWS, _ZINC, _MOST_JUDGED, _RESAMPLES = 100, 5, 8_000, 3_000, 1000
FINETUNE: dict[str, Any] = {"documents": 32, "steps": 200, "rate": 0.5}
PRETRAIN: dict[str, Any] = {
    "steps": 800,
    "objectives": [{"kind": "masked", "documents": 64}, {"kind": "predict", "documents": 64}],
}  # of molecules


def compare(run: Run) -> Figures:
    each = {name: _gain(run, name, *asked) for name, asked in ASKED.items()}
    classes = [found for found in each.values() if found["of"] != "mean absolute error"]
    ours, scratch = (float(np.mean([found[how] for found in classes])) for how in ("pretrained", "from nothing"))
    better = sum(found["gain_interval"][0] > 0 for found in each.values())
    return Figures(
        ours=ours,
        interval=None,
        unit="AUC or accuracy, mean of four data sets",
        rival_name="the same trunk from nothing",
        rival=scratch,
        split={"part": run.part, "labelled": _LABELLED, "draws": _DRAWS},
        without_pretraining=scratch,
        also={"better_beyond_the_interval": f"{better} of {len(each)}", **each},
    )


def _gain(run: Run, name: str, ask: str, metric: str) -> dict[str, Any]:
    """Scores on the part `run.part`, pretrained and from nothing, and the gain with its 95 % interval."""
    from onetrunk.verbs import _stages
    from onetrunk.verbs._setup import open_data

    bench = importlib.import_module(f"bench.{name}")
    settings = {key: value for key, value in bench.SETTINGS.items() if key not in ("finetune", "ensemble")}
    molecules = name in _MOLECULES
    config, _ = run.config(
        {**settings, **({"pretrain": PRETRAIN} if molecules else {}), "finetune": FINETUNE},
    )
    read: Callable[[Path], Any] = getattr(bench, "read", Path)
    table = _described(read(data_folder(name)), ask) if molecules else read(data_folder(name))
    data = open_data(
        table, ask=[ask], given=None, ignore=None, types=None, map=None, split_spec="given:split", seed=run.seed,
        allow_equal_rows=True, network=False, config=config, console=run.console,
    )  # fmt: skip
    unlabelled = dataclasses.replace(data, ask=[])
    base = _stages.pretrain(unlabelled, config, run.place / name, run.seed, None, None, 0.01, run.console)
    task = dataclasses.replace(data, given=["smiles"]) if molecules else data
    answers = list(data.table[ask])
    parts = {part: [i for i in index if answers[i] is not None] for part, index in data.split.parts().items()}
    dice = np.random.default_rng(run.seed)
    held = data.table.take(np.sort(dice.permutation(parts[run.part])[:_MOST_JUDGED]))
    answered: dict[str, list[np.ndarray]] = {"pretrained": [], "from nothing": []}  # each draw's rows
    for draw in range(_DRAWS):
        kept = {int(i) for part in ("train", "val") for i in dice.permutation(parts[part])[:_LABELLED]}
        task.table.columns[ask] = [value if i in kept else None for i, value in enumerate(answers)]
        for how, found in answered.items():
            pretrained, place = how == "pretrained", run.place / f"{name}-{draw}-{how}"
            model = copy.deepcopy(base) if pretrained else _stages.build(task, config, run.seed + draw)
            if pretrained:
                _stages.adopt(model, task, run.console)
            model, _ = _stages.finetune(task, config, place, run.seed + draw, model, pretrained, 0.01, run.console)
            found.append(_judged(model, held, ask, task.given, metric))
    if metric == "auc":
        codec = model.codec(ask)
        positive = np.array(codec.target(held[ask])) == codec.class_names()[-1]

    def score(how: str, draws: np.ndarray, rows: np.ndarray) -> float:
        if metric == "auc":
            from sklearn.metrics import roc_auc_score

            return float(np.mean([roc_auc_score(positive[rows], answered[how][d][rows]) for d in draws]))
        return float(np.mean([answered[how][d][rows].mean() for d in draws]))

    def gain(draws: np.ndarray, rows: np.ndarray) -> float:
        more = score("pretrained", draws, rows) - score("from nothing", draws, rows)
        return -more if metric == "mean absolute error" else more

    some = np.random.default_rng(run.seed)
    resampled = [
        gain(some.integers(0, _DRAWS, _DRAWS), some.integers(0, len(held), len(held))) for _ in range(_RESAMPLES)
    ]
    whole = np.arange(_DRAWS), np.arange(len(held))
    return {
        "of": metric,
        **{how: score(how, *whole) for how in answered},
        "gain": gain(*whole),
        "gain_interval": [float(x) for x in np.quantile(resampled, [0.025, 0.975])],
        "rows": len(held),
    }


def _judged(model: Any, held: Any, ask: str, given: list[str], metric: str) -> np.ndarray:
    """Of every row the probability of the last class (auc), whether the class is right, or how far a number is off."""
    codec, answers, truths = model.codec(ask), model.answer(held, ask, given), held[ask]
    if metric == "auc":
        return np.array([a.probability[codec.class_names()[-1]] for a in answers])
    if metric == "accuracy":
        found = codec.target([a.value for a in answers])
        return (np.array(found) == np.array(codec.target(truths))).astype(float)
    return np.abs(np.array([a.value for a in answers], float) - np.array(truths, float))


def _described(frame: Any, ask: str) -> dict[str, list[Any]]:
    """SMILES, what RDKit computes of each, the answer and the part; molecules of zinc250k, without answers, beside."""
    from rdkit import Chem, RDLogger
    from rdkit.Chem import Descriptors

    names = ["MolWt", "MolLogP", "TPSA", "NumHDonors", "NumHAcceptors", "NumRotatableBonds", "RingCount",
             "NumAromaticRings", "FractionCSP3"]  # fmt: skip
    zinc = gzip.decompress((data_folder("zinc250k") / "train.smi.gz").read_bytes()).decode().split()
    zinc = [zinc[i] for i in np.random.default_rng(0).permutation(len(zinc))[:_ZINC]]
    smiles = [*frame["smiles"], *zinc]
    RDLogger.DisableLog("rdApp.*")  # a molecule it reads, with a warning, is read
    found = [Chem.MolFromSmiles(text) for text in smiles]
    return {
        "smiles": smiles,
        **{name: [float(getattr(Descriptors, name)(molecule)) for molecule in found] for name in names},
        ask: [*frame[ask], *[None] * _ZINC],
        "split": [*frame["split"], *["train"] * _ZINC],
    }
