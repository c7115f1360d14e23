"""Values of a category as class numbers: one a value, or several at once; or as shares of classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from onetrunk.columns.category.levels import as_given, first_cuts, fit_levels, in_order
from onetrunk.columns.category.shares import is_distribution, largest, shares_of, written
from onetrunk.columns.families.names import ClassFinder, check_names, kind_of, meaning, name_of, value_of
from onetrunk.core import rng
from onetrunk.core.config import Config
from onetrunk.core.content import Content, Role, Segment
from onetrunk.core.encoder import Beside, ClosedSet, Encoder, Growth, ReadsAnother, SegmentContext
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.core.parts import Arrays, Divided, Parts
from onetrunk.core.values import all_are, some_are
from onetrunk.core.wide import Sparse, Wide, WideFeatures, WideTarget, one_each

# How often training shows "unknown" instead of a given class, so that an unseen one finds a learnt vector.
_UNKNOWN_RATE = 0.02


class CategoryEncoder(Encoder, ClosedSet, ReadsAnother, Wide, WideTarget, Divided):
    """Classes in order, as strings; `value` gives one back as the kind of value that it was."""

    type_name = "category"

    class Options(Config):
        balance: bool = False  # weigh classes by the inverse of their frequency
        smoothing: float = Field(0.0, ge=0, lt=1)  # label smoothing in training (arXiv 1512.00567)
        dropout: float = Field(0.0, ge=0, lt=1)  # before the read-out
        on: str | None = None  # the column from whose last position it is read; None: from a slot of its own
        ordered: bool = False  # classes are levels: by their numbers, or as a known scale has them
        levels: list[str] | None = Field(None, min_length=2)  # them, the lowest first, where nothing tells their order

        @model_validator(mode="after")
        def _levels_differ(self) -> CategoryEncoder.Options:
            if self.levels is not None and len(set(self.levels)) < len(self.levels):
                raise ValueError(f"levels should all differ; found {', '.join(self.levels)}")
            return self

    options: Options
    notations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"ordered": {"ordered": True}}
    classes: list[str]
    counts: list[float]
    kind: str
    multi: bool  # several classes at once?
    soft: bool = False  # are some values distributions over the classes?
    _finder: ClassFinder | None = None
    _slope: float = 1.0  # of what a wide read-out says of a level (`expect_around`)
    _cuts: np.ndarray | None = None

    @property
    def on(self) -> str | None:
        return self.options.on

    @property
    def ordered(self) -> bool:
        """Are its classes levels, the lowest first?"""
        return self.options.ordered or self.options.levels is not None

    @classmethod
    def notation(cls, name: str) -> Mapping[str, Any] | None:
        """`ordered`; or levels in order, like low<medium<high."""
        if "<" in name:
            return {"levels": [level.strip() for level in name.split("<")]}
        return super().notation(name)

    # -- values ------------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        if all_are(values, bool | np.bool_):
            return 0.95
        if all(isinstance(v, list | tuple | set) and all(isinstance(x, str) for x in v) for v in values):
            return 0.9
        if some_are(values, dict):
            return 0.95 if all(is_distribution(v) or isinstance(v, str | bool | int | float) for v in values) else 0.0
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
        if some_are(values, dict):
            return _described(values)
        if set(map(type, values)) == {str}:
            counts = Counter(map(str.strip, values))  # their names
        else:
            counts = Counter(name_of(x) for v in values for x in members(v))
        return {"classes": len(counts), "counts": dict(counts.most_common(20))}

    @classmethod
    def show(cls, value: Any, on: Any = None) -> dict[str, str]:
        return super().show(written(shares_of(value)) if is_distribution(value) else value, on)

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        if is_distribution(value):
            return "|".join(f"{name}:{share:.6g}" for name, share in sorted(shares_of(value).items()))
        return "|".join(sorted(name_of(x) for x in members(value)))

    # -- knowledge ---------------------------------------------------------------------------------------------------
    def fit(self, values: Sequence[Any]) -> None:
        self.multi, self.soft = some_are(values, list | tuple | set), some_are(values, dict)
        counts: Mapping[str, float]
        if self.soft:
            counts, originals = _joined_shares(values)
        else:
            counts, originals = _joined([x for v in values for x in members(v)] if self.multi else values)
        if not counts and not self.multi:
            raise DataError("A category needs at least 1 class in the training rows; found none.")
        if self.ordered and self.multi:
            raise DataError("Levels are one a row; these are several at once. Leave ordered and levels out.")
        numeric = all(isinstance(x, int | float | np.number) and not isinstance(x, bool) for x in originals.values())
        classes = sorted(counts, key=originals.__getitem__ if numeric else None)
        kind = kind_of(originals.values())
        if self.options.levels is not None:
            classes = as_given([name_of(level) for level in self.options.levels], classes)
        elif self.options.ordered and kind == "str":
            classes = in_order(classes)
        self.classes, self.kind, self._finder = classes, kind, None
        self.counts = [counts.get(name, 0) for name in classes]

    def extend(self, values: Sequence[Any]) -> Growth:
        if self.ordered:  # nobody knows between which levels a new one stands: it stays unseen, and is counted
            return Growth()
        seen = (x for v in values for x in (shares_of(v) if is_distribution(v) else members(v)))
        new = sorted({name_of(x) for x in seen if self.row_of(x) < 0})
        self.classes += new
        self.counts += [1] * len(new)
        return Growth({"classes": [[] for _ in new]})

    teaches_nothing = "its training rows have one class, and a category that is asked needs at least 2"

    def teaches(self, content: Content) -> np.ndarray:
        return np.full(len(content), self.multi or len(self.classes) > 1)

    def knowledge(self) -> dict[str, Any]:
        known = {"classes": self.classes, "counts": self.counts, "kind": self.kind, "multi": self.multi}
        return {**known, "soft": True} if self.soft else known

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.classes, self.counts, self._finder = list(knowledge["classes"]), list(knowledge["counts"]), None
        self.kind, self.multi, self.soft = knowledge["kind"], knowledge["multi"], knowledge.get("soft", False)
        check_names(self.classes, self.kind)
        if len(self.counts) != len(self.classes):
            raise ValueError(f"{len(self.classes)} classes have {len(self.counts)} counts")

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
        """Of the class that a value names; its own of one that training never saw. Of a distribution the largest."""
        return self.largest(value) if isinstance(value, dict) else self._find().name(value)

    def shares(self, value: Any) -> np.ndarray:
        """Each class's share of a value, float32 [classes]: of a distribution, or of one class. What training never saw
        has none. Raises BadValueError."""
        out = np.zeros(len(self.classes), dtype=np.float32)
        for name, share in (shares_of(value) if isinstance(value, dict) else {value: 1.0}).items():
            if (row := self.row_of(name)) >= 0:
                out[row] += share
        return out

    def largest(self, value: dict[Any, Any]) -> str:
        """The class of the largest share. Raises BadValueError."""
        return largest({self._find().name(name): share for name, share in shares_of(value).items()}, self.classes)

    def _find(self) -> ClassFinder:
        if self._finder is None or len(self._finder) != len(self.classes):
            self._finder = ClassFinder(self.classes, self.kind)
        return self._finder

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """A class never seen in training is -1: unknown where given, not trained on where asked. Where a value holds
        several, those never seen are only counted."""
        if isinstance(value, list | tuple | set) and not self.multi:
            raise BadValueError(f"expected one class, found {value!r}")
        if isinstance(value, dict) and not self.soft:
            expected = "classes" if self.multi else "one class, as in the training rows"
            raise BadValueError(f"expected {expected}, found {value!r}")
        if self.soft:
            p = self.shares(value)
            known = float(p.sum())
            return {"p": p / known if known else p, "unseen": np.asarray(known < 1 - 1e-6, dtype=np.int64)}
        if self.multi:
            hot = np.zeros(len(self.classes), dtype=np.float32)
            rows = {name_of(x): self.row_of(x) for x in members(value)}
            hot[[row for row in rows.values() if row >= 0]] = 1
            return {"hot": hot, "unseen": np.asarray(sum(row < 0 for row in rows.values()), dtype=np.int64)}
        return {"id": np.asarray(self.row_of(value), dtype=np.int64)}

    def encode_all(self, values: Sequence[Any], bad: Callable[[int, str], None]) -> tuple[Content, np.ndarray]:
        there = [value for value in values if value is not None]
        if self.multi or self.soft or not there or not set(map(type, there)) <= {str, int, float, bool}:
            return super().encode_all(values, bad)
        rows = {key: self.row_of(key[1]) for key in {(type(value), value) for value in there}}
        ids = np.array([rows[type(value), value] for value in there], dtype=np.int64)
        return Content({"id": ids}), np.array([value is not None for value in values], dtype=bool)

    def blank(self) -> dict[str, np.ndarray]:
        if self.soft:
            return {"p": np.zeros(len(self.classes), dtype=np.float32), "unseen": np.asarray(0, dtype=np.int64)}
        if self.multi:
            return {"hot": np.zeros(len(self.classes), dtype=np.float32), "unseen": np.asarray(0, dtype=np.int64)}
        return {"id": np.asarray(-1, dtype=np.int64)}

    def dropped(self, content: Content, read_on: Beside | None = None) -> dict[str, int]:
        counted = "unseen" in content.data
        unseen = int(content.gather()["unseen"].sum() if counted else (content.data["id"] < 0).sum())
        return {"classes unseen in training": unseen} if unseen else {}

    def wide_target(self, content: Content) -> tuple[np.ndarray, int]:
        arrays, count = content.gather(), len(self.classes)
        if not self.ordered:
            return (arrays["hot"] if self.multi else self._ids(arrays)), count
        levels = arrays["p"] @ np.arange(count) if self.soft else arrays["id"]
        centre, scale = self._line()
        return np.where(self._ids(arrays) >= 0, (levels - centre) / scale, np.nan), 0

    def wide_shares(self, content: Content) -> np.ndarray | None:
        return content.gather()["p"] if self.soft and not self.ordered else None

    def expect_around(self, outputs: np.ndarray, residuals: np.ndarray) -> None:
        """Of levels: how high one is where a wide read-out says so much."""
        if self.ordered:
            centre, scale = self._line()
            levels = np.clip((outputs + residuals) * scale + centre, 0, len(self.classes) - 1)
            self._slope, self._cuts = fit_levels(outputs.astype(np.float64), levels, len(self.classes))

    @property
    def around(self) -> tuple[float, np.ndarray]:
        """What `expect_around` learnt: the slope of a wide read-out's number, and the cuts between levels. Before that
        these are of the training rows' frequencies."""
        return self._slope, first_cuts(self.counts) if self._cuts is None else self._cuts

    def _line(self) -> tuple[float, float]:
        """The mean and the spread of the training rows' levels, counted from 0."""
        counts, at = np.maximum(np.array(self.counts, dtype=np.float64), 1e-9), np.arange(len(self.counts))
        centre = float(np.average(at, weights=counts))
        return centre, max(float(np.sqrt(np.average((at - centre) ** 2, weights=counts))), 1e-3)

    def _ids(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The class of each value, int64 [m]; of a distribution the largest; -1 of what training never saw."""
        if not self.soft:
            return arrays["id"]
        return np.where(arrays["p"].sum(1) > 0, arrays["p"].argmax(1), -1).astype(np.int64)

    def wide_features(self, content: Content) -> WideFeatures:
        """Its class, or its classes; of levels also how high it is."""
        arrays = content.gather()
        if self.multi or self.soft:
            hot = arrays["hot"] if self.multi else arrays["p"]
            row, feature = np.nonzero(hot)
            there = Sparse(row, feature.astype(np.uint64), hot[row, feature].astype(np.float32))
            return WideFeatures(len(content), {"class": there}, dense=hot.astype(np.float64))
        key = arrays["id"].astype(np.uint64)  # unseen ones are one more class
        level = np.where(arrays["id"] >= 0, arrays["id"], np.nan)[:, None] if self.ordered else None
        return WideFeatures(len(content), {"class": one_each(arrays["id"])}, dense=level, key=key)

    # -- parts -------------------------------------------------------------------------------------------------------
    def parts(self, content: Content, asked: bool) -> Parts:
        count = 0 if asked else 1
        arrays = content.gather()
        if self.soft:
            shares = [f"{name} {share:.0%}" for name, share in zip(self.classes, arrays["p"][0], strict=True) if share]
            label = ", ".join(shares) or "unknown"
        else:
            ids = np.flatnonzero(arrays["hot"][0]) if self.multi else arrays["id"][:1]
            label = ", ".join("unknown" if i < 0 else self.classes[i] for i in ids.tolist())
        return Parts(np.arange(count), [label][:count], "value")

    def hide(self, arrays: Arrays, hidden: np.ndarray) -> Arrays:
        """As a class that training never saw, which training shows now and then; several at once as when asked."""
        if self.multi:
            return {**arrays, "hidden": arrays["hidden"] | hidden}
        if self.soft:
            return {**arrays, "p": np.where(hidden[:, None], np.float32(0), arrays["p"])}
        return {**arrays, "id": np.where(hidden, -1, arrays["id"])}

    # -- arrays to positions -------------------------------------------------------------------------------------------
    def segment(self, content: Content, context: SegmentContext) -> Segment:
        m = len(content)
        arrays = {name: array for name, array in content.gather().items() if name != "unseen"}
        hidden = np.full(m, context.role != Role.GIVEN)
        if context.role == Role.GIVEN:
            if context.augment and not self.multi:
                unknown = rng.uniform(context.keys) < _UNKNOWN_RATE
                if self.soft:
                    arrays["p"] = np.where(unknown[:, None], np.float32(0), arrays["p"])
                else:
                    arrays["id"] = np.where(unknown, -1, arrays["id"])
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
        w = (self._ids(arrays) >= 0).astype(np.float32)
        if self.options.balance:
            counts = np.maximum(np.array(self.counts, dtype=np.float32), 1)
            of_class = counts.sum() / (len(counts) * counts)
            w *= arrays["p"] @ of_class if self.soft else of_class[arrays["id"]]
        return w


def _are_whole(values: Sequence[Any]) -> bool:
    if all_are(values, int | np.integer):
        return True
    return all(isinstance(v, int | np.integer) or (isinstance(v, float) and v.is_integer()) for v in values)


def _described(values: Sequence[Any]) -> dict[str, Any]:
    """Of labels of which some are distributions; those that are none, and no classes either, are counted."""
    distributions = [shares_of(v) for v in values if is_distribution(v)]
    classes = [v for v in values if not isinstance(v, dict)]
    totals: Counter[str] = Counter()
    for shares in [*distributions, *({name_of(v): 1.0} for v in classes)]:
        totals.update(shares)
    count = max(1, len(distributions) + len(classes))
    most_sure = [max(shares.values()) for shares in distributions]
    return {
        "distributions": len(distributions),
        **({"one class": len(classes)} if classes else {}),
        **({"neither": other} if (other := len(values) - len(distributions) - len(classes)) else {}),
        "classes": len(totals),
        "mean shares": {name: round(total / count, 4) for name, total in totals.most_common(20)},
        "mean of the largest share": round(float(np.mean(most_sure)), 4) if most_sure else 0.0,
    }


def _joined_shares(values: Sequence[Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """As `_joined`, of values of which some are distributions: a share counts as a part of a row. What is neither a
    distribution nor a class is left out; encoding tells of it."""
    usable = [v for v in values if is_distribution(v) or not isinstance(v, dict | list | tuple | set)]
    keys = [key for v in usable for key in (v if isinstance(v, dict) else [v])]
    names, originals = _joined(keys)
    finder = ClassFinder(list(names), kind_of(originals.values()))
    totals = dict.fromkeys(names, 0.0)
    for value in usable:
        for key, share in (shares_of(value) if isinstance(value, dict) else {value: 1.0}).items():
            totals[finder.name(key)] += share
    counts = {name: round(total, 6) for name, total in totals.items() if total > 0}
    return counts, {name: originals[name] for name in counts}


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
