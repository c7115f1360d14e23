"""Dates: spellings, ambiguity, resolution, calendar and answers."""

import datetime as dt
import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import worlds

from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.content import Content, Role
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.core.registry import column_types
from onetrunk.data.conventions import conventions
from onetrunk.data.table import Table

Date = partial(worlds.Sides, "date")

WIDTH = 16
DAYS = [dt.date(2023, 1, 1) + dt.timedelta(days=3 * i) for i in range(200)]


def fitted(values: list, build: bool = True) -> worlds.Sides:
    torch.manual_seed(0)
    sides = Date()
    sides.fit(values)
    if build:
        sides.build(WIDTH)
    return sides


def answered(sides: worlds.Sides, n: int = 1, temperature: float = 0.0) -> list[Answer]:
    sampling = Sampling(temperature=temperature)
    state = sides.start(worlds.context(np.arange(n, dtype=np.uint64), sampling))
    query = sides.query(state)
    assert sides.embed(query.content).shape == (n, WIDTH)
    return sides.finish(sides.step(state, torch.zeros(n, 1, 2 * WIDTH), None))


@pytest.mark.parametrize(
    "value",
    [
        "2024-01-31", "2024/01/31", "2024/1/31", "2024.01.31", " 2024-01-31 ", "2024-01-31T00:00:00",
        "2024-01-31 00:00", "2024年1月31日", "31.01.2024", "31/1/2024", "1/31/2024", "31 Jan 2024",
        "31-January-2024",
        "Jan 31, 2024", "January 31, 2024 12:00 AM", "2024-01-31T00:00:00Z", "2024-01-31T01:30:00+01:30",
        dt.date(2024, 1, 31), dt.datetime(2024, 1, 31), pd.Timestamp("2024-01-31"),
        pd.Timestamp("2024-01-31", tz="UTC"), np.datetime64("2024-01-31"),
        np.datetime64("2024-01-31T00:00:00", "ns"),
    ],
)  # fmt: skip
def test_one_day_in_many_spellings(value: object) -> None:
    sides = fitted([value], build=False)
    assert sides.to_line(value) == pd.Timestamp("2024-01-31").timestamp()
    assert Date().fingerprint(value) == "2024-01-31T00:00:00"
    assert Date().recognise([value]) == 0.95


@pytest.mark.parametrize("text", ["2024-01-31 13:05:07", "2024-01-31T13:05:07.250", "2024-01-31 13:05:07.250000125"])
def test_times_agree_with_pandas(text: str) -> None:
    assert fitted([text], build=False).to_line(text) == pytest.approx(pd.Timestamp(text).timestamp(), abs=1e-6)
    assert fitted(["1/31/2024 1:05 PM"], build=False).to_line("1/31/2024 1:05 PM") == 1706706300


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("yesterday", "'yesterday' is not a date; write YYYY-MM-DD"),
        ("2024-02-30", "'2024-02-30' is not a date: day"),
        ("2024-13-01", "month must be in 1..12"),
        ("2024-01/02", "is not a date"),
        ("31 Foo 2024", "no month is called Foo"),
        ("2024-01-01 25:00", "hour must be in 0..23"),
        ("2024-01-01 13:00 PM", "hour must be in 1..12"),
        ("05/04/2024", "ambiguous: nothing tells whether the day or the month comes first"),
        (20240131, r"expected a date, found 20240131 \(int\)"),
        (pd.NaT, "NaT is not a date"),
        (np.datetime64("NaT"), "expected a date"),
        ("", "is not a date"),
    ],
)
def test_refuses_what_is_no_date_and_says_why(value: object, reason: str) -> None:
    with pytest.raises(BadValueError, match=reason):
        fitted(DAYS, build=False).to_line(value)


def test_the_column_decides_what_an_ambiguous_date_means() -> None:
    german = fitted(["31.01.2024", "05.04.2024"], build=False)
    american = fitted(["01/31/2024", "05/04/2024"], build=False)
    assert german.from_line(german.to_line("05.04.2024")) == dt.date(2024, 4, 5)
    assert american.from_line(american.to_line("05/04/2024")) == dt.date(2024, 5, 4)
    with pytest.raises(BadValueError, match=r"month must be in 1\.\.12"):
        american.to_line("31/01/2024")
    both = fitted(["31/01/2024", "01/31/2024"], build=False)
    assert both.to_line("31/01/2024") == both.to_line("01/31/2024")
    with pytest.raises(BadValueError, match="ambiguous"):
        both.to_line("05/04/2024")
    assert both.to_line("05/05/2024") == both.to_line("2024-05-05")
    with pytest.raises(DataError, match="ambiguous"):
        fitted(["05/04/2024", "06/04/2024"])
    assert Date().recognise(["05/04/2024", "06/04/2024"]) == 0.95


def test_recognises_dates_only() -> None:
    assert Date().recognise(DAYS) == 0.95
    assert 0.8 < Date().recognise([*["2024-01-31"] * 19, "soon"]) < 0.95
    for other in ([1.5, 2.0], ["20240131", "20240201"], ["a", "2024-01-31"], [True], []):
        assert Date().recognise(other) == 0


