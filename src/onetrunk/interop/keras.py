"""Reads Keras weights (HDF5) of the model Embedding, LSTM (one or more), Dense: a text is given and a class asked.

Both layouts are read: `model.save_weights("x.weights.h5")` and the older `model.save("x.h5")`. Only arrays of numbers
are taken; a configuration in the file, which may hold code, is not looked at.

E numbers of a word's vector, U units of a layer, C classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from onetrunk.columns.families.tokens.special_tokens import SpecialTokens, TokenHead
from onetrunk.core.encoder import Column
from onetrunk.core.errors import MissingExtraError, ModelFileError
from onetrunk.core.registry import column_types
from onetrunk.core.unpacking import Unpacked
from onetrunk.inference.model_folder import Model, Task
from onetrunk.model import FoundationModel
from onetrunk.storage.strict_json import read_json

Category, Text = column_types.get("category").encoder, column_types.get("text").encoder

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST = 1 << 30  # numbers in one array
_MOST_TIMES = 20  # that weights, which hardly pack, unpack to
_RANKS = {"embedding": (2,), "lstm": (2, 2, 1), "dense": (2, 1)}  # axes of each array of a layer
_ARRAYS = {"embedding": 1, "lstm": 3, "dense": 2}  # how many each layer has
_EXPECTED = "expected Embedding, one or more LSTM layers of the same units, and Dense"
_UNKNOWN = ("[UNK]", "<unk>")

Layers = list[tuple[str, list[np.ndarray]]]


def is_weights(path: Path) -> bool:
    """Is this a file for `read`, or one that is called so?"""
    return path.is_file() and path.suffix.lower() in (".h5", ".hdf5", ".keras")


def read(path: Path, words: Path | None = None) -> Model:
    """A model with a column `text` given and `label` asked (of one unit: classes 0 and 1, by a sigmoid; of several: by
    a softmax). `words` is JSON, words to numbers; without it the words of a text are numbers.

    Raises ModelFileError for what is not HDF5, and for other layers; MissingExtraError.
    """
    layers = _layers(path)
    kinds = [kind for kind, _ in layers]
    if kinds[:1] != ["embedding"] or kinds[-1:] != ["dense"] or not kinds[1:-1] or {*kinds[1:-1]} != {"lstm"}:
        raise ModelFileError(f"{path} has the layers {', '.join(kinds) or 'none'}: {_EXPECTED}.")
    for kind, arrays in layers:
        if tuple(array.ndim for array in arrays) != _RANKS[kind]:
            shapes = ", ".join(str(list(array.shape)) for array in arrays)
            raise ModelFileError(f"{path}: the arrays of {kind} have the shapes {shapes}: {_EXPECTED}.")
    (table,), *recurrent, (kernel, bias) = (arrays for _, arrays in layers)
    rows, embedding = table.shape
    width = recurrent[0][1].shape[0]
    _check(path, table, recurrent, kernel, bias)
    trunk = {"kind": "lstm", "width": width, "layers": len(recurrent), "norm": "none"}
    reads = Text({"embedding": embedding, "length": 10_000})
    reads.set_knowledge(_words(rows, words))
    answers = Category({"on": "text"})
    answers.fit(list(range(max(2, len(bias)))))
    columns = [Column("text", "text", "text"), Column("label", "category", "label")]
    network = FoundationModel(trunk, columns, {"text": reads, "label": answers}, "causal")
    state = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    for i, (own, before, gates) in enumerate(recurrent):
        wide = torch.zeros(4 * width, width)  # what a narrower vector leaves of the width is zero
        wide[:, : len(own)] = _tensor(own).T
        state |= {f"trunk.layers.{i}.weight_ih_l0": wide, f"trunk.layers.{i}.weight_hh_l0": _tensor(before).T}
        state[f"trunk.layers.{i}.bias_ih_l0"] = _tensor(gates)
    head, shift = _tensor(kernel).T, _tensor(bias)
    if len(bias) == 1:  # a sigmoid is a softmax over 0 and its logit
        head, shift = (torch.cat([torch.zeros_like(x), x]) for x in (head, shift))
    for key, name, tensor in (("text", "table", _tensor(table)), ("label", "head", head), ("label", "bias", shift)):
        state[network.column_modules.parameter_name(key, name)] = tensor
    network.load_state_dict(state)
    stage = {"stage": "import", "source": path.name, "family": "keras", "left_out": []}
    return Model(network.eval(), [Task(["text"], ["label"])], {"stages": [stage]})


def _check(
    path: Path, table: np.ndarray, recurrent: list[list[np.ndarray]], kernel: np.ndarray, bias: np.ndarray
) -> None:
    (_, E), U = table.shape, recurrent[0][1].shape[0]
    expected = [((E if i == 0 else U, 4 * U), (U, 4 * U), (4 * U,)) for i in range(len(recurrent))]
    actual = [tuple(array.shape for array in arrays) for arrays in recurrent]
    if actual != expected or kernel.shape != (U, len(bias)):
        raise ModelFileError(f"{path}: layers of the shapes {actual}, {kernel.shape} do not fit together: {_EXPECTED}.")
    if E > U:
        raise ModelFileError(f"{path}: words have {E} numbers, more than the {U} units of a layer; at most as many.")


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _layers(path: Path) -> Layers:
    """Kinds and arrays of the file's layers, in the model's order: embedding, lstm, lstm_1, dense."""
    with path.open("rb") as file:
        start = file.read(8)
    if start != _SIGNATURE:
        what = "a pickle or a zip" if start[:2] == b"PK" or start[:1] == b"\x80" else "something else"
        raise ModelFileError(
            f"{path} is no HDF5 file but {what}: only arrays are read, never code. In Keras: "
            'model.save_weights("NAME.weights.h5").'
        )
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("h5py", "keras", "Reading Keras weights") from None
    try:
        with h5py.File(path, "r") as file:
            arrays = dict(_arrays(path, file, "", Unpacked(path.stat().st_size, times=_MOST_TIMES)))
    except (OSError, RuntimeError) as error:
        raise ModelFileError(f"{path} is not a whole HDF5 file: {error}.") from None
    grouped: dict[tuple[int, int, str], dict[str, np.ndarray]] = {}
    for name_in_file, array in arrays.items():
        parts = name_in_file.strip("/").split("/")
        if parts[0] in ("layers", "model_weights"):
            parts = parts[1:]
        name, _, number = parts[0].partition("_") if re.fullmatch(r"[a-z]+_\d+", parts[0]) else (parts[0], "", "0")
        rank = list(_ARRAYS).index(name) if name in _ARRAYS else len(_ARRAYS)
        grouped.setdefault((rank, int(number), name), {})[parts[-1]] = array
    layers = []
    for (_, _, name), arrays in sorted(grouped.items()):
        order = sorted(arrays, key=lambda n: (n == "bias", n == "recurrent_kernel", n))
        layers.append((name, [arrays[n] for n in order]))
        if len(order) != _ARRAYS.get(name, len(order)):
            raise ModelFileError(f"{path}: the layer {name} has {len(order)} arrays, expected {_ARRAYS[name]}.")
    return layers


def _arrays(path: Path, group: Any, prefix: str, unpacked: Unpacked) -> Iterator[tuple[str, np.ndarray]]:
    """Every array of numbers in the file itself: links to other files are not followed."""
    import h5py

    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ModelFileError(
                f"{path} has a link to elsewhere, {prefix}/{name}: only what lies in the file is read."
            )
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _arrays(path, item, f"{prefix}/{name}", unpacked)
        elif item.dtype.kind == "f":
            if (bomb := unpacked.bomb(item.size * item.dtype.itemsize)) is not None:
                raise ModelFileError(f"Cannot read {path}: {bomb}.")
            if item.size > _MOST or item.external or item.is_virtual:
                raise ModelFileError(f"{path}: the array {prefix}/{name} of the shape {item.shape} cannot be taken.")
            yield f"{prefix}/{name}", item[()]


def _words(rows: int, words: Path | None) -> dict[str, Any]:
    """A text column's knowledge: a word is what its number says."""
    if words is None:
        vocabulary, unknown = {str(i): i for i in range(rows)}, "0"
    else:
        vocabulary = read_json(words)
        if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in vocabulary.values()):
            raise ModelFileError(
                f"{words} must map words to whole numbers, as keras.datasets.imdb.get_word_index does."
            )
        vocabulary = {word: i for word, i in vocabulary.items() if i < rows}
        unknown = next((word for word in _UNKNOWN if word in vocabulary), "")
        vocabulary.setdefault(unknown, 0)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    if words is not None:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+"), "removed", invert=True)
    special = SpecialTokens(unknown=vocabulary[unknown] if words is not None else -1, start=0, end=0, mask=0)
    return {
        "tokenizer": tokenizer.to_str(),
        "special_tokens": asdict(special),
        "token_head": asdict(TokenHead(rows=rows)),
    }
