"""What a written graph takes (`interop.onnx`), made of rows: by a model's encoders, or by the files beside the graph.

That is what `data.pack` lays out of each given column and, for a wide read-out, the features of its values
(`core.wide.WideFeatures.arrays`), with which rows have one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onetrunk.core.content import Content, Role
from onetrunk.core.encoder import Column, Encoder, SegmentContext
from onetrunk.core.errors import UsageError
from onetrunk.core.objective import RoleAssignment
from onetrunk.core.registry import column_types
from onetrunk.data.ledger import Ledger
from onetrunk.data.pack import assemble
from onetrunk.data.prepare import as_learnt, encode
from onetrunk.data.store import Store
from onetrunk.data.table import read
from onetrunk.inference.wide_outputs import features_of
from onetrunk.model import FoundationModel
from onetrunk.model.wide import PRESENT
from onetrunk.storage.names import file_name
from onetrunk.storage.strict_json import read_json

COLUMNS, MEASURED = "columns.json", "export.json"
WIDE = "wide"  # in columns.json, the arrays of a given column that a wide read-out looks at
IN_A_FILE = "tokenizer"  # what an encoder knows that stands in a file of its own, NAME.tokenizer.json
_ROWS_AT_ONCE = 16

Feed = dict[str, np.ndarray]
WideArrays = Mapping[str, Sequence[str]]  # given column -> the arrays of it that a wide read-out looks at


def inputs_of(folder: str | Path, rows: Any) -> Feed:
    """What the graph in an exported folder takes for rows, by the files in the folder alone: one batch of all of them,
    in their order, for `InferenceSession.run`. `rows` are anything that `onetrunk.read` takes, with the columns' names;
    of what is not there nothing is given.

    Raises UsageError for a graph that goes on with tokens: it takes `ids` [rows, T], the start token first.
    """
    folder = Path(folder)
    given, described, encoders = (
        read_json(folder / MEASURED)["given"],
        read_json(folder / COLUMNS),
        read_encoders(folder),
    )
    if not given:
        raise UsageError(f"The graph in {folder} takes tokens, not rows: 'ids' [rows, T], the start token first.")
    columns = [Column(name, described[name]["type"], name) for name in given]
    store = encode(as_learnt(read(rows), columns, encoders), columns, encoders, Ledger())
    wide = {name: described[name][WIDE] for name in given if WIDE in described[name]}
    return _feed(store, given, wide, np.arange(len(store.index)))


def read_encoders(folder: Path) -> dict[str, Encoder]:
    """Encoders by column, of the files beside a graph alone."""
    encoders = {}
    for name, described in read_json(folder / COLUMNS).items():
        encoder = column_types.get(described["type"]).encoder(described["options"])
        knowledge, own = dict(described["knowledge"]), folder / f"{file_name(name)}.{IN_A_FILE}.json"
        if own.exists():
            knowledge[IN_A_FILE] = own.read_text(encoding="utf-8")
        encoder.set_knowledge(knowledge)
        encoders[name] = encoder
    return encoders


def wide_arrays(network: FoundationModel, given: Sequence[str], ask: str | None) -> dict[str, list[str]]:
    """What the wide read-out of an asked column looks at, of the given columns; nothing where it has none."""
    readout = None if ask is None else network.wide_of(ask)
    if readout is None:
        return {}
    return {name: [PRESENT, *readout.column(name).takes] for name in given if name in readout.shape.given}


def wide_inputs(wide: WideArrays) -> dict[str, tuple[str, str]]:
    """By the name of an input, its column and array."""
    return {f"{column}.{WIDE}.{array}": (column, array) for column, arrays in wide.items() for array in arrays}


def feeds(store: Store, given: Sequence[str], wide: WideArrays) -> list[Feed]:
    """Batches of the rows of a store that have anything given."""
    chosen = [store.names.index(name) for name in given]
    kept = np.flatnonzero(store.present[:, chosen].any(1))
    return [_feed(store, given, wide, kept[i : i + _ROWS_AT_ONCE]) for i in range(0, len(kept), _ROWS_AT_ONCE)]


def example(store: Store, given: Sequence[str], wide: WideArrays) -> Feed:
    """A batch to trace. Every column stands in it at least twice, and every array of a wide read-out has two rows: a
    length of 0 or 1 would be taken for a rule."""
    chosen = [store.names.index(name) for name in given]
    feed = _feed(store, given, wide, np.repeat(store.present[:, chosen].argmax(0), 2))
    features = wide_inputs(wide)
    return {name: np.ones((2, *a.shape[1:]), a.dtype) if name in features else a for name, a in feed.items()}


def _feed(store: Store, given: Sequence[str], wide: WideArrays, rows: np.ndarray) -> Feed:
    """Of these rows of a store. A column that none of them has holds a blank value which stands in no row: not every
    operator of ONNX Runtime takes nothing."""
    chosen = [store.names.index(name) for name in given]
    roles = np.full((len(rows), len(store.names)), int(Role.ABSENT))
    roles[:, chosen] = np.where(store.present[rows][:, chosen], Role.GIVEN, Role.ABSENT)
    group = RoleAssignment(rows, roles, rows.astype(np.uint64))
    batch = assemble({"given": group}, store, augment=False, apart=True)
    shape = batch.layout.doc_BT.shape
    gather = (torch.arange(shape.numel()) if batch.gather_N is None else batch.gather_N).view(shape).numpy()
    content: Feed = {}
    before = 0  # positions of the columns so far
    for c in chosen:
        name = store.names[c]
        if name in batch.embeds:
            embed = batch.embeds[name]
            arrays = {array: tensor.numpy() for array, tensor in {**embed.content, **embed.facts}.items()}
            before += len(embed.flat_n)
        else:
            blank = Content.stack([store.encoders[c].blank()], store.encoders[c].ragged)
            segment = store.encoders[c].segment(blank, SegmentContext(Role.GIVEN, np.zeros(1, dtype=np.uint64)))
            arrays, more = {**segment.content, **segment.facts}, int(segment.lens.sum())
            gather = np.where(gather >= before, gather + more, gather)
            before += more
        content |= {f"{name}.{array}": numbers for array, numbers in arrays.items()}
    features, present = features_of(store, list(wide), rows)
    for name, (column, array) in wide_inputs(wide).items():
        content[name] = present[column] if array == PRESENT else features[column].arrays()[array]
    return {"gather": gather, "pos": batch.layout.pos_BT.numpy(), **content}
