"""How likely the true values are: the loss of one asked column, every token of it once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.batch import Read
from onetrunk.core.content import Role
from onetrunk.core.objective import RoleAssignment
from onetrunk.data.pack import assemble
from onetrunk.data.store import RowOutputs, Store
from onetrunk.inference.answer_rows import batches
from onetrunk.model import FoundationModel


def mean_loss(model: FoundationModel, store: Store, given: list[str], ask: str) -> float:
    """Mean loss of an element (for text: nats a token), over the rows where `ask` is present."""
    sums, counts = row_losses(model, store, given, ask)
    return float(sums.sum() / max(counts.sum(), 1e-12))


@torch.inference_mode()
def row_losses(model: FoundationModel, store: Store, given: list[str], ask: str) -> tuple[np.ndarray, np.ndarray]:
    """Each row's loss and how many elements (tokens) it is the sum of, float64 [rows] each; 0 and 0 where `ask` is
    missing. Long values are read in successive windows, so that every token counts once."""
    sums, counts = np.zeros(len(store.index)), np.zeros(len(store.index))
    for h, read, row in _reads(model, store, given, ask):
        loss = model.module(ask).loss(h, read.targets)
        w = read.targets["w"].cpu().double()
        assert loss.each is not None, f"the loss of {ask} does not tell each read's own"
        np.add.at(sums, row, (loss.each.cpu().double() * w).numpy())
        np.add.at(counts, row, w.numpy())
    return sums, counts


@torch.inference_mode()
def reads_of(model: FoundationModel, store: Store, given: list[str], ask: str) -> tuple[Tensor, dict[str, Tensor]]:
    """What the read-out of `ask` is given at every read position of these rows, [r, read width], and the targets
    [r, ...] there."""
    pieces = [(h, read.targets) for h, read, _ in _reads(model, store, given, ask)]
    if not pieces:
        return torch.zeros(0, model.module(ask).read_width), {}
    targets = {name: torch.cat([own[name] for _, own in pieces]) for name in pieces[0][1]}
    return torch.cat([h for h, _ in pieces]), targets


def _reads(
    model: FoundationModel, store: Store, given: list[str], ask: str
) -> Iterator[tuple[Tensor, Read, np.ndarray]]:
    """Of one batch after the other: states, reads, and the row of each read."""
    c = store.names.index(ask)
    encoder = store.encoders[c]
    content, whose = encoder.successive_windows(store.contents[c])
    row_of = np.full(len(store.contents[c]), -1, dtype=np.int64)
    there = np.flatnonzero(store.index[:, c] >= 0)
    row_of[store.index[there, c]] = there
    kept = np.flatnonzero(row_of[whose] >= 0)
    index = store.index[row_of[whose[kept]]].copy()
    index[:, c] = kept
    contents = [content if i == c else other for i, other in enumerate(store.contents)]
    wide: dict[str, RowOutputs] = {name: each[row_of[whose[kept]]] for name, each in store.wide.items()}
    windows = Store(store.names, store.encoders, contents, index, wide=wide)
    roles = np.full(index.shape, int(Role.ABSENT))
    for i, name in enumerate(store.names):
        if name in given and name != ask:
            roles[:, i] = np.where(index[:, i] >= 0, Role.GIVEN, Role.ABSENT)
    roles[:, c] = Role.ASKED
    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        for rows in batches(_positions(windows, roles)):
            group = RoleAssignment(rows, roles[rows], rows.astype(np.uint64))
            batch = assemble({"predict": group}, windows, given_causal=model.given_causal, augment=False).to(device)
            read = batch.reads["predict"][ask]
            row = row_of[whose[kept]][batch.row[read.doc_r.cpu().numpy()]]
            yield model.read(model.encode(batch), ask), read, row
    finally:
        model.train(training)


def _positions(store: Store, roles: np.ndarray) -> np.ndarray:
    """How many positions each row takes at most, int64 [rows], where its columns have these roles [rows, columns]."""
    out = np.zeros(len(store.index), dtype=np.int64)
    for c, (encoder, content) in enumerate(zip(store.encoders, store.contents, strict=True)):
        there = roles[:, c] != Role.ABSENT
        out[there] += encoder.max_positions(content)[store.index[there, c]]
    return out
