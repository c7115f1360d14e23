"""The batches of a step are a function of (seed, step); accumulation equals one big batch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from worlds import CASES

from onetrunk.core.batch import Batch
from onetrunk.core.errors import DataError
from onetrunk.data.loader import Loader
from onetrunk.data.store import Store
from onetrunk.engine.shares import shares_of

TYPES = {"title": "text", "price": "number", "kind": "category", "picture": "image"}


def world() -> tuple[Any, Store]:
    rows = {name: list(CASES[kind].values) for name, kind in TYPES.items()}
    rows["kind"][4:9] = [None] * 5
    made = worlds.model(rows, TYPES, options={"picture": {"patch": 4, "stem": 4}})
    return made, worlds.store_of(made, rows)


def loader(store: Store, seed: int = 0, tokens: int = 100_000, kinds: tuple[str, ...] = ("predict",), **rest: Any):
    made = [worlds.objective(store, kind, documents=20, **rest) for kind in kinds]
    return Loader(store, made, seed=seed, tokens_per_batch=tokens)


def flattened(batches: list[Batch]) -> list[torch.Tensor]:
    """Every number of the batches, in order."""
    out = []
    for b in batches:
        out += [b.layout.doc_BT, b.layout.branch_BT, b.layout.order_BT, b.layout.pos_BT, torch.from_numpy(b.row)]
        out += [t for e in b.embeds.values() for t in (*e.content.values(), e.role_n)]
        out += [t for reads in b.reads.values() for r in reads.values() for t in (*r.targets.values(), r.flat_r)]
    return out


def same(one: list[Batch], other: list[Batch]) -> bool:
    a, b = flattened(one), flattened(other)
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


ALL = ("predict", "masked", "contrast")


def test_a_step_is_rebuilt_bit_for_bit_without_those_before_it() -> None:
    _, store = world()
    first = loader(store, kinds=ALL, tokens=200)
    steps = [first(step) for step in range(6)]
    fresh = loader(store, kinds=ALL, tokens=200)
    for step in (5, 0, 3):
        assert same(fresh(step), steps[step])
    assert not same(steps[0], steps[1])
    assert not same(loader(store, seed=1, kinds=ALL, tokens=200)(0), steps[0])


def test_every_epoch_visits_every_row_of_the_pool_once_in_another_order() -> None:
    _, store = world()
    load = loader(store, given=["title"], ask=["price"])
    rows = np.concatenate([b.row for step in range(3) for b in load(step)])  # 60 draws are 5 epochs of 12
    epochs = rows.reshape(5, 12)
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 5


def test_rows_without_an_answer_are_never_drawn() -> None:
    _, store = world()
    load = loader(store, given=["title"], ask=["kind"])
    seen = Counter(int(r) for step in range(7) for b in load(step) for r in b.row)
    assert seen.keys() == {0, 1, 2, 3, 9, 10, 11} and set(seen.values()) == {20}


def gradient(learner: Any, batches: list[Batch], counts: dict[str, float]) -> dict[str, torch.Tensor]:
    """Of the sum over names of (sum / count), as the trainer scales it."""
    learner.zero_grad()
    for batch in batches:
        losses = learner(batch)
        sum(loss.sum / counts[name] for name, loss in losses.items()).backward()
    return {n: p.grad.clone() for n, p in learner.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["predict", "masked"])
def test_micro_batches_give_the_gradient_of_the_whole(kind: str) -> None:
    made, store = world()
    collected = []
    for tokens in (100_000, 150, 60):
        load = loader(store, tokens=tokens, kinds=(kind,))
        learner = worlds.learner(made, worlds.objective(store, kind, documents=20))
        batches = load(2)
        counts: Counter[str] = Counter()
        for batch in batches:
            counts.update(batch.counts)
        collected.append((len(batches), counts, gradient(learner, batches, counts)))
    (one, counts, whole), *others = collected
    assert one == 1 and others[0][0] > 1 and others[1][0] > others[0][0]
    for _, parts, accumulated in others:
        assert parts == pytest.approx(counts)
        assert accumulated.keys() == whole.keys()
        for name in whole:
            torch.testing.assert_close(accumulated[name], whole[name], rtol=1e-3, atol=1e-5, msg=name)


def test_pairs_of_views_stay_in_one_micro_batch() -> None:
    _, store = world()
    batches = loader(store, tokens=64, kinds=("contrast",))(0)
    assert len(batches) > 1
    for batch in batches:
        assert (batch.row[0::2] == batch.row[1::2]).all() and len(batch.row) % 2 == 0
    assert sum(batch.counts["contrast"] for batch in batches) == 40


def test_micro_batches_hold_about_as_many_positions_as_told() -> None:
    _, store = world()
    batches = loader(store, tokens=60, kinds=("predict",))(1)
    assert sum(len(b.row) for b in batches) == 20
    assert all(batch.tokens <= 2.5 * 60 for batch in batches)


@pytest.mark.parametrize("kinds", [("predict",), ("contrast",), ALL])
@pytest.mark.parametrize("tokens", [100_000, 150])
def test_shares_are_as_large_as_one_another_and_hold_every_document_once(kinds: tuple[str, ...], tokens: int) -> None:
    _, store = world()
    load, whole = loader(store, kinds=kinds, tokens=tokens), loader(store, kinds=kinds, tokens=tokens)
    load.shares = 3
    batches = load(1)
    assert len(batches) % 3 == 0 and len(batches) >= len(whole(1))
    assert Counter(r for b in batches for r in b.row.tolist()) == Counter(r for b in whole(1) for r in b.row.tolist())
    sizes = [batch.tokens for batch in batches]
    longest = max(length for batch in batches for length in batch.layout.lengths().tolist())
    assert max(sizes) - min(sizes) <= 4 * longest, sizes


def test_documents_of_one_length_are_shared_evenly() -> None:
    table = {"a": [f"c{i % 5}" for i in range(40)], "b": [float(i) for i in range(40)]}
    made = worlds.model(table, {"a": "category", "b": "number"})
    load = loader(worlds.store_of(made, table))
    load.shares = 4
    assert [len(batch.row) for batch in load(0)] == [5] * 4


def test_micro_batches_of_other_processes_are_not_made() -> None:
    _, store = world()
    load = loader(store, kinds=ALL, tokens=200)
    load.shares = 2
    part, whole = load.part(4, lambda index: index % 2 == 1), load(4)
    assert [one is None for one in part] == [index % 2 == 0 for index in range(len(whole))]
    assert same([one for one in part if one is not None], whole[1::2])


def test_1024_ranks_that_fail_again_and_again_lose_no_row_and_double_none() -> None:
    """A simulation: ranks are lost in the middle of steps, and others go on from the last checkpoint. Every step that
    counts has its rows, each in one rank, the same ones however often it was begun, and every pass over the table has
    every row once."""
    rows, documents, shares, every, steps = 5000, 2000, 1024, 4, 15
    encoder = worlds.fitted(CASES["number"]).encoder
    content, _ = encoder.encode_all([float(i) for i in range(rows)], lambda row, reason: None)
    index = np.stack([np.arange(rows), np.where(np.arange(rows) % 3, np.arange(rows), -1)], axis=1)
    store = Store(["a", "b"], [encoder, encoder], [content, content], index)
    load = Loader(
        store,
        [worlds.objective(store, documents=documents)],
        seed=3,
        tokens_per_batch=100_000,
        shares=shares,
    )
    first_time: dict[int, list[np.ndarray]] = {}
    dice, step, failures = np.random.default_rng(0), 0, 0
    while step < steps:
        size = int(dice.choice([1024, 1023, 1000, 512, 300]))
        owners = [rank for rank in range(size) for _ in shares_of(rank, size, shares)]  # of shares, in order
        assert len(owners) == shares
        last = min(steps, step + int(dice.integers(1, 8)))  # the step in which a rank is lost, and all end
        for now in range(step, last):
            drawn = first_time.setdefault(now, load.rows(now))
            assert len(drawn) == shares
            for rank in dice.choice(size, 8, replace=False).tolist():
                own = load.rows(now, lambda i, rank=rank, owners=owners: owners[i % shares] == rank)
                kept = [i for i, part in enumerate(own) if part is not None]
                assert kept == [i for i, owner in enumerate(owners) if owner == rank]
                assert all(np.array_equal(own[i], drawn[i]) for i in kept)
        failures += last < steps
        step = last if last == steps else last // every * every
    assert failures >= 3
    drawn = np.concatenate([np.concatenate(first_time[now]) for now in range(steps)])
    assert len(drawn) == steps * documents == 6 * rows
    assert (np.bincount(drawn, minlength=rows) == 6).all()


def test_nothing_to_predict_is_said() -> None:
    _, store = world()
    store.index[:, store.names.index("kind")] = -1
    with pytest.raises(DataError, match="No row can be trained on"):
        loader(store, given=["title"], ask=["kind"])


@pytest.mark.parametrize(("tokens", "count"), [(300, 2), (200, 3), (150, 4)])
def test_documents_of_one_length_are_divided_too(tokens: int, count: int) -> None:
    """However many micro-batches there are, none holds more than its share and a document."""
    rows = {"text": ["a b c d e f g h"] * 40}
    made = worlds.model(rows, {"text": "text"})
    store = worlds.store_of(made, rows)
    one = loader(store)(0)
    total = sum(batch.tokens for batch in one)
    batches = loader(store, tokens=-(-total * tokens // 600))(0)
    longest = total // 20
    assert len(one) == 1 and len(batches) == count
    assert max(batch.tokens for batch in batches) <= total / count + longest
