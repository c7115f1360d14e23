"""Fits a wide read-out (`model.wide`): a linear model of n-grams and classes, and boosted trees, in the best mixture.

Everything is chosen by cross-validation on a proper score (log loss, squared error): the regularisation, how many
trees, how much each of the two counts. What each row gets in training is what models say that did not learn from it, so
that the trunk learns what is left to learn, and not what the wide read-out knows by heart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import optimize, sparse

from onetrunk.core.encoder import reads_on
from onetrunk.core.wide import Sparse, WideFeatures, WideTarget
from onetrunk.data.store import Store
from onetrunk.inference.wide import features_of
from onetrunk.model.wide import WideReadout, WideShape, as_known
from onetrunk.nn.heads.trees import TreeEnsemble, Trees, trees_of

_FOLDS = 5
_STRENGTHS = (100.0, 10.0, 1.0, 0.1, 0.01)  # of the penalty, from the strongest
_MAX_FEATURES = 200_000  # of one kind, the most frequent
_MIN_ROWS = 2  # in which a counted feature stands
_COMPONENTS = 30
_MAX_TREE_CLASSES = 30
_ROUNDS, _PATIENCE = 500, 15
_SMOOTHING = 10.0  # rows that the mean over all counts beside those of a value (target encoding)
_NO_TIME = "boosted trees, which would have taken too long (a larger --budget tries them)"
_FLOOR = -12.0  # logit of a class that no row had

X: TypeAlias = sparse.csr_matrix


@dataclass
class FittedWide:
    """`held_out` float32 [rows, K] is what each row gets from models that did not see it; `scores` what was tried, each
    as its mean loss on held-out rows (nats, or squared error in standard units)."""

    readout: WideReadout
    held_out: np.ndarray
    scores: dict[str, float]
    seconds: float
    residuals: np.ndarray | None = None  # of numbers, what is left beside that, float64 [rows]
    chosen: dict[str, Any] = field(default_factory=dict)
    left_out: str = ""  # what was not tried, and why

    def as_json(self) -> dict[str, Any]:
        """What was tried, what was chosen, what was left out, and how long it took."""
        described = {"scores": self.scores, "chosen": self.chosen, "seconds": round(self.seconds, 1)}
        return {**described, "left_out": self.left_out} if self.left_out else described


@dataclass
class Rows:
    """Labelled rows: the features of their given columns, and what is asked, standardised or as class numbers."""

    rows: np.ndarray  # int64 [m], of the store
    features: dict[str, WideFeatures]
    present: dict[str, np.ndarray]
    target: np.ndarray  # int64 or float64 [m]; of several classes at once float32 [m, K]
    weight: np.ndarray  # float64 [m]
    classes: int  # 0: a number

    @property
    def count(self) -> int:
        return len(self.target)

    def weights(self, chosen: np.ndarray) -> np.ndarray | None:
        """None where all weigh alike: weighed quantiles take boosting a hundred times as long as plain ones."""
        weight = self.weight[chosen]
        return None if len(weight) and (weight == weight[0]).all() else weight


def wide_rows(store: Store, given: Sequence[str], ask: str, labelled: np.ndarray) -> Rows | None:
    """The labelled rows of a store, as far as there is something to learn; None where the asked column has no wide
    read-out, or no given column has features."""
    c = store.names.index(ask)
    encoder = store.encoders[c]
    labelled = labelled[store.index[labelled, c] >= 0]
    if not isinstance(encoder, WideTarget) or reads_on(encoder) is not None:
        return None
    target, classes = encoder.wide_target(store.contents[c].take(store.index[labelled, c]))
    learnt = (target >= 0) if classes and target.ndim == 1 else np.ones(len(target), dtype=bool)
    rows = labelled[learnt]
    names = [name for name in given if name != ask and name in store.names]
    features, present = features_of(store, names, rows)
    weight = np.ones(len(rows)) if store.row_weight is None else store.row_weight[rows].astype(np.float64)
    return Rows(rows, features, present, target[learnt], weight, classes) if features else None


def fit_wide(rows: Rows, seed: int = 0, limit: float | None = None) -> FittedWide | None:
    """None where there is too little to learn from. Within about `limit` seconds: fewer penalties are tried, and trees
    are left out where they would take longer."""
    started = time.monotonic()
    until = None if limit is None else started + limit
    if rows.count < 2 * _FOLDS or (rows.classes and rows.target.ndim == 1 and len(np.unique(rows.target)) < 2):
        return None
    folds = _folds(rows, seed)
    outputs = max(1, rows.classes)
    readout = WideReadout(_shape(rows, outputs))
    _learn_features(readout, rows, seed)
    design = _design(readout, rows)
    linear = _choose_linear(design, rows, folds, until)
    scores = {"linear": linear.score}
    trees, left_out = _choose_trees(readout, rows, folds, seed, until)
    mix = np.array([1.0, 0.0])
    held_out = linear.held_out
    if trees is not None:
        scores["trees"] = trees.score
        mix = _mix(rows, linear.held_out, trees.held_out)
        held_out = mix[0] * linear.held_out + mix[1] * trees.held_out
        scores["both"] = _loss(rows, held_out)
        readout = _with_trees(readout, rows, trees.fitted())
    _set_linear(readout, rows, linear.fitted())
    readout.mix.copy_(torch.from_numpy(mix))
    chosen = {"penalty": linear.chosen, "trees": 0 if trees is None else trees.chosen, "mix": mix.tolist()}
    residuals = None if rows.classes else rows.target - held_out[:, 0]
    seconds = time.monotonic() - started
    return FittedWide(readout, held_out.astype(np.float32), scores, seconds, residuals, chosen, left_out)


@dataclass
class _Tried:
    """One member, cross-validated; `fitted` learns from all rows."""

    held_out: np.ndarray  # float64 [m, K]
    score: float
    chosen: Any
    fitted: Callable[[], Any]


# -- features --------------------------------------------------------------------------------------------------------
def _shape(rows: Rows, outputs: int) -> WideShape:
    features, counted, components, keys, dense = {}, {}, {}, {}, {}
    for name, own in rows.features.items():
        features[name] = {kind: len(_kept(each)) for kind, each in own.sparse.items()}
        counted[name] = [kind for kind, each in own.sparse.items() if each.counted]
        size = sum(features[name][kind] for kind in counted[name])
        if counted[name] and size > 2 * _COMPONENTS and own.count > 2 * _COMPONENTS:
            components[name] = _COMPONENTS
        if own.dense is not None:
            dense[name] = own.dense.shape[1]
        if own.key is not None and own.count and len(np.unique(own.key)) <= own.count / 2:
            keys[name] = len(np.unique(own.key))
    return WideShape(list(rows.features), outputs, features, components, keys, dense, None, counted)


def _kept(sparse_: Sparse) -> np.ndarray:
    """Features worth a weight, uint64, increasing."""
    values, counts = np.unique(sparse_.feature, return_counts=True)
    often = counts >= (_MIN_ROWS if sparse_.counted else 1)
    values, counts = values[often], counts[often]
    if len(values) > _MAX_FEATURES:
        values = np.sort(values[np.argsort(-counts, kind="stable")[:_MAX_FEATURES]])
    return values


def _learn_features(readout: WideReadout, rows: Rows, seed: int) -> None:
    """Which features there are, how rare each is, and what few numbers say most of them."""
    from sklearn.decomposition import TruncatedSVD

    for name, own in rows.features.items():
        column = readout.column(name)
        for i, kind in enumerate(column.kinds):
            each, kept = own.sparse[kind], _kept(own.sparse[kind])
            getattr(column, f"feature{i}").copy_(torch.from_numpy(as_known(kept)))
            if each.counted:
                index = np.searchsorted(kept, each.feature).clip(max=max(0, len(kept) - 1))
                there = kept[index] == each.feature if len(kept) else np.zeros(0, dtype=bool)
                rows_with = np.bincount(index[there], minlength=len(kept))
                rarity = np.log((1 + own.count) / (1 + rows_with)) + 1
                getattr(column, f"rarity{i}").copy_(torch.from_numpy(rarity))
        if column.components:
            counted = [i for i, kind in enumerate(column.kinds) if kind in column.counted]
            blocks = [_matrix(column, i, own) for i in counted]
            svd = TruncatedSVD(column.components, random_state=seed).fit(sparse.hstack(blocks).tocsr())
            first = 0
            for i, block in zip(counted, blocks, strict=True):
                components = svd.components_[:, first : first + block.shape[1]].T
                getattr(column, f"component{i}").copy_(torch.from_numpy(np.ascontiguousarray(components)))
                first += block.shape[1]


def _matrix(column: Any, i: int, own: WideFeatures) -> X:
    """Weighed features of one kind, sparse [values, A], by the read-out's own code."""
    row, index, weight = column.matched(i, column.kinds[i], own.sparse[column.kinds[i]])
    shape = (own.count, len(getattr(column, f"feature{i}")))
    return X((weight.numpy().astype(np.float64), (row.numpy(), index.numpy())), shape=shape)


