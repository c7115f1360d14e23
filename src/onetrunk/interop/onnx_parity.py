"""Checks a written ONNX graph: what its files alone make of a person's rows, against the model's own answers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onetrunk.core.answer import Answer
from onetrunk.core.content import Content
from onetrunk.core.encoder import Encoder
from onetrunk.core.errors import MissingExtraError, OnetrunkError
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode
from onetrunk.data.store import Store
from onetrunk.data.table import Table
from onetrunk.inference.answer_rows import answer, pooled_states
from onetrunk.inference.model_folder import Model
from onetrunk.inference.wide_outputs import add_wide
from onetrunk.interop.onnx import EMBEDDING, FILE, Graph, LanguageModel, OneShot, graph_of
from onetrunk.interop.onnx_inputs import COLUMNS, WIDE, read_encoders, wide_arrays
from onetrunk.interop.parity import Parity
from onetrunk.storage.strict_json import read_json


def compare(model: Model, ask: str | None, given: Sequence[str], table: Table, folder: Path) -> Parity:
    """What is made of the rows of a table with the files alone, against the model's own numbers and answers."""
    parity, columns = Parity(), [model.columns[name] for name in dict.fromkeys([*given, *([ask] if ask else [])])]
    try:
        read = read_encoders(folder)
    except (OnetrunkError, KeyError, TypeError, ValueError, AttributeError) as error:
        parity.faults.append(f"the files beside {FILE} describe no columns: {error}")
        return parity
    encoded_columns = [column for column in columns if column.name in given or column.name in table.columns]
    store = encode(table, encoded_columns, model.network.encoders, Ledger())
    theirs = encode(table, encoded_columns, {column.key: read[column.name] for column in encoded_columns}, Ledger())
    for column, ours, other in zip(encoded_columns, store.contents, theirs.contents, strict=True):
        if not _alike(ours, other):
            parity.faults.append(f"the files make something else of the values of {column.name!r}")
    wide, told = wide_arrays(model.network, given, ask), read_json(folder / COLUMNS)
    for column in columns:
        name, calibration = column.name, model.calibration(column.name)
        spread = None if calibration is None else calibration.spread
        parity.same(f"the spread of {name!r}", spread, told[name].get("spread"))
        parity.same(f"what a wide read-out looks at of {name!r}", wide.get(name), told[name].get(WIDE))
    if not parity.faults:
        graph, feeds = graph_of(model, ask, given, theirs)
        outputs = _compare_numbers(parity, graph, feeds, folder / FILE)
        if isinstance(graph, OneShot):
            _compare_answers(parity, model, graph, store, outputs, read)
    return parity


def _alike(one: Content, other: Content) -> bool:
    a, b = one.gather(), other.gather()
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def _compare_numbers(
    parity: Parity, graph: Graph, feeds: Sequence[dict[str, np.ndarray]], path: Path
) -> list[dict[str, np.ndarray]]:
    """The file's numbers beside the graph's. Returns what the file gave for each feed."""
    session = open_session(path)
    taken = {found.name for found in session.get_inputs()}
    outputs = []
    kinds: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {name: ([], []) for name in graph.outputs}
    for feed in feeds:
        with torch.inference_mode():
            ours = [t.numpy() for t in graph(*(torch.from_numpy(np.ascontiguousarray(a)) for a in feed.values()))]
        theirs = session.run(list(graph.outputs), {name: a for name, a in feed.items() if name in taken})
        for name, mine, other in zip(graph.outputs, ours, theirs, strict=True):
            if np.issubdtype(mine.dtype, np.floating):
                kinds[name][0].append(mine.reshape(-1))
                kinds[name][1].append(other.reshape(-1))
        outputs.append(dict(zip(graph.outputs, theirs, strict=True)))
        if isinstance(graph, LanguageModel):
            _compare_tokens(parity, ours[0], theirs[0])
    for mine, other in kinds.values():
        if mine:
            parity.add(np.concatenate(mine), np.concatenate(other))
    return outputs


