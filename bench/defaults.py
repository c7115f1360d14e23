"""defaults: `onetrunk train` as a user calls it, without settings, on 21 data sets; against what people would pick.

    python -m bench defaults                   about an hour and a half on 2 cores
    python -m bench.defaults adult ramen       these alone (nothing is kept); --split val while building

Every set is a process of its own with two threads and one seed. Beside ours: the simple baselines of the evidence, and
on tables histogram gradient boosting on skrub's TableVectorizer and CatBoost with text features (extra `bench`), all
learnt from the same training rows and judged on the same test rows. `ours` is the share of sets where the default is
level with or above every simple baseline: the interval of the paired difference reaches 0 or lies above. `mean_rank` is
among all.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.common import Figures, Run, data_folder
from onetrunk.core.events import ignore

_COMPARED_ROWS = 40_000  # that CatBoost and skrub learn from at most: more take them longer than ours may take


@dataclass(frozen=True)
class Set:
    """A data set: its table with a column `split`, what is asked of it, and what is left out."""

    read: Callable[[Path], Any]
    ask: str
    ignore: tuple[str, ...] = ()
    table: bool = True  # rivals of tables can learn from it
    folder: bool = True  # it lies among the data; else it comes with scikit-learn


def _three(folder: Path) -> pd.DataFrame:
    parts = [pd.read_csv(folder / f"{part}.csv").assign(split=part) for part in ("train", "val", "test")]
    return pd.concat(parts, ignore_index=True)


def _one(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / f"{folder.name}.csv")


def _parquet(folder: Path) -> pd.DataFrame:
    parts = [pd.read_parquet(folder / f"{part}.parquet").assign(split=part) for part in ("train", "val", "test")]
    return pd.concat(parts, ignore_index=True)


def _pictures(folder: Path) -> dict[str, list[Any]]:
    """Pictures in folders: part, then class."""
    files = sorted(folder.glob("*/*/*.*"))
    return {
        "image": list(files),
        "label": [file.parent.name for file in files],
        "split": [file.parent.parent.name for file in files],
    }


def _recordings(folder: Path) -> dict[str, list[Any]]:
    with (folder / "metadata.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        "audio": [folder / row["file"] for row in rows],
        "digit": [row["digit"] for row in rows],
        "split": [row["split"] for row in rows],
    }


def _compas(folder: Path) -> dict[str, list[Any]]:
    from bench.compas import read

    return read(folder)


def _esol(folder: Path) -> pd.DataFrame:
    from bench.esol import read

    return read(folder)[["smiles", "solubility", "split"]]


def _mnist(folder: Path) -> dict[str, list[Any]]:
    from bench.mnist_10k import read

    return read(folder)


def _easyvqa(folder: Path) -> dict[str, list[Any]]:
    from bench.easyvqa import read

    return read(folder)


def _sklearn(loader: str) -> Callable[[Path], pd.DataFrame]:
    """One of scikit-learn's tables, every fifth row for the test and every tenth of the others for validation."""

    def read(folder: Path) -> pd.DataFrame:
        from sklearn import datasets

        frame = getattr(datasets, loader)(as_frame=True).frame
        order = np.random.default_rng(0).permutation(len(frame))
        part = np.where(order % 5 == 0, "test", np.where(order % 10 == 1, "val", "train"))
        return frame.assign(split=part)

    return read


SETS: dict[str, Set] = {
    "adult": Set(_three, "income"),
    "heart_cleveland": Set(_three, "target", ("num",)),
    "compas": Set(_compas, "two_year_recid"),
    "employee_salaries": Set(_one, "current_annual_salary"),
    "midwest_survey": Set(_one, "Census_Region"),
    "ramen": Set(_one, "Stars"),
    "chocolate": Set(_one, "Rating"),
    "open_payments": Set(_one, "status"),
    "chnsenticorp_hotel": Set(_three, "label"),
    "ag_news": Set(_three, "label"),
    "mnist_10k": Set(_mnist, "label", table=False),
    "cifar10_subset": Set(_parquet, "label", ("path",), table=False),
    "sign_digits": Set(_pictures, "label", table=False),
    "fsdd": Set(_recordings, "digit", table=False),
    "esol": Set(_esol, "solubility"),
    "bbbp": Set(_three, "p_np"),
    "easyvqa": Set(_easyvqa, "answer", table=False),
    "digits": Set(_sklearn("load_digits"), "target", folder=False),
    "breast_cancer": Set(_sklearn("load_breast_cancer"), "target", folder=False),
    "wine": Set(_sklearn("load_wine"), "target", folder=False),
    "diabetes": Set(_sklearn("load_diabetes"), "target", folder=False),
}


