"""A trained model's certainty: put right on rows held out, the same on every path to an answer, and told."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from sklearn.metrics import log_loss

import onetrunk
from onetrunk.core.answer import Sampling
from onetrunk.core.calibration import Calibration
from onetrunk.core.errors import ModelFileError
from onetrunk.core.events import CalibrationDone, Collected, Note
from onetrunk.data.table import Table
from onetrunk.evaluation.intervals import Interval
from onetrunk.evaluation.record import TaskEvidence
from onetrunk.evaluation.words import certainty
from onetrunk.inference.model_folder import Model, Task, load
from onetrunk.training import finetune
from onetrunk.training.beside_wide import wide_model
from onetrunk.training.calibrate import calibrate
from onetrunk.training.context import RunContext
from onetrunk.training.finetune import finetune_model
from onetrunk.training.open_data import open_data
from onetrunk.training.options import DataOptions
from onetrunk.training.recipe import make_recipe
from onetrunk.training.time_budget import TimeBudget

KINDS = {"size": "number", "label": "category", "tags": "category", "price": "number"}
QUICK = ["size=nano", "finetune.steps=4", "train.tensorboard=false", "train.precision=fp32"]


def table(rows: int = 240, seed: int = 0) -> dict[str, list[Any]]:
    rng = np.random.default_rng(seed)
    size = rng.normal(size=rows)
    label = ["high" if x > 0 else "low" for x in size + 1.5 * rng.normal(size=rows)]
    tags = [[name for name, way in (("up", 1), ("down", -1)) if way * x + rng.normal() > 0] for x in size]
    price = (3 * size + rng.normal(size=rows)).tolist()
    return {"size": size.tolist(), "label": label, "tags": tags, "price": price}


def sure_model(asked: str) -> Model:
    """Answers that are far too sure: read-outs of large weights."""
    model = worlds.model(table(), KINDS)
    with torch.no_grad():
        module = model.module(asked)
        head = module.head if isinstance(module.head, torch.Tensor) else module.head.weight
        head.mul_(20)
    model.tasks = [Task(["size"], [asked])]
    return model


@pytest.mark.parametrize("asked", ["label", "tags", "price"])
def test_every_path_is_calibrated_alike_and_answers_stay(asked: str, tmp_path: Path) -> None:
    model, rows, events = sure_model(asked), table(300, seed=1), Collected()
    before = model.answer(rows, asked, ["size"])
    losses = model.losses(rows, asked, ["size"])[0]
    calibrate(model, model.tasks[0], Table(rows), 100, events)
    made = model.calibration(asked)
    assert made is not None and made.rows == 300 and made.fitted_on == "validation rows"
    proper = "interval_score" if asked == "price" else "log_loss"
    assert made.after[proper] < made.before[proper]
    (heard,) = events.of(CalibrationDone)
    assert (heard.before, heard.after) == (made.before, made.after)
    after = model.answer(rows, asked, ["size"])
    assert [a.value for a in after] == [a.value for a in before], "only how sure it is has changed"
    if asked != "price":
        assert model.losses(rows, asked, ["size"])[0].mean() < losses.mean()
    if asked == "label":
        truth = np.array([a.probability[t] for a, t in zip(after, rows[asked], strict=True)])
        np.testing.assert_allclose(model.losses(rows, asked, ["size"])[0], -np.log(truth), rtol=1e-4)
        assert made.before["log_loss"] == pytest.approx(losses.mean(), rel=1e-5)
        assert made.after["log_loss"] == pytest.approx(-np.log(truth).mean(), rel=1e-5)
        assert made.after["ece"] < made.before["ece"]
        assert max(max(a.probability.values()) for a in after) <= 1 - 1 / 402
    if asked == "price":
        assert made.after["coverage"] == pytest.approx(0.9, abs=0.02)
        ends = np.array([a.interval for a in after])
        covered = np.mean((ends[:, 0] <= rows[asked]) & (rows[asked] <= ends[:, 1]))
        assert covered == pytest.approx(made.after["coverage"], abs=0.01)
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.calibration(asked) == made
    assert [(a.value, a.probability, a.interval) for a in again.answer(rows, asked, ["size"])] == [
        (a.value, a.probability, a.interval) for a in after
    ]


def test_samples_spread_as_intervals_do() -> None:
    model, rows = sure_model("price"), table(40)
    module = model.module("price")
    drawn = model.answer(rows, "price", ["size"], Sampling(temperature=1.0))
    module.calibration = Calibration(100, "validation rows", spread=2.0)
    wider = model.answer(rows, "price", ["size"], Sampling(temperature=1.0))
    for one, other in zip(drawn, wider, strict=True):
        twice = 2 * (np.array(one.samples) - one.value)
        np.testing.assert_allclose(np.array(other.samples) - other.value, twice, atol=1e-4)
        np.testing.assert_allclose(
            np.array(other.interval) - other.value, 2 * (np.array(one.interval) - one.value), atol=1e-4
        )


def test_the_density_of_a_spread_number_is_one() -> None:
    """Numerically integrated."""
    model = sure_model("price")
    module = model.module("price")
    module.calibration = Calibration(100, "validation rows", spread=1.7)
    h = torch.randn(1, module.read_width, generator=torch.Generator().manual_seed(0)) * 0.1
    points = torch.linspace(-60, 60, 60_001)
    targets = {"value": points, "w": torch.ones(len(points))}
    density = (-module.loss(h.expand(len(points), -1), targets).each).exp()
    assert float(torch.trapezoid(density, points)) == pytest.approx(1, abs=0.02)


def test_what_is_learnt_from_is_not_calibrated(tmp_path: Path) -> None:
    """Its loss while training, and what training begins with."""
    model = sure_model("label")
    module, rows = model.module("label"), table(60)
    store = worlds.store_of(model, rows)
    batch = worlds.batch(store, range(20), ["size"], ["label"])
    h, targets = model.network.read(model.network.encode(batch), "label"), batch.reads["predict"]["label"].targets
    plain = module.loss(h, targets).sum
    module.calibration = Calibration(100, "validation rows", 3.0, 0.01)
    assert not torch.isclose(module.loss(h, targets).sum, plain)
    module.train()
    torch.testing.assert_close(module.loss(h, targets).sum, plain)
    module.eval()

    recipe = make_recipe(None, [*QUICK])
    data = open_data(table(), DataOptions(ask="label", given=["size"]), recipe)
    start = copy.deepcopy(model)
    tuned = finetune_model(data, RunContext(recipe, tmp_path / "a"), start, pretrained=True).model
    assert tuned.calibration("label").rows == len(data.rows("val")) >= 20
    few = open_data(table(60), DataOptions(ask="label", given=["size"], split="random:80/10/10"), recipe)
    assert len(few.rows("val")) < 20
    tuned = finetune_model(few, RunContext(recipe, tmp_path / "b"), copy.deepcopy(model), pretrained=False).model
    assert tuned.calibration("label") is None, "too few validation rows, and what it began with is of other weights"


@pytest.mark.parametrize("asked", ["label", "tags", "price"])
def test_few_labels_are_calibrated_on_what_each_fold_held_out(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too few validation rows: by the answers of the folds' models, each of rows that it had not seen."""
    recipe = make_recipe(None, [*QUICK, "finetune.folds=3"])
    few = open_data(table(60), DataOptions(ask=asked, given=["size"], split="random:80/10/10"), recipe)
    heard, seen, kept = Collected(), [], finetune._cross_validated

    def helped(*of: Any) -> Any:
        scores, held = kept(*of)
        seen.append((scores, held))
        return {"pretrained": 0.0, "fine-tuned": 1.0}, held  # whatever was better

    monkeypatch.setattr(finetune, "_cross_validated", helped)
    context = RunContext(recipe, tmp_path / "m", on_event=heard)
    tuned = finetune_model(few, context, sure_model(asked), pretrained=True).model
    made, rows = tuned.calibration(asked), len(few.rows("train"))
    assert made is not None and made.fitted_on == "rows held out in cross-validation" and made.rows == rows >= 20
    proper = "interval_score" if asked == "price" else "log_loss"
    assert made.after[proper] < made.before[proper]
    if asked == "label":  # what folds say is judged as it will be said
        ((scores, held),) = seen
        assert scores["fine-tuned"] == pytest.approx(-made.after["log_loss"])
        p = torch.softmax(held["label"].outputs.double() / made.temperature, -1).numpy()
        p = made.doubt / 2 + (1 - made.doubt) * p
        assert made.after["log_loss"] == pytest.approx(log_loss(held["label"].targets["id"].numpy(), p))


