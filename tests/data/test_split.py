"""Splits keep equal rows, groups and later times apart, and depend on the seed alone."""

import datetime
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas
import pytest

from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.registry import column_types
from onetrunk.data.split import equal_rows, split
from onetrunk.data.table import Table


class _Any:
    @classmethod
    def fingerprint(cls, value):
        return str(value)


class _CaseBlind:
    @classmethod
    def fingerprint(cls, value):
        return value.lower()


@pytest.fixture(autouse=True)
def fake_types(monkeypatch):
    known = {"any": SimpleNamespace(encoder=_Any), "blind": SimpleNamespace(encoder=_CaseBlind)}
    get = column_types.get
    monkeypatch.setattr(column_types, "get", lambda name: known[name] if name in known else get(name))


def make(columns, spec="auto", seed=0, given=("x",), ask=("y",), **kwargs):
    table = Table(columns)
    types = kwargs.pop("types", dict.fromkeys(columns, "any"))
    return split(table, types, spec, seed, given=list(given), ask=list(ask), **kwargs)


def sizes(made):
    return [len(index) for index in made.indices().values()]


def is_partition(made, n):
    return np.array_equal(np.sort(np.concatenate(list(made.indices().values()))), np.arange(n))


COLUMNS = {"x": list(range(1000)), "y": [int(i % 10 == 0) for i in range(1000)]}


def test_random_split_is_a_keyed_partition_with_exact_shares():
    made = make(COLUMNS, "random", seed=3)
    assert is_partition(made, 1000)
    assert sizes(made) == [800, 100, 100]
    assert sizes(make(COLUMNS, "random:60/30/10")) == [600, 300, 100]
    assert sizes(make(COLUMNS, "random:90/10/0")) == [900, 100, 0]
    again, other = make(COLUMNS, "random", seed=3), make(COLUMNS, "random", seed=4)
    assert np.array_equal(made.test, again.test)
    assert not np.array_equal(made.test, other.test)
    # No order of the table survives: the test rows' mean position is that of a fair draw (4 standard errors).
    assert abs(np.mean([make(COLUMNS, "random", seed=s).test.mean() for s in range(20)]) - 499.5) < 4 * 289 / 2000**0.5


def test_stratified_keeps_every_class_in_proportion():
    made = make(COLUMNS, "stratified:y:70/15/15")
    for index, n in zip(made.indices().values(), (700, 150, 150), strict=True):
        assert len(index) == n
        assert Counter(COLUMNS["y"][i] for i in index)[1] == n // 10
    assert "each y" in make(COLUMNS, "auto").how


def test_stratified_spreads_rare_classes_by_the_overall_shares():
    y = [f"c{i // 5}" for i in range(100)]  # 20 classes of 5 rows: each alone could only fill training
    made = make({"x": list(range(100)), "y": y}, "stratified:y")
    assert sizes(made) == [80, 10, 10]
    assert len({y[i] for i in made.train}) == 20


def test_stratified_numbers_go_by_tenths_and_free_text_is_refused():
    y = [i * 0.1 for i in range(1000)]
    made = make({"x": list(range(1000)), "y": y}, "stratified:y")
    tenths = pandas.qcut(pandas.Series(y), 10, labels=False)
    assert set(Counter(tenths[made.test]).values()) == {10}
    with pytest.raises(DataError, match="1,000 different values"):
        make({"x": list(range(1000)), "y": [f"t{i}" for i in range(1000)]}, "stratified:y")


def test_pictures_can_be_asked_for():
    pictures = [np.full((4, 4), i % 100, dtype=np.uint8) for i in range(1000)]
    made = make({"x": list(range(1000)), "y": pictures})
    assert sizes(made) == [800, 100, 100] and made.how.startswith("at random")


def test_equal_rows_stay_on_one_side():
    x = [f"t{i // 4}" for i in range(400)]
    columns = {"x": x, "y": [i % 2 for i in range(400)]}
    for spec in ("random", "stratified:y"):
        made = make(columns, spec)
        assert is_partition(made, 400)
        owners = {}
        for name, index in made.indices().items():
            for i in index:
                assert owners.setdefault(x[i], name) == name
        assert made.equal_across == 0
        assert any("300 rows have the same inputs as another one" in note for note in made.notes)
        assert sizes(made) == [320, 40, 40]
        loose = make(columns, spec, allow_equal_rows=True)
        assert loose.equal_across > 0  # the control: without the rule they do cross


