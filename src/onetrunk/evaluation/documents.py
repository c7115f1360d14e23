"""Drafts of documents that are asked of who offers a model: what the folder knows, and what a person must write."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from onetrunk.core.encoder import is_generated
from onetrunk.core.errors import unknown
from onetrunk.data.ledger import Ledger
from onetrunk.evaluation.audit.record import Audit
from onetrunk.evaluation.audit.sentences import secure, summary
from onetrunk.evaluation.card import limits
from onetrunk.evaluation.document_forms import FORMS, Section
from onetrunk.evaluation.evidence_files import origin_of, verdicts_of
from onetrunk.evaluation.gates import gate_sentence
from onetrunk.evaluation.language import called, say, speaking
from onetrunk.evaluation.markdown import literal
from onetrunk.evaluation.record import FOLDER, Evidence
from onetrunk.evaluation.words import amount, certainty, costs, duration, headline, sources, split_in_words, word
from onetrunk.inference.model_folder import Model

_MOST_LISTED = 40  # columns, or lines of the ledger
_SETTINGS = ("size", "trunk", "attention", "train", "pretrain", "finetune", "columns")


def check_document(kind: str) -> str:
    """Raises UsageError that names the nearest where there is no such document."""
    if kind not in FORMS:
        raise unknown("document", kind, FORMS)
    return kind


def document(kind: str, model: Model, audit: Audit | None = None) -> str:
    """A draft in Markdown. `audit` is what was found of the model, if it was audited."""
    form = FORMS[check_document(kind)]
    folder = model.folder
    if folder is not None and (folder / FOLDER / "metrics.json").exists():
        evidence = Evidence.read(folder)
    else:
        evidence = Evidence("model" if folder is None else folder.name, [], origin_of(model, Ledger(), 0))
    with speaking(form.language):
        known = _Known(model, evidence, audit)
        parts = [f"# {form.title.format(name=literal(evidence.name))}", form.about]
        parts += [_section(section, known, form.must_write, form.nothing_known) for section in form.sections]
    return "\n\n".join(parts) + "\n"


def _section(section: Section, known: _Known, must_write: str, nothing_known: str) -> str:
    facts = [line for name in section.known for line in FACTS[name](known)]
    lines = [f"- {literal(line)}" for line in facts]
    if section.known and not facts:
        lines = [nothing_known]
    if section.to_write:
        lines += [*([""] if lines else []), must_write, "", *(f"- [ ] {item}" for item in section.to_write)]
    return "\n".join([f"## {section.title}", "", *lines])


# -- facts -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Known:
    """All that a folder knows."""

    model: Model
    evidence: Evidence
    audit: Audit | None

    @property
    def stages(self) -> list[dict[str, Any]]:
        return list(self.model.provenance.get("stages", []))


def _identity(known: _Known) -> list[str]:
    dates = [stage["date"] for stage in known.stages if "date" in stage]
    return [" · ".join(filter(None, [known.evidence.name, *dates[-1:], known.evidence.origin.made]))]


def _task(known: _Known) -> list[str]:
    return [f"{name} ← {sources(task.given)}" for task in known.model.tasks for name in task.ask]


def _versions(known: _Known) -> list[str]:
    return [f"{name} {version}" for name, version in known.evidence.origin.versions.items()]


def _hardware(known: _Known) -> list[str]:
    return list(dict.fromkeys(called(stage["machine"]) for stage in known.stages if "machine" in stage))


def _stages(known: _Known) -> list[str]:
    out = []
    for stage in known.stages:
        facts = [f"{key} {stage[key]:,}" for key in ("steps", "tokens") if key in stage]
        facts += [duration(stage["seconds"])] if "seconds" in stage else []
        facts += [f"seed {stage['seed']}"] if "seed" in stage else []
        facts += [str(stage["family"])] if "family" in stage else []
        out.append(f"{called(stage['stage'])}: {', '.join(facts)}")
    teacher = known.model.provenance.get("teacher")
    return out + ([f"teacher: {teacher['name']} ({teacher['digest']})"] if teacher else [])


def _decisions(known: _Known) -> list[str]:
    config = known.stages[-1].get("config", {}) if known.stages else {}
    out = [f"{name}: {_short(config[name])}" for name in _SETTINGS if config.get(name)]
    decision = known.model.provenance.get("decision")
    return out + ([f"decision: {_short(decision)}"] if decision else [])


def _architecture(known: _Known) -> list[str]:
    trunk = known.model.network.trunk.config.model_dump()
    return [_short(trunk), say("{n:,} parameters", n=known.evidence.origin.parameters)]


def _cost(known: _Known) -> list[str]:
    return [f"{name}: {line}" for name, line in costs(known.evidence.origin, known.evidence.tasks).items()]


def _data(known: _Known) -> list[str]:
    out = []
    for stage in known.stages:
        rows = ", ".join(f"{called(split)} {count:,}" for split, count in stage.get("rows", {}).items())
        how = split_in_words(stage.get("split", {}).get("how", ""))
        out.append(": ".join(filter(None, [stage.get("source", ""), ", ".join(filter(None, [rows, how]))])))
    return list(dict.fromkeys(filter(None, out)))


def _columns(known: _Known) -> list[str]:
    kept = [f"{column['name']} ({column['type']})" for column in known.evidence.origin.columns]
    left = {name: why for stage in known.stages for name, why in (stage.get("left_out") or {}).items()}
    return _some([*kept, *(f"{name}: {why}" for name, why in left.items())])


def _ledger(known: _Known) -> list[str]:
    entries = sorted(known.evidence.origin.ledger, key=lambda entry: -entry["count"])
    told = [f"{entry['column']}: {int(entry['count']):,} × {called(entry['reason'])}" for entry in entries]
    return _some(told) or [say("Nothing was dropped, cut, repaired or repeated.")]


def _evaluation(known: _Known) -> list[str]:
    return [f"{task.ask}: {headline(task)}" for task in known.evidence.tasks]


def _metrics(known: _Known) -> list[str]:
    return [
        f"{task.ask}, {word(metric).label}: {amount(metric, value)} ({word(metric).meaning})"
        for task in known.evidence.tasks
        for metric, value in task.metrics.items()
        if value is not None
    ]


def _certainty(known: _Known) -> list[str]:
    return [sentence for task in known.evidence.tasks if (sentence := certainty(task))]


def _gates(known: _Known) -> list[str]:
    verdicts = verdicts_of(known.model, known.evidence, known.model.folder)
    return [f"{say('kept') if v.passed else say('failed')}: {gate_sentence(v)}" for v in verdicts]


def _groups(known: _Known) -> list[str]:
    """How well each class is recognised, the worst first."""
    out = []
    for task in known.evidence.tasks:
        rows = sorted((row for row in task.classes if row["rows"]), key=lambda row: row["recall"])
        out += [f"{task.ask} = {r['class']}: {say('recall')} {100 * r['recall']:.1f} % ({r['rows']:,})" for r in rows]
    return _some(out)


def _limits(known: _Known) -> list[str]:
    return limits(known.evidence)


def _audit(known: _Known) -> list[str]:
    return [] if known.audit is None else summary(known.audit)


def _security(known: _Known) -> list[str]:
    found = None if known.audit is None else known.audit.security
    return [] if found is None else [secure(found)]


def _runs(known: _Known) -> list[str]:
    return [f"{run['began']}: {run['verb']}" for run in known.evidence.origin.runs]


def _marking(known: _Known) -> list[str]:
    made = [name for task in known.model.tasks for name in task.ask if is_generated(known.model.encoder(name))]
    return [f"GB 45438-2025, IPTC trainedAlgorithmicMedia: {', '.join(made)}"] if made else []


FACTS: dict[str, Callable[[_Known], list[str]]] = {
    "identity": _identity, "task": _task, "versions": _versions, "hardware": _hardware, "stages": _stages,
    "decisions": _decisions, "architecture": _architecture, "cost": _cost, "data": _data, "columns": _columns,
    "ledger": _ledger, "evaluation": _evaluation, "metrics": _metrics, "certainty": _certainty, "gates": _gates,
    "groups": _groups, "limits": _limits, "audit": _audit, "security": _security, "runs": _runs, "marking": _marking,
}  # fmt: skip


def _some(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - _MOST_LISTED
    return [*lines[:_MOST_LISTED], *([say("and {n:,} more.", n=rest)] if rest > 0 else [])]


def _short(settings: Any) -> str:
    return json.dumps(settings, ensure_ascii=False, default=str)