@pytest.mark.parametrize("asked", ["label", "price"])
def test_train_calibrates_and_its_evidence_says_so(asked: str, tmp_path: Path) -> None:
    rows = table(100)
    onetrunk.train(
        {name: rows[name] for name in ("size", asked)}, ask=asked, out=str(tmp_path / "m"), quiet=True, settings=QUICK
    )
    made = load(tmp_path / "m").calibration(asked)
    assert made is not None and made.fitted_on == "rows held out in cross-validation" and made.rows == 80
    (task,) = json.loads((tmp_path / "m" / "evidence" / "metrics.json").read_text())["tasks"]
    assert len(made.scores) == 80, "the conformal scores stay in the folder's description"
    assert task["calibration"] == {name: value for name, value in made.as_json().items() if name != "scores"}
    assert 0 <= task["metrics"]["coverage"] <= 1
    report = (tmp_path / "m" / "evidence" / "report.html").read_text()
    assert "calibrated on 80 rows held out in cross-validation" in report
    assert "calibrated on 80 rows" in (tmp_path / "m" / "README.md").read_text()
    if asked == "label":
        assert task["ece"]["low"] <= task["ece"]["value"] <= task["ece"]["high"]
        answers = onetrunk.load(tmp_path / "m").answer({"size": [-50.0, 50.0]}, "label", ["size"])
        assert all(max(a.probability.values()) <= 1 - 1 / 82 for a in answers), "not surer than 80 rows allow"