def _compare_tokens(parity: Parity, ours: np.ndarray, theirs: np.ndarray) -> None:
    """The likeliest token after each of a text's: one answer, the text."""
    our_tokens, their_tokens = ours.argmax(-1).ravel(), theirs.argmax(-1).ravel()
    flat = ours.reshape(len(our_tokens), -1)
    positions = np.arange(len(our_tokens))
    size = float(np.sqrt(np.mean(flat**2))) or 1.0
    lost = (flat[positions, our_tokens] - flat[positions, their_tokens]).max() / size
    parity.answer(our_tokens.tolist(), their_tokens.tolist(), float(lost))


def _compare_answers(
    parity: Parity,
    model: Model,
    graph: OneShot,
    store: Store,
    outputs: list[dict[str, np.ndarray]],
    read: Mapping[str, Encoder],
) -> None:
    """What a person reads of the file's numbers, by what the files say of them, beside the model's own answers: not the
    graph's, which may be wrong as the file is."""
    network, given, ask = model.network, graph.given, graph.ask
    kept = np.flatnonzero(store.present[:, [store.names.index(name) for name in given]].any(1))
    states = pooled_states(network, store, given)[kept]
    parity.add(states, np.concatenate([found[EMBEDDING] for found in outputs]))
    if ask is None:
        parity.count(kept, kept)
        return
    add_wide(network, store, given, ask)
    every = answer(network, store, given, ask)
    ours, theirs = [every[i] for i in kept], []
    reader = copy.copy(network.module(ask))
    reader.encoder = read[ask]
    for found in outputs:
        state = {name.removeprefix(f"{ask}."): torch.from_numpy(array) for name, array in found.items()}
        n = len(found[EMBEDDING])
        theirs += reader.finish({name: x.expand(n, *x.shape[1:]) for name, x in graph.state.items()} | state)
    numbers = [np.array([_numbers(each) for each in answers]) for answers in (ours, theirs)]
    if numbers[0].size and numbers[0].shape == numbers[1].shape:
        parity.add(*numbers)
    size = _size([each.value for each in ours])
    for own, other in zip(ours, theirs, strict=True):
        parity.answer(_rounded(own.value), _rounded(other.value), _gap(own, other, size))


def _gap(ours: Answer, theirs: Answer, size: float) -> float:
    """How far apart two answers are: classes by how much likelier the one is, numbers by their size."""
    if isinstance(ours.probability, dict) and isinstance(theirs.value, str):
        if ours.probability.keys() != (theirs.probability.keys() if isinstance(theirs.probability, dict) else ()):
            return float("inf")
        return ours.probability[str(ours.value)] - ours.probability.get(theirs.value, -np.inf)
    return _apart(ours.value, theirs.value, size)


def _apart(one: Any, other: Any, size: float) -> float:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) / size
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((_apart(part, other[name], size) for name, part in one.items()), default=0.0)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return max((_apart(*pair, size) for pair in zip(one, other, strict=True)), default=0.0)
    return 0.0 if one == other else float("inf")


def _size(values: Sequence[Any]) -> float:
    """The root mean square of all numbers in some answers."""
    found: list[float] = []

    def collect(value: Any) -> None:
        if isinstance(value, float):
            found.append(value)
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
            collect(part)

    collect(list(values))
    return float(np.sqrt(np.mean(np.square(found)))) or 1.0 if found else 1.0


def _numbers(found: Answer) -> list[float]:
    """A number, and the probability of every class."""
    number = [found.value] if isinstance(found.value, float) else []
    return [*number, *(found.probability.values() if isinstance(found.probability, dict) else [])]


def _rounded(value: Any) -> Any:
    """Floats, in lists and dictionaries too, to three digits."""
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.3g}") if isinstance(value, float) else value


def open_session(path: Path) -> Any:
    """ONNX Runtime's session, on the CPU."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "export", "Checking an ONNX file") from None
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
