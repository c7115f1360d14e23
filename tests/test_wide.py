"""The wide read-out: what it is fitted to, that it is part of every path to an answer, and survives a folder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import worlds
from scipy import optimize, sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import MultinomialNB

import onetrunk
from onetrunk.data.ngrams import character_ngrams, word_ngrams
from onetrunk.data.store import Store
from onetrunk.inference import wide_outputs
from onetrunk.inference.likelihood import row_losses
from onetrunk.inference.model_folder import Model, Task, load
from onetrunk.inference.wide_outputs import add_wide
from onetrunk.model.wide import WideReadout
from onetrunk.training import beside_wide
from onetrunk.training.calibrate import HELD_OUT, VALIDATION
from onetrunk.training.context import RunContext
from onetrunk.training.recipe import Recipe
from onetrunk.training.wide import fit_wide, wide_rows
from onetrunk.training.wide.features import design_of, learn_features, shape_of
from onetrunk.training.wide.linear import fit_linear, ratings, set_linear

TEXTS = ["the red boat", "a green tree", "the boat is red", "green, green tree!", "一只白猫", "白猫和黑狗"] * 12


def _table(rows: int = 72) -> dict[str, list[Any]]:
    rng = np.random.default_rng(0)
    size = rng.normal(size=rows)
    return {
        "note": TEXTS[:rows],
        "kind": [["a", "b", "c"][i % 3] for i in range(rows)],
        "size": [None if i % 9 == 0 else float(x) for i, x in enumerate(size)],
        "label": ["warm" if "red" in t or "白" in t else "cold" for t in TEXTS[:rows]],
        "price": [float(x) * 2 + 3 * (i % 3 == 0) for i, x in enumerate(size)],
    }


TYPES = {"note": "text", "kind": "category", "size": "number", "label": "category", "price": "number"}
GIVEN = ["note", "kind", "size"]


def _fitted(ask: str) -> tuple[Any, Any, Any, dict[str, list[Any]]]:
    table = _table()
    made = worlds.model(table, TYPES, awake=False)
    store = worlds.store_of(made, table)
    rows = wide_rows(store, GIVEN, ask, np.arange(len(store.index)))
    fitted = fit_wide(rows)
    if fitted.residuals is not None:
        made.encoder(ask).expect_around(fitted.held_out[:, 0], fitted.residuals)
    made.network.add_wide(ask, fitted.readout)
    return made, store, fitted, table


@pytest.mark.parametrize("ask", ["label", "price"])
def test_a_new_model_answers_as_its_wide_read_out_does(ask: str, tmp_path: Path) -> None:
    """The trunk's read-out begins at zero: what is answered then is what the wide one says, on every path."""
    made, store, fitted, table = _fitted(ask)
    add_wide(made.network, store, GIVEN, ask)
    wide = torch.from_numpy(store.wide[ask])
    answers = made.answer(table, ask, GIVEN)
    if ask == "label":
        p = wide.softmax(-1).numpy()
        names = made.encoder(ask).class_names()
        np.testing.assert_allclose([[a.probability[n] for n in names] for a in answers], p, atol=1e-5)
        assert np.mean([a.value == t for a, t in zip(answers, table[ask], strict=True)]) > 0.9
        nats, _ = row_losses(made.network, store, GIVEN, ask)
        right = [names.index(t) for t in table[ask]]
        np.testing.assert_allclose(nats, -np.log(p[np.arange(len(p)), right]), atol=1e-4)
    else:
        errors = np.array([a.value for a in answers]) - np.array(table[ask])
        assert np.square(errors).mean() < 0.5 * np.var(table[ask])
        assert all(a.interval[0] <= a.interval[1] for a in answers)
    made.save(tmp_path / "m")
    again = load(tmp_path / "m").answer(table, ask, GIVEN)
    assert [a.value for a in again] == [a.value for a in answers]
    assert [a.probability for a in again] == [a.probability for a in answers]
    assert fitted.held_out.shape == (len(table[ask]), 2 if ask == "label" else 1)


