"""Models of every family come in and go out: what they answer here is what the libraries answer, to the last digits."""

from __future__ import annotations

import importlib
import json
import pkgutil
import random
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf

import onetrunk
import onetrunk.interop
from bench.trials import checkpoints
from bench.trials.attempts import DONE, REFUSED, Limits, attempt
from bench.trials.checks import Checks
from onetrunk.data.table import read as read_table
from onetrunk.inference.embeddings import embed_rows
from onetrunk.inference.model_folder import Model
from onetrunk.interop import huggingface
from onetrunk.interop.huggingface.families import FAMILIES
from onetrunk.interop.huggingface.reference_logits import logits_of

DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3", "phi3", "olmo2", "smollm3", "gemma3", "yarn", "linear")
FILLING = ("bert", "roberta", "xlm-roberta", "distilbert", "albert", "modernbert", "untied")
PICTURES = ("vit", "deit", "vit_mae", "dinov2", "siglip", "siglip_vision", "clip", "clip_vision", "chinese_clip")
TOWERS = {"clip": ("image", "text"), "chinese_clip": ("image", "text"), "siglip": ("image", "text")}
FAMILIES_OF_TRIALS = (*DECODERS, *FILLING, *PICTURES)
CLOSE = {"exports to llama.cpp": 1e-3}  # it has half-precision tables of functions
_CLOSE = 1e-4  # else; of the largest number of its kind


def texts(dice: random.Random, n: int = 4) -> list[str]:
    words = " ".join(checkpoints.TEXTS).split()
    return [" ".join(dice.choices(words, k=dice.randrange(1, 9))) for _ in range(n)]


def pictures(dice: random.Random, n: int = 3) -> list[np.ndarray]:
    numbers = np.random.default_rng(dice.getrandbits(32))
    return [
        numbers.integers(0, 256, (dice.randrange(9, 60), dice.randrange(9, 60), 3), dtype=np.uint8) for _ in range(n)
    ]


def difference(ours: Any, theirs: Any) -> float:
    """The largest of any number, relative to the largest of theirs; infinite where shapes differ."""
    one, other = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if one.shape != other.shape:
        return float("inf")
    found = float(np.abs(one - other).max(initial=0.0)) / (float(np.abs(other).max(initial=0.0)) or 1.0)
    return found if np.isfinite(found) else float("inf")


def from_transformers(folder: Path, like: Any) -> Any:
    """The model of this folder, of the class of `like`, as transformers reads it."""
    made = type(like).from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    if hasattr(made.config, "mask_ratio"):  # of a masked autoencoder, in training
        made.config.mask_ratio = 0.0
    return made


def text_difference(model: Model, reference: Any, words: Any, values: list[str]) -> float:
    """Of the tokens (infinite where they differ) and of the numbers after each of them, of what a text may be long."""
    encoder: Any = model.encoder("text")
    fills, worst = encoder.token_head.does == "filling", 0.0
    for text in values:
        ids = encoder.encode(text)["id"].tolist()
        if ids != words(text, add_special_tokens=False)["input_ids"]:
            return float("inf")
        ids = [*encoder.special.before, *ids, *encoder.special.after] if fills else [encoder.special.start, *ids]
        ids = ids[: encoder.options.length]
        with torch.no_grad():
            worst = max(
                worst, difference(logits_of(model, "text", ids, fills), reference(torch.tensor([ids])).logits[0])
            )
    return worst


def clip_text_difference(model: Model, reference: Any, words: Any, values: list[str]) -> float:
    """Of the states of a tower that reads texts, first, last and on average."""
    worst = 0.0
    for text in values:
        encoder: Any = model.encoder("text")
        while len(words(text)["input_ids"]) > reference.text_model.config.max_position_embeddings:
            text = text.rpartition(" ")[0]  # transformers would fail on it
        filled = {"padding": "max_length", "max_length": encoder.options.length} if encoder.special.fill >= 0 else {}
        ids = torch.tensor([words(text, **filled)["input_ids"]])
        with torch.no_grad():
            states = reference.text_model(ids).last_hidden_state[0].numpy()
        worst = max(worst, _pooled_difference(model, "text", text, states))
    return worst


def picture_difference(model: Model, reference: Any, processor: Any, values: list[np.ndarray], kind: str) -> float:
    worst, reference = 0.0, getattr(reference, "vision_model", reference)
    for picture in values:
        from PIL import Image

        pixels = processor(Image.fromarray(picture), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            order = {"noise": torch.arange(16.0)[None]} if kind == "vit_mae" else {}  # else it mixes the patches
            states = reference(pixel_values=pixels, **order).last_hidden_state[0]
            if "clip" in kind:
                states = reference.post_layernorm(states)
        worst = max(worst, _pooled_difference(model, "image", picture, states.numpy()))
    return worst


def _pooled_difference(model: Model, column: str, value: Any, states: np.ndarray) -> float:
    table = read_table({column: [value]})
    pooled = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}
    return max(difference(embed_rows(model, table, [column], pool)[0], theirs) for pool, theirs in pooled.items())  # type: ignore[arg-type]


