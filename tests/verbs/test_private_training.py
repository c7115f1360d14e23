"""--private on pretrain and finetune: what is promised, what is told, what is left behind, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onetrunk
from onetrunk.core.errors import EvidenceError, UsageError
from onetrunk.core.events import Collected, StepDone
from onetrunk.engine.accountant import Spent, epsilon
from onetrunk.evaluation.audit.one_run import coin_flips
from onetrunk.training.jobs import run_finetuning
from onetrunk.training.options import TrainingOptions
from onetrunk.training.train import run_training

QUICK = ["trunk.width=16", "trunk.layers=1", "trunk.heads=2", "train.tensorboard=false"]
TUNED = [*QUICK, "finetune.steps=4", "finetune.documents=32", "finetune.wide=false"]


def table(n: int = 160, seed: int = 0) -> dict[str, list[Any]]:
    dice = np.random.default_rng(seed)
    x = dice.normal(size=n).round(4)
    kind = dice.choice(["red", "blue"], n)
    part = np.where(np.arange(n) % 8 == 7, "test", np.where(np.arange(n) % 8 == 6, "val", "train"))
    return {"x": x.tolist(), "kind": kind.tolist(), "y": np.where(x > 0, "up", "down").tolist(), "part": part.tolist()}


def options(out: Path, **changes: Any) -> TrainingOptions:
    chosen: dict[str, Any] = {"ask": ["y"], "split": "given:part", "settings": TUNED, "allow_equal_rows": True}
    chosen |= {"private": {"eps": "3", "delta": "1e-4"}, "out": str(out)}
    return TrainingOptions(**{**chosen, **changes})


@pytest.fixture(scope="module")
def heard() -> Collected:
    return Collected()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, heard: Collected) -> Path:
    out = tmp_path_factory.mktemp("private") / "m"
    run_finetuning(table(), options(out, settings=[*TUNED, "gates.epsilon=3"]), heard)
    return out


def stage(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "provenance.json").read_text())["stages"][-1]


def test_the_promise_is_kept_and_told_at_every_step(made: Path, heard: Collected) -> None:
    private = stage(made)["private"]
    assert 2.9 < private["epsilon"] <= 3.0 and private["unit"] == "row"
    assert private["epsilon"] == epsilon([Spent(*each) for each in private["spent"]], 1e-4)
    assert private["rate"] == 32 / 120 and private["rows_per_step"] == 32
    told = [event.epsilon for event in heard.of(StepDone)]
    assert len(told) == 4 and told == sorted(told) and told[-1] == private["epsilon"]


def test_nothing_is_left_that_holds_rows_losses_or_the_secret(made: Path) -> None:
    names = {path.relative_to(made).as_posix() for path in made.rglob("*")}
    assert not [name for name in names if name.startswith(("checkpoints", "metrics", "tensorboard", "unfinished"))]
    assert "secret" not in (made / "provenance.json").read_text()
    seen = onetrunk.load(str(made)).provenance["stages"][0]["seen_rows"]
    assert seen.held_out_only and set(seen.splits.tolist()) == {1, 2} and len(seen.splits) == 40
    assert onetrunk.load(str(made)).calibration("y") is None


def test_it_is_judged_on_the_rows_held_out_and_the_card_says_what_is_promised(made: Path) -> None:
    evidence = onetrunk.evaluate(str(made), table(), quiet=True)
    assert evidence.tasks[0].rows == 20, "only the test rows of its table, though it does not know the others"
    card = (made / "README.md").read_text()
    assert "## Privacy" in card and "ε = 3.00 at δ = 0.0001" in card and "held-out rows" in card
    assert "Privacy</h2>" in (made / "evidence" / "report.html").read_text()
    assert [(v.metric, v.passed) for v in evidence.gates] == [("epsilon", True)]


def test_a_gate_of_epsilon_fails_where_nothing_is_promised(tmp_path: Path) -> None:
    run_finetuning(table(), options(tmp_path / "m", private=None, settings=[*TUNED, "gates.epsilon=3"]))
    with pytest.raises(EvidenceError, match="not measured, expected at most 3"):
        onetrunk.export(str(tmp_path / "m"), table(), to="onnx", out=str(tmp_path / "x"), quiet=True)


def test_stages_add_up_and_rows_that_were_learnt_without_it_are_refused(made: Path, tmp_path: Path) -> None:
    run_finetuning(table(), options(tmp_path / "more", start=str(made), private={"eps": "4", "delta": "1e-4"}))
    first, both = stage(made)["private"], stage(tmp_path / "more")["private"]
    assert both["spent"][:1] == first["spent"] and len(both["spent"]) == 2
    assert 3.9 < both["epsilon"] <= 4.0
    with pytest.raises(UsageError, match=r"has cost 3 already at delta 0\.0001"):
        run_finetuning(table(), options(tmp_path / "less", start=str(made), private={"eps": "2", "delta": "1e-4"}))
    run_finetuning(table(), options(tmp_path / "plain", private=None))
    with pytest.raises(UsageError, match="has learnt from 120 of these training rows without privacy"):
        run_finetuning(table(), options(tmp_path / "late", start=str(tmp_path / "plain")))
    others = table(seed=9)
    run_finetuning(others, options(tmp_path / "others", start=str(tmp_path / "plain")))
    onetrunk.evaluate(str(tmp_path / "others"), others, quiet=True)
    assert "Nor does it cover rows of the stages" in (tmp_path / "others" / "README.md").read_text()


def test_from_nothing_it_learns_a_linear_model_that_a_folder_keeps(tmp_path: Path) -> None:
    heard = Collected()
    made = run_finetuning(
        table(400), options(tmp_path / "m", settings=QUICK, private={"eps": "20", "delta": "1e-4"}), heard
    )
    last = stage(tmp_path / "m")
    assert last["stage"] == "wide" and last["seen_rows"]["held_out_only"]
    assert 19 < last["private"]["epsilon"] <= 20 and last["private"]["rate"] == 1
    assert last["private"]["epsilon"] == epsilon([Spent(*each) for each in last["private"]["spent"]], 1e-4)
    assert len(heard.of(StepDone)) == last["steps"] == last["private"]["steps"]
    test = {name: values[7::8] for name, values in table(400).items()}
    answers = made.answer(test, "y", ["x", "kind"])
    assert np.mean([answer.value == true for answer, true in zip(answers, test["y"], strict=True)]) > 0.9
    loaded = onetrunk.load(str(tmp_path / "m")).answer(test, "y", ["x", "kind"])
    assert [answer.value for answer in loaded] == [answer.value for answer in answers]
    assert made.network.wide_of("y").shape.hashed
    on = options(tmp_path / "on", start=str(tmp_path / "m"), private={"eps": "25", "delta": "1e-4"}, settings=TUNED)
    run_finetuning(table(400), on)
    assert [rate for _, rate, _ in stage(tmp_path / "on")["private"]["spent"]] == [1.0, 32 / 300], (
        "the trunk, beside it"
    )


def test_pretraining_goes_without_what_compares_rows(tmp_path: Path) -> None:
    model = onetrunk.pretrain(
        table(), ask="y", split="given:part", allow_equal_rows=True, out=str(tmp_path / "f"), quiet=True,
        private={"eps": 8, "delta": 1e-4}, settings=[*QUICK, "pretrain.steps=2"],
    )  # fmt: skip
    kinds = [each["kind"] for each in model.provenance["stages"][-1]["config"]["pretrain"]["objectives"]]
    assert kinds == ["masked", "predict"]
    assert model.provenance["stages"][-1]["private"]["epsilon"] <= 8


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["row_weight=x"], "goes without row_weight"),
        (["finetune.repeats=2"], r"goes without finetune\.repeats above 1"),
        (["finetune.label_propagation=true"], r"goes without finetune\.label_propagation"),
        (["train.validate_every=2"], "validation rows choose nothing"),
        (["train.merge=pcgrad"], r"train\.merge other than sum"),
        (["train.shares=2"], "several processes"),
        (["pretrain.objectives=[{kind: contrast}]"], "the objective contrast, which compares rows"),
        (["private.epz=3"], "private.epz"),
        (["private.delta=2"], "private.delta"),
    ],
)
def test_what_the_promise_cannot_be_kept_with_is_refused(settings: list[str], problem: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=problem):
        run_finetuning(table(), options(tmp_path / "m", settings=[*TUNED, *settings]))
    assert not (tmp_path / "m").exists()


def test_train_refuses_it_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="onetrunk finetune --private"):
        run_training(table(), options(tmp_path / "m"))


def test_an_audit_puts_the_least_epsilon_beside_the_promise(made: Path) -> None:
    planted = coin_flips(40)
    canaries = {"x": (9 + np.arange(40)).tolist(), "kind": ["red"] * 40, "y": ["up", "down"] * 20}
    canaries["planted"] = ["yes" if each else "no" for each in planted]
    audit = onetrunk.audit(str(made), table(), what=["privacy"], canaries=canaries, quiet=True)
    privacy = audit.asked[0].privacy
    assert privacy.one_run.canaries == 40 and privacy.one_run.delta == 1e-4
    assert privacy.one_run.epsilon <= privacy.promise["epsilon"] <= 3.0
    assert privacy.membership.members == 120, "the rest of its table is what it learnt from"