def test_answers_keep_the_columns_resolution_and_zone() -> None:
    (day,) = answered(fitted(DAYS))
    assert type(day.value) is dt.date and all(type(end) is dt.date for end in day.interval)
    assert abs(day.value - DAYS[100]).days <= 3
    assert abs(day.interval[0] - DAYS[10]).days <= 6 and abs(day.interval[1] - DAYS[190]).days <= 6
    assert day.samples is None
    samples = answered(fitted(DAYS), temperature=1.0)[0].samples
    assert len(set(samples)) > 10 and all(type(sample) is dt.date for sample in samples)

    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    (minute,) = answered(fitted([start + dt.timedelta(minutes=7 * i) for i in range(100)]))
    assert minute.value.tzinfo is dt.UTC and minute.value.second == 0 == minute.value.microsecond
    (hour,) = answered(fitted([f"2024-01-01 {h:02d}:00" for h in range(24)]))
    assert isinstance(hour.value, dt.datetime) and hour.value.tzinfo is None and hour.value.minute == 0
    fine = fitted(["2024-01-01 00:00:00.5", "2024-01-01 00:00:01.25"], build=False)
    assert fine.from_line(fine.to_line("2024-01-01 00:00:00.5")).microsecond == 500_000


def test_the_ends_of_time_do_not_overflow() -> None:
    sides = fitted(["0001-01-01", "9999-12-31", "2024-01-01"])
    assert sides.from_line(-1e15) == dt.date(1, 1, 1) and sides.from_line(1e15) == dt.date(9999, 12, 31)
    (answer,) = answered(sides)
    assert answer.interval[0] <= answer.value <= answer.interval[1]


def test_only_calendar_parts_that_vary_are_embedded() -> None:
    assert fitted(DAYS, build=False).cycles == ["year", "month", "week"]
    assert fitted(["2024-01-01 10:00", "2024-01-01 11:00"], build=False).cycles == ["day"]
    sides = fitted(DAYS)
    monday, tuesday, next_monday = (sides.encode(f"2024-01-{day:02d}") for day in (1, 2, 8))
    week = sides.cycles.index("week")
    assert monday["phases"][week] == next_monday["phases"][week] == 0
    assert tuesday["phases"][week] == pytest.approx(1 / 7)
    # Seven days' harmonics are linearly independent: a linear map can single out any weekday.
    days = Content.stack([sides.encode(dt.date(2024, 1, 1 + d)) for d in range(7)], ragged=False).data
    days["phases"] = days["phases"][:, [week] * 3]
    inputs = sides._inputs({k: torch.from_numpy(v) for k, v in days.items()})
    angles = inputs[:, -18:]
    assert torch.linalg.matrix_rank(torch.cat([angles, torch.ones(7, 1)], dim=1), rtol=1e-4) == 7


def test_roles_share_keys_and_hide_what_is_asked() -> None:
    sides = fitted(DAYS)
    content, present = sides.encode_all([*DAYS[:3], None, "never"], lambda i, reason: None)
    assert present.tolist() == [True, True, True, False, False]
    keys = np.arange(3, dtype=np.uint64)
    given, asked = (sides.segment(content, role, keys) for role in (Role.GIVEN, Role.ASKED))
    assert given.content.keys() == asked.content.keys() == {"value", "phases", "hidden"}
    assert not asked.content["phases"].any() and not asked.content["value"].any()
    assert asked.targets.keys() == {"value", "w"}
    embedded = sides.embed({k: torch.from_numpy(v) for k, v in given.content.items()})
    loss = sides.loss(torch.cat([embedded, embedded], 1), {k: torch.from_numpy(v) for k, v in asked.targets.items()})
    loss.sum.backward()
    assert sides.head.weight.grad.abs().sum() > 0 and loss.count == 3


def test_knowledge_round_trip() -> None:
    sides = fitted(["31.01.2024 10:00", "01.02.2024 11:30", "2024-03-01T00:00Z"])
    again = Date()
    again.set_knowledge(json.loads(json.dumps(sides.knowledge())))
    again.build(WIDTH)
    again.load_state_dict(sides.state_dict())
    assert again.knowledge() == sides.knowledge()
    assert again.to_line("05.04.2024") == sides.to_line("05.04.2024")
    assert answered(again) == answered(sides)
    for name, array in sides.encode("2024-02-02 12:00").items():
        np.testing.assert_array_equal(array, again.encode("2024-02-02 12:00")[name])


def test_metrics_are_in_days() -> None:
    sides = fitted(DAYS, build=False)
    truths = ["2024-01-01", dt.date(2024, 1, 5)]
    answers = [Answer(dt.date(2024, 1, 2)), Answer(dt.date(2024, 1, 2))]
    assert sides.per_row(answers, truths).tolist() == [1, 3]
    pytest.importorskip("onetrunk.metrics.regression")
    metrics = sides.measure(answers, truths)
    assert next(iter(metrics)) == "mae_days" and metrics["mae_days"] == pytest.approx(2)
    assert metrics["rmse_days"] == pytest.approx(np.sqrt(5))


