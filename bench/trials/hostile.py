"""Hostile files: bombs, pickles, paths that lead elsewhere, shapes that cannot be. Each is refused with a plain
message, or does nothing; no code of it runs, and memory stays bounded."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import random
import shutil
import struct
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import parquet

import onetrunk
from bench.trials import models
from bench.trials.attempts import DONE, REFUSED, Limits, attempt
from bench.trials.checks import Checks
from bench.trials.mutations import encoded, read_cells
from onetrunk.core.config import read_yaml
from onetrunk.inference.model_folder import load
from onetrunk.interop import huggingface, keras
from onetrunk.storage.strict_json import read_json
from onetrunk.storage.tensors import load_tensors

CANARY = "executed"
Case = Callable[[Path, random.Random], Callable[[], Any]]
CASES: dict[str, Case] = {}
INERT = {"code that a configuration names"}  # read, and nothing of it runs


class Canary:
    """Whoever unpickles it leaves a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.place / CANARY,)


def case(name: str) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        CASES[name] = function
        return function

    return add


# -- bombs -----------------------------------------------------------------------------------------------------------
@case("gzip bomb")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    with gzip.open(place / "bomb.csv.gz", "wb") as file:
        for _ in range(dice.randrange(600, 900)):
            file.write(b"a,b\n" * (1 << 18))
    return lambda: read_cells(place / "bomb.csv.gz")


@case("Parquet bomb")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    zeros = pa.array(np.zeros(dice.randrange(8, 12) * 1_000_000))
    table = pa.table({f"n{i}": zeros for i in range(40)})
    parquet.write_table(table, place / "bomb.parquet", compression="zstd")
    return lambda: read_cells(place / "bomb.parquet")


@case("Arrow bomb")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    batch = pa.record_batch({"a": np.zeros(1 << 22)})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(place / "bomb.arrow", batch.schema, options=options) as writer:
        for _ in range(dice.randrange(40, 60)):
            writer.write_batch(batch)
    return lambda: read_cells(place / "bomb.arrow")


@case("workbook bomb")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    with zipfile.ZipFile(place / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as file, \
            file.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:  # fmt: skip
        for _ in range(dice.randrange(600, 900)):
            sheet.write(b"<c>" * (1 << 18))
    return lambda: read_cells(place / "bomb.xlsx")


@case("PNG that says it is huge")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    from PIL import Image

    Image.new("L", (8, 8)).save(file := io.BytesIO(), "png")
    data = bytearray(file.getvalue())
    data[16:24] = struct.pack(">II", dice.randrange(40_000, 60_000), dice.randrange(40_000, 60_000))
    data[29:33] = struct.pack(">I", _crc(bytes(data[12:29])))
    return lambda: encoded("image", bytes(data))


@case("picture of many pixels")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    Image.new("1", (dice.randrange(15_000, 18_000),) * 2).save(file := io.BytesIO(), "png")
    return lambda: encoded("image", file.getvalue())


@case("sound whose header lies")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    with wave.open(file := io.BytesIO(), "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(b"\1\2" * 500)
    data = bytearray(file.getvalue())
    data[24:28] = struct.pack("<I", dice.choice([0, 0xFFFFFFFF, 1]))  # the rate
    data[40:44] = struct.pack("<I", 0xFFFFFFF0)
    return lambda: encoded("audio", bytes(data))


@case("long silence")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    import soundfile

    with soundfile.SoundFile(place / "long.flac", "w", 8000, 1) as file:
        for _ in range(dice.randrange(150, 200)):
            file.write(np.zeros(1 << 20, dtype=np.int16))
    data = (place / "long.flac").read_bytes()
    return lambda: encoded("audio", data)


@case("YAML of references")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, dice.randrange(9, 20))]
    (place / "run.yaml").write_text("\n".join(lines))
    return lambda: onetrunk.train({"x": [1, 2], "y": [1, 2]}, ask=["y"], config=str(place / "run.yaml"),
                                  out=str(place / "m"), quiet=True)  # fmt: skip


