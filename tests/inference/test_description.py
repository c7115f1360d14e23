"""A model folder whose words nobody wrote is refused, or opens and answers; it is never a traceback."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import worlds
from worlds import CASES

from onetrunk.core.errors import BadValueError, ModelFileError, OnetrunkError
from onetrunk.inference.description import Description
from onetrunk.inference.model_folder import Task, load
from onetrunk.storage import atomic
from onetrunk.storage.strict_json import write_json

WILD: list[Any] = [
    None, True, 0, 3, -1, 2**31, 0.5, 1e300, "", "x", "../x", "🙂", [], [[]], [1], ["x"] * 9, {}, {"a": {"b": 1}},
]  # fmt: skip
REFUSED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, OnetrunkError)


def places(told: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything that stands in it, of long lists to their first two elements."""
    keys = list(told) if isinstance(told, dict) else range(min(2, len(told))) if isinstance(told, list) else []
    for key in keys:
        yield (*path, key)
        yield from places(told[key], (*path, key))


def changed(told: Any, path: tuple[Any, ...], value: Any) -> Any:
    """With another value there; without one where it is `KeyError`."""
    told = json.loads(json.dumps(told))
    here = told
    for key in path[:-1]:
        here = here[key]
    if value is KeyError:
        del here[path[-1]]
    else:
        here[path[-1]] = value
    return told


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_a_column_never_learnt_is_refused_or_encodes(case: worlds.Case) -> None:
    dice, encoder = random.Random(0), worlds.fitted(case).encoder
    known = json.loads(json.dumps(encoder.knowledge()))
    told = {
        "attention": "causal", "columns": [{"name": "c", "type": case.type, "key": "c"}], "tasks": [], "events": None,
        "encoders": {"c": {"options": json.loads(json.dumps(encoder.options.model_dump())), "knowledge": known}},
    }  # fmt: skip
    paths = [path for path in places(told) if path[:3] == ("encoders", "c", "knowledge")]
    refused = 0
    for path in dice.sample(paths, min(12, len(paths))):
        for value in [KeyError, *dice.sample(WILD, 5)]:
            try:
                made = Description.of(changed(told, path, value)).fresh_encoders()["c"]
            except REFUSED:
                refused += 1
                continue
            for each in case.values[:3]:
                try:
                    made.encode(each)
                except BadValueError:
                    continue
    assert refused
    assert Description.of(told).fresh_encoders()["c"].knowledge() == encoder.knowledge()


def test_a_tokenizer_that_could_cost_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "verify", lambda path: None)
    worlds.model({"note": ["a b", "c d"] * 6}, {"note": "text"}).save(tmp_path / "m")
    whole = json.loads((tmp_path / "m" / "onetrunk.json").read_text())
    load(tmp_path / "m")
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    (key,) = whole["encoders"]
    for part, message in [
        ({"pre_tokenizer": split}, r"not known to be harmless: '\(a\+\)\+\$'"),
        ({"normalizer": {"type": "Sequence", "normalizers": [double] * 30}}, "1,073,741,824 times as long"),
    ]:
        told = json.loads(json.dumps(whole))
        known = told["encoders"][key]["knowledge"]
        known["tokenizer"] = json.dumps({**json.loads(known["tokenizer"]), **part})
        write_json(tmp_path / "m" / "onetrunk.json", told)
        with pytest.raises(ModelFileError, match=message):
            load(tmp_path / "m")


def test_a_folder_of_words_that_nobody_wrote_is_refused_or_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "verify", lambda path: None)  # its manifest vouches for them
    rows = {"price": [1.0, 2.5, 4.0, 9.0] * 3, "kind": ["a", "b", "b", "a"] * 3}
    model = worlds.model(rows, {"price": "number", "kind": "category"})
    model.tasks = [Task(["price"], ["kind"])]
    model.save(tmp_path / "m")
    whole = json.loads((tmp_path / "m" / "onetrunk.json").read_text())
    dice, refused = random.Random(1), 0
    paths = [path for path in places(whole) if "knowledge" not in path]
    tried = [(path, value) for path in paths for value in [KeyError, *dice.sample(WILD, 2)]]
    tried += [(("columns", i, "name"), value) for i in (0, 1) for value in WILD]
    for path, value in tried:
        write_json(tmp_path / "m" / "onetrunk.json", changed(whole, path, value))
        try:
            load(tmp_path / "m").predict({"price": [1.0, 3.0], "kind": ["a", "b"]}, "kind")
        except OnetrunkError:
            refused += 1
    assert refused > len(tried) / 2
    for change, message in [
        ({"columns": [*whole["columns"], whole["columns"][0]]}, "two columns have one name"),
        ({"tasks": [{"given": ["prise"], "ask": ["kind"]}]}, "there is no column 'prise'"),
        ({"columns": [{"name": 3, "type": "number", "key": "price"}]}, r"'columns.0.name'.*string, found 3"),
    ]:
        write_json(tmp_path / "m" / "onetrunk.json", {**whole, **change})
        with pytest.raises(ModelFileError, match=f"does not describe a model: .*{message}"):
            load(tmp_path / "m")
