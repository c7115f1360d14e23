"""Sessions: answers of many requests at once are those that each gets alone, and cost what is being made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from worlds import CASES

from onetrunk.core import rng
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.content import Content
from onetrunk.core.errors import UsageError
from onetrunk.inference.model_folder import Model
from onetrunk.inference.request import Request
from onetrunk.inference.session import Session

TYPES = {
    "title": "text",
    "price": "number",
    "kind": "category",
    "day": "date",
    "picture": "image",
    "sound": "audio",
    "basket": "items",
    "lessons": "trace",
    "wave": "series",
    "boxes": "boxes",
}
CASE_OF = {name: kind for name, kind in TYPES.items()}
OPTIONS = {"wave": {"horizon": 4, "patch": 2, "paths": True}, "sound": {"bands": 8, "stem": 2, "length": 12}}
TRUNKS = {
    "attention": worlds.TRUNK,
    "grouped attention": {**worlds.TRUNK, "kv_heads": 1},
    "lstm": {"kind": "lstm", "width": 16, "layers": 2},
}
PROMPTED = ("title", "basket", "lessons", "wave")  # columns whose answers go on from a prompt


def rows() -> dict[str, list[Any]]:
    out = {name: list(CASES[kind].values) for name, kind in CASE_OF.items()}
    out["picture"] = list(CASES["boxes"].on[1])
    for i, name in enumerate(out):
        out[name][(3 * i) % 12] = None
    return out


@pytest.fixture(scope="module", params=[*TRUNKS, "causal"])
def made(request: pytest.FixtureRequest) -> Model:
    torch.manual_seed(3)
    trunk = TRUNKS.get(request.param, worlds.TRUNK)
    given = "causal" if request.param == "causal" else "bidirectional"
    return worlds.model(rows(), TYPES, options=OPTIONS, trunk=trunk, given=given)


def prompts_of(made: Model, ask: str, table: dict[str, list[Any]]) -> Content | None:
    """What each row's answer begins with: the first half of the row's own value, empty where it has none."""
    if ask not in PROMPTED:
        return None
    store = worlds.store_of(made, {ask: table[ask]})
    c = store.names.index(ask)
    content, index = store.contents[c], store.index[:, c]
    lens = np.where(index >= 0, content.lens[index], 0)
    return Content(content.data, (lens + 1) // 2, content.starts[np.maximum(index, 0)])


SAMPLINGS = [
    Sampling(max_length=9, steps=3),
    Sampling(max_length=4, steps=2, guidance=2.0, seed=5),
    Sampling(temperature=1.0, top_p=0.9, max_length=12, steps=4, seed=1),
    Sampling(temperature=0.6, top_k=5, max_length=7, steps=3, guidance=0.5, seed=2),
    Sampling(beams=3, max_length=5, steps=2),
]


def requests(made: Model, count: int) -> list[Request]:
    """Of every column, from given columns that differ, each drawn in a way of its own, with and without a prompt."""
    table, names = rows(), list(TYPES)
    store = worlds.store_of(made, table)
    prompts = {ask: prompts_of(made, ask, table) for ask in names}
    out = []
    for i in range(count):
        u = rng.uniform(rng.mix(np.array([i]), "request"), 20)[0]
        ask = names[i % len(names)]
        given = [name for name, x in zip(names, u, strict=False) if name != ask and x < 0.4]
        if ask == "boxes":
            given = sorted({*given, "picture"}, key=names.index)
        chosen = np.array([int(x * 12) for x in u[10 : 11 + int(3 * u[13])]])
        prompt = prompts[ask] if u[14] < 0.6 or ask in ("basket", "lessons", "wave") else None
        out.append(Request(store, ask, given, SAMPLINGS[int(u[15] * len(SAMPLINGS))], prompt, np.unique(chosen)))
    return out


def answered(session: Session, ready: list[tuple[int, Request]]) -> dict[int, dict[int, Answer]]:
    """Every request's answers by row; each is added before the step of its number."""
    answers: dict[int, dict[int, Answer]] = {}
    places: dict[int, int] = {}
    for step in range(10_000):
        for i, (when, request) in enumerate(ready):
            if when == step:
                places[session.add(request)] = i
        if not session.busy and step > max(when for when, _ in ready):
            return answers
        for part in session.step():
            rows_of = answers.setdefault(places[part.request], {})
            assert part.row not in rows_of, "a row is answered once"
            rows_of[part.row] = part.answer
    raise AssertionError("never done")


