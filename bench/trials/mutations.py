"""Mutations: a file with changed bytes, cut off, or with changed words is read or refused. It is never a traceback, a
hang, or gigabytes; where something says what must be there, it is refused or read as what it says, never in silence."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import shutil
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

import onetrunk
from bench.trials import models
from bench.trials.attempts import DONE, REFUSED, Limits, Outcome, attempt
from bench.trials.checks import Checks
from onetrunk.core.registry import column_types
from onetrunk.data.table import Table, read
from onetrunk.inference.model_folder import load
from onetrunk.interop import huggingface
from onetrunk.storage import atomic

WILD: list[Any] = [
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, 10**18, 0.5, -0.0, 1e300, "", "x", "gelu", "../x", "\x1b[31m", "🙂",
    [], [[]], [1], {}, {"a": {"b": 1}}, ["x"] * 50,
]  # fmt: skip
_WHOLE = ("parquet", "arrow", "json", "csv.gz", "xlsx")  # whose formats say where they end: cut off, they are refused
_LIKE = 1e-3  # numbers that are as far from transformers' are others


# -- files -----------------------------------------------------------------------------------------------------------
def table_files() -> dict[str, bytes]:
    """A small table in every format."""
    table = pa.table(
        {
            "i": [1, 2, None, 4] * 20,
            "s": ["ab", "c", None, "defg"] * 20,
            "list": [[1, 2], [], None, [3]] * 20,
            "known": pa.array(["x", "y", "x", None] * 20).dictionary_encode(),
            "part": [{"a": 1, "b": "q"}, None, {"a": 2, "b": "z"}, {"a": 3, "b": None}] * 20,
            "day": pa.array([datetime(2020, 1, 1)] * 80, pa.timestamp("us")),
            "bytes": [b"xy", None, b"", b"zz"] * 20,
        }
    )
    made = {"parquet": io.BytesIO(), "arrow": io.BytesIO(), "stream.arrow": io.BytesIO()}
    parquet.write_table(table, made["parquet"])
    for name, new in (("arrow", pa.ipc.new_file), ("stream.arrow", pa.ipc.new_stream)):
        with new(made[name], table.schema) as writer:
            writer.write_table(table)
    lines = "\n".join(json.dumps({"a": i, "b": "text", "c": [1, {"d": None}]}) for i in range(20)).encode()
    csv = b'a,b,"c d"\n' + b'1,2.5,"x, ""y"""\n' * 20
    return {name: file.getvalue() for name, file in made.items()} | {
        "jsonl": lines, "json": b"[" + lines.replace(b"\n", b",") + b"]", "csv": csv, "csv.gz": gzip.compress(csv),
    }  # fmt: skip


