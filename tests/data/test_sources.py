"""What a command's words name: patterns, folders of numbered files, addresses, and mixtures of tables."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pytest

from onetrunk.core.errors import DataError, UsageError
from onetrunk.data.mixture import Mixture, Pool, draw, mixture_of
from onetrunk.data.sources import name_of, sources_of
from onetrunk.data.table import read

CSV = "n,label\n{i},a\n{i},b\n"


def write(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        (folder / name).write_text(CSV.format(i=i))


def test_patterns_and_commas_are_read_in_the_order_of_their_names(tmp_path):
    write(tmp_path, "b.csv", "a.csv", "c.txt", "other[1].csv")
    assert sources_of(f"{tmp_path}/*.csv") == [str(tmp_path / name) for name in ("a.csv", "b.csv", "other[1].csv")]
    assert sources_of(f"{tmp_path}/b.csv,{tmp_path}/a*.csv") == [str(tmp_path / "b.csv"), str(tmp_path / "a.csv")]
    assert list(read(f"{tmp_path}/[ab].csv")["n"]) == [1, 1, 0, 0]
    assert sources_of(tmp_path / "a.csv") is None and sources_of(f"{tmp_path}/other[1].csv") is None
    with pytest.raises(UsageError, match=r"No file matches '.*\*\.parquet'"):
        read(f"{tmp_path}/*.parquet")
    with pytest.raises(UsageError, match="There is no file or folder"):
        read(f"{tmp_path}/absent[2].csv")


def test_a_folder_of_numbered_files_is_one_table_and_no_other_is(tmp_path):
    write(tmp_path / "parts", "part-00000-of-00002.csv", "part-00001-of-00002.csv")
    assert list(read(tmp_path / "parts")["n"]) == [0, 0, 1, 1]
    write(tmp_path / "splits", "train-0.csv", "train-1.csv")
    assert set(read(tmp_path / "splits")["split"]) == {"train"}
    write(tmp_path / "two", "apples.csv", "pears.csv")
    with pytest.raises(DataError, match="holds several tables"):
        read(tmp_path / "two")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a/web-003.csv.gz", "web"), ("books.parquet", "books"), ("s3://b/train-00000-of-00004.parquet?x=1", "train"),
        ("data/books", "books"), ("rows/000.csv", "rows"), ("imdb50.csv", "imdb50"),
    ],
)  # fmt: skip
def test_tables_are_called_by_their_files(source, name):
    assert name_of(source) == name


def test_addresses_are_read_where_the_network_is_allowed_and_only_there():
    files = fsspec.filesystem("memory")
    for i, name in enumerate(("x-1.csv", "x-0.csv")):
        files.pipe_file(f"/bucket/{name}", CSV.format(i=i).encode())
    table = read("memory://bucket/x-*.csv", allow_network=True)
    assert list(table["n"]) == [1, 1, 0, 0] and table.tables == [("x", 2), ("x", 2)]
    assert read("memory://bucket/x-0.csv", allow_network=True).source == "memory://bucket/x-0.csv"
    for address in ("memory://bucket/x-*.csv", "memory://bucket/x-0.csv", "s3://bucket/a.csv", "https://a.b/c.csv"):
        with pytest.raises(UsageError, match=r"is on the network, which is used only with --allow-network"):
            read(address)
    with pytest.raises(DataError, match=r"Cannot fetch memory://bucket/absent\.csv"):
        read("memory://bucket/absent.csv", allow_network=True)
    with pytest.raises(UsageError, match=r"No file matches 'memory://bucket/y\*'"):
        read("memory://bucket/y*", allow_network=True)


# -- mixtures --------------------------------------------------------------------------------------------------
def test_a_mixture_draws_tables_by_their_weights_and_every_row_before_any_again():
    sizes = [700, 100, 40]
    made = mixture_of([("web", 400), ("books", 100), ("web", 300), ("code", 40)], {"web": 3, "books": 1, "code": 0})
    assert made is not None
    assert np.bincount(made.table).tolist() == sizes
    pools = made.pools(np.ones(840))
    rows = draw(pools, np.arange(3000), 0, "epoch", "predict")
    of = made.table[rows]
    for first in range(0, 3000, 1000):
        assert np.bincount(of[first : first + 1000], minlength=3).tolist() == [750, 250, 0]
    web = rows[of == 0]
    assert sorted(web[:700].tolist()) == sorted(np.flatnonzero(made.table == 0).tolist())
    books = rows[of == 1]
    passes = [books[i : i + 100].tolist() for i in range(0, 700, 100)]
    assert all(sorted(each) == sorted(passes[0]) for each in passes) and passes[0] != passes[1]
    some = np.array([2999, 5, 1000, 1001])
    assert draw(pools, some, 0, "epoch", "predict").tolist() == rows[some].tolist()


def test_a_pool_has_each_row_as_often_as_it_has_turns():
    turns = np.array([0, 2, 1, 0, 3, 0])
    pool = Pool.of(turns)
    assert pool[np.arange(len(pool))].tolist() == np.repeat(np.arange(6), turns).tolist()
    assert pool.drawn.tolist() == [False, True, True, False, True, False]
    assert len(Pool.of(np.zeros(0))) == len(Pool.of(np.zeros(3))) == 0


def test_quotas_hold_also_where_a_table_is_hardly_wanted():
    made = Mixture(np.repeat(np.arange(3), 10).astype(np.int16), np.array([1e-9, 1.0, 2.0]))
    assert [quota for _, quota in made.pools(np.ones(30))] == [1, 333, 666]


@pytest.mark.parametrize(
    ("tables", "weights", "message"),
    [
        ([("web", 3)], {"web": 1}, "of several tables"),
        ([("web", 3), ("books", 2)], {"wbe": 1, "books": 1}, "Did you mean 'web'"),
        ([("web", 3), ("books", 2)], {"web": 1}, "says nothing of the table 'books'"),
        ([("web", 3), ("books", 2)], {"web": 0, "books": 0}, "weights of 0 or more, and one above 0"),
    ],
)
def test_mixtures_that_cannot_be(tables, weights, message):
    with pytest.raises(UsageError, match=message):
        mixture_of(tables, weights)