def test_equal_is_what_the_type_calls_equal_and_missing_rows_are_not():
    table = Table({"a": ["X", "x", "y", None, None], "b": [1, 1, 1, None, None]})
    assert equal_rows(table, {"a": "blind", "b": "any"}, ["a", "b"]).tolist() == [0, 0, 2, 3, 4]
    assert equal_rows(table, {"a": "any", "b": "any"}, ["a", "b"]).tolist() == [0, 1, 2, 3, 4]
    assert equal_rows(table, {}, []).tolist() == [0, 1, 2, 3, 4]


def test_groups_are_never_divided():
    who = [f"p{i % 37}" for i in range(370)]
    columns = {"x": list(range(370)), "y": [i % 2 for i in range(370)], "who": who}
    made = make(columns, "group:who")
    assert is_partition(made, 370)
    people = [{who[i] for i in index} for index in made.indices().values()]
    assert not people[0] & people[1] and not people[0] & people[2] and not people[1] & people[2]
    assert all(people)
    with pytest.raises(DataError, match="missing in 1: rows 5"):
        make(columns | {"who": [None if i == 5 else w for i, w in enumerate(who)]}, "group:who")
    with pytest.raises(DataError, match="too few, or too often equal or of one group"):
        make(columns | {"who": ["one"] * 370}, "group:who")


DAYS = [datetime.date(2020, 1, 1) + datetime.timedelta(days=(i * 37) % 100) for i in range(100)]


@pytest.mark.parametrize(
    "when",
    [
        DAYS,
        [d.isoformat() for d in DAYS],
        [d.strftime("%m/%d/%Y") for d in DAYS],  # as text it would sort wrongly across years
        [datetime.datetime(d.year, d.month, d.day, 12) for d in DAYS],
        [d.toordinal() for d in DAYS],
    ],
)
def test_time_trains_on_the_past(when):
    made = make({"x": list(range(100)), "y": [i % 2 for i in range(100)], "t": when}, "time:t:70/20/10")
    assert sizes(made) == [70, 20, 10]
    assert max(DAYS[i] for i in made.train) < min(DAYS[i] for i in made.val)
    assert max(DAYS[i] for i in made.val) < min(DAYS[i] for i in made.test)