@pytest.mark.parametrize("asked", ["label", "price"])
@pytest.mark.parametrize("other", [False, True])
def test_validation_rows_of_another_kind_say_how_sure_answers_are(asked: str, other: bool, tmp_path: Path) -> None:
    """In training rows what is asked follows from the size; later, where there is another kind, hardly."""
    rng, parts = np.random.default_rng(0), np.repeat(["train", "val", "test"], [400, 300, 1000])
    spread = np.where(other & (parts != "train"), 2, 0.3)
    size, noise = rng.normal(size=len(parts)), spread * rng.normal(size=len(parts))
    values = {"label": np.where(size + noise > 0, "high", "low").tolist(), "price": (3 * size + noise).tolist()}
    rows = {"size": size.tolist(), asked: values[asked], "part": parts.tolist()}
    recipe, heard = make_recipe(None, QUICK), Collected()
    data = open_data(rows, DataOptions(ask=[asked], split="given:part"), recipe)
    made = wide_model(data, RunContext(recipe, tmp_path / "m", on_event=heard), TimeBudget(60))
    assert made is not None
    fitted, (test, truths) = made.model.calibration(asked), (data.rows("test"), data.rows("test")[asked])
    assert fitted is not None and fitted.rows == (300 if other else 400)
    assert fitted.fitted_on == ("validation rows" if other else "rows held out in cross-validation")
    told = [note.message for note in heard.of(Note) if "of another kind than the training rows" in note.message]
    assert len(told) == other
    evaluation = made.model.evaluation(asked)
    coverage = evaluation.measure(made.model.answer(test, asked, ["size"]), list(truths))["coverage"]
    assert coverage == pytest.approx(0.9, abs=0.04)


def test_folders_without_it_and_damaged_ones(tmp_path: Path) -> None:
    from onetrunk.storage import atomic
    from onetrunk.storage.strict_json import read_json, write_json

    model = sure_model("label")
    model.save(tmp_path / "m")
    assert load(tmp_path / "m").calibration("label") is None

    def rewrite(calibration: Any) -> None:
        def write(place: Path) -> None:
            write_json(place / "onetrunk.json", {**read_json(tmp_path / "m" / "onetrunk.json"), **calibration})

        atomic.add_files(tmp_path / "m", write)

    rewrite({"calibration": {"label": {"rows": 3, "fitted_on": "x", "temperature": -1.0}}})
    with pytest.raises(ModelFileError, match="temperature"):
        load(tmp_path / "m")


def test_sentences() -> None:
    task = TaskEvidence("label", ["size"], 100, 0, "accuracy", True, {"accuracy": 0.8, "ece": 0.04}, None)
    assert certainty(task) == ""
    task.ece = Interval(0.04, 0.02, 0.07)
    assert certainty(task) == (
        "Its probabilities were not calibrated: training held out no rows for that. On the held-out rows the "
        "calibration error is 0.040 (0.020 to 0.070)."
    )
    made = Calibration(
        240, "validation rows", 1.8, 0.01, before={"log_loss": 0.9, "ece": 0.2}, after={"log_loss": 0.5, "ece": 0.03}
    )
    task.calibration = made.as_json()
    assert certainty(task).startswith(
        "Its probabilities were calibrated on 240 validation rows (temperature 1.80). On these rows that brought "
        "log loss from 0.900 to 0.500 and calibration error from 0.200 to 0.030."
    )
