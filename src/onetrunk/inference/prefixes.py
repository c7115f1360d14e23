"""Prompts that begin alike are read once: what blocks of them left in the cache is kept, within a bound of memory.

A block's keys and values depend on the tokens up to its end alone (`core.module.Blockwise`), and are copied bit by bit.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from onetrunk.core.decoding import State
from onetrunk.core.module import Blockwise, ColumnModule
from onetrunk.inference.sampler import Rows
from onetrunk.nn.kv_cache import SlotCache

_Name = tuple[str, bytes]  # the asked column, and the block's name


class PrefixStore:
    """Blocks that were read, the latest used ones. May be shared by sessions of one model, in one thread."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self.read, self.reused = 0, 0  # positions of prompts, in whole blocks
        self._blocks: OrderedDict[_Name, list[Tensor]] = OrderedDict()

    def longest(self, ask: str, names: list[bytes]) -> list[list[Tensor]]:
        """What the first blocks left, as many of them as are kept without a gap."""
        found = []
        for name in names:
            if (block := self._blocks.get((ask, name))) is None:
                break
            found.append(block)
        for name in reversed(names[: len(found)]):  # the first last: without it the others are of no use
            self._blocks.move_to_end((ask, name))
        return found

    def has(self, ask: str, name: bytes) -> bool:
        return (ask, name) in self._blocks

    def put(self, ask: str, name: bytes, block: list[Tensor]) -> None:
        size = sum(tensor.nbytes for tensor in block)
        if size > self.most_bytes:
            return
        self._blocks[ask, name] = block
        self.bytes += size
        while self.bytes > self.most_bytes:
            _, gone = self._blocks.popitem(last=False)
            self.bytes -= sum(tensor.nbytes for tensor in gone)


class Prefixes:
    """What one session takes from a store, and puts there. Only rows in which nothing is given: what is given stands
    before the prompt, and is seen by it."""

    def __init__(self, store: PrefixStore | None, cache: Any) -> None:
        self._store = store
        self._cache: SlotCache | None = cache if isinstance(cache, SlotCache) else None
        self._names: dict[int, list[bytes]] = {}  # of the blocks of a slot's prompt

    def begin(self, module: ColumnModule[Any], rows: Rows) -> State:
        """The rows' state, after what need not be read."""
        store, cache, slots = self._store, self._cache, rows.own["slot"]
        if store is None or cache is None or not isinstance(module, Blockwise) or rows.kind.guided:
            return rows.state
        skipped = torch.zeros_like(slots)
        empty = (cache.lengths[slots] == 0).tolist()
        for i, (slot, names) in enumerate(zip(slots.tolist(), module.prompt_blocks(rows.state), strict=True)):
            if not names or not empty[i]:
                continue
            blocks = store.longest(rows.kind.ask, names)
            for block in blocks:
                cache.append_to(slot, block)
            skipped[i] = len(blocks)
            store.reused += len(blocks) * module.block
            if len(blocks) < len(names):
                self._names[slot] = names
        return module.skip_blocks(rows.state, skipped) if bool(skipped.any()) else rows.state

    def advance(self, module: ColumnModule[Any], rows: Rows) -> None:
        """After a step of rows: keeps blocks that were read by it."""
        store, cache = self._store, self._cache
        if not self._names or store is None or cache is None or not isinstance(module, Blockwise):
            return
        for slot, read in zip(rows.own["slot"].tolist(), module.blocks_read(rows.state).tolist(), strict=True):
            names = self._names.get(slot)
            if not names or not read:
                continue
            store.read += module.block
            if not store.has(rows.kind.ask, names[read - 1]):
                first = (read - 1) * module.block
                store.put(rows.kind.ask, names[read - 1], cache.copied(slot, first, module.block))
            if read == len(names):
                del self._names[slot]

    def leave(self, slots: list[int]) -> None:
        for slot in slots:
            self._names.pop(slot, None)

    def clear(self) -> None:
        self._names.clear()
