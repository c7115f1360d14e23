"""Files that are small only as long as they are packed are refused while they are unpacked, and files with changed
bytes are an error: no crash, no traceback."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import os
import random
import re
import subprocess
import sys
import zipfile
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from bench.trials.attempts import Limits, attempt
from bench.trials.mutations import read_cells, table_files
from onetrunk.core import unpacking
from onetrunk.core.config import read_yaml
from onetrunk.core.errors import BadValueError, DataError, ModelFileError, UsageError
from onetrunk.core.registry import column_types
from onetrunk.data.duplicates import fingerprint_keys
from onetrunk.data.table import read
from onetrunk.storage.strict_json import read_json


@pytest.fixture
def small_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb is what gives more than 1 MB and 500 times its own size."""
    monkeypatch.setattr(unpacking.Unpacked.__init__, "__defaults__", (1 << 20, 500))


# -- bombs -----------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("small_bombs")
def test_gzip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * (32 << 18)))
    taken = Counter[str]()
    raw = gzip.GzipFile.read

    def counted(file: gzip.GzipFile, size: int | None = -1) -> bytes:
        data = raw(file, size)
        taken["bytes"] += len(data)
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    with pytest.raises(DataError, match=r"table\.csv\.gz: its .* bytes unpack to .*, over 500 times as many"):
        read(path)
    assert 1 << 20 < taken["bytes"] < 500 * path.stat().st_size + (2 << 20), "it stops where it is known"


@pytest.mark.usefixtures("small_bombs")
def test_gzip_of_utf_16(tmp_path: Path) -> None:
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(("a\n" + "1\n" * (1 << 22)).encode("utf-16")))
    with pytest.raises(DataError, match="over 500 times as many"):
        read(tmp_path / "table.csv.gz")


@pytest.mark.usefixtures("small_bombs")
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_parquet_and_arrow(tmp_path: Path, suffix: str) -> None:
    path, table = tmp_path / f"table.{suffix}", pa.table({"a": np.zeros(4_000_000), "n": pa.nulls(4_000_000)})
    if suffix == "parquet":
        parquet.write_table(table, path, compression="zstd")
    else:
        with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table, max_chunksize=1000_000)
    with pytest.raises(DataError, match="over 500 times as many"):
        read(path)


def _claiming(codec: str, dictionary: bool, field: int, number: int) -> bytes:
    """A Parquet file whose first page header says another number: field 1 is its size unpacked, 2 packed, 3 the count
    of its values."""
    stream = io.BytesIO()
    column = pa.array([f"abc{i % 7}" for i in range(1000)]) if dictionary else pa.array(np.arange(1000))
    parquet.write_table(
        pa.table({"a": column}), stream, compression=codec, use_dictionary=dictionary, write_statistics=False
    )
    whole = stream.getvalue()
    chunk = parquet.read_metadata(io.BytesIO(whole)).row_group(0).column(0)
    end = chunk.dictionary_page_offset or chunk.data_page_offset

    def coded(n: int) -> bytes:
        low, n = b"", n * 2
        while n > 127:
            low, n = low + bytes([n & 127 | 128]), n >> 7
        return low + bytes([n])

    for i in range(field + 1):
        start = end + (2 if i == 3 else 1)  # the count is in a struct of its own
        end = start
        while whole[end] >= 128:
            end += 1
        end += 1
    grown = len(coded(number)) - (end - start)
    out = whole[:start] + coded(number) + whole[end:]
    footer = len(out) - 8 - int.from_bytes(out[-8:-4], "little")
    told = {chunk.total_compressed_size, *([chunk.data_page_offset] if dictionary else [])}
    rest = out[footer:]
    for size in told:
        rest = rest.replace(b"\x26" + coded(size), b"\x26" + coded(size + grown))  # 26: the next field but one, 64 bits
        rest = rest.replace(b"\x16" + coded(size), b"\x16" + coded(size + grown))
    return out[:footer] + rest


@pytest.mark.parametrize(
    ("codec", "dictionary", "field", "message"),
    [
        ("zstd", False, 1, "unpack to 2,000,000,000 or more, over 500 times as many"),
        ("snappy", False, 1, "unpack to 2,000,000,000 or more, over 500 times as many"),
        ("gzip", False, 1, "unpack to 2,000,000,000 or more, over 500 times as many"),
        ("none", True, 3, "one of its dictionaries claims 2,000,000,000 values in"),
        ("none", False, 2, "is not a whole Parquet file"),
        ("none", False, 3, "is not a whole Parquet file"),
    ],
)
def test_a_page_that_claims_too_much(tmp_path: Path, codec: str, dictionary: bool, field: int, message: str) -> None:
    """Nothing is reserved for what it claims."""
    path = tmp_path / "a.parquet"
    path.write_bytes(_claiming(codec, dictionary, field, 2_000_000_000))
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(DataError, match=message):
        read(path)
    assert pa.default_memory_pool().max_memory() < before + (16 << 20)


