"""The way from a row that says nothing to the row, along which gradients are taken: what of each column moves.

Where hiding a part changes numbers alone (pixels, loudness, points, a value on a line), those move: in what a stem
makes of them each part knows of all others, through its norms and convolutions. Else embeddings move (tokens, classes,
steps).

k documents; B rows that say nothing; m positions of a column in one document; p parts of the column. `...` is what the
column's content, or its embeddings, hold of one document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.batch import Batch, tensors_of
from onetrunk.core.encoder import Encoder
from onetrunk.core.parts import Arrays, Divided
from onetrunk.explanation.question import ColumnParts
from onetrunk.model import FoundationModel

EMBEDDING = "embedding"  # what moves where it is no array of the content


@dataclass(frozen=True)
class Moving:
    """From `nothing` [B, ...] to `whole` [...]. `owner` int64 [...] is the part that each number is of, or p."""

    nothing: Tensor
    whole: Tensor
    owner: Tensor

    def way(self, start: np.ndarray) -> Tensor:
        """Of documents that begin at these rows [k]: [k, ...]."""
        return self.whole - self.nothing[torch.from_numpy(start).to(self.nothing.device)]


@dataclass(frozen=True)
class Way:
    """Of one column, by the names of what moves."""

    parts: ColumnParts
    moving: dict[str, Moving]

    def leaves(self, start: np.ndarray, share: np.ndarray) -> dict[str, Tensor]:
        """What moves, in documents that have gone a share [k] of the way: [k, ...] each."""
        out = {}
        for name, each in self.moving.items():
            way = each.way(start)
            left = torch.as_tensor(1 - share, dtype=way.dtype, device=way.device).view(-1, *[1] * (way.dim() - 1))
            out[name] = (each.whole - left * way).requires_grad_(torch.is_grad_enabled())
        return out

    def by_part(self, name: str, weighed: Tensor) -> np.ndarray:
        """Gradients times what they are of, [k, ...], summed over each part: float64 [k, p]."""
        p = len(self.parts.parts)
        sums = weighed.new_zeros(len(weighed), p + 1, dtype=torch.float64)
        return sums.index_add_(1, self.moving[name].owner.flatten(), weighed.flatten(1).double())[:, :p].cpu().numpy()


def way_of(network: FoundationModel, encoder: Encoder, batch: Batch, each: ColumnParts, of_values: bool) -> Way:
    """Of one column. `batch` holds the row B times. Without `of_values` embeddings move, whatever hiding changes."""
    embed, B, device = batch.embeds[each.column], len(batch.row), batch.layout.doc_BT.device
    m, p = len(embed.flat_n) // B, len(each.parts)
    whole = {name: tensor.cpu().numpy() for name, tensor in embed.content.items()}
    owner = np.full(m, p)
    owner[each.parts.position] = np.arange(p)
    nothing = encoder.hide(whole, np.tile(owner < p, B)) if isinstance(encoder, Divided) else whole
    changed = [name for name, array in whole.items() if not np.array_equal(array, nothing[name])]
    if isinstance(encoder, Divided) and of_values and changed and all(whole[n].dtype == np.float32 for n in changed):
        owners = _owners(encoder, whole, each, changed, B, m)
        begins, ends = (tensors_of({name: arrays[name] for name in changed}, device) for arrays in (nothing, whole))
    else:
        with torch.no_grad():
            end = network.embed(each.column, embed.content, embed.role_n)
            begin = network.marker(each.column)[embed.role_n].expand_as(end)
            if isinstance(encoder, Divided):
                begin = network.embed(each.column, tensors_of(nothing, device), embed.role_n)
        owners, begins, ends = {EMBEDDING: owner[:, None].repeat(end.shape[1], 1)}, {EMBEDDING: begin}, {EMBEDDING: end}
    moving = {}
    for name, of in owners.items():
        begin, end = (side[name].view(B, -1, *side[name].shape[1:]) for side in (begins, ends))
        moving[name] = Moving(begin, end[0], torch.from_numpy(of).to(device))
    return Way(each, moving)


def rows_of_nothing(ways: Sequence[Way]) -> int:
    """B"""
    return max((len(each.nothing) for way in ways for each in way.moving.values()), default=1)


def both_ends(ways: Sequence[Way]) -> np.ndarray:
    """Shares [B, 2]: nothing, and the row."""
    return np.tile([0.0, 1.0], (rows_of_nothing(ways), 1))


def distinct(ways: Sequence[Way]) -> list[Way]:
    """With one row that says nothing, where all are equal."""
    every = [each for way in ways for each in way.moving.values()]
    if any(bool((each.nothing != each.nothing[:1]).any()) for each in every):
        return list(ways)
    return [
        replace(way, moving={name: replace(m, nothing=m.nothing[:1]) for name, m in way.moving.items()}) for way in ways
    ]


def _owners(
    encoder: Divided, whole: Arrays, each: ColumnParts, names: Sequence[str], B: int, m: int
) -> dict[str, np.ndarray]:
    """Of every number in these arrays of one document the part that hides it, p where none does. `whole` holds the
    document B times, m positions each. Parts are told apart by the binary digits of their numbers, so that hiding some
    of them a few times says it of all."""
    p, found = len(each.parts), dict.fromkeys(names, np.zeros((), dtype=np.int64))
    number = np.zeros(m, dtype=np.int64)
    number[each.parts.position] = np.arange(1, p + 1)
    for digit in range(p.bit_length()):
        without = encoder.hide(whole, np.tile((number >> digit & 1).astype(bool), B))
        for name in names:
            changed = (without[name] != whole[name]).reshape(B, -1, *whole[name].shape[1:]).any(0)
            found[name] = found[name] | changed.astype(np.int64) << digit
    return {name: np.where(owner > 0, owner - 1, p) for name, owner in found.items()}
