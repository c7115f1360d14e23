"""What a model makes of values, as vectors: of one column's own states, or of all that is given of a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, cast, get_args

import numpy as np
import torch

from onetrunk.core.content import Role
from onetrunk.core.errors import UsageError, unknown
from onetrunk.core.objective import RoleAssignment
from onetrunk.data import spool
from onetrunk.data.ledger import Ledger
from onetrunk.data.pack import assemble
from onetrunk.data.prepare import encode
from onetrunk.data.store import Store
from onetrunk.data.table import Table
from onetrunk.inference.answer_rows import batches
from onetrunk.inference.given import GivenRows
from onetrunk.inference.model_folder import Model
from onetrunk.inference.tables import ANSWERED_AT_ONCE
from onetrunk.model import FoundationModel

Pool = Literal["mean", "cls", "last"]


def check_pool(pool: str) -> Pool:
    """Raises UsageError for a way to pool that there is not."""
    if pool not in get_args(Pool):
        raise unknown("way to pool", pool, get_args(Pool))
    return cast(Pool, pool)


def embed_rows(
    model: Model, table: Table, columns: Sequence[str], pool: Pool = "mean", ledger: Ledger | None = None
) -> np.ndarray:
    """float32 [rows, D], of the trunk's last states at the positions of these columns: their mean, the first ("cls"),
    or the last; where they are many, in a file without a name that is mapped. Other columns are not given. A row that
    has none of them is not a number.

    Raises UsageError for a column that there is not.
    """
    out, first = spool.zeros((len(table), model.network.width), np.float32), 0
    for vectors in embedded_in_blocks(model, table, columns, pool, ledger):
        out[first : first + len(vectors)] = vectors
        first += len(vectors)
    return out


def embedded_in_blocks(
    model: Model,
    table: Table,
    columns: Sequence[str],
    pool: Pool = "mean",
    ledger: Ledger | None = None,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """The vectors of `embed_rows` from row `first` on, of `ANSWERED_AT_ONCE` rows after the other."""
    for name in columns:
        model.encoder(name)
    if not columns:
        raise UsageError("There is no column to embed: name one with --column.")
    wanted = [column for name, column in model.columns.items() if name in columns]
    ledger = ledger if ledger is not None else Ledger()
    network = model.network
    training = network.training
    network.eval()
    try:
        for start in range(first, len(table), ANSWERED_AT_ONCE):
            some = table.take(np.arange(start, min(start + ANSWERED_AT_ONCE, len(table))))
            yield _embedded(network, encode(some, wanted, network.encoders, ledger), pool)
    finally:
        network.train(training)


@torch.inference_mode()
def _embedded(network: FoundationModel, store: Store, pool: Pool) -> np.ndarray:
    """Of all rows of a store, float32 [rows, D]."""
    out = np.full((len(store.index), network.width), np.nan, dtype=np.float32)
    roles = GivenRows(store, np.arange(len(out)), store.names).roles()
    there = np.flatnonzero((roles == Role.GIVEN).any(1))
    lengths = GivenRows(store, there, store.names).lengths()
    device = next(network.parameters()).device
    for part in batches(lengths):
        rows = there[part]
        group = RoleAssignment(rows, roles[rows], rows.astype(np.uint64))
        batch = assemble({"given": group}, store, given_causal=network.given_causal, augment=False).to(device)
        h, doc = network.encode(batch).h_ND.float(), batch.layout.doc_BT.flatten()
        out[batch.row] = _pooled(h[doc >= 0], doc[doc >= 0], len(batch.row), pool).cpu().numpy()
    return out


def _pooled(h_nD: torch.Tensor, doc_n: torch.Tensor, m: int, pool: Pool) -> torch.Tensor:
    """States of m documents, each in its order, to one a document [m, D]."""
    order = torch.argsort(doc_n, stable=True)
    h, counts = h_nD[order], torch.bincount(doc_n, minlength=m)
    ends = counts.cumsum(0)
    if pool == "cls":
        return h[ends - counts]
    if pool == "last":
        return h[ends - 1]
    total = torch.zeros(m, h.shape[1], device=h.device).index_add_(0, doc_n[order], h)
    return total / counts[:, None]
