"""`report.html`: one file that needs nothing else. No scripts; all that is shown is escaped."""

from __future__ import annotations

import base64
from itertools import groupby

from onetrunk.evaluation.gates import gate_sentence
from onetrunk.evaluation.html_parts import PICTURE, forest, shown, whole_page
from onetrunk.evaluation.html_parts import as_source as _data
from onetrunk.evaluation.html_parts import escaped as _e
from onetrunk.evaluation.html_parts import facts_list as _facts
from onetrunk.evaluation.html_parts import literal_name as _name
from onetrunk.evaluation.html_parts import table as _table
from onetrunk.evaluation.language import called, say, speaking
from onetrunk.evaluation.promise import promise_sentences
from onetrunk.evaluation.record import Display, Evidence, Origin, Sample, TaskEvidence
from onetrunk.evaluation.words import (
    abstained,
    amount,
    certainty,
    costs,
    duration,
    headline,
    leaked,
    more_labels,
    sources,
    split_in_words,
    times,
    word,
)

_MOST_GIVEN = 6  # columns of a sample
_SHORT = 24  # characters of a value that stands beside its column's name
_THUMBNAIL = 256  # pixels
_MOST_CLASSES = 40
_MOST_LEDGER = 40
_MOST_TRIALS = 40


def report(evidence: Evidence) -> str:
    """The whole page, in the evidence's language."""
    with speaking(evidence.language):
        return _page(evidence)


def _page(evidence: Evidence) -> str:
    title = say("{name}: what is known of it", name=evidence.name)
    origin = evidence.origin
    facts = [origin.made, say("{n:,} parameters", n=origin.parameters) if origin.parameters else ""]
    meta = " · ".join(_e(fact) for fact in facts if fact)
    links = "".join(f'<a href="#task-{i}">{_name(t.ask)}</a>' for i, t in enumerate(evidence.tasks, 1))
    sections = [
        f'<p class="eyebrow">{say("Onetrunk report")}</p><h1>{_name(evidence.name)}</h1><p class="meta">{meta}</p>',
        f"<nav>{links}</nav>" if len(evidence.tasks) > 1 else "",
        *(_task(evidence, i, task) for i, task in enumerate(evidence.tasks, 1)),
        _gates(evidence),
        _tried(evidence),
        _curves(evidence),
        _learnt_from(origin),
        _promise(origin),
        _made(evidence),
        _reading(),
    ]
    return whole_page(title, sections)


# -- one task ------------------------------------------------------------------------------------------------
def _task(evidence: Evidence, number: int, task: TaskEvidence) -> str:
    value = task.score.value if task.score else task.metrics[task.metric]
    hero = f'<span class="number">{_e(amount(task.metric, value))}</span>'
    hero += f"<span>{_e(word(task.metric).label)} <small>{_e(word(task.metric).meaning)}</small></span>"
    unjudged = task.without_truth
    missing = say(" Not counted, without a usable truth: {n:,}.", n=unjudged) if unjudged else ""
    figure = _figure(evidence, f"answers-{task.label}", "")
    return (
        f'<section id="task-{number}"><p class="eyebrow">{say("Asked")}</p>'
        f"<h2>{_name(task.ask)} <small>{_e(say('from {given}', given=sources(task.given)))}</small></h2>"
        f'<div class="hero">{hero}</div><p class="lead">{_e(headline(task) + missing)}</p>'
        + _forest(task)
        + _skipped(task)
        + (f'<p class="note">{_e(sentence)}</p>' if (sentence := certainty(task)) else "")
        + "".join(f'<p class="note">{_e(sentence)}</p>' for sentence in leaked(task))
        + (f"<h3>{say('Answers and truths')}</h3>{figure}" if figure else "")
        + _sureness(evidence, task)
        + _labels(evidence, task)
        + _classes(task)
        + _samples(task)
        + _metrics(task)
        + "</section>"
    )


def _forest(task: TaskEvidence) -> str:
    """The model and its baselines on one scale, the best first."""
    if task.score is None:
        return ""
    rows = [("me", say("this model"), task.score)]
    rows += [("them", called(baseline.name), score) for baseline, score in task.ranked]
    label = word(task.metric).label
    if task.higher_is_better:
        caption = say("{label} on the same rows, with 95 % intervals; higher is better.", label=label)
    else:
        caption = say("{label} on the same rows, with 95 % intervals; lower is better.", label=label)
    return forest(rows, task.metric, caption)


