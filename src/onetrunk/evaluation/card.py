"""README.md of a model folder: a model card with Hugging Face's front matter, in plain words."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from onetrunk.evaluation.gates import gate_sentence
from onetrunk.evaluation.language import called, say, speaking
from onetrunk.evaluation.markdown import literal as _m
from onetrunk.evaluation.promise import promise_sentences
from onetrunk.evaluation.record import Evidence, Origin, TaskEvidence
from onetrunk.evaluation.words import (
    amount,
    certainty,
    costs,
    headline,
    joined,
    lead,
    leaked,
    plain,
    sources,
    span,
    times,
    word,
)

_MOST_LEDGER = 15


def card(evidence: Evidence, license: str = "other") -> str:
    """The whole card, in English. The license of the model is its owner's to choose."""
    with speaking("en"):
        return _card(evidence, license)


def _card(evidence: Evidence, license: str) -> str:
    name = evidence.name
    sections = [
        f"---\n{_front_matter(evidence, license)}---",
        f"# {_m(name)}",
        "A model made with Onetrunk. All figures below are of rows that it did not learn from.",
        *(_task(evidence, task) for task in evidence.tasks),
        _gates(evidence),
        _usage(evidence),
        _learnt_from(evidence.origin),
        _promise(evidence.origin),
        _limits(evidence),
        _cost(evidence),
        "More, with pictures: [evidence/report.html](evidence/report.html); as numbers: "
        "[evidence/metrics.json](evidence/metrics.json).",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _front_matter(evidence: Evidence, license: str) -> str:
    import yaml

    results = []
    for task in evidence.tasks:
        metrics = [
            {"type": metric, "name": word(metric).label, "value": round(value, 6)}
            for metric, value in task.metrics.items()
            if value is not None
        ]
        about = {"type": "other", "name": plain(f"{task.ask} from {sources(task.given)}")}
        data = {"type": "custom", "name": plain(evidence.origin.data) or "private data"}
        results.append({"task": about, "dataset": data, "metrics": metrics})
    front: dict[str, Any] = {
        "license": license,
        "library_name": "onetrunk",
        "tags": ["onetrunk"],
        "model-index": [{"name": plain(evidence.name), "results": results}],
    }
    return yaml.safe_dump(front, allow_unicode=True, sort_keys=False, width=1000)


def _task(evidence: Evidence, task: TaskEvidence) -> str:
    lines = [
        f"## {_m(task.ask)} from {_m(sources(task.given))}",
        "",
        _m(headline(task)),
        "",
        f"| | {_m(word(task.metric).label)} | 95 % interval | the model's lead |",
        "|---|---:|---:|---:|",
    ]
    if task.score is not None:
        score = f"**{amount(task.metric, task.score.value)}** | {span(task.metric, task.score)}"
        lines.append(f"| **this model** | {score} | |")
    for baseline in task.baselines:
        if baseline.score is None:
            lines.append(f"| {_m(baseline.name)} | {_m(baseline.note or 'undefined')} | | |")
            continue
        ahead = "" if baseline.lead is None else lead(task.metric, baseline.lead)
        note = f" ({_m(baseline.note)})" if baseline.note else ""
        lines.append(
            f"| {_m(baseline.name)}{note} | {amount(task.metric, baseline.score.value)} | "
            f"{span(task.metric, baseline.score)} | {ahead} |"
        )
    others = [f"{word(m).label} {amount(m, v)}" for m, v in task.metrics.items() if m != task.metric]
    if others:
        lines += ["", _m("Other figures: " + ", ".join(others) + ".")]
    if sentence := certainty(task):
        lines += ["", _m(sentence)]
    lines += [line for sentence in leaked(task) for line in ("", _m(sentence))]
    if task.without_truth:
        lines += ["", f"Held-out rows without a usable true value, not counted: {task.without_truth:,}."]
    if f"comparison-{task.label}" in evidence.figures:
        lines += ["", f"![The model and its baselines](evidence/figures/comparison-{task.label}.png)"]
    return "\n".join(lines)


def _gates(evidence: Evidence) -> str:
    if not evidence.gates and not evidence.overridden:
        return ""
    lines = [
        f"- {'kept' if verdict.passed else '**failed**'}: {_m(gate_sentence(verdict))}" for verdict in evidence.gates
    ]
    lines += [
        f"- **{_m(each['doing'])} on {_m(each['when'])} although it failed**: {_m(each['gates'])}"
        for each in evidence.overridden
    ]
    return "\n".join(["## Gates", "", "Bounds that the recipe set for this model.", "", *lines])


def _usage(evidence: Evidence) -> str:
    folder = re.sub(r"[^\w.-]", "_", evidence.name) or "model"
    example = "rows"
    if evidence.tasks and evidence.tasks[0].given:
        columns = ", ".join(f"{json.dumps(name, ensure_ascii=False)}: [...]" for name in evidence.tasks[0].given[:4])
        example = f"{{{columns}}}"
    return (
        "## Use\n\n```python\nimport onetrunk\n\n"
        f"model = onetrunk.load({json.dumps(folder)})\n"
        f"print(model.predict({plain(example)}))\n```\n\n"
        f"```sh\nonetrunk predict {shlex.quote(folder)} data.csv\n```"
    )


def _learnt_from(origin: Origin) -> str:
    rows = ", ".join(f"{split} {count:,}" for split, count in origin.rows.items())
    columns = joined([f"{column['name']} ({column['type']})" for column in origin.columns])
    facts = {"Data": origin.data, "Rows": rows, "Columns": columns, "Split": origin.split}
    lines = ["## What it learnt from", "", *(f"- {k}: {_m(v)}" for k, v in facts.items() if v)]
    entries = sorted(origin.ledger, key=lambda entry: -entry["count"])
    if entries:
        lines += ["", "Dropped, cut, repaired or repeated:", ""]
        lines += [
            f"- {_m(entry['column'])}: {int(entry['count']):,} × {_m(entry['reason'])}"
            for entry in entries[:_MOST_LEDGER]
        ]
        if len(entries) > _MOST_LEDGER:
            lines.append(f"- and {len(entries) - _MOST_LEDGER:,} more: see the report")
    else:
        lines += ["", "Nothing was dropped, cut, repaired or repeated."]
    return "\n".join(lines)


def _promise(origin: Origin) -> str:
    lines = [f"- {_m(sentence)}" for sentence in promise_sentences(origin.private)]
    return "\n".join(["## Privacy", "", *lines]) if lines else ""


def _limits(evidence: Evidence) -> str:
    return "\n".join(["## Limits", "", *(f"- {_m(line)}" for line in limits(evidence))])


def limits(evidence: Evidence) -> list[str]:
    """What to keep in mind, in sentences."""
    lines = [
        say("It was measured on held-out rows of the same source. On other rows it may do worse."),
        say("The intervals show how much the choice of held-out rows matters. Another training run may differ, too."),
    ]
    for task in evidence.tasks:
        best = task.best
        if best is not None and best.lead is not None and best.lead.low <= 0:
            parts = {"ask": task.ask, "name": called(best.name)}
            if best.lead.high < 0:
                lines.append(say("For {ask}, {name} is simpler and better.", **parts))
            else:
                lines.append(say("For {ask}, {name} is simpler and not clearly worse.", **parts))
        unseen = task.metrics.get("unseen")
        if unseen:
            sentence = (
                "{n:,.0f} held-out rows of {ask} have a label that did not occur in training: the model cannot answer "
                "it."
            )
            lines.append(say(sentence, n=unseen, ask=task.ask))
    return lines


def _cost(evidence: Evidence) -> str:
    origin = evidence.origin
    tried = f"among {len(origin.trials):,} trials, by their loss on the validation rows" if origin.trials else ""
    facts = {
        "Chosen": tried,
        "Parameters": f"{origin.parameters:,}" if origin.parameters else "",
        "Time": times(origin.seconds, ", "),
        **costs(origin, evidence.tasks),
        "Machine": origin.hardware,
        "Seed": str(origin.seed),
        "Versions": ", ".join(f"{name} {version}" for name, version in origin.versions.items()),
        "Written": origin.made,
    }
    return "\n".join(["## Cost", "", *(f"- {_m(k)}: {_m(v)}" for k, v in facts.items() if v)])
