"""What a model's states and answers may depend on, and what they may not; tolerances are of float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import worlds
from worlds import CASES

from onetrunk.core import rng
from onetrunk.core.answer import Sampling
from onetrunk.core.content import Segment
from onetrunk.core.encoder import Column
from onetrunk.core.errors import UsageError
from onetrunk.inference.model_folder import Model

TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}
TYPES = {"title": "text", "price": "number", "day": "date", "kind": "category", "picture": "image"}
TRUNKS = {
    "transformer": worlds.TRUNK,
    "grouped queries, squared ReLU": {**worlds.TRUNK, "kv_heads": 1, "activation": "relu2"},
    **{kind: {"kind": kind, "width": 32, "layers": 2} for kind in ("lstm", "gru", "rnn")},
}
every_trunk = pytest.mark.parametrize("trunk", TRUNKS.values(), ids=TRUNKS.keys())
every_given = pytest.mark.parametrize("given", ["bidirectional", "causal"])


def table() -> dict[str, list[Any]]:
    """Every type; some values missing, titles of every length."""
    titles = [t * (1 + i % 3) for i, t in enumerate(CASES["text"].values)]
    out = {"title": titles, **{n: list(CASES[t].values) for n, t in TYPES.items() if t != "text"}}
    out["price"][2] = out["kind"][5] = out["title"][7] = out["picture"][1] = None
    return out


def model(trunk: Any = worlds.TRUNK, given: str = "bidirectional") -> Model:
    options = {"title": {"unit": "character"}, "picture": {"patch": 4, "stem": 4}}
    return worlds.model(table(), TYPES, options=options, trunk=trunk, given=given)


def assert_same_states(made: Model, one: Any, other: Any, columns: list[str]) -> None:
    """States of these columns in the documents of both batches; at least one is compared."""
    a, b = worlds.states_by_document(made, one), worlds.states_by_document(made, other)
    both = [place for place in a if place in b and place[1] in columns]
    assert both
    for place in both:
        torch.testing.assert_close(a[place], b[place], **TOLERANCE)


# -- what else is asked, beside whom, how packed ----------------------------------------------------------------
@every_given
@every_trunk
def test_states_depend_neither_on_what_else_is_asked_nor_on_neighbours_nor_on_packing(trunk: Any, given: str) -> None:
    made = model(trunk, given)
    store = worlds.store_of(made, table())
    causal = given == "causal"
    for visible, ask in ((["title", "day"], ["kind"]), (["price", "day"], ["title"])):
        others = [name for name in TYPES if name not in visible]
        plain = worlds.batch(store, range(12), visible, ask, given_causal=causal)
        more = worlds.batch(store, range(12), visible, others, given_causal=causal)
        apart = worlds.batch(store, range(12), visible, ask, given_causal=causal, apart=True)
        few = worlds.batch(store, [8, 3], visible, ask, given_causal=causal)
        assert len(plain.layout.doc_BT) < 12 == len(apart.layout.doc_BT), "the documents share sequences"
        for other in (more, apart, few):
            assert_same_states(made, plain, other, [*visible, *ask])


@every_given
@every_trunk
def test_a_missing_column_changes_nothing_else(trunk: Any, given: str) -> None:
    made = model(trunk, given)
    full, causal = table(), given == "causal"
    without = {**full, "price": [None] * 12}
    store, other = worlds.store_of(made, full), worlds.store_of(made, without)
    # What was never given (price not among the given) and what is missing (given, but not there) are one.
    never = worlds.batch(store, range(12), ["title", "day"], ["kind"], given_causal=causal)
    missing = worlds.batch(other, range(12), ["title", "price", "day"], ["kind"], given_causal=causal)
    assert_same_states(made, never, missing, ["title", "day", "kind"])
    here = worlds.batch(store, range(12), ["title", "price", "day"], ["kind"], given_causal=causal)
    with pytest.raises(AssertionError):
        assert_same_states(made, never, here, ["kind"])


def test_of_three_given_columns_one_may_be_missing_when_it_is_asked() -> None:
    """Each tells the answer; fine-tuning leaves one out now and then, so that the others suffice."""
    kinds = list("abcd")
    rows = [kinds[i % 4] for i in range(32)]
    full = {
        "title": [f"{kind} {kind}" for kind in rows],
        "size": [10.0 * kinds.index(kind) + i % 3 for i, kind in enumerate(rows)],
        "maker": [kind.upper() for kind in rows],
        "kind": rows,
    }
    types = {"title": "text", "size": "number", "maker": "category", "kind": "category"}
    made = worlds.model(full, types, awake=False)
    store, given = worlds.store_of(made, full), ["title", "size", "maker"]
    task = worlds.objective(store, given=given, ask=["kind"])
    learner, optimizer = worlds.learner(made, task).train(), torch.optim.Adam(made.network.parameters(), lr=5e-3)
    for step in range(60):
        planned = task.assign_roles(np.arange(32), store.present, worlds.keys(32, step))
        (loss,) = learner(worlds.assemble({task.tag: planned}, store)).values()
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        optimizer.step()
    learner.eval()
    for gone in given:
        absent = {name: values for name, values in full.items() if name not in (gone, "kind")}
        for columns in (absent, {**absent, gone: [None] * 32}):
            assert [a.value for a in made.answer(columns, "kind", given)] == rows


@every_trunk
def test_answers_are_those_of_single_rows(trunk: Any) -> None:
    made = model(trunk)
    rows = table()
    for ask in TYPES:
        given = [name for name in TYPES if name != ask]
        sampling = Sampling(max_length=9, steps=3)
        together = made.answer(rows, ask, given, sampling)
        for i in (2, 7, 11):
            single = {name: [values[i]] for name, values in rows.items() if values[i] is not None and name != ask}
            (alone,) = made.answer(single, ask, given, sampling)
            if ask == "picture":  # drawn from noise keyed by the row's place
                continue
            if isinstance(alone.value, float):
                assert alone.value == pytest.approx(together[i].value, rel=1e-3)
            else:
                assert alone.value == together[i].value
            if isinstance(alone.probability, dict):
                assert alone.probability == pytest.approx(together[i].probability, abs=1e-5)


# -- who sees whom ---------------------------------------------------------------------------------------------
@every_trunk
def test_an_answer_never_reaches_its_own_slot(trunk: Any) -> None:
    made = model(trunk)
    rows = table()
    changed = {**rows, **{name: [*rows[name][1:], rows[name][0]] for name in ("price", "day", "kind")}}
    for name in ("price", "day", "kind"):
        for role in ("ask", "masked"):
            before, after = (
                worlds.batch(
                    worlds.store_of(made, {**rows, name: t[name]}), [0, 3, 8], ["title"],
                    [name] if role == "ask" else [], masked=[name] if role == "masked" else [],
                )
                for t in (rows, changed)
            )  # fmt: skip
            assert not _equal_targets(before, after, name)
            assert_same_states(made, before, after, ["title", name])


def _equal_targets(one: Any, other: Any, name: str) -> bool:
    a, b = (x.reads["predict"][name].targets for x in (one, other))
    return all(torch.equal(a[k], b[k]) for k in a)


@every_given
@every_trunk
def test_later_characters_move_no_earlier_slot(trunk: Any, given: str) -> None:
    made = model(trunk, given)
    title = "the sea, the sea!"
    states = {}
    for end in ("", "never", "你好"):
        store = worlds.store_of(made, {"title": [title[:9] + end], "kind": ["a"]})
        asked = worlds.batch(store, [0], ["kind"], ["title"], given_causal=given == "causal")
        visible = worlds.batch(store, [0], ["title"], ["kind"], given_causal=given == "causal")
        states[end] = [worlds.states_by_document(made, b)[0, "title"] for b in (asked, visible)]
    for end in ("never", "你好"):
        torch.testing.assert_close(states[end][0][:10], states[""][0][:10], **TOLERANCE)
        assert (states[end][0][10] - states["never" if end == "你好" else "你好"][0][10]).abs().max() > 1e-3
        moved = (states[end][1][:9] - states[""][1][:9]).abs().max()
        forward_only = given == "causal" or trunk["kind"] != "transformer"
        assert (moved < 2e-5) == forward_only, "given text is read whole, unless causally"


@every_trunk
def test_causal_given_columns_see_only_those_before_and_an_answer_sees_all(trunk: Any) -> None:
    made = model(trunk, "causal")
    rows = table()
    for name, values in (("kind", ["h"]), ("price", [77.0]), ("day", [rows["day"][8]])):
        one, other = (
            worlds.states_by_document(made, worlds.batch(worlds.store_of(made, t), [0], list(TYPES)[:4], ["picture"],
                                                         given_causal=True))
            for t in ({n: v[:1] for n, v in rows.items()}, {**{n: v[:1] for n, v in rows.items()}, name: values})
        )  # fmt: skip
        order = ["title", "price", "day", "kind", "picture"]
        for i, column in enumerate(order):
            moved = float((one[0, column] - other[0, column]).abs().max())
            assert (moved > 1e-4) if i >= order.index(name) else (moved < 2e-5), (name, column)


# -- training equals serving -----------------------------------------------------------------------------------
@every_given
@every_trunk
def test_the_decoding_loop_computes_what_training_does(trunk: Any, given: str) -> None:
    made = model(trunk, given)
    rows = table()
    visible = ["title", "day", "picture"]
    store = worlds.store_of(made, rows)
    batch = worlds.batch(store, range(12), visible, ["kind", "price"], given_causal=given == "causal")
    with torch.inference_mode():
        h = made.network.encode(batch).h_ND
        pooled = _pooled_naively(h, batch)
        for ask, read in batch.reads["predict"].items():
            sides = worlds.Sides.of(made, ask)
            logits = sides.logits(torch.cat([h[read.flat_r], pooled[read.doc_r]], dim=1))
            answers = made.answer(rows, ask, visible)
            for i, doc in enumerate(read.doc_r.tolist()):
                predicted = answers[int(batch.row[doc])]
                if ask == "kind":
                    trained = dict(zip(sides.classes, logits[i].softmax(-1).tolist(), strict=True))
                    assert predicted.probability == pytest.approx(trained, abs=1e-5)
                else:
                    mean = float(sides.bars.mean(logits[i : i + 1]))
                    assert predicted.value == pytest.approx(sides.centre + sides.scale * mean, rel=1e-3, abs=1e-2)


def _pooled_naively(h: torch.Tensor, batch: Any) -> torch.Tensor:
    """The mean of each document's given states, one position at a time."""
    doc, branch = batch.layout.doc_BT.flatten().tolist(), batch.layout.branch_BT.flatten().tolist()
    out = []
    for d in range(len(batch.row)):
        own = [h[i] for i in range(len(doc)) if doc[i] == d and branch[i] == 0]
        out.append(torch.stack(own).mean(0) if own else torch.zeros(h.shape[1]))
    return torch.stack(out)