@case("YAML that makes objects")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    path = f"!!python/object/apply:pathlib.Path [{place / CANARY}]"
    (place / "run.yaml").write_text(f"size: !!python/object/apply:pathlib.Path.touch [{path}]\n")
    return lambda: read_yaml(place / "run.yaml")


@case("deep or long JSON")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    text = dice.choice(
        ['{"a":' * 100_000, "[" * 200_000, '{"a": ' + "9" * 5000 + "}", '{"a": 1, "a": 2}', '{"a": NaN}']
    )
    (place / "x.json").write_text(text)
    return lambda: read_json(place / "x.json")


@case("tokenizer that makes texts longer")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * dice.randrange(2, 5)}
    return _with_tokenizer(place, normalizer={"type": "Sequence", "normalizers": [double] * dice.randrange(20, 40)})


@case("tokenizer with a slow pattern")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    pattern = dice.choice([r"(a+)+$", r"(a|aa)+$", r"(a*)*b", r"([a-z]+)*\d", r"(?:a?){60}a{60}"])
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return _with_tokenizer(place, pre_tokenizer=split)


@case("configuration of a huge model")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    folder = _checkpoint(place)
    key = dice.choice(
        ["hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size", "max_position_embeddings"]
    )
    _change(folder / "config.json", **{key: dice.choice([10**9, 2**31, 2**62]), "num_attention_heads": 1})
    if key == "max_position_embeddings":  # nothing of that size is made of it: it is read as what it says
        _change(folder / "config.json", num_hidden_layers=10**9)
    return lambda: huggingface.read(folder) and None


@case("safetensors that lie")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    many = dice.choice([10**6, 10**12, 2**62])
    header = {"a": {"dtype": "F32", "shape": [many], "data_offsets": [0, 4 * many]}}
    text = json.dumps(header).encode()
    length = dice.choice([len(text), 1 << 40, 1 << 63, 0])
    (place / "x.safetensors").write_bytes(struct.pack("<Q", length) + text + b"0000")
    return lambda: load_tensors(place / "x.safetensors") and None


@case("Keras weights nobody wrote")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    import h5py

    side = dice.randrange(1 << 14, 1 << 15)
    with h5py.File(place / "x.weights.h5", "w") as file:
        file.create_dataset("layers/embedding/vars/0", (side, side), "f4", chunks=(1 << 10, 1 << 10))
    return lambda: keras.read(place / "x.weights.h5") and None


@case("Keras weights of another rank")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    import h5py

    shapes = {"embedding": [(3, 4, 5)], "lstm": [(4, 8), (2, 8), (8,)], "dense": [(2, 1), (1,)]}
    odd = dice.choice(list(shapes))
    shapes[odd] = [tuple(dice.randrange(1, 6) for _ in range(dice.randrange(4))) for _ in shapes[odd]]
    shapes["embedding"] = shapes["embedding"] if odd == "embedding" else [(dice.randrange(1, 4), 4, 5)]
    with h5py.File(place / "x.weights.h5", "w") as file:
        for layer, arrays in shapes.items():
            for i, shape in enumerate(arrays):
                file.create_dataset(f"layers/{layer}/vars/{i}", data=np.zeros(shape, dtype=np.float32))
    return lambda: keras.read(place / "x.weights.h5") and None


@case("arrays of another rank in tables")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    shape = tuple(dice.randrange(1, 4) for _ in range(dice.choice([0, 1, 4, 5, 6])))
    value, kind = np.zeros(shape, dtype=np.uint8), dice.choice(["image", "audio"])
    if kind == "audio" and len(shape) == 1:
        shape = (2, 3, 4)
    return lambda: encoded(kind, np.zeros(shape, dtype=np.float32) if kind == "audio" else value)  # type: ignore[arg-type]


