"""Evidence, card and report as files of a model folder; and whether a model keeps its gates."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onetrunk.core.errors import ResourceError
from onetrunk.core.events import Listener, Note, ignore
from onetrunk.data.ledger import Ledger
from onetrunk.engine.cost import CostSettings
from onetrunk.evaluation import card, report
from onetrunk.evaluation.gates import failed, gate_sentence, gates_of, judge_gates, refusal
from onetrunk.evaluation.promise import promise_of
from onetrunk.evaluation.record import FOLDER, Evidence, Origin, Verdict
from onetrunk.storage import atomic
from onetrunk.storage.locks import lock_folder, locks_end
from onetrunk.storage.strict_json import read_json

if TYPE_CHECKING:
    from onetrunk.inference.model_folder import Model


def require_gates(model: Model, doing: str, allow_failed: bool, on_event: Listener = ignore) -> list[Verdict]:
    """Raises EvidenceError before a model that does not keep its gates is `doing` (exported, served). With
    `allow_failed` its card tells of it, and the failed gates come back."""
    folder = model.folder
    name = "The model" if folder is None else folder.name
    if folder is not None and (folder / FOLDER / "metrics.json").exists():
        evidence = Evidence.read(folder)
    else:
        evidence = Evidence(name, [], origin_of(model, Ledger(), 0))
    verdicts = failed(verdicts_of(model, evidence, folder))
    if verdicts and not allow_failed:
        raise refusal(verdicts, name, doing)
    if verdicts:
        which = "; ".join(map(gate_sentence, verdicts))
        on_event(Note(f"{name} is {doing} although it does not keep its gates: {which}."))
        evidence.overridden.append({"when": time.strftime("%Y-%m-%d"), "doing": doing, "gates": which})
        if folder is not None:
            try:
                with locks_end():
                    lock_folder(atomic.real(folder))
                    write_evidence(evidence, folder)
            except ResourceError as error:  # a server's folders are often there to be read alone
                on_event(Note(f"Its model card could not be told: {error}"))
    return verdicts


def verdicts_of(model: Model, evidence: Evidence, folder: Path | None) -> list[Verdict]:
    """Whether the model keeps its gates, by its evidence and by the audit that the folder holds."""
    gates, asked = gates_of(model.provenance)
    evaluations = {name: model.evaluation(name) for name in asked if name in model.columns}
    path = None if folder is None else folder / FOLDER / "audit.json"
    audit = None if path is None or not path.exists() else read_json(path)
    return judge_gates(gates, evidence, evaluations, audit)


def write_evidence(evidence: Evidence, folder: Path) -> None:
    """Evidence, card and report, in one swap."""

    def write(staging: Path) -> None:
        evidence.save(staging)
        (staging / "README.md").write_text(card.card(evidence), encoding="utf-8")
        (staging / FOLDER / "report.html").write_text(report.report(evidence), encoding="utf-8")

    atomic.add_files(folder, write)


def origin_of(model: Model, ledger: Ledger, seed: int) -> Origin:
    stages = model.provenance.get("stages", [])
    last: dict[str, Any] = stages[-1] if stages else {}
    return Origin(
        data=last.get("source", ""),
        rows=last.get("rows", {}),
        columns=[column.as_json() for column in model.columns.values()],
        split=last.get("split", {}).get("how", ""),
        ledger=[entry for stage in stages for entry in stage.get("ledger", [])] + ledger.as_json(),
        parameters=sum(p.numel() for p in model.network.parameters()),
        seconds={stage["stage"]: stage["seconds"] for stage in stages if "seconds" in stage},
        hardware=last.get("machine", ""),
        runs=model.provenance.get("runs", []),
        co2_g_per_kwh=cost_settings(model).co2_g_per_kwh,
        seed=last.get("seed", seed),
        versions={name: last[name] for name in ("onetrunk", "torch") if name in last},
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        trials=model.provenance.get("trials", []),
        private=promise_of(model.provenance),
    )


def cost_settings(model: Model) -> CostSettings:
    """What was assumed in training; of models that came from elsewhere the usual."""
    configs = [stage.get("config", {}) for stage in model.provenance.get("stages", [])]
    return CostSettings.parse(next((config["cost"] for config in reversed(configs) if "cost" in config), {}))
