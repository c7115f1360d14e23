"""Keys and values of positions that later ones may see: in storage that never grows (`SlotCache`), for sessions; or in
tensors that do (`Cache`), for what is exported and for short work.

N documents of one call, t new positions of each, T positions that they see, K key-value heads, h head width. Order
within a cache needs no mask: whoever comes later sees all that is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor


class KeyValues(Protocol):
    """What a transformer's `extend` needs of the cache of N documents."""

    def mask(self, valid_NT: Tensor, causal: bool) -> Tensor | None:
        """bool [N, 1, t, T] of new positions: who sees what. None: everyone sees everything."""

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [N, K, T, h] of a layer: those that are there, then the new ones [N, K, t, h]."""

    def after(self, keys: list[Tensor], values: list[Tensor], valid_NT: Tensor, keep: bool | Tensor) -> Self:
        """The cache after a call in which every layer's `append` gave these: with the new positions if `keep`, which
        may differ between documents (bool [N])."""


@dataclass
class Cache:
    """Tensors of n documents; every call makes new ones."""

    keys: list[Tensor]  # a layer: [n, K, t, h]
    values: list[Tensor]
    valid: Tensor  # bool [n, t]

    def mask(self, valid_NT: Tensor, causal: bool) -> Tensor | None:
        n, t = valid_NT.shape
        own = valid_NT[:, None, :].expand(n, t, t)
        if causal:
            own = own & torch.ones(t, t, dtype=torch.bool, device=own.device).tril()
        return torch.cat([self.valid[:, None, :].expand(n, t, self.valid.shape[1]), own], dim=2)[:, None]

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        # An empty cache is of float32, under autocast too: it takes the type of what it is given.
        keys, values = self.keys[layer].to(k.dtype), self.values[layer].to(v.dtype)
        return torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)

    def after(self, keys: list[Tensor], values: list[Tensor], valid_NT: Tensor, keep: bool | Tensor) -> Cache:
        if isinstance(keep, Tensor):
            raise TypeError("a growing cache keeps new positions of all documents or of none; SlotCache can do more")
        return Cache(keys, values, torch.cat([self.valid, valid_NT], dim=1)) if keep else self

    def select(self, index: Tensor) -> Cache:
        """The documents of `index` [k], repeats allowed."""
        return Cache([k[index] for k in self.keys], [v[index] for v in self.values], self.valid[index])


class SlotCache:
    """Storage for a number of documents, each in a slot of `positions` positions. Nothing is allocated after the start:
    a document's positions are written in place, and a slot is taken again once it is cleared."""

    def __init__(
        self,
        layers: int,
        slots: int,
        positions: int,
        kv_heads: int,
        head_width: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.positions = positions
        # Zeros, not what the memory held: hidden positions weigh 0, and 0 times an infinity would be no number.
        shape = (slots, positions, kv_heads, head_width)
        self.keys = [_zeros(shape, dtype, device) for _ in range(layers)]
        self.values = [_zeros(shape, dtype, device) for _ in range(layers)]
        self.lengths = torch.zeros(slots, dtype=torch.int64, device=device)

    def rows(self, slots: Tensor) -> SlotRows:
        """The documents in these slots [N], all different, for one call of `extend`."""
        return SlotRows(self, slots)

    def clear(self, slots: Tensor) -> None:
        """Nothing was seen there."""
        self.lengths[slots] = 0

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Slots `target` [k] become what slots `source` [k] were."""
        self.lengths[target] = self.lengths[source]
        used = int(self.lengths[target].max()) if len(target) else 0
        for storage in self.storage():
            there = storage[:, :used]
            there.index_copy_(0, target, there.index_select(0, source))

    def copied(self, slot: int, first: int, count: int) -> list[Tensor]:
        """What a slot holds of so many positions, a tensor [count, K, h] for each of `storage`."""
        return [tensor[slot, first : first + count].clone() for tensor in self.storage()]

    def append_to(self, slot: int, positions: list[Tensor]) -> None:
        """Positions as `copied` gave them, behind those that the slot holds."""
        first = int(self.lengths[slot])
        for tensor, new in zip(self.storage(), positions, strict=True):
            tensor[slot, first : first + len(new)] = new
        self.lengths[slot] += len(positions[0])

    def storage(self) -> list[Tensor]:
        """All tensors that hold what was seen."""
        return [*self.keys, *self.values]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """On a CPU the system's own, made when they are first touched: what no document reaches costs nothing."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    count = int(np.prod(shape)) * dtype.itemsize
    return torch.from_numpy(np.zeros(count, dtype=np.uint8)).view(dtype).view(shape)


@dataclass
class SlotRows:
    """Some slots of a `SlotCache`, in an order, for one call."""

    cache: SlotCache
    slots: Tensor  # int64 [N]
    _written: tuple[Tensor, Tensor] | None = None  # which of the N * t new positions go where in the storage
    _used: int = 0  # positions that are seen, T
    _empty: bool = False  # was nothing seen before?
    _first: int | None = None  # the first of the slots, where they are neighbours in order

    def mask(self, valid_NT: Tensor, causal: bool) -> Tensor | None:
        lengths, count = self.cache.lengths[self.slots], valid_NT.sum(1)
        self._used = int((lengths + count).max())
        if self._used > self.cache.positions:
            raise ValueError(f"a slot holds {self.cache.positions} positions; a document would take {self._used}")
        row, column = valid_NT.nonzero(as_tuple=True)
        self._written = (
            row * valid_NT.shape[1] + column,
            self.slots[row] * self.cache.positions + lengths[row] + column,
        )
        slots = self.slots.tolist()
        self._first = slots[0] if slots == list(range(slots[0], slots[0] + len(slots))) else None
        self._empty = not bool(lengths.any())
        if self._empty:
            self._used = valid_NT.shape[1]  # the new positions are read as they come
        own = count[:, None]
        if causal:
            own = torch.minimum(own, torch.arange(1, valid_NT.shape[1] + 1, device=own.device))
        seen = lengths[:, None] + own
        if bool((seen == self._used).all()):
            return None
        mask = torch.arange(self._used, device=seen.device) < seen[..., None]
        return mask[:, None].expand(-1, 1, valid_NT.shape[1], -1)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if self._written is None:
            raise RuntimeError("append follows mask, which says where the new positions go")
        chosen, target = self._written
        out = []
        for storage, new in ((self.cache.keys[layer], k), (self.cache.values[layer], v)):
            rows = new.transpose(1, 2).reshape(-1, *storage.shape[2:]).index_select(0, chosen)
            storage.flatten(0, 1).index_copy_(0, target, rows.to(storage.dtype))
            out.append(new if self._empty else self._read(storage).transpose(1, 2).to(new.dtype))
        return out[0], out[1]

    def _read(self, storage: Tensor) -> Tensor:
        """[N, T, K, h]; a view where the slots are neighbours."""
        if self._first is not None:
            return storage[self._first : self._first + len(self.slots), : self._used]
        return storage[:, : self._used].index_select(0, self.slots)

    def after(self, keys: list[Tensor], values: list[Tensor], valid_NT: Tensor, keep: bool | Tensor) -> SlotRows:
        self.cache.lengths[self.slots] += valid_NT.sum(1) * keep
        return self