_EVERY_FOOTER = """
import contextlib, sys
from pathlib import Path
from onetrunk.core.errors import DataError
from onetrunk.data.table import read

path = Path(sys.argv[1])
whole = path.read_bytes()
first = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
for place in range(first, len(whole) - 8):
    for change in (1, 8, 64):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
        with contextlib.suppress(DataError):
            table = read(path)
            list(map(table.__getitem__, table.names))
"""


def test_no_change_of_a_parquet_footer_ends_the_process(tmp_path: Path) -> None:
    """As Arrow does where it is asked for a column's place, and the column's statistics are not of its kind."""
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"a": [1, 2, None] * 9, "l": [[1], None, [2, 3]] * 9}), path)
    done = subprocess.run([sys.executable, "-c", _EVERY_FOOTER, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_dictionary_that_claims_too_much_is_not_looked_into(tmp_path: Path) -> None:
    """Of its 16 million values two are there: asking for its size would be an access beyond the file's end."""
    path = tmp_path / "a.arrow"
    table = pa.table({"a": pa.array(["x", "y"] * 40).dictionary_encode()})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    whole = path.read_bytes()

    def claims(data: bytes) -> bool:
        with contextlib.suppress(pa.ArrowException, OSError, KeyError):
            return len(pa.ipc.open_file(pa.BufferReader(data)).get_batch(0).column(0).dictionary) > 1 << 24
        return False

    changed = [
        whole[:i] + b"\1" + whole[i + 1 :]
        for i in range(8, len(whole) // 2)
        if whole[i - 3 : i + 5] == b"\2" + bytes(7)
    ]
    found = [data for data in changed if claims(data)]
    assert found
    for data in found:
        path.write_bytes(data)
        with pytest.raises(DataError, match="is not a whole Arrow file: In column 0"):
            read(path)


def test_every_change_of_a_page_header_is_refused_or_read(tmp_path: Path) -> None:
    """Also where a number's place holds a struct, or nothing."""
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"a": ["p", "q"] * 50}), path, compression="none", write_statistics=False)
    whole = path.read_bytes()
    for place in range(4, 24):
        for byte in range(0, 256, 3):
            path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
            with contextlib.suppress(DataError):
                assert len(read(path)["a"]) == 100