def _design(readout: WideReadout, rows: Rows) -> X:
    """Every column's features beside each other, then whether its value is missing: sparse [m, all]."""
    blocks = []
    for name, own in rows.features.items():
        column, where = readout.column(name), rows.present[name]
        one_each_key = X((np.ones(len(where)), (where, np.arange(len(where)))), shape=(rows.count, len(where)))
        blocks += [one_each_key @ _matrix(column, i, own) for i in range(len(column.kinds))]
        absent = np.ones((rows.count, 1))
        absent[where] = 0
        blocks.append(X(absent))
    return sparse.hstack(blocks).tocsr()


# -- the linear part -------------------------------------------------------------------------------------------------
def _choose_linear(design: X, rows: Rows, folds: Sequence[np.ndarray], until: float | None) -> _Tried:
    """The penalty with the least loss on held-out rows; from the strongest on, until it gets worse or half of the time
    is gone."""
    half = None if until is None else (time.monotonic() + until) / 2
    best: tuple[float, float, np.ndarray] | None = None
    for strength in _STRENGTHS:
        held_out = np.zeros((rows.count, max(1, rows.classes)))
        for held in folds:
            rest = np.setdiff1d(np.arange(rows.count), held)
            weights, bias = _fit_linear(design[rest], rows.target[rest], rows.weight[rest], rows.classes, strength)
            held_out[held] = design[held] @ weights + bias
        score = _loss(rows, held_out)
        if best is not None and score > best[0]:
            break
        best = score, strength, held_out
        if half is not None and time.monotonic() > half:
            break
    assert best is not None
    score, strength, held_out = best

    def fitted() -> tuple[np.ndarray, np.ndarray]:
        return _fit_linear(design, rows.target, rows.weight, rows.classes, strength)

    return _Tried(held_out, score, strength, fitted)


