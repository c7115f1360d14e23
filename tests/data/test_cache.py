"""The cache: the same as without it, once for the same values, made again where it is damaged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import CASES

from onetrunk.core.errors import UsageError
from onetrunk.core.registry import column_types
from onetrunk.data.cache import ColumnCache
from onetrunk.storage.locks import FileLock

KINDS = [name for name in column_types.names() if column_types.get(name).encoder.costly]
SAME_BITS = ["train.precision=fp32", "train.compile=false"]  # else what is faster at the moment decides


def made(
    kind: str, cache: ColumnCache | None, values: Sequence[Any], **options: Any
) -> tuple[Any, Any, np.ndarray, list]:
    """The encoder, its content, which are present, and what was told of bad values."""
    encoder, complaints = column_types.get(kind).encoder(options or CASES[kind].options), []
    there = [v for v in values if v is not None]
    encoder.fit(there) if cache is None else cache.fit(encoder, kind, there)
    encode = encoder.encode_all if cache is None else lambda *a: cache.encode(encoder, kind, *a)
    content, present = encode(values, lambda i, reason: complaints.append((i, reason)))
    return encoder, content, present, complaints


def same(a: Any, b: Any) -> None:
    assert a[0].knowledge() == b[0].knowledge()
    left, right = a[1].gather(), b[1].gather()
    assert left.keys() == right.keys() and (a[1].lens == b[1].lens).all() and (a[2] == b[2]).all()
    for name in left:
        assert left[name].dtype == right[name].dtype and (left[name] == right[name]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_is_what_would_be_made(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [*CASES[kind].values, None, CASES[kind].values[0]]
    plain = made(kind, None, values)
    same(made(kind, ColumnCache(tmp_path), values), plain)
    kept = sorted(tmp_path.iterdir())
    assert [file.suffix for file in kept].count(".json") == 1 and len(kept) == 2
    with monkeypatch.context() as patched:
        for name in ("fit", "encode_all"):
            patched.setattr(column_types.get(kind).encoder, name, lambda *_: pytest.fail("it is kept"))
        same(made(kind, ColumnCache(tmp_path), values), plain)
    same(made(kind, ColumnCache(tmp_path), values[1:]), made(kind, None, values[1:]))
    assert len(list(tmp_path.iterdir())) == 4, "other values are other files"


def test_options_and_knowledge_count(tmp_path: Path) -> None:
    values, cache = ["to be", "or not to be"] * 4, ColumnCache(tmp_path)
    same(made("text", cache, values, unit="character"), made("text", None, values, unit="character"))
    same(made("text", cache, values, unit="bpe"), made("text", None, values, unit="bpe"))
    assert len(list(tmp_path.iterdir())) == 4


def test_the_damaged_is_made_again(tmp_path: Path) -> None:
    values = ["to be", "or not to be"] * 4
    first = made("text", ColumnCache(tmp_path), values)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-9])
    same(made("text", ColumnCache(tmp_path), values), first)
    for file in tmp_path.iterdir():
        file.write_text("{}")
    same(made("text", ColumnCache(tmp_path), values), first)


_KILLED_WHILE_WRITING = """
import os, sys
from pathlib import Path
from onetrunk.core.registry import column_types
from onetrunk.data.cache import ColumnCache
Path.replace = lambda *_: os._exit(9)
ColumnCache(sys.argv[1]).fit(column_types.get("text").encoder({}), "text", ["to be", "or not"] * 4)
"""


def test_the_next_run_removes_what_a_killed_one_began_and_waits_for_one_that_lives(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", _KILLED_WHILE_WRITING, tmp_path])
    assert ended.returncode == 9 and len(left := list(tmp_path.iterdir())) == 2
    with FileLock(tmp_path / ".lock"):  # somebody writes
        ColumnCache(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted(left)
    ColumnCache(tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_run_is_told_of_bad_values(tmp_path: Path) -> None:
    values = ["the sea", "\ud800", None, "a cat"]
    cache = ColumnCache(tmp_path)
    encoder = column_types.get("text").encoder({})
    encoder.fit(["the sea", "a cat"])
    for _ in range(2):
        bad_rows: list[int] = []
        content, present = cache.encode(
            encoder, "text", values, lambda i, reason, bad_rows=bad_rows: bad_rows.append(i)
        )
        assert bad_rows == [1] and present.tolist() == [True, False, False, True] and len(content) == 2
    assert not list(tmp_path.iterdir())


def test_what_is_fast_is_not_kept_and_the_folder_is_the_owners(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    same_kind = made("category", ColumnCache(folder), ["a", "b", None, "a"])
    assert same_kind[2].tolist() == [True, True, False, True] and not list(folder.iterdir())
    assert folder.stat().st_mode & 0o077 == 0
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="a file is in its way"):
        ColumnCache(tmp_path / "file")


def test_a_run_with_a_cache_is_the_run_without(tmp_path: Path) -> None:
    from onetrunk import pretrain

    rows = {"title": list(CASES["text"].values) * 3}
    options = ["pretrain.steps=2", "size=nano", "train.tensorboard=false", *SAME_BITS]
    models = [
        pretrain(rows, types={"title": "text"}, out=str(tmp_path / name), quiet=True, settings=options + more)
        for name, more in (
            ("plain", []),
            ("first", [f"cache={tmp_path / 'cache'}"]),
            ("second", [f"cache={tmp_path / 'cache'}"]),
        )
    ]
    states = [model.network.state_dict() for model in models]
    for name, tensor in states[0].items():
        assert all(np.array_equal(tensor.numpy(), other[name].numpy()) for other in states[1:]), name
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_killed_first_run_with_a_cache_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cache gives back is in an order of its own; the rows are the same, and so is the run."""
    from onetrunk import pretrain
    from onetrunk.data.loader import Loader

    clicks = CASES["items with fields"].values
    rows = {"title": list(CASES["text"].values) * 3, "clicks": list(clicks) * 3, "formula": ["CCO", "c1ccccc1O"] * 18}
    kinds = {"title": "text", "clicks": "items", "formula": "molecule"}
    options = ["pretrain.steps=6", "size=nano", "train.tensorboard=false", "train.save_every=2", *SAME_BITS]

    def run(name: str, *more: str) -> Any:
        return pretrain(rows, types=kinds, out=str(tmp_path / name), quiet=True, settings=[*options, *more])

    whole = run("whole").network.state_dict()
    real = Loader.__call__

    def killed(self: Loader, step: int) -> Any:
        if step == 5:
            raise KeyboardInterrupt
        return real(self, step)

    cache = f"cache={tmp_path / 'cache'}"
    with monkeypatch.context() as patched:
        patched.setattr(Loader, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            run("m", cache)
    assert list((tmp_path / "cache").iterdir())
    seen: list[int] = []
    monkeypatch.setattr(Loader, "__call__", lambda self, step: seen.append(step) or real(self, step))
    again = run("m", cache).network.state_dict()
    assert seen == [4, 5]
    assert all(np.array_equal(tensor.numpy(), again[name].numpy()) for name, tensor in whole.items())
