"""Evaluates a model and writes the evidence into its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onetrunk.core.errors import DataError
from onetrunk.core.events import LedgerLine, Listener, ignore
from onetrunk.core.values import present
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode
from onetrunk.data.table import Table
from onetrunk.engine.cost import Meter
from onetrunk.engine.log import read_records
from onetrunk.engine.runtime import Runtime
from onetrunk.evaluation.baselines import BASELINE_SECONDS, Baseline
from onetrunk.evaluation.evidence_files import cost_settings, origin_of, verdicts_of, write_evidence
from onetrunk.evaluation.gather import gather_evidence
from onetrunk.evaluation.record import Evaluated, Evidence
from onetrunk.evaluation.together import TogetherModel
from onetrunk.inference.model_folder import Model, Task

MAX_JUDGED = 100_000  # held-out rows: 95 % intervals of a share are then at most .6 % wide
MAX_COMPARED = 200_000  # training rows that simple models learn from
JUDGED = "judge"  # names the sample of them, where there are more


def evaluate_model(
    model: Model,
    test: Table,
    train: Table | None,
    folder: Path,
    *,
    seed: int = 0,
    max_bad: float = 0.01,
    ledger: Ledger | None = None,
    beside: dict[str, Model] | None = None,
    baseline_seconds: float = BASELINE_SECONDS,
    fitted_baselines: Mapping[str, Mapping[str, Baseline]] | None = None,
    lang: str = "en",
    with_labels_curve: bool = False,
    on_event: Listener = ignore,
) -> Evidence:
    """Evidence for every task whose answers the rows hold; the folder gets evidence/ and README.md. `ledger` holds what
    was lost on the way to these rows; models `beside`, by name, are asked what their own tasks are. The baselines of
    a task take at most about `baseline_seconds`, besides `fitted_baselines` that have answered these rows before. The
    report is in the language `lang`; `with_labels_curve` it also says whether more labels would help."""
    tasks = judged_tasks(model.tasks, test)
    ledger = ledger if ledger is not None else Ledger()
    test, train = _bounded(test, train, [model, *(beside or {}).values()], ledger)
    test = model.as_learnt(test)
    train = None if train is None else model.as_learnt(train)
    names = {name for given, ask in tasks for name in [*given, ask] if name in test.columns}
    columns = [column for name, column in model.columns.items() if name in names]
    encoded = encode(test, columns, model.network.encoders, ledger)
    ledger.check(len(test), max_bad)
    for line in ledger.lines():
        on_event(LedgerLine(line))
    runtime = Runtime.of(model.network)
    evidence = gather_evidence(
        model if runtime.world.alone else TogetherModel(model, runtime.world),
        test.columns,
        tasks,
        encoded=encoded,
        train=train.columns if train is not None else None,
        beside={
            name: (other, {ask: task.given for task in other.tasks for ask in task.ask})
            for name, other in (beside or {}).items()
        },
        name=folder.name,
        origin=origin_of(model, ledger, seed),
        histories=_histories(folder, model),
        seed=seed,
        baseline_seconds=baseline_seconds,
        fitted_baselines=fitted_baselines,
        meter=Meter(cost_settings(model), str(runtime.device)),
        language=lang,
        with_labels_curve=with_labels_curve,
        on_event=on_event,
    )
    for task in evidence.tasks:
        calibration = model.calibration(task.ask)
        if calibration is not None:  # its scores stay in the model's own description
            task.calibration = {name: value for name, value in calibration.as_json().items() if name != "scores"}

    evidence.gates = verdicts_of(model, evidence, folder)
    write_evidence(evidence, folder)
    on_event(Evaluated(evidence))
    return evidence


def _bounded(test: Table, train: Table | None, models: Sequence[Model], ledger: Ledger) -> tuple[Table, Table | None]:
    """The columns that the models look at or answer, in memory: of more rows than it should hold a sample, always the
    same, which the ledger tells of."""
    names = {name for model in models for name in model.columns}

    def bounded(table: Table, most: int, what: str) -> Table:
        sample = table.sample(most, JUDGED)
        if len(sample) < len(table):
            ledger.add(what, "the table", n=len(table) - len(sample))
        return sample.loaded(name for name in table.names if name in names)

    judged = bounded(test, MAX_JUDGED, "held-out rows beyond those judged, which are a random sample")
    if train is None:
        return judged, None
    return judged, bounded(
        train, MAX_COMPARED, "training rows beyond those that simple models learn from, a random sample"
    )


def judged_tasks(tasks: Sequence[Task], test: Table) -> list[tuple[list[str], str]]:
    """What is given and asked, of whatever the rows hold answers to. Raises DataError where they hold none."""
    judged = [(task.given, name) for task in tasks for name in task.ask if present(test.columns.get(name, [])).any()]
    if not judged:
        asked = ", ".join(name for task in tasks for name in task.ask)
        raise DataError(f"No held-out row has a value to judge answers by: expected one of {asked} in {test.source}.")
    return judged


def _histories(folder: Path, model: Model) -> dict[str, list[dict[str, Any]]]:
    """The training curves beside the model; the foundation's too, where it stands beside it."""
    out = {}
    last = [stage["stage"] for stage in model.provenance.get("stages", [])][-1:]
    own = "pretraining" if last == ["pretrain"] else "fine-tuning"
    for stage, parent in (("pretraining", Path(f"{folder}-foundation")), (own, folder)):
        path = parent / "metrics.jsonl"
        if records := read_records(path):
            out[stage] = records
    return out
