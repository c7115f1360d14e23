"""Packing: where documents stand, who reads what, and that a batch says the same however it is laid out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import worlds
from worlds import CASES

from onetrunk.core import rng
from onetrunk.core.batch import Batch
from onetrunk.data.pack import assemble, best_fit, pack
from onetrunk.data.store import Store

LENGTHS = [rng.integers(rng.mix(np.arange(400), "lengths"), high, 1)[:, 0] + 1 for high in (3, 20, 64)]


def next_fit(lengths: np.ndarray, width: int) -> int:
    """How many bins it takes to open a new one whenever a document does not fit: the simple rival."""
    bins, room = 1, width
    for need in lengths.tolist():
        if need > room:
            bins, room = bins + 1, width
        room -= need
    return bins


@pytest.mark.parametrize("lengths", LENGTHS, ids=["short", "middling", "long"])
def test_bins_hold_their_documents_apart_and_are_fuller_than_next_fits(lengths: np.ndarray) -> None:
    width = 64
    bins, offsets = best_fit(lengths, width)
    taken = np.zeros((bins.max() + 1, width), dtype=np.int64)
    for b, offset, length in zip(bins, offsets, lengths, strict=True):
        assert offset + length <= width
        taken[b, offset : offset + length] += 1
    assert taken.max() == 1 and taken.sum() == lengths.sum()
    assert len(set(bins.tolist())) == bins.max() + 1, "no bin is empty"
    least = -(-lengths.sum() // width)
    assert least <= len(taken) <= next_fit(lengths, width)
    assert len(taken) <= 1.06 * least + 1


def test_next_fit_leaves_more_room() -> None:
    """The rival is worse somewhere: the comparison above can fail."""
    assert next_fit(LENGTHS[1], 64) > best_fit(LENGTHS[1], 64)[0].max() + 1


def positions(fit: tuple[np.ndarray, np.ndarray], width: int) -> int:
    return (int(fit[0].max()) + 1) * width


def test_a_few_sequences_are_as_wide_as_leaves_little_padding() -> None:
    at_width = chosen = documents = 0
    for i in range(20):
        lengths = rng.integers(rng.mix(np.arange(32), "ragged", i), 60, 1)[:, 0] ** 2 // 7 + 1
        width = -(-int(lengths.max()) // 8) * 8
        bins, offsets, wider = pack(lengths, width)
        again = best_fit(lengths, wider)
        assert np.array_equal(bins, again[0]) and np.array_equal(offsets, again[1])
        assert width <= wider <= 1.2 * width and wider % 8 == 0
        at_width += positions(best_fit(lengths, width), width)
        chosen += positions((bins, offsets), wider)
        documents += int(lengths.sum())
    assert at_width > 1.06 * documents, "what it is for"
    assert chosen < 1.03 * documents
    full = np.full(6, 32)
    assert pack(full, 64)[2] == 64, "what leaves nothing stays"


def world() -> tuple[Any, Store]:
    rows = {
        "title": ["", "a", *(t * (1 + i % 4) for i, t in enumerate(CASES["text"].values[2:]))],
        "price": [None, *CASES["number"].values[1:]],
        "kind": list(CASES["category"].values),
    }
    made = worlds.model(
        rows, {"title": "text", "price": "number", "kind": "category"}, options={"title": {"unit": "character"}}
    )
    return made, worlds.store_of(made, rows)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("given_causal", [False, True])
def test_positions_orders_and_branches_are_those_of_each_document(apart: bool, given_causal: bool) -> None:
    _, store = world()
    batch = worlds.batch(store, range(12), ["title", "price"], ["kind"], apart=apart, given_causal=given_causal)
    layout = batch.layout
    assert batch.tokens == int((layout.doc_BT >= 0).sum())
    for d in range(12):
        sequence, place = (layout.doc_BT == d).nonzero(as_tuple=True)
        assert len(set(sequence.tolist())) == 1, "a document stands in one sequence"
        assert (place.diff() == 1).all(), "in one piece"
        s = int(sequence[0])
        branch, order, pos = (a[s, place].tolist() for a in (layout.branch_BT, layout.order_BT, layout.pos_BT))
        letters = int(store.contents[0].lens[d])
        given = letters + (d > 0)  # the first row has no price
        assert branch == [0] * given + [1]
        assert order == ([*range(given), given] if given_causal else [0] * given + [1])
        assert pos == [*range(letters), *([0] if d > 0 else []), 0]


def test_reads_stand_where_their_targets_are() -> None:
    _, store = world()
    batch = worlds.batch(store, range(12), ["price"], ["kind", "title"])
    doc = batch.layout.doc_BT.flatten()
    for read in batch.reads["predict"].values():
        assert torch.equal(doc[read.flat_r], read.doc_r)
    kinds = batch.reads["predict"]["kind"]
    expected = [store.encoders[2].encode(CASES["category"].values[i])["id"] for i in batch.row[kinds.doc_r]]
    assert kinds.targets["id"].tolist() == expected
    titles = batch.reads["predict"]["title"]
    for d in range(12):
        ids = titles.targets["id"][titles.doc_r == d].tolist()
        letters = store.contents[0].take(np.array([batch.row[d]])).gather()["id"].tolist()
        assert ids == [*letters, 2], "every letter, then the end"
    assert batch.counts == {"predict/kind": 12.0, "predict/title": float(store.contents[0].lens.sum() + 12)}


def test_row_weights_weigh_every_read_of_their_row() -> None:
    _, store = world()
    plain = worlds.batch(store, range(12), ["price"], ["kind", "title"])
    store.row_weight = np.linspace(0, 2, 12, dtype=np.float32)
    weighed = worlds.batch(store, range(12), ["price"], ["kind", "title"])
    for name, read in weighed.reads["predict"].items():
        before = plain.reads["predict"][name].targets["w"]
        factor = torch.from_numpy(store.row_weight)[torch.from_numpy(weighed.row)[read.doc_r]]
        torch.testing.assert_close(read.targets["w"], before * factor)
        assert weighed.counts[f"predict/{name}"] == pytest.approx(float((before * factor).sum()))


@pytest.mark.parametrize("titles", [["abcdefg", "bcdefga", "cdefgab"], ["abcdef", "bcdefg", "gfedcba"]])
def test_plain_streams_take_the_fast_path_and_change_nothing(titles: list[str]) -> None:
    rows = {"title": titles}
    made = worlds.model(rows, {"title": "text"}, options={"title": {"unit": "character"}})
    fast, slow = (worlds.batch(worlds.store_of(made, rows), range(3), [], ["title"], apart=apart) for apart in (0, 1))
    assert fast.layout.causal and not slow.layout.causal
    compare(made, fast, slow)


@pytest.mark.parametrize(("titles", "full"), [(["abcd", "bcda", "dcba"], True), (["abcde", "bcdea", "dcba"], False)])
def test_full_blocks_take_the_fast_path_and_change_nothing(titles: list[str], full: bool) -> None:
    """Documents of one length take it only where their columns stand in the same places."""
    rows = {"title": titles, "name": ["x" * (9 - len(t)) for t in titles], "picture": CASES["image"].values[:3]}
    types = {"title": "text", "name": "text", "picture": "image"}
    made = worlds.model(rows, types, options={n: {"unit": "character"} for n in ("title", "name")})
    fast, slow = (
        worlds.batch(worlds.store_of(made, rows), range(3), ["title", "name"], [], masked=["picture"]) for _ in "ab"
    )
    assert fast.layout.full == full and not fast.layout.causal
    slow.layout.full = False
    compare(made, fast, slow)


def compare(made: Any, fast: Batch, slow: Batch) -> None:
    a, b = (worlds.states_by_document(made, x) for x in (fast, slow))
    assert a.keys() == b.keys() and len(a) >= 3
    for place in a:
        torch.testing.assert_close(a[place], b[place], rtol=1e-4, atol=1e-5)


def test_batches_of_several_objectives_keep_their_documents_and_reads_apart() -> None:
    _, store = world()
    groups = {
        "predict": worlds.group(store, [0, 1, 2], ["price"], ["kind"]),
        "masked": worlds.group(store, [2, 3], ["kind"], [], ["title"]),
    }
    batch = assemble(groups, store, augment=False)
    assert {tag: docs.tolist() for tag, docs in batch.docs.items()} == {"predict": [0, 1, 2], "masked": [3, 4]}
    assert batch.row.tolist() == [0, 1, 2, 2, 3]
    assert {tag: list(reads) for tag, reads in batch.reads.items()} == {"predict": ["kind"], "masked": ["title"]}
    assert set(batch.reads["masked"]["title"].doc_r.tolist()) <= {3, 4}


def test_windows_of_long_texts_count() -> None:
    rows = {"title": ["ab" * 25, "abc", None]}
    made = worlds.model(rows, {"title": "text"}, options={"title": {"unit": "character", "length": 10}})
    assert worlds.store_of(made, rows).windows().tolist() == [[5], [1], [1]]
