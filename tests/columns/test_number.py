"""Numbers: what is accepted, learnt and answered, against scikit-learn and closed forms."""

import json
from decimal import Decimal
from functools import partial

import numpy as np
import pytest
import torch
import worlds

from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.content import Content, Role
from onetrunk.core.decoding import Query
from onetrunk.core.errors import BadValueError, DataError, UsageError

Number = partial(worlds.Sides, "number")

WIDTH = 16
CPU = torch.device("cpu")


def fitted(values: list, build: bool = True) -> worlds.Sides:
    torch.manual_seed(0)
    sides = Number()
    sides.fit(values)
    if build:
        sides.build(WIDTH)
    return sides


def prices() -> list[float]:
    return np.random.default_rng(0).lognormal(3, 1, 400).round(2).tolist()


def content_of(sides: worlds.Sides, values: list) -> Content:
    content, present = sides.encode_all(values, lambda i, reason: pytest.fail(reason))
    assert present.all()
    return content


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def answers(sides: worlds.Sides, h: torch.Tensor, sampling: Sampling) -> list[Answer]:
    state = sides.start(worlds.context(np.arange(len(h), dtype=np.uint64), sampling))
    query: Query = sides.query(state)
    assert query.t == 1 and sides.embed(query.content).shape == (len(h), WIDTH)
    state = sides.step(state, h[:, None], None)
    assert state["done"].all()
    return sides.finish(state)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3.0), (2.5, 2.5), (Decimal("1.25"), 1.25), (np.int64(4), 4.0), (np.float32(0.5), 0.5),
        (" 7 ", 7.0), ("-1.5e3", -1500.0), (".5", 0.5), ("1,234", 1234.0), ("-12,345.5", -12345.5),
    ],
)  # fmt: skip
def test_reads_numbers_and_their_spellings(value: object, expected: float) -> None:
    assert Number().to_line(value) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("many", "'many' is not a number"),
        ("12 kg", "'12 kg' has the unit 'kg'; the column's numbers are without a unit"),
        ("1,23", "'1,23' is not a number"),
        ("1_000", "is not a number"),
        ("", "is not a number"),
        ("NaN", "is not a finite number"),
        ("-inf", "is not a finite number"),
        ("1e999", "is not a finite number"),
        (float("nan"), "is not a finite number"),
        (float("inf"), "is not a finite number"),
        (Decimal("sNaN"), "is not a finite number"),
        (10**400, "cannot be held"),
        (True, r"found True \(bool\)"),
        (np.bool_(True), "expected a number"),
        (1j, "expected a number"),
        ([1], r"found \[1\] \(list\)"),
    ],
)
def test_refuses_what_is_no_number_and_says_why(value: object, reason: str) -> None:
    with pytest.raises(BadValueError, match=reason):
        Number().to_line(value)


def test_words_in_a_number_column_are_reported_one_by_one() -> None:
    sides = fitted([1.0, 2.0, "3", "unknown", 4.5])
    reasons: dict[int, str] = {}
    content, present = sides.encode_all([1, None, "many", float("nan"), "2"], reasons.__setitem__)
    assert present.tolist() == [True, False, False, False, True]
    assert reasons == {2: "'many' is not a number", 3: "nan is not a finite number"}
    assert len(content) == 2
    empty, present = sides.encode_all([None], reasons.__setitem__)
    assert len(empty) == 0 and not present.any()
    with pytest.raises(DataError, match=r"at least one usable value.*'b' is not a number"):
        Number().fit(["a", "b"])


def test_recognises_numbers() -> None:
    many = [float(x) / 7 for x in range(60)]
    assert Number().recognise(many) == 0.95
    assert Number().recognise([str(x) for x in many]) == 0.95
    assert Number().recognise([0, 1, 2] * 20) == pytest.approx(0.6)
    assert Number().recognise([0.0, 1.0] * 30) == pytest.approx(0.6)
    assert Number().recognise([0, 1, 2]) == 0.95  # too few rows to look like classes
    assert 0.8 < Number().recognise([*many, "unknown", "?"]) < 0.95
    assert Number().recognise([True, False] * 30) == 0
    assert Number().recognise(["a", "b", "1"]) == 0
    assert Number().recognise(["00123", "01730"] * 10) == 0
    assert Number().recognise([]) == 0


def test_round_trip_through_the_line_and_knowledge() -> None:
    sides = fitted(prices())
    again = Number()
    again.set_knowledge(json.loads(json.dumps(sides.knowledge())))
    again.build(WIDTH)
    again.load_state_dict(sides.state_dict())
    for value in (0.01, 20.0, 1e9, -3.5):
        z = sides.encode(value)["value"]
        assert z.dtype == np.float32 and z == again.encode(value)["value"]
        assert sides.value(float(z)) == pytest.approx(value, rel=1e-5, abs=1e-4)
    assert again.knowledge() == sides.knowledge()
    h = torch.randn(3, 2 * WIDTH)
    assert answers(sides, h, Sampling()) == answers(again, h, Sampling())
    assert sides.extend([1e6]) == 0