@every_given
@every_trunk
def test_a_prompt_is_gone_on_from_as_if_it_had_been_written(trunk: Any, given: str) -> None:
    made = model(trunk, given)
    rows = {"kind": list("abcd"), "day": CASES["date"].values[:4]}
    greedy = Sampling(max_length=9)
    whole = [a.value for a in made.answer(rows, "title", ["kind", "day"], greedy)]
    prompts = [text[:cut] for text, cut in zip(whole, (0, 1, 3, 5), strict=True)]
    rest = [Sampling(max_length=9 - len(prompt)) for prompt in prompts]
    for i, sampling in enumerate(rest):
        single = {name: values[i : i + 1] for name, values in rows.items()}
        (alone,) = made.answer(
            {**single, "title": prompts[i : i + 1]}, "title", ["kind", "day"], sampling, prompted=True
        )
        assert alone.value == whole[i]
    together = made.answer({**rows, "title": prompts}, "title", ["kind", "day"], Sampling(max_length=4), prompted=True)
    assert [a.value for a in together] == [w[: len(p) + 4] for w, p in zip(whole, prompts, strict=True)]
    with pytest.raises(UsageError, match="An answer of 'kind' cannot go on from a prompt; of title can"):
        made.answer({**rows, "title": prompts}, "kind", ["day"], prompted=True)
    (fresh,) = made.answer({"title": [None]}, "title", [], greedy, prompted=True)
    assert fresh.value == made.answer({"title": ["a"]}, "title", [], greedy)[0].value


