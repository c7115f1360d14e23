"""A table in train, validation and test parts: ours pretrained and fine-tuned, ours without pretraining, and a rival.

Shapes: K members of an ensemble, N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.common import Figures, Run

if TYPE_CHECKING:
    from onetrunk.core.column import Codec
    from onetrunk.data.table import Table
    from onetrunk.inference.model_folder import Model
    from onetrunk.verbs._setup import Data, RunConfig

_RESAMPLES = 500
_MOST_BAD = 0.01  # share of unusable values in a column from which a run stops


def compare_classes(
    run: Run,
    settings: dict[str, Any],
    *,
    ask: str,
    metric: str,
    rival_name: str,
    rival: Any,
    ignore: Sequence[str] = (),
    read: Callable[[Path], Any] = Path,
) -> Figures:
    """Asks for the class `ask` from every other column but `ignore`.

    `metric` is "accuracy", or "auc" of the second of two classes. `rival` is a scikit-learn classifier of a DataFrame of
    the given columns. `read` turns the data folder into what `onetrunk.read` takes, with a column `split`. Pretraining
    sees the training part only; the validation part chooses fine-tuning's best step. With `ensemble: k` in the settings,
    all of ours are the mean probability of k models, each trained from a seed of its own.
    """
    from onetrunk.metrics.classification import classification
    from onetrunk.verbs._setup import open_data

    config, members = run.config(settings)
    data = open_data(
        read(run.data()), ask=[ask], given=None, ignore=list(ignore), types=None, map=None, split_spec="given:split",
        seed=run.seed, allow_equal_rows=True, network=False, config=config, console=run.console,
    )  # fmt: skip
    test = data.part(run.part)
    trained, codec = _train(run, data, config, members, test)
    classes = codec.class_names()
    names = codec.target(test[ask]).tolist()
    truth = np.array([classes.index(name) for name in names])
    answers = {name: p_KNC.mean(0) for name, p_KNC in trained.items()}
    if run.rival:
        answers["rival"] = _rival(rival, data, test, codec)
    scores = {name: Score.of(metric, p_NC, truth, run.seed) for name, p_NC in answers.items()}

    also: dict[str, Any] = {
        "difference_interval": scores["ours"].minus(scores["rival"]) if run.rival else None,
        "gain_from_pretraining": scores["ours"].value - scores["without pretraining"].value,
        "gain_interval": scores["ours"].minus(scores["without pretraining"]),
        "straight_after_pretraining": scores["straight after pretraining"].value,
    }
    if members > 1:
        singles = [Score.of(metric, p_NC, truth, run.seed).value for p_NC in trained["ours"]]
        also |= {"ensemble": members, "mean_of_its_members": float(np.mean(singles))}
    for name in ("ours", *(["rival"] if run.rival else [])):
        p_NC = answers[name]
        found = classification(names, [classes[i] for i in p_NC.argmax(1)], p_NC, classes)
        also[f"metrics_of_{name}"] = {key: value for key, value in found.items() if value is not None}
    return Figures(
        ours=scores["ours"].value,
        interval=scores["ours"].interval(),
        unit={"accuracy": "accuracy", "auc": "AUC"}[metric],
        rival_name=rival_name,
        rival=scores["rival"].value if run.rival else None,
        split={"part": run.part, **data.split.as_json()},
        without_pretraining=scores["without pretraining"].value,
        also=also,
    )


@dataclass(frozen=True)
class Score:
    """A figure and its resampled values; one seed resamples the same rows for every model, so they pair up."""

    value: float
    draws: np.ndarray

    @staticmethod
    def of(metric: str, p_NC: np.ndarray, truth_N: np.ndarray, seed: int) -> Score:
        from onetrunk.evidence.intervals import metric_draws

        score = {"accuracy": _accuracy, "auc": _auc}[metric]

        def of_rows(rows: np.ndarray) -> float | None:
            return score(p_NC[rows], truth_N[rows])

        value = of_rows(np.arange(len(truth_N)))
        return Score(float("nan") if value is None else value, metric_draws(of_rows, len(truth_N), _RESAMPLES, seed))

    def interval(self) -> list[float] | None:
        return _ends(self.value, self.draws)

    def minus(self, other: Score) -> list[float] | None:
        """The interval of the paired difference."""
        return _ends(self.value - other.value, self.draws - other.draws)


def _ends(value: float, draws: np.ndarray) -> list[float] | None:
    from onetrunk.evidence.intervals import interval

    found = interval(value, draws)
    return None if found is None else [found.low, found.high]


def _accuracy(p_NC: np.ndarray, truth_N: np.ndarray) -> float:
    return float((p_NC.argmax(1) == truth_N).mean())


def _auc(p_NC: np.ndarray, truth_N: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth_N == 1, p_NC[:, 1])) if len(set(truth_N.tolist())) > 1 else None


def _train(run: Run, data: Data, config: RunConfig, members: int, test: Table) -> tuple[dict[str, np.ndarray], Codec]:
    """Class probabilities [K, N, C] of the test rows, by how the model was made; and the asked column's codec."""
    from onetrunk.data.ledger import Ledger
    from onetrunk.verbs import _stages

    found: dict[str, list[np.ndarray]] = {}
    for seed in range(run.seed, run.seed + members):
        place = run.place / f"seed-{seed}"

        def fresh() -> Data:  # every stage counts what it drops for itself
            return replace(data, ledger=Ledger())

        model = _stages.pretrain(fresh(), config, place / "foundation", seed, None, None, _MOST_BAD, run.console)
        zero = _probabilities(model, data, test)
        model, _ = _stages.finetune(fresh(), config, place / "model", seed, model, True, _MOST_BAD, run.console)
        run.console.print("[bold]Without pretraining[/]")
        scratch = _stages.build(data, config, seed)
        scratch, _ = _stages.finetune(fresh(), config, place / "scratch", seed, scratch, False, _MOST_BAD, run.console)
        found.setdefault("straight after pretraining", []).append(zero)
        found.setdefault("ours", []).append(_probabilities(model, data, test))
        found.setdefault("without pretraining", []).append(_probabilities(scratch, data, test))
    return {name: np.stack(each) for name, each in found.items()}, model.codec(data.ask[0])


