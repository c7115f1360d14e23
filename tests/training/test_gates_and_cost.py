"""Bounds that a model must keep before it is exported or served; and what it cost, kept beside it."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

import onetrunk
from onetrunk.core.errors import EvidenceError, UsageError
from onetrunk.core.events import Collected, CostCounted, Note
from onetrunk.engine.cost import Cost
from onetrunk.evaluation.audit.record import AskedAudit, Audit, Canary, Fairness, GroupFigure, GroupMetric, Privacy
from onetrunk.evaluation.evidence_files import require_gates
from onetrunk.evaluation.gates import judge_gates
from onetrunk.evaluation.intervals import Interval
from onetrunk.evaluation.record import Evaluated, Evidence
from onetrunk.inference.model_folder import load
from onetrunk.serving.server import ServeOptions, open_folders
from onetrunk.training.evaluate import run_evaluation
from onetrunk.training.import_export import run_export
from onetrunk.training.jobs import run_finetuning
from onetrunk.training.options import DataOptions, TrainingOptions

ROWS = {
    "x": [float(i % 7) for i in range(120)],
    "y": ["low" if i % 7 < 3 else "high" for i in range(120)],
    "z": [float(i % 7) + i % 2 for i in range(120)],
}
GATES = {"accuracy": 0.0, "z": {"rmse": 0.01, "wh_per_1000_answers": 1e6}, "training_kwh": 1e3}
SETTINGS = ["finetune.steps=2", "finetune.folds=2", "train.tensorboard=false", "cost.co2_g_per_kwh=100"]


def _options(out: Path, gates: Any, **more: Any) -> TrainingOptions:
    return TrainingOptions(
        ask=["y", "z"], given=["x"], types={"x": "number", "z": "number"}, out=str(out), size="nano",
        allow_equal_rows=True, config={"gates": gates}, settings=SETTINGS, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def heard() -> Collected:
    return Collected()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, heard: Collected) -> Path:
    """A model whose error of z is too large, and evaluated."""
    out = tmp_path_factory.mktemp("gates") / "model"
    run_finetuning(ROWS, _options(out, GATES), heard)
    run_evaluation(str(out), ROWS, DataOptions(allow_equal_rows=True), heard)
    return out


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy, which a test may change."""
    return Path(shutil.copytree(made, tmp_path / "model"))


def test_evaluate_says_which_gates_are_kept(made: Path, heard: Collected) -> None:
    evidence = heard.of(Evaluated)[-1].evidence
    passed = {(gate.metric, gate.ask): gate.passed for gate in evidence.gates}
    assert passed == {("accuracy", "y"): True, ("rmse", "z"): False, ("wh_per_1000_answers", "z"): True,
                      ("training_kwh", ""): True}  # fmt: skip
    rmse = evidence.tasks[1].metrics["rmse"]
    assert evidence.gates[1].value == rmse and rmse is not None and not evidence.gates[1].at_least
    assert Evidence.read(made).gates == evidence.gates
    failed = f"RMSE of z is {rmse:#.4g}, expected at most 0.01000"
    assert f"- **failed**: {failed}" in (made / "README.md").read_text()
    assert failed in (made / "evidence" / "report.html").read_text()


def test_what_fails_is_neither_exported_nor_served(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        EvidenceError, match=r"model does not keep its gates.*RMSE of z is .*--allow-failed-gates"
    ) as no:
        run_export(str(folder), ROWS, str(tmp_path / "out"), "onnx", DataOptions(ask=["y"]))
    assert no.value.exit_code == 8 and not (tmp_path / "out").exists()
    with pytest.raises(EvidenceError, match="is not served"):
        open_folders([str(folder)], ServeOptions(device="cpu"))


def test_overridden_gates_stand_in_the_card(folder: Path, tmp_path: Path) -> None:
    options = DataOptions(ask=["y"])
    out = tmp_path / "out"
    measured = run_export(str(folder), ROWS, str(out), "onnx", options, allow_failed_gates=True)
    assert [gate["metric"] for gate in measured["failed_gates"]] == ["rmse"]
    assert json.loads((out / "export.json").read_text())["failed_gates"] == measured["failed_gates"]
    assert "**exported on " in (folder / "README.md").read_text()
    open_folders([str(folder)], ServeOptions(device="cpu", allow_failed_gates=True))
    card = (folder / "README.md").read_text()
    assert "**exported on " in card and "**served on " in card and "although it failed" in card
    assert "Served on" in (folder / "evidence" / "report.html").read_text()
    load(folder)  # its manifest is right


