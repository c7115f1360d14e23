"""Packs documents into batches: decides which position stands where, for all documents at once.

A document is its row's segments in order: what is given or masked first, then each asked column in a branch of its own.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from onetrunk.core import rng
from onetrunk.core.batch import Batch, Embed, Layout, Read, tensors_of
from onetrunk.core.content import ReadPositions, Role, Segment, local_positions
from onetrunk.core.encoder import SegmentContext, reads_on
from onetrunk.core.objective import RoleAssignment
from onetrunk.data.store import Store

_WIDTH_STEP = 8  # sequence widths are multiples of this: fewer shapes, aligned memory
_WELL_FILLED = 0.85  # above this, one document a sequence beats packing
_SHORT = 128  # up to this width attention costs little beside the rest of the trunk
_PADDING = 0.02  # positions beside those of documents: where there are more, wider sequences are tried
_WIDER = 1.2  # up to so many times as wide

_UNPLACED = np.zeros(0, dtype=np.int64)


@dataclass
class _Piece:
    """One segment and where its documents are."""

    tag: str
    column: int
    role: Role
    docs: np.ndarray  # [k] indices among all documents
    segment: Segment
    starts: np.ndarray = field(default_factory=lambda: _UNPLACED)  # [k] position of the segment in its document
    branch: np.ndarray = field(default_factory=lambda: _UNPLACED)  # [k]
    order: np.ndarray = field(default_factory=lambda: _UNPLACED)  # [k] order of its first position


def _segments(groups: dict[str, RoleAssignment], store: Store, augment: bool) -> list[_Piece]:
    """Given and masked columns first, asked ones after: the order of a document."""
    pieces: list[_Piece] = []
    n_docs = sum(len(group.rows) for group in groups.values())
    for roles in ((Role.GIVEN, Role.MASKED), (Role.ASKED,)):
        first = 0
        for tag, group in groups.items():
            for c, encoder in enumerate(store.encoders):
                for role in roles:
                    local = np.flatnonzero(group.roles[:, c] == role)
                    if not len(local):
                        continue
                    content = store.contents[c].take(store.index[group.rows[local], c])
                    keys = rng.mix(group.keys[local], store.names[c])
                    read_positions = None
                    if role == Role.ASKED and (other := reads_on(encoder)) is not None:
                        column = store.column_index(other, store.names[c])
                        read_positions = _read_on(pieces, column, local + first, n_docs)
                    segment = encoder.segment(content, SegmentContext(role, keys, augment, read_positions))
                    pieces.append(_Piece(tag, c, role, local + first, segment))
            first += len(group.rows)
    return pieces


def _read_on(pieces: list[_Piece], column: int, docs: np.ndarray, n_docs: int) -> ReadPositions:
    """Where documents hold a column that another reads on: as far as it is given or masked there."""
    lens = np.zeros(n_docs, dtype=np.int64)
    facts: dict[str, np.ndarray] = {}
    for piece in pieces:
        if piece.column == column and piece.role != Role.ASKED:
            lens[piece.docs] = piece.segment.lens
            for name, array in piece.segment.facts.items():
                whole = facts.setdefault(name, np.zeros((n_docs, *array.shape[1:]), dtype=array.dtype))
                whole[piece.docs] = array
    return ReadPositions(lens, facts).take(docs)


def _lay_out(pieces: list[_Piece], n_docs: int, given_causal: bool) -> np.ndarray:
    """Fills in where each piece stands within its documents; returns document lengths [n_docs]."""
    length = np.zeros(n_docs, dtype=np.int64)
    branches = np.zeros(n_docs, dtype=np.int64)
    given = np.zeros(n_docs, dtype=np.int64)
    for piece in pieces:
        docs, lens = piece.docs, piece.segment.lens
        piece.starts = length[docs]
        if piece.role == Role.ASKED:
            branches[docs] += 1
            piece.branch = branches[docs]
            piece.order = given[docs] if given_causal else np.ones(len(docs), dtype=np.int64)
        else:
            piece.branch = np.zeros(len(docs), dtype=np.int64)
            piece.order = length[docs] if given_causal else np.zeros(len(docs), dtype=np.int64)
            given[docs] += lens
        length[docs] += lens
    return length


def best_fit(lengths: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Best-fit-decreasing bin packing: the bin and the offset of every document, int64 [m] each."""
    bins = np.zeros(len(lengths), dtype=np.int64)
    offsets = np.zeros(len(lengths), dtype=np.int64)
    rooms: list[tuple[int, int]] = []  # what bins have left, ascending, and which they are
    count = 0
    for i in np.argsort(-lengths, kind="stable"):
        need = int(lengths[i])
        if (at := bisect_left(rooms, (need, 0))) < len(rooms):
            room, chosen = rooms.pop(at)
        else:
            room, chosen = width, count
            count += 1
        bins[i], offsets[i] = chosen, width - room
        insort(rooms, (room - need, chosen))
    return bins, offsets


