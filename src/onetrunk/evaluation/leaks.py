"""Do the held-out rows give more away than rows that come later will? Rows that nearly stand among the training rows,
and columns from each of which alone the answer can be read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onetrunk.core.encoder import Encoder, Ordered, class_names
from onetrunk.core.errors import BadValueError

ALONE = 0.98  # of the held-out rows are told by one column: too good to be true
BEFOREHAND = 0.95  # share of the most frequent class above which nothing is surprising
_CUTS = 40  # of a column of numbers
_FEWEST_ROWS = 20


def nearly_learnt(
    encoders: Mapping[str, Encoder], train: Mapping[str, Sequence[Any]], held_out: Mapping[str, Sequence[Any]]
) -> np.ndarray | None:
    """Held-out rows, bool [n], that a training row equals in every given column, or nearly where its type knows what
    nearly the same is (a text but for spaces and signs, a picture by its thumbnail). None where nothing is given."""
    names = [name for name in held_out if name in train]
    if not names:
        return None

    def keys(columns: Mapping[str, Sequence[Any]]) -> list[tuple[str | None, ...]]:
        return list(zip(*([_key(encoders[name], value) for value in columns[name]] for name in names), strict=True))

    known = set(keys(train))
    return np.array([any(part is not None for part in key) and key in known for key in keys(held_out)], dtype=bool)


def _key(encoder: Encoder, value: Any) -> str | None:
    if value is None:
        return None
    near = encoder.near_duplicate_key(value)
    return encoder.fingerprint(value) if near is None else near


def telling_columns(
    encoders: Mapping[str, Encoder],
    ask: str,
    train: Mapping[str, Sequence[Any]],
    held_out: Mapping[str, Sequence[Any]],
    answered: Sequence[Any],
    truths: Sequence[Any],
) -> dict[str, float]:
    """Columns from each of which alone a table of training values tells the class of at least 98 % of the held-out
    rows, and how many. Empty where answers are no classes, or one class is nearly all."""
    asked = encoders[ask]
    if class_names(asked) is None or any(isinstance(value, list | tuple | set | dict) for value in truths):
        return {}
    right = [asked.fingerprint(value) for value in truths]
    if len(right) < _FEWEST_ROWS or Counter(right).most_common(1)[0][1] > BEFOREHAND * len(right):
        return {}
    out = {}
    for name, values in held_out.items():
        if name == ask or name not in train:
            continue
        learn, test = _marks(encoders[name], train[name], values)
        counts: dict[Any, Counter[str]] = defaultdict(Counter)
        for mark, label in zip(learn, answered, strict=True):
            if label is not None and not isinstance(label, list | tuple | set | dict):
                counts[mark][asked.fingerprint(label)] += 1
        usual = sum(counts.values(), Counter()).most_common(1)
        if not usual:
            return {}
        told = [(counts[m].most_common(1)[0][0] if counts.get(m) else usual[0][0]) for m in test]
        share = float(np.mean([a == b for a, b in zip(told, right, strict=True)]))
        if share >= ALONE:
            out[name] = share
    return out


def _marks(encoder: Encoder, learn: Sequence[Any], test: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """What of each value counts as the same: its fingerprint or, of values on a line, which of 40 equally full
    stretches it lies in."""
    if not isinstance(encoder, Ordered):
        left, right = ([None if v is None else encoder.fingerprint(v) for v in side] for side in (learn, test))
        return left, right

    def line(values: Sequence[Any]) -> np.ndarray:
        out = np.full(len(values), np.nan)
        for i, value in enumerate(values):
            if value is not None:
                try:
                    out[i] = encoder.to_line(value)
                except BadValueError:
                    continue
        return out

    known, asked = line(learn), line(test)
    finite = known[np.isfinite(known)]
    cuts = np.unique(np.quantile(finite, np.linspace(0, 1, _CUTS + 1)[1:-1])) if len(finite) else np.zeros(0)
    before, after = (np.where(np.isnan(x), -1, np.searchsorted(cuts, x)).tolist() for x in (known, asked))
    return before, after
