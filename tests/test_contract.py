"""The contract of a column type (encoder, module, evaluation), held by every one; sample values: `worlds.CASES`."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from worlds import CASES, Case

from onetrunk.core import rng
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.content import Content, Role, Segment
from onetrunk.core.decoding import AnswerContext
from onetrunk.core.encoder import class_names
from onetrunk.core.errors import BadValueError, DataError, UsageError
from onetrunk.core.module import Guided
from onetrunk.core.registry import column_types
from onetrunk.data.loader import Loader
from onetrunk.data.table import Table, infer_types
from onetrunk.engine.world import packed, unpacked
from onetrunk.inference.model_folder import load
from onetrunk.inference.sampler import Kind, Rows, join

ROLES = [Role.GIVEN, Role.ASKED, Role.MASKED]
WIDTH = 16

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
every_role = pytest.mark.parametrize("role", ROLES, ids=[role.name.lower() for role in ROLES])


def test_every_registered_type_has_sample_values() -> None:
    assert {case.type for case in CASES.values()} == set(column_types.names())


# -- knowledge -----------------------------------------------------------------------------------------------
@every_case
def test_recognises_within_bounds_and_its_own_best(case: Case) -> None:
    for kind in column_types.names():
        assert 0 <= column_types.get(kind).encoder.recognise(case.values) <= 1
    if case.inferred:
        assert infer_types(Table({"c": case.values}))["c"] == case.type


@every_case
def test_fits_nothing_with_a_plain_error_and_refuses_unknown_options(case: Case) -> None:
    sides = column_types.get(case.type).encoder(case.options)
    with pytest.raises(DataError, match="needs at least"):
        sides.fit([])
    with pytest.raises(UsageError, match=r"Unknown key 'colour_of_it' in the options of a"):
        column_types.get(case.type).encoder({"colour_of_it": 1})


@every_case
def test_knowledge_survives_json(case: Case) -> None:
    sides = worlds.fitted(case)
    result = json.loads(
        json.dumps({"options": sides.options.model_dump(), "knowledge": sides.knowledge()}, allow_nan=False)
    )
    other = worlds.Sides(case.type, result["options"])
    other.set_knowledge(result["knowledge"])
    other.build(WIDTH)
    assert other.knowledge() == sides.knowledge()
    for value in case.values:
        _equal(other.encode(value), sides.encode(value))
    assert [(n, p.shape) for n, p in other.named_parameters()] == [(n, p.shape) for n, p in sides.named_parameters()]
    assert class_names(other.encoder) == class_names(sides.encoder)
    assert other.assets() == sides.assets()


@every_case
def test_encoding_is_deterministic_and_blank_is_like_it(case: Case) -> None:
    sides = worlds.fitted(case)
    blank = sides.blank()
    for value in case.values:
        encoded = sides.encode(value)
        _equal(encoded, sides.encode(value))
        assert {n: np.asarray(a).dtype for n, a in encoded.items()} == {
            n: np.asarray(a).dtype for n, a in blank.items()
        }
        if not sides.ragged:
            assert {n: np.shape(a) for n, a in encoded.items()} == {n: np.shape(a) for n, a in blank.items()}


@every_case
def test_bad_and_missing_values_are_left_out_and_said(case: Case) -> None:
    sides = worlds.fitted(case)
    with pytest.raises(BadValueError, match=r"\w+ \w+"):
        sides.encode(case.bad)
    complaints: dict[int, str] = {}
    assert not sides.loses_nothing([]) and not sides.loses_nothing([case.values[0], case.bad])
    content, present = sides.encode_all([case.values[0], case.bad, None, case.values[1]], complaints.__setitem__)
    assert present.tolist() == [True, False, False, True]
    assert complaints.keys() == {1} and complaints[1]
    _equal(content.gather(), Content.stack([sides.encode(v) for v in case.values[:2]], sides.ragged).gather())
    nothing, present = sides.encode_all([None, None], complaints.__setitem__)
    assert len(nothing) == 0 and not present.any()


@every_case
def test_describes_itself_to_people_and_tells_values_apart(case: Case) -> None:
    kind = column_types.get(case.type).encoder
    assert json.loads(json.dumps(kind.describe(case.values), allow_nan=False))
    prints = [kind.fingerprint(v) for v in case.values[:8]]
    assert prints == [kind.fingerprint(v) for v in case.values[:8]] and len(set(prints)) == 8
    for value in case.values:
        assert kind.near_duplicate_key(value) is None or isinstance(kind.near_duplicate_key(value), str)
        visible = kind.show(value)
        assert list(visible) in (["text"], ["png"], ["wav", "png"]) and all(
            isinstance(s, str) for s in visible.values()
        )


# -- parts to positions --------------------------------------------------------------------------------------
@every_role
@every_case
def test_segments_fit_together(case: Case, role: Role) -> None:
    sides = worlds.fitted(case)
    content = worlds.content_of(sides, case.values)
    for augment in (False, True):
        segment = worlds.segment(sides, content, role, worlds.keys(len(content)), augment)
        n = int(segment.lens.sum())
        assert segment.lens.shape == (len(content),) and (segment.lens >= 0).all()
        assert (segment.lens <= sides.max_positions(content)).all()
        assert sides.embed(worlds.tensors(segment.content)).shape == (n, WIDTH)
        if role == Role.GIVEN:
            assert segment.reads is None
            continue
        assert len(segment.reads) > 0
        on = worlds.on_of(sides, worlds.keys(len(content))) if role == Role.ASKED else None
        assert on is None or n == 0  # it takes no positions of its own, and reads the other's
        n = n if on is None else on.lens.sum()
        assert (
            (segment.reads >= 0).all() and (segment.reads < n).all() and len(set(segment.reads)) == len(segment.reads)
        )
        assert {len(target) for target in segment.targets.values()} == {len(segment.reads)}
        w = segment.targets["w"]
        assert w.dtype == np.float32 and (w >= 0).all() and w.sum() > 0


@every_case
def test_losses_are_sums_and_counts_and_reach_every_parameter(case: Case) -> None:
    sides = worlds.fitted(case)
    worlds.wake(sides)
    content = worlds.content_of(sides, case.values)
    for role in ROLES:
        segment = worlds.segment(sides, content, role, worlds.keys(len(content)), True)
        embedded = sides.embed(worlds.tensors(segment.content))
        embedded.tanh().sum().backward()
        if role == Role.GIVEN:
            continue
        targets = worlds.tensors(segment.targets)
        h = torch.randn(len(segment.reads), WIDTH * (1 + sides.pooled), requires_grad=True)
        loss = sides.loss(h, targets)
        assert torch.isfinite(loss.sum) and loss.each.shape == (len(h),) and not loss.each.requires_grad
        assert float(loss.count) == pytest.approx(float(targets["w"].sum()))
        assert loss.sum.item() == pytest.approx(float((loss.each * targets["w"]).sum()), rel=1e-5)
        loss.sum.backward()
        assert h.grad.abs().sum() > 0
    without = [name for name, p in sides.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []


@every_case
def test_a_module_knows_which_parameters_read_out(case: Case) -> None:
    """Freezing rests on it: these may move while what is given is embedded as before."""
    sides = worlds.fitted(case)
    worlds.wake(sides)
    content = worlds.content_of(sides, case.values)
    sides.embed(worlds.tensors(sides.segment(content, Role.GIVEN, worlds.keys(len(content))).content)).sum().backward()
    embedding = {name for name, p in sides.named_parameters() if p.grad is not None}
    sides.zero_grad(set_to_none=True)
    segment = worlds.segment(sides, content, Role.ASKED, worlds.keys(len(content)), False)
    h = torch.randn(len(segment.reads), WIDTH * (1 + sides.pooled))
    sides.loss(h, worlds.tensors(segment.targets)).sum.backward()
    reading = {name for name, p in sides.named_parameters() if p.grad is not None}
    assert reading - embedding == {n for n, _ in sides.named_parameters() if n.partition(".")[0] in sides.read_out}
    assert reading - embedding  # a table that is both is no read-out: it stays


@every_role
@every_case
def test_no_documents_are_no_loss(case: Case, role: Role) -> None:
    sides = worlds.fitted(case)
    content = worlds.content_of(sides, case.values).take(np.zeros(0, dtype=np.int64))
    segment = worlds.segment(sides, content, role, worlds.keys(0), True)
    embedded = sides.embed(worlds.tensors(segment.content))
    assert embedded.shape == (0, WIDTH)
    if role == Role.GIVEN:
        return
    h = torch.cat([embedded, embedded], dim=1) if sides.pooled else embedded
    loss = sides.loss(h, worlds.tensors(segment.targets))
    assert loss.sum.item() == 0 and float(loss.count) == 0
    loss.sum.backward()  # every rank runs every read-out, also on nothing


@every_role
@every_case
def test_noise_of_a_row_does_not_depend_on_its_neighbours(case: Case, role: Role) -> None:
    sides = worlds.fitted(case)
    content, keys = worlds.content_of(sides, case.values), worlds.keys(len(case.values))
    on = worlds.on_of(sides, keys) if role == Role.ASKED else None
    lens = None if on is None else on.lens
    together = _documents(sides, worlds.segment(sides, content, role, keys, True), lens)
    for chosen in ([3], [7, 0, 5]):
        index = np.array(chosen)
        segment = worlds.segment(sides, content.take(index), role, keys[index], True)
        alone = _documents(sides, segment, None if on is None else on.lens[index])
        for (x, targets), i in zip(alone, chosen, strict=True):
            torch.testing.assert_close(x, together[i][0], rtol=1e-5, atol=1e-6)
            _equal(targets, together[i][1])


def _documents(
    sides: Any, segment: Segment, read_on: np.ndarray | None
) -> list[tuple[torch.Tensor, dict[str, np.ndarray]]]:
    """Each document's embedding and targets, read on its own positions or on another column's."""
    with torch.no_grad():
        parts = sides.embed(worlds.tensors(segment.content)).split(segment.lens.tolist())
    lens = segment.lens if read_on is None else read_on
    whose = np.repeat(np.arange(len(lens)), lens)
    reads = whose[segment.reads] if segment.reads is not None else np.zeros(0, dtype=np.int64)
    return [(x, {n: t[reads == i] for n, t in segment.targets.items()}) for i, x in enumerate(parts)]


# -- answers -------------------------------------------------------------------------------------------------
def _decoded(sides: Any, keys: np.ndarray, sampling: Sampling, keep: list[int] | None = None) -> list[Answer]:
    """The decoding loop with an identity for a trunk. `keep`: only these documents go on after one step."""
    on = worlds.on_of(sides, keys)
    state = sides.start(worlds.context(keys, sampling, on=on))
    for step in range(1000):
        n = len(state["done"])
        assert state["done"].dtype == torch.bool and all(len(t) == n for t in state.values()), "documents come first"
        if bool(state["done"].all()):
            return sides.finish(state)
        if on is not None:
            x = torch.from_numpy(rng.normal(rng.mix(keys, "h"), int(on.lens.max(initial=0)), WIDTH))
        else:
            query = sides.query(state)
            x = sides.embed(query.content).view(n, query.t, WIDTH)
        h = torch.cat([x, x], dim=-1) if sides.pooled else x
        state = sides.step(state, h, h * 0.5 if isinstance(sides.module, Guided) and sampling.guidance != 1 else None)
        if step == 0 and keep is not None:
            state = {name: t[keep] for name, t in state.items()}
    raise AssertionError("never done")


@every_case
@torch.inference_mode()
def test_decoding_gives_one_answer_a_document_in_the_columns_own_units(case: Case) -> None:
    sides = worlds.fitted(case).eval()
    worlds.wake(sides)
    result = _decoded(sides, worlds.keys(5), Sampling(max_length=12, steps=4))
    assert len(result) == 5
    for answer in result:
        if case.valid:
            sides.encode(answer.value)  # an answer is a value: it can be given again
        assert answer.logprob is None or answer.logprob <= 1e-4
        if isinstance(answer.probability, dict):
            assert list(answer.probability) == class_names(sides.encoder)
            assert all(0 <= p <= 1 for p in answer.probability.values())
        elif answer.probability is not None:
            assert 0 <= answer.probability <= 1 + 1e-6
        if answer.interval is not None:
            assert answer.interval[0] <= answer.value <= answer.interval[1]
    result = sides.measure(result, case.values[:5])
    assert result and all(v is None or np.isfinite(v) for v in result.values())
    assert json.dumps(result, allow_nan=False)


@every_case
@torch.inference_mode()
def test_sampling_is_keyed_and_documents_go_their_own_way(case: Case) -> None:
    sides = worlds.fitted(case).eval()
    worlds.wake(sides)
    keys = worlds.keys(6)
    for sampling in (
        Sampling(temperature=1.0, top_p=0.95, max_length=10, steps=3, guidance=2.0),
        Sampling(max_length=10),
    ):
        together = _decoded(sides, keys, sampling)
        _same(_decoded(sides, keys, sampling), together)
        _same(_decoded(sides, keys[[4, 1]], sampling), [together[4], together[1]])
        _same(_decoded(sides, keys, sampling, keep=[5, 2]), [together[5], together[2]])


def _decoded_as_they_come(sides: Any, arrivals: list[tuple[int, np.ndarray, list[Sampling]]]) -> list[Answer]:
    """As a session does it: documents begin at different steps (sorted), take every step together with those of their
    phase, and leave when they are done. No more positions are asked for than was said."""
    rows: dict[int, Rows] = {}
    answers: dict[int, Answer] = {}
    count = 0

    def keep(some: Rows) -> None:
        phase = int(some.state["phase"][0]) if "phase" in some.state else 0
        rows[phase] = join([rows[phase], some]) if phase in rows else some

    for step in range(1000):
        while arrivals and arrivals[0][0] <= step:
            _, keys, sampling = arrivals.pop(0)
            bound = [int(sides.answer_positions(np.zeros(1, dtype=np.int64), each)[0]) for each in sampling]
            own = {"slot": torch.arange(count, count + len(keys)), "bound": torch.tensor(bound)}
            own["kept"] = torch.zeros_like(own["slot"])
            count += len(keys)
            keep(Rows(Kind("", False, 1, 0), sides.start(AnswerContext(keys, sampling, worlds.CPU)), own))
        if not rows and not arrivals:
            return [answers[i] for i in range(count)]
        stepping, rows = list(rows.values()), {}
        for some in stepping:
            query, own = sides.query(some.state), some.own
            lens = torch.full_like(own["kept"], query.t) if query.valid is None else query.valid.sum(1)
            assert (own["kept"] + lens <= own["bound"]).all()
            x = sides.embed(query.content).view(len(some), query.t, WIDTH)
            state = sides.step(some.state, torch.cat([x, x], dim=-1) if sides.pooled else x, None)
            after = Rows(some.kind, state, {**own, "kept": own["kept"] + lens * query.keep})
            for finished in (True, False):
                part = after.select((after.finished() == finished).nonzero()[:, 0])
                if len(part) and finished:
                    answers |= dict(zip(part.own["slot"].tolist(), sides.finish(part.state), strict=True))
                elif len(part):
                    keep(part)
    raise AssertionError("never done")


@every_case
@torch.inference_mode()
def test_documents_that_begin_at_different_times_are_answered_together(case: Case) -> None:
    sides = worlds.fitted(case).eval()
    worlds.wake(sides)
    if worlds.on_of(sides, worlds.keys(1)) is not None:
        return  # it takes no steps of the trunk
    hot = Sampling(temperature=1.0, top_k=4, max_length=5, steps=5)
    ways = [Sampling(max_length=9, steps=3), hot, Sampling(max_length=3, steps=2)]
    keys, sampling = worlds.keys(9), [ways[i % 3] for i in range(9)]
    arrivals = [(first // 3, keys[first : first + 3], sampling[first : first + 3]) for first in (0, 3, 6)]
    result = _decoded_as_they_come(sides, arrivals)
    alone = [_decoded(sides, keys[i : i + 1], each)[0] for i, each in enumerate(sampling)]
    for one, other in zip(result, alone, strict=True):
        if isinstance(one.value, bytes):
            assert worlds.same_sound(one.value, other.value)
        else:
            _same([one], [other])


def _same(result: list[Answer], expected: list[Answer]) -> None:
    for a, b in zip(result, expected, strict=True):
        if isinstance(a.value, list) and a.value and isinstance(a.value[0], dict):
            for one, other in zip(a.value, b.value, strict=True):
                assert one.keys() == other.keys() and one["label"] == other["label"]
                np.testing.assert_allclose(one["box"], other["box"], atol=0.05)
            continue
        if isinstance(a.value, list) and a.value and not isinstance(a.value[0], str):
            np.testing.assert_allclose(a.value, b.value, rtol=1e-4, atol=1e-4)
        elif isinstance(a.value, float):
            assert a.value == pytest.approx(b.value, rel=1e-4, abs=1e-4)
        else:
            assert np.array_equal(a.value, b.value)


# -- evidence ------------------------------------------------------------------------------------------------
@every_case
def test_true_answers_are_the_best_and_metrics_agree_with_rows(case: Case) -> None:
    sides = worlds.fitted(case)
    truths = case.values[:8]
    true, wrong = (_as_answers(sides, values) for values in (truths, [*truths[1:], truths[0]]))
    best, worse = sides.measure(true, truths), sides.measure(wrong, truths)
    assert list(best) == list(worse)
    main = next(iter(best))
    assert (best[main] > worse[main]) == sides.metrics()[0].higher_is_better and best[main] != worse[main]
    rows = sides.per_row(wrong, truths)
    if rows is not None:
        assert rows.shape == (8,) and rows.mean() == pytest.approx(worse[main])


@every_case
def test_whatever_is_measured_is_a_metric_of_the_type(case: Case) -> None:
    sides = worlds.fitted(case)
    truths = case.values[:8]
    measured = list(sides.measure(_as_answers(sides, truths), truths))
    declared = [metric.name for metric in sides.metrics()]
    assert measured[0] == declared[0] and set(measured) <= set(declared) and len(set(declared)) == len(declared)


def _as_answers(sides: Any, values: list[Any]) -> list[Answer]:
    """Values as answers that are sure of themselves."""
    classes = class_names(sides.encoder)
    if classes is None:
        return [Answer(v) for v in values]
    if any(isinstance(v, dict) for v in values):  # distributions: the answer is the largest, as sure as that
        shares = [{c: float(v.get(c) or 0) for c in classes} for v in values]
        return [Answer(max(p, key=p.__getitem__), p) for p in shares]
    members = [{str(x) for x in (v if isinstance(v, list) else [v])} for v in values]
    return [Answer(v, {c: float(c in m) for c in classes}) for v, m in zip(values, members, strict=True)]


@every_case
def test_baselines_are_judged_as_the_model_is(case: Case) -> None:
    sides = worlds.fitted(case)
    x = sides.features().fit_transform([*case.values[:11], None])
    assert x.shape[0] == 12 and x.shape[1] > 0
    x = x[:11]
    for make in list(sides.baselines().values())[:2]:
        estimator = make.fit(x, sides.target(case.values[:11]))
        answers = sides.answers_from(estimator, x)
        assert len(answers) == 11
        metrics = sides.measure(answers, case.values[:11])
        assert metrics and all(v is None or np.isfinite(v) for v in metrics.values())


# -- in a model ----------------------------------------------------------------------------------------------
def _table(case: Case, n: int = 8, times: int = 1) -> dict[str, list[Any]]:
    beside = {} if case.on is None else {case.on[0]: case.on[1][:n] * times}
    return {"number": [1.5 * i for i in range(n)] * times, **beside, "y": case.values[:n] * times}


def _types(case: Case) -> dict[str, str]:
    return {"number": "number", **({} if case.on is None else {case.on[0]: case.on[0]}), "y": case.type}


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.steps], ids=[n for n, c in CASES.items() if c.steps])
def test_a_small_model_memorises_it_from_another_column(case: Case) -> None:
    table = _table(case, times=4)  # so often that even a scale learnt from the rows has a place for each value
    types = _types(case)
    made = worlds.model(table, types, options={"y": case.options}, trunk={**worlds.TRUNK, "width": 64}, awake=False)
    store = worlds.store_of(made, table)
    given = [name for name in types if name != "y"]
    task = worlds.objective(store, given=given, ask=["y"])
    train(made, store, task, case.steps)
    table = _table(case)
    answers = made.answer({name: table[name] for name in given}, "y", given, Sampling(max_length=24, steps=8))
    right = [case.right(a.value, t) for a, t in zip(answers, table["y"], strict=True)]
    assert sum(right) >= 7, list(zip([a.value for a in answers], table["y"], strict=True))


def train(made: Any, store: Any, task: Any, steps: int) -> None:
    """Plain Adam on whole passes over the store."""
    learner = worlds.learner(made, task).train()
    optimizer = torch.optim.Adam(learner.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.05, steps)
    rows = np.arange(len(store.index))
    for step in range(steps):
        planned = task.assign_roles(rows, store.present[rows], worlds.keys(len(rows), step))
        (loss,) = learner(worlds.assemble({task.tag: planned}, store, augment=False)).values()
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        optimizer.step()
        schedule.step()
    learner.eval()


@every_case
def test_given_masked_and_missing_values_train_side_by_side(case: Case) -> None:
    table = {"x": [None, *case.values[1:8]], "y": [*case.values[:5], None, None, None]}
    made = worlds.model(table, {"x": case.type, "y": case.type}, options={"x": case.options, "y": case.options})
    store = worlds.store_of(made, table)
    batch = worlds.batch(store, range(8), given=["x"], ask=[], masked=["y"])
    losses = worlds.learner(made, worlds.objective(store))(batch)
    assert {name for name, loss in losses.items() if loss.count > 0} == batch.counts.keys() == {"predict/y"}
    assert float(losses["predict/y"].count) == pytest.approx(batch.counts["predict/y"])
    assert set(losses["predict/y"].doc.tolist()) <= set(range(5))  # rows without y teach nothing of it
    losses["predict/y"].sum.backward()
    assert torch.isfinite(losses["predict/y"].sum)
    answers = made.answer({"x": table["x"]}, "y", ["x"], Sampling(max_length=5, steps=2))
    assert len(answers) == 8  # also the row without x
    with torch.autocast("cpu", torch.bfloat16):  # as validation answers where training is in bf16
        assert len(made.answer({"x": table["x"]}, "y", ["x"], Sampling(max_length=5, steps=2))) == len(answers)


@every_case
def test_another_process_makes_the_same_batches_and_losses(case: Case) -> None:
    table, types = _table(case), _types(case)
    made = worlds.model(table, types, options={"y": case.options})
    store = worlds.store_of(made, table)
    learner = worlds.learner(made, worlds.objective(store), worlds.objective(store, "masked"))
    ours = learner, Loader(store, list(learner.objectives), seed=1, tokens_per_batch=1 << 20, shares=2)
    arrays: list[Any] = []
    theirs = unpacked(packed(ours, arrays.append), arrays)
    totals = [[], []]
    for total, (module, batches) in zip(totals, (ours, theirs), strict=True):
        for batch in batches(3):
            torch.manual_seed(0)
            total.append({name: (loss.sum, loss.count) for name, loss in module(batch).items()})
    assert len(totals[0]) == 2
    assert totals[0] == totals[1]


@every_case
def test_a_saved_model_answers_alike(case: Case, tmp_path: Any) -> None:
    table = _table(case, 12)
    types = _types(case)
    made = worlds.model(table, types, options={"y": case.options})
    made.save(tmp_path / "m")
    again = load(tmp_path / "m")
    for sampling in (
        Sampling(max_length=8, steps=3),
        Sampling(temperature=0.9, max_length=8, steps=3, seed=4),
    ):
        for ask, given in (("y", [name for name in types if name != "y"]), ("number", ["y"])):
            before, after = (m.answer(table, ask, given, sampling) for m in (made, again))
            for a, b in zip(before, after, strict=True):
                assert np.array_equal(a.value, b.value) and a.probability == b.probability
                assert a.interval == b.interval and a.samples == b.samples


@every_case
def test_what_was_learnt_stays_when_an_encoder_is_extended(case: Case) -> None:
    table = {"number": [float(i) for i in range(8)], "y": case.values[:8]}
    made = worlds.model(table, {"number": "number", "y": case.type}, options={"y": case.options})
    store, sides = worlds.store_of(made, table), worlds.Sides.of(made, "y")
    before = _read_out(made, store)
    old = class_names(sides.encoder)
    encoded = [sides.encode(v) for v in case.values[:8]]
    sides.extend(case.values)
    for value, kept in zip(case.values[:8], encoded, strict=True):
        grown = sides.encode(value)
        for name, array in kept.items():  # arrays with a place for each class grow at their end
            same = grown[name][tuple(slice(length) for length in np.shape(array))]
            assert np.array_equal(same, array)
    if old is not None:
        assert class_names(sides.encoder)[: len(old)] == old
    torch.testing.assert_close(_read_out(made, worlds.store_of(made, table)), before, rtol=0, atol=1e-6)


@torch.inference_mode()
def _read_out(made: Any, store: Any) -> torch.Tensor:
    """States of everything when y is given."""
    return made.network.encode(worlds.batch(store, range(8), given=["y"], ask=["number"])).h_ND


def _equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert np.array_equal(one[name], other[name]), name