def test_a_folder_that_cannot_be_written_is_served_with_a_note(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    heard = Collected()
    monkeypatch.setattr("onetrunk.storage.locks.FileLock.acquire", denied)
    assert require_gates(load(folder, device="cpu"), "served", True, heard)
    assert any("could not be told" in note.message for note in heard.of(Note))


def test_a_model_that_was_never_measured_keeps_no_gate(folder: Path) -> None:
    model = load(folder, device="cpu")
    shutil.rmtree(folder / "evidence")
    with pytest.raises(EvidenceError, match="Accuracy of y is not measured"):
        require_gates(model, "served", False)
    model.provenance["stages"][-1]["config"]["gates"] = {}
    assert require_gates(model, "served", False) == []


def test_a_later_stage_takes_no_gate_away(folder: Path) -> None:
    model = load(folder, device="cpu")
    later = copy.deepcopy(model.provenance["stages"][-1])
    later["config"]["gates"] = {}
    model.provenance["stages"].append(later)
    with pytest.raises(EvidenceError):
        require_gates(model, "served", False)


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ({"accurracy": 0.9}, "gates.accurracy: no asked column .* has such a metric. Did you mean 'accuracy'?"),
        ({"y": {"rmse": 1}}, "gates.y: y has no metric 'rmse'"),
        ({"z": {"rmsee": 1}}, "gates.z: z has no metric 'rmsee'. Did you mean 'rmse'?"),
        ({"x": {"rmse": 1}}, "gates.x is of a column that is not asked"),
        ({"z": {"worst_class_recall": 1}}, "gates.z: z has no metric 'worst_class_recall'"),
        ({"accuracy": math.nan}, "gates"),
        ({"accuracy": "high"}, "gates"),
        ([1], "gates"),
    ],
)
def test_wrong_gates_are_refused_before_any_work(tmp_path: Path, gates: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_finetuning(ROWS, _options(tmp_path / "model", gates))
    assert not list(tmp_path.glob("model*"))


def test_the_worst_class_and_what_less_is_better_of(made: Path) -> None:
    model, evidence = load(made, device="cpu"), Evidence.read(made)
    worst = min(row["recall"] for row in evidence.tasks[0].classes)
    judged = {name: model.evaluation(name) for name in ("y", "z")}
    gates: dict[str, Any] = {"worst_class_recall": worst, "ece": 1.0, "z": {"mae": 1e6}}
    assert [verdict.passed for verdict in judge_gates(gates, evidence, judged)] == [True] * 3
    gates = {"worst_class_recall": worst + 1e-6, "ece": -1.0, "z": {"mae": 0.0}}
    assert [verdict.passed for verdict in judge_gates(gates, evidence, judged)] == [False] * 3


def test_the_worst_group_and_exposure_are_known_from_an_audit(made: Path) -> None:
    model, evidence = load(made, device="cpu"), Evidence.read(made)
    judged = {name: model.evaluation(name) for name in ("y", "z")}
    gates: dict[str, Any] = {"y": {"worst_group": 0.5}, "z": {"worst_group": 0.5, "exposure": 4.0}}

    def figures(name: str, of: str, values: list[float | None]) -> GroupMetric:
        intervals = [None if value is None else Interval(value, value, value) for value in values]
        return GroupMetric(name, of, [GroupFigure(str(i), 9, each) for i, each in enumerate(intervals)], None)

    def asked(ask: str, metric: str, values: list[float | None], bits: list[float]) -> AskedAudit:
        metrics = [figures("selection_rate", "low", [9.0]), figures(metric, "", values)]
        found = AskedAudit(ask, ["x"], 9, metric, metric == "accuracy", None)
        found.fairness = [Fairness("sex", "", False, 9, 0, metrics)]
        found.privacy = Privacy(canaries=[Canary("secret", each, 20.0, 100) for each in bits])
        return found

    assert [verdict.value for verdict in judge_gates(gates, evidence, judged)] == [None] * 3
    for worst, passed in ((0.6, True), (0.4, False)):
        of_y, of_z = asked("y", "accuracy", [0.9, None, worst], []), asked("z", "rmse", [1 - worst, 0.1], [3.0, 5.0])
        verdicts = judge_gates(gates, evidence, judged, Audit("model", ["fairness"], [of_y, of_z]).as_json())
        assert [verdict.value for verdict in verdicts] == [worst, 1 - worst, 5.0]
        assert [verdict.passed for verdict in verdicts] == [passed, passed, False]


def test_what_a_run_cost_is_told_last_and_kept(made: Path, heard: Collected) -> None:
    (told,) = heard.of(CostCounted)
    (run,) = onetrunk.load(str(made)).provenance["runs"]
    cost = Cost.of_json(run)
    assert (run["verb"], told.verb) == ("finetune", "finetune")
    assert 0 < cost.seconds <= told.seconds and 0 < cost.wh <= told.wh and cost.peak_bytes > 1e7
    assert cost.co2_g == pytest.approx(cost.wh / 1000 * 100), "the setting's factor"
    evidence = Evidence.read(made)
    assert evidence.origin.runs == [run] and evidence.origin.co2_g_per_kwh == 100
    for task in evidence.tasks:
        each = Cost.of_json(task.cost or {})
        assert each.seconds == pytest.approx(task.seconds / task.rows * 1000, rel=0.5) and each.wh > 0
    card = (made / "README.md").read_text()
    assert "- Run of finetune, " in card and "- 1,000 answers of z: " in card
    assert "CO2 at 100 g a kWh" in card and ("estimated" in card or "measured" in card)