def same(result: Any, expected: Any) -> None:
    """Tokens and labels are equal; numbers to 1e-4 of their size; pictures to one of 255 levels."""
    assert type(result) is type(expected)
    if isinstance(result, dict):
        assert result.keys() == expected.keys()
        for name in result:
            same(result[name], expected[name])
    elif isinstance(result, list | tuple):
        assert len(result) == len(expected)
        for a, b in zip(result, expected, strict=True):
            same(a, b)
    elif isinstance(result, bytes):
        assert worlds.same_sound(result, expected)
    elif isinstance(result, np.ndarray) and result.dtype == np.uint8:
        assert np.abs(result.astype(int) - expected.astype(int)).max() <= 1
    elif isinstance(result, float | np.floating):
        assert result == pytest.approx(expected, rel=1e-4, abs=0.02 if abs(result) > 1 else 1e-5)
    else:
        assert result == expected


def same_answers(result: Answer, expected: Answer) -> None:
    for name in ("value", "probability", "interval", "samples", "scores", "quantiles", "logprob"):
        same(getattr(result, name), getattr(expected, name))


# -- the law -------------------------------------------------------------------------------------------------
def test_200_requests_at_random_times_get_the_answers_that_each_gets_alone(made: Model) -> None:
    wanted = requests(made, 200)
    when = rng.integers(rng.mix(np.arange(200), "when"), 60)
    session = Session(made.network, slots=24, positions=160)
    together = answered(session, list(zip(when.tolist(), wanted, strict=True)))
    assert session.free_slots == 24 and not session.busy
    for i, request in enumerate(wanted):
        alone = answered(Session(made.network, slots=6, positions=160), [(0, request)])[0]
        assert together[i].keys() == alone.keys() == set(request.rows.tolist())
        for row, answer in alone.items():
            same_answers(together[i][row], answer)


