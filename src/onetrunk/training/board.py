"""Rows as a model sees them, for TensorBoard: their vectors (projector), how strong states are after each block
(histograms), and the graph of what runs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.core.content import Role
from onetrunk.core.hidden import Hidden
from onetrunk.core.objective import RoleAssignment
from onetrunk.data.ledger import Ledger
from onetrunk.data.pack import assemble
from onetrunk.data.prepare import encode
from onetrunk.data.table import Table
from onetrunk.explanation.attribution import plain
from onetrunk.inference.embeddings import embed_rows
from onetrunk.inference.given import GivenRows
from onetrunk.inference.model_folder import Model
from onetrunk.storage.disk import disk_errors

MAX_ROWS = 2_000  # points: more make a browser slow
_OF_ACTIVATIONS = 64  # rows
_CHARACTERS = 60  # of a value in the projector
_SIDE = 32  # pixels of a picture in the projector
_TAG = "given"


def write_board(folder: Path, model: Model, table: Table, ask: str, given: Sequence[str] | None = None) -> None:
    """Event files and vectors of up to 2,000 rows in `folder`, which `tensorboard --logdir` opens."""
    from torch.utils.tensorboard import SummaryWriter

    names = [name for name in model.task([ask], given).given if name in table.columns]
    some = table.take(np.arange(min(len(table), MAX_ROWS)))
    with disk_errors(folder):
        writer = SummaryWriter(str(folder))
        try:
            _projector(writer, model, some, ask, names)
            _activations(writer, model, some.take(np.arange(min(len(some), _OF_ACTIVATIONS))), names)
        finally:
            writer.close()


# -- projector ---------------------------------------------------------------------------------------------------------
def _projector(writer: Any, model: Model, table: Table, ask: str, given: Sequence[str]) -> None:
    """A point a row, with the answer, how sure it is, and what is given; pictures are shown."""
    vectors = embed_rows(model, table, given)
    there = np.flatnonzero(np.isfinite(vectors).all(1))
    columns = {name: [table.columns[name][int(i)] for i in there] for name in given}
    if not len(there):
        return
    answers = model.answer(columns, ask, given)
    rows = [
        [_cell(a.value), f"{a.certainty:.3f}" if isinstance(a.probability, dict) else "", *map(_cell, values)]
        for a, values in zip(answers, zip(*columns.values(), strict=True), strict=True)
    ]
    header = [f"answer: {ask}", "certainty", *given]
    shown = [[model.network.encoder(name).show(value) for value in values] for name, values in columns.items()]
    sprites = next((_sprites(own) for own in shown if all("png" in each for each in own)), None)
    writer.add_embedding(vectors[there], metadata=rows, metadata_header=header, label_img=sprites, tag="rows")


def _cell(value: Any) -> str:
    """One line without tabs, which the projector's table is made of."""
    text = " ".join(str(plain(value)).split())
    return f"{text[:_CHARACTERS]}…" if len(text) > _CHARACTERS else text or "(empty)"


def _sprites(shown: Sequence[Mapping[str, str]]) -> Tensor:
    """Pictures of a column as `Encoder.show` gives them: [rows, 3, 32, 32], 0 to 1."""
    from PIL import Image

    out = torch.zeros(len(shown), 3, _SIDE, _SIDE)
    for i, each in enumerate(shown):
        picture = Image.open(io.BytesIO(base64.b64decode(each["png"]))).convert("RGB").resize((_SIDE, _SIDE))
        out[i] = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    return out


# -- activations and graph ---------------------------------------------------------------------------------------------
def _activations(writer: Any, model: Model, table: Table, given: Sequence[str]) -> None:
    layers = len(model.network.trunk.layers)
    capture = [*(f"embedding.{name}" for name in given), *(f"block.{i}" for i in range(layers))]
    with _running(model.network) as ran:
        hidden = _encoded(model, table, given, capture)
    if hidden is None:
        return
    real = (hidden.batch.layout.doc_BT >= 0).flatten().cpu()
    for name in given:
        if f"embedding.{name}" in hidden.captured:
            writer.add_histogram(f"embedding/{name}", hidden.captured[f"embedding.{name}"].float().cpu(), 0)
    for i in range(layers):
        states = hidden.captured[f"block.{i}"].flatten(0, 1).float().cpu()[real]
        writer.add_histogram("states after block", states, i + 1)
        writer.add_scalar("root mean square after block", states.square().mean().sqrt().item(), i + 1)
    writer.file_writer.add_event(_graph(ran))


def _encoded(model: Model, table: Table, given: Sequence[str], capture: list[str]) -> Hidden | None:
    wanted = [column for name, column in model.columns.items() if name in given]
    store = encode(table, wanted, model.network.encoders, Ledger())
    roles = GivenRows(store, np.arange(len(table)), store.names).roles()
    rows = np.flatnonzero((roles == Role.GIVEN).any(1))
    if not len(rows):
        return None
    network, training = model.network, model.network.training
    group = RoleAssignment(rows, roles[rows], rows.astype(np.uint64))
    batch = assemble({_TAG: group}, store, given_causal=network.given_causal, augment=False)
    network.eval()
    try:
        with torch.inference_mode():
            return network.encode(batch.to(next(network.parameters()).device), capture=capture)
    finally:
        network.train(training)


Ran = list[tuple[str, str, list[str], list[int]]]
"""What ran, in order: its name, its class, what it got its inputs from, and the shape of what it gave."""


@contextmanager
def _running(network: nn.Module) -> Iterator[Ran]:
    """Inside, modules without parts of their own are noted as they run."""
    ran: Ran = []
    made_by: dict[int, str] = {}
    kept: list[Any] = []  # so that no other tensor gets the identity of one that is gone

    def noting(name: str) -> Any:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            tensors = [x for x in inputs if isinstance(x, Tensor)]
            sources = list(dict.fromkeys(made_by[id(x)] for x in tensors if id(x) in made_by))
            if not sources and ran:  # what lies between is no module: a sum, attention
                sources = [ran[-1][0]]
            first = next(
                (x for x in (output if isinstance(output, tuple) else [output]) if isinstance(x, Tensor)), None
            )
            times = sum(each.split("__")[0] == name for each, *_ in ran)
            own = f"{name}__{times}" if times else name
            ran.append((own, type(module).__name__, sources, [] if first is None else list(first.shape)))
            if first is not None:
                made_by[id(first)] = own
                kept.append(first)

        return note

    hooks = [
        module.register_forward_hook(noting(name.replace(".", "/")))
        for name, module in network.named_modules()
        if name and not any(True for _ in module.children())
    ]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()


def _graph(ran: Ran) -> Any:
    """As the event that TensorBoard's graphs are made of."""
    from tensorboard.compat.proto.attr_value_pb2 import AttrValue
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.node_def_pb2 import NodeDef
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    def node(name: str, op: str, sources: list[str], shape: list[int]) -> Any:
        sizes = TensorShapeProto(dim=[TensorShapeProto.Dim(size=n) for n in shape])
        shapes = AttrValue(list=AttrValue.ListValue(shape=[sizes]))
        return NodeDef(name=name, op=op, input=sources, attr={"_output_shapes": shapes})

    return Event(graph_def=GraphDef(node=[node(*each) for each in ran]).SerializeToString())
