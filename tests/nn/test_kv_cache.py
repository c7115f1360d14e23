"""Slots give what a growing cache gives, in storage that is all there from the start."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import worlds
from torch import Tensor

from onetrunk.nn.trunk import build_trunk

TRUNKS = {
    "attention": {"width": 24, "layers": 2, "heads": 4, "head_width": 6},
    "grouped": {"width": 24, "layers": 2, "heads": 4, "kv_heads": 2, "positions": "learned", "norm_place": "post"},
    "gru": {"kind": "gru", "width": 24, "layers": 2},
    "lstm": {"kind": "lstm", "width": 24, "layers": 2},
}
SLOTS, POSITIONS = 7, 20


@pytest.fixture(params=TRUNKS)
def trunk(request: pytest.FixtureRequest) -> Any:
    made = build_trunk(TRUNKS[request.param])
    worlds.wake(made)
    return made.eval()


def slots_of(trunk: Any) -> Any:
    return trunk.start_slots(SLOTS, POSITIONS, worlds.CPU, torch.float32)


def call(seed: int, n: int, t: int, lens: list[int], first: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """x, pos and valid of new positions, `lens` of each document's t, that stand after `first` ones."""
    x = torch.randn(n, t, 24, generator=torch.Generator().manual_seed(seed))
    pos = torch.tensor(first)[:, None] + torch.arange(t)
    return x, pos, torch.arange(t) < torch.tensor(lens)[:, None]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("slots", [[0, 1, 2], [2, 3, 4], [5, 0, 3]], ids=str)
@torch.inference_mode()
def test_slots_give_what_a_growing_cache_gives(trunk: Any, slots: list[int], causal: bool) -> None:
    chosen, cache, growing = torch.tensor(slots), slots_of(trunk), trunk.start_cache(3, worlds.CPU)
    storage = [(x.data_ptr(), x.shape) for x in cache.storage()]
    first = [0, 0, 0]
    for i, (t, lens, keep) in enumerate([(4, [4, 0, 2], True), (3, [1, 3, 2], False), (2, [2, 1, 2], True),
                                         (1, [1, 1, 1], True), (1, [1, 1, 1], False)]):  # fmt: skip
        x, pos, valid = call(i, 3, t, lens, first)
        h, _ = trunk.extend(x, pos, valid, cache.rows(chosen), causal=causal, keep=torch.full((3,), keep))
        expected, growing = trunk.extend(x, pos, valid, growing, causal=causal, keep=keep)
        torch.testing.assert_close(h[valid], expected[valid], atol=1e-5, rtol=1e-5)
        first = [f + n * keep for f, n in zip(first, lens, strict=True)]
    assert [(x.data_ptr(), x.shape) for x in cache.storage()] == storage


@torch.inference_mode()
def test_documents_keep_or_drop_new_positions_each_by_itself(trunk: Any) -> None:
    cache, one = slots_of(trunk), torch.ones(2, 1, dtype=torch.bool)
    x, pos, _ = call(0, 2, 1, [1, 1], [0, 0])
    trunk.extend(x, pos, one, cache.rows(torch.tensor([0, 1])), causal=True, keep=torch.tensor([True, False]))
    other = slots_of(trunk)
    trunk.extend(x[:1], pos[:1], one[:1], other.rows(torch.tensor([0])), causal=True, keep=True)
    y, pos, _ = call(1, 2, 1, [1, 1], [1, 1])
    result, _ = trunk.extend(y, pos, one, cache.rows(torch.tensor([0, 1])), causal=True, keep=False)
    expected, _ = trunk.extend(y, pos, one, other.rows(torch.tensor([0, 4])), causal=True, keep=False)
    torch.testing.assert_close(result, expected)


@torch.inference_mode()
def test_a_cleared_slot_has_seen_nothing_and_a_copied_one_what_the_other_saw(trunk: Any) -> None:
    cache = slots_of(trunk)
    x, pos, valid = call(0, 3, 4, [4, 2, 3], [0, 0, 0])
    trunk.extend(x, pos, valid, cache.rows(torch.tensor([0, 1, 2])), causal=True, keep=True)
    y, after, one = call(1, 1, 1, [1], [4])

    def peek(slot: int) -> Tensor:
        return trunk.extend(y, after, one, cache.rows(torch.tensor([slot])), causal=True, keep=False)[0]

    before = [peek(slot) for slot in range(4)]
    cache.copy(torch.tensor([1, 0, 2]), torch.tensor([0, 1, 5]))  # two of them change places
    for slot, was in ((0, 1), (1, 0), (5, 2), (2, 2)):
        torch.testing.assert_close(peek(slot), before[was])
    assert not torch.allclose(before[0], before[1]), "or this test says little"
    cache.clear(torch.tensor([0, 5]))
    for slot in (0, 5):
        torch.testing.assert_close(peek(slot), before[3])
    torch.testing.assert_close(peek(1), before[0])


@torch.inference_mode()
def test_a_full_slot_is_never_written_past_its_end() -> None:
    trunk = build_trunk(TRUNKS["attention"]).eval()
    cache = slots_of(trunk)
    x, pos, valid = call(0, 2, POSITIONS, [POSITIONS, 3], [0, 0])
    rows = torch.tensor([1, 2])
    trunk.extend(x, pos, valid, cache.rows(rows), causal=True, keep=True)
    x, pos, valid = call(1, 2, 1, [1, 1], [POSITIONS, 3])
    with pytest.raises(ValueError, match=f"a slot holds {POSITIONS} positions; a document would take {POSITIONS + 1}"):
        trunk.extend(x, pos, valid, cache.rows(rows), causal=True, keep=True)
    assert not cache.keys[0][3].any() and not cache.keys[0][0].any()
