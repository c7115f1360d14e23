"""A checkpoint's tensors: which file holds each, and how ours are made of them.

Files from outside are data: no pickle is opened, names and shapes are checked before memory is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from onetrunk.core.errors import ModelFileError
from onetrunk.interop.huggingface.family import Family
from onetrunk.interop.huggingface.settings import Settings, biased
from onetrunk.storage.header import tensor_shapes
from onetrunk.storage.strict_json import read_json
from onetrunk.storage.tensors import load_tensors

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

Shape = tuple[int, ...]
Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]  # of their tensors, by their names


def shards(folder: Path, converted: Path | None = None) -> dict[str, Path]:
    """Which file holds each tensor, by the files' own headers; of a folder of `converted` files, all of them."""
    if converted is not None:
        return {name: place for place in sorted(converted.glob("*.safetensors")) for name in tensor_shapes(place)}
    if (folder / INDEX).exists():
        named = read_json(folder / INDEX).get("weight_map")
        if not isinstance(named, dict) or not all(isinstance(v, str) and Path(v).name == v for v in named.values()):
            raise ModelFileError(f"{folder / INDEX} should map tensors to files beside it (weight_map).")
        places = [folder / name for name in sorted(set(named.values()))]
        for place in places:
            if not place.exists():
                raise ModelFileError(f"{folder} lacks {place.name}, one of the {len(places)} files {INDEX} names.")
    elif (folder / WEIGHTS).exists():
        named, places = None, [folder / WEIGHTS]
    else:
        raise _no_weights(folder)
    held = {name: place for place in places for name in tensor_shapes(place)}
    if named is not None and (missing := named.keys() - held.keys()):
        raise ModelFileError(f"{folder}: {INDEX} names {min(missing)!r}, which no file holds.")
    return held


def _no_weights(folder: Path) -> ModelFileError:
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        with path.open("rb") as stream:
            start = stream.read(2)
        if start == b"PK" or start[:1] == b"\x80":
            return ModelFileError(
                f"{folder} holds its weights as a pickle ({path.name}): pickle files can run code and are never "
                f"opened. onetrunk import {folder} --convert takes the tensors out of it in a process of its own, "
                "without network (torch.load with weights_only=True)."
            )
    return ModelFileError(f"{folder} has no weights: expected {WEIGHTS} or {INDEX}.")


@dataclass(frozen=True)
class _Take:
    """One of our tensors: which of theirs it is made of, their shapes, and how."""

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    make: Callable[..., Tensor]

    def then(self, change: Callable[[Tensor], Tensor]) -> _Take:
        return _Take(self.names, self.shapes, lambda *each: change(self.make(*each)))

    def beside(self, name: str, shape: Shape, join: Callable[[Tensor, Tensor], Tensor]) -> _Take:
        """With one more of theirs."""
        return _Take((*self.names, name), (*self.shapes, shape), lambda *each: join(self.make(*each[:-1]), each[-1]))


