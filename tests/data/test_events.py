"""Rows made of events see nothing that comes later, ask for each event once, and every repair is counted."""

import datetime

import numpy as np
import pytest

from onetrunk.core.errors import DataError, UsageError
from onetrunk.data.event_rows import EventsConfig, holds_events, latest_rows, rows_from_events
from onetrunk.data.ledger import Ledger
from onetrunk.data.table import Table, infer_types
from onetrunk.training.open_data import events_of
from onetrunk.training.recipe import Recipe

DAYS = [datetime.date(2024, 1, 1) + datetime.timedelta(days=i) for i in range(10)]


def one(**columns):
    """Ten days of one thing."""
    return Table({"day": list(DAYS), "sold": [float(i) for i in range(10)], **columns})


def made_rows(table, ask=("sold",), split="auto", **config):
    ledger = Ledger()
    rows = rows_from_events(table, EventsConfig(**{"order": "day", **config}), ask, split=split, ledger=ledger)
    return rows, {entry["reason"]: entry["count"] for entry in ledger.as_json()}


def lists(values):
    return [np.asarray(v).tolist() for v in values]


def test_windows_end_where_parts_allow_and_only_asked_and_known_columns_see_ahead():
    table = one(rain=[10.0 * i for i in range(10)], holiday=[i % 7 == 0 for i in range(10)])
    rows, lines = made_rows(table, window=4, ahead=2, stride=1, min_seen=2, known="holiday", split="time:day:60/20/20")
    assert rows["split"] == ["train"] * 3 + ["val"] + ["test"]  # no row asks for days of two parts
    assert lists(rows["sold"]) == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9]]
    assert lists(rows["rain"]) == [[0, 10], [10, 20], [20, 30], [40, 50], [60, 70]]
    assert rows["holiday"][-1] == [False, True, False, False]
    assert rows["day"] == [DAYS[1], DAYS[2], DAYS[3], DAYS[5], DAYS[7]]  # the last day seen
    assert rows.row.tolist() == [1, 2, 3, 5, 7] and not lines


def test_each_event_is_asked_once_unless_told_otherwise():
    rows, lines = made_rows(one(), window=6, ahead=1)
    assert sorted(np.asarray(v)[-1] for v in rows["sold"]) == list(range(1, 10))  # the first has no history
    assert [len(v) for v in rows["sold"][-3:]] == [6, 6, 6]
    rows, lines = made_rows(one(), window=6, ahead=3, split="time:day:40/30/30")
    assert sorted(np.concatenate([np.asarray(v)[-3:] for v in rows["sold"]])) == list(range(1, 10))
    rows, lines = made_rows(one(), window=6, ahead=3, split="time:day:30/40/30")
    assert lines == {"val events that no row asks for": 1}


def test_nothing_later_enters_an_earlier_row():
    """Against a slow reading of every row, for random owners, moments and splits."""
    dice = np.random.default_rng(0)
    n, names = 300, ["train", "val", "test"]
    part = dice.choice(3, n, p=[0.8, 0.1, 0.1])
    table = Table({
        "who": dice.choice(list("abcde"), n).tolist(), "when": dice.integers(0, 120, n).tolist(),
        "number": list(range(n)), "side": list(range(n)), "split": [names[p] for p in part],
    })  # fmt: skip
    rows, lines = made_rows(table, ["number"], order="when", by="who", window=7, ahead=2, stride=1)
    when, who = np.array(table["when"]), np.array(table["who"])
    for owner, whole, side, of in zip(rows["who"], rows["number"], rows["side"], rows["split"], strict=True):
        mine = np.flatnonzero(who == owner)
        mine = mine[np.argsort(when[mine], kind="stable")].tolist()
        first = mine.index(whole[0])
        assert whole.tolist() == mine[first : first + len(whole)] and side.tolist() == whole[:-2].tolist()
        assert set(part[whole[-2:]]) == {names.index(of)}
        assert (part[mine[: first + len(whole)]] <= names.index(of)).all()
    assert len(rows) > 10 and lines["rows left out: events held out for a later split stand before them"] > 10
    assert lines["events at the moment of another: in the table's order"] > 10


def test_wrong_order_repeats_and_gaps_are_mended_and_counted():
    order = [0, 1, 5, 2, 3, 3, 8]
    table = Table({"day": [DAYS[i] for i in order], "sold": [0, 1, 5, 2, 3, 33, 8]})
    rows, lines = made_rows(table, window=9, step="1D", split="time:day:50/30/20")
    assert rows["sold"][-1] == [0, 1, 2, 33, None, 5, None, None, 8]
    assert lines == {
        "events earlier than the one before them: sorted": 1,
        "events of one step: the last one is kept": 1,
        "steps without an event: filled with missing values": 3,
    }
    rows, lines = made_rows(table, window=9, split="time:day:50/30/20")
    assert rows["sold"][-1].tolist() == [0, 1, 2, 3, 33, 5, 8]
    assert lines["events at the moment of another: in the table's order"] == 1