@every_given
@every_trunk
def test_a_written_text_is_as_likely_as_training_says(trunk: Any, given: str) -> None:
    made = model(trunk, given)
    rows = {"kind": list("abcd"), "day": CASES["date"].values[:4]}
    sides = worlds.Sides.of(made, "title")
    answers = made.answer(rows, "title", ["kind", "day"], Sampling(temperature=1.0, max_length=7, seed=3))
    written = {**rows, "title": [a.value for a in answers]}
    store = worlds.store_of(made, written)
    batch = worlds.batch(store, range(4), ["kind", "day"], ["title"], given_causal=given == "causal")
    read = batch.reads["predict"]["title"]
    with torch.no_grad():
        logits = F.linear(made.network.encode(batch).h_ND[read.flat_r], sides.head)
    logits[:, [0, 1, 3]] = -torch.inf  # <|unknown|>, <|start|> and <|mask|> are never written
    likely = logits.log_softmax(-1).gather(1, read.targets["id"][:, None])[:, 0]
    for doc, answer in enumerate(answers):
        own = likely[read.doc_r == doc][:7]  # without the end, where the limit cut the answer
        assert answer.logprob == pytest.approx(float(own.sum()), abs=1e-3)
    assert len({a.value for a in answers}) > 1


@every_trunk
def test_the_first_step_of_a_drawing_is_the_trained_denoiser(trunk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = model(trunk)
    rows = {"kind": list("abc"), "title": ["one", "two, three", "four"]}
    sides = worlds.Sides.of(made, "picture")
    noise = rng.normal(rng.mix(rng.key(0, "answer", "picture"), np.arange(3), "noise"), 1, 8, 8)

    def all_noise(content: Any, context: Any) -> Segment:
        zero = np.zeros((3, sides.grid.count), dtype=np.float32)
        targets = {"w": np.ones(3 * sides.grid.count, dtype=np.float32)}
        reads = np.arange(3 * sides.grid.count)
        return Segment({"pixels": noise, "level": zero}, np.full(3, sides.grid.count), reads=reads, targets=targets)

    store = worlds.store_of(made, {**rows, "picture": CASES["image"].values[:3]})
    monkeypatch.setattr(sides.encoder, "segment", all_noise)
    batch = worlds.batch(store, range(3), ["kind", "title"], ["picture"])
    with torch.inference_mode():
        patches = sides.head(made.network.encode(batch).h_ND[batch.reads["predict"]["picture"].flat_r])
    expected = (sides.pixels(patches.view(3, sides.grid.count, -1)).clamp(-1, 1) + 1) * 127.5
    drawn = made.answer(rows, "picture", ["kind", "title"], Sampling(steps=1))
    for result, pixels in zip(drawn, expected, strict=True):
        assert np.abs(result.value - pixels[0].numpy()).max() <= 0.51, "rounded to whole levels"


@every_trunk
def test_without_guidance_weight_only_the_unled_half_is_left(trunk: Any) -> None:
    made = model(trunk)
    rows = {"kind": list("abc"), "title": ["one", "two, three", "four"]}
    unled = made.answer(rows, "picture", [], Sampling(steps=3))
    blind = made.answer(rows, "picture", ["kind", "title"], Sampling(steps=3, guidance=0.0))
    led = made.answer(rows, "picture", ["kind", "title"], Sampling(steps=3))
    for a, b, c in zip(unled, blind, led, strict=True):
        assert np.abs(a.value.astype(int) - b.value).max() <= 1
        assert np.abs(a.value.astype(int) - c.value).max() > 1


# -- learning --------------------------------------------------------------------------------------------------
@every_given
@every_trunk
def test_every_parameter_learns_in_pretraining(trunk: Any, given: str) -> None:
    from onetrunk.data.loader import Loader

    made = model(trunk, given)
    store = worlds.store_of(made, table())
    objectives = [worlds.objective(store, kind, documents=96) for kind in ("predict", "masked", "contrast")]
    load = Loader(store, objectives, seed=0, tokens_per_batch=100_000, given_causal=given == "causal")
    (batch,) = load(0)
    losses = worlds.learner(made, *objectives).train()(batch)
    assert losses.keys() >= batch.counts.keys()
    for name, loss in losses.items():
        assert float(loss.count) == pytest.approx(batch.counts.get(name, 0.0)), name
    sum(loss.sum for loss in losses.values()).backward()
    without = [name for name, p in made.network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@every_trunk
def test_a_batch_that_lacks_a_column_has_its_losses_of_nothing_and_reaches_its_parameters(trunk: Any) -> None:
    """So that every process of a distributed run does the same, whatever its own batch holds."""
    made = model(trunk)
    network, store = made.network.train(), worlds.store_of(made, table())

    def run(columns: list[str], visible: list[str], ask: list[str]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        objectives = [worlds.objective(store), worlds.objective(store, "contrast")]
        objectives[0].columns = objectives[1].columns = columns
        network.zero_grad(set_to_none=True)
        losses = worlds.learner(made, *objectives)(worlds.batch(store, [0, 3, 4], visible, ask))
        sum(loss.sum for loss in losses.values()).backward()
        return losses, {name: p.grad for name, p in network.named_parameters()}

    few, few_grads = run(["price", "kind"], ["price"], ["kind"])
    one, grads = run(list(TYPES), ["price"], ["kind"])
    other, _ = run(list(TYPES), ["title", "picture"], ["day"])
    assert one.keys() == other.keys() == {f"predict/{name}" for name in TYPES} | {"contrast"}
    assert few.keys() == {"predict/price", "predict/kind", "contrast"}
    assert {name for name, loss in one.items() if float(loss.count)} == {"predict/kind"}
    assert all(loss.sum.item() == 0 for name, loss in one.items() if name != "predict/kind")
    assert [name for name, grad in few_grads.items() if grad is None], "run without them they have no gradient"
    assert [name for name, grad in grads.items() if grad is None] == []
    for name, grad in grads.items():
        expected = few_grads[name] if few_grads[name] is not None else torch.zeros_like(grad)
        assert torch.equal(grad, expected), name


def test_a_new_column_begins_like_those_it_is_told_of() -> None:
    made = worlds.model({name: list(CASES["number"].values) for name in "ab"}, {"a": "number", "b": "number"})
    network = made.network
    network.add_column(Column("c", "number", "c"), worlds.fitted(CASES["number"]).encoder, ["a", "b"])
    network.add_column(Column("d", "number", "d"), worlds.fitted(CASES["number"]).encoder)
    torch.testing.assert_close(network.marker("c"), (network.marker("a") + network.marker("b")) / 2)
    assert network.marker("c").requires_grad and network.marker("c").is_leaf
    known = torch.stack([network.marker(name).flatten() for name in "abc"])
    assert (torch.corrcoef(torch.cat([known, network.marker("d").flatten()[None]]))[3, :3].abs() < 0.5).all()
