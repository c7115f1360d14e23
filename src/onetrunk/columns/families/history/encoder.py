"""Histories as rows of one table a field: steps in order, one field of which is asked at each from those before.

An asked field enters shifted by one (SASRec, arXiv 1808.09781; SAKT, arXiv 1907.06837): all steps are trained at once,
and no step sees its own answer.
"""

from __future__ import annotations

import datetime
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from onetrunk.columns.families.names import ClassFinder, check_names, kind_of, name_of, value_of
from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.config import Config
from onetrunk.core.content import Content, Role, Segment, local_positions, pick
from onetrunk.core.encoder import Beside, Encoder, Growth, History, SegmentContext
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.core.parts import Arrays, Continued, Divided, Parts

UNKNOWN, START, MASK, MISSING, FIRST = range(5)  # rows of every field's table; classes come after
_UNKNOWN_RATE = (
    0.02  # how often training shows "unknown" instead of a class, so that an unseen one finds a learnt vector
)
GAPS = 40  # a moment is the power of two of the time since the step before
NOW = "now "  # before the name of a field that is known at the step itself


class HistoryOptions(Config):
    """What a user may set of every history."""

    length: int = Field(100, ge=1, le=1_000_000)  # steps that the trunk sees, the latest ones
    time: str = "time"  # the field of moments (numbers or dates), where there is one
    mask_rate: float = Field(0.2, gt=0, le=1)  # share of steps hidden when masked
    dropout: float = Field(0.0, ge=0, lt=1)  # of embedded steps


def _rank(counts: Mapping[str, int], name: str) -> tuple[int, str]:
    """Sorts the frequent before the rare, and equally frequent ones by name."""
    return -counts[name], name