# -- code ------------------------------------------------------------------------------------------------------------
@case("pickle in every door")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    data = pickle.dumps(Canary(place), protocol=dice.randrange(6))
    door = dice.randrange(7)
    if door < 3:
        path = place / f"x.{['csv', 'parquet', 'json'][door]}"
        path.write_bytes(data + b"\n\0\xff")
        return lambda: read_cells(path)
    if door == 3:
        folder = _checkpoint(place)
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(data)
        return lambda: huggingface.read(folder) and None
    if door == 4:
        (place / "x.safetensors").write_bytes(data)
        return lambda: load_tensors(place / "x.safetensors") and None
    if door == 5:
        return lambda: encoded(dice.choice(["image", "audio"]), data)
    folder = _checkpoint(place)
    torch.save({"model.norm.weight": Canary(place)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return lambda: onetrunk.import_(str(folder), out=str(place / "m"), convert=True, quiet=True) and None


@case("array file that holds objects")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    array = np.empty(1, dtype=object)
    array[0] = Canary(place)
    np.save(place / "x.npy", array, allow_pickle=True)
    return lambda: read_cells(place / "x.npy")


@case("code that a configuration names")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    folder = _checkpoint(place)
    _change(folder / "config.json", auto_map={"AutoModelForCausalLM": "evil.Evil"}, trust_remote_code=True)
    (folder / "evil.py").write_text(f"open({str(place / CANARY)!r}, 'w')")
    return lambda: huggingface.read(folder) and None


# -- paths -----------------------------------------------------------------------------------------------------------
@case("shards elsewhere")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    folder = _checkpoint(place)
    (folder / "model.safetensors").rename(place / "x.safetensors")
    where = dice.choice(["../x.safetensors", str(place / "x.safetensors"), "a/../../x.safetensors", "..", "", "\0"])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.norm.weight": where}}))
    return lambda: huggingface.read(folder) and None


@case("manifest that leads elsewhere")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    (place / "m").mkdir()
    name = dice.choice(["../x", "/etc/hostname", "a/../../x", "", "\0"])
    told = {"format": 2, "files": {name: {"size": 0, "sha256": ""}}}
    (place / "m" / "manifest.json").write_text(json.dumps(told))
    return lambda: load(place / "m") and None


@case("link to another place instead of a file")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    folder = _checkpoint(place)
    file = dice.choice(["config.json", "model.safetensors", "tokenizer.json"])
    (folder / file).unlink()
    (folder / file).symlink_to(dice.choice(["/etc/passwd", "/proc/self/environ", "/dev/zero", str(folder / file), "/"]))
    return lambda: huggingface.read(folder) and None


@case("pipe instead of a file")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    name = dice.choice(["x.csv", "x.json", "x.parquet", "x.csv.gz", "x.arrow", "x.jsonl", "x.yaml"])
    os.mkfifo(place / name)
    return lambda: read_yaml(place / name) if name.endswith("yaml") else read_cells(place / name)


@case("pipe in a checkpoint")
def _(place: Path, dice: random.Random) -> Callable[[], Any]:
    folder = _checkpoint(place)
    file = dice.choice(["config.json", "model.safetensors", "tokenizer.json"])
    (folder / file).unlink()
    os.mkfifo(folder / file)
    return lambda: huggingface.read(folder) and None


# -- pieces ----------------------------------------------------------------------------------------------------------
def _crc(data: bytes) -> int:
    import zlib

    return zlib.crc32(data)


def _checkpoint(place: Path) -> Path:
    models.checkpoints.write("qwen3", place / "checkpoint")
    return place / "checkpoint"


def _change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _with_tokenizer(place: Path, **parts: Any) -> Callable[[], Any]:
    folder = _checkpoint(place)
    _change(folder / "tokenizer.json", **parts)
    return lambda: huggingface.read(folder).encoder("text").encode("a" * 2000 + "!") and None


def prepare(place: Path) -> None:
    """Nothing is shared."""


def units(**amounts: int) -> list[str]:
    return list(CASES)


def try_unit(name: str, checks: Checks, place: Path, limits: Limits, rounds: int) -> None:
    """A case, with `rounds` seeds."""
    for turn in range(rounds):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        outcome = attempt(CASES[name](place, checks.dice("hostile", f"{name}/{turn}")), limits)
        holds = outcome.kind == (DONE if name in INERT else REFUSED)
        ran = (place / CANARY).exists()
        checks.add("hostile files", f"{name}/{turn}", holds and not ran, outcome, "its code ran" if ran else "")
