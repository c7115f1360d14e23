"""A model folder's answers: which task, from what, in which batches; and what a folder must be to be opened."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
import torch.nn.functional as F
import worlds
from worlds import CASES

from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.errors import DataError, ModelFileError, UsageError
from onetrunk.data.ledger import Ledger
from onetrunk.data.seen_rows import SeenRows, record, splits_before
from onetrunk.data.table import Table
from onetrunk.inference import answer_rows as module
from onetrunk.inference.answer_rows import pooled_states
from onetrunk.inference.model_folder import Model, Task, answer_columns, load
from onetrunk.inference.provenance import read_provenance, write_provenance
from onetrunk.storage import atomic
from onetrunk.storage.strict_json import read_json, write_json
from onetrunk.storage.tensors import save_tensors

TYPES = {"title": "text", "price": "number", "kind": "category"}


def rows() -> dict[str, list[Any]]:
    out = {name: list(CASES[kind].values) for name, kind in TYPES.items()}
    out["price"][3] = out["title"][3] = out["title"][5] = None
    return out


@pytest.fixture
def made() -> Model:
    return worlds.model(rows(), TYPES)


# -- tasks ---------------------------------------------------------------------------------------------------
def test_the_task_is_the_folders_or_all_others_are_given(made: Model) -> None:
    with pytest.raises(UsageError, match=r"Say which column to ask for.*title, price, kind"):
        made.task()
    assert made.task(["kind"]) == Task(["title", "price"], ["kind"])
    made.tasks = [Task(["title"], ["kind"]), Task(["kind"], ["price"])]
    assert made.task() == made.task(["kind"]) == Task(["title"], ["kind"])
    assert made.task(["price"]) == Task(["kind"], ["price"])
    assert made.task(["kind"], ["price", "kind"]) == Task(["price"], ["kind"])
    with pytest.raises(UsageError, match=r"Unknown column 'knd'\. Did you mean 'kind'\?"):
        made.task(["knd"])
    with pytest.raises(UsageError, match="Unknown column 'prise'"):
        made.task(["kind"], ["prise"])


def test_a_value_that_cannot_be_read_is_counted_and_left_out(made: Model) -> None:
    table = {"title": ["the sea", "\ud800"], "price": [3.0, 4.0]}
    ledger = Ledger()
    answers = made.answer(table, "kind", ledger=ledger)
    expected = made.answer({"title": ["the sea", None], "price": [3.0, 4.0]}, "kind")
    assert [a.probability for a in answers] == [a.probability for a in expected]
    assert ledger.bad("title") == 1 and ledger.as_json()[0]["rows"] == [1]


@pytest.mark.parametrize("missing", [float("nan"), np.float64("nan"), np.datetime64("NaT"), pandas.NA, pandas.NaT])
def test_what_other_libraries_write_for_missing_is_missing_in_a_text_too(made: Model, missing: Any) -> None:
    """It was read as the word "nan"."""
    (answer,) = made.answer({"title": [missing], "price": [3.0]}, "kind")
    (expected,) = made.answer({"title": [None], "price": [3.0]}, "kind")
    assert answer.probability == expected.probability


def test_an_empty_text_alone_is_answered_as_nothing(made: Model) -> None:
    """It takes no position: there is nothing for the trunk to read."""
    empty, nothing = (made.answer({"title": [v], "price": [None]}, "kind", ["title", "price"])[0] for v in ("", None))
    assert empty.probability == nothing.probability
    assert not pooled_states(made.network, worlds.store_of(made, {"title": [""]}), ["title"]).any()


def test_the_true_answer_in_the_table_is_never_looked_at(made: Model) -> None:
    table = {name: values[:6] for name, values in rows().items()}
    with_truth = made.answer(table, "kind")
    without = made.answer({name: v for name, v in table.items() if name != "kind"}, "kind")
    nonsense = made.answer({**table, "kind": [{"a": 1}] * 6}, "kind")
    assert [a.probability for a in with_truth] == [a.probability for a in without] == [a.probability for a in nonsense]


# -- batches -------------------------------------------------------------------------------------------------
def test_answers_come_in_row_order_however_they_are_batched(made: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    for ask, sampling in (
        ("kind", Sampling()),
        ("title", Sampling(temperature=1.0, max_length=6)),
        ("price", Sampling()),
    ):
        whole = made.answer(rows(), ask, sampling=sampling)
        with monkeypatch.context() as patched:
            patched.setattr(module, "POSITIONS_AT_ONCE", 130)
            patched.setattr(module, "CACHED_POSITIONS", 200)
            parts = made.answer(rows(), ask, sampling=sampling)
        for a, b in zip(whole, parts, strict=True):
            assert a.value == (pytest.approx(b.value, rel=1e-3) if ask == "price" else b.value)


def test_batches_hold_every_row_once_and_no_more_than_fits() -> None:
    lengths = np.array([1, 500, 3, 3, 40, 2, 7] * 100)
    batches = module.batches(lengths)
    assert sorted(np.concatenate(batches).tolist()) == list(range(700)) and len(batches) > 1
    assert all(lengths[b].max() * len(b) <= module.POSITIONS_AT_ONCE for b in batches)
    assert len(batches) < 8
    assert [len(b) for b in module.batches(np.array([10**6, 10**6]))] == [1, 1], "what never fits goes alone"


def test_the_pooled_states_are_those_training_sees(made: Model) -> None:
    store = worlds.store_of(made, rows())
    result = pooled_states(made.network, store, ["title", "price"])
    batch = worlds.batch(store, range(12), ["title", "price"], ["kind"])
    with torch.inference_mode():
        expected = made.network.encode(batch).pooled_MD
    np.testing.assert_allclose(result, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert not result[3].any() and result[4].any(), "nothing is given in row 3"


def test_answering_leaves_the_model_as_it_was(made: Model) -> None:
    made.network.train()
    made.answer(rows(), "kind")
    assert made.network.training
    made.network.eval()
    before = torch.get_rng_state()
    made.answer(rows(), "title", sampling=Sampling(temperature=1.0, max_length=4))
    assert not made.network.training and torch.equal(before, torch.get_rng_state()), "sampling is keyed"


@pytest.mark.parametrize("trunk", [worlds.TRUNK, {"kind": "gru", "width": 16, "layers": 2}], ids=["attention", "gru"])
def test_a_search_with_enough_beams_finds_the_likeliest_of_all(trunk: dict[str, Any]) -> None:
    assert any(_finds_more_than_token_by_token(trunk, seed) for seed in range(40)), "or this test says little"


def _finds_more_than_token_by_token(trunk: dict[str, Any], seed: int) -> bool:
    torch.manual_seed(seed)
    texts = ["".join(letters) for n in range(5) for letters in itertools.product("ab", repeat=n)]
    rows = {"kind": ["x", "y"] * len(texts), "title": [t for t in texts for _ in "xy"]}
    made = worlds.model(
        rows, {"kind": "category", "title": "text"}, options={"title": {"unit": "character"}}, trunk=trunk
    )
    sides = worlds.Sides.of(made, "title")
    with torch.no_grad():
        sides.head.normal_(0, 0.3)  # so that what is likely at first is not always so in the end
    result = worlds.batch(worlds.store_of(made, rows), range(len(rows["title"])), ["kind"], ["title"])
    best = {"x": (-np.inf, "", 0.0), "y": (-np.inf, "", 0.0)}
    for (row, name), h in worlds.states_by_document(made, result).items():
        if name != "title":
            continue
        text, kind = rows["title"][row], rows["kind"][row]
        tokens = [*sides.encode(text)["id"].tolist(), sides.special.end][:4]
        logits = F.linear(*sides.readout(h[: len(tokens)]))
        logits[:, list(sides.special.never)] = -torch.inf
        total = float(logits.log_softmax(-1)[range(len(tokens)), tokens].sum())
        best[kind] = max(best[kind], (total / len(tokens), text, total))
    answers = made.answer({"kind": ["x", "y", "x"]}, "title", sampling=Sampling(max_length=4, beams=40))
    for kind, answer in zip("xyx", answers, strict=True):
        assert answer.value == best[kind][1] and answer.logprob == pytest.approx(best[kind][2], rel=1e-4)
    one = made.answer({"kind": ["x"]}, "title", sampling=Sampling(max_length=4))[0]
    return one.logprob < answers[0].logprob - 1e-4


def test_a_search_draws_nothing() -> None:
    with pytest.raises(UsageError, match=r"above 1 no temperature.*found beams 4 and temperature 0\.7"):
        Sampling(temperature=0.7, beams=4)
    with pytest.raises(UsageError, match="from 1"):
        Sampling(beams=0)


# -- tables of answers ---------------------------------------------------------------------------------------
def test_predictions_are_a_table(made: Model) -> None:
    made.tasks = [Task(["title"], ["kind", "price"])]
    frame = made.predict({"title": ["the sea", "一只白猫", ""]})
    classes = [f"kind_p_{c}" for c in "abcdefgh"]
    assert list(frame.columns) == ["kind", "kind_probability", *classes, "price", "price_low", "price_high"]
    assert len(frame) == 3
    assert frame[classes].sum(axis=1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert (frame["kind_probability"] == frame[classes].max(axis=1)).all()
    assert ((frame["price_low"] <= frame["price"]) & (frame["price"] <= frame["price_high"])).all()


def test_rows_of_which_nothing_is_known_are_told_and_beyond_a_threshold_refused(made: Model) -> None:
    some = {"title": ["the sea", None], "price": [None, None], "colour": ["red", "blue"]}
    with pytest.raises(DataError, match=r"1 of 2 values of the column 'kind'.*nothing is known of the row.*\(row 1\)"):
        made.predict(some, "kind")
    with pytest.warns(UserWarning, match=r"kind: 1 × nothing is known"):
        allowed = made.predict(some, "kind", max_bad=0.5)
    assert allowed["kind"][0] == made.predict({"title": ["the sea"], "price": [None]}, "kind")["kind"][0]
    with pytest.raises(DataError, match=r"none of the columns to predict from: expected title, price, found colour"):
        made.predict({"colour": ["red"]}, "kind")
    with pytest.warns(UserWarning, match="The table has no column price"):
        made.predict({"title": ["the sea"]}, "kind")
    with pytest.raises(DataError, match=r"1 of 2 values of the column 'price' cannot be used"):
        made.predict({"title": ["the sea", "a cat"], "price": [3.0, "cheap"]}, "kind")


def test_what_is_asked_from_nothing_or_gone_on_from_needs_no_other_column(made: Model) -> None:
    ledger = Ledger()
    made.answer({"title": [None]}, "kind", [], ledger=ledger)
    made.answer({"title": ["the"], "price": [None]}, "title", ledger=ledger, prompted=True)
    assert not ledger.lines()


def test_many_classes_get_no_column_each(made: Model) -> None:
    sides = worlds.fitted(CASES["category"], values=[f"c{i}" for i in range(30)])
    answers = [Answer("c1", {f"c{i}": float(i == 1) for i in range(30)})]
    assert answer_columns("k", answers, sides) == {"k": ["c1"], "k_probability": [1.0]}
    assert answer_columns("k", [], sides) == {"k": []}


# -- folders -------------------------------------------------------------------------------------------------
def test_rows_that_were_seen_lie_beside_the_provenance_and_come_back(made: Model, tmp_path: Path) -> None:
    table = Table({"title": [f"row {i}" for i in range(50)]})
    parts = {"train": np.arange(30), "val": np.arange(30, 40), "test": np.arange(40, 50)}
    seen = record(table, {"title": "text"}, ["title"], parts)
    made.provenance = {"stages": [{"stage": "import"}, {"stage": "finetune", "seen_rows": seen}]}
    made.save(tmp_path / "m")
    (_, stage) = read_json(tmp_path / "m" / "provenance.json")["stages"]
    assert stage["seen_rows"] == {"columns": {"title": "text"}, "rows": 50}
    (_, again) = load(tmp_path / "m").provenance["stages"]
    assert again["seen_rows"].digest() == seen.digest()
    assert splits_before(table, [again["seen_rows"]]).tolist() == [0] * 30 + [1] * 10 + [2] * 10
    earlier = {
        "columns": {"title": "text"},
        "rows": base64.b64encode(seen.digests.tobytes()).decode(),
        "splits": "".join(map(str, seen.splits.tolist())),
    }
    assert SeenRows.of_text(earlier).digest() == seen.digest(), "as provenance.json itself once held them"


def test_a_folder_whose_rows_are_of_another_model_is_refused(made: Model, tmp_path: Path) -> None:
    seen = SeenRows({"title": "text"}, np.arange(4, dtype="<u8"), np.zeros(4, dtype=np.uint8))
    write_provenance(tmp_path, {"stages": [{"seen_rows": seen}]})
    for arrays in ({}, {"0.digests": torch.zeros(4, dtype=torch.int64), "0.splits": torch.zeros(3, dtype=torch.uint8)}):
        save_tensors(tmp_path / "seen_rows.safetensors", arrays)
        with pytest.raises(ModelFileError, match=r"does not say which rows were seen.*Restore it"):
            read_provenance(tmp_path)


def test_a_folder_holds_what_it_should_and_its_texts_are_standard(made: Model, tmp_path: Path) -> None:
    made.tasks, made.provenance = [Task(["title"], ["kind"])], {"stages": [{"seed": 3}]}
    made.save(tmp_path / "m")
    assert {p.name for p in (tmp_path / "m").iterdir()} == {
        "config.json", "model.safetensors", "columns.safetensors", "onetrunk.json", "provenance.json",
        "manifest.json", "tokenizer.json",
    }  # fmt: skip
    again = load(tmp_path / "m")
    assert again.tasks == made.tasks and again.provenance == made.provenance and again.columns == made.columns
    assert again.folder == tmp_path / "m"
    for name, tensor in made.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor)
    with pytest.raises(UsageError, match="already exists"):
        made.save(tmp_path / "m")
    made.save(tmp_path / "m", overwrite=True)


def _changed(folder: Path, file: str, change: Any) -> None:
    """Rewrites a file of a folder and its manifest, as one who means it."""
    data = json.loads((folder / file).read_text())
    change(data)

    def write(place: Path) -> None:
        write_json(place / file, data)

    atomic.add_files(folder, write)


def _lists(encoder: dict[str, Any]) -> list[list[Any]]:
    return [encoder["knowledge"][name] for name in ("classes", "counts")]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("onetrunk.json", lambda d: d["columns"][0].update(type="sound"), "Unknown column type 'sound'"),
        ("onetrunk.json", lambda d: d["columns"][0].update(colour="red"), "does not describe a model"),
        ("onetrunk.json", lambda d: d.pop("encoders"), "does not describe a model"),
        ("onetrunk.json", lambda d: d["encoders"]["kind"]["knowledge"]["classes"].pop(), "7 classes have 8 counts"),
        ("onetrunk.json", lambda d: [each.pop() for each in _lists(d["encoders"]["kind"])], "should have shape"),
        ("onetrunk.json", lambda d: d["encoders"]["kind"]["options"].update(fast=1), "Unknown key 'fast'"),
        ("config.json", lambda d: d.update(kind="mamba"), "Unknown trunk 'mamba'"),
        ("config.json", lambda d: d.update(width=64), "should have shape"),
        ("config.json", lambda d: d.update(layers=3), "is missing"),
        ("config.json", lambda d: d.update(layers=10**9), "layers"),
    ],
)
def test_a_folder_that_contradicts_itself_is_refused(
    made: Model, tmp_path: Path, file: str, change: Any, message: str
) -> None:
    made.save(tmp_path / "m")
    _changed(tmp_path / "m", file, change)
    with pytest.raises(ModelFileError, match=message):
        load(tmp_path / "m")


def test_what_is_no_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no model folder"):
        load(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match="not a finished model folder"):
        load(tmp_path / "empty")
