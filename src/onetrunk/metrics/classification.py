"""One class out of several, or several at once. Labels are the column's own spelling: plain strings.

A true label that was not among the training classes counts as wrong, and is counted under "unseen". What
needs its probability (AUC, log loss) is measured on the other rows, for no model has one for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from onetrunk.core.metric import Metric

UNSEEN = Metric("unseen", False, "rows")
SINGLE_LABEL = (
    Metric("accuracy", True),
    Metric("balanced_accuracy", True),
    Metric("f1_macro", True),
    Metric("auc", True),
    Metric("log_loss", False, "nats"),
    Metric("brier", False),
    Metric("ece", False),
    Metric("coverage", True),
    Metric("set_size", False, "classes"),
    UNSEEN,
)
MULTILABEL = (Metric("f1_micro", True), Metric("f1_macro", True), Metric("mAP", True), UNSEEN)

_ECE_BINS = 15
_RANKED_AT_ONCE = 1 << 21  # probabilities
_SMALLEST = 1e-15  # a probability of 0 would make the log loss infinite


def classification(
    truths: Sequence[str], predicted: Sequence[str], probabilities: np.ndarray | None, classes: Sequence[str]
) -> dict[str, float | None]:
    """Metrics of n single-label answers; `probabilities` is [n, C] in the order of `classes`.

    AUC is of the second class for two classes, else the mean of one against the rest over the classes
    present. Brier is the squared distance to the one-hot truth, halved for two classes (Brier 1950, as
    scikit-learn has it). ECE has 15 equal bins of confidence (Guo et al., arXiv 1706.04599).
    """
    out: dict[str, float | None] = dict.fromkeys(
        ("accuracy", "balanced_accuracy", "f1_macro", "auc", "log_loss", "brier", "ece")
    )
    place = {name: k for k, name in enumerate(classes)}
    out["unseen"] = float(sum(t not in place for t in truths))
    if not len(truths):
        return out
    truth, answer = np.asarray(truths, dtype=str), np.asarray(predicted, dtype=str)
    right = truth == answer
    table = per_class(truths, predicted)
    out["accuracy"] = float(right.mean())
    out["balanced_accuracy"] = float(np.mean([row["recall"] for row in table if row["rows"]]))
    out["f1_macro"] = float(np.mean([row["f1"] for row in table]))
    if probabilities is not None:
        p = np.asarray(probabilities, dtype=np.float64)
        hot = np.zeros(p.shape, dtype=bool)  # all false where unseen
        known = [(i, place[t]) for i, t in enumerate(truths) if t in place]
        hot[[i for i, _ in known], [k for _, k in known]] = True
        out |= _probabilistic(p, hot) | {"ece": ece(p.max(1), right)}
    return out


def of_distributions(
    shares: np.ndarray, predicted: Sequence[str], probabilities: np.ndarray, classes: Sequence[str]
) -> dict[str, float | None]:
    """Log loss, Brier score and ECE where what is true of a row is a distribution, `shares` [n, C]: the cross entropy
    with it (which is at least its own entropy), the squared distance to it, and answers that are right as much as it
    says. What of a distribution is of unseen classes is left out of the log loss."""
    p, q = np.asarray(probabilities, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    known = q.sum(1) > 0
    if not known.any():
        return {"log_loss": None, "brier": None, "ece": None}
    q_known = q[known] / q[known].sum(1, keepdims=True)
    log_loss = -(q_known * np.log(np.clip(p[known], _SMALLEST, 1.0))).sum(1).mean()
    brier = ((p - q) ** 2).sum(1) + (1 - q.sum(1)) ** 2
    place = {name: k for k, name in enumerate(classes)}
    answered = np.array([place[name] for name in predicted])
    at = np.arange(len(p))
    return {
        "log_loss": float(log_loss),
        "brier": float(brier.mean() / (2 if p.shape[1] == 2 else 1)),
        "ece": ece(p[at, answered], q[at, answered]),
    }


def _probabilistic(p: np.ndarray, hot: np.ndarray) -> dict[str, float | None]:
    seen = hot.any(1)
    # The squared distance to a truth of 1: |p|² - 2 p + 1. An unseen one is a class of probability 0 for every model.
    brier = np.einsum("nc,nc->n", p, p) + 1
    brier[seen] -= 2 * p[hot]
    log_loss = -np.log(np.clip(p[hot], _SMALLEST, 1.0)).mean() if seen.any() else None
    return {
        "auc": _auc(p[seen], hot[seen]),
        "log_loss": None if log_loss is None else float(log_loss),
        "brier": float(brier.mean() / (2 if p.shape[1] == 2 else 1)),
    }


def _auc(p: np.ndarray, hot: np.ndarray) -> float | None:
    """By the ranks of the true ones (Mann and Whitney 1947), of some classes at once: there may be thousands."""
    from scipy.stats import rankdata

    n, true = len(hot), hot.sum(0)
    which = np.flatnonzero((true > 0) & (true < n))
    which = which[which == 1] if p.shape[1] == 2 else which
    areas: list[float] = []
    for first in range(0, len(which), step := max(1, _RANKED_AT_ONCE // max(1, n))):
        some = which[first : first + step]
        ranks = (rankdata(p[:, some], axis=0) * hot[:, some]).sum(0)
        areas += ((ranks - true[some] * (true[some] + 1) / 2) / (true[some] * (n - true[some]))).tolist()
    return float(np.mean(areas)) if areas else None


def ece(confidence: np.ndarray, right: np.ndarray) -> float:
    """How far confidence [n] and accuracy (right [n], 0 or 1) differ, in the mean over bins of confidence."""
    bins = np.clip(np.ceil(confidence * _ECE_BINS).astype(int) - 1, 0, _ECE_BINS - 1)
    gaps = np.bincount(bins, right - confidence, minlength=_ECE_BINS)
    return float(np.abs(gaps).sum() / len(right))


def per_class(truths: Sequence[str] | np.ndarray, predicted: Sequence[str] | np.ndarray) -> list[dict[str, Any]]:
    """Precision, recall, F1 and rows of every class true or answered somewhere, in alphabetical order.

    Precision of a class never answered, and recall of one never true, are 0, as in scikit-learn.
    """
    names, codes = np.unique(np.asarray([*truths, *predicted], dtype=str), return_inverse=True)
    truth, answer = codes[: len(truths)], codes[len(truths) :]
    hits = np.bincount(truth[truth == answer], minlength=len(names))
    true, answered = np.bincount(truth, minlength=len(names)), np.bincount(answer, minlength=len(names))
    return [
        {
            "class": str(name),
            "precision": float(h / max(a, 1)),
            "recall": float(h / max(t, 1)),
            "f1": float(2 * h / (t + a)),
            "rows": int(t),
        }
        for name, h, t, a in zip(names, hits, true, answered, strict=True)
    ]


def multilabel(
    truths: Sequence[Collection[str]],
    probabilities: np.ndarray,
    classes: Sequence[str],
    threshold: float = 0.5,
) -> dict[str, float | None]:
    """Metrics of n answers of any number of labels each; `probabilities` is [n, C].

    A label is answered from `threshold` on. An unseen true label is a miss. Mean average precision is over
    the classes that are true somewhere; macro F1 over those true or answered somewhere.
    """
    from sklearn.metrics import average_precision_score

    unseen = sum(len(set(t) - set(classes)) for t in truths)
    out: dict[str, float | None] = {"f1_micro": None, "f1_macro": None, "mAP": None, "unseen": float(unseen)}
    if not len(truths):
        return out
    p = np.asarray(probabilities, dtype=np.float64)
    hot = np.array([[name in t for name in classes] for t in truths])
    answered = p >= threshold
    hits, true, named = (hot & answered).sum(0), hot.sum(0), answered.sum(0)
    possible = true.sum() + named.sum() + unseen
    out["f1_micro"] = float(2 * hits.sum() / possible) if possible else None
    used = true + named > 0
    extra = len({label for t in truths for label in t} - set(classes))  # classes of F1 0
    if used.any() or extra:
        out["f1_macro"] = float((2 * hits[used] / (true + named)[used]).sum() / (used.sum() + extra))
    precisions = [float(average_precision_score(hot[:, k], p[:, k])) for k in np.flatnonzero(true)]
    out["mAP"] = float(np.mean(precisions)) if precisions else None
    return out