def table_of(name: str, part: str) -> dict[str, list[Any]]:
    """The columns of a set. For `val` its test rows are gone, and its validation rows stand for them."""
    chosen = SETS[name]
    read = chosen.read(data_folder(name) if chosen.folder else Path())
    columns: Mapping[str, Any] = read if isinstance(read, dict) else {n: read[n].tolist() for n in read.columns}
    out = {n: list(column) for n, column in columns.items() if n not in chosen.ignore}
    if part == "val":
        kept = [i for i, where in enumerate(out["split"]) if where != "test"]
        out = {n: [column[i] for i in kept] for n, column in out.items()}
        train = iter(np.random.default_rng(0).random(len(kept)) < 0.12)
        names = {"val": "test"}
        out["split"] = [names.get(w) or ("val" if next(train) else "train") for w in out["split"]]
    return out


def one(name: str, part: str, seed: int, rival: bool, place: str) -> dict[str, Any]:
    """One set: ours by default, and the rivals."""
    import onetrunk

    columns, ask = table_of(name, part), SETS[name].ask
    began = time.monotonic()
    onetrunk.train(columns, ask=[ask], split="given:split", seed=seed, out=f"{place}/model", allow_equal_rows=True)
    seconds = time.monotonic() - began
    evidence = json.loads((Path(place) / "model" / "evidence" / "metrics.json").read_text(encoding="utf-8"))
    task = evidence["tasks"][0]
    baselines = {b["name"]: b for b in task["baselines"] if b["score"]}
    metric = task["metric"]
    metrics = {
        "metric": metric,
        "higher_is_better": task["higher_is_better"],
        "ours": task["metrics"][metric],
        "interval": [task["score"]["low"], task["score"]["high"]],
        "baselines": {n: b["metrics"][metric] for n, b in baselines.items()},
        "leads": {n: [b["lead"][end] for end in ("value", "low", "high")] for n, b in baselines.items() if b["lead"]},
        "metrics": task["metrics"],
        "log_loss": task["metrics"].get("log_loss"),
        "ece": task["metrics"].get("ece"),
        "seconds": seconds,
        "decision": onetrunk.load(f"{place}/model").provenance.get("decision"),
    }
    metrics["level"] = all(lead[2] >= 0 for lead in metrics["leads"].values())
    if rival and SETS[name].table:
        metrics["rivals"] = {
            n: measure(columns, ask, make, metrics["metrics"])
            for n, make in {"skrub + HGB": skrub_hgb, "CatBoost": catboost}.items()
        }
    return metrics


def measure(columns: Mapping[str, list[Any]], ask: str, answer: Callable[..., Any], wanted: Mapping[str, Any]) -> Any:
    """A rival's figures on the test rows, as far as they are among those wanted. It learns from the training rows, and
    may look at the validation rows to know when to stop."""
    from sklearn import metrics as measured

    frame = pd.DataFrame({n: c for n, c in columns.items() if n != "split"}).infer_objects()
    split = np.array(columns["split"])
    frame = frame[frame[ask].notna()]
    frame[ask] = frame[ask].astype(float if "r2" in wanted else str)
    rows = {part: frame[split[frame.index] == part] for part in ("train", "val", "test")}
    train, val, test = ((each.drop(columns=[ask]), each[ask]) for each in rows.values())
    train = train[0].head(_COMPARED_ROWS), train[1].head(_COMPARED_ROWS)
    began = time.monotonic()
    truth: Any
    if "r2" in wanted:
        result = answer(*train, val, test[0], None)
        truth = test[1]
        out = {
            "r2": measured.r2_score(truth, result),
            "mae": measured.mean_absolute_error(truth, result),
            "rmse": float(np.sqrt(np.mean((truth - result) ** 2))),
        }
    else:
        classes = sorted(train[1].unique())
        p = answer(*train, val, test[0], classes)
        truth = test[1].to_numpy()
        place = np.array([classes.index(t) if t in classes else -1 for t in truth])
        out = {"accuracy": float((p.argmax(1) == place).mean())}
        if len(classes) == 2:
            out["auc"] = measured.roc_auc_score(place, p[:, 1])
        known = place >= 0
        out["log_loss"] = float(-np.log(np.clip(p[known, place[known]], 1e-12, 1)).mean())
    return out | {"seconds": time.monotonic() - began}


