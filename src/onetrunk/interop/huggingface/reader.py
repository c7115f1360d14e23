"""Reads a Hugging Face folder (config.json, safetensors, tokenizer, preprocessor): our model answers as theirs does.

Files from outside are data: no remote code, no pickle; names and shapes are checked before memory is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from onetrunk.core.encoder import Column, Encoder
from onetrunk.core.errors import ModelFileError, UsageError, is_out_of_memory
from onetrunk.core.registry import column_types
from onetrunk.inference.model_folder import Model, Task
from onetrunk.interop.huggingface.checkpoint import Checkpoint, shards
from onetrunk.interop.huggingface.families import FAMILIES, TOWERS
from onetrunk.interop.huggingface.image_processor import picture_knowledge, read_preparation, take_up_scale
from onetrunk.interop.huggingface.peft import read_change
from onetrunk.interop.huggingface.settings import Settings, biased, context, readout_activation, trunk_settings
from onetrunk.interop.huggingface.tokenizers import read_tokenizer
from onetrunk.interop.huggingface.unsupported import OF_GENERATION
from onetrunk.model import FoundationModel
from onetrunk.nn.trunk import build_trunk
from onetrunk.storage import hub
from onetrunk.storage.strict_json import read_json


def is_checkpoint(path: Path) -> bool:
    """Is it a folder of the Hugging Face world, and none of ours?"""
    return (path / "config.json").exists() and not (path / "onetrunk.json").exists()


def locate(source: str, allow_network: bool, pickled: bool = False) -> Path:
    """A folder; of hf://owner/name the one in the local cache, which is filled only if the network is allowed, with
    pickled weights only where they are to be converted."""
    if not source.startswith(hub.HUB):
        return Path(source)
    patterns = (*hub.DATA, "*.bin") if pickled else hub.DATA
    return hub.snapshot(source.removeprefix(hub.HUB), allow_network, patterns)


def read(
    folder: Path, tower: str | None = None, *, converted: Path | None = None, adapter: Path | None = None
) -> Model:
    """A checkpoint as a model with one column. `tower` chooses one of CLIP's. `converted`: a folder of safetensors that
    stand for its own weights. `adapter`: one of PEFT, which is merged into it.

    Raises ModelFileError for a family that is not known, a missing file, shapes or a tokenizer that do not match the
    configuration, what its files say and nothing here honours, a pickle; UsageError for a folder that is not there, or
    a tower that is missing or unknown.
    """
    checkpoint = _open(folder, tower, converted)
    family, settings = checkpoint.family, checkpoint.settings
    if not family.stem:
        raise UsageError(
            f"{folder} is a {settings['model_type']}: what it makes of {family.reads} before its trunk is not "
            "expressed here. Its trunk alone is: onetrunk.interop.huggingface.read_trunk."
        )
    preparation = read_preparation(folder, family.preparation) if family.preparation else {}
    column, given = Column(family.reads, family.reads, family.reads), "causal" if family.causal else "bidirectional"
    with _as_said(folder / "config.json"):
        options, knowledge = picture_knowledge(checkpoint, preparation) if preparation else _words(checkpoint)
        make = _encoder_maker(family.reads, options, knowledge)
        with torch.device("meta"):  # shapes are checked before memory is taken
            sketch = FoundationModel(checkpoint.trunk, [column], {column.key: make()}, given)
        network = FoundationModel(checkpoint.trunk, [column], {column.key: make()}, given)
        shapes = {name: tuple(t.shape) for name, t in sketch.state_dict().items()}
        network.load_state_dict(checkpoint.tensors(shapes, None if adapter is None else read_change(adapter)))
        if preparation:
            take_up_scale(network.module(column.name), preparation)
        stage = {
            "stage": "import",
            "source": folder.name,
            "family": settings["model_type"],
            "left_out": [*checkpoint.left_out(), *_beyond(checkpoint), *_drawing(folder)],
            **({} if adapter is None else {"adapter": adapter.name}),
        }
    writes = knowledge.get("token_head", {}).get("does") == "writing"
    return Model(network.eval(), [Task([], [column.name])] if writes else [], {"stages": [stage]})


def _beyond(checkpoint: Checkpoint) -> list[str]:
    """What its model sees of longer texts than ours does."""
    if checkpoint.family.preparation:  # it sees pictures
        return []
    _, beyond = context(checkpoint.family, checkpoint.settings, checkpoint.trunk)
    return [beyond] if beyond else []


def _drawing(folder: Path) -> list[str]:
    """How it says that text is drawn, which here the user says."""
    where = folder / "generation_config.json"
    generation_config = read_json(where) if where.exists() else {}
    nothing = (None, False, 0, 1)  # also 1.0
    kept = sorted(key for key, value in generation_config.items() if key not in OF_GENERATION and value not in nothing)
    return [f"{where.name} ({', '.join(f'{key}: {generation_config[key]}' for key in kept)})"] if kept else []


def read_trunk(folder: Path, tower: str | None = None) -> torch.nn.Module:
    """The trunk alone: what takes the embeddings of a checkpoint's own stem (Whisper's encoder). Raises as `read`."""
    checkpoint = _open(folder, tower)
    with torch.device("meta"):
        sketch = build_trunk(checkpoint.trunk)
    shapes = {f"trunk.{name}": tuple(t.shape) for name, t in sketch.state_dict().items()}
    trunk = build_trunk(checkpoint.trunk)
    with _as_said(folder / "config.json"):
        trunk.load_state_dict({k.removeprefix("trunk."): v for k, v in checkpoint.tensors(shapes).items()})
    return trunk.eval()


def _open(folder: Path, tower: str | None, converted: Path | None = None) -> Checkpoint:
    if not folder.is_dir():
        problem = f"{folder} is a file" if folder.exists() else f"There is no folder {folder}"
        raise UsageError(f"{problem}: expected a Hugging Face folder (config.json, safetensors), or hf://owner/name.")
    if not (folder / "config.json").exists():
        raise ModelFileError(
            f"{folder} is no Hugging Face folder: expected config.json beside safetensors, found none."
        )
    if not is_checkpoint(folder):
        raise UsageError(f"{folder} is a model folder already: use it as it is.")
    where = folder / "config.json"
    config = read_json(where)
    kind = config.get("model_type")
    if kind is not None and not isinstance(kind, str):
        raise ModelFileError(f"{where} says model_type: {str(kind)[:60]!r}; expected the name of a family.")
    towers = TOWERS.get(kind, {}) if kind else {}
    if towers:
        if tower not in towers:
            raise UsageError(
                f"{folder} has several towers: import one that can be read, with --tower {' or --tower '.join(towers)}."
            )
        kind, key = towers[tower]
        shared = ("tie_word_embeddings", "quantization_config")
        whole: dict[str, Any] = {name: config[name] for name in shared if name in config}
        own, old = (config.get(name) or {} for name in (key, f"{key}_dict"))  # an old CLIP's stand beside, and count
        if not isinstance(own, dict) or not isinstance(old, dict):
            raise ModelFileError(f"{where} should hold the settings of its tower as an object ({key}).")
        config = {**whole, **own, **old, "model_type": kind}
    elif tower is not None:
        raise UsageError(f"{folder} is a {kind}, which has no towers: leave --tower out.")
    if kind not in FAMILIES:
        known = ", ".join(sorted([*FAMILIES, *TOWERS]))
        problem = f"is of the family {kind!r}, which is not known" if kind else "does not say its family (model_type)"
        raise ModelFileError(f"{folder} {problem}. Known: {known}.")
    if config.get("quantization_config"):
        raise ModelFileError(f"{folder} is quantised; only floating-point weights can be read.")
    family = FAMILIES[kind]
    settings = Settings(config, family.defaults, where)
    with _as_said(where):
        try:
            build = {"kind": "transformer", **trunk_settings(family, settings)}
            with torch.device("meta"):
                build_trunk(build)
            if "max_position_embeddings" in settings:
                context(family, settings, build)
        except ModelFileError as error:
            raise ModelFileError(f"{where}: {error}") from None
    return Checkpoint(folder, settings, family, build, shards(folder, converted))


@contextmanager
def _as_said(where: Path) -> Iterator[None]:
    """Inside, what ends because a configuration says something that cannot be is a ModelFileError."""
    try:
        yield
    except KeyError as error:
        raise ModelFileError(f"{where} does not say {error}.") from None
    except (TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError, UsageError) as error:
        if is_out_of_memory(error):
            raise
        raise ModelFileError(f"{where}: {error}") from None


def _encoder_maker(kind: str, options: dict[str, Any], knowledge: dict[str, Any]) -> Callable[[], Encoder]:
    """Makes encoders that know what the checkpoint's own tokenizer or preprocessor does."""

    def make() -> Encoder:
        encoder = column_types.get(kind).encoder(options)
        encoder.set_knowledge(knowledge)
        return encoder

    return make


