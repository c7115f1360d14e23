"""Reads a Hugging Face folder (config.json, safetensors, tokenizer, preprocessor): our model answers as theirs does.

Files from outside are data: no remote code, no pickle; names and shapes are checked before memory is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onetrunk.core.encoder import Column, Encoder
from onetrunk.core.errors import MissingExtraError, ModelFileError, UsageError
from onetrunk.core.registry import column_types
from onetrunk.inference.model_folder import Model, Task
from onetrunk.interop.huggingface.families import FAMILIES, TOWERS, Family
from onetrunk.interop.huggingface.tokenizers import read_tokenizer
from onetrunk.model import FoundationModel
from onetrunk.nn.trunk import build_trunk
from onetrunk.storage.header import tensor_shapes
from onetrunk.storage.strict_json import read_json
from onetrunk.storage.tensors import load_tensors

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PATTERNS = ["*.json", "*.safetensors", "*.txt"]  # of what is fetched
_RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's number

Shape = tuple[int, ...]


def is_checkpoint(path: Path) -> bool:
    """Is it a folder of the Hugging Face world, and none of ours?"""
    return (path / "config.json").exists() and not (path / "onetrunk.json").exists()


def locate(source: str, allow_network: bool) -> Path:
    """A folder; of hf://owner/name the one in the local cache, which is filled only if the network is allowed."""
    if not source.startswith("hf://"):
        return Path(source)
    name = source.removeprefix("hf://")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hub", f"Reading hf://{name}") from None
    try:
        return Path(snapshot_download(name, allow_patterns=_PATTERNS, local_files_only=not allow_network))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        if not allow_network:
            reason = "it is not in the local cache, and the network is used only with --allow-network"
        raise ModelFileError(f"Cannot load the hub model {name!r}: {reason}.") from None


def read(folder: Path, tower: str | None = None) -> Model:
    """A checkpoint as a model with one column. `tower` chooses one of CLIP's.

    Raises ModelFileError for a family that is not known, a missing file, shapes or a tokenizer that do not match the
    configuration, a pickle; UsageError for a folder that is not there, or a tower that is missing or unknown.
    """
    checkpoint = _open(folder, tower)
    family, config = checkpoint.family, checkpoint.config
    if not family.stem:
        raise UsageError(
            f"{folder} is a {config['model_type']}: what it makes of {family.reads} before its trunk is not expressed "
            "here. Its trunk alone is: onetrunk.interop.huggingface.read_trunk."
        )
    column = Column(family.reads, family.reads, family.reads)
    make, given = _encoder_maker(checkpoint), "causal" if family.causal else "bidirectional"
    with torch.device("meta"):  # shapes are checked before memory is taken
        sketch = FoundationModel(checkpoint.trunk, [column], {column.key: make()}, given)
    network = FoundationModel(checkpoint.trunk, [column], {column.key: make()}, given)
    network.load_state_dict(checkpoint.tensors({name: tuple(t.shape) for name, t in sketch.state_dict().items()}))
    if family.reads == column.type and family.preparation:
        _normalise(network.module(column.name), checkpoint.preparation)
    writes = family.causal and "head" in family.top
    stage = {
        "stage": "import",
        "source": folder.name,
        "family": config["model_type"],
        "left_out": checkpoint.left_out(),
    }
    return Model(network.eval(), [Task([], [column.name])] if writes else [], {"stages": [stage]})


def read_trunk(folder: Path, tower: str | None = None) -> torch.nn.Module:
    """The trunk alone: what takes the embeddings of a checkpoint's own stem (Whisper's encoder). Raises as `read`."""
    checkpoint = _open(folder, tower)
    with torch.device("meta"):
        sketch = build_trunk(checkpoint.trunk)
    shapes = {f"trunk.{name}": tuple(t.shape) for name, t in sketch.state_dict().items()}
    trunk = build_trunk(checkpoint.trunk)
    trunk.load_state_dict({k.removeprefix("trunk."): v for k, v in checkpoint.tensors(shapes).items()})
    return trunk.eval()


