"""Dates and times, however they are written, as moments on a line beside the parts of the calendar.

On the line a moment is seconds since 1970 (UTC; times without a zone are taken as they stand).
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from onetrunk.columns.families.scalar.encoder import ScalarEncoder
from onetrunk.core.encoder import Convention
from onetrunk.core.errors import BadValueError
from onetrunk.core.values import all_are, blocks, in_memory, some_are

_EPOCH = dt.datetime(1970, 1, 1)
DAY = 86_400
_RESOLUTIONS = (DAY, 3600, 60, 1)  # seconds
_FIRST = (dt.datetime.min - _EPOCH).total_seconds()
_LAST = (dt.datetime(9999, 12, 31) - _EPOCH).total_seconds()

# How far each cycle has run, 0 to 1.
_CYCLES: dict[str, Callable[[dt.datetime], float]] = {
    "year": lambda t: (t.month - 1 + (t.day - 1) / 31) / 12,
    "month": lambda t: (t.day - 1) / 31,
    "week": lambda t: t.weekday() / 7,
    "day": lambda t: (t.hour + t.minute / 60) / 24,
    "hour": lambda t: (t.minute + t.second / 60) / 60,
}

_TIME = (
    r"(?:(?:T|\s+)(?P<h>\d{1,2}):(?P<min>\d{2})(?::(?P<s>\d{2})(?:\.(?P<f>\d{1,9}))?)?"
    r"\s*(?P<half>[AaPp][Mm])?\s*(?P<zone>Z|[+-]\d{2}:?\d{2})?)?"
)
_YEAR_FIRST = re.compile(r"(?P<y>\d{4})([-/.])(?P<m>\d{1,2})\2(?P<d>\d{1,2})" + _TIME)
_CHINESE = re.compile(r"(?P<y>\d{4})年(?P<m>\d{1,2})月(?P<d>\d{1,2})日" + _TIME)
_YEAR_LAST = re.compile(r"(?P<a>\d{1,2})([-/.])(?P<b>\d{1,2})\2(?P<y>\d{4})" + _TIME)
_DAY_NAMED = re.compile(r"(?P<d>\d{1,2})[ -](?P<name>[A-Za-z]{3,9})\.?[ -](?P<y>\d{4})" + _TIME)
_NAMED_DAY = re.compile(r"(?P<name>[A-Za-z]{3,9})\.? (?P<d>\d{1,2}), ?(?P<y>\d{4})" + _TIME)
_YEAR = re.compile(r"\d{4}")  # is in every one
_MONTH = re.compile(r"(?P<y>\d{4})(?:-(?P<m>\d{2})|年(?P<m2>\d{1,2})月)")
_PATTERNS = (_YEAR_FIRST, _CHINESE, _YEAR_LAST, _DAY_NAMED, _NAMED_DAY)
_ENOUGH = 0.8  # share of values that are dates, for a column to be recognised
_ORDER = {True: "dmy", False: "mdy"}
_DAY_FIRST = {"dmy": True, "mdy": False, None: None}
_FIRST_COMES = {True: "the day comes before the month", False: "the month comes before the day"}
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip


class DateEncoder(ScalarEncoder):
    """date, datetime, pandas Timestamp, numpy datetime64, or text: "2024-01-31", "2024/1/31 13:05",
    "2024年1月31日", "31 Jan 2024", "Jan 31, 2024"; "31.01.2024" where the training rows tell day from month.
    """

    type_name = "date"
    notations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "dmy": {"order": "dmy"},
        "mdy": {"order": "mdy"},
        "ymd": {},
    }

    class Options(ScalarEncoder.Options):
        order: Literal["dmy", "mdy"] | None = None  # of day, month and year in 01/02/2024; None: as the values tell

    options: Options
    day_first: bool | None  # None: nothing tells
    aware: bool  # do moments have a time zone?
    resolution: int  # seconds; 0: finer
    cycles: list[str]  # in which training values differ

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        super().__init__(options)
        self.day_first = _DAY_FIRST[self.options.order]

    # -- knowledge ------------------------------------------------------------------------------------------
    @classmethod
    def convention(cls, values: Sequence[Any], likely: Mapping[str, Any]) -> Convention | None:
        told: dict[bool, str] = {}
        unclear = None
        for block in blocks(values):
            for text in dict.fromkeys(value for value in block if isinstance(value, str)):
                match _year_last(text):
                    case None:
                        pass
                    case True | False as day_first:
                        told.setdefault(day_first, text)
                    case "either":
                        unclear = unclear or text
            if len(told) == 2 and unclear:
                break
        if len(told) == 1:
            ((day_first, text),) = told.items()
            return Convention({"order": _ORDER[day_first]}, f"{_FIRST_COMES[day_first]}, as {text!r} tells")
        if unclear is None and told:
            return Convention(
                {},
                f"in some values the day comes before the month ({told[True]!r}), in others after it "
                f"({told[False]!r}); each is read as it can be",
                False,
            )
        if unclear is None:
            return None
        if not told and likely.get("order"):
            day_first = likely["order"] == "dmy"
            return Convention({"order": likely["order"]}, f"{_FIRST_COMES[day_first]}, as in other columns", False)
        why = f"some values tell one, some the other ({told[True]!r}, {told[False]!r})" if told else "nothing tells"
        return Convention(
            {},
            f"does the day or the month come first in {unclear!r}? {why[0].upper()}{why[1:]}. Say it: the type is "
            "date:dmy or date:mdy (--types)",
            False,
        )

    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        if all_are(values, int | float):
            return 0.0
        counted = _counted(values)
        possible = sum(n for value, n in counted if not isinstance(value, str) or _YEAR.search(value))
        if possible / max(1, len(values)) < _ENOUGH:
            return 0.0
        order = _day_first(values)
        dates = sum(n for value, n in counted if _try(value, order) or _try(value, True))
        share = dates / max(1, len(values))  # the ambiguous are dates
        return 0.95 * share if share >= _ENOUGH else 0.0

    def fit(self, values: Sequence[Any]) -> None:
        values = in_memory(values)
        self.day_first = _DAY_FIRST[self.options.order] if self.options.order else _day_first(values)
        moments = [moment for value in values if (moment := _try(value, self.day_first)) is not None]
        self.aware = any(moment.tzinfo is not None for moment in moments)
        seconds = [_seconds(moment) for moment in moments]
        self.resolution = next((r for r in _RESOLUTIONS if not any(s % r for s in seconds)), 0)
        whole = [_moment(s) for s in seconds]
        self.cycles = [name for name, phase in _CYCLES.items() if len({phase(moment) for moment in whole}) > 1]
        super().fit(values)

    def knowledge(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("day_first", "aware", "resolution", "cycles")}
        return {**super().knowledge(), **own}

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        super().set_knowledge(knowledge)
        self.day_first, self.aware = knowledge["day_first"], knowledge["aware"]
        self.resolution, self.cycles = knowledge["resolution"], list(knowledge["cycles"])

    # -- a person's view ------------------------------------------------------------------------------------
    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        day_first = _day_first(values)
        counted = [(moment, n) for value, n in _counted(values) if (moment := _try(value, day_first)) is not None]
        if not counted:
            return {"values": 0}
        seconds, which = np.unique([_seconds(moment) for moment, _ in counted], return_inverse=True)
        until = np.cumsum(np.bincount(which, [n for _, n in counted])).astype(np.int64)  # values up to each second
        timed = bool((seconds % DAY).any())
        first, middle, last = (
            _moment(second) if timed else _moment(second).date()
            for second in seconds[[0, np.searchsorted(until, until[-1] // 2, side="right"), -1]].tolist()
        )
        return {
            "first": str(first),
            "median": str(middle),
            "last": str(last),
            "days": float(seconds[-1] - seconds[0]) / DAY,
            "distinct": len(seconds),
            "with time": timed,
            "unreadable": len(values) - int(until[-1]),
        }

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        """One spelling a moment; midnight is the day."""
        if type(value) is dt.date:
            return f"{value.isoformat()}T00:00:00"
        moment = _try(value, None)
        return str(value).strip() if moment is None else _moment(_seconds(moment)).isoformat()

    # -- values to arrays ----------------------------------------------------------------------------------------------
    def to_line(self, value: Any) -> float:
        return _seconds(_read(value, self.day_first))

    def plain(self, values: list[Any]) -> list[Any]:
        if not some_are(values, str):
            return values
        moments = [_try(value, self.day_first) if isinstance(value, str) else None for value in values]
        return [v if moment is None else moment for v, moment in zip(values, moments, strict=True)]

    def loses_nothing(self, values: Sequence[Any]) -> bool:
        return bool(values) and set(map(type, values)) <= {dt.date, dt.datetime}

    def from_line(self, position: float) -> dt.date | dt.datetime:
        if self.resolution:
            position = round(position / self.resolution) * self.resolution
        moment = _moment(position)
        if self.resolution == DAY:
            return moment.date()
        return moment.replace(tzinfo=dt.UTC) if self.aware else moment

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        moment = _moment(self.to_line(value))
        phases = np.array([_CYCLES[name](moment) for name in self.cycles], dtype=np.float32)
        return {**super().encode(value), "phases": phases}

    def blank(self) -> dict[str, np.ndarray]:
        return {**super().blank(), "phases": np.zeros(len(self.cycles), dtype=np.float32)}

    def traits(self, item: dict[str, np.ndarray]) -> np.ndarray:
        angles = 2 * np.pi * item["phases"]
        return np.concatenate([super().traits(item), item["phases"], np.sin(angles), np.cos(angles)])


def _read(value: Any, day_first: bool | None) -> dt.datetime:
    """A moment, with its zone if it has one. Raises BadValueError with the reason."""
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if isinstance(value, dt.datetime):
        if value != value:  # pandas' NaT
            raise BadValueError("NaT is not a date")
        return value
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day)
    if not isinstance(value, str):
        raise BadValueError(f"expected a date, found {value!r} ({type(value).__name__})")
    text = value.strip()
    if whole := _MONTH.fullmatch(text):
        text = f"{whole['y']}-{whole['m'] or whole['m2']}-01"
    match = next(filter(None, (pattern.fullmatch(text) for pattern in _PATTERNS)), None)
    if match is None:
        raise BadValueError(f"{value!r} is not a date; write YYYY-MM-DD or YYYY-MM-DD HH:MM:SS")
    fields = match.groupdict()
    try:
        month, day = _month_and_day(value, fields, day_first)
        return dt.datetime(int(fields["y"]), month, day, *_clock(fields), tzinfo=_zone(fields["zone"]))
    except ValueError as error:
        raise BadValueError(f"{value!r} is not a date: {error}") from None


def _month_and_day(value: str, fields: dict[str, Any], day_first: bool | None) -> tuple[int, int]:
    if fields.get("name"):
        name = fields["name"].lower()
        known = [i for i, month in enumerate(_MONTHS, 1) if month == name or month[:3] == name or name == "sept"]
        if not known:
            raise ValueError(f"no month is called {fields['name']}")
        return (9 if name == "sept" else known[0]), int(fields["d"])
    if "a" not in fields:
        return int(fields["m"]), int(fields["d"])
    a, b = int(fields["a"]), int(fields["b"])
    if day_first is None:
        if a <= 12 and b <= 12 and a != b:
            raise BadValueError(
                f"{value!r} is ambiguous: nothing tells whether the day or the month comes first; the type is date:dmy "
                "or date:mdy (--types), or write YYYY-MM-DD"
            )
        day_first = a > 12
    return (b, a) if day_first else (a, b)


def _clock(fields: dict[str, str | None]) -> tuple[int, int, int, int]:
    hour = int(fields["h"] or 0)
    if fields["half"]:
        if not 1 <= hour <= 12:
            raise ValueError("hour must be in 1..12 with AM or PM")
        hour = hour % 12 + (12 if fields["half"].lower() == "pm" else 0)
    return hour, int(fields["min"] or 0), int(fields["s"] or 0), int((fields["f"] or "").ljust(6, "0")[:6])


def _zone(text: str | None) -> dt.tzinfo | None:
    if not text:
        return None
    if text == "Z":
        return dt.UTC
    hours, minutes = int(text[1:3]), int(text[-2:])
    return dt.timezone((1 if text[0] == "+" else -1) * dt.timedelta(hours=hours, minutes=minutes))


def _try(value: Any, day_first: bool | None) -> dt.datetime | None:
    try:
        return _read(value, day_first)
    except BadValueError:
        return None


def _counted(values: Sequence[Any]) -> list[tuple[Any, int]]:
    """Each text and each day once, for they repeat, with how often it occurs; and the others but numbers, which are no
    dates."""
    if all_are(values, str):
        return list(Counter(values).items())
    counts = Counter(value for value in values if isinstance(value, str) or type(value) is dt.date)
    others = [(v, 1) for v in values if not (isinstance(v, int | float | str) or type(v) is dt.date)]
    return [*counts.items(), *others]


def _day_first(values: Sequence[Any]) -> bool | None:
    """How the column writes 05/04/2024, told by values like 31/01/2024; None if nothing or both are told."""
    day_comes_first = {_year_last(value) for value in values if isinstance(value, str)} & {True, False}
    return bool(day_comes_first.pop()) if len(day_comes_first) == 1 else None


def _year_last(text: str) -> bool | Literal["either"] | None:
    """Does the day come first in 31/01/2024? None where it is no such date, or where day and month are one number."""
    match = _YEAR_LAST.fullmatch(text.strip())
    if match is None:
        return None
    a, b = int(match["a"]), int(match["b"])
    if a > 12 or b > 12:
        return a > 12
    return "either" if a != b else None


def _seconds(moment: dt.datetime) -> float:
    if moment.tzinfo is not None:
        moment = moment.astimezone(dt.UTC).replace(tzinfo=None)
    return (moment - _EPOCH).total_seconds()


def _moment(seconds: float) -> dt.datetime:
    """Without a zone; what lies before year 1 or after 9999 is moved to the end."""
    return _EPOCH + dt.timedelta(seconds=min(max(seconds, _FIRST), _LAST))
