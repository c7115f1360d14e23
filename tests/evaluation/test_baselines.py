"""Baselines: what they see, what they are judged on, and what is said when one cannot run."""

from __future__ import annotations

import numpy as np
import pytest
from evidence_fakes import Amount, Colour, Picture
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from onetrunk.columns.families.baselines.views import beside
from onetrunk.evaluation import baselines
from onetrunk.evaluation.baselines import run_baselines, usable

rng = np.random.default_rng(0)
CLASSES = ["blue", "red"]


def _table(n: int) -> tuple[dict[str, list], list]:
    hue = rng.choice(CLASSES, n).tolist()
    size = rng.normal(size=n).tolist()
    label = [h if rng.random() < 0.8 else CLASSES[s > 0] for h, s in zip(hue, size, strict=True)]
    return {"hue": hue, "size": size}, label


def test_they_are_plain_scikit_learn_on_the_given_columns() -> None:
    (train, y), (test, truth) = _table(80), _table(50)
    y[3] = truth[5] = None
    result = run_baselines({"hue": Colour(CLASSES), "size": Amount()}, Colour(CLASSES), train, test, y, truth)

    def matrix(table: dict[str, list], keep: list[int]) -> np.ndarray:
        return np.array([[table["hue"][i] == "blue", table["hue"][i] == "red", table["size"][i]] for i in keep], float)

    rows, test_rows = [i for i in range(80) if i != 3], [i for i in range(50) if i != 5]
    by_hand = LogisticRegression().fit(matrix(train, rows), [y[i] for i in rows])
    expected = by_hand.score(matrix(test, test_rows), [truth[i] for i in test_rows])
    assert list(result) == ["majority", "logistic", "boosting"]
    assert result["logistic"].metrics["accuracy"] == pytest.approx(expected)
    assert len(result["logistic"].answers) == 49
    assert result["boosting"].metrics is not None  # sparse features made dense for it


def test_too_wide_to_be_dense_is_skipped_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_MOST_DENSE_COLUMNS", 2)
    (train, y), (test, truth) = _table(40), _table(20)
    result = run_baselines({"hue": Colour(CLASSES), "size": Amount()}, Colour(CLASSES), train, test, y, truth)
    assert result["boosting"].metrics is None and "3 features are too many" in result["boosting"].note
    assert result["logistic"].metrics is not None


def test_without_features_only_the_naive_one_runs() -> None:
    result = run_baselines(
        {"photo": Picture()},
        Colour(CLASSES),
        {"photo": [1, 2, 3]},
        {"photo": [4]},
        ["red", "red", "blue"],
        ["red"],
    )
    assert list(result) == ["majority"] and result["majority"].metrics["accuracy"] == 1.0


def test_nothing_to_learn_or_to_judge_is_nothing() -> None:
    asked = Colour(CLASSES)
    assert run_baselines({}, asked, {}, {}, [None, None], ["red"]) == {}
    assert run_baselines({}, asked, {}, {}, ["red"], [None]) == {}


def test_one_class_in_training_skips_what_needs_two() -> None:
    sizes = {"size": [1.0, 2.0, 3.0]}
    result = run_baselines({"size": Amount()}, Colour(CLASSES), sizes, sizes, ["red"] * 3, ["red", "blue", "red"])
    assert result["majority"].metrics["accuracy"] == pytest.approx(2 / 3)
    assert result["logistic"].note.startswith("skipped:") and result["logistic"].answers is None


def test_a_column_that_gives_no_features_is_named() -> None:
    class Empty(Amount):
        def features(self):
            def fail(values):
                raise ValueError("empty vocabulary")

            return FunctionTransformer(fail)

    (train, y), (test, truth) = _table(30), _table(10)
    result = run_baselines({"size": Amount(), "hue": Empty()}, Colour(CLASSES), train, test, y, truth)
    assert "hue not used: empty vocabulary" in result["logistic"].note
    assert result["majority"].note == ""


def test_usable_truths() -> None:
    assert usable(Amount(), [1, None, "x", "2"]) == [0, 3]
    assert usable(Colour(CLASSES), ["red", "never seen", None]) == [0, 1]


def test_sparse_and_dense_blocks_stand_side_by_side() -> None:
    dense, thin = np.eye(3), sparse.csr_matrix(np.ones((3, 2)))
    np.testing.assert_array_equal(beside([dense, thin]).toarray(), np.hstack([np.eye(3), np.ones((3, 2))]))
    assert isinstance(beside([dense, dense]), np.ndarray)
