"""A wide read-out in ONNX Runtime: the graph answers as the model does, which `train` leaves by default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worlds

import onetrunk
from onetrunk.core.errors import EvidenceError, UsageError
from onetrunk.core.secret import Secret
from onetrunk.data.table import read
from onetrunk.engine.private import Privacy
from onetrunk.inference.model_folder import Model, Task
from onetrunk.interop import onnx, onnx_parity
from onetrunk.interop.onnx_inputs import inputs_of
from onetrunk.training.wide import fit_wide, wide_rows
from onetrunk.training.wide.private import fit_private, hashed_readout

ROWS = 72
GIVEN = ["note", "kind", "tags", "size", "day", "picture", "drug"]
TYPES = {
    "note": "text", "kind": "category", "tags": "category", "size": "number", "day": "date", "picture": "image",
    "drug": "molecule", "label": "category", "price": "number", "several": "category", "rank": "category",
    "opinion": "category",
}  # fmt: skip
OPTIONS = {"picture": {"size": 8, "patch": 4}, "rank": {"ordered": True}}


def _table() -> dict[str, list[Any]]:
    """Every seventh row lacks one column, another each time; row 5 has nothing but its answers."""
    values: dict[str, list[Any]] = {
        "note": ["the red boat", "a green tree", "the boat is red", "!!", "一只白猫", "白猫和黑狗"],
        "kind": ["a", "b", "c", "a"],
        "tags": [["x"], ["y"], ["x", "y"], []],
        "size": [1.5, -2.0, 40.0, 3.25, 0.0],
        "day": worlds._DAYS,
        "picture": [worlds._drawing(i) for i in range(9)],
        "drug": worlds._MOLECULES,
    }
    table = {name: [each[i % len(each)] for i in range(ROWS)] for name, each in values.items()}
    table["label"] = ["warm" if i % 6 in (0, 2, 4) else "cold" if i % 4 else "mild" for i in range(ROWS)]
    table["price"] = [3.0 * (i % 3) + (i % 5) for i in range(ROWS)]
    table["rank"] = [1 + (i % 3) + (i % 2) for i in range(ROWS)]
    table["opinion"] = [{"for": 0.25 + 0.5 * (i % 2), "against": 0.75 - 0.5 * (i % 2)} for i in range(ROWS)]
    table["several"] = [[c for k, c in enumerate("pq") if i % (k + 2)] for i in range(ROWS)]
    for i in range(0, ROWS, 7):
        table[GIVEN[i // 7 % len(GIVEN)]][i] = None
    for name in GIVEN:
        table[name][5] = None
    return table


def _beside_wide(ask: str, given: list[str], private: bool) -> tuple[Model, dict[str, list[Any]]]:
    """A model whose trunk says something too."""
    table = {name: values for name, values in _table().items() if name in (*given, ask)}
    options = {name: told for name, told in OPTIONS.items() if name in table}
    types = {name: TYPES[name] for name in table}
    made = worlds.model(table, types, trunk={**worlds.TRUNK, "layers": 1}, options=options)
    store = worlds.store_of(made, table)
    rows = wide_rows(store, given, ask, np.arange(ROWS))
    assert rows is not None
    if private:
        readout = hashed_readout(rows)
        fit_private(readout, rows, Privacy(1e-3, 1.0, 1.0, 1.0, ROWS, 3), 1.0, Secret(bytes(32)), lambda *told: None)
    else:
        fitted = fit_wide(rows)
        assert fitted is not None
        readout = fitted.readout
        if fitted.residuals is not None:
            made.encoder(ask).expect_around(fitted.held_out[:, 0], fitted.residuals)
    made.network.add_wide(ask, readout)
    worlds.wake(made.network.eval())
    made.tasks = [Task(given, [ask])]
    return made, table


def _answered(place: Path, rows: Any) -> dict[str, np.ndarray]:
    """What ONNX Runtime makes of rows with the folder's files alone."""
    session = onnx_parity.open_session(place / "model.onnx")
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs_of(place, rows)), strict=True))


def _check_classes(place: Path, rows: Any, ask: str, answers: list[Any], atol: float = 1e-5) -> None:
    classes = json.loads((place / "columns.json").read_text())[ask]["knowledge"]["classes"]
    ours = np.array([[answer.probability[str(name)] for name in classes] for answer in answers])
    np.testing.assert_allclose(_answered(place, rows)[f"{ask}.p"], ours, atol=atol)