def _skipped(task: TaskEvidence) -> str:
    notes = [
        say("{name}: {rest}", name=called(baseline.name), rest=_noted(baseline.note))
        for baseline in task.baselines
        if baseline.note
    ]
    return f'<p class="note">{_e(say("{text}.", text="; ".join(notes)))}</p>' if notes else ""


def _noted(note: str) -> str:
    """Several remarks, each in the page's language."""
    return "; ".join(map(called, note.split("; ")))


def _sureness(evidence: Evidence, task: TaskEvidence) -> str:
    """Is it right as often as it says, and what are its surest answers worth?"""
    sentence = abstained(task)
    bins = _figure(
        evidence,
        f"reliability-{task.label}",
        say(
            "How often answers are right, by how sure they are, with 95 % intervals. Below the dotted line it is too "
            "sure."
        ),
    )
    surest = _figure(evidence, f"abstention-{task.label}", say("If only the surest rows are answered."))
    inside = (f"<p>{_e(sentence)}</p>" if sentence else "") + f'<div class="two">{bins}{surest}</div>'
    return f"<h3>{say('How sure it is')}</h3>{inside}" if sentence or bins or surest else ""


def _labels(evidence: Evidence, task: TaskEvidence) -> str:
    figure = _figure(evidence, f"labels-{task.label}", "")
    sentence = more_labels(task)
    return f"<h3>{say('Would more labels help?')}</h3><p>{_e(sentence)}</p>{figure}" if sentence else ""


def _metrics(task: TaskEvidence) -> str:
    baselines = [(baseline, baseline.metrics) for baseline in task.baselines if baseline.metrics is not None]
    names = [say("this model"), *(called(baseline.name) for baseline, _ in baselines)]
    heads = "".join(f'<th class="num">{_name(name)}</th>' for name in names)
    lines = []
    for metric, value in task.metrics.items():
        meaning = f"<br><small>{_e(word(metric).meaning)}</small>" if word(metric).meaning else ""
        theirs = "".join(f'<td class="num">{_cell(metric, of.get(metric))}</td>' for _, of in baselines)
        lines.append(
            f"<tr><th>{_e(word(metric).label)}{meaning}</th>"
            f'<td class="num mine">{_cell(metric, value)}</td>{theirs}</tr>'
        )
    times = "".join(f'<td class="num">{_e(duration(baseline.seconds))}</td>' for baseline, _ in baselines)
    lines.append(
        f"<tr><th>{say('Time')}<br><small>{say('to answer; for a baseline, to fit and answer')}</small></th>"
        f'<td class="num">{_e(duration(task.seconds))}</td>{times}</tr>'
    )
    return f"<h3>{say('All figures')}</h3>{_table('<th></th>' + heads, lines)}"


def _cell(metric: str, value: float | None) -> str:
    return "–" if value is None else _e(amount(metric, value))


def _classes(task: TaskEvidence) -> str:
    if not task.classes:
        return ""
    lines = []
    for row in task.classes[:_MOST_CLASSES]:
        gauge = f'<span class="gauge"><b style="width:{100 * float(row["recall"]):.1f}%"></b></span>'
        cells = "".join(f'<td class="num">{100 * float(row[k]):.1f} %</td>' for k in ("recall", "precision"))
        rows = f'<td class="num">{int(row["rows"]):,}</td>'
        lines.append(f"<tr><th>{_name(row['class'])}</th>{rows}{cells}<td>{gauge}</td></tr>")
    heads = "<th></th>" + "".join(f'<th class="num">{h}</th>' for h in (say("rows"), say("recall"), say("precision")))
    rest = len(task.classes) - _MOST_CLASSES
    more = f'<p class="note">{say("{n:,} more classes are in metrics.json.", n=rest)}</p>' if rest > 0 else ""
    return f"<h3>{say('Class by class')}</h3>{_table(heads + '<th></th>', lines)}{more}"


# -- samples -------------------------------------------------------------------------------------------------
def _samples(task: TaskEvidence) -> str:
    out = []
    for group, members in groupby(task.samples, key=lambda sample: sample.group):
        kept = list(members)
        pictures = all(s.given and all(display and "png" in display for display in s.given.values()) for s in kept)
        cards = "".join(map(_sample, kept))
        large = any(_is_large(sample.answer) for sample in kept)
        kind = " large" if large else " tight" if pictures else ""
        out.append(f'<h3>{_e(called(group))}</h3><div class="samples{kind}">{cards}</div>')
    return "".join(out)


