"""Label propagation: gives unlabelled rows the label that their neighbours, by the model's states, agree on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.core.encoder import class_names
from onetrunk.core.errors import UsageError
from onetrunk.data.store import Store
from onetrunk.inference.answer_rows import pooled_states
from onetrunk.inference.model_folder import Model, Task

_NEIGHBOURS = 10
_TRUST = 0.9  # how far labels travel; 0 is not at all


def propagate_labels(model: Model, store: Store, task: Task, values: Sequence[Any]) -> tuple[list[Any], np.ndarray]:
    """Fills the missing values of a closed set of answers by label spreading (Zhou et al. 2004, on learnt states as in
    arXiv 1904.04717). Returns all values, and how sure each is: 1 where it was known. Raises UsageError where an answer
    is not one of a closed set.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.semi_supervised import LabelSpreading

    names = class_names(model.encoder(task.ask[0])) or []
    known = np.array([value is not None for value in values])
    targets = model.evaluation(task.ask[0]).target([v for v in values if v is not None])
    if not names or targets.ndim > 1:
        raise UsageError(
            f"finetune.label_propagation needs answers that are one class each; {task.ask[0]!r} has others."
        )
    labels = np.full(len(values), -1)
    labels[known] = [names.index(name) for name in targets]
    states = pooled_states(model.network, store, task.given)
    states /= np.linalg.norm(states, axis=1, keepdims=True).clip(1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 30 rounds reach every row
        spreading = LabelSpreading(kernel="knn", n_neighbors=min(_NEIGHBOURS, len(values)), alpha=_TRUST)
        spread = spreading.fit(states, labels)
    p = spread.label_distributions_
    entropy = -(p * np.log(p.clip(1e-12))).sum(1) / np.log(max(2, p.shape[1]))
    filled = [
        value if value is not None else names[spread.classes_[k]] for value, k in zip(values, p.argmax(1), strict=True)
    ]
    return filled, np.where(known, 1.0, 1 - entropy).astype(np.float32)