def media_files() -> dict[str, bytes]:
    """A small picture and a short sound in the usual formats."""
    import soundfile
    from PIL import Image

    dice, out = np.random.default_rng(0), {}
    picture = Image.fromarray(dice.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    for kind in ("png", "jpeg", "gif", "bmp", "webp", "tiff"):
        picture.save(file := io.BytesIO(), kind)
        out[kind] = file.getvalue()
    for kind in ("wav", "flac", "ogg"):
        soundfile.write(file := io.BytesIO(), 0.3 * dice.normal(size=4000), 8000, format=kind.upper())
        out[kind] = file.getvalue()
    return out


def changed_bytes(data: bytes, dice: random.Random) -> bytes:
    """With some bits turned, or bytes taken out, put in or doubled."""
    out = bytearray(data)
    for _ in range(dice.choice([1, 1, 1, 3, 20])):
        place, kind = dice.randrange(len(out)), dice.randrange(6)
        if kind < 3:
            out[place] ^= 1 << dice.randrange(8)
        elif kind == 3:
            out[place] = dice.choice([0, 0xFF, 0x7F, 0x80])
        elif kind == 4 and len(out) > 9:
            del out[place : place + dice.randrange(1, 9)]
        else:
            out[place:place] = out[place : place + dice.randrange(1, 40)]
    return bytes(out)


def changed_json(data: Any, dice: random.Random) -> Any:
    """With one value that is another one, missing, or under another name. Keys near the top as often as deep ones."""
    data = json.loads(json.dumps(data))
    here = data
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            return data
        key = dice.choice(keys)
        if isinstance(here[key], dict | list) and here[key] and dice.random() < 0.8:
            here = here[key]
            continue
        kind = dice.randrange(6)
        if kind == 0:
            del here[key]
        elif kind == 1 and isinstance(here, dict):
            here[f"{key}x"] = here.pop(key)
        elif kind == 2 and isinstance(here[key], int | float) and not isinstance(here[key], bool):
            here[key] = here[key] * dice.choice([2, -1, 0.5, 1000])
        else:
            here[key] = dice.choice([*WILD, here[dice.choice(keys)]])
        return data


# -- what becomes of them --------------------------------------------------------------------------------------------
def cells(table: Table) -> str:
    """A digest of all cells, which are read."""
    rows = {name: list(table[name]) for name in table.names}
    return hashlib.sha256(repr(rows).encode("utf-8", "surrogatepass")).hexdigest()


def read_cells(path: Path) -> str:
    return cells(read(path))


def encoded(kind: str, value: bytes) -> bool:
    """A picture or a sound, through the encoder of its column."""
    encoder = column_types.get(kind).encoder({})
    encoder.fit([value])
    encoder.encode(value)
    return True


def _ends(outcome: Outcome) -> bool:
    return outcome.kind in (DONE, REFUSED)


def _alike(outcome: Outcome) -> bool:
    """Refused, or read as transformers reads it, where it does."""
    return outcome.kind == REFUSED or (outcome.kind == DONE and (outcome.value is None or outcome.value <= _LIKE))


class Mutations:
    """Each kind of them, in one folder."""

    def __init__(self, checks: Checks, place: Path, limits: Limits) -> None:
        self.checks, self.place, self.limits = checks, place, limits
        place.mkdir(parents=True)

    def _check(self, kind: str, name: str, work: Callable[[], Any], holds: Callable[[Outcome], bool] = _ends) -> None:
        outcome = attempt(work, self.limits)
        self.checks.add(kind, name, holds(outcome), outcome, outcome.value)

    def table(self, name: str, whole: bytes, n: int) -> None:
        """Bytes, and where the file ends."""
        path = self.place / f"table.{name}"
        path.write_bytes(whole)

        def read_it() -> str:
            return read_cells(path)

        right = attempt(read_it, self.limits).value
        for i in range(n):
            dice = self.checks.dice("tables", f"{name}/{i}")
            path.write_bytes(changed_bytes(whole, dice))
            self._check(f"{name}: changed bytes", f"{name}/{i}", read_it)
            if name in _WHOLE:
                path.write_bytes(whole[: dice.randrange(1, len(whole))])
                self._check(f"{name}: cut off", f"{name}/{i}", read_it,
                            lambda o: o.kind == REFUSED or o.value == right)  # fmt: skip

    def medium(self, name: str, whole: bytes, n: int) -> None:
        kind = "audio" if name in ("wav", "flac", "ogg") else "image"
        for i in range(n):
            data = changed_bytes(whole, self.checks.dice("media", f"{name}/{i}"))
            self._check(f"{name}: changed bytes", f"{name}/{i}", lambda data=data: encoded(kind, data))

    def folders(self, n: int) -> None:
        """Our own: every byte is checked by the manifest, and what a manifest vouches for is checked by itself."""
        rows = {"x": [i * 0.37 % 1 for i in range(40)], "t": ["a b", "c d"] * 20, "label": ["good", "bad"] * 20}
        whole, copy = self.place / "model", self.place / "copy"
        onetrunk.finetune(rows, ask=["label"], out=str(whole), size="nano", quiet=True,
                          settings=["finetune.steps=2", "train.tensorboard=false"])  # fmt: skip
        files = sorted(p for p in atomic.read_manifest(whole) if not p.startswith("evidence/figures"))

        def answers() -> list[Any]:
            model = load(copy)
            asked = {name: values[:6] for name, values in rows.items()}
            return [[answer.value, answer.probability] for answer in model.answer(asked, "label")]

        shutil.copytree(whole, copy)
        right = attempt(answers, self.limits).value
        for i in range(n):
            dice = self.checks.dice("folders", str(i))
            file = dice.choice([*files, "manifest.json"])
            _fresh(whole, copy)
            (copy / file).write_bytes(changed_bytes((whole / file).read_bytes(), dice))
            self._check("model folders: changed bytes", f"{i} {file}", answers,
                        lambda o: o.kind == REFUSED or (o.kind == DONE and o.value == right))  # fmt: skip
            _fresh(whole, copy)
            file = dice.choice([name for name in files if name.endswith(".json")])
            _rewrite(copy, file, json.dumps(changed_json(json.loads((copy / file).read_text()), dice)).encode())
            self._check("model folders: changed words", f"{i} {file}", answers)
            _fresh(whole, copy)
            file = dice.choice([name for name in files if name.endswith(".safetensors")])
            _rewrite(copy, file, _changed_header((copy / file).read_bytes(), dice))
            self._check("model folders: changed tensors", f"{i} {file}", answers)

    def checkpoints(self, kind: str, n: int) -> None:
        """Other people's: what is read is what transformers reads, or it is refused."""
        made = models.checkpoints.write(kind, self.place / kind)
        for i in range(n):
            self._checkpoint(kind, made, i)

    def _checkpoint(self, kind: str, made: tuple[Any, Any], i: int) -> None:
        whole, copy, dice = self.place / kind, self.place / "copy", self.checks.dice("checkpoints", f"{kind}/{i}")
        texts, tower = sorted(path.name for path in whole.glob("*.json")), dice.choice(models.towers_of(kind))
        _fresh(whole, copy)
        file = dice.choice([*texts, "model.safetensors"])
        data = (copy / file).read_bytes()
        data = _changed_header(data, dice) if file.endswith("safetensors") else changed_bytes(data, dice)
        (copy / file).write_bytes(data)
        name = f"{kind}/{i} {file}"
        self._check("checkpoints: changed bytes", name, lambda: bool(huggingface.read(copy, tower)))
        _fresh(whole, copy)
        file = dice.choice(["config.json", "config.json", *texts])
        told = changed_json(json.loads((copy / file).read_text(encoding="utf-8")), dice)
        (copy / file).write_text(json.dumps(told), encoding="utf-8")
        self._check("checkpoints: changed words", f"{kind}/{i} {file}",
                    lambda: self._like_transformers(copy, kind, tower, made, dice), _alike)  # fmt: skip

    def _like_transformers(
        self, folder: Path, kind: str, tower: str | None, made: tuple[Any, Any], dice: random.Random
    ) -> float | None:
        """The worst difference; None where transformers does not open it."""
        huggingface.read(folder, tower)
        warnings.simplefilter("ignore")
        try:
            reference = models.from_transformers(folder, made[0])
            tool = _opened_alike(folder, made[1])
            models.compare(self.place / kind, kind, tower, reference, tool, random.Random(0))
        except Exception:
            return None  # another program's faults, of any kind
        return models.compare(folder, kind, tower, reference, tool, dice)


def _opened_alike(folder: Path, tool: Any) -> Any:
    """Tokenizers and processors, of the classes of these, as transformers reads them from the folder."""
    if isinstance(tool, tuple):
        return tuple(_opened_alike(folder, each) for each in tool)
    return None if tool is None else type(tool).from_pretrained(folder, local_files_only=True)


def _fresh(whole: Path, copy: Path) -> None:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)