def test_answers_are_those_of_the_table(made: Model) -> None:
    """`Model.answer` is the same loop; here every row comes in a store of its own."""
    table = rows()
    for ask, sampling in (("title", SAMPLINGS[2]), ("kind", Sampling()), ("price", Sampling()), ("boxes", Sampling())):
        given = [name for name in ("picture", "price", "kind") if name != ask]
        expected = made.answer(table, ask, given, sampling)
        session = Session(made.network, slots=5, positions=300)
        single = [
            Request(worlds.store_of(made, {n: [table[n][i]] for n in given}), ask, given, sampling) for i in range(12)
        ]
        for i, answer in answered(session, [(i // 4, request) for i, request in enumerate(single)]).items():
            if sampling.temperature == 0 or i == 0:  # a row's number is part of its key
                same_answers(answer[0], expected[i])


def test_what_others_ask_changes_no_bit_of_an_answers_randomness(made: Model) -> None:
    store = worlds.store_of(made, rows())
    hot = Sampling(temperature=1.5, max_length=8, seed=9)
    request = Request(store, "title", ["kind"], hot, rows=np.array([4, 7]))
    alone = answered(Session(made.network, slots=2, positions=64), [(0, request)])[0]
    crowd = [(i % 3, other) for i, other in enumerate(requests(made, 30))]
    together = answered(Session(made.network, slots=9, positions=160), [*crowd, (2, request)])[30]
    assert [together[i].value for i in (4, 7)] == [alone[i].value for i in (4, 7)]
    other_seed = Request(
        store, "title", ["kind"], Sampling(temperature=1.5, max_length=8, seed=10), None, np.array([4])
    )
    again = answered(Session(made.network, slots=2, positions=64), [(0, other_seed)])[0]
    assert again[4].value != alone[4].value


# -- what it costs ---------------------------------------------------------------------------------------------
def storage_of(session: Session) -> list[tuple[int, int]]:
    return [(tensor.data_ptr(), tensor.untyped_storage().nbytes()) for tensor in session.cache.storage()]


def texts(made: Model, lengths: Sequence[int]) -> list[Request]:
    """Texts that are as long as they may be: none ends by itself."""
    store = worlds.store_of(made, rows())
    return [
        Request(store, "title", ["price"], Sampling(max_length=n), rows=np.array([i % 12]))
        for i, n in enumerate(lengths)
    ]


@pytest.fixture
def endless(made: Model) -> Model:
    """Its texts end where they must, and nowhere before."""
    sides = worlds.Sides.of(made, "title")
    never = sides.special.never
    sides.encoder.special = type(sides.special)(**{**vars(sides.special), "never": (*never, sides.special.end)})
    yield made
    sides.encoder.special = type(sides.special)(**{**vars(sides.special), "never": never})


def test_a_step_costs_what_is_still_being_made(endless: Model) -> None:
    session = Session(endless.network, slots=8, positions=64)
    lengths = [2, 3, 5, 9, 9, 14]
    for request in texts(endless, lengths):
        session.add(request)
    for step in range(1, 15):
        before = session.work.rows
        parts = session.step()
        assert session.work.rows - before == sum(n >= step for n in lengths), "finished rows take no more steps"
        assert len(parts) == lengths.count(step)
    assert not session.busy and session.work.rows == sum(lengths) and session.work.given_rows == len(lengths)


def test_storage_does_not_grow(made: Model) -> None:
    session = Session(made.network, slots=10, positions=160)
    storage = storage_of(session)
    for request in requests(made, 60):
        session.add(request)
    while session.busy:
        session.step()
        assert storage_of(session) == storage


def test_a_slot_is_taken_again_as_soon_as_it_is_free(endless: Model) -> None:
    session = Session(endless.network, slots=2, positions=64)
    for request in texts(endless, [1, 6, 2, 4]):
        session.add(request)
    finished = [[part.request for part in session.step()] for _ in range(7)]
    assert finished == [[0], [], [2], [], [], [1], [3]]


def test_a_tick_is_two_trunk_calls_for_texts_and_what_is_answered_at_once(endless: Model, monkeypatch: Any) -> None:
    session = Session(endless.network, slots=2, positions=64)
    store = worlds.store_of(endless, rows())
    session.add(texts(endless, [5])[0])
    session.step()
    trunk, calls = endless.network.trunk, list[Any]()
    whole, extend = trunk.forward, trunk.extend
    monkeypatch.setattr(trunk, "forward", lambda x, *rest: calls.append("rows") or whole(x, *rest))
    monkeypatch.setattr(trunk, "extend", lambda x, *rest, **named: calls.append(len(x)) or extend(x, *rest, **named))
    for ask in ("kind", "price", "day"):
        session.add(Request(store, ask, ["title"], rows=np.array([1, 2])))
    parts = session.step()
    assert len(parts) == 6, "rows that take one step wait for no slot"
    assert calls == ["rows", 1], "what is given and asked in all of these rows, and then one step of the text"


def test_what_is_asked_of_the_same_rows_is_read_from_one_document(made: Model, monkeypatch: Any) -> None:
    store, rows_ = worlds.store_of(made, rows()), np.array([3, 1, 7])
    asked = [Request(store, ask, ["title", "picture"], rows=rows_) for ask in ("kind", "price", "day", "kind")]
    together = Session(made.network, slots=1, positions=64)
    seen: list[int] = []
    encode = made.network.encode
    monkeypatch.setattr(
        made.network,
        "encode",
        lambda batch, *rest, **named: seen.append(len(batch.row)) or encode(batch, *rest, **named),
    )
    answers = answered(together, [(0, request) for request in asked])
    assert seen == [6], "three rows with three questions, and three with the fourth, of a column that is asked twice"
    for i, request in enumerate(asked):
        alone = answered(Session(made.network, slots=1, positions=64), [(0, request)])[0]
        for row, answer in alone.items():
            same_answers(answers[i][row], answer)


# -- removing ------------------------------------------------------------------------------------------------
def test_a_removed_request_frees_its_slots_at_once(endless: Model) -> None:
    session = Session(endless.network, slots=4, positions=64)
    store = worlds.store_of(endless, rows())
    long = Request(store, "title", ["price"], Sampling(max_length=40), rows=np.arange(6))
    first = session.add(long)
    second = session.add(texts(endless, [3])[0])
    assert session.step() == [] and session.free_slots == 0
    assert session.remove(first) and session.free_slots == 4, "and those of its rows that waited are forgotten"
    parts = [part for _ in range(3) for part in session.step()]
    assert [part.request for part in parts] == [second] and not session.busy
    assert not session.remove(first) and not session.remove(second) and session.free_slots == 4


def test_removing_some_changes_nothing_for_the_others(made: Model) -> None:
    wanted = requests(made, 40)
    session = Session(made.network, slots=30, positions=160)
    numbers = [session.add(request) for request in wanted]
    answers: dict[int, dict[int, Answer]] = {}
    for step in range(1000):
        if not session.busy:
            break
        if step == 2:
            for number in numbers[::3]:
                session.remove(number)
            answers = {number: predicted for number, predicted in answers.items() if number not in numbers[::3]}
        for part in session.step():
            assert step < 2 or part.request not in numbers[::3]
            answers.setdefault(part.request, {})[part.row] = part.answer
    assert session.free_slots == 30
    for number, request in zip(numbers, wanted, strict=True):
        if number not in numbers[::3]:
            alone = answered(Session(made.network, slots=6, positions=160), [(0, request)])[0]
            for row, answer in alone.items():
                same_answers(answers[number][row], answer)


def test_after_a_step_that_failed_the_session_is_empty_and_goes_on(made: Model, monkeypatch: Any) -> None:
    store = worlds.store_of(made, rows())
    session = Session(made.network, slots=3, positions=64)
    session.add(Request(store, "title", ["price"], Sampling(max_length=5)))
    session.step()
    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(made.network, "extend", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
        session.step()
    assert not session.busy and session.free_slots == 3 and session.step() == []
    request = Request(store, "title", ["price"], Sampling(max_length=5), rows=np.array([1, 2]))
    again = answered(session, [(0, request)])[0]
    alone = answered(Session(made.network, slots=2, positions=64), [(0, request)])[0]
    assert {row: a.value for row, a in again.items()} == {row: a.value for row, a in alone.items()}


# -- what it refuses -----------------------------------------------------------------------------------------
def test_what_no_slot_could_hold_is_refused(made: Model) -> None:
    store = worlds.store_of(made, rows())
    session = Session(made.network, slots=2, positions=40)
    if session.cache.positions is not None:
        with pytest.raises(UsageError, match=r"Row 0 takes up to \d+ positions.*holds 40\. Shorten"):
            session.add(Request(store, "title", ["price"], Sampling(max_length=60), rows=np.array([0])))
    with pytest.raises(UsageError, match=r"'title' takes 3 slots.*this session has 2"):
        session.add(Request(store, "title", ["price"], Sampling(beams=3, max_length=5)))
    assert not session.busy


def test_more_positions_than_were_learnt_are_refused_at_the_door() -> None:
    size = "max_positions"
    trunk = {**worlds.TRUNK, "positions": "learned", size: 16}
    made = worlds.model(
        {"title": rows()["title"], "kind": rows()["kind"]}, {"title": "text", "kind": "category"}, trunk=trunk
    )
    session = Session(made.network, slots=2, positions=100)
    store = worlds.store_of(made, {"title": ["the sea, " * 20, "boat"], "kind": ["a", "b"]})
    with pytest.raises(UsageError, match=r"A column takes \d+ positions; this trunk knows 16\. Shorten"):
        session.add(Request(store, "kind", ["title"]))
    session.add(Request(store, "kind", ["title"], rows=np.array([1])))
    assert len(session.step()) == 1


def test_what_a_column_cannot_answer_is_refused_at_the_door() -> None:
    made = worlds.model({"wave": rows()["wave"]}, {"wave": "series"}, options={"wave": {"horizon": 4, "paths": False}})
    session = Session(made.network, slots=2, positions=40)
    store = worlds.store_of(made, {"wave": rows()["wave"]})
    with pytest.raises(UsageError, match="Paths are drawn only of a series that has learnt it"):
        session.add(Request(store, "wave", [], Sampling(temperature=1.0)))
    assert not session.busy


def test_a_request_of_no_rows_is_done(made: Model) -> None:
    session = Session(made.network, slots=2, positions=40)
    session.add(Request(worlds.store_of(made, rows()), "kind", ["price"], rows=np.zeros(0, dtype=np.int64)))
    assert not session.busy and session.step() == []