@pytest.mark.parametrize("ask", ["label", "price"])
def test_the_trunk_is_not_asked_where_its_states_weigh_nothing(ask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _, _, table = _fitted(ask)
    alone = made.answer(table, ask, GIVEN)
    calls, encode = [], made.network.encode
    monkeypatch.setattr(made.network, "encode", lambda *of, **more: calls.append(1) or encode(*of, **more))
    made.answer(table, ask, GIVEN)
    assert not calls
    with monkeypatch.context() as patch:
        patch.setattr(type(made.module(ask)), "reads_trunk", True)
        assert made.answer(table, ask, GIVEN) == alone, "to the bit"
    assert calls
    head = made.module(ask).head
    with torch.no_grad():
        (head if isinstance(head, torch.Tensor) else head.weight)[0, 0] = 0.1
    calls.clear()
    made.answer(table, ask, GIVEN)
    assert calls


def test_gradients_reach_the_trunk_beside_it() -> None:
    made, store, fitted, _ = _fitted("label")
    store.wide["label"] = fitted.held_out
    worlds.wake(made.network)
    batch = worlds.batch(store, range(8), GIVEN, ["label"])
    module = made.module("label")
    h = made.network.read(made.network.encode(batch), "label")
    assert h.shape == (8, module.read_width)
    module.loss(h, batch.reads["predict"]["label"].targets).sum.backward()
    assert made.network.trunk.layers[0].parameters().__next__().grad is not None


def test_missing_columns_and_values_are_told() -> None:
    made, _, _, table = _fitted("label")
    whole = made.answer(table, "label", GIVEN)
    without = made.answer({"kind": table["kind"]}, "label", GIVEN)
    assert len(without) == len(whole)
    assert any(a.probability != b.probability for a, b in zip(whole, without, strict=True))


def test_ngrams_are_those_of_scikit_learn() -> None:
    texts = ["The red  boat", "a green tree, green!", "一只白猫 and 2 dogs", ""]
    for counted, vectorizer in (
        (word_ngrams(texts), {"token_pattern": r"[^\W_]+", "ngram_range": (1, 2)}),
        (character_ngrams(texts, 1, 3), {"analyzer": "char", "ngram_range": (1, 3)}),
    ):
        row, feature, count = counted
        _, column = np.unique(feature, return_inverse=True)
        ours = sparse.csr_matrix((count, (row, column)), shape=(len(texts), column.max() + 1)).toarray()
        plain = TfidfVectorizer(**vectorizer, use_idf=False, norm=None).fit_transform(
            [" ".join(t.split()) for t in texts]
        )
        theirs = plain.toarray()
        order = lambda x: sorted(map(tuple, x.T.tolist()))  # noqa: E731 - columns stand in another order
        assert order(ours) == order(theirs)


def test_without_time_the_linear_part_alone_is_fitted() -> None:
    table = _table()
    made = worlds.model(table, TYPES, awake=False)
    rows = wide_rows(worlds.store_of(made, table), GIVEN, "label", np.arange(len(table["label"])))
    fitted = fit_wide(rows, limit=0.0)
    assert fitted.readout.shape.trees is None and list(fitted.scores) == ["linear"]
    assert fitted.scores["linear"] < np.log(2) and "--budget" in fitted.left_out


@pytest.mark.parametrize(("gain", "kept"), [(1.0, True), (-1.0, False)])
def test_the_trunk_is_kept_where_it_gains_and_only_there(
    gain: float, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What validation rows judged as the better one is what is saved, to the bit."""
    judged: list[dict[str, torch.Tensor]] = []

    def scores(model: Model, rows: Any, task: Task) -> np.ndarray:
        judged.append({name: tensor.clone() for name, tensor in model.network.state_dict().items()})
        return np.full(len(rows), 0.0 if len(judged) == 1 else gain)

    monkeypatch.setattr(beside_wide, "row_scores", scores)
    monkeypatch.setattr(beside_wide, "_MIN_JUDGED", 4)
    table = {name: values * 2 for name, values in _table().items()}
    table["size"] = [float(i) for i in range(144)]  # no two rows are equal
    table.pop("price")
    model = onetrunk.train(
        table, ask=["label"], out=str(tmp_path / "m"), quiet=True, types={name: TYPES[name] for name in table},
        size="nano", split="random:60/20/20",
        settings=["finetune.steps=2", "train.tensorboard=false"],
    )  # fmt: skip
    trained, before = judged
    assert any(not torch.equal(trained[name], before[name]) for name in trained), "it has learnt"
    saved = load(tmp_path / "m").network.state_dict()
    for name, tensor in (trained if kept else before).items():
        assert torch.equal(saved[name], tensor), name
    assert model.provenance["decision"]["kept"].endswith("and the trunk") == kept
    calibration = model.calibration("label")
    assert calibration is not None
    assert calibration.fitted_on == (VALIDATION if kept else HELD_OUT), "on what there is most of"
    assert kept or calibration.rows > 80


def test_trunk_and_wide_read_out_count_as_validation_rows_say() -> None:
    """Against scipy's own minimum of the log loss of the weighed logits."""
    made = _fitted("label")[0]
    module = made.module("label")
    torch.manual_seed(0)
    h = torch.randn(200, module.read_width)
    own, wide = h[:, : -module.wide_outputs], h[:, -module.wide_outputs :]
    module.head.data.normal_()
    truth = (F.linear(own, module.head) * 0.7 + wide * 0.4 + torch.randn(200, 2)).argmax(1)
    logits = F.linear(own, module.head, module.bias).detach().double().numpy()

    def loss(shares: np.ndarray) -> float:
        both = shares[0] * logits + shares[1] * wide.double().numpy()
        return float((np.logaddexp(both[:, 0], both[:, 1]) - both[np.arange(200), truth]).mean())

    best = optimize.minimize(lambda s: loss(s) + 3 / 200 * ((s - 0.5) ** 2).sum(), [1.0, 1.0], method="Nelder-Mead")
    head = module.head.detach().clone()
    with torch.no_grad():
        share = module.mix(h, {"id": truth, "w": torch.ones(200)})
    assert share == pytest.approx(best.x[1], abs=0.01)
    torch.testing.assert_close(module.head, head * best.x[0], rtol=0.02, atol=0.01)


def test_many_rows_are_sampled_and_the_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a row that was not learnt from gets in training is what the read-out says of it."""
    monkeypatch.setattr(beside_wide, "_MOST_FITTED", 40)
    table = _table()
    made = worlds.model(table, TYPES, awake=False)
    store = worlds.store_of(made, table)
    task = Task(GIVEN, ["label"])
    context = RunContext(Recipe(), Path())
    rows_of = beside_wide.wide_rows_of(store, np.arange(72), task)
    fits = beside_wide.fit_wide_readouts(rows_of, None, context)
    beside_wide.attach_wide(made, store, fits)
    fit, learnt = fits["label"]
    assert len(learnt) == 40 and len(set(learnt.tolist())) == 40
    answered = store.subset(np.arange(72))
    add_wide(made.network, answered, GIVEN, "label")
    others = np.setdiff1d(np.arange(72), learnt)
    np.testing.assert_array_equal(store.wide["label"][others], answered.wide["label"][others])
    np.testing.assert_array_equal(store.wide["label"][learnt], fit.held_out)


def test_what_nobody_looks_at_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large table training looks at some rows only."""
    table = _table()
    made = worlds.model(table, TYPES, awake=False)
    store = worlds.store_of(made, table)
    fits = beside_wide.fit_wide_readouts(
        beside_wide.wide_rows_of(store, np.arange(40), Task(GIVEN, ["label"])), None, RunContext(Recipe(), Path())
    )
    beside_wide.attach_wide(made, store, fits)
    looked_at: list[int] = []
    said = wide_outputs._said

    def spied(readout: WideReadout, store: Store, names: Collection[str], rows: np.ndarray) -> np.ndarray:
        looked_at.extend(rows.tolist())
        return said(readout, store, names, rows)

    monkeypatch.setattr(wide_outputs, "_said", spied)
    (fit, learnt), outputs = fits["label"], store.wide["label"]
    np.testing.assert_array_equal(outputs[learnt], fit.held_out)
    part = store.subset(np.array([71, 3, 50])).wide["label"]
    assert not looked_at
    np.testing.assert_array_equal(part[np.array([2, 0])], outputs[np.array([50, 71])])
    assert looked_at == [50, 71]
    np.testing.assert_array_equal(part.take(np.array([1, 1]), 0)[np.array([0])], fit.held_out[learnt == 3])


def test_of_long_texts_fewer_are_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    table = _table()
    made = worlds.model(table, TYPES, awake=False)
    store, task = worlds.store_of(made, table), Task(GIVEN, ["label"])
    every = beside_wide.wide_rows_of(store, np.arange(72), task)["label"]
    features = sum(len(each.row) for own in every.features.values() for each in own.sparse.values())
    monkeypatch.setattr(beside_wide, "_MOST_FEATURES", features // 2)
    assert 30 <= beside_wide.wide_rows_of(store, np.arange(72), task)["label"].count <= 36 < every.count


def test_a_readout_takes_rows_in_blocks_of_few_features(monkeypatch: pytest.MonkeyPatch) -> None:
    table = _table()
    made = worlds.model(table, TYPES, awake=False)
    store = worlds.store_of(made, table)
    rows = wide_rows(store, GIVEN, "label", np.arange(72))
    fitted = fit_wide(rows)
    _, numbers = fitted.readout.linear_and_numbers(fitted.readout.tensors(rows.features, rows.present), rows.count)
    made.network.add_wide("label", fitted.readout)
    add_wide(made.network, store, GIVEN, "label")
    said = store.wide["label"]
    monkeypatch.setattr(wide_outputs, "_FEATURES_AT_ONCE", sum(own.found for own in rows.features.values()) // 5)
    blocks = [fitted.readout.linear_and_numbers(fitted.readout.tensors(features, present), count)[1]
              for features, present, count in rows.blocks()]  # fmt: skip
    assert len(blocks) > 4
    torch.testing.assert_close(torch.cat(blocks), numbers, equal_nan=True, atol=1e-3, rtol=0)
    monkeypatch.setattr(wide_outputs, "_FIRST_ROWS", 3)
    add_wide(made.network, store, GIVEN, "label")
    np.testing.assert_allclose(store.wide["label"], said, atol=1e-6)


def test_texts_are_seen_by_the_kind_of_ngrams_that_tells_more() -> None:
    """Words that end alike are different words: of these characters tell all, and words nothing."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("bcdfghjklm"), 6)) for _ in range(400)]
    label = [int(x) for x in rng.integers(0, 2, 400)]
    notes = [f"{words[i]}{'xa' if y else 'zo'} {words[i // 2]}" for i, y in enumerate(label)]
    table = {"note": notes, "label": [str(y) for y in label]}
    made = worlds.model(table, {"note": "text", "label": "category"}, awake=False)
    fitted = fit_wide(wide_rows(worlds.store_of(made, table), ["note"], "label", np.arange(400)))
    column = fitted.readout.column("note")
    used = {kind: bool(getattr(column, f"weight{i}").any()) for i, kind in enumerate(column.kinds)}
    assert all(view.startswith("characters") for view in fitted.chosen["of texts"])
    assert used == {"words": False, "characters": True}


def test_features_are_rated_as_naive_bayes_weighs_them() -> None:
    rng = np.random.default_rng(0)
    x, y = sparse.csr_matrix(rng.poisson(0.3, (60, 12)).clip(max=1).astype(np.float32)), rng.integers(0, 2, 60)
    logs = MultinomialNB(alpha=1.0).fit(x, y).feature_log_prob_
    np.testing.assert_allclose(ratings(x, y, 2), np.sqrt(np.abs(logs[0] - logs[1])), rtol=1e-5)


def test_the_linear_part_is_scikit_learns_on_standardised_numbers() -> None:
    """Years, far from 0, of which some are missing: as a pipeline that fills in the mean and says where it did."""
    rng = np.random.default_rng(0)
    year = rng.normal(2000, 3, 200)
    year[::10] = np.nan
    price = 5 * np.nan_to_num(year - 2000, nan=1.5) + rng.normal(0, 1, 200)
    table = {"year": [None if np.isnan(y) else float(y) for y in year], "price": price.tolist()}
    made = worlds.model(table, {"year": "number", "price": "number"}, awake=False)
    rows = wide_rows(worlds.store_of(made, table), ["year"], "price", np.arange(200))
    readout = WideReadout(shape_of(rows, 1))
    learn_features(readout, rows, 0)
    design = design_of(readout, rows)
    set_linear(readout, rows, design, fit_linear(design.x, rows.target, rows.weight, 0, 1.0))
    found = readout.linear_and_numbers(readout.tensors(rows.features, rows.present), 200)[0].numpy()[:, 0]
    x = np.asarray(design.x.todense())
    assert np.abs(x[:, design.scale != 1].mean(0)).max() < 1e-3, "numbers are around 0"
    expected = Ridge(1.0, solver="lsqr", tol=1e-6).fit(x, rows.target).predict(x)
    assert np.allclose(found, expected, atol=2e-3)