def skrub_hgb(
    x: pd.DataFrame, y: pd.Series, val: tuple[pd.DataFrame, pd.Series], new: pd.DataFrame, classes: list[str] | None
) -> Any:
    """Histogram gradient boosting on skrub's TableVectorizer."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline
    from skrub import TableVectorizer

    kind = HistGradientBoostingRegressor if classes is None else HistGradientBoostingClassifier
    model = make_pipeline(TableVectorizer(), kind(random_state=0)).fit(x, y)
    return model.predict(new) if classes is None else model.predict_proba(new)


def catboost(
    x: pd.DataFrame, y: pd.Series, val: tuple[pd.DataFrame, pd.Series], new: pd.DataFrame, classes: list[str] | None
) -> Any:
    """CatBoost, stopped by the validation rows. Strings that are mostly different are text features: their words, or
    their characters where there are no spaces (Chinese, formulas)."""
    from catboost import CatBoostClassifier, CatBoostRegressor

    strings = [n for n in x.columns if not pd.api.types.is_numeric_dtype(x[n])]
    many = [n for n in strings if x[n].nunique() > 100]
    words = [n for n in many if x[n].astype(str).str.contains(" ").mean() > 0.5]
    letters = [n for n in many if n not in words and x[n].nunique() > len(x) / 2]

    def plain(frame: pd.DataFrame) -> pd.DataFrame:
        texts = {n: frame[n].fillna("").astype(str) for n in strings}
        return frame.assign(**texts | {n: texts[n].map(" ".join) for n in letters})

    options = {"cat_features": [n for n in strings if n not in (*words, *letters)], "text_features": words + letters}
    shared = {"random_seed": 0, "verbose": False, "thread_count": 2, "allow_writing_files": False}
    known = val[1].isin(classes) if classes else val[1].notna()
    judged = {"eval_set": (plain(val[0])[known], val[1][known]), "early_stopping_rounds": 100}
    if classes is None:
        return CatBoostRegressor(**options, **shared).fit(plain(x), y, **judged).predict(plain(new))
    model = CatBoostClassifier(**options, **shared).fit(plain(x), y, **judged)
    return model.predict_proba(plain(new))[:, [list(model.classes_).index(name) for name in classes]]


def compare(run: Run, names: list[str] | None = None) -> Figures:
    from bench.speed import one_side

    sets: dict[str, Any] = {}
    for name in names or SETS:
        side = {"call": "bench.defaults:one", "name": name, "part": run.split, "seed": run.seed, "rival": run.rival}
        sets[name] = run.part(name, partial(one_side, run, name, side))
        sets[name] |= _against(sets[name])
        print(json.dumps({name: sets[name]}), file=sys.stderr)
    ranks = [each["rank"] for each in sets.values()]
    return Figures(
        ours=float(np.mean([each["level"] for each in sets.values()])),
        interval=None,
        unit="share of sets level with or above every simple baseline",
        rival_name="every simple baseline",
        rival=1.0,
        split={"part": run.split, "sets": len(sets)},
        also={
            "mean_rank": float(np.mean(ranks)),
            "worst_seconds": max(each["seconds"] for each in sets.values()),
            "sets": sets,
        },
    )


def _against(result: dict[str, Any]) -> dict[str, Any]:
    """Ours among all, 1 is first, and the best of the others."""
    sign = 1 if result["higher_is_better"] else -1
    rivals = {n: each[result["metric"]] for n, each in result.get("rivals", {}).items() if result["metric"] in each}
    others = {n: value for n, value in {**result["baselines"], **rivals}.items() if value is not None}
    best = max(others, key=lambda n: sign * others[n])
    rank = 1 + sum(sign * value > sign * result["ours"] for value in others.values())
    return {"rank": rank, "best_other": best, "its": others[best]}


def main() -> None:
    """Some sets alone."""
    import tempfile

    parser = argparse.ArgumentParser(prog="python -m bench.defaults", description=__doc__)
    parser.add_argument("names", nargs="+", choices=list(SETS))
    parser.add_argument("--split", choices=("test", "val"), default="val")
    parser.add_argument("--no-rival", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        run = Run("defaults", arguments.split, 0, [], not arguments.no_rival, Path(place), ignore)
        print(json.dumps(compare(run, arguments.names).also, indent=1))


if __name__ == "__main__":
    main()
