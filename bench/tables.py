"""A table in three parts: ours pretrained and fine-tuned, ours without pretraining, and a rival."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import Figures, Run
from onetrunk.core.encoder import class_names
from onetrunk.data.table import Table
from onetrunk.inference.model_folder import Model
from onetrunk.training.finetune import finetune_model
from onetrunk.training.open_data import Data
from onetrunk.training.pretrain import pretrain_model
from onetrunk.training.recipe import Recipe
from onetrunk.training.stage import new_model

_RESAMPLES = 500
MOST_BAD = 0.01  # share of unusable values in a column from which a run stops


@dataclass(frozen=True)
class Rival:
    """A scikit-learn classifier of a DataFrame that holds the given columns, one object a value."""

    name: str
    make: Callable[[], Any]


def tf_idf(column: str, **options: Any) -> Any:
    """TF-IDF of a text column and logistic regression, as the data's own baseline figures were made."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    texts = FunctionTransformer(lambda frame: frame[column].astype(str))
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, **options)
    return make_pipeline(texts, vectors, LogisticRegression(C=10, max_iter=1000))


def pixels(column: str, side: int, mode: str, classifier: Any) -> Any:
    """The classifier on pictures of side × side pixels, 0 to 1; `mode` is Pillow's, "L" (grey) or "RGB"."""
    from PIL import Image
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    from onetrunk.media.image import open_image

    def flat(value: Any) -> np.ndarray:
        return np.asarray(open_image(value).convert(mode).resize((side, side), Image.Resampling.BOX)).reshape(-1)

    return make_pipeline(FunctionTransformer(lambda frame: np.stack([*map(flat, frame[column])]) / 255), classifier)


def gradient_boosting() -> Any:
    """Histogram gradient boosting; categories as ordered codes, missing values as they are."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    words = make_column_selector(dtype_include=[object, "str"])
    columns = make_column_transformer((codes, words), remainder="passthrough")
    return make_pipeline(columns, HistGradientBoostingClassifier(random_state=0))


def compare_classes(
    run: Run,
    settings: dict[str, Any],
    *,
    ask: str,
    metric: str,
    rival: Rival,
    ignore: Sequence[str] = (),
    read: Callable[[Path], Any] = Path,
) -> Figures:
    """Asks for the class `ask` from every other column but `ignore`.

    `metric` is "accuracy" or "auc" (of the second class). `read` turns the data folder into what `onetrunk.read` takes,
    with a column `split`. Pretraining sees the training part only; validation rows choose the best step of fine-tuning.
    Ours is the best on validation rows of: with pretraining, without, the mean probability of both. With `ensemble: k`
    each of the two is the mean probability of k fine-tunings, each with a seed of its own.
    """
    config, members = run.config(settings)
    data = run.open(read(run.data()), config, ask=[ask], ignore=list(ignore))
    test = data.rows(run.split)
    test = test.take([i for i, value in enumerate(test[ask]) if value is not None])
    start = time.monotonic()
    pretrained = pretrain_model(data, run.context(config, run.place / "foundation", max_bad=MOST_BAD))
    pretraining_seconds = time.monotonic() - start
    models = {
        "with pretraining": [_tuned(run, data, config, run.seed + k, pretrained) for k in range(members)],
        "without pretraining": [_tuned(run, data, config, run.seed + k, None) for k in range(members)],
    }
    classes = class_names(pretrained.encoder(ask))
    truth, validation = _truth(pretrained, test, ask), data.rows("val")
    score = _METRICS[metric]
    p, on_validation = (
        {name: _mean_probabilities(each, rows, data.given, ask, classes) for name, each in models.items()}
        for rows in (test, validation)
    )
    for each in (p, on_validation):
        each["both, averaged"] = np.mean(list(each.values()), axis=0)
    chosen_by = {name: score(p_NC, _truth(pretrained, validation, ask)) for name, p_NC in on_validation.items()}
    chosen = max(chosen_by, key=lambda name: chosen_by[name])
    p["ours"] = p[chosen]
    if run.rival:
        p[rival.name] = _rival(rival, data, test, ask, pretrained)
    draws = np.random.default_rng(run.seed).integers(0, len(truth), (_RESAMPLES, len(truth)))
    resampled = {name: np.array([score(p_NC[i], truth[i]) for i in draws]) for name, p_NC in p.items()}
    also: dict[str, Any] = {
        "ours_is": f"{chosen}, as the validation part chose"
        + (f"; each the mean probability of {members} fine-tunings (seeds)" if members > 1 else ""),
        "validation": chosen_by,
        "with_pretraining": score(p["with pretraining"], truth),
        "without_pretraining_interval": ends(resampled["without pretraining"]),
        "pretraining_seconds": pretraining_seconds,
        "accuracy": _METRICS["accuracy"](p["ours"], truth),
        "equal_rows_across_splits": data.split.equal_across,
    }
    if run.rival:
        also["difference_interval"] = ends(resampled["ours"] - resampled[rival.name])
    return Figures(
        ours=score(p["ours"], truth),
        interval=ends(resampled["ours"]),
        unit=metric,
        rival_name=rival.name,
        rival=score(p[rival.name], truth) if run.rival else None,
        split={"part": run.split, "rows": {name: len(index) for name, index in data.split.indices().items()}},
        without_pretraining=score(p["without pretraining"], truth),
        also=also,
    )


def _tuned(run: Run, data: Data, config: Recipe, seed: int, pretrained: Model | None) -> Model:
    """Fine-tuned from a copy of the pretrained model, or from nothing."""
    model = new_model(data, config, seed) if pretrained is None else copy.deepcopy(pretrained)
    place = run.place / f"{'pretrained' if pretrained else 'scratch'}-{seed}"
    context = run.context(config, place, seed, max_bad=MOST_BAD)
    return finetune_model(data, context, model, pretrained=pretrained is not None).model


def _mean_probabilities(
    models: list[Model], table: Table, given: list[str], ask: str, classes: list[str]
) -> np.ndarray:
    """Probabilities [rows, classes], the mean over models."""
    every = [[[a.probability[name] for name in classes] for a in m.answer(table, ask, given)] for m in models]
    return np.array(every).mean(axis=0)


def _truth(model: Model, table: Table, ask: str) -> np.ndarray:
    classes = class_names(model.encoder(ask))
    return np.array([classes.index(name) for name in model.evaluation(ask).target(table[ask])])


def _rival(rival: Rival, data: Data, test: Table, ask: str, model: Model) -> np.ndarray:
    """Probabilities [rows, classes] of the rival, fitted on the training part."""
    train = data.rows("train")
    train = train.take([i for i, value in enumerate(train[ask]) if value is not None])
    # Objects become numbers again where they are: a rival that took numbers for words would be handicapped.
    x_train, x_test = (table.select(data.given).frame().infer_objects() for table in (train, test))
    fitted = rival.make().fit(x_train, model.evaluation(ask).target(train[ask]))
    result = fitted.predict_proba(x_test)
    order = [list(fitted.classes_).index(name) for name in class_names(model.encoder(ask))]
    return result[:, order]


def _accuracy(p_NC: np.ndarray, truth: np.ndarray) -> float:
    return float((p_NC.argmax(1) == truth).mean())


def _auc(p_NC: np.ndarray, truth: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, p_NC[:, 1]))


_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"accuracy": _accuracy, "auc": _auc}


def ends(draws: np.ndarray) -> list[float]:
    return [float(x) for x in np.quantile(draws, [0.025, 0.975])]