def compare(folder: Path, kind: str, tower: str | None, reference: Any, tool: Any, dice: random.Random) -> float:
    """The worst difference of the checkpoint in this folder, read here, from `reference`."""
    model = huggingface.read(folder, tower)
    column = next(iter(model.columns))
    if column == "image":
        return picture_difference(model, reference, tool[1] if isinstance(tool, tuple) else tool, pictures(dice), kind)
    if tower is not None:
        return clip_text_difference(model, reference, tool[0] if isinstance(tool, tuple) else tool, texts(dice))
    return text_difference(model, reference, tool, texts(dice))


def towers_of(kind: str) -> tuple[str | None, ...]:
    return TOWERS.get(kind, (None,))


def prepare(place: Path) -> None:
    """Imports what a checkpoint's way in and out needs: a fork then starts at once."""
    for package in (onetrunk.interop, huggingface):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")


def units(**amounts: int) -> list[str]:
    return list(FAMILIES_OF_TRIALS)


def try_unit(kind: str, checks: Checks, place: Path, limits: Limits, rounds: int) -> None:
    """One family, with `rounds` seeds: in, out to transformers and back, out to llama.cpp."""
    from_transformers(place, checkpoints.write(kind, place)[0])  # what they import is there for every fork
    export = _export if kind in (*DECODERS, *FILLING) else _export_pictures
    for turn in range(rounds):
        name = f"{kind}/{turn}"
        for tower in towers_of(kind):
            of_tower = name if tower is None else f"{kind} ({tower})/{turn}"
            _measured(checks, "imports", of_tower, partial(_import, checks, place, kind, tower, of_tower), limits)
        _measured(checks, "exports to transformers", name, partial(export, checks, place, kind, name), limits)
        if kind in DECODERS:
            to_gguf = partial(_export, checks, place, kind, name, "gguf")
            _measured(checks, "exports to llama.cpp", name, to_gguf, limits)


def _measured(checks: Checks, kind: str, name: str, work: Any, limits: Limits) -> None:
    outcome = attempt(work, limits)
    worst = outcome.value if outcome.kind == DONE else float("inf")
    refused = kind == "exports to llama.cpp" and outcome.kind == REFUSED  # said, and nothing written
    checks.add(kind, name, worst <= CLOSE.get(kind, _CLOSE) or refused, outcome, f"differs by {worst:.2g}")
    if outcome.kind == DONE:
        checks.worst[kind] = max(checks.worst.get(kind, 0.0), worst)


def _written(place: Path, kind: str, name: str, checks: Checks) -> tuple[Path, Any, Any, random.Random]:
    dice = checks.dice("models", name)
    folder = place / "checkpoint"
    shutil.rmtree(place, ignore_errors=True)
    return folder, *checkpoints.write(kind, folder, seed=dice.getrandbits(31)), dice


def _import(checks: Checks, place: Path, kind: str, tower: str | None, name: str) -> float:
    folder, reference, tool, dice = _written(place, kind, name, checks)
    return compare(folder, kind, tower, reference, tool, dice)


def _export(checks: Checks, place: Path, kind: str, name: str, to: str = "huggingface") -> float:
    """Of the numbers that the export's own check measures, and of what transformers reads from the folder."""
    folder, reference, words, dice = _written(place, kind, name, checks)
    model, values = huggingface.read(folder), texts(dice)
    measured = onetrunk.export(model, {"text": values}, to=to, ask="text", out=str(place / "out"), quiet=True)
    worst = float(measured["worst_difference"])
    if to == "gguf":
        return worst if measured["equal_answers"] == measured["rows"] else float("inf")
    again = from_transformers(place / "out", reference)
    ids = torch.tensor([dice.choices(range(5, 25), k=20)])
    with torch.no_grad():
        worst = max(worst, difference(again(ids).logits, reference(ids).logits))
    tokenizer = hf.AutoTokenizer.from_pretrained(place / "out", local_files_only=True)
    same = all(tokenizer(text)["input_ids"] == words(text)["input_ids"] for text in values)
    return (
        worst
        if same and json.loads((place / "out" / "config.json").read_text())["model_type"] in FAMILIES
        else float("inf")
    )


def _export_pictures(checks: Checks, place: Path, kind: str, name: str) -> float:
    """Of the export's own check, and of what comes back from its folder."""
    folder, reference, tool, dice = _written(place, kind, name, checks)
    model = huggingface.read(folder, "image" if kind in TOWERS else None)
    told: dict[str, Any] = {"to": "huggingface", "ask": "image", "out": str(place / "out"), "quiet": True}
    measured = onetrunk.export(model, {"image": pictures(dice)}, **told)
    if measured["equal_answers"] != measured["rows"]:
        return float("inf")
    again = huggingface.read(place / "out")
    processor = tool[1] if isinstance(tool, tuple) else tool
    worst = picture_difference(again, reference, processor, pictures(dice), kind)
    return max(float(measured["worst_difference"]), worst)