def _probabilities(model: Model, data: Data, test: Table) -> np.ndarray:
    """[N, C], classes in the codec's order."""
    classes = model.codec(data.ask[0]).class_names()
    return np.array([[a.probability[c] for c in classes] for a in model.answer(test, data.ask[0], data.given)])


def _rival(rival: Any, data: Data, test: Table, codec: Codec) -> np.ndarray:
    """Fits the rival on the training part: its [N, C]."""
    train = data.part("train")
    rival.fit(train.select(data.given).frame(), codec.target(train[data.ask[0]]))
    p_NC = rival.predict_proba(test.select(data.given).frame())
    return p_NC[:, [list(rival.classes_).index(name) for name in codec.class_names()]]


# -- rivals, as ../shared/data/README.md has them ----------------------------------------------------------------------
def tfidf(column: str, **options: Any) -> Any:
    """TF-IDF of 1- and 2-grams of one text column, and logistic regression."""
    from sklearn.compose import make_column_transformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    vectors = make_column_transformer((TfidfVectorizer(ngram_range=(1, 2), **options), column))
    return make_pipeline(vectors, LogisticRegression(C=10, max_iter=1000))


def pixels(column: str) -> Any:
    """Logistic regression on the pixels of one column of images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    flat = FunctionTransformer(lambda frame: np.stack([np.asarray(x).ravel() for x in frame[column]]) / 255)
    return make_pipeline(flat, LogisticRegression(C=0.15, max_iter=500))


def boosting() -> Any:
    """Gradient boosting of histograms; classes as numbers, missing values as such."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

    missing = {"unknown_value": np.nan, "encoded_missing_value": np.nan}
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", **missing)
    table = make_column_transformer((codes, make_column_selector(dtype_exclude="number")), remainder="passthrough")
    typed = FunctionTransformer(lambda frame: frame.infer_objects())
    return make_pipeline(typed, table, HistGradientBoostingClassifier(random_state=0))
