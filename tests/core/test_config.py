"""Strict configuration: what is wrong, where, and the nearest right name."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from onetrunk.core.config import Config, read_yaml, with_settings
from onetrunk.core.errors import UsageError


class Inner(Config):
    rate: float = Field(1.0, gt=0)


class Outer(Config):
    name: str = "a"
    inner: Inner = Inner()


def test_unknown_keys_name_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'inner.rat' in here. Did you mean 'rate'\?"):
        Outer.parse({"inner": {"rat": 2}}, "here")


def test_a_key_in_the_wrong_place_is_told_where_it_stands() -> None:
    with pytest.raises(UsageError, match=r"'rate' in here. Did you mean 'inner.rate'\?"):
        Outer.parse({"rate": 2}, "here")


def test_wrong_values_say_what_was_found() -> None:
    with pytest.raises(UsageError, match=r"'inner.rate'.*greater than 0.*found -1"):
        Outer.parse({"inner": {"rate": -1}})


def test_settings_are_read_as_numbers_and_nested() -> None:
    assert with_settings({"inner": {"rate": 1}}, ["inner.rate=3e-4", "name=b"]) == {
        "inner": {"rate": 3e-4},
        "name": "b",
    }
    with pytest.raises(UsageError, match="key=value"):
        with_settings({}, ["rate"])
    with pytest.raises(UsageError, match="not a group"):
        with_settings({"name": "a"}, ["name.x=1"])


def test_yaml_is_data_only(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    for text, word in (
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        ("- 1\n", "mapping"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=word):
            read_yaml(path)
    path.write_text("inner: {rate: 2}\n")
    assert Outer.parse(read_yaml(path)).inner.rate == 2
    with pytest.raises(UsageError, match="Cannot read"):
        read_yaml(tmp_path / "none.yaml")