def _words(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any]]:
    """A text encoder's options and knowledge."""
    folder, settings, family = checkpoint.folder, checkpoint.settings, checkpoint.family
    tokenization = read_tokenizer(folder, settings, family.filled)
    tokenizer, special = tokenization.tokenizer, tokenization.special
    rows, tokens = settings["vocab_size"], max(tokenizer.get_vocab().values(), default=-1) + 1
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
    options: dict[str, Any] = {"length": context(family, settings, checkpoint.trunk)[0]}
    if width := checkpoint.trunk.get("entry_width"):
        options["embedding"] = width
    head = _head(checkpoint, rows)
    knowledge = {"tokenizer": tokenizer.to_str(), "special_tokens": special, "token_head": head}
    if tokenization.template is not None and head["does"] == "writing":
        knowledge["chat_template"] = tokenization.template
    return options, knowledge


def _head(checkpoint: Checkpoint, rows: int) -> dict[str, Any]:
    """The read-out: a matrix, which may be the embedding; in front of it, of those that fill words in, a layer."""
    settings, family, trunk = checkpoint.settings, checkpoint.family, checkpoint.trunk
    tied = bool(settings.get("tie_word_embeddings", False))
    transform = trunk["eps"] if checkpoint.has("transform.0") else 0.0
    can = tied or checkpoint.has("head")
    if transform and not can:
        raise ModelFileError(
            f"{checkpoint.folder} lacks the matrix of its read-out ({family.other_names['head']}), which its "
            "configuration says is not the embedding (tie_word_embeddings: false)."
        )
    writes = family.causal and "head" in family.other_names and can
    # One that is not there is as good as the embedding, where that has the width.
    shared = tied or not can if trunk.get("entry_width") is None or transform else False
    return {
        "rows": rows,
        "tied": shared and not family.tokens_scaled,
        "bias": checkpoint.has("bias") and biased(family, settings, "bias"),
        "transform": transform,
        "activation": readout_activation(family, settings) if transform else "gelu",
        "does": "writing" if writes else "filling" if transform else "nothing",
    }