def test_a_step_must_suit_the_moments():
    with pytest.raises(DataError, match=r"With events.step 1s the 10 events up to row 9 lie on 777,601 steps"):
        made_rows(one(), window=4, step="1s")
    for step in ("often", -1):
        with pytest.raises(UsageError, match=r"events.step expects a time like 1h"):
            made_rows(one(), window=4, step=step)
    table = Table({"day": [0, 1.5, 2, 3, 4], "sold": [1.0, 2, 3, 4, 5]})
    assert made_rows(table, window=4, step=1, split=None)[1]["moments between steps: taken for the step before"] == 1


def test_events_without_owner_or_moment_are_left_out_and_too_many_stop_it():
    table = Table({"day": [*range(200)], "who": ["a"] * 200, "sold": [1.0] * 200})
    table.columns["day"][7] = table.columns["who"][9] = None
    rows, lines = made_rows(table, window=300, by="who")
    assert len(rows["sold"][-1]) + len(rows["sold"][0]) > 0 and max(map(len, rows["sold"])) == 198
    assert lines == {"events without it, left out": 1}  # one each of day and who
    table.columns["day"][:50] = [None] * 50
    with pytest.raises(DataError, match=r"50 of 200 values of the column 'day' cannot be used"):
        made_rows(table, window=5, by="who")
    with pytest.raises(DataError, match=r"Cannot order the rows by 'day'.*found 'soon'"):
        made_rows(one(day=["soon"] * 10), window=5)


def test_short_histories_are_counted_and_none_at_all_is_an_error():
    table = Table({"who": ["a", *"bbbb", "c"], "day": [*range(6)], "sold": [1.0] * 6})
    rows, lines = made_rows(table, window=4, by="who", split=None)
    assert (
        set(rows["who"]) == {"b"}
        and rows.names == ["who", "day", "sold"]
        and lines["histories too short for a row"] == 2
    )
    with pytest.raises(DataError, match=r"No row can be made of the 10 events of memory: .* at least 13 events"):
        made_rows(one(), window=15, ahead=12)


def test_who_may_be_split_how():
    table = Table({"who": list("aabbccddee") * 2, "day": [*range(20)], "sold": [1.0] * 20})
    rows, _ = made_rows(table, window=4, by="who", split="group:who:60/20/20")
    assert len({(w, s) for w, s in zip(rows["who"], rows["split"], strict=True)}) == 5
    for kind in ("random", "stratified:who"):
        with pytest.raises(UsageError, match="a row would see what is held out"):
            made_rows(table, window=4, split=kind)
    with pytest.raises(UsageError, match="Events without moments need a split"):
        made_rows(table, window=4, order=None)
    table.columns["split"] = ["train"] * 15 + ["test"] * 5  # nobody said which validate: the latest to train on
    rows, _ = made_rows(table, window=4)
    result = dict(zip(rows["day"], rows["split"], strict=True))
    assert [result[day] for day in range(19)] == ["train"] * 12 + ["val"] * 2 + ["test"] * 5


def test_fields_are_joined_and_values_of_now_stand_alone():
    table = one(
        price=[1.0] * 9 + [2.0], churned=[False] * 8 + [True, False], split=["train"] * 7 + ["val"] * 2 + ["test"]
    )
    rows, _ = made_rows(table, ["both"], window=3, join={"both": ["sold", "price"]}, now=["churned"])
    assert rows.names == ["churned", "day", "both", "split"]
    assert {k: v.tolist() for k, v in rows["both"][-1].items()} == {"sold": [7, 8, 9], "price": [1, 1, 2]}
    assert rows["churned"][-1] is True  # at the last event seen, the ninth
    rows, _ = made_rows(table, ["churned"], window=3, ahead=0, now="churned", stride=1)  # a label, of the last event
    assert rows["churned"][-1] is False and rows["sold"][-1].tolist() == [7, 8, 9]


def test_lists_of_a_folded_table_are_histories_not_bags_of_labels():
    table = one(thing=[f"thing {i % 4}" for i in range(10)], warm=[i % 2 == 0 for i in range(10)])
    rows, _ = made_rows(table, ("thing",), window=6)
    assert infer_types(rows, of_events=True) == {
        "day": "date", "sold": "series", "thing": "items", "warm": "category", "split": "category",
    }  # fmt: skip
    assert infer_types(rows)["thing"] == "category"  # tags, as far as a table of lists can tell


