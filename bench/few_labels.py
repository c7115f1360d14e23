"""few_labels: one model pretrained on everything but the answer, then few labels; against the same trunk from nothing.

    python -m bench few_labels      about 40 minutes on 2 cores

Six data sets. Pretraining sees all columns of all training rows, without the column that will be asked. Then 100
training rows have an answer, and as many validation rows, which choose the step; five draws of them. Of easyvqa's
10,430 questions 1,000 have one: with 100 neither side learns to read both the picture and the question. One model of
molecules serves three of the six: it saw 8,000 of zinc250k and the training rows of the others, with nine numbers that
RDKit computes of each; both sides are given the SMILES alone. Of zinc250k RDKit's QED is asked. Each is judged as in
its own comparison and stands in `also`, with the interval of its gain over rows and draws; ours is the mean of the four
that ask for a class. The others are numbers: their mean absolute errors.
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
from onetrunk.core.encoder import class_names

ASKED = {  # column, metric, rows with an answer, steps of fine-tuning
    "adult": ("income", "auc", 100, 200),
    "compas": ("two_year_recid", "auc", 100, 200),
    "easyvqa": ("answer", "accuracy", 1000, 600),
    "bbbp": ("p_np", "auc", 100, 200),
    "esol": ("solubility", "mean absolute error", 100, 200),
    "zinc250k": ("drug-likeness", "mean absolute error", 100, 200),
}
_MOLECULES = ("bbbp", "esol", "zinc250k")
_DRAWS, _ZINC, _MOST_JUDGED, _RESAMPLES = 5, 8_000, 3_000, 1000
PRETRAIN: dict[str, Any] = {
    "steps": 800,
    "objectives": [{"kind": "masked", "documents": 64}, {"kind": "predict", "documents": 64}],
}  # of molecules
_LONGER = {"adult": 1500}  # steps of pretraining, where those of the data's own comparison, with all labels, are fewer


def compare(run: Run) -> Figures:
    molecules = _of_molecules(run)
    each = {name: _gain(run, name, *asked, molecules if name in _MOLECULES else None) for name, asked in ASKED.items()}
    classes = [result for result in each.values() if result["of"] != "mean absolute error"]
    ours, scratch = (float(np.mean([result[how] for result in classes])) for how in ("pretrained", "from nothing"))
    better = sum(result["gain_interval"][0] > 0 for result in each.values())
    return Figures(
        ours=ours,
        interval=None,
        unit="AUC or accuracy, mean of four data sets",
        rival_name="the same trunk from nothing",
        rival=scratch,
        split={"part": run.split, "draws": _DRAWS},
        without_pretraining=scratch,
        also={"better_beyond_the_interval": f"{better} of {len(each)}", **each},
    )


def _of_molecules(run: Run) -> Any:
    """One foundation model for the three data sets of molecules."""
    from onetrunk.training.pretrain import pretrain_model

    settings, _ = _source("esol", "")
    config, _ = run.config({**settings, "pretrain": PRETRAIN})
    data = _open(run, _described(), [], None, config)
    return pretrain_model(data, run.context(config, run.place / "molecules"))


def _open(run: Run, table: Any, ask: list[str], given: list[str] | None, config: Any) -> Any:

    return run.open(table, config, ask=ask, given=given)


def _gain(run: Run, name: str, ask: str, metric: str, labelled: int, steps: int, molecules: Any) -> dict[str, Any]:
    """Scores on the split `run.split`, pretrained and from nothing, and the gain with its 95 % interval. `molecules` is
    the foundation model, where it is not to be made of the very table."""
    from onetrunk.training.finetune import finetune_model
    from onetrunk.training.pretrain import pretrain_model
    from onetrunk.training.stage import extend_model, new_model

    settings, table = _source(name, ask)
    config, _ = run.config({**settings, "finetune": {"documents": 32, "steps": steps, "rate": 0.5}})
    given = ["smiles"] if name in _MOLECULES else None
    data = _open(run, table, [ask], given, config)
    if molecules is None:
        unlabelled = dataclasses.replace(data, ask=[])
        base = pretrain_model(unlabelled, run.context(config, run.place / name))
    else:
        base = molecules
    answers = list(data.table[ask])
    parts = {part: [i for i in index if answers[i] is not None] for part, index in data.split.indices().items()}
    dice = np.random.default_rng(run.seed)
    held = data.table.take(np.sort(dice.permutation(parts[run.split])[:_MOST_JUDGED]))
    answered: dict[str, list[np.ndarray]] = {"pretrained": [], "from nothing": []}  # each draw's rows
    for draw in range(_DRAWS):
        kept = {int(i) for part in ("train", "val") for i in dice.permutation(parts[part])[:labelled]}
        data.table.columns[ask] = [value if i in kept else None for i, value in enumerate(answers)]
        for how, result in answered.items():
            pretrained, place = how == "pretrained", run.place / f"{name}-{draw}-{how}"
            model = copy.deepcopy(base) if pretrained else new_model(data, config, run.seed + draw)
            if pretrained:
                extend_model(model, data, run.seed + draw, on_event=run.on_event)
            model = finetune_model(
                data, run.context(config, place, run.seed + draw), model, pretrained=pretrained
            ).model
            result.append(_judged(model, held, ask, data.given, metric))
    if metric == "auc":
        positive = np.array(model.evaluation(ask).target(held[ask])) == class_names(model.encoder(ask))[-1]

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
        "labelled": labelled,
        "rows": len(held),
    }


def _judged(model: Any, held: Any, ask: str, given: list[str], metric: str) -> np.ndarray:
    """Of every row the probability of the last class (auc), whether the class is right, or how far a number is off."""
    evaluation, answers, truths = model.evaluation(ask), model.answer(held, ask, given), held[ask]
    if metric == "auc":
        return np.array([a.probability[class_names(model.encoder(ask))[-1]] for a in answers])
    if metric == "accuracy":
        predicted = evaluation.target([a.value for a in answers])
        return (np.array(predicted) == np.array(evaluation.target(truths))).astype(float)
    return np.abs(np.array([a.value for a in answers], float) - np.array(truths, float))


def _source(name: str, ask: str) -> tuple[dict[str, Any], Any]:
    """A comparison's own settings, without those of fine-tuning, and its table; of molecules, esol's settings."""
    molecules = name in _MOLECULES
    bench, first = (importlib.import_module(f"bench.{of}") for of in (name, "esol" if molecules else name))
    settings = {key: value for key, value in first.SETTINGS.items() if key not in ("finetune", "ensemble")}
    if molecules:
        settings["columns"] = {"smiles": settings["columns"]["smiles"]} | {
            column: options for column, options in bench.SETTINGS["columns"].items() if column == ask
        }
    if name in _LONGER:
        settings["pretrain"] = settings["pretrain"] | {"steps": _LONGER[name]}
    if name == "zinc250k":
        return settings, _drug_likeness(ask)
    read: Callable[[Path], Any] = getattr(bench, "read", Path)
    return settings, read(data_folder(name))


def _zinc(part: str, count: int) -> list[str]:
    """So many molecules of the part."""
    smiles = gzip.decompress((data_folder("zinc250k") / f"{part}.smi.gz").read_bytes()).decode().split()
    return [smiles[i] for i in np.random.default_rng(0).permutation(len(smiles))[:count]]


def _drug_likeness(ask: str) -> dict[str, list[Any]]:
    """Molecules of zinc250k, those that pretraining takes being the training part, and RDKit's QED of each (Bickerton
    et al. 2012)."""
    from rdkit import Chem
    from rdkit.Chem import QED

    counts = {"train": _ZINC, "val": _MOST_JUDGED, "test": _MOST_JUDGED}
    smiles = {part: _zinc(part, count) for part, count in counts.items()}
    return {
        "smiles": [text for some in smiles.values() for text in some],
        ask: [float(QED.qed(Chem.MolFromSmiles(text))) for some in smiles.values() for text in some],
        "split": [part for part, some in smiles.items() for _ in some],
    }


def _described() -> dict[str, list[Any]]:
    """Molecules of all three, without the val and test parts, and what RDKit computes of each."""
    from rdkit import Chem, RDLogger
    from rdkit.Chem import Descriptors

    names = ["MolWt", "MolLogP", "TPSA", "NumHDonors", "NumHAcceptors", "NumRotatableBonds", "RingCount",
             "NumAromaticRings", "FractionCSP3"]  # fmt: skip
    smiles = _zinc("train", _ZINC)
    for name in ("bbbp", "esol"):
        frame = importlib.import_module(f"bench.{name}").read(data_folder(name))
        smiles += frame["smiles"][frame["split"] == "train"].tolist()
    RDLogger.DisableLog("rdApp.*")  # a molecule it reads, with a warning, is read
    result = [Chem.MolFromSmiles(text) for text in smiles]
    described = {name: [float(getattr(Descriptors, name)(molecule)) for molecule in result] for name in names}
    return {"smiles": smiles, **described, "split": ["train"] * len(smiles)}