def pack(lengths: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, int]:
    """`best_fit`, and the width it is for: of a few sequences of `width` the last is often all but empty, where fewer
    that are a little wider hold the same documents with less padding."""
    tried = []
    for wider in range(width, int(_WIDER * width) + 1, _WIDTH_STEP):
        bins, offsets = best_fit(lengths, wider)
        tried.append(((int(bins.max(initial=-1)) + 1) * wider, bins, offsets, wider))
        if tried[-1][0] <= (1 + _PADDING) * lengths.sum():
            break
    return min(tried, key=lambda fit: fit[0])[1:]


def _even(width: int) -> int:
    return -(-width // _WIDTH_STEP) * _WIDTH_STEP


def assemble(
    groups: dict[str, RoleAssignment],
    store: Store,
    *,
    given_causal: bool = False,
    augment: bool = True,
    apart: bool = False,
    short: int = _SHORT,
) -> Batch:
    """One batch of all documents in `groups` (tag to group). With `apart` every document has its own sequence; else
    short ones share sequences of up to about `short` positions."""
    rows = np.concatenate([group.rows for group in groups.values()])
    pieces = _segments(groups, store, augment)
    lengths = _lay_out(pieces, len(rows), given_causal)
    width = int(lengths.max(initial=1))
    filled = lengths.sum() / max(1, len(lengths) * width)
    alone = apart or not len(lengths) or bool(filled > _WELL_FILLED)
    stream = alone and not apart and all(p.role == Role.ASKED and _counts_up(p.segment) for p in pieces)
    stream = stream and len({p.column for p in pieces}) == 1
    block = alone and not given_causal and all(p.role != Role.ASKED or not p.segment.lens.any() for p in pieces)
    block = block and bool((lengths == width).all())
    if not alone:  # short documents leave less room when several share a longer sequence
        width = max(width, min(4 * width, short))
    if not (stream or block):
        width = _even(width)
    if alone:
        bins, offsets = np.arange(len(rows)), np.zeros(len(rows), dtype=np.int64)
    else:
        bins, offsets, width = pack(lengths, width)
    total = (int(bins.max(initial=-1)) + 1) * width

    arrays = {name: np.zeros(total, dtype=np.int64) for name in ("branch", "order", "pos")}
    arrays["doc"] = np.full(total, -1, dtype=np.int64)
    flats: dict[int, list[np.ndarray]] = {}
    placed: dict[int, list[_Piece]] = {}
    reads: dict[str, dict[str, list]] = {tag: {} for tag in groups}
    base = bins * width + offsets
    for piece in pieces:
        lens, segment = piece.segment.lens, piece.segment
        local = local_positions(lens)
        doc = np.repeat(piece.docs, lens)
        flat = np.repeat(base[piece.docs] + piece.starts, lens) + local
        order = local if given_causal and piece.role != Role.ASKED else segment.order
        arrays["doc"][flat] = doc
        arrays["branch"][flat] = np.repeat(piece.branch, lens)
        arrays["order"][flat] = np.repeat(piece.order, lens) + (0 if order is None else order)
        arrays["pos"][flat] = local
        if len(flat):
            flats.setdefault(piece.column, []).append(flat)
            placed.setdefault(piece.column, []).append(piece)
        if segment.reads is not None:
            other = reads_on(store.encoders[piece.column]) if piece.role == Role.ASKED else None
            if other is not None:
                flat, doc = _positions_of(
                    pieces, store.column_index(other, store.names[piece.column]), piece.docs, base
                )
            where = reads[piece.tag].setdefault(store.names[piece.column], [])
            targets = segment.targets
            if store.row_weight is not None:
                targets = {**targets, "w": targets["w"] * store.row_weight[rows[doc[segment.reads]]]}
            where.append((targets, flat[segment.reads], doc[segment.reads]))

    # The fast paths rotate every row by the first row's positions.
    if stream:
        arrays["pos"] = np.tile(np.arange(width), len(rows))
    block = block and bool((arrays["pos"].reshape(-1, width) == arrays["pos"][:width]).all())

    tokens = int(lengths.sum())
    gather = np.full(total, tokens, dtype=np.int64)
    embeds, first = {}, 0
    for column, own in placed.items():
        flat = np.concatenate(flats[column])
        gather[flat] = np.arange(first, first + len(flat))
        first += len(flat)
        content = _joined([piece.segment.content for piece in own])
        role = np.concatenate([np.full(int(p.segment.lens.sum()), p.role, dtype=np.int64) for p in own])
        facts = tensors_of(_joined([piece.segment.facts for piece in own]))
        embeds[store.names[column]] = Embed(tensors_of(content), torch.from_numpy(role), torch.from_numpy(flat), facts)
    in_order = len(gather) == tokens and bool((gather == np.arange(tokens)).all())

    shaped = {name: torch.from_numpy(array.reshape(-1, width)) for name, array in arrays.items()}
    layout = Layout(shaped["doc"], shaped["branch"], shaped["order"], shaped["pos"], causal=stream, full=block)
    joined = {tag: {name: _read(pieces) for name, pieces in columns.items()} for tag, columns in reads.items()}
    counts = {f"{tag}/{name}": float(r.targets["w"].sum()) for tag, rs in joined.items() for name, r in rs.items()}
    ends = np.cumsum([len(group.rows) for group in groups.values()])
    docs = {
        tag: torch.arange(int(end) - len(group.rows), int(end))
        for (tag, group), end in zip(groups.items(), ends, strict=True)
    }
    wide = {name: torch.from_numpy(each[rows]) for name, each in store.wide.items()}
    gather_N = None if in_order else torch.from_numpy(gather)
    return Batch(layout, embeds, gather_N, joined, docs, rows, counts, tokens, wide)


def _counts_up(segment: Segment) -> bool:
    """Is every position of a document after the one before it?"""
    return segment.order is not None and bool((segment.order == local_positions(segment.lens)).all())


def _positions_of(
    pieces: list[_Piece], column: int, docs: np.ndarray, base: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Flat positions and documents of a given or masked column, document after document of `docs`."""
    starts, lens = np.zeros(len(base), dtype=np.int64), np.zeros(len(base), dtype=np.int64)
    for piece in pieces:
        if piece.column == column and piece.role != Role.ASKED:
            starts[piece.docs], lens[piece.docs] = base[piece.docs] + piece.starts, piece.segment.lens
    return np.repeat(starts[docs], lens[docs]) + local_positions(lens[docs]), np.repeat(docs, lens[docs])


def _joined(contents: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if len(contents) == 1:
        return contents[0]
    return {name: np.concatenate([content[name] for content in contents]) for name in contents[0]}


def _read(pieces: list[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]) -> Read:
    targets = tensors_of(_joined([targets for targets, _, _ in pieces]))
    flat, doc = (torch.from_numpy(np.concatenate([f[i] for f in pieces])) for i in (1, 2))
    return Read(targets, flat, doc)