def test_the_latest_row_of_each_history():
    table = Table({"who": list("abab"), "day": [1, 1, 2, 2], "sold": [1.0, 2.0, 3.0, None], "deal": [0, 0, 1, 1]})
    config = EventsConfig(by="who", order="day", window=3, ahead=1)
    rows = latest_rows(table, config, ["sold"])
    assert rows["who"] == ["a", "b"] and rows["day"] == [2, 2]
    np.testing.assert_array_equal(rows["sold"], [[1, 3], [2, np.nan]])
    rows = latest_rows(table, config.updated(known=["deal"]), ["sold"])  # b's second day is to be answered
    assert lists(rows["sold"])[0] == [1, 3] and rows["day"] == [2, 1] and lists(rows["deal"]) == [[0, 1], [0, 1]]


def test_rows_and_events_are_told_apart():
    config = EventsConfig(by="who", order="day", window=3, ahead=1, join={"both": ["sold", "deal"]})
    assert holds_events(Table({"who": ["a"], "day": [1], "sold": [1.0], "deal": [0]}), config)
    assert not holds_events(Table({"who": ["a"], "both": [{"sold": [1.0], "deal": [0]}]}), config)
    assert not holds_events(
        latest_rows(one(), EventsConfig(order="day", window=3), ["sold"]), EventsConfig(order="day", window=3)
    )


def test_what_is_not_there_is_said():
    with pytest.raises(UsageError, match="Unknown column 'sale'"):
        made_rows(one(), ["sale"], window=3)
    with pytest.raises(UsageError, match="Unknown column 'dai'"):
        made_rows(one(), window=3, order="dai")
    with pytest.raises(UsageError, match=r"events.window is 2 events, of which events.ahead asks 2"):
        made_rows(one(), window=2, ahead=2)
    with pytest.raises(UsageError, match="which columns hold what comes next"):
        made_rows(one(), [], window=2)


# -- how moments are written ---------------------------------------------------------------------------------
def by_month(days, order="%d/%m/%Y"):
    """Sales that count up with time, on the same days of every month; days as they are written."""
    moments = [datetime.date(2023 + m // 12, m % 12 + 1, day) for m in range(24) for day in days]
    return Table({"day": [d.strftime(order) for d in moments], "sold": [float(i) for i in range(len(moments))]})


def test_days_and_months_are_read_as_the_whole_column_tells():
    table = by_month([1, 8, 13])
    rows = rows_from_events(table, EventsConfig(order="day", window=10, ahead=2), ["sold"])
    assert all(np.all(np.diff(values) == 1) for values in rows["sold"])


def test_days_that_may_be_months_are_refused_until_somebody_says_which():
    table = by_month([1, 8])
    config = EventsConfig(order="day", window=10, ahead=2)
    with pytest.raises(DataError, match=r"ambiguous.*date:dmy or date:mdy \(--types\)"):
        rows_from_events(table, config, ["sold"])
    rows = rows_from_events(table, config.updated(columns={"day": {"type": "date", "order": "dmy"}}), ["sold"])
    assert all(np.all(np.diff(values) == 1) for values in rows["sold"])


def test_new_events_are_read_as_those_of_training():
    """A few new ones may not tell what all those of training did."""
    recipe = Recipe(events=EventsConfig(order="day", window=10, ahead=2))
    config = events_of(by_month([1, 8, 13]), recipe, None)
    assert config.columns == {"day": {"type": "date", "order": "dmy"}, "sold": {"type": "number"}}
    named = events_of(by_month([1, 8]), recipe, {"day": "date:mdy"})
    assert named.columns["day"] == {"type": "date", "order": "mdy"}
    assert events_of(Table({"day": [1, 2], "sold": [1, 2]}), recipe, None).columns["day"] == {"type": "number"}
    (row,) = latest_rows(by_month([1, 8]), config)["sold"]
    assert row.tolist() == [float(i) for i in range(40, 48)]


def test_numbers_of_events_are_read_as_the_column_writes_them():
    days = [d.isoformat() for d in DAYS]
    table = Table({"day": days, "sold": [f"{i},5 kg" for i in range(10)], "id": [str(i) for i in range(10)]})
    config = events_of(table, Recipe(events=EventsConfig(order="day", window=4, ahead=1)), None)
    assert config.columns["sold"] == {"type": "number", "decimal": ",", "unit": "kg"} and "id" not in config.columns
    assert any("sold: numbers have a decimal comma" in note for note in table.notes)
    rows = rows_from_events(table, config, ["sold"])
    assert lists(rows["sold"])[-1] == [6.5, 7.5, 8.5, 9.5] and infer_types(rows, of_events=True)["sold"] == "series"
    new = Table({"day": days[:3], "sold": ["1,5 kg", "2500 g", 3], "id": ["1", "2", "3"]})
    assert lists(latest_rows(new, config)["sold"]) == [[1.5, 2.5, 3.0]]
    ledger = Ledger()
    odd = Table({"day": days, "sold": [*["1,5"] * 9, "closed"], "id": ["1"] * 10})
    assert np.isnan(lists(latest_rows(odd, config, ledger=ledger, max_bad=0.2)["sold"])[0][-1])
    assert ledger.lines() == ["sold: 1 × 'closed' cannot be read as number (row 9)"]