def _rewrite(folder: Path, file: str, data: bytes) -> None:
    """A changed file for which the manifest vouches."""
    (folder / file).write_bytes(data)
    told = json.loads((folder / "manifest.json").read_text())
    told["files"][file] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(told))


def _changed_header(data: bytes, dice: random.Random) -> bytes:
    """Of a safetensors file: its words, its bytes, or its length."""
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length], data[8 + length :]
    if dice.random() < 0.7:
        header = json.dumps(changed_json(json.loads(header), dice)).encode()
    else:
        header = changed_bytes(header, dice)
    rest = rest[: dice.randrange(len(rest))] if dice.random() < 0.1 else rest
    return len(header).to_bytes(8, "little") + header + rest


def prepare(place: Path) -> None:
    """Nothing is shared."""


def units(**amounts: int) -> list[str]:
    """A format, the model folders, or a family of checkpoints."""
    return ["model folders", *models.FAMILIES_OF_TRIALS, *table_files(), *media_files()]


def try_unit(name: str, checks: Checks, place: Path, limits: Limits, mutations: int) -> None:
    """So many of each kind of table and of model folders, half of it of a medium, a quarter of a family."""
    each = Mutations(checks, place, limits)
    if name == "model folders":
        each.folders(mutations)
    elif name in models.FAMILIES_OF_TRIALS:
        each.checkpoints(name, max(1, mutations // 4))
    elif name in (tables := table_files()):
        each.table(name, tables[name], mutations)
    else:
        each.medium(name, media_files()[name], max(1, mutations // 2))