class Checkpoint:
    """An opened folder: what it says, and where its tensors lie."""

    def __init__(
        self, folder: Path, settings: Settings, family: Family, trunk: dict[str, Any], held: dict[str, Path]
    ) -> None:
        self.folder, self.settings, self.family, self.trunk = folder, settings, family, trunk
        self.held = {_modern(name): (path, name) for name, path in held.items()}
        self.used: set[str] = set()
        probe = family.layer.format(0)
        fits = (p for p in family.prefixes if any(name.startswith(p + probe) for name in self.held))
        self.prefix = next(fits, family.prefixes[0])

    # -- what is there -----------------------------------------------------------------------------------------------
    def has(self, ours: str) -> bool:
        """Does any file hold one of ours, whole or as a module?"""
        return ours in self.family.other_names and any(self._places(ours, kind) for kind in ("", "weight"))

    def left_out(self) -> list[str]:
        """Parts of the file that nothing here is made of (heads, poolers, the other tower), by their shortest names."""
        made = {name[: dot.start()] for name in self.used for dot in re.finditer(r"\.", name)}
        parts = {name.rpartition(".")[0] or name for name in self.held.keys() - self.used}
        wholes = ([part[: dot.start()] for dot in re.finditer(r"\.|$", part)] for part in parts)
        return sorted({next((whole for whole in each if whole not in made), each[-1]) for each in wholes})

    # -- ours of theirs ----------------------------------------------------------------------------------------------
    def tensors(self, shapes: Mapping[str, Shape], change: Change | None = None) -> dict[str, Tensor]:
        """Our tensors, names to shapes, made of theirs in float32; zeros where the family has no such thing. `change`
        comes between: what an adapter makes of them."""
        takes = {name: self._take(name, shape, shapes) for name, shape in shapes.items()}
        if self.family.stem:  # else it is but a part of the model, and others honour the rest
            self._check_tied()
            self.settings.refuse_unread()
        declared = {path: tensor_shapes(path) for path, _ in self.held.values()}
        for take in takes.values():
            for name, expected in zip(take.names, take.shapes, strict=True):
                path, stored = self.held[name]
                if _bare(declared[path][stored]) != _bare(expected):
                    raise ModelFileError(
                        f"{path}: the tensor {stored!r} should have shape {list(expected)} by config.json, found "
                        f"{list(declared[path][stored])}. Weights and configuration are not of one model."
                    )
        self.used |= {name for take in takes.values() for name in take.names}
        loaded: dict[str, Tensor] = {}
        for path in declared:
            there = load_tensors(path)
            loaded |= {
                name: there[stored].float()
                for name, (place, stored) in self.held.items()
                if place == path and name in self.used
            }
        if change is not None:
            loaded = change(loaded)
        return {
            name: take.make(*(loaded[theirs] for theirs in take.names)).reshape(shapes[name]).contiguous()
            for name, take in takes.items()
        }

    def _take(self, ours: str, shape: Shape, shapes: Mapping[str, Shape]) -> _Take:
        nothing = _Take((), (), lambda: torch.zeros(shape))
        layer = re.fullmatch(r"trunk\.layers\.(\d+)\.(.+)\.(weight|bias)", ours)
        if layer:
            return self._layer_take(int(layer[1]), layer[2], layer[3], shape, shapes) or nothing
        name = re.sub(r"^column_modules\.\w+\.", "", ours)
        whole, _, kind = name.rpartition(".")
        if name == "prefix":
            vectors = tuple(self._there(self.prefix + theirs) for theirs in self.family.first)
            return _Take(vectors, (shape[1:],) * len(vectors), lambda *each: torch.stack([t.reshape(-1) for t in each]))
        if (
            name.startswith("markers.") and "types" in self.family.other_names
        ):  # one column is the first of BERT's sentences
            rows = self.settings["type_vocab_size"]
            return self._widened("types", (rows, shape[1])).then(lambda t: t[:1].expand(shape))
        if name == "trunk.position_embedding":  # RoBERTa's first rows are never used
            rows = self.settings[self.family.settings["max_positions"]]
            return self._widened(name, (rows, shape[1])).then(lambda t: t[rows - shape[0] :])
        if name == "position_embedding":
            return self._picture_positions(shape)
        if name == "table":
            size = shape[1] ** 0.5 if self.family.tokens_scaled else 1.0
            return _Take((self._top(name),), (shape,), lambda t: t * size)
        if name == "head":
            return _Take((self.head(),), (shape,), lambda t: t)
        if name in self.family.other_names:
            return _Take((self._top(name),), (shape,), lambda t: t)
        if whole not in self.family.other_names or (kind == "bias" and not biased(self.family, self.settings, whole)):
            return nothing
        return self._norm(whole, _Take((self._top(whole, kind),), (shape,), lambda t: t))

    def _check_tied(self) -> None:
        """Raises ModelFileError where a read-out lies beside the embedding that is said to be it, and is another one:
        one version of transformers takes the one, the next the other."""
        if not self.settings.get("tie_word_embeddings", False) or not self.has("head"):
            return
        places = [self.held[self._top(ours)] for ours in ("head", "table")]
        head, table = (load_tensors(path)[stored] for path, stored in places)
        if not torch.equal(head, table):
            raise ModelFileError(
                f"{places[0][0]} holds a read-out ({places[0][1]}) that is not the embedding, which config.json "
                "says it is (tie_word_embeddings). Say tie_word_embeddings: false, or leave it out of the file."
            )

    def head(self) -> str:
        """Their name of the read-out's matrix, which may be that of the embedding."""
        tied = self.settings.get("tie_word_embeddings", False)
        return self._top("table") if tied or not self.has("head") else self._top("head")

    def _layer_take(self, i: int, part: str, kind: str, shape: Shape, shapes: Mapping[str, Shape]) -> _Take | None:
        family = self.family
        if kind == "bias" and not biased(family, self.settings, part):
            return None
        if family.groups:  # several layers share their tensors
            i = int(i / (self.trunk["layers"] / self.settings[family.groups]))
        place = f"{self.prefix}{family.layer.format(i)}"
        theirs = self._there(f"{place}{family.layer_names[part]}.{kind}")
        first, rows = 0, 0
        for other in (p for p, name in family.layer_names.items() if name == family.layer_names[part]):
            first = rows if other == part else first
            rows += shapes[f"trunk.layers.{i}.{other}.{kind}"][0]
        expected = (rows, *shape[1:])

        def make(t: Tensor) -> Tensor:
            t = t.T if family.transposed and t.ndim == 2 else t
            return t[first : first + shape[0]]

        take = self._norm(part, _Take((theirs,), (expected[::-1] if family.transposed else expected,), make))
        if scale := family.scales.get(part):
            by = self._there(place + scale)
            take = take.beside(by, (shape[0],), lambda t, size: t * size.reshape(-1, *[1] * (t.ndim - 1)))
        return take

    def _norm(self, ours: str, take: _Take) -> _Take:
        """What a norm's weight is here."""
        if "norm" not in ours:
            return take
        if self.family.norms_from_one:
            take = take.then(lambda t: 1 + t)
        if ours == "self_attn.q_norm" and (key := self.family.query_scale):
            size = (self.trunk["head_width"] / self.settings[key]) ** 0.5
            take = take.then(lambda t: t * size)
        return take

    def _widened(self, ours: str, shape: Shape) -> _Take:
        """Vectors with zeros behind, where what enters is narrower than the trunk."""
        width = self.trunk.get("entry_width") or shape[1]
        return _Take((self._top(ours),), ((shape[0], width),), lambda t: F.pad(t, (0, shape[1] - width)))

    def _picture_positions(self, shape: Shape) -> _Take:
        """Of the class token and all patches; between those it learnt, where its pictures are now of another size."""
        theirs, count = self._top("position_embedding"), len(self.family.first)
        learnt = (self.settings["image_size"] // self.settings["patch_size"]) ** 2
        if not self.family.resizes or learnt == shape[0] - count:
            return _Take((theirs,), (shape,), lambda t: t)

        def make(t: Tensor) -> Tensor:
            side, now = round(learnt**0.5), round((shape[0] - count) ** 0.5)
            t = t.reshape(-1, shape[1])
            there = t[count:].T.reshape(1, shape[1], side, side)
            there = F.interpolate(there, size=(now, now), mode="bicubic", align_corners=False)
            return torch.cat([t[:count], there.reshape(shape[1], -1).T])

        return _Take((theirs,), ((learnt + count, shape[1]),), make)

    def _places(self, ours: str, kind: str = "") -> list[str]:
        """Their names of one of ours that are there; heads stand outside of what the prefix names."""
        names = self.family.other_names[ours]
        each = [f"{name}.{kind}" if kind else name for name in ((names,) if isinstance(names, str) else names)]
        return [name for one in each for name in (self.prefix + one, one) if name in self.held]

    def _top(self, ours: str, kind: str = "") -> str:
        names = self.family.other_names[ours]
        usual = self.prefix + (names if isinstance(names, str) else names[0]) + (f".{kind}" if kind else "")
        return next(iter(self._places(ours, kind)), "") or self._there(usual)

    def _there(self, theirs: str) -> str:
        if theirs not in self.held:
            raise ModelFileError(
                f"{self.folder} lacks the tensor {theirs!r}, which its configuration asks for. "
                "The file is incomplete, or of another model."
            )
        return theirs


def _modern(name: str) -> str:
    """TensorFlow's names of a norm's parameters stand in old files."""
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda m: f"LayerNorm.{'weight' if m[1] == 'gamma' else 'bias'}", name)


def _bare(shape: Shape) -> Shape:
    """Without leading axes of length 1."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape
