"""tune: the best of its trials is left as a model with evidence; its flags; the time that it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import onetrunk
from onetrunk.core.errors import DataError, UsageError
from onetrunk.inference.model_folder import Model, load
from onetrunk.training import tune
from onetrunk.training.options import TrainingOptions
from onetrunk.training.tune import memory_bytes, run_tuning

pytest.importorskip("optuna")

QUICK = ["finetune.steps=4", "pretrain.steps=4", "train.tensorboard=false", "train.precision=fp32"]


def table(rows: int = 220) -> dict[str, list[Any]]:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, rows))
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "kind": [["a", "b", "c"][i % 3] for i in range(rows)],
        "label": ["in" if v else "out" for v in x * y + 0.3 * rng.normal(size=rows) > 0],
        "price": (2 * x + y + rng.normal(size=rows)).tolist(),
    }


def command(out: Path, **rest: Any) -> Model:
    options = {
        "ask": ["label"],
        "given": ["x", "y", "kind"],
        "settings": QUICK,
        "quiet": True,
        "budget": "100s",
        **rest,
    }
    options = {"size": "nano", **options} if "start" not in options else options
    return onetrunk.tune(options.pop("data", None) or table(), out=str(out), **options)


@pytest.mark.parametrize("asked", ["label", "price"])
def test_it_leaves_the_best_of_its_trials_with_evidence(tmp_path: Path, asked: str) -> None:
    size = {"label": None, "price": "nano"}[asked]
    model = command(tmp_path / "m", ask=[asked], trials=5, size=size)
    assert [path.name for path in tmp_path.iterdir()] == ["m"], "nothing else is left"
    evidence = json.loads((tmp_path / "m" / "evidence" / "metrics.json").read_text())
    trials = evidence["origin"]["trials"]
    assert len(trials) == 5 and [trial["method"] for trial in trials[:3]] == ["wide", "scratch", "pretrained"]
    scored = [trial for trial in trials if trial["score"] is not None]
    best = min(scored, key=lambda trial: trial["score"])
    assert model.provenance["trial"] == best["trial"] == load(tmp_path / "m").provenance["trial"]
    assert {trial["size"] for trial in trials} == ({"nano", "tiny", "small"} if size is None else {size})
    assert all(trial["seconds"] > 0 and trial["standard_error"] > 0 for trial in scored)
    assert evidence["tasks"][0]["ask"] == asked and evidence["tasks"][0]["baselines"]
    assert (tmp_path / "m" / "evidence" / "figures" / "trials.png").exists()
    report = (tmp_path / "m" / "evidence" / "report.html").read_text()
    assert "What was tried" in report and best["what"] in report
    assert "among 5 trials, by their loss on the validation rows" in (tmp_path / "m" / "README.md").read_text()
    assert len(model.predict({"x": [0.5], "y": [1.0], "kind": ["a"]})) == 1
    if asked == "label":  # the score is the log loss of the validation rows, calibrated
        assert model.calibration("label").after["log_loss"] == pytest.approx(best["score"], rel=1e-4)


def test_train_tells_what_it_tried_alike(tmp_path: Path) -> None:
    rows, options = table(520), {"ask": ["label"], "given": ["x", "y", "kind"], "size": "nano", "quiet": True}
    onetrunk.train(rows, out=str(tmp_path / "m"), settings=["finetune.steps=4", "train.tensorboard=false"], **options)
    evidence = json.loads((tmp_path / "m" / "evidence" / "metrics.json").read_text())
    wide, trunk = evidence["origin"]["trials"]
    assert (wide["method"], trunk["method"]) == ("wide", "scratch") and trunk["steps"] > 0
    gain = load(tmp_path / "m").provenance["decision"]["trunk"]["gain"]
    assert wide["score"] - trunk["score"] == pytest.approx(gain, abs=1e-9)
    assert trunk["what"] in (tmp_path / "m" / "evidence" / "report.html").read_text()


def test_every_method_makes_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from a foundation, without a wide read-out."""
    onetrunk.pretrain(table(), ask=["label"], out=str(tmp_path / "f"), size="nano", settings=QUICK, quiet=True)
    made: dict[str, float] = {}
    run = tune.TableRunner.run

    def noted(self: Any, settings: Any, seconds: float, report: Any) -> Any:
        outcome = run(self, settings, seconds, lambda loss: None)
        made[settings.method] = outcome.score
        return outcome

    monkeypatch.setattr(tune.TableRunner, "run", noted)
    monkeypatch.setattr("onetrunk.training.search.Search._suggested", _in_turn)
    command(tmp_path / "m", start=str(tmp_path / "f"), settings=[*QUICK, "finetune.wide=false"], trials=4)
    assert set(made) == {"pretrained", "frozen", "lora"} and all(np.isfinite(list(made.values())))
    assert (tmp_path / "f").exists(), "where it started from stays"


def _in_turn(self: Any, trial: Any) -> Any:
    from onetrunk.training.trials import TrialSettings

    methods = list(self.space.methods)
    return TrialSettings(methods[trial.number % len(methods)], self.space.sizes[0], 1.0, 0.1, 0.02)


def test_a_killed_command_goes_on_and_then_there_is_nothing_to_go_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    run, made = tune.TableRunner.run, []

    def once(self: Any, settings: Any, seconds: float, report: Any) -> Any:
        if len(made) == 2:
            made.clear()
            raise Killed
        made.append(settings)
        return run(self, settings, seconds, report)

    monkeypatch.setattr(tune.TableRunner, "run", once)
    with pytest.raises(Killed):
        command(tmp_path / "m", trials=3)
    assert load(tmp_path / "m").provenance["trial"] in (0, 1), "what was best so far can be used"
    with pytest.raises(UsageError, match=r"already exists|another command"):
        command(tmp_path / "m", trials=4)
    model = command(tmp_path / "m", trials=3)
    assert [each.method for each in made] == ["pretrained"], "two had ended"
    assert len([t for t in model.provenance["trials"] if t["state"] != "failed"]) == 3
    with pytest.raises(UsageError, match="already exists"):
        command(tmp_path / "m", trials=3)
    command(tmp_path / "m", trials=1, overwrite=True)
    assert len(load(tmp_path / "m").provenance["trials"]) == 1


def test_two_commands_share_one_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other begins while this one makes its first trial, which waits for it."""
    pd.DataFrame(table()).to_csv(tmp_path / "rows.csv", index=False)
    out, place = tmp_path / "m", tmp_path / "m-tuning"
    words = [str(tmp_path / "rows.csv"), "--ask", "label", "--given", "x,y,kind", "--out", str(out), "--size", "nano"]
    words += ["--budget", "100s", "--trials", "3", "--quiet", *(word for each in QUICK for word in ("--set", each))]
    run, others = tune.TableRunner.run, []

    def beside_another(self: Any, settings: Any, seconds: float, report: Any) -> Any:
        if not others:
            others.append(subprocess.Popen([sys.executable, "-m", "onetrunk", "tune", *words]))
            while others[0].poll() is None and len(list(place.glob("run-*"))) < 2:
                time.sleep(0.05)
        return run(self, settings, seconds, report)

    monkeypatch.setattr(tune.TableRunner, "run", beside_another)
    command(out, data=str(tmp_path / "rows.csv"), trials=3)
    assert others[0].wait(timeout=200) == 0
    trials = load(out).provenance["trials"]
    assert sorted(trial["method"] for trial in trials) == ["pretrained", "scratch", "wide"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "rows.csv"]


def test_the_budget_holds_with_evidence_and_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only trials move."""
    now = [0.0]
    run = tune.TableRunner.run

    def slow(self: Any, settings: Any, seconds: float, report: Any) -> Any:
        now[0] += seconds
        return run(self, settings, 1.0, report)

    monkeypatch.setattr(tune.TableRunner, "run", slow)
    options = TrainingOptions(
        ask=["label"], given=["x", "y"], out=str(tmp_path / "m"), size="nano", settings=QUICK, budget="60s"
    )
    run_tuning(table(), options, clock=lambda: now[0])
    assert 0.85 * 60 <= now[0] <= 60 - 3, "some seconds are left for judging"


def test_sizes_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No size fits in 0.001 GB: nano would need"):
        command(tmp_path / "m", max_memory="1MB")
    assert not (tmp_path / "m").exists() or not (tmp_path / "m" / "manifest.json").exists()


def test_amounts_of_memory() -> None:
    assert memory_bytes("8GB") == memory_bytes(8) == memory_bytes("8") == 8e9 and memory_bytes("1.5 mb") == 1.5e6
    for wrong in ("much", "-1GB", "0", "8 PB"):
        with pytest.raises(UsageError, match="--max-memory expects an amount like 8GB"):
            memory_bytes(wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "--trials expects a whole number from 1"),
        ({"budget": "soon"}, "--budget expects a time like"),
        ({"max_memory": "lots"}, "--max-memory expects"),
        ({"ask": ["labl"]}, "label"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        command(tmp_path / "m", **options)
    assert not list(tmp_path.iterdir())


def test_few_validation_rows_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tune compares models on validation rows.*--split random:60/20/20"):
        command(tmp_path / "m", data=table(60))


def test_the_command_names_a_wrong_flag() -> None:
    command = [sys.executable, "-m", "onetrunk", "tune", "rows.csv", "--ask", "label", "--trails", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "--trials" in done.stderr