def _check_numbers(place: Path, rows: Any, ask: str, made: Model, answers: list[Any]) -> None:
    found = worlds.tensors(_answered(place, rows))
    middle = made.module(ask).bars.mean(found[f"{ask}.logits"]) + found[f"{ask}.begin"]
    theirs = [made.encoder(ask).value(z) for z in middle.tolist()]
    assert theirs == pytest.approx([answer.value for answer in answers], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("ask", "given", "private"),
    [
        ("label", GIVEN, False),
        ("label", ["note", "size"], True),
        ("several", ["note", "kind"], False),
        ("price", GIVEN[:4], False),
        ("rank", ["kind", "size"], False),
        ("opinion", ["kind", "size"], False),
    ],
)
def test_a_wide_read_out_is_in_the_graph(ask: str, given: list[str], private: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    made, table = _beside_wide(ask, given, private)
    place = tmp_path / "onnx"
    found = onetrunk.export(made, table, to="onnx", out=str(place), quiet=True)
    assert found["worst_difference"] < 1e-4 and found["rows"] == found["equal_answers"] > 50
    for rows in (range(ROWS), [3], [5]):  # of any size; of nothing given
        few = {name: [table[name][i] for i in rows] for name in given}
        answers = made.answer(few, ask, given)
        if ask == "price":
            _check_numbers(place, few, ask, made, answers)
        else:
            _check_classes(place, few, ask, answers)
    if "note" not in given:
        return
    content = json.loads((place / "columns.json").read_text())
    assert all(f"note.wide.{name}" in inputs_of(place, few) for name in content["note"]["wide"])
    content["note"]["wide"].pop()
    (place / "columns.json").write_text(json.dumps(content))
    with pytest.raises(EvidenceError, match="what a wide read-out looks at of 'note' is"):
        onnx_parity.compare(made, ask, given, read(table), place).check(1e-3, "it")


def test_what_train_leaves_by_default_answers_alike_in_onnx_runtime(tmp_path: Path) -> None:
    """Of two asked columns, each in a graph of its own; rows hold words and classes that no other had, and gaps."""
    pytest.importorskip("onnxruntime")
    table = {
        name: values * 2 for name, values in _table().items() if name in ("note", "kind", "size", "label", "price")
    }
    table["size"] = [None if i % 9 == 0 else float(i) for i in range(2 * ROWS)]  # no two rows are equal
    model = onetrunk.train(
        table, ask=["label", "price"], out=str(tmp_path / "m"), quiet=True, types={name: TYPES[name] for name in table},
        size="nano", settings=["finetune.steps=2", "train.tensorboard=false"],
    )  # fmt: skip
    rows = {"note": ["a blue boat", None, "the red boat"], "kind": ["z", "a", None], "size": [1.0, 200.5, None]}
    for ask in ("label", "price"):
        assert model.network.wide_of(ask) is not None
        place = tmp_path / ask
        onetrunk.export(str(tmp_path / "m"), table, to="onnx", ask=ask, out=str(place), rows=20, quiet=True)
        answers = model.answer(rows, ask)
        if ask == "label":
            _check_classes(place, rows, ask, answers)
        else:
            _check_numbers(place, rows, ask, model, answers)


def test_known_numbers_are_found_as_torch_finds_them(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    ends = np.iinfo(np.int64)
    tables = [np.sort(np.random.default_rng(n).choice(50, n, replace=False)) * 3 - 70 for n in (1, 2, 7, 8, 33)]
    tables.append(np.array([ends.min, -1, 0, ends.max]))
    known = {f"table{i}": table for i, table in enumerate(tables)}

    class Search(onnx.Graph):
        def __init__(self) -> None:
            super().__init__()
            self.outputs = [f"out{i}" for i in range(len(known))]
            for name, table in known.items():
                self.register_buffer(name, torch.from_numpy(table))

        def forward(self, one: torch.Tensor, other: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, ...]:
            pairs = zip(known, (one, other, *rest), strict=True)
            return tuple(torch.searchsorted(getattr(self, name), wanted) for name, wanted in pairs)

    wanted = np.concatenate([np.arange(-80, 90), [ends.min, ends.max, ends.min + 1]])
    feed = {f"wanted{i}": wanted for i in range(len(tables))}
    onnx._write(Search().eval(), feed, tmp_path / "search.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "search.onnx", providers=["CPUExecutionProvider"])
    for table, found in zip(tables, session.run(None, feed), strict=True):
        np.testing.assert_array_equal(found, np.searchsorted(table, wanted))


def test_a_graph_of_tokens_takes_no_rows(tmp_path: Path) -> None:
    for name, content in (("export.json", {"given": []}), ("columns.json", {})):
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(UsageError, match="takes tokens, not rows: 'ids'"):
        inputs_of(tmp_path, {"note": ["a"]})
