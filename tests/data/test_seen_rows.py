"""Rows a model has met are known again: in any order, with other columns beside them, answered or not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from onetrunk.core.errors import DataError
from onetrunk.data.seen_rows import SeenRows, absent_columns, record, splits_before
from onetrunk.data.split import Split, split
from onetrunk.data.table import Table

TYPES = {"review": "text", "nights": "number", "label": "category"}


def rows(n: int = 200) -> dict[str, list[Any]]:
    return {
        "review": [f"stay {i}" for i in range(n)],
        "nights": [i // 2 for i in range(n)],
        "label": ["good" if i % 3 else "bad" for i in range(n)],
    }


def first(columns: dict[str, list[Any]], names: list[str], seed: int = 0, **rest: Any) -> tuple[Split, SeenRows]:
    """A random split, and what is kept of it, having been through JSON and arrays."""
    table = Table(columns)
    made = split(table, TYPES, "random", seed, given=names, **rest)
    seen = record(table, TYPES, names, made.indices())
    return made, SeenRows.parse(json.loads(json.dumps(seen.as_json())), seen.digests.copy(), seen.splits.copy())


def later(columns: dict[str, list[Any]], kept: list[SeenRows], spec: str = "auto", **rest: Any) -> Split:
    table = Table(columns)
    options = {"given": ["review"], "ask": ["label"], **rest}
    return split(table, TYPES, spec, 0, before=splits_before(table, kept), **options)


def leaks(made: Split, trained: np.ndarray) -> int:
    return len(set(trained.tolist()) & {*made.val.tolist(), *made.test.tolist()})


@pytest.mark.parametrize("spec", ["auto", "random", "stratified:label", "group:nights", "time:nights"])
def test_what_was_trained_on_is_never_held_out_again(spec: str) -> None:
    made, kept = first(rows(), list(TYPES))
    table = Table(rows())
    alone = split(table, TYPES, spec, 1, given=["review"], ask=["label"])
    assert leaks(alone, made.train) > 0, "without the record it is: else this shows nothing"
    after = later(rows(), [kept], spec)
    assert leaks(after, made.train) == 0 and len(after.test)


def test_groups_that_were_all_trained_on_cannot_be_held_out() -> None:
    _, kept = first(rows(), list(TYPES))
    with pytest.raises(DataError, match=r"200 rows are too few.*The model it starts from has met 200 of them"):
        later({**rows(), "nights": [i % 7 for i in range(200)]}, [kept], "group:nights")


def test_the_same_table_keeps_its_split_whatever_is_asked_and_however_it_is_sorted() -> None:
    made, kept = first(rows(), list(TYPES))
    again = later(rows(), [kept])
    assert all(np.array_equal(getattr(again, part), getattr(made, part)) for part in made.indices())
    assert again.how == "as for the model it starts from"
    order = np.random.default_rng(0).permutation(200)
    turned = later({name: [values[i] for i in order] for name, values in rows().items()}, [kept])
    assert set(order[turned.test].tolist()) == set(made.test.tolist())


def test_rows_it_never_met_are_split_as_asked_with_the_shares_of_the_whole() -> None:
    made, kept = first(rows(), list(TYPES))
    more = later(rows(400), [kept])
    assert [len(index) for index in more.indices().values()] == [320, 40, 40]
    assert set(made.test.tolist()) <= set(more.test.tolist())
    assert any("200 rows keep the split" in note for note in more.notes)
    none = later({**rows(), "review": [f"other {i}" for i in range(200)]}, [kept])
    assert np.array_equal(none.test, split(Table(rows()), TYPES, "auto", 0, given=["review"], ask=["label"]).test)


def test_a_row_is_known_without_its_answer_and_without_columns_that_tell_nothing() -> None:
    unlabelled = {**rows(), "label": [None] * 200}
    made, kept = first(unlabelled, ["review", "nights"])
    assert list(kept.columns) == ["review"]
    few = rows()
    del few["nights"]
    assert leaks(later(few, [kept]), made.train) == 0
    assert absent_columns(Table({"label": ["a"]}), [kept]) == ["review"]
    assert (splits_before(Table({"label": ["a"]}), [kept]) == -1).all()


def test_columns_that_only_together_tell_rows_apart() -> None:
    columns = {"review": ["a", "b"] * 100, "nights": [i // 2 for i in range(200)], "label": ["x", "y"] * 100}
    made, kept = first(columns, list(TYPES))
    assert list(kept.columns) == ["nights", "review"]
    before = splits_before(Table(columns), [kept])
    assert np.array_equal(np.flatnonzero(before == 0), made.train)
    assert (splits_before(Table({**columns, "nights": [v + 1000 for v in columns["nights"]]}), [kept]) == -1).all()


def test_the_earliest_part_of_several_stages_counts() -> None:
    one, kept = first(rows(), list(TYPES))
    other, also = first(rows(), list(TYPES), seed=1)
    before = splits_before(Table(rows()), [kept, also])
    assert set(np.flatnonzero(before == 0).tolist()) == {*one.train.tolist(), *other.train.tolist()}


def test_equal_rows_that_were_allowed_on_both_sides_keep_their_parts() -> None:
    columns = {name: values * 2 for name, values in rows(50).items()}
    made, kept = first(columns, list(TYPES), allow_equal_rows=True)
    again = later(columns, [kept], allow_equal_rows=True)
    assert all(np.array_equal(getattr(again, part), getattr(made, part)) for part in made.indices())
    thrice = splits_before(Table({name: values * 3 for name, values in rows(50).items()}), [kept])
    assert (thrice[100:] <= np.minimum(thrice[:50], thrice[50:100])).all(), "one too many counts as trained on"


def test_a_column_of_parts_is_obeyed_where_it_was_named_and_else_does_not_leak() -> None:
    made, kept = first(rows(), list(TYPES))
    columns = {**rows(), "split": ["test" if i in made.train[:9] else "train" for i in range(200)]}
    types = {**TYPES, "split": "category"}
    table = Table(columns)
    before = splits_before(table, [kept])
    named = split(table, types, "given:split", 0, given=["review"], ask=["label"], before=before)
    assert leaks(named, made.train) == 9 and any("9 held-out rows, as told" in note for note in named.notes)
    divided = split(table, types, "auto", 0, given=["review"], ask=["label"], before=before)
    assert leaks(divided, made.train) == 0 and any("9 rows were learnt from before" in note for note in divided.notes)
    assert not set(made.train[:9].tolist()) & set(divided.train.tolist()), "nor trained on: they are left out"


def test_what_is_kept_shows_no_value() -> None:
    _, kept = first(rows(), list(TYPES))
    assert "stay" not in json.dumps(kept.as_json()) and kept.digests.nbytes + kept.splits.nbytes == 9 * 200