def test_heavy_tails_and_shared_values_leave_the_rest_apart() -> None:
    rng = np.random.default_rng(1)
    incomes = [0.0] * 900 + rng.lognormal(9, 1, 99).tolist() + [1e12]
    sides = fitted(incomes)
    z = sides.encode_all(incomes, lambda i, reason: None)[0].data["value"]
    between = np.sort(z[900:999])
    assert between.std() > 0.3 and between.max() < 100
    inputs = sides._inputs({"value": torch.from_numpy(z)})
    assert torch.isfinite(inputs).all() and inputs.abs().max() <= 3
    assert torch.unique(inputs, dim=0).shape[0] > 50
    loss = sides.loss(torch.zeros(1000, 2 * WIDTH), {"value": torch.from_numpy(z), "w": torch.ones(1000)})
    assert torch.isfinite(loss.each).all()


@pytest.mark.parametrize("values", [[5.0], [5.0] * 20, [1, 2], [1e300, -1e300, 0.0]])
def test_odd_columns_still_answer(values: list[float]) -> None:
    sides = fitted(values)
    (answer,) = answers(sides, torch.zeros(1, 2 * WIDTH), Sampling())
    assert np.isfinite([answer.value, *answer.interval]).all()
    if len(set(values)) == 1:
        assert answer.value == pytest.approx(5, abs=0.05)


def test_steps_are_the_piecewise_linear_encoding() -> None:
    sides = fitted(np.random.default_rng(2).normal(size=300).tolist())
    z = torch.linspace(-4, 4, 41)
    got = sides._inputs({"value": z})
    borders = sides.bars.borders.double().numpy()
    for i, value in enumerate(z.double().numpy()):
        ple = np.array([np.interp(value, borders[j : j + 2], [0, 1]) for j in range(len(borders) - 1)])
        np.testing.assert_allclose(got[i, :-1].numpy(), ple / len(ple) ** 0.5, atol=1e-4)
    assert (got[:, -1].diff() > 0).all()  # outliers keep their order


def test_segments_hide_what_is_asked() -> None:
    sides = fitted(prices())
    content = content_of(sides, [1.0, 20.0, 300.0])
    keys = np.arange(3, dtype=np.uint64)
    given = sides.segment(content, Role.GIVEN, keys)
    assert given.reads is None and not given.content["hidden"].any()
    for role in (Role.ASKED, Role.MASKED):
        hidden = sides.segment(content, role, keys)
        assert hidden.content.keys() == given.content.keys()
        assert {k: v.dtype for k, v in hidden.content.items()} == {k: v.dtype for k, v in given.content.items()}
        assert hidden.content["hidden"].all() and not hidden.content["value"].any()
        assert hidden.reads.tolist() == [0, 1, 2] and hidden.lens.tolist() == [1, 1, 1]
        np.testing.assert_array_equal(hidden.targets["value"], content.data["value"])
        assert hidden.targets["w"].tolist() == [1, 1, 1]
        embedded = sides.embed(tensors(hidden.content))
        assert torch.equal(embedded, sides.slot.expand(3, -1))
    assert sides.embed(tensors(given.content)).unique(dim=0).shape == (3, WIDTH)


def test_first_answer_is_the_training_distribution() -> None:
    values = np.random.default_rng(3).gamma(2.0, 10.0, 2000)
    sides = fitted(values.tolist())
    drawn = answers(sides, torch.randn(300, 2 * WIDTH), Sampling(temperature=1.0))
    assert drawn[0].value == pytest.approx(values.mean(), rel=0.02)
    assert drawn[0].interval == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])), abs=0.3)
    samples = np.array([answer.samples for answer in drawn]).ravel()
    assert samples.mean() == pytest.approx(values.mean(), rel=0.03)
    assert samples.std() == pytest.approx(values.std(), rel=0.05)
    assert drawn[0].samples == answers(sides, torch.zeros(1, 2 * WIDTH), Sampling(temperature=1.0))[0].samples
    assert answers(sides, torch.zeros(1, 2 * WIDTH), Sampling())[0].samples is None