def _open(folder: Path, tower: str | None) -> _Checkpoint:
    if not folder.is_dir():
        missing = f"{folder} is a file" if folder.exists() else f"There is no folder {folder}"
        raise UsageError(f"{missing}: expected a Hugging Face folder (config.json, safetensors), or hf://owner/name.")
    if not (folder / "config.json").exists():
        raise ModelFileError(
            f"{folder} is no Hugging Face folder: expected config.json beside safetensors, found none."
        )
    if not is_checkpoint(folder):
        raise UsageError(f"{folder} is a model folder already: use it as it is.")
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    towers = TOWERS.get(kind, {}) if isinstance(kind, str) else {}
    if towers:
        if tower not in towers:
            raise UsageError(f"{folder} has several towers: import one, with --tower {' or --tower '.join(towers)}.")
        kind, key = towers[tower]
        config = {**config.get(key, {}), "model_type": kind}
    elif tower is not None:
        raise UsageError(f"{folder} is a {kind}, which has no towers: leave --tower out.")
    if kind not in FAMILIES:
        known = ", ".join(sorted([*FAMILIES, *TOWERS]))
        problem = f"is of the family {kind!r}, which is not known" if kind else "does not say its family (model_type)"
        raise ModelFileError(f"{folder} {problem}. Known: {known}.")
    if "quantization_config" in config:
        raise ModelFileError(f"{folder} is quantised; only floating-point weights can be read.")
    family = FAMILIES[kind]
    try:
        fields = family.trunk(config)
        build = {"kind": "transformer", **fields}
        with torch.device("meta"):
            build_trunk(build)
    except KeyError as error:
        raise ModelFileError(f"{folder / 'config.json'} does not say {error}.") from None
    except (TypeError, ValueError, UsageError, ModelFileError) as error:
        raise ModelFileError(f"{folder / 'config.json'}: {error}") from None
    return _Checkpoint(folder, config, family, build, _shards(folder))


def _shards(folder: Path) -> dict[str, Path]:
    """Which file holds each tensor, by the files' own headers."""
    if (folder / _INDEX).exists():
        named = read_json(folder / _INDEX).get("weight_map")
        if not isinstance(named, dict) or not all(isinstance(v, str) and Path(v).name == v for v in named.values()):
            raise ModelFileError(f"{folder / _INDEX} should map tensors to files beside it (weight_map).")
        paths = [folder / name for name in sorted(set(named.values()))]
        for path in paths:
            if not path.exists():
                raise ModelFileError(f"{folder} lacks {path.name}, one of the {len(paths)} files {_INDEX} names.")
    elif (folder / _WEIGHTS).exists():
        named, paths = None, [folder / _WEIGHTS]
    else:
        raise _no_weights(folder)
    held = {name: path for path in paths for name in tensor_shapes(path)}
    if named is not None and (missing := named.keys() - held.keys()):
        raise ModelFileError(f"{folder}: {_INDEX} names {min(missing)!r}, which no file holds.")
    return held


def _no_weights(folder: Path) -> ModelFileError:
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        with path.open("rb") as stream:
            start = stream.read(2)
        if start == b"PK" or start[:1] == b"\x80":
            return ModelFileError(
                f"{folder} holds its weights as a pickle ({path.name}): pickle files can run code and are never "
                "opened. Save it as safetensors where you trust it."
            )
    return ModelFileError(f"{folder} has no weights: expected {_WEIGHTS} or {_INDEX}.")


@dataclass(frozen=True)
class _Take:
    """One of our tensors: which of theirs it is made of, their shapes, and how."""

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    make: Callable[..., Tensor]