class HistoryEncoder(Encoder, History, Divided, Continued):
    """A value is a dict of equally long lists, or a list where there is one field.

    Given: all steps, read at once. Asked: the field `asked`, at each step from those before. Masked: that field, in
    place. A type of it says which field is asked, which are known at the step, and how it reads out.
    """

    ragged = True
    divisible = True

    Options: ClassVar[type[Config]] = HistoryOptions
    options: Any
    nouns: ClassVar[str] = "steps"

    asked: str
    names: list[str]  # of all fields, in order
    classes: dict[str, list[str]]  # of every field but the moments; the asked one's by how frequent they are
    kinds: dict[str, str]
    counts: list[int]  # of the asked field's classes
    _finders: dict[str, ClassFinder] | None = None  # by field, made when first asked for

    # -- values ------------------------------------------------------------------------------------------------------
    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        lists = [next(iter(v.values())) if isinstance(v, Mapping) else v for v in values]
        lengths = np.array([len(x) for x in lists])
        counts = Counter(name_of(x) for each in lists for x in each if x is not None)
        return {
            "steps": {
                "shortest": int(lengths.min()),
                "median": float(np.median(lengths)),
                "longest": int(lengths.max()),
            },
            "different": len(counts),
            "frequent": dict(counts.most_common(8)),
        }

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        if isinstance(value, Mapping):
            return "|".join(f"{name}: {cls.fingerprint(list(v))}" for name, v in sorted(value.items()))
        return " ".join("?" if v is None else name_of(v) for v in value)

    @classmethod
    def show(cls, value: Any, on: Any = None) -> dict[str, str]:
        if isinstance(value, Mapping):
            return {"text": "\n".join(f"{name}: {cls.show(v)['text']}" for name, v in value.items())}
        return {"text": " ".join("?" if v is None else str(v) for v in value)}

    # -- knowledge ---------------------------------------------------------------------------------------------------
    def known(self) -> list[str]:
        """Fields known at the step itself."""
        return []

    @abstractmethod
    def _choose(self, names: list[str]) -> str:
        """Which of a dict's fields is asked."""

    def fit(self, values: Sequence[Any]) -> None:
        first = next((v for v in values if isinstance(v, Mapping)), None)
        self.names = [self._choose([])] if first is None else list(map(str, first))
        self.asked = self._choose(self.names)
        if self.asked not in self.names:
            raise DataError(f"There is no field {self.asked!r} in the histories, which hold {', '.join(self.names)}.")
        counts: dict[str, Counter[str]] = {name: Counter() for name in self._classed()}
        samples: dict[str, dict[str, Any]] = {name: {} for name in counts}
        for value in values:
            try:
                fields = self._fields(value)
            except BadValueError:
                continue
            for name, seen in samples.items():
                present = [v for v in fields[name] if v is not None]
                counts[name].update(map(name_of, present))
                seen.update((name_of(v), v) for v in present)
        if len(counts[self.asked]) < 2:
            raise DataError(
                f"A history needs at least 2 different {self.nouns} in the training rows; found "
                f"{len(counts[self.asked])} in {self.asked!r}."
            )
        self.kinds = {name: kind_of(seen.values()) for name, seen in samples.items()}
        self.classes = {name: sorted(count, key=partial(_rank, count)) for name, count in counts.items()}
        self.counts = [counts[self.asked][c] for c in self.classes[self.asked]]
        self._finders = None

    def _classed(self) -> list[str]:
        """Fields of classes: all but the moments."""
        return [name for name in self.names if name != self.options.time or name == self.asked]

    def extend(self, values: Sequence[Any]) -> Growth:
        """Adds classes never seen, of every field; they begin as the mean of the others."""
        fields, growth = [self._fields(v) for v in values], Growth()
        for name in self.classes:
            find = self.finder(name)
            counts = Counter(find.name(v) for each in fields for v in each[name] if v is not None)
            new = sorted(counts.keys() - set(self.classes[name]))
            self.classes[name] = self.classes[name] + new
            growth.tables[name] = [[] for _ in new]
            if name == self.asked:
                self.counts = self.counts + [counts[c] for c in new]
        self._finders = None
        return growth

    def knowledge(self) -> dict[str, Any]:
        return {
            "names": self.names,
            "asked": self.asked,
            "classes": self.classes,
            "kinds": self.kinds,
            "counts": self.counts,
        }

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.names, self.asked = list(knowledge["names"]), knowledge["asked"]
        self.classes = {name: list(classes) for name, classes in knowledge["classes"].items()}
        self.kinds, self.counts = dict(knowledge["kinds"]), list(knowledge["counts"])
        for name, classes in self.classes.items():
            check_names(classes, self.kinds[name])
        if self.asked not in self.names or set(self._classed()) != self.classes.keys():
            raise ValueError(f"the fields {self.names}, of which {self.asked!r} is asked, have not each their classes")
        if len(self.counts) != len(self.classes[self.asked]):
            raise ValueError(f"{len(self.classes[self.asked])} classes have {len(self.counts)} counts")

    def table_size(self, name: str) -> int:
        """Rows of a field's table."""
        return FIRST + len(self.classes.get(name, range(GAPS)))

    # -- values to arrays ----------------------------------------------------------------------------------------------
    def _fields(self, value: Any) -> dict[str, list[Any]]:
        """Every field's values, None where missing: as long as the longest of them."""
        if isinstance(value, list | tuple | np.ndarray):
            value = {self.asked: value}
        if not isinstance(value, Mapping) or not all(isinstance(v, list | tuple | np.ndarray) for v in value.values()):
            raise BadValueError(f"expected a list of {self.nouns} or a dict of lists, found {str(value)[:40]!r}")
        count = max((len(value[name]) for name in self.names if name in value), default=0)
        if not count:
            raise BadValueError(f"a history without any {self.nouns}")
        out = {}
        for name in self.names:
            listed = [None if isinstance(v, float) and v != v else v for v in value.get(name, [])]
            if name != self.asked and listed and len(listed) < count:
                raise BadValueError(
                    f"expected fields of one length; {name!r} has {len(listed)} of {count} {self.nouns}"
                )
            out[name] = listed + [None] * (count - len(listed))
        bad = next((v for name in self.names for v in out[name] if isinstance(v, list | dict | tuple | set)), None)
        if bad is not None:
            raise BadValueError(f"expected one value a step, found {str(bad)[:40]!r}")
        return out

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        fields = self._fields(value)
        count = len(fields[self.asked])
        out = {"opens": np.arange(count) == 0}
        for name, values in fields.items():
            if name in self.classes:
                find = self.finder(name)
                ids = [MISSING if v is None else row + FIRST if (row := find(v)) >= 0 else UNKNOWN for v in values]
            else:
                ids = _gaps(values)
            out[name] = np.array(ids, dtype=np.int32)
        return out

    def finder(self, name: str) -> ClassFinder:
        """Finds the number of a field's class; in its table it stands `FIRST` rows later."""
        if self._finders is None:
            self._finders = {n: ClassFinder(classes, self.kinds[n]) for n, classes in self.classes.items()}
        return self._finders[name]

    def value_at(self, name: str, row: int) -> Any:
        """A row of a field's table as a value; None for what is no class."""
        return value_of(self.classes[name][row - FIRST], self.kinds[name]) if row >= FIRST else None

    def blank(self) -> dict[str, np.ndarray]:
        return {"opens": np.ones(1, dtype=bool)} | {name: np.array([MISSING], dtype=np.int32) for name in self.names}

    def dropped(self, content: Content, read_on: Beside | None = None) -> dict[str, int]:
        unseen = int((content.gather()[self.asked] == UNKNOWN).sum())
        return {f"{self.nouns} never seen in training": unseen} if unseen else {}

    def nothing(self, n: int) -> Content:
        """n documents without any step."""
        lens = np.zeros(n, dtype=np.int64)
        return Content({name: array[:0] for name, array in self.blank().items()}, lens)

    # -- parts -------------------------------------------------------------------------------------------------------
    def parts(self, content: Content, asked: bool) -> Parts:
        """Steps; asked, what each position is told: the step before, and what is known at the step itself."""
        lens = np.minimum(content.lens, self.options.length)
        first = content.lens - lens
        if not asked:
            here = content.window(first, lens).gather()
            return Parts(np.arange(int(lens[0])), self._labels({n: here[n] for n in self.names}), "step")
        told = self._labels(self.steps_before(content, first, lens))
        position = np.array([i for i, label in enumerate(told) if label], dtype=np.int64)
        return Parts(position, [label for label in told if label], "step")

    def _labels(self, steps: Mapping[str, np.ndarray]) -> list[str]:
        """What is known at each position, empty where nothing is."""
        out = []
        for rows in zip(*steps.values(), strict=True):
            named = zip(steps, map(int, rows), strict=True)
            known = [str(self.value_at(name.removeprefix(NOW), row)) for name, row in named if self._says(name, row)]
            out.append(", ".join(known))
        return out

    def _says(self, name: str, row: int) -> bool:
        """Does a row of a field's table stand for a class that a person knows?"""
        return name.removeprefix(NOW) in self.classes and row >= FIRST

    def hide(self, arrays: Arrays, hidden: np.ndarray) -> Arrays:
        """As steps that training never saw, which training shows now and then."""
        return {name: np.where(hidden & (rows >= FIRST), UNKNOWN, rows) for name, rows in arrays.items()}

    def continued(self, before: Arrays | None, answer: Answer) -> tuple[Arrays, slice]:
        """The steps before and the one that was answered first."""
        value = answer.value[self.asked][0] if isinstance(answer.value, Mapping) else answer.value[0]
        last = {name: np.array([MISSING], dtype=np.int32) for name in self.names}
        last[self.asked][0] = FIRST + self.finder(self.asked)(value)
        last["opens"] = np.array([before is None or not len(before["opens"])])
        if before is None:
            return last, slice(-1, None)
        return {name: np.concatenate([before[name], array]) for name, array in last.items()}, slice(-1, None)

    @property
    def window_length(self) -> int:
        return self.options.length

    def max_positions(self, content: Content) -> np.ndarray:
        return np.minimum(content.lens, self.options.length) + 1

    # -- arrays to positions -------------------------------------------------------------------------------------------
    def segment(self, content: Content, context: SegmentContext) -> Segment:
        role, keys, augment = context.role, context.keys, context.augment
        lens = np.minimum(content.lens, self.options.length)
        first = content.lens - lens  # the latest steps
        if augment and role != Role.GIVEN:
            first = rng.integers(rng.mix(keys, "window"), content.lens - lens + 1)
        here = content.window(first, lens).gather()
        asked = here[self.asked]
        if role == Role.ASKED:
            steps = self.steps_before(content, first, lens)
            return self._read(self._forgetting(steps, keys, lens, augment), lens, np.arange(len(asked)), asked, keys)
        steps = {name: here[name] for name in self.names}
        steps |= {NOW + name: np.full(len(asked), MISSING, dtype=np.int32) for name in self.known()}
        steps = self._forgetting(steps, keys, lens, augment)
        if role == Role.GIVEN:
            return Segment(steps, lens)
        hidden = self._uniform_per_step(keys, lens, "hide") < self.options.mask_rate
        hidden[np.flatnonzero(local_positions(lens) == 0) + rng.integers(rng.mix(keys, "one"), lens)] = True
        steps[self.asked] = np.where(hidden, MASK, steps[self.asked])
        segment = self._read(steps, lens, np.flatnonzero(hidden), asked[hidden], keys)
        segment.order = None
        return segment

    def steps_before(self, content: Content, first: np.ndarray, lens: np.ndarray) -> dict[str, np.ndarray]:
        """What positions first .. first + lens of each document hold when asked: the step before each, and what is
        known at the step itself. One position may stand after the last step."""
        index = np.repeat(first, lens) + local_positions(lens)
        starts, whole = np.repeat(content.starts, lens), np.repeat(content.lens, lens)
        size = len(content.data["opens"])
        last = max(size - 1, 0)
        opens = (index == 0) & ((whole == 0) | pick(content.data["opens"], starts, True))
        out = {}
        for name in self.names:
            rows = content.data[name] if size else np.full(1, MISSING, dtype=np.int32)
            out[name] = np.where(opens, START, rows[np.clip(starts + index - 1, 0, last)]).astype(np.int32)
            if name in self.known():
                now = rows[np.clip(starts + index, 0, last)]
                out[NOW + name] = np.where(index < whole, now, MISSING).astype(np.int32)
        return out

    def _forgetting(
        self, steps: dict[str, np.ndarray], keys: np.ndarray, lens: np.ndarray, augment: bool
    ) -> dict[str, np.ndarray]:
        """In training, some steps as unknown ones."""
        if not augment:
            return steps
        forgotten = self._uniform_per_step(keys, lens, "forget") < _UNKNOWN_RATE
        return {name: np.where(forgotten & (rows >= FIRST), UNKNOWN, rows) for name, rows in steps.items()}

    def _read(
        self, steps: dict[str, np.ndarray], lens: np.ndarray, reads: np.ndarray, rows: np.ndarray, keys: np.ndarray
    ) -> Segment:
        targets = {"id": np.maximum(rows.astype(np.int64) - FIRST, 0), "w": (rows >= FIRST).astype(np.float32)}
        targets |= self._more_targets(keys, lens, reads)
        return Segment(steps, lens, order=local_positions(lens), reads=reads, targets=targets)

    def _more_targets(self, keys: np.ndarray, lens: np.ndarray, reads: np.ndarray) -> dict[str, np.ndarray]:
        """What else the loss needs of each read."""
        return {}

    @staticmethod
    def _uniform_per_step(keys: np.ndarray, lens: np.ndarray, name: str) -> np.ndarray:
        """One uniform number a step, keyed by document and position."""
        return rng.uniform(rng.mix(np.repeat(rng.mix(keys, name), lens), local_positions(lens)))


def _gaps(moments: Sequence[Any]) -> list[int]:
    """Rows of the time since the step before."""
    seconds = [None if m is None else _seconds(m) for m in moments]
    out = []
    for before, now in zip([None, *seconds[:-1]], seconds, strict=True):
        if before is None or now is None:
            out.append(MISSING)
        else:
            out.append(FIRST + min(GAPS - 1, int(np.log2(1 + max(0.0, now - before)))))
    return out


def _seconds(moment: Any) -> float:
    if isinstance(moment, int | float | np.number) and np.isfinite(moment):
        return float(moment)
    try:
        if isinstance(moment, str):
            moment = datetime.datetime.fromisoformat(moment)
        if isinstance(moment, datetime.date) and not isinstance(moment, datetime.datetime):
            moment = datetime.datetime.combine(moment, datetime.time())
        return moment.replace(tzinfo=moment.tzinfo or datetime.UTC).timestamp()
    except (ValueError, AttributeError):
        raise BadValueError(f"{str(moment)[:40]!r} is no moment: expected a number or a date like 2024-01-31") from None