def by_day(first_days, order):
    """Rows that count up with time, on some days of every month from 2023 on, shuffled; days as they are written."""
    days = [datetime.date(2023 + m // 12, m % 12 + 1, d) for m in range(24) for d in first_days]
    rows = [(31 * i) % len(days) for i in range(len(days))]
    return {"x": rows, "y": [i % 2 for i in rows], "t": [days[i].strftime(order) for i in rows]}


def test_days_and_months_are_read_as_the_whole_column_tells():
    """Of 01/08/2023 and 08/01/2023 nothing tells which is earlier, until one day of the column is a 13th."""
    columns = by_day([1, 8, 13], "%d/%m/%Y")
    made = make(columns, "time:t")
    assert max(columns["x"][i] for i in made.train) < min(columns["x"][i] for i in made.val)
    assert max(columns["x"][i] for i in made.val) < min(columns["x"][i] for i in made.test)


def test_days_that_may_be_months_are_refused_until_somebody_says_which():
    columns = by_day([1, 8], "%d/%m/%Y")
    with pytest.raises(DataError, match=r"'t'.*is ambiguous.*date:dmy or date:mdy \(--types\)"):
        make(columns, "time:t")
    types = {"x": "any", "y": "any", "t": "date"}
    made = make(columns, "time:t", types=types, options={"t": {"order": "dmy"}})
    assert max(columns["x"][i] for i in made.train) < min(columns["x"][i] for i in made.val)


def test_rows_of_one_moment_stay_together_in_time():
    t = [i // 30 for i in range(100)]
    made = make({"x": list(range(100)), "y": [i % 2 for i in range(100)], "t": t}, "time:t:60/20/20")
    moments = [{t[i] for i in index} for index in made.indices().values()]
    assert moments == [{0, 1}, {2}, {3}]
    with pytest.raises(DataError, match="Cannot order the rows by 't'"):
        make({"x": [1, 2, 3], "y": [0, 1, 0], "t": ["soon", "later", "never"]}, "time:t")


def given(words, x=None, **kwargs):
    n = len(words)
    return make({"x": x or list(range(n)), "y": [i % 2 for i in range(n)], "split": words}, **kwargs)


def test_given_parts_are_taken_as_they_are():
    words = ["train"] * 6 + ["Validation"] * 2 + ["test"] * 2
    made = given(words)
    assert [index.tolist() for index in made.indices().values()] == [[0, 1, 2, 3, 4, 5], [6, 7], [8, 9]]
    assert "as the column split says" in made.how
    assert given(words, spec="random").how.startswith("at random")


def test_given_without_validation_takes_a_tenth_of_training():
    made = given(["train"] * 50 + ["test"] * 10)
    assert sizes(made) == [45, 5, 10]
    assert made.test.tolist() == list(range(50, 60))
    assert any("no validation rows" in note for note in made.notes)
    without_test = given(["train"] * 50 + ["dev"] * 10)
    assert sizes(without_test) == [50, 10, 0]


def test_given_parts_must_be_known_and_complete():
    with pytest.raises(DataError, match="found 'banana'"):
        given(["train", "banana"], spec="given:split")
    with pytest.raises(DataError, match="missing in 1: rows 1"):
        given(["train", None, "val"], spec="given:split")
    with pytest.raises(DataError, match="no row to training"):
        given(["test", "test"])


@pytest.mark.parametrize("spec", ["given:split", "time:split", "group:split"])
def test_equal_rows_across_told_parts_are_an_error_unless_allowed(spec):
    words = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    x = [
        0,
        1,
        2,
        3,
        4,
        5,
        5,
        6,
        7,
        1,
        8,
        8,
    ]  # row 6 repeats 5, row 9 repeats 1; row 11 repeats 10 in its own part
    if spec.startswith("time"):
        words = [{"train": 1, "val": 2, "test": 3}[w] for w in words]
    shares = "" if spec.startswith("given") else ":50/25/25"
    with pytest.raises(DataError, match="--allow-equal-rows") as caught:
        given(words, x, spec=spec + shares)
    if not spec.startswith("group"):
        assert "1 in val and train, 1 in test and train" in str(caught.value)
        assert "row 6 = row 5; row 9 = row 1" in str(caught.value)
        assert given(words, x, spec=spec + shares, allow_equal_rows=True).equal_across == 2


def test_too_few_rows_and_one_class():
    with pytest.raises(DataError, match="3 rows are too few"):
        make({"x": [1, 2, 3], "y": [0, 1, 0]}, "random")
    with pytest.raises(DataError, match=r"'y' must take at least 2 values in the training rows; found 'no': 80"):
        make({"x": list(range(100)), "y": ["no"] * 100}, "random")
    with pytest.raises(DataError, match="found no value at all"):
        make({"x": list(range(100)), "y": [None] * 100}, "random")


def test_specs_that_do_not_exist():
    with pytest.raises(UsageError, match=r"Unknown split 'rando'. Did you mean 'random'"):
        make(COLUMNS, "rando")
    with pytest.raises(UsageError, match="Unknown column 'z'"):
        make(COLUMNS, "group:z")
    with pytest.raises(UsageError, match="add up to 100"):
        make(COLUMNS, "random:80/10/20")
    with pytest.raises(UsageError, match="--split time:COLUMN"):
        make(COLUMNS, "time")
    with pytest.raises(UsageError, match="needs a column"):
        make(COLUMNS, "stratified", ask=())


def test_a_few_equal_rows_are_left_out_of_the_later_split():
    words = ["train"] * 60 + ["val"] * 20 + ["test"] * 20
    x = list(range(100))
    x[65], x[99] = 3, 70  # a validation row repeats a training row, a test row a validation row
    made = given(words, x)
    assert made.repeated.tolist() == [65, 99] and made.equal_across == 0
    assert [len(index) for index in made.indices().values()] == [60, 19, 19]
    assert 65 not in made.val and 99 not in made.test and made.as_json()["repeated"] == 2
    assert made.notes == given(words, list(range(100))).notes
    x[98] = 4  # 2 of 20 test rows are more than a few
    with pytest.raises(DataError, match="1 in test and train, 1 in test and val"):
        given(words, x)
