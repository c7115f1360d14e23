"""few_labels: one model pretrained on everything but the answer, then few labels; against the same trunk from nothing.

    python -m bench few_labels      about an hour on 2 cores

Eight data sets, with 10, 30, 100, 300 and 1,000 labels, as far as there are twice as many training rows; three draws of
each number. Pretraining sees all columns of all training rows, without the column that will be asked. From 100 labels
on as many validation rows, 300 at most, choose the step, and training stops when three looks at them in a row were no
better; with fewer labels the last step is taken. One model of molecules serves two of the eight: it saw 8,000 of
zinc250k and their training rows, with nine numbers that RDKit computes of each; both sides are given the SMILES alone.
What classes there are, and the scale of asked numbers, both sides know from all training rows.

`also` holds the curve of every set, with the interval of each gain over rows and draws. Ours is the mean over the sets
that ask for a class, with 100 labels; the others' metric is the mean absolute error.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import gzip
import importlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import Figures, Run, data_folder
from onetrunk.core.encoder import class_names

ASKED = {  # column, metric
    "adult": ("income", "auc"),
    "compas": ("two_year_recid", "auc"),
    "heart_cleveland": ("target", "auc"),
    "ag_news": ("label", "accuracy"),
    "chnsenticorp_hotel": ("label", "accuracy"),
    "mnist_10k": ("label", "accuracy"),
    "bbbp": ("p_np", "auc"),
    "esol": ("solubility", "mean absolute error"),
}
LABELS = (10, 30, 100, 300, 1000)
_MOLECULES = ("bbbp", "esol")
_DRAWS, _ZINC, _MOST_JUDGED, _RESAMPLES = 3, 8_000, 1_000, 1000
_OURS = 100  # labels of the figure that stands for all
_CHOSEN_FROM, _MOST_CHOOSING = 100, 300  # labels from which validation rows choose the step, and how many at most
_PATIENCE = 3  # validations, of ten in a run, without a better one before it stops
_STEPS_OF_TEN = 60  # of fine-tuning; of more labels by the root of their number
PRETRAIN: dict[str, Any] = {
    "steps": 800,
    "objectives": [{"kind": "masked", "documents": 64}, {"kind": "predict", "documents": 64}],
}  # of molecules
_LONGER = {"adult": 1500}  # steps of pretraining, where those of the data's own comparison, with all labels, are fewer


def compare(run: Run) -> Figures:
    molecules = functools.cache(partial(_of_molecules, run))
    each = {
        name: run.part(name, partial(_curve, run, name, *asked, molecules if name in _MOLECULES else None))
        for name, asked in ASKED.items()
    }
    classes = [curve["labels"][str(_OURS)] for curve in each.values() if curve["of"] != "mean absolute error"]
    ours, scratch = (float(np.mean([point[how] for point in classes])) for how in ("pretrained", "from nothing"))
    points = [point for curve in each.values() for point in curve["labels"].values()]
    better, worse = (sum(sign * point["gain_interval"][end] > 0 for point in points) for sign, end in ((1, 0), (-1, 1)))
    return Figures(
        ours=ours,
        interval=None,
        unit=f"AUC or accuracy with {_OURS} labels, mean of {len(classes)} data sets",
        rival_name="the same trunk from nothing",
        rival=scratch,
        split={"part": run.split, "draws": _DRAWS},
        without_pretraining=scratch,
        also={
            "better_beyond_the_interval": f"{better} of {len(points)}",
            "worse_beyond_the_interval": f"{worse} of {len(points)}",
            **each,
        },
    )


def _of_molecules(run: Run) -> Any:
    """One foundation model for both data sets of molecules."""
    from onetrunk.training.pretrain import pretrain_model

    settings, _ = _source("esol", "")
    config, _ = run.config({**settings, "pretrain": PRETRAIN})
    data = run.open(_described(), config, ask=[], given=None)
    return pretrain_model(data, run.context(config, run.place / "molecules"))


def _curve(run: Run, name: str, ask: str, metric: str, molecules: Callable[[], Any] | None) -> dict[str, Any]:
    """For each number of labels the scores on the split `run.split`, pretrained and from nothing, and the gain with its
    95 % interval. `molecules` makes the foundation model, where it is not to be made of the very table."""
    from onetrunk.inference.model_folder import Task
    from onetrunk.training.finetune import labelled_rows, tune, validation_rows
    from onetrunk.training.pretrain import pretrain_model
    from onetrunk.training.stage import encode_rows, extend_model, new_model

    settings, table = _source(name, ask)
    config, _ = run.config({**settings, "finetune": {"documents": 32, "rate": 0.5}})
    data = run.open(table, config, ask=[ask], given=["smiles"] if name in _MOLECULES else None)
    if molecules is not None:
        base = molecules()
    else:
        base = pretrain_model(dataclasses.replace(data, ask=[]), run.context(config, run.place / name))
    extend_model(base := copy.deepcopy(base), data, run.seed, on_event=run.on_event)
    task = Task(list(data.given), list(data.ask))
    dice = np.random.default_rng(run.seed)
    held = data.rows(run.split)
    present = np.flatnonzero([value is not None for value in held[ask]])
    held = held.take(np.sort(dice.permutation(present)[:_MOST_JUDGED]))
    validation = validation_rows(data, task)
    stores = {how: encode_rows(base if how else new_model(data, config, 0), data, "train", config) for how in (1, 0)}
    labelled, points = labelled_rows(stores[0], task), {}
    for count in (count for count in LABELS if 2 * count <= len(labelled)):
        answered: dict[str, list[np.ndarray]] = {"pretrained": [], "from nothing": []}  # each draw's rows
        tuning = config.finetune.model_copy(update={"steps": round(_STEPS_OF_TEN * math.sqrt(count / 10))})
        recipe = config.model_copy(update={"finetune": tuning, "train": config.train.updated(patience=_PATIENCE)})
        for draw in range(_DRAWS):
            rows = np.sort(dice.permutation(labelled)[:count])
            choosing = dice.permutation(len(validation))[: min(count, _MOST_CHOOSING)]
            choosers = validation.take(np.sort(choosing)) if count >= _CHOSEN_FROM else None
            for how, result in answered.items():
                pretrained, place = how == "pretrained", run.place / f"{name}-{count}-{draw}-{how}"
                model = copy.deepcopy(base) if pretrained else new_model(data, config, run.seed + draw)
                context = run.context(recipe, place, run.seed + draw)
                tune(model, stores[pretrained], rows, task, context, pretrained, choosers)
                result.append(_judged(model, held, ask, data.given, metric))
        points[str(count)] = _gain(answered, _positive(base, held, ask), metric, run.seed)
    return {"of": metric, "rows": len(held), "labels": points}


def _positive(model: Any, held: Any, ask: str) -> np.ndarray:
    """Which rows have the last class, for AUC."""
    if (names := class_names(model.encoder(ask))) is None:
        return np.zeros(len(held), dtype=bool)
    return np.array(model.evaluation(ask).target(held[ask])) == names[-1]


def _gain(answered: dict[str, list[np.ndarray]], positive: np.ndarray, metric: str, seed: int) -> dict[str, Any]:
    """Means over draws, the gain, and its interval by resampled draws and rows."""

    def score(how: str, draws: np.ndarray, rows: np.ndarray) -> float:
        if metric == "auc":
            from sklearn.metrics import roc_auc_score

            return float(np.mean([roc_auc_score(positive[rows], answered[how][d][rows]) for d in draws]))
        return float(np.mean([answered[how][d][rows].mean() for d in draws]))

    def gain(draws: np.ndarray, rows: np.ndarray) -> float:
        more = score("pretrained", draws, rows) - score("from nothing", draws, rows)
        return -more if metric == "mean absolute error" else more

    some, rows = np.random.default_rng(seed), len(answered["pretrained"][0])
    resampled = [gain(some.integers(0, _DRAWS, _DRAWS), some.integers(0, rows, rows)) for _ in range(_RESAMPLES)]
    whole = np.arange(_DRAWS), np.arange(rows)
    return {
        **{how: score(how, *whole) for how in answered},
        "gain": gain(*whole),
        "gain_interval": [float(x) for x in np.quantile(resampled, [0.025, 0.975])],
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
    read: Callable[[Path], Any] = getattr(bench, "read", Path)
    return settings, read(data_folder(name))


def _described() -> dict[str, list[Any]]:
    """Molecules of zinc250k and of both data sets, without the val and test parts, and what RDKit computes of each."""
    from rdkit import Chem, RDLogger
    from rdkit.Chem import Descriptors

    names = ["MolWt", "MolLogP", "TPSA", "NumHDonors", "NumHAcceptors", "NumRotatableBonds", "RingCount",
             "NumAromaticRings", "FractionCSP3"]  # fmt: skip
    every = gzip.decompress((data_folder("zinc250k") / "train.smi.gz").read_bytes()).decode().split()
    smiles = [every[i] for i in np.random.default_rng(0).permutation(len(every))[:_ZINC]]
    for name in _MOLECULES:
        frame = importlib.import_module(f"bench.{name}").read(data_folder(name))
        smiles += frame["smiles"][frame["split"] == "train"].tolist()
    RDLogger.DisableLog("rdApp.*")  # a molecule it reads, with a warning, is read
    result = [Chem.MolFromSmiles(text) for text in smiles]
    described = {name: [float(getattr(Descriptors, name)(molecule)) for molecule in result] for name in names}
    return {"smiles": smiles, **described, "split": ["train"] * len(smiles)}