def _sure(confidence: float) -> str:
    """In per cent; never all of it, which no model is."""
    return say("more than 99 %") if confidence >= 0.995 else f"{100 * confidence:.0f} %"


def _sample(sample: Sample) -> str:
    kind = {True: "right", False: "wrong", None: ""}[sample.right]
    given = list(sample.given.items())
    items = "".join(f"<dt>{_name(name)}</dt>{_value(display)}" for name, display in given[:_MOST_GIVEN])
    short = len(given) > 1 and all(len("".join((display or {}).values())) <= _SHORT for _, display in given)
    if len(given) > _MOST_GIVEN:
        items += f"<dt>{say('and {n} more', n=len(given) - _MOST_GIVEN)}</dt><dd></dd>"
    sure = "" if sample.confidence is None else f" <small>{say('{sure} sure', sure=_sure(sample.confidence))}</small>"
    if sample.between:
        low, high = map(shown, sample.between)
        sure += f" <small>{say('{low} to {high}', low=low, high=high)}</small>"
    key = say("answer") if sample.truth else say("likelihood")
    answer = f'<span class="key">{key}</span><span class="got">{shown(sample.answer)}{sure}</span>'
    if sample.truth and not sample.right:
        answer += f'<span class="key">{say("truth")}</span><span>{shown(sample.truth)}</span>'
    pairs = ' class="pairs"' if short else ""
    return f'<div class="sample {kind}"><dl{pairs}>{items}</dl><div class="said">{answer}</div></div>'


def _value(display: Display | None) -> str:
    if display is None:
        return f"<dd><small>{say('missing')}</small></dd>"
    kind = 'class="shot"' if "png" in display else 'dir="auto"'
    return f"<dd {kind}>{shown(display)}</dd>"


def _is_large(display: Display) -> bool:
    """A picture too wide to be looked at as a thumbnail."""
    png = display.get("png", "")
    head = base64.b64decode(png[:32]) if PICTURE.fullmatch(png) else b""
    return int.from_bytes(head[16:20]) > _THUMBNAIL  # where a PNG file keeps its width


# -- the model -----------------------------------------------------------------------------------------------
def _tried(evidence: Evidence) -> str:
    """The trials that the model was chosen from, the best first."""
    trials = evidence.origin.trials
    if not trials:
        return ""
    ordered = sorted(trials, key=lambda trial: (trial["score"] is None, trial["score"] or 0.0, trial["trial"]))
    lines = []
    for trial in ordered[:_MOST_TRIALS]:
        score, error = trial["score"], trial["standard_error"]
        if score is None:
            result = f"<small>{_e(called(trial['note'] or trial['state']))}</small>"
        else:
            result = _e(f"{score:.4g}") + (f" <small>± {error:.2g}</small>" if error is not None else "")
        lines.append(
            f'<tr><td class="num">{int(trial["trial"])}</td><td>{_e(_settings(trial["what"]))}</td>'
            f'<td class="num">{result}</td><td class="num">{_e(duration(trial["seconds"]))}</td></tr>'
        )
    heads = (
        f'<th class="num">{say("trial")}</th><th>{say("what")}</th><th class="num">{say("validation loss")}</th>'
        f'<th class="num">{say("time")}</th>'
    )
    rest = len(ordered) - len(lines)
    more = f'<p class="note">{say("{n:,} more trials are in metrics.json.", n=rest)}</p>' if rest > 0 else ""
    note = say(
        "A trial's loss is its mean over the validation rows (log loss, or squared error in standard units), with its "
        "standard error. The best of several looks a little better there than it is; the figures above are of other "
        "rows."
    )
    shown = f'{_figure(evidence, "trials", "")}{_table(heads, lines)}{more}<p class="note">{note}</p>'
    return f"<section><h2>{say('What was tried')}</h2>{shown}</section>"


def _settings(what: str) -> str:
    """What a trial was made with, in the page's language."""
    return say(", ").join(map(called, what.split(", ")))


def _gates(evidence: Evidence) -> str:
    """The bounds that the recipe set, whether they are kept, and what was done all the same."""
    kinds = {True: ("right", say("kept")), False: ("wrong", say("failed"))}
    lines = [
        f'<tr class="{kind}"><td class="got">{word}</td><td>{_e(gate_sentence(verdict))}</td></tr>'
        for verdict in evidence.gates
        for kind, word in [kinds[verdict.passed]]
    ]
    parts = [{**each, "doing": called(each["doing"]).capitalize()} for each in evidence.overridden]
    notes = [
        f'<p class="note">{_e(say("{doing} on {when} although it failed: {gates}.", **each))}</p>' for each in parts
    ]
    table = _table("<th></th><th></th>", lines) if lines else ""
    return f"<section><h2>{say('Gates')}</h2>{table}{''.join(notes)}</section>" if lines or notes else ""


