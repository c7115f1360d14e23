"""Values of a category as class numbers: one a value, or several at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from onetrunk.columns.families.names import ClassFinder, kind_of, meaning, name_of, value_of
from onetrunk.core import rng
from onetrunk.core.config import Config
from onetrunk.core.content import Content, Role, Segment
from onetrunk.core.encoder import Beside, ClosedSet, Encoder, Growth, ReadsAnother, SegmentContext
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.core.values import all_are, some_are
from onetrunk.core.wide import Sparse, Wide, WideFeatures, WideTarget, one_each

# How often training shows "unknown" instead of a given class, so that an unseen one finds a learnt vector.
_UNKNOWN_RATE = 0.02


class CategoryEncoder(Encoder, ClosedSet, ReadsAnother, Wide, WideTarget):
    """Classes in order, as strings; `value` gives one back as the kind of value that it was."""

    type_name = "category"

    class Options(Config):
        balance: bool = False  # weigh classes by the inverse of their frequency
        smoothing: float = Field(0.0, ge=0, lt=1)  # label smoothing in training (arXiv 1512.00567)
        dropout: float = Field(0.0, ge=0, lt=1)  # before the read-out
        on: str | None = None  # the column from whose last position it is read; None: from a slot of its own

    options: Options
    classes: list[str]
    counts: list[int]
    kind: str
    multi: bool  # several classes at once?
    _finder: ClassFinder | None = None

    @property
    def on(self) -> str | None:
        return self.options.on

    # -- values ------------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        if all_are(values, bool | np.bool_):
            return 0.95
        if all(isinstance(v, list | tuple | set) and all(isinstance(x, str) for x in v) for v in values):
            return 0.9
        if all_are(values, str):
            distinct = len(set(map(str.strip, set(values))))  # their names
            short = float(np.mean([len(v) for v in values])) <= 40
            few = distinct <= max(20, 0.05 * len(values)) and (distinct < 0.7 * len(values) or len(values) < 10)
            return 0.9 if short and few else 0.2
        if len(values) < 50 or not _are_whole(values):
            return 0.1
        if set(map(type, values)) <= {int, float}:
            return 0.7 if len(set(values)) <= 10 else 0.1
        different = values if some_are(values, bool) else set(values)  # True is no 1
        return 0.7 if len({name_of(v) for v in different}) <= 10 else 0.1

    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        if set(map(type, values)) == {str}:
            counts = Counter(map(str.strip, values))  # their names
        else:
            counts = Counter(name_of(x) for v in values for x in members(v))
        return {"classes": len(counts), "counts": dict(counts.most_common(20))}

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        return "|".join(sorted(name_of(x) for x in members(value)))

    # -- knowledge ---------------------------------------------------------------------------------------------------
    def fit(self, values: Sequence[Any]) -> None:
        self.multi = some_are(values, list | tuple | set)
        counts, originals = _joined([x for v in values for x in members(v)] if self.multi else values)
        if len(counts) < 2 and not self.multi:
            listed = ", ".join(f"{name!r}: {count}" for name, count in counts.items()) or "none"
            raise DataError(f"A category needs at least 2 classes in the training rows; found {listed}.")
        numeric = all(isinstance(x, int | float | np.number) and not isinstance(x, bool) for x in originals.values())
        self.classes = sorted(counts, key=originals.__getitem__ if numeric else None)
        self.kind = kind_of(originals.values())
        self.counts, self._finder = [counts[name] for name in self.classes], None

    def extend(self, values: Sequence[Any]) -> Growth:
        new = sorted({name_of(x) for v in values for x in members(v) if self.row_of(x) < 0})
        self.classes += new
        self.counts += [1] * len(new)
        return Growth({"classes": [[] for _ in new]})

    def knowledge(self) -> dict[str, Any]:
        return {"classes": self.classes, "counts": self.counts, "kind": self.kind, "multi": self.multi}

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.classes, self.counts, self._finder = list(knowledge["classes"]), list(knowledge["counts"]), None
        self.kind, self.multi = knowledge["kind"], knowledge["multi"]

    def class_names(self) -> list[str]:
        return list(self.classes)

    def value(self, index: int) -> Any:
        """A class as the training values were written: a bool, a number or a string."""
        return value_of(self.classes[index], self.kind)

    # -- values to arrays ----------------------------------------------------------------------------------------------
    @property
    def reads_cells(self) -> bool:
        """Where classes are texts, 3.10 is not 3.1."""
        return getattr(self, "kind", None) == "str"

    def plain(self, values: list[Any]) -> list[Any]:
        if set(map(type, values)) <= {str, type(None)}:
            texts = {value: self._known(value) for value in set(values) - {None}} | {None: None}
            return [texts[value] for value in values]
        known: dict[tuple[type, Any], Any] = {}

        def read(value: Any) -> Any:
            if isinstance(value, list | tuple | set):
                return [read(x) for x in value]
            if not isinstance(value, Hashable):
                return value
            key = (type(value), value)
            if key not in known:
                known[key] = self._known(value)
            return known[key]

        return [None if value is None else read(value) for value in values]

    def _known(self, value: Any) -> Any:
        """As the training values were written; itself where training never saw it."""
        row = self.row_of(value)
        return value if row < 0 else self.value(row)

    def row_of(self, value: Any) -> int:
        """The number of the class that a value names, in whatever spelling or type; -1 of one that training never
        saw."""
        return self._find()(value)

    def name(self, value: Any) -> str:
        """Of the class that a value names; its own of one that training never saw."""
        return self._find().name(value)

    def _find(self) -> ClassFinder:
        if self._finder is None or len(self._finder) != len(self.classes):
            self._finder = ClassFinder(self.classes, self.kind)
        return self._finder

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """A class never seen in training is -1: unknown where given, not trained on where asked. Where a value holds
        several, those never seen are only counted."""
        if isinstance(value, dict) or (isinstance(value, list | tuple | set) and not self.multi):
            raise BadValueError(f"expected {'classes' if self.multi else 'one class'}, found {value!r}")
        if self.multi:
            hot = np.zeros(len(self.classes), dtype=np.float32)
            rows = {name_of(x): self.row_of(x) for x in members(value)}
            hot[[row for row in rows.values() if row >= 0]] = 1
            return {"hot": hot, "unseen": np.asarray(sum(row < 0 for row in rows.values()), dtype=np.int64)}
        return {"id": np.asarray(self.row_of(value), dtype=np.int64)}

    def encode_all(self, values: Sequence[Any], bad: Callable[[int, str], None]) -> tuple[Content, np.ndarray]:
        there = [value for value in values if value is not None]
        if self.multi or not there or not set(map(type, there)) <= {str, int, float, bool}:
            return super().encode_all(values, bad)
        rows = {key: self.row_of(key[1]) for key in {(type(value), value) for value in there}}
        ids = np.array([rows[type(value), value] for value in there], dtype=np.int64)
        return Content({"id": ids}), np.array([value is not None for value in values], dtype=bool)

    def blank(self) -> dict[str, np.ndarray]:
        if self.multi:
            return {"hot": np.zeros(len(self.classes), dtype=np.float32), "unseen": np.asarray(0, dtype=np.int64)}
        return {"id": np.asarray(-1, dtype=np.int64)}

    def dropped(self, content: Content, read_on: Beside | None = None) -> dict[str, int]:
        unseen = int(content.data["unseen"].sum() if self.multi else (content.data["id"] < 0).sum())
        return {"classes unseen in training": unseen} if unseen else {}

    def wide_target(self, content: Content) -> tuple[np.ndarray, int]:
        arrays = content.gather()
        return (arrays["hot"] if self.multi else arrays["id"]), len(self.classes)

    def wide_features(self, content: Content) -> WideFeatures:
        """Its class, or its classes."""
        arrays = content.gather()
        if not self.multi:
            key = arrays["id"].astype(np.uint64)  # unseen ones are one more class
            return WideFeatures(len(content), {"class": one_each(arrays["id"])}, key=key)
        row, feature = np.nonzero(arrays["hot"])
        there = Sparse(row, feature.astype(np.uint64), np.ones(len(row), dtype=np.float32))
        return WideFeatures(len(content), {"class": there}, dense=arrays["hot"].astype(np.float64))

    # -- arrays to positions -------------------------------------------------------------------------------------------
    def segment(self, content: Content, context: SegmentContext) -> Segment:
        m = len(content)
        arrays = {name: array for name, array in content.gather().items() if name != "unseen"}
        hidden = np.full(m, context.role != Role.GIVEN)
        if context.role == Role.GIVEN:
            if context.augment and not self.multi:
                arrays["id"] = np.where(rng.uniform(context.keys) < _UNKNOWN_RATE, -1, arrays["id"])
            return Segment({**arrays, "hidden": hidden}, np.ones(m, dtype=np.int64))
        blank = {name: np.zeros_like(array) for name, array in arrays.items()}
        targets = {**arrays, "w": self._weights(arrays)}
        if (on := context.read_positions) is not None:
            there = np.flatnonzero(on.lens)
            nothing = {name: array[:0] for name, array in {**blank, "hidden": hidden}.items()}
            reads = np.cumsum(on.lens)[there] - 1
            targets = {name: array[there] for name, array in targets.items()}
            return Segment(nothing, np.zeros(m, dtype=np.int64), reads=reads, targets=targets)
        ones, reads = np.ones(m, dtype=np.int64), np.arange(m, dtype=np.int64)
        return Segment({**blank, "hidden": hidden}, ones, reads=reads, targets=targets)

    def _weights(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        if self.multi:
            return np.ones(len(arrays["hot"]), dtype=np.float32)
        ids = arrays["id"]
        w = (ids >= 0).astype(np.float32)
        if self.options.balance:
            counts = np.maximum(np.array(self.counts, dtype=np.float32), 1)
            w *= (counts.sum() / (len(counts) * counts))[ids]
        return w


def _are_whole(values: Sequence[Any]) -> bool:
    if all_are(values, int | np.integer):
        return True
    return all(isinstance(v, int | np.integer) or (isinstance(v, float) and v.is_integer()) for v in values)


def _joined(values: Sequence[Any]) -> tuple[Counter[str], dict[str, Any]]:
    """How often each class occurs, by its name, and one of its values.

    What is a text in some rows and a number or a truth value in others is one class, where one text means it: "1.0" and
    1, "true" and True. Texts among themselves stay as they are written.
    """
    counts: Counter[str] = Counter()
    originals: dict[str, Any] = {}
    texts: set[str] = set()
    # Each text once: they repeat. Of other types 1, True and 1.0 are not to be taken for one another.
    repeated = Counter(values).items() if set(map(type, values)) == {str} else ((value, 1) for value in values)
    for value, times in repeated:
        name = name_of(value)
        counts[name] += times
        if isinstance(value, str):
            texts.add(name)
            originals.setdefault(name, value)
        else:
            originals[name] = value
    typed = {meaning(value): name for name, value in originals.items() if not isinstance(value, str)}
    if typed and texts:
        meant = Counter(meaning(name) for name in texts)
        for name in [name for name, value in originals.items() if isinstance(value, str)]:
            means = meaning(name)
            if means in typed and meant[means] == 1:
                counts[typed[means]] += counts.pop(name)
                del originals[name]
    return counts, originals


def members(value: Any) -> list[Any]:
    """The classes of a value: several, or the one that it is."""
    return list(value) if isinstance(value, list | tuple | set) else [value]
