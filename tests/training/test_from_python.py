"""Training as an application: from an open table to evidence in Python, told as events, with nothing printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from onetrunk.core.errors import UsageError
from onetrunk.core.events import (
    Collected,
    Decision,
    LedgerLine,
    Note,
    RolesChosen,
    RowsSplit,
    StageFinished,
    StageStarted,
    StepDone,
)
from onetrunk.evaluation.evidence_folder import evaluate_model
from onetrunk.evaluation.record import Evaluated
from onetrunk.training.context import RunContext
from onetrunk.training.finetune import finetune_model
from onetrunk.training.inspect_data import run_inspection
from onetrunk.training.jobs import run_finetuning
from onetrunk.training.open_data import open_data
from onetrunk.training.options import DataOptions, TrainingOptions
from onetrunk.training.pretrain import pretrain_model
from onetrunk.training.recipe import make_recipe
from onetrunk.training.stage import new_model

WORDS = {"good": ["lovely", "clean", "quiet"], "bad": ["dirty", "noisy", "rude"]}
SETTINGS = {
    "size": "nano",
    "columns": {"review": {"length": 8}},
    "train": {"precision": "fp32", "compile": False, "tensorboard": False},
    "pretrain": {"steps": 4},
    "finetune": {"steps": 4, "documents": 16, "repeats": 2},
}


def table(rows: int = 240) -> dict[str, list]:
    labels = ["good" if i % 2 else "bad" for i in range(rows)]
    reviews = [f"{WORDS[label][i % 3]} room {i}" for i, label in enumerate(labels)]
    reviews[0] += " and much more than eight tokens of words that say nothing more"
    return {"review": reviews, "nights": [i % 7 for i in range(rows)], "fixed": ["x"] * rows, "label": labels}


def test_open_pretrain_finetune_select_evaluate_is_silent_and_told(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    events = Collected()
    recipe = make_recipe(SETTINGS, None)
    data = open_data(table(), DataOptions(ask="label"), recipe, events)
    assert data.ask == ["label"], "one column's name is a list of one"
    context = RunContext(recipe, tmp_path / "foundation", on_event=events)
    foundation = pretrain_model(data, context)
    foundation.save(tmp_path / "foundation")
    tuned = finetune_model(data, context.but(out=tmp_path / "model"), foundation, pretrained=True)
    tuned.model.save(tmp_path / "model")
    test, train = data.rows("test"), data.rows("train")
    evidence = evaluate_model(tuned.model, test, train, tmp_path / "model", on_event=events)
    assert capfd.readouterr() == ("", ""), "nothing is printed"

    (roles,) = events.of(RolesChosen)
    assert (
        roles.asked == {"label": "category"} and set(roles.given) == {"review", "nights"} and "fixed" in roles.left_out
    )
    (rows,) = events.of(RowsSplit)
    assert sum(rows.rows.values()) == 240
    assert any("review" in line.message for line in events.of(LedgerLine)), "what is cut is told"
    started, finished = events.of(StageStarted), events.of(StageFinished)
    assert [event.stage for event in started] == ["pretraining", "fine-tuning", "fine-tuning"]
    assert [event.stage for event in finished] == [event.stage for event in started]
    assert [event.steps for event in started] == [4, 4, 4] and len(events.of(StepDone)) == 12
    (chosen,) = events.of(Decision)
    seeds = tuned.choice.seeds
    assert len(seeds) == 2 and tuned.choice.validation == min(seeds)  # log loss
    assert chosen.chosen == f"seed {seeds.index(min(seeds))}" and list(chosen.values.values()) == seeds
    (judged,) = events.of(Evaluated)
    assert judged.evidence is evidence and evidence.tasks[0].rows == rows.rows["test"]
    json.dumps([event.as_json() for event in events], default=str)


def test_few_labels_are_decided_by_cross_validation_and_told(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    events = Collected()
    rows = table(60)
    rows["label"][20:] = [None] * 40
    recipe = make_recipe({**SETTINGS, "finetune": {"steps": 4, "folds": 2, "metric": "log_loss"}}, None)
    data = open_data(rows, DataOptions(ask="label"), recipe, events)
    foundation = pretrain_model(data, RunContext(recipe, tmp_path / "foundation"))
    tuned = finetune_model(data, RunContext(recipe, tmp_path / "model", on_event=events), foundation, pretrained=True)
    (decision,) = events.of(Decision)
    scores = tuned.choice.cross_validation
    assert decision.values == scores and tuned.choice.kept in decision.chosen
    assert scores["pretrained"] < 0 and scores["fine-tuned"] < 0, "less loss is better, so losses are negated"
    assert tuned.choice.kept == ("fine-tuned" if scores["fine-tuned"] > scores["pretrained"] else "pretrained")
    assert capfd.readouterr() == ("", "")


def test_a_misspelt_metric_is_refused_before_any_work(tmp_path: Path) -> None:
    events = Collected()
    recipe = make_recipe({**SETTINGS, "finetune": {"metric": "log_los"}}, None)
    data = open_data(table(), DataOptions(ask="label"), recipe)
    from onetrunk.training.stage import new_model

    context = RunContext(recipe, tmp_path / "model", on_event=events)
    with pytest.raises(UsageError, match=r"Unknown metric 'log_los'. Did you mean 'log_loss'\?"):
        finetune_model(data, context, new_model(data, recipe, 0), pretrained=False)
    assert events == [] and not (tmp_path / "model").exists()


def test_notes_of_the_data_are_events() -> None:
    events = Collected()
    rows = table()
    rows["copy"] = list(rows["label"])
    open_data(rows, DataOptions(ask="label"), make_recipe(None, None), events)
    (roles,) = events.of(RolesChosen)
    assert "copy" in roles.left_out or any("copy" in note.message for note in events.of(Note))


def test_columns_that_training_rows_cannot_teach_are_left_out_and_said() -> None:
    """They differ in other rows only, as a rare pixel does; whether a value is there at all can be learnt from."""
    rows = table(60)
    rows["split"] = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    rows["rare"] = [0] * 50 + [1] * 10
    rows["late"] = [None] * 50 + ["then"] * 10
    rows["flag"] = ["yes" if i % 3 else None for i in range(60)]
    options, recipe = DataOptions(split="given:split", ask=["label"], allow_equal_rows=True), make_recipe(None, [])
    data = open_data(rows, options, recipe)
    assert "flag" in data.given and not {"rare", "late"} & set(data.given)
    assert data.reasons["rare"] == "always '0' in the training rows"
    assert data.reasons["late"] == "has no value in the training rows"
    assert new_model(data, recipe, 0).encoder("flag").class_names() == ["yes"]
    named = DataOptions(split="given:split", ask=["label"], given=["rare", "flag"], allow_equal_rows=True)
    assert open_data(rows, named, recipe).given == ["rare", "flag"]


def test_names_of_files_that_are_learnt_as_texts_are_told() -> None:
    rows = table()
    rows["photo"] = [f"photos/{i}.png" for i in range(len(rows["label"]))]
    told = "240 of the 240 values looked at name files of the type image"
    events = Collected()
    open_data(rows, DataOptions(ask="label"), make_recipe(None, None), events)
    assert sum(told in note.message for note in events.of(Note)) == 1
    assert sum(told in warning for warning in run_inspection(rows, TrainingOptions(ask=["label"])).warnings()) == 1

    named = Collected()
    open_data(rows, DataOptions(ask="label", types={"photo": "text"}), make_recipe(None, None), named)
    assert not any("photo" in note.message for note in named.of(Note)), "a type that a person names is not questioned"


def test_fine_tuning_ends_with_its_score(tmp_path: Path) -> None:
    events = Collected()
    options = TrainingOptions(ask="label", given=["review"], out=str(tmp_path / "m"), config=SETTINGS)
    run_finetuning(table(), options, events)
    best = min(stage.value for stage in events.of(StageFinished))
    assert isinstance(events[-1], Note)
    assert events[-1].message.startswith(f"On the validation rows that chose its best step: log_loss {best:.4g}.")


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("ask", 3, "a text, or a list of texts"),
        ("given", ["a", 3], "3 among them"),
        ("settings", {"train.lr": 1}, "a text, or a list of texts"),
        ("types", "a=number", "a dictionary"),
        ("seed", "x", "a whole number"),
        ("seed", 1.5, "a whole number"),
        ("seed", None, "a whole number"),
        ("max_bad", "1 %", "a number"),
        ("overwrite", "yes", "True or False"),
        ("split", None, "a text"),
        ("missing", ["-"], "a text"),
    ],
)
def test_an_option_of_another_kind_is_refused_by_name(option: str, value: Any, expected: str) -> None:
    with pytest.raises(UsageError, match=f"^{option} expects .*{expected}"):
        TrainingOptions(**{option: value})


def test_options_of_the_kinds_that_python_has() -> None:
    options = TrainingOptions(
        ask=("a", "b"),
        given=pandas.Index(["c"]),
        seed=np.int64(3),
        max_bad=np.float32(0.5),
        out=Path("m"),
        budget=90,
        events={"window": 5},
    )
    assert options.budget == "90" and options.but(seed=4).ask == ["a", "b"] and options.given == ["c"]