@pytest.mark.usefixtures("small_bombs")
def test_pages_that_unpack_to_too_much_are_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is unpacked, though they hold what they claim."""
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"a": np.zeros(4_000_000)}), path, compression="zstd", use_dictionary=False)
    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", lambda *_: pytest.fail("they were unpacked"))
    with pytest.raises(DataError, match="over 500 times as many"):
        read(path)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "snappy", "zstd"])
def test_pages_of_all_kinds_are_read(tmp_path: Path, version: str, codec: str) -> None:
    path = tmp_path / "a.parquet"
    values = {"t": [f"text {i % 50}" for i in range(20_000)], "n": list(range(20_000)), "f": [None, 1.5] * 10_000}
    parquet.write_table(
        pa.table(values), path, compression=codec, data_page_version=version, data_page_size=4096, row_group_size=7000
    )
    found = read(path)
    assert {name: list(found[name]) for name in found.names} == values


@pytest.mark.usefixtures("small_bombs")
def test_workbook(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("xl/worksheets/sheet1.xml", b"<" + b" " * (8 << 20))
    pytest.importorskip("python_calamine")
    with pytest.raises(DataError, match="over 500 times as many"):
        read(tmp_path / "book.xlsx")


@pytest.mark.usefixtures("small_bombs")
def test_sound(tmp_path: Path) -> None:
    import soundfile

    from onetrunk.media.audio import open_audio

    path = tmp_path / "silence.flac"
    soundfile.write(path, np.zeros(4_000_000, dtype=np.int16), 22_050)
    for value in (path, path.read_bytes()):
        with pytest.raises(BadValueError, match="over 500 times as many"):
            open_audio(value)


def test_keras_weights(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    from onetrunk.interop import keras

    with h5py.File(tmp_path / "x.weights.h5", "w") as file:
        file.create_dataset("layers/embedding/vars/0", (1 << 14, 1 << 14), "f4", chunks=(1 << 10, 1 << 10))  # unwritten
    with pytest.raises(ModelFileError, match="over 20 times as many"):
        keras.read(tmp_path / "x.weights.h5")


def test_a_tokenizer_that_makes_texts_longer(tmp_path: Path) -> None:
    from onetrunk.interop.huggingface.tokenizers import read_tokenizer

    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    steps = [double] * 30  # 2 ** 30 times as long
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    whole: dict[str, Any] = {"version": "1.0", "model": model, "normalizer": {"type": "Sequence", "normalizers": steps}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(ModelFileError, match="its normalizer makes a text up to 1,073,741,824 times as long"):
        read_tokenizer(tmp_path, {"model_type": "gpt2"})


def test_what_repeats_itself_is_no_bomb(tmp_path: Path) -> None:
    rows = 100_000
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"label\n" + b"yes\n" * rows))
    parquet.write_table(pa.table({"a": [1.0] * rows}), tmp_path / "a.parquet")
    assert len(read(tmp_path / "a.csv.gz")) == len(read(tmp_path / "a.parquet")) == rows


# -- changed bytes ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", list(table_files()))
def test_changed_bytes_are_read_or_refused(name: str, tmp_path: Path) -> None:
    whole, draw, outcomes = table_files()[name], random.Random(name), Counter[str]()
    path = tmp_path / f"table.{name}"
    for i in range(40):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 1, 3, 20])):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data[: draw.randrange(len(data))] if i % 8 == 0 else data)
        outcome = attempt(lambda: read_cells(path), Limits(seconds=30))
        outcomes[outcome.kind] += 1
        assert outcome.kind in ("done", "refused"), outcome.said
    path.write_bytes(whole)
    assert attempt(lambda: read_cells(path)).kind == "done" and outcomes["refused"]


def test_moments_that_python_cannot_hold_are_text(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"day": pa.array([0, 1 << 60], pa.timestamp("us"))}), tmp_path / "a.parquet")
    first, second = read(tmp_path / "a.parquet")["day"]
    assert first == datetime(1970, 1, 1) and isinstance(second, str) and "out of range" in second


# -- what is no file -------------------------------------------------------------------------------------------------
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    for name in ("pipe.csv", "pipe.json", "pipe.parquet"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match="is a pipe or a device: expected a file"):
            read(tmp_path / name)
    os.mkfifo(tmp_path / "run.yaml")
    with pytest.raises(UsageError, match=r"run\.yaml is no file"):
        read_yaml(tmp_path / "run.yaml")
    with pytest.raises(ModelFileError, match=r"run\.yaml is no file"):
        read_json(tmp_path / "run.yaml")
    folder = tmp_path / "table"
    folder.mkdir()
    os.mkfifo(folder / "a.csv")
    (folder / "b.csv").write_text("x\n1\n2\n")
    assert read(folder)["x"] == [1, 2]


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 5000 + ".csv", "a,b" * 5000, "nul\0.csv"])
def test_a_name_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError, match=r"Cannot look for|There is no file"):
        read(name)


# -- equal values, quickly -------------------------------------------------------------------------------------------
NUMBERS: list[Any] = [1, 1.0, -0.0, 0, None, 0.5, 2**53 - 1, 3, 3.0, None, -7.25, 1e15, 10**15]


@pytest.mark.parametrize("more", [[], ["1", "2"], [2**53, 2**53 + 1, float(2**53)], [10**400], [True], [float("inf")]])
def test_numbers_are_equal_as_their_fingerprints_are(more: list[Any]) -> None:
    values = NUMBERS + more
    encoder = column_types.get("number").encoder
    prints = [None if v is None else encoder.fingerprint(v) for v in values]
    keys = fingerprint_keys(values, "number")
    for (a, p), (b, q) in itertools.combinations(zip(keys.tolist(), prints, strict=True), 2):
        assert (a == b) == (p == q)
    assert ((keys == 0) == [v is None for v in values]).all()


@pytest.mark.parametrize("text", ["", "A b_c-D 9!", "\x00\x7f a", "Ärger_1", "你好，World", "_ -\n"])
def test_nearly_equal_texts_quickly(text: str) -> None:
    assert column_types.get("text").encoder.near_duplicate_key(text) == (re.sub(r"[\W_]+", "", text.lower()) or None)


def test_numbers_are_learnt_at_once_as_one_by_one() -> None:
    number = column_types.get("number").encoder
    values = [1, 2.5, -3, 10**6, 0.125]
    at_once, one_by_one = number({}), number({})
    at_once.fit(values)
    one_by_one.fit([str(v) for v in values])
    assert at_once.knowledge() == one_by_one.knowledge()
    assert number.recognise(values) == number.recognise([*map(str, values)]) == 0.95
    assert number.recognise([1, 2] * 30) == number.recognise(["1", "2"] * 30) == 0.6


def test_keras_arrays_of_another_rank(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    from onetrunk.interop import keras

    shapes = {"embedding": [(3, 4, 5)], "lstm": [(4, 8), (2, 8), (8,)], "dense": [(2, 1), (1,)]}
    with h5py.File(tmp_path / "x.weights.h5", "w") as file:
        for layer, arrays in shapes.items():
            for i, shape in enumerate(arrays):
                file.create_dataset(f"layers/{layer}/vars/{i}", data=np.zeros(shape, dtype=np.float32))
    with pytest.raises(
        ModelFileError, match=r"the arrays of embedding have the shapes \[3, 4, 5\]: expected Embedding"
    ):
        keras.read(tmp_path / "x.weights.h5")