def test_baselines_see_the_calendar() -> None:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    sides = fitted(DAYS, build=False)
    season = [np.sin(2 * np.pi * (day.month - 1 + (day.day - 1) / 31) / 12) for day in DAYS]
    model = make_pipeline(sides.features(), Ridge(1e-3)).fit(DAYS, season)
    assert model.score(DAYS, season) > 0.999
    matrix = sides.features().transform([DAYS[0], None])
    assert matrix[1, -1] == 1 and not matrix[1, :-1].any() and matrix[0, -1] == 0
    later = [day + dt.timedelta(days=10) for day in DAYS]
    ridge = make_pipeline(sides.features(), sides.baselines()["ridge"]).fit(DAYS, sides.target(later))
    errors = sides.per_row(sides.answers_from(ridge, DAYS), later)
    assert type(sides.answers_from(ridge, DAYS)[0].value) is dt.date and errors.mean() < 10


def test_describe_and_figure() -> None:
    from matplotlib.figure import Figure

    described = Date().describe(["2024-01-01", dt.date(2024, 1, 3), "2024-01-02", "soon"])
    assert (described["first"], described["median"], described["last"]) == (
        "2024-01-01",
        "2024-01-02",
        "2024-01-03",
    )
    assert described["days"] == 2 and described["unreadable"] == 1 and described["with time"] is False
    json.dumps(described)
    axes = Figure().add_subplot()
    sides = fitted(DAYS, build=False)
    assert sides.figure([Answer(DAYS[0]), Answer(DAYS[2])], [str(DAYS[0]), pd.Timestamp(DAYS[1])], axes)
    offsets = axes.collections[0].get_offsets()
    assert offsets[1, 1] - offsets[0, 1] == 6 and offsets[1, 0] - offsets[0, 0] == 3


# -- how a column writes them ------------------------------------------------------------------------------------------
AMBIGUOUS, DAY_FIRST = ["01/08/2023", "05/04/2024"], ["01/08/2023", "31/01/2024"]


def test_one_telling_value_settles_a_column_and_those_beside_it() -> None:
    table = Table({"due": AMBIGUOUS, "paid": DAY_FIRST, "iso": ["2024-01-02", "2024-03-04"]})
    types = dict.fromkeys(table.names, "date")
    assert conventions(table, types, {}) == {"due": {"order": "dmy"}, "paid": {"order": "dmy"}}
    assert table.notes == [
        "due: the day comes before the month, as in other columns.",
        "paid: the day comes before the month, as '31/01/2024' tells.",
    ]
    alone = Table({"due": AMBIGUOUS})
    assert conventions(alone, {"due": "date"}, {}) == {"due": {}} and "date:dmy or date:mdy" in alone.notes[0]
    ambiguous = Table({"due": AMBIGUOUS})
    assert (
        conventions(ambiguous, {"due": "date"}, {"due": {"order": "mdy"}}) == {"due": {"order": "mdy"}}
        and not ambiguous.notes
    )


def test_columns_that_say_both_are_told() -> None:
    table = Table({"due": [*DAY_FIRST, "01/31/2024"]})
    assert conventions(table, {"due": "date"}, {}) == {"due": {}}
    assert "Some values tell one, some the other ('31/01/2024', '01/31/2024')" in table.notes[0]


def test_a_column_in_two_orders_is_told_even_where_every_value_is_clear() -> None:
    table = Table({"due": ["31/01/2024", "01/31/2024"]})
    assert conventions(table, {"due": "date"}, {}) == {"due": {}}
    told = "due: in some values the day comes before the month ('31/01/2024'), in others after it ('01/31/2024'); each "
    assert table.notes == [f"{told}is read as it can be."]
    late = Table({"due": ["31/01/2024", "01/31/2024"] * 50_000 + ["05/04/2024"]})
    conventions(late, {"due": "date"}, {})
    assert "does the day or the month come first in '05/04/2024'" in late.notes[0]


def test_the_order_holds_also_where_training_rows_do_not_tell() -> None:
    encoder = column_types.get("date").encoder({"order": "dmy"})
    encoder.fit(AMBIGUOUS)
    assert encoder.from_line(encoder.to_line("05/04/2024")) == dt.date(2024, 4, 5)
    assert encoder.plain(["05/04/2024", None, 3]) == [dt.datetime(2024, 4, 5), None, 3]


@pytest.mark.parametrize("text", ["2024-03", "2024年3月"])
def test_a_month_is_its_first_day(text: str) -> None:
    encoder = column_types.get("date").encoder({})
    assert encoder.to_line(text) == encoder.to_line("2024-03-01")
    assert encoder.recognise([text]) > 0.9 and encoder.recognise(["2024-13", "1234-99"]) == 0
