"""What the verb embed does: rows to vectors, and vectors to a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core.events import AnsweringEnded, LedgerLine, Listener, Note, RowsAnswered, Saved, ignore
from onetrunk.data.ledger import Ledger
from onetrunk.data.table import Table
from onetrunk.engine.runtime import Runtime, find_device
from onetrunk.inference.answer_file import AnswerFile
from onetrunk.inference.embeddings import check_pool, embed_rows, embedded_in_blocks
from onetrunk.inference.given import nothing_given
from onetrunk.inference.model_folder import Model, load
from onetrunk.inference.tables import ANSWERED_AT_ONCE, check_out, command_of, read_rows
from onetrunk.inference.vector_file import VectorFile
from onetrunk.training.open_data import check_map, renamed
from onetrunk.training.options import AnswerOptions

SUFFIXES = (".npy", ".parquet")
VECTOR = "embedding"  # the column of a written table


@dataclass(frozen=True)
class Embeddings:
    """`vectors` float32 [rows, width]; not numbers where a row had nothing to embed."""

    vectors: np.ndarray
    columns: list[str]
    pool: str

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.vectors, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.vectors)

    def as_json(self) -> dict[str, Any]:
        vectors = [None if np.isnan(row).any() else row.tolist() for row in self.vectors]
        return {"columns": self.columns, "pool": self.pool, "vectors": vectors}


def run_embedding(
    model: Model | str,
    data: Any,
    options: AnswerOptions,
    on_event: Listener = ignore,
    *,
    column: str | None = None,
    pool: str = "mean",
) -> Embeddings:
    """A vector of every row. With `options.out` they are written, too; the same command, given again after it was
    killed, goes on after the last block of rows that it embedded."""
    out = None if options.out is None else Path(options.out)
    if out is not None:
        check_out(out, SUFFIXES)
    pooling = check_pool(pool)
    device = options.device or "auto"
    find_device(device)
    opened = model if isinstance(model, Model) else load(model, device="cpu", allow_network=options.allow_network)
    Runtime.open(device).place(opened.network)
    check_map(opened, options.map)
    rows, ledger = read_rows(data, options.allow_network, opened.missing), Ledger()
    if column is not None:
        opened.encoder(column)
    known = [column] if column is not None else (opened.tasks[0].given if opened.tasks else []) or list(opened.columns)
    table = opened.to_answer(renamed(rows, options.map), known, ledger, options.max_bad)
    columns = [name for name in known if name in table.columns]
    if not columns:
        raise nothing_given(known, table)
    if out is None:
        vectors = embed_rows(opened, table, columns, pooling, ledger)
        ledger.check(len(table), options.max_bad)
    else:
        told = {**vars(options), "column": column, "pool": pool}
        command = None if isinstance(model, Model) else command_of(opened, rows, data, told)
        with VectorFile(out, (len(table), opened.network.width), command) as file:
            if file.first:
                on_event(
                    Note(f"Going on with {out}, where an earlier run embedded {file.first:,} of {len(table):,} rows.")
                )
                ledger = Ledger.parse(file.beside)
            try:
                for some in embedded_in_blocks(opened, table, columns, pooling, ledger, file.first):
                    file.append(some, ledger.as_json())
                    if len(some) < len(table):
                        on_event(RowsAnswered(file.first, len(table)))
            finally:
                on_event(AnsweringEnded())
            ledger.check(len(table), options.max_bad)
            vectors = file.read()
            if out.suffix.lower() != ".npy":
                _write(vectors, table, out)
    for line in ledger.lines():
        on_event(LedgerLine(line))
    if out is not None:
        on_event(Saved(f"file of {len(vectors):,} vectors of {vectors.shape[1]:,} numbers", str(out)))
    else:
        on_event(Note(f"{len(vectors):,} vectors of {vectors.shape[1]:,} numbers; --out FILE keeps them."))
    return Embeddings(vectors, columns, pool)


def _write(vectors: np.ndarray, table: Table, out: Path) -> None:
    """The rows, with a column of vectors."""
    with AnswerFile(out, table) as file:
        for first in range(0, len(table), ANSWERED_AT_ONCE):
            some = vectors[first : first + ANSWERED_AT_ONCE]
            file.append({VECTOR: [None if np.isnan(row).any() else row for row in some]})