def test_loss_is_weighted_and_learns_a_line() -> None:
    """A read-out on top of the embedding recovers y = 3 x + 2 as least squares does."""
    generator = np.random.default_rng(4)
    x = generator.uniform(-5, 5, 500)
    y = 3 * x + 2 + generator.normal(0, 0.5, 500)
    given, asked = fitted(x.tolist()), fitted(y.tolist())
    inputs = tensors({"value": content_of(given, x.tolist()).data["value"], "hidden": np.zeros(500, dtype=bool)})
    targets = {"value": torch.from_numpy(content_of(asked, y.tolist()).data["value"]), "w": torch.ones(500)}
    mixer = torch.nn.Sequential(torch.nn.Linear(WIDTH, 2 * WIDTH), torch.nn.GELU())
    parameters = [*given.line.parameters(), *asked.head.parameters(), *mixer.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        loss = asked.loss(mixer(given.embed(inputs)), targets)
        (loss.sum / loss.count).backward()
        optimizer.step()
    predicted = answers(asked, mixer(given.embed(inputs)), Sampling())
    residuals = np.array([a.value for a in predicted]) - y
    assert np.sqrt((residuals**2).mean()) < 0.75 < 0.1 * y.std()
    inside = np.mean([a.interval[0] <= truth <= a.interval[1] for a, truth in zip(predicted, y, strict=True)])
    assert 0.8 < inside < 0.99
    targets["w"] = torch.zeros(500).index_fill(0, torch.tensor([7]), 2.0)
    weighted = asked.loss(mixer(given.embed(inputs)), targets)
    assert weighted.sum.item() == pytest.approx(2 * weighted.each[7].item(), rel=1e-5)
    assert weighted.count.item() == 2
    nothing = asked.loss(torch.zeros(0, 2 * WIDTH), {"value": torch.zeros(0), "w": torch.zeros(0)})
    nothing.sum.backward()
    assert nothing.sum.item() == 0 == nothing.count.item()


def test_features_and_baselines_are_scikit_learns() -> None:
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    generator = np.random.default_rng(5)
    x = generator.normal(10, 3, 200)
    y = 2 * x + generator.normal(0, 0.1, 200)
    sides = fitted(x.tolist(), build=False)
    matrix = sides.features().fit_transform([x[0], None, "word", str(x[1])])
    assert matrix.shape == (4, 2)
    assert matrix[:, 1].tolist() == [0, 1, 1, 0] and matrix[1, 0] == matrix[2, 0] == 0
    assert matrix[0, 0] == pytest.approx((x[0] - np.median(x)) / sides.scale, rel=1e-5)
    target = fitted(y.tolist(), build=False)
    names = list(target.baselines())
    assert names[0] == "mean"
    errors = {}
    for name, estimator in target.baselines().items():
        model = make_pipeline(sides.features(), estimator).fit(x.tolist(), target.target(y.tolist()))
        predicted = np.array([a.value for a in target.answers_from(model, x.tolist())])
        errors[name] = np.sqrt(((predicted - y) ** 2).mean())
    assert errors["mean"] == pytest.approx(y.std())
    plain = LinearRegression().fit(x[:, None], y).predict(x[:, None])
    assert errors["ridge"] == pytest.approx(np.sqrt(((plain - y) ** 2).mean()), rel=0.1)
    assert errors["gradient boosting"] < errors["mean"]


def test_metrics_are_in_the_columns_units() -> None:
    pytest.importorskip("onetrunk.metrics.regression")
    sides = fitted([1.0, 2.0, 3.0, 4.0], build=False)
    answers = [Answer(1.5, interval=(0, 2)), Answer(2.5, interval=(0, 1)), Answer(2.0, interval=(0, 9))]
    metrics = sides.measure(answers, [1, "2", 4.0])
    assert next(iter(metrics)) == "rmse" and not sides.metrics()[0].higher_is_better
    assert metrics["rmse"] == pytest.approx(np.sqrt((0.25 + 0.25 + 4) / 3))
    assert metrics["mae"] == pytest.approx(1.0)
    assert metrics["coverage"] == pytest.approx(2 / 3)
    assert sides.measure([Answer(1.0), Answer(3.0)], [1, 2])["rmse"] == pytest.approx(np.sqrt(0.5))


def test_describe_fingerprint_and_figure() -> None:
    from matplotlib.figure import Figure

    described = Number().describe([0, "1", 2, 3, 4, "word"])
    assert described["min"] == 0 and described["max"] == 4 and described["25 %"] == 1
    assert described["mean"] == 2 and described["zeros"] == 1 and described["whole"] is True
    json.dumps(described)
    assert Number().describe(["a"]) == {"values": 0}
    same = {Number().fingerprint(v) for v in (1, 1.0, "1", "1.00", Decimal(1), np.int64(1), np.float32(1))}
    assert same == {"1"}
    assert Number().fingerprint(2**60) != Number().fingerprint(2**60 + 1)
    assert Number().fingerprint(0.1) == Number().fingerprint("0.10") != Number().fingerprint(0.2)
    axes = Figure().add_subplot()
    assert fitted([1.0, 2.0], build=False).figure([Answer(1.2), Answer(1.9)], [1, "2"], axes)
    assert axes.collections[0].get_offsets().tolist() == [[1, 1.2], [2, 1.9]]


def test_options_are_strict() -> None:
    sides = Number({"bars": 8})
    sides.fit(prices())
    assert len(sides.bars.mass) <= 10
    with pytest.raises(UsageError, match=r"'bar'.*Did you mean 'bars'"):
        Number({"bar": 8})