def _fit_linear(
    x: X, target: np.ndarray, weight: np.ndarray, classes: int, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [A, K] and bias [K] of a logistic or ridge regression."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if not classes:
        model = Ridge(strength, solver="lsqr", tol=1e-4).fit(x, target, sample_weight=weight)
        return model.coef_.reshape(-1, 1), np.array([float(model.intercept_)])
    if target.ndim == 2:
        columns = [_fit_linear(x, hot.astype(np.int64), weight, 2, strength) for hot in target.T]
        return (
            np.stack([2 * w[:, 1] for w, _ in columns], axis=1),
            np.array([2 * b[1] for _, b in columns]),
        )
    weights, bias = np.zeros((x.shape[1], classes)), np.full(classes, _FLOOR)
    there = np.unique(target)
    if len(there) == 1:
        bias[there] = 0
        return weights, bias
    model = LogisticRegression(C=1 / strength, max_iter=300, tol=1e-3).fit(x, target, sample_weight=weight)
    if len(there) == 2:  # one number says it all: half of it for, half against
        weights[:, there[0]], weights[:, there[1]] = -model.coef_[0] / 2, model.coef_[0] / 2
        bias[there] = -model.intercept_[0] / 2, model.intercept_[0] / 2
    else:
        weights[:, there], bias[there] = model.coef_.T, model.intercept_
    return weights, bias


def _set_linear(readout: WideReadout, rows: Rows, fitted: tuple[np.ndarray, np.ndarray]) -> None:
    weights, bias = fitted
    first = 0
    for name in rows.features:
        column = readout.column(name)
        for i in range(len(column.kinds)):
            weight = getattr(column, f"weight{i}")
            weight.copy_(torch.from_numpy(weights[first : first + len(weight)]))
            first += len(weight)
        column.missing.copy_(torch.from_numpy(weights[first]))
        first += 1
    readout.bias.copy_(torch.from_numpy(bias))


# -- the trees -------------------------------------------------------------------------------------------------------
def _choose_trees(
    readout: WideReadout, rows: Rows, folds: Sequence[np.ndarray], seed: int, until: float | None
) -> tuple[_Tried | None, str]:
    """None where trees see nothing or the answers are not for them (many classes, several at once), and where they
    would take too long: that is then said."""
    inputs = _TreeInputs(readout, rows)
    if rows.classes > _MAX_TREE_CLASSES or rows.target.ndim == 2 or not inputs.width:
        return None, ""
    held_out = np.zeros((rows.count, max(1, rows.classes)))
    rounds: list[int] = []
    started = time.monotonic()
    for held in folds:
        rest = np.setdiff1d(np.arange(rows.count), held)
        if rows.classes and len(np.unique(rows.target[rest])) < 2:
            return None, ""
        if rounds and until is not None:
            each = (time.monotonic() - started) / len(rounds)  # and once more on all rows
            if time.monotonic() + (len(folds) - len(rounds) + 1) * each > until:
                return None, _NO_TIME
        estimator = _boosting(rows.classes, seed).fit(inputs.to_learn(rest), rows.target[rest], rows.weights(rest))
        rounds.append(estimator.n_iter_)
        held_out[held] = _raw(estimator, inputs.to_answer(held, rest), rows.classes)
    count = max(1, round(float(np.mean(rounds)) * _FOLDS / (_FOLDS - 1) * 0.95))

    def fitted() -> Trees:
        every = np.arange(rows.count)
        inputs.keep_means(every)
        estimator = _boosting(rows.classes, seed, count).fit(inputs.to_learn(every), rows.target, rows.weights(every))
        return _as_outputs(trees_of(estimator), estimator, rows.classes)

    return _Tried(held_out, _loss(rows, held_out), count, fitted), ""


def _boosting(classes: int, seed: int, rounds: int | None = None) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return kind(
        learning_rate=0.06, max_leaf_nodes=15, min_samples_leaf=10, l2_regularization=1.0, random_state=seed,
        max_iter=rounds or _ROUNDS, early_stopping=rounds is None, n_iter_no_change=_PATIENCE,
    )  # fmt: skip


class _TreeInputs:
    """What trees see of rows: numbers that are as they are, and means of what is asked over the rows of each value,
    which a row that is learnt from gets of the other rows only."""

    def __init__(self, readout: WideReadout, rows: Rows) -> None:
        self.rows, self.readout = rows, readout
        for name, own in rows.features.items():
            if own.key is not None and hasattr(column := readout.column(name), "key"):
                column.key.copy_(torch.from_numpy(as_known(np.unique(own.key))))
        with torch.no_grad():
            self.numbers = readout.linear_and_numbers(rows.features, rows.present, rows.count)[1].numpy()
        self.width = self.numbers.shape[1]
        self.target = np.eye(rows.classes)[rows.target] if rows.classes and rows.target.ndim == 1 else rows.target
        self.target = self.target.reshape(rows.count, -1)
        self._values: dict[str, tuple[np.ndarray, int, slice]] = {}  # each row's value, how many, where its means stand
        last = 0
        for name, own in rows.features.items():
            last += readout.column(name).numbers
            if own.key is not None and hasattr(readout.column(name), "key"):
                values, which = np.unique(own.key, return_inverse=True)
                of_rows = np.full(rows.count, len(values))
                of_rows[rows.present[name]] = which
                self._values[name] = of_rows, len(values), slice(last - self.target.shape[1], last)

    def to_answer(self, chosen: np.ndarray, learnt: np.ndarray) -> np.ndarray:
        """float64 [chosen, F], with means of the rows that were learnt from."""
        numbers = self.numbers[chosen].copy()
        for name, (value, count, where) in self._values.items():
            mean, overall = self._means(name, learnt)
            mine = value[chosen]
            numbers[mine < count, where] = np.vstack([mean, overall])[mine[mine < count]]
        return numbers

    def to_learn(self, chosen: np.ndarray) -> np.ndarray:
        """float64 [chosen, F]"""
        numbers = np.empty((len(chosen), self.width))
        if not self._values:
            return self.numbers[chosen]
        order = np.random.default_rng(0).permutation(len(chosen))
        for fold in np.array_split(order, _FOLDS):
            numbers[fold] = self.to_answer(chosen[fold], np.delete(chosen, fold))
        return numbers

    def keep_means(self, learnt: np.ndarray) -> None:
        """Puts the means of these rows in the read-out."""
        for name in self._values:
            mean, overall = self._means(name, learnt)
            self.readout.column(name).key_mean.copy_(torch.from_numpy(mean))
            self.readout.column(name).any_mean.copy_(torch.from_numpy(overall))

    def _means(self, name: str, learnt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each value, drawn towards the mean of all: [values, K], [K]."""
        value, count, _ = self._values[name]
        overall = self.target[learnt].mean(0)
        there = learnt[value[learnt] < count]
        sums = np.stack([np.bincount(value[there], column, count) for column in self.target[there].T], axis=1)
        of_value = np.bincount(value[there], minlength=count)[:, None]
        return (sums + _SMOOTHING * overall) / (of_value + _SMOOTHING), overall


def _raw(estimator: Any, x: np.ndarray, classes: int) -> np.ndarray:
    """float64 [r, K]"""
    if not classes:
        return estimator.predict(x)[:, None]
    scores = np.full((len(x), classes), _FLOOR)
    raw = np.asarray(estimator.decision_function(x)).reshape(len(x), -1)
    there = estimator.classes_.astype(int)
    scores[:, there] = np.hstack([-raw / 2, raw / 2]) if len(there) == 2 else raw
    return scores


def _as_outputs(trees: Trees, estimator: Any, classes: int) -> Trees:
    """The estimator's trees, each adding to the outputs of the column."""
    if not classes:
        return trees
    there = estimator.classes_.astype(int)
    baseline = np.full(classes, _FLOOR, dtype=np.float32)
    if len(there) > 2:
        baseline[there] = trees.baseline
        return Trees(**{**vars(trees), "output": there[trees.output], "baseline": baseline})
    baseline[there] = -trees.baseline[0] / 2, trees.baseline[0] / 2
    twice = {
        name: np.concatenate([array, array])
        for name, array in vars(trees).items()
        if isinstance(array, np.ndarray) and name not in ("output", "baseline", "value")
    }
    value = np.concatenate([-trees.value / 2, trees.value / 2])
    output = np.repeat(there, len(trees.output))
    return Trees(**twice, value=value, output=output, baseline=baseline, depth=trees.depth)


def _with_trees(readout: WideReadout, rows: Rows, trees: Trees) -> WideReadout:
    """The read-out with these trees, which its shape then names."""
    shape = WideShape(**{**vars(readout.shape), "trees": (*trees.feature.shape, trees.depth)})
    made = WideReadout(shape)
    made.load_state_dict(readout.state_dict(), strict=False)
    made.trees = TreeEnsemble.of(trees)
    return made


# -- both together ---------------------------------------------------------------------------------------------------
def _mix(rows: Rows, linear: np.ndarray, trees: np.ndarray) -> np.ndarray:
    """How much each counts, never less than nothing: by the least loss on held-out rows."""

    def loss(mix: np.ndarray) -> float:
        return _loss(rows, mix[0] * linear + mix[1] * trees)

    return optimize.minimize(loss, [0.5, 0.5], bounds=[(0, 2), (0, 2)]).x


def _loss(rows: Rows, outputs: np.ndarray) -> float:
    """Mean log loss (nats) or squared error, of weighed rows."""
    if not rows.classes:
        each = (outputs[:, 0] - rows.target) ** 2
    elif rows.target.ndim == 2:
        each = np.logaddexp(0, outputs * (1 - 2 * rows.target)).mean(1)
    else:
        top = outputs.max(1, keepdims=True)
        each = (top + np.log(np.exp(outputs - top).sum(1, keepdims=True)))[:, 0] - outputs[
            np.arange(rows.count), rows.target
        ]
    return float(np.average(each, weights=rows.weight))


def _folds(rows: Rows, seed: int) -> list[np.ndarray]:
    """Rows held out in turn; of every class its share."""
    order = np.random.default_rng(seed).permutation(rows.count)
    if rows.classes and rows.target.ndim == 1:
        order = order[np.argsort(rows.target[order], kind="stable")]
    return [np.sort(order[k::_FOLDS]) for k in range(_FOLDS)]
