"""scikit-learn's own checks of estimators, and what users do with them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import onetrunk
from onetrunk.sklearn import Classifier, Regressor

QUICK: dict[str, Any] = {"budget": "0.1s", "size": "nano", "settings": ["finetune.steps=2", "train.precision=fp32"]}


@parametrize_with_checks([Classifier(**QUICK), Regressor(**QUICK)])  # none is expected to fail
def test_scikit_learns_checks(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)


def rows(n: int = 120) -> tuple[pd.DataFrame, pd.Series]:
    dice = np.random.default_rng(0)
    label = pd.Series([["yes", "no"][i % 2] for i in range(n)], name="label", index=range(7, n + 7))
    table = pd.DataFrame(
        {
            "age": np.where(dice.random(n) < 0.2, np.nan, dice.integers(20, 60, n)),
            "note": [f"{['lovely', 'dirty'][i % 2]} room {i}" for i in range(n)],
            "day": pd.date_range("2026-01-01", periods=n),
            "kind": pd.Categorical(dice.choice(["a", "b"], n)),
            "empty": [None] * n,
            "same": 1,
        },
        index=label.index,
    )
    return table, label


def test_a_frame_of_every_type_with_gaps(tmp_path: Path) -> None:
    table, label = rows()
    judge = Classifier(**QUICK).fit(table, label)
    assert judge.classes_.tolist() == ["no", "yes"] and judge.target_ == "label"
    assert judge.n_features_in_ == 6 and judge.feature_names_in_.tolist() == list(table.columns)
    given = judge.model_.tasks[0].given
    assert given == ["age", "note", "day", "kind"], "columns that tell no rows apart teach nothing"
    assert {name: judge.model_.columns[name].type for name in given} == {
        "age": "number", "note": "text", "day": "date", "kind": "category"
    }  # fmt: skip
    assert judge.score(table, label) > 0.9
    result = judge.predict_proba(table)
    assert result.shape == (120, 2) and np.allclose(result.sum(1), 1)
    assert (judge.predict(table) == judge.classes_[result.argmax(1)]).all()
    unknown = judge.predict_proba(pd.DataFrame(None, index=[0, 1], columns=table.columns, dtype=object))
    assert np.allclose(unknown[0], unknown[1]) and np.isfinite(unknown).all()

    judge.model_.save(tmp_path / "model")  # the same answers as a folder, for every verb
    answers = onetrunk.predict(str(tmp_path / "model"), table, quiet=True)
    assert answers is not None and np.allclose(answers["label_p_yes"], result[:, 1], atol=1e-5)


def test_pickles_and_clones() -> None:
    table, label = rows()
    judge = Classifier(**QUICK, random_state=3).fit(table[["age", "note"]], label)
    again = pickle.loads(pickle.dumps(judge))
    assert np.array_equal(again.predict_proba(table[["age", "note"]]), judge.predict_proba(table[["age", "note"]]))
    fresh = clone(judge)
    assert fresh.get_params() == judge.get_params() and not hasattr(fresh, "model_")


@pytest.mark.parametrize(
    "classes",
    [["", "None"], ["nan", " a"], ["a", " a"], ["1", "1.0"], [True, False], [1, 10**15], ["a,b", "a|b"], ["[1]", "{}"]],
)
def test_classes_are_given_back_as_they_stood_in_y(classes: list[Any]) -> None:
    table, _ = rows()
    y = [classes[i % 2] for i in range(len(table))]
    judge = Classifier(**QUICK).fit(table[["note"]], y)
    assert judge.predict(table[["note"]]).tolist() == np.asarray(y).tolist()


def test_numbers_with_intervals_in_arrays_and_frames() -> None:
    x, y = load_diabetes(return_X_y=True, as_frame=True)
    judge = Regressor(**QUICK).fit(x[:300], y[:300])
    assert judge.target_ == "target" and judge.score(x[300:], y[300:]) > 0.3
    intervals = judge.predict_interval(x[300:])
    covered = ((intervals[:, 0] <= y[300:]) & (y[300:] <= intervals[:, 1])).mean()
    assert 0.8 < covered <= 1
    same = Regressor(**QUICK).fit(x[:300].to_numpy(), y[:300].to_numpy()).predict(x[300:].to_numpy())
    assert np.allclose(same, judge.predict(x[300:]), rtol=1e-4), "an array and a frame of numbers are one thing"


def test_in_pipelines_searches_and_cross_validation() -> None:
    x, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), Classifier(**QUICK))
    assert cross_val_score(pipeline, x, y, cv=3).mean() > 0.9
    search = GridSearchCV(Classifier(**QUICK), {"random_state": [0, 1]}, cv=2).fit(x, y)
    assert search.best_score_ > 0.9


def test_a_model_to_start_from(tmp_path: Path) -> None:
    table, label = rows()
    notes = table[["note"]]
    onetrunk.pretrain(
        notes, out=str(tmp_path / "base"), size="nano", quiet=True,
        settings=["pretrain.steps=2", "train.tensorboard=false"],
    )  # fmt: skip
    quick = {**QUICK, "size": None, "budget": None, "settings": ["finetune.steps=2", "finetune.folds=2"]}
    judge = Classifier(**quick, start=str(tmp_path / "base")).fit(notes, label)
    stages = [stage["stage"] for stage in judge.model_.provenance["stages"]]
    assert stages[0] == "pretrain" and judge.predict_proba(notes).shape == (120, 2)


def test_what_cannot_be_learnt_from_is_a_plain_value_error() -> None:
    table, label = rows()
    with pytest.raises(ValueError, match="at least 2 classes"):
        Classifier(**QUICK).fit(table, ["a"] * len(table))
    with pytest.raises(ValueError, match="expected as many"):
        Classifier(**QUICK).fit(table, label[:-1])
    with pytest.raises(ValueError, match="tells rows apart"):
        Classifier(**QUICK).fit(table[["empty", "same"]], label)
    with pytest.raises(ValueError, match="budget"):
        Classifier(**{**QUICK, "budget": "soon"}).fit(table, label)