class _Checkpoint:
    """An opened folder: what it says, and where its tensors lie."""

    def __init__(
        self, folder: Path, config: dict[str, Any], family: Family, trunk: dict[str, Any], held: dict[str, Path]
    ) -> None:
        self.folder, self.config, self.family, self.trunk = folder, config, family, trunk
        self.held = {_modern(name): (path, name) for name, path in held.items()}
        self.used: set[str] = set()
        probe = family.layer.format(0)
        fits = (p for p in family.prefixes if any(name.startswith(p + probe) for name in self.held))
        self.prefix = next(fits, family.prefixes[0])
        own = folder / "preprocessor_config.json"
        self.preparation = {**family.preparation, **(read_json(own) if own.exists() else {})}

    def has(self, ours: str) -> bool:
        return ours in self.family.top and self._find(self.family.top[ours]) in self.held

    def left_out(self) -> list[str]:
        """Modules of the file that nothing here is made of (heads, poolers, the other tower), by their shortest
        names."""
        made = {name[: dot.start()] for name in self.used for dot in re.finditer(r"\.", name)}
        modules = {name.rpartition(".")[0] or name for name in self.held.keys() - self.used}
        wholes = ([module[: dot.start()] for dot in re.finditer(r"\.|$", module)] for module in modules)
        return sorted({next((whole for whole in each if whole not in made), each[-1]) for each in wholes})

    def tensors(self, shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
        """Our tensors, names to shapes, made of theirs in float32; zeros where the family has no such thing."""
        takes = {name: self._take(name, shape) for name, shape in shapes.items()}
        declared = {path: tensor_shapes(path) for path, _ in self.held.values()}
        for take in takes.values():
            for name, expected in zip(take.names, take.shapes, strict=True):
                path, stored = self.held[name]
                if _bare(declared[path][stored]) != _bare(expected):
                    raise ModelFileError(
                        f"{path}: the tensor {stored!r} should have shape {list(expected)} by config.json, found "
                        f"{list(declared[path][stored])}. Weights and configuration are not of one model."
                    )
        loaded: dict[str, Tensor] = {}
        for path in declared:
            there = load_tensors(path)
            loaded |= {name: there[stored].float() for name, (shard, stored) in self.held.items() if shard == path}
        self.used |= {name for take in takes.values() for name in take.names}
        return {
            name: take.make(*(loaded[theirs] for theirs in take.names)).reshape(shapes[name]).contiguous()
            for name, take in takes.items()
        }

    def _find(self, theirs: str) -> str:
        """With the prefix, or without it as heads are."""
        return self.prefix + theirs if self.prefix + theirs in self.held or theirs not in self.held else theirs

    def _take(self, ours: str, shape: Shape) -> _Take:
        nothing = _Take((), (), lambda: torch.zeros(shape))
        layer = re.fullmatch(r"trunk\.layers\.(\d+)\.(.+)\.(weight|bias)", ours)
        if layer:
            return self._layer_take(int(layer[1]), layer[2], layer[3], shape) or nothing
        name = re.sub(r"^column_modules\.\w+\.", "", ours)
        whole, _, kind = name.rpartition(".")
        top = self.family.top
        if name == "prefix":
            names = tuple(self._there(self.prefix + theirs) for theirs in self.family.first)
            return _Take(names, (shape[1:],) * len(names), lambda *each: torch.stack([t.reshape(-1) for t in each]))
        if name.startswith("markers.") and "types" in top:  # one column is the first of BERT's sentences
            types = self._there(self._find(top["types"]))
            return _Take((types,), ((self.config["type_vocab_size"], shape[1]),), lambda t: t[:1].expand(shape))
        if name == "trunk.position_embedding":  # RoBERTa's first rows are never used
            rows = self.config.get("max_position_embeddings") or self.config.get("n_positions") or shape[0]
            return _Take((self._there(self._find(top[name])),), ((rows, shape[1]),), lambda t: t[rows - shape[0] :])
        if name in top:
            return _Take((self._there(self._find(top[name])),), (shape,), lambda t: t)
        if whole in top:
            theirs = self._find(f"{top[whole]}.{kind}")
            if theirs not in self.held and kind == "bias" and whole in self.family.unbiased:
                return nothing
            return _Take((self._there(theirs),), (shape,), lambda t: t)
        return nothing

    def _layer_take(self, i: int, module: str, kind: str, shape: Shape) -> _Take | None:
        family = self.family
        theirs = f"{self.prefix}{family.layer.format(i)}{family.modules[module]}.{kind}"
        if theirs not in self.held and kind == "bias" and module.rpartition(".")[2] in family.unbiased:
            return None
        self._there(theirs)
        thirds = list(family.modules.values()).count(family.modules[module])
        expected = (shape[0] * thirds, *shape[1:])
        third = "qkv".index(module.rpartition(".")[2][0]) if thirds > 1 else 0

        def make(t: Tensor) -> Tensor:
            t = t.T if family.transposed and t.ndim == 2 else t
            return t[third * shape[0] : (third + 1) * shape[0]]

        return _Take((theirs,), (expected[::-1] if family.transposed else expected,), make)

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


# -- encoders ------------------------------------------------------------------------------------------------
def _encoder_maker(checkpoint: _Checkpoint) -> Callable[[], Encoder]:
    """Makes encoders that know what the checkpoint's own tokenizer or preprocessor does."""
    family = checkpoint.family
    options, knowledge = (_pictures if family.preparation else _words)(checkpoint)

    def make() -> Encoder:
        encoder = column_types.get(family.reads).encoder(options)
        encoder.set_knowledge(knowledge)
        return encoder

    return make


def _words(checkpoint: _Checkpoint) -> tuple[dict[str, Any], dict[str, Any]]:
    folder, config = checkpoint.folder, checkpoint.config
    tokenizer, special = read_tokenizer(folder, config)
    rows, tokens = config["vocab_size"], max(tokenizer.get_vocab().values(), default=-1) + 1
    named = [i for value in special.values() for i in (value if isinstance(value, list) else [value])]
    if tokens > rows or max(named) >= rows:
        raise ModelFileError(
            f"{folder}: its tokenizer has tokens up to {max(tokens - 1, *named):,}, its model only {rows:,} rows. "
            "Tokenizer and weights are not of one model."
        )
    if tokens < rows // 2:
        raise ModelFileError(
            f"{folder}: its tokenizer has {tokens:,} tokens, its model {rows:,} rows. They are not of one model."
        )
    shape = {
        "rows": rows,
        "tied": not checkpoint.has("head") or config.get("tie_word_embeddings", checkpoint.family.tied),
        "bias": checkpoint.has("bias"),
        "transform": checkpoint.trunk["eps"] if checkpoint.has("bias") else 0.0,
    }
    if shape["transform"] and checkpoint.trunk["activation"] != "gelu":
        raise ModelFileError(f"{folder}: its read-out has the activation {config['hidden_act']!r}; only gelu is known.")
    context = checkpoint.trunk.get("max_positions") or config["max_position_embeddings"]
    if config.get("use_sliding_window", True) and config.get("sliding_window"):
        context = min(context, config["sliding_window"])  # up to there a window sees all
    return {"length": context}, {"tokenizer": tokenizer.to_str(), "special_tokens": special, "token_head": shape}


def _pictures(checkpoint: _Checkpoint) -> tuple[dict[str, Any], dict[str, Any]]:
    folder, config, p = checkpoint.folder, checkpoint.config, checkpoint.preparation
    size, patch, channels = config.get("image_size", 224), config.get("patch_size", 16), config.get("num_channels", 3)
    if not isinstance(size, int) or not isinstance(patch, int) or channels not in (1, 3) or size % patch:
        raise ModelFileError(
            f"{folder}: pictures of {size!r} pixels, {channels!r} channels and patches of {patch!r} cannot be read; "
            "only square ones of 1 or 3 channels, whole patches."
        )
    wanted = p["size"] if isinstance(p["size"], dict) else {"height": p["size"], "width": p["size"]}
    keep = "shortest_edge" in wanted
    side = wanted["shortest_edge"] if keep else wanted.get("height")
    crop = p.get("crop_size", size) if p.get("do_center_crop") else side
    crop = crop.get("height") if isinstance(crop, dict) else crop
    if crop != size or not isinstance(side, int) or side < size or (not keep and wanted.get("width") != side):
        raise ModelFileError(
            f"{folder / 'preprocessor_config.json'} makes pictures of size {wanted} cut to {crop!r}; its model sees "
            f"{size} × {size} pixels."
        )
    resample = _RESAMPLE[p["resample"]] if p.get("resample") in range(len(_RESAMPLE)) else "bilinear"
    like = {"side": side, "keep": keep, "resample": resample, "tokens": len(checkpoint.family.first)}
    options = {"size": size, "patch": patch, "stem": 0}
    return options, {"size": size, "patch": patch, "channels": channels, "like": like}


def _normalise(module: Any, preparation: Mapping[str, Any]) -> None:
    """Our pixels are from -1 to 1, theirs (x / 255 - mean) / std: the patch embedding takes up the difference."""
    plain = not preparation.get("do_normalize", True)
    mean = torch.tensor([0.0] * module.encoder.channels if plain else preparation["image_mean"])
    std = torch.tensor([1.0] * module.encoder.channels if plain else preparation["image_std"])
    linear = module.to_width
    with torch.no_grad():
        linear.bias += (linear.weight * ((0.5 - mean) / std)[:, None, None]).sum((1, 2, 3))
        linear.weight /= (2 * std)[:, None, None]
