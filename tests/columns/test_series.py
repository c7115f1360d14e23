"""Series: reading, norms, what sees what, losses and answers against slow references."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
import worlds
from matplotlib.figure import Figure
from sklearn.linear_model import Ridge

from onetrunk.columns.series.baselines import Linear, SeasonalNaive
from onetrunk.columns.series.channels import Channels, filled, norm, read, season
from onetrunk.columns.series.display import bars
from onetrunk.columns.series.encoder import QUANTILES
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.content import Role
from onetrunk.core.errors import BadValueError, DataError, UsageError
from onetrunk.data.ledger import Ledger
from onetrunk.evaluation.gather import gather_evidence

Series = partial(worlds.Sides, "series")

NAN = math.nan


def walk(n, points=20, channels=1, seed=0):
    result = np.random.default_rng(seed).normal(size=(n, points, channels)).cumsum(1)
    return [x[:, 0].tolist() if channels == 1 else x.tolist() for x in result]


def made(values, given="bidirectional", **options):
    options = {"horizon": 4, "patch": 3, **options}
    return worlds.model({"y": values}, {"y": "series"}, options={"y": options}, given=given)


# -- values --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, None, 2.5], [[1], [NAN], [2.5]]),
        (np.arange(3), [[0], [1], [2]]),
        ([[1, 2], [3, None]], [[1, 2], [3, NAN]]),
        ({"a": [1.0, 2.0], "b": (3, None)}, [[1, 3], [2, NAN]]),
    ],
)
def test_values_are_read(value, expected):
    names, x = read(value)
    np.testing.assert_array_equal(x, expected)
    assert names == (["a", "b"] if isinstance(value, dict) else None)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("1 2 3", "expected a series of numbers, found '1 2 3' (str)"),
        (7, "expected a series of numbers, found 7 (int)"),
        ([], "the series is empty"),
        ([1, "two"], "expected numbers"),
        ([[1, 2], [3]], "expected numbers, all channels equally long"),
        ([True, False], "expected numbers, found np.True_"),
        ([1.0, math.inf], "an infinite value"),
        ([None, NAN], "every point is missing"),
        ({"a": [1], "b": [1, 2]}, "expected channels of one length"),
        ({}, "expected channels of one length"),
        ([[[1]]], "expected numbers [T] or [T, channels], found shape [1, 1, 1]"),
    ],
)
def test_what_is_no_series_is_refused_with_its_reason(value, reason):
    with pytest.raises(BadValueError) as error:
        read(value)
    assert str(error.value).startswith(reason)


def test_channels_keep_their_names_and_order_and_others_are_refused():
    sides = Series({"horizon": 1})
    sides.fit([{"a": [1.0, 2.0, 3.0], "b": [10.0, 20.0, 60.0]}, {"b": [1.0, None], "a": [0.0, 2.0]}])
    restored = Channels(**sides.knowledge())
    assert restored.names == ["a", "b"] and restored.centre == pytest.approx([8 / 5, 91 / 4])
    x = sides.encode({"b": [20.0], "a": [2.0]})["x"]
    np.testing.assert_allclose(restored.own(x), [[2, 20]], rtol=1e-6)
    assert restored.written(restored.own(x)) == {"a": pytest.approx([2]), "b": pytest.approx([20])}
    for value in ({"a": [1.0], "c": [1.0]}, [1.0, 2.0]):
        with pytest.raises(BadValueError, match=r"expected 2 channels \(a, b\), found (a, c|1)"):
            sides.encode(value)


def test_the_scale_is_of_all_points_that_are_there():
    sides = Series({"horizon": 1, "period": 1})
    sides.fit([[1.0, None, 3.0], [8.0, 8.0]])
    assert sides.channels.centre == [5.0] and sides.channels.scale == [pytest.approx(np.std([1, 3, 8, 8]))]
    assert sides.channels.naive == 1.0  # no two neighbours differ: not a division by nothing
    sides.fit([[5.0, 5.0, 5.0]])
    assert sides.channels.scale == [1.0]
    with pytest.raises(DataError, match="every point is missing"):
        sides.fit([[None, None]])


def test_seasons_are_found_where_there_are_any():
    dice = np.random.default_rng(0)
    t = np.arange(300)
    assert season([np.sin(t / 24 * 2 * np.pi)[:, None] + dice.normal(0, 0.1, (300, 1)) + t[:, None] / 50]) == 24
    weeks = [np.tile([5.0, 1, 1, 1, 1, 2, 9], 6)[i : i + 30, None] + dice.normal(0, 0.5, (30, 1)) for i in range(7)]
    assert season(weeks) == 7
    assert season([dice.normal(size=(400, 2)).cumsum(0)]) == 1
    assert season([np.array([[1.0]])]) == season([np.array([[1.0], [2.0]])]) == 1


def test_norms_and_fillings():
    past = np.array([[[1.0, NAN, 3.0]], [[NAN, NAN, NAN]], [[7.0, 7.0, 7.0]], [[0.0, 0.0, 0.0]]])
    centre, scale = norm(past)
    np.testing.assert_allclose(centre[:, 0], [2, 0, 7, 0])
    np.testing.assert_allclose(scale[:, 0], [1, 1, 0.07, 1], rtol=1e-3)  # of a constant a share of its size
    x = np.array([[NAN, 1], [2, NAN], [NAN, NAN], [4, NAN]])
    np.testing.assert_array_equal(filled(x), [[2, 1], [2, 1], [2, 1], [4, 1]])


def test_series_of_every_size_are_normed_by_their_own():
    """Of sizes 1 and ten thousand, and of coins of ten to the minus five, what the network sees is one series."""
    wave = [3 + np.sin(i) + 0.1 * (i % 3) for i in range(40)]
    sizes = [1e-5, 1, 100, 1e4]
    channels = Channels.fit([[size * v for v in wave] for size in sizes], None)
    for size in sizes:
        x = channels.scaled([size * v for v in wave]).T[None]
        centre, scale = channels.norm(x)
        np.testing.assert_allclose(
            (x - centre[..., None]) / scale[..., None], (np.array([[wave]]) - np.mean(wave)) / np.std(wave), rtol=1e-3
        )
    for constant, least in ((5.0, 0.02), (0.0, 0.005 * channels.scale[0])):  # nothing is divided by nothing
        _, scale = channels.norm(channels.scaled([constant] * 8).T[None])
        assert least < scale[0, 0] * channels.scale[0] < 0.02 * max(constant, channels.scale[0])


def test_small_series_beside_large_ones_are_answered_in_their_own_size():
    dice, sizes = np.random.default_rng(0), (1e-4, 1.0, 1e4)
    week = 3 + np.sin(np.arange(49) * 2 * np.pi / 7)
    rows = [[float(v) for v in size * (week + 0.05 * dice.normal(size=49))] for _ in range(16) for size in sizes]
    model = worlds.model({"y": rows}, {"y": "series"}, options={"y": {"horizon": 7, "patch": 7, "period": 7}})
    answers = model.answer({"y": [row[:-7] for row in rows]}, "y")
    for k, size in enumerate(sizes):
        true, predicted = np.array([row[-7:] for row in rows[k::3]]), np.array([a.value for a in answers[k::3]])
        low, high = (np.array([a.interval[end] for a in answers[k::3]]) for end in (0, 1))
        assert np.sqrt(((predicted - true) ** 2).mean()) < 0.2 * size
        assert (low <= predicted).all() and (predicted <= high).all() and (high - low).mean() < 5 * size


def test_a_person_sees_a_line_of_bars():
    assert bars([0, None, 7]) == "▁ █ 0 to 7, 3 points"
    assert bars({"a": [1, 1], "b": [1, 2]}) == "a: ▁▁ 1 to 1, 2 points\nb: ▁█ 1 to 2, 2 points"
    assert bars("nothing") == "nothing"
    result = Series().describe([[1.0, 2.0], [None, 5.0, 6.0], "bad"])
    assert result["points"] == {"shortest": 2, "median": 2.5, "longest": 3} and result["missing points"] == 1
    assert Series().recognise([[0.5, 1.0]]) > Series().recognise([[3, 1, 4]]) > 0 == Series().recognise([["a"], ["b"]])


# -- what sees what ------------------------------------------------------------------------------------------
def test_slots_see_the_history_only_and_paths_see_them():
    values = walk(6, channels=2)
    model = made(values)
    store = worlds.store_of(model, {"y": values})
    other = [[*v[:-4], *[[9.0, -9.0]] * 4] for v in values]
    changed = worlds.store_of(model, {"y": other})
    states = []
    for each in (store, changed):
        batch = worlds.batch(each, range(6), given=[], ask=["y"])
        read_ = batch.reads["predict"]["y"]
        with torch.inference_mode():
            states.append((model.network.encode(batch).h_ND[read_.flat_r], read_.targets["velocity"] > 0))
    (h, flow), (changed_h, _) = states
    assert flow.any() and not flow.all()
    torch.testing.assert_close(h[~flow], changed_h[~flow], rtol=0, atol=1e-6)
    assert (h[flow] - changed_h[flow]).abs().max() > 1e-3
    # Earlier points are seen: a history that differs moves every slot.
    earlier = worlds.store_of(model, {"y": [[[50.0, 1.0], *v[1:]] for v in values]})
    batch = worlds.batch(earlier, range(6), given=[], ask=["y"])
    with torch.inference_mode():
        moved = model.network.encode(batch).h_ND[batch.reads["predict"]["y"].flat_r][~flow]
    assert ((moved - h[~flow]).abs().amax(1) > 1e-4).all()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("given", ["bidirectional", "causal"])
def test_answers_are_what_training_read(given, channels):
    """The decoding loop, over the cache, against one forward pass with everything in it."""
    values = [v[i:] for i, v in enumerate(walk(5, channels=channels))]  # of several lengths
    model = made(values, given)
    sides = worlds.Sides.of(model, "y")
    batch = worlds.batch(worlds.store_of(model, {"y": values}), range(5), given=[], ask=["y"])
    read_ = batch.reads["predict"]["y"]
    with torch.inference_mode():
        linear = sides.head.linear(read_.targets["past"], read_.targets["slot"])
        result = sides.head(model.network.encode(batch).h_ND[read_.flat_r], linear)
    result = result[read_.targets["velocity"] == 0].view(5, channels, -1, 1 + len(QUANTILES))[:, :, :4]
    answers = model.answer({"y": [sides.split(v)[0] for v in values]}, "y")
    for i, (value, answer) in enumerate(zip(values, answers, strict=True)):
        past = sides.channels.scaled(value)[:-4][-sides.length :]
        centre, scale = norm(past.T[None])
        expected = sides.channels.own((result[i, ..., 0].numpy() * scale[0][:, None] + centre[0][:, None]).T)
        np.testing.assert_allclose(np.reshape(answer.value, (4, channels)), expected, rtol=1e-3, atol=1e-4)


def test_missing_points_are_left_out_of_history_and_loss():
    values = walk(8)
    values[0][3] = values[0][-1] = None
    model = made(values)
    sides, store = worlds.Sides.of(model, "y"), worlds.store_of(model, {"y": values})
    segment = sides.segment(store.contents[0], Role.ASKED, worlds.keys(8))
    there = segment.targets["present"].reshape(8, 2, 2, 3)[:, 0].reshape(8, 6)  # of the slots
    assert there[0].tolist() == [1, 1, 1, 0, 0, 0] and there[1].tolist() == [1, 1, 1, 1, 0, 0]
    past = [x for x in values[0][:16] if x is not None]
    scaled = (np.array(past) - sides.channels.centre) / sides.channels.scale
    patch = segment.content["patch"].reshape(8, -1, 8)[0, :6]
    assert patch[1, 3:6].tolist() == [1, 1, 0] and patch[1, 2] == 0  # the second, third and missing fourth point
    np.testing.assert_allclose(patch[0, -2], scaled.mean(), rtol=1e-5)
    assert sides.dropped(store.contents[0]) == {"missing points": 2}
    assert np.isfinite(model.answer({"y": [values[0][:16]]}, "y")[0].value).all()


def test_a_long_series_is_many_windows():
    values = [list(np.arange(100.0))]
    sides = worlds.Sides.of(made(values, length=8), "y")
    content = worlds.content_of(sides, values * 1000)
    assert sides.windows(content)[0] == 9
    segment = sides.segment(content, Role.ASKED, worlds.keys(1000), True)
    n, own = 1000, lambda x: x * sides.channels.scale[0] + sides.channels.centre[0]
    stat = segment.content["patch"].reshape(n, -1, 8)[:, 0, -2:]
    middles = own(stat[:, 0])
    assert set(np.round(middles - 3.5).astype(int)) == set(range(89))  # every window that has a whole history
    last = sides.segment(content, Role.ASKED, worlds.keys(1000))
    np.testing.assert_allclose(own(last.content["patch"].reshape(n, -1, 8)[:, 0, -2]), 91.5, rtol=1e-5)


# -- losses and answers --------------------------------------------------------------------------------------
def test_loss_against_a_slow_reading():
    sides = worlds.fitted(worlds.CASES["series of channels, with a history"])
    worlds.wake(sides)
    content = worlds.content_of(sides, worlds.CASES["series of channels, with a history"].values)
    segment = sides.segment(content, Role.ASKED, worlds.keys(12))
    targets = worlds.tensors(segment.targets)
    h = torch.randn(len(segment.reads), 16, generator=torch.Generator().manual_seed(0))
    loss = sides.loss(h, targets)
    for r in range(0, len(h), 7):
        past, slot = targets["past"][r].numpy(), int(targets["slot"][r])
        total = count = 0.0
        for p in range(2):
            if not targets["present"][r, p]:
                continue
            line = float(sides.head.line[2 * slot + p].detach().numpy() @ past)
            y, count = float(targets["y"][r, p]), count + 1
            if targets["velocity"][r] > 0:
                clean = float((sides.head.clean.weight[p] @ h[r] + sides.head.clean.bias[p]).detach()) + line
                total += (y - clean) ** 2 * float(targets["velocity"][r])
                continue
            out = [
                float((sides.head.points.weight[12 * p + q] @ h[r] + sides.head.points.bias[12 * p + q]).detach())
                for q in range(12)
            ]
            total += (y - line - out[0]) ** 2
            for q, level in enumerate(QUANTILES):
                apart = y - line - out[q + 1]
                total += 2 * max(level * apart, (level - 1) * apart) / len(QUANTILES)
        assert float(loss.each[r]) == pytest.approx(total / count, rel=1e-4)


def test_answers_have_ordered_quantiles_and_an_interval_around_the_value():
    values = walk(5)
    model = made(values)
    for answer in model.answer({"y": values}, "y"):
        q = np.array([answer.quantiles[level] for level in QUANTILES])
        low, high = np.array(answer.interval)
        assert q.shape == (11, 4) and (np.diff(q, axis=0) >= 0).all()
        assert (low <= answer.value).all() and (answer.value <= high).all() and answer.samples is None


def test_paths_are_drawn_only_where_learnt_and_follow_the_seed():
    values = walk(5)
    model = made(values)

    def drawn(**sampling):
        return [
            a.value for a in model.answer({"y": values}, "y", sampling=Sampling(temperature=1.0, steps=4, **sampling))
        ]

    assert drawn(seed=1) == drawn(seed=1) != drawn(seed=2)
    assert model.answer({"y": values}, "y", sampling=Sampling(temperature=1.0, steps=4))[0].samples is not None
    with pytest.raises(UsageError, match="train it with the option paths=true"):
        made(values, paths=False).answer({"y": values}, "y", sampling=Sampling(temperature=1.0))


@pytest.mark.parametrize("history", [[], None, [3.0], [None, 3.0], [3.0] * 50])
def test_any_history_is_answered(history):
    model = made(walk(5))
    ledger = Ledger()
    (answer,) = model.answer({"y": [history]}, "y", ledger=ledger)
    assert np.isfinite(answer.value).all() and len(answer.value) == 4
    assert ledger.bad() == (history == [])


def test_histories_are_split_where_what_is_asked_begins():
    sides = worlds.Sides.of(made(walk(5)), "y")
    assert sides.split([1, 2, 3, 4, 5, 6]) == ([1, 2], [3, 4, 5, 6])
    before, then = sides.split({"a": [1, 2, 3, 4, 5], "b": [6, 7, 8, 9, 0]})
    assert before == {"a": [1], "b": [6]} and then == {"a": [2, 3, 4, 5], "b": [7, 8, 9, 0]}
    with pytest.raises(BadValueError, match="a history of 4 points, too short to judge 4"):
        sides.split([1, 2, 3, 4])
    with pytest.raises(BadValueError, match="none of the last 4 points is there"):
        sides.split([1, 2, *[None] * 4])


# -- evidence ------------------------------------------------------------------------------------------------
def test_simple_forecasts_against_slow_ones():
    dice = np.random.default_rng(0)
    past, future = dice.normal(size=(40, 2, 6)), dice.normal(size=(40, 3, 2))
    x = np.concatenate([dice.normal(size=(40, 5)), past.reshape(40, 12)], axis=1)  # histories stand last
    naive = SeasonalNaive(2, 6, 3, 2).fit(x, future).predict(x).reshape(40, 3, 2)
    np.testing.assert_array_equal(naive[:, 0], past[:, :, 4])
    np.testing.assert_array_equal(naive[:, 1], past[:, :, 5])
    np.testing.assert_array_equal(naive[:, 2], past[:, :, 4])
    answers = Linear(2, 6, 3, 2).fit(x, future.reshape(40, -1)).predict(x).reshape(40, 3, 2)
    rows, ahead = past.reshape(80, 6), future.transpose(0, 2, 1).reshape(80, 3)
    floor = 0.01**2 * (rows**2).mean(1, keepdims=True)
    centre, scale = rows.mean(1, keepdims=True), np.sqrt(rows.var(1, keepdims=True) + floor)
    rows, ahead = (rows - centre) / scale, (ahead - centre) / scale
    tried = []
    for started in (np.zeros((80, 3)), rows[:, [5, 5, 5]], rows[:, [4, 5, 4]]):
        for alpha in (1, 1e2, 1e4, 1e6, 1e8):
            part, whole = (
                Ridge(alpha=alpha, fit_intercept=False).fit(rows[:n], (ahead - started)[:n]) for n in (64, 80)
            )
            error = ((started + part.predict(rows) - ahead)[64:] ** 2).mean()
            tried.append((error, (started + whole.predict(rows)) * scale + centre))
    expected = min(tried, key=lambda each: each[0])[1]
    np.testing.assert_allclose(answers, expected.reshape(40, 2, 3).transpose(0, 2, 1), rtol=1e-6, atol=1e-8)


def test_a_new_model_begins_with_the_ridge_of_its_training_rows():
    """So its first answer is that of the linear baseline, whatever the lengths."""
    t = np.arange(60)
    values = [list(np.sin((t + 7 * i) / 5) + np.cos(t / (3 + i))) for i in range(9)]
    model = worlds.model({"y": values}, {"y": "series"}, options={"y": {"horizon": 4, "length": 12}}, awake=False)
    sides = worlds.Sides.of(model, "y")
    past = [v[i : i + 12] for v in values for i in range(45)]
    future = [v[i + 12 : i + 16] for v in values for i in range(45)]
    x, y = sides.features().fit_transform(past)[:, -12:], sides.target(future)
    expected = Linear(1, 12, 4, sides.channels.period).fit(x, y).predict(x)
    answers = [a.value for a in model.answer({"y": past}, "y")]
    np.testing.assert_allclose(answers, expected, atol=0.02)


def test_metrics_against_their_definitions():
    values = walk(6)
    sides = worlds.Sides.of(made(values, horizons=[2]), "y")
    truths = [sides.split(v)[1] for v in values]
    truths[0] = [None, *truths[0][1:]]
    result = [[x + 1.0 for x in sides.split(v)[1]] for v in values]
    s = sides.channels.scale[0]
    metrics = sides.measure([Answer(v) for v in result], truths)
    assert metrics["mse"] == pytest.approx(1 / s**2) and metrics["mae"] == metrics["crps"] == pytest.approx(1 / s)
    assert metrics["mase"] == pytest.approx(1 / s / sides.channels.naive)
    assert metrics["mse_of_the_first_2"] == pytest.approx(1 / s**2)
    own = worlds.Sides.of(made(values, scaled=False), "y")
    assert own.measure([Answer(v) for v in result], truths)["mse"] == pytest.approx(1)
    assert own.measure([Answer(v) for v in result], truths)["mase"] == pytest.approx(metrics["mase"])
    m = sides.channels.period
    steps = [abs(a - b) / s for v in values for a, b in zip(v[m:], v[:-m], strict=True)]
    assert sides.channels.naive == pytest.approx(np.mean(steps))


def test_crps_of_a_normal_forecast_is_near_its_closed_form():
    from scipy.stats import norm as normal

    from onetrunk.metrics import forecast

    levels = np.arange(1, 200) / 200
    true = np.array([[-1.0, 0.0, 2.0]])
    result = forecast.crps(true, {q: np.full((1, 3), normal.ppf(q)) for q in levels})
    closed = true * (2 * normal.cdf(true) - 1) + 2 * normal.pdf(true) - 1 / np.pi**0.5  # Gneiting and Raftery 2007
    assert result[0] == pytest.approx(closed.mean(), rel=0.02)
    assert forecast.coverage(np.array([[1.0, NAN, 5.0]]), np.zeros((1, 3)), np.full((1, 3), 2.0)) == 0.5


def test_evidence_gives_baselines_the_history_and_draws_it():
    t = np.arange(40)
    values = [list(np.sin((t + i) / 6 * 2 * np.pi) * (1 + i % 5)) for i in range(60)]
    model = made(values, horizon=6)
    evidence = gather_evidence(model, {"y": values[40:]}, [([], "y")], train={"y": values[:40]})
    (task,) = evidence.tasks
    scores = {baseline.name: baseline.score.value for baseline in task.baselines}
    assert list(scores) == ["seasonal naive", "last value", "linear"] and task.metric == "mse"
    assert scores["seasonal naive"] < 1e-9 and scores["linear"] < 1e-4 < 0.1 < scores["last value"]
    assert any(name.startswith("answers") for name in evidence.figures)
    axes = Figure().subplots()
    sides = worlds.Sides.of(model, "y")
    before, then = zip(*map(sides.split, values), strict=True)
    assert sides.figure(model.answer({"y": before}, "y"), then, axes, before)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "history",
        "true",
        "answered",
        "90 % interval",
    ]


def test_a_given_series_tells_a_label_apart():
    """Rising or falling, whatever the level."""
    dice = np.random.default_rng(0)
    up = dice.random(64) < 0.5
    table = {
        "y": [list(dice.normal() * 9 + (1 if u else -1) * np.arange(12) + dice.normal(0, 0.5, 12)) for u in up],
        "label": ["up" if u else "down" for u in up],
    }
    model = worlds.model(table, {"y": "series", "label": "category"}, options={"y": {"patch": 4, "horizon": 1}})
    store = worlds.store_of(model, table)
    task = worlds.objective(store, given=["y"], ask=["label"])
    from test_contract import train

    train(model, store, task, 40)
    answers = model.answer({"y": table["y"]}, "label", ["y"])
    assert np.mean([a.value == t for a, t in zip(answers, table["label"], strict=True)]) > 0.95


def test_start_needs_no_prompt():
    sides = worlds.Sides.of(made(walk(5)), "y")
    assert sides.start(worlds.context(worlds.keys(3)))["past"].abs().sum() == 0