def _curves(evidence: Evidence) -> str:
    names = [n for n in evidence.figures if n.startswith(("curves-", "validation-")) and n[-5:] != "-dark"]
    curves = "".join(_figure(evidence, name, _caption(*name.partition("-")[::2])) for name in names)
    return f"<section><h2>{say('How it learnt')}</h2>{curves}</section>" if curves else ""


def _caption(kind: str, stage: str) -> str:
    if kind == "curves":
        return say("Training loss, {stage}", stage=called(stage))
    return say("Validation, {stage}", stage=called(stage))


def _learnt_from(origin: Origin) -> str:
    rows = " · ".join(f"{called(split)} {count:,}" for split, count in origin.rows.items())
    chips = "".join(
        f"<li>{_name(column['name'])} <small>{_e(called(column['type']))}</small></li>" for column in origin.columns
    )
    facts = {say("Data"): origin.data, say("Rows"): rows, say("Split"): split_in_words(origin.split)}
    lines = [
        f"<tr><th>{_name(str(entry['column']))}</th><td>{_e(called(entry['reason']))}</td>"
        f'<td class="num">{int(entry["count"]):,}</td></tr>'
        for entry in sorted(origin.ledger, key=lambda entry: -entry["count"])[:_MOST_LEDGER]
    ]
    heads = f'<th>{say("column")}</th><th>{say("what happened")}</th><th class="num">{say("how many")}</th>'
    rest = len(origin.ledger) - len(lines)
    ledger = _table(heads, lines) if lines else f"<p>{say('Nothing was dropped, cut, repaired or repeated.')}</p>"
    ledger += f'<p class="note">{say("and {n:,} more.", n=rest)}</p>' if rest else ""
    columns = f'<h3>{say("Columns")}</h3><ul class="chips">{chips}</ul>' if chips else ""
    return (
        f"<section><h2>{say('What it learnt from')}</h2>{_facts(facts)}{columns}"
        f"<h3>{say('Dropped, cut, repaired or repeated')}</h3>{ledger}</section>"
    )


def _promise(origin: Origin) -> str:
    lines = "".join(f"<p>{_e(sentence)}</p>" for sentence in promise_sentences(origin.private))
    return f"<section><h2>{say('Privacy')}</h2>{lines}</section>" if lines else ""


def _made(evidence: Evidence) -> str:
    origin = evidence.origin
    facts = {
        say("Time"): times(origin.seconds, " · "),
        **costs(origin, evidence.tasks),
        say("Machine"): called(origin.hardware),
        say("Parameters"): f"{origin.parameters:,}" if origin.parameters else "",
        say("Seed"): str(origin.seed),
        say("Versions"): " · ".join(f"{name} {version}" for name, version in origin.versions.items()),
        say("Written"): origin.made,
    }
    return f"<section><h2>{say('How it was made')}</h2>{_facts(facts)}</section>"


def _reading() -> str:
    figures = say(
        "All figures are of held-out rows: the model did not learn from them. The interval beside a figure shows how "
        "much it depends on which rows were held out (95 % confidence). It says nothing about other kinds of data, nor "
        "about another training run."
    )
    baselines = say(
        "A baseline is a simple, well-known method, fitted on the training rows that have an answer, with the same "
        "given columns, and judged on the same rows. If the interval of a difference includes zero, the difference may "
        "be chance."
    )
    return f"<section><h2>{say('How to read this')}</h2><p>{figures}</p><p>{baselines}</p></section>"


# -- pieces --------------------------------------------------------------------------------------------------
def _figure(evidence: Evidence, name: str, caption: str) -> str:
    if name not in evidence.figures:
        return ""
    light = _data(evidence.figures[name])
    dark = evidence.figures.get(f"{name}-dark")
    source = f'<source media="(prefers-color-scheme: dark)" srcset="{_data(dark)}">' if dark else ""
    picture = f'<picture>{source}<img alt="{_e(caption or name)}" src="{light}"></picture>'
    below = f"<figcaption>{_e(caption)}</figcaption>" if caption else ""
    return f"<figure>{picture}{below}</figure>"
