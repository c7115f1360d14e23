"""`audit.html`: what an audit found, on one page that needs nothing else."""

from __future__ import annotations

from itertools import groupby

from onetrunk.evaluation.audit.record import (
    AskedAudit,
    Audit,
    Fairness,
    GroupMetric,
    Privacy,
    Robustness,
    Security,
    Slices,
)
from onetrunk.evaluation.audit.robustness import severity_in_words
from onetrunk.evaluation.audit.sentences import (
    by_group,
    gap_sentence,
    group_name,
    mitigation_sentence,
    points,
    private,
    secure,
    summary,
    weakest,
    withstood,
    worst,
)
from onetrunk.evaluation.html_parts import escaped, forest, literal_name, shown, table, whole_page
from onetrunk.evaluation.language import begun, called, say, speaking
from onetrunk.evaluation.words import amount, sources, span, word

_WHAT = {
    "fairness": "Fairness",
    "slices": "Slices",
    "robustness": "Robustness",
    "privacy": "Privacy",
    "security": "Security",
}
_MOST_FINDINGS = 60
_MOST_CANARIES = 20


def page(audit: Audit) -> str:
    """The whole page, in the audit's language."""
    with speaking(audit.language):
        return _page(audit)


def _page(audit: Audit) -> str:
    found = "".join(f"<li>{escaped(sentence)}</li>" for sentence in summary(audit))
    what = say(", ").join(say(_WHAT[name]) for name in audit.what)
    sections = [
        f'<p class="eyebrow">{say("Onetrunk audit")}</p><h1>{literal_name(audit.name)}</h1>'
        f'<p class="meta">{escaped(" · ".join(filter(None, [audit.made, what])))}</p>',
        f"<section><h2>{say('In short')}</h2><ul>{found}</ul></section>",
    ]
    for asked in audit.asked:
        sections += [_by_group(asked, fairness) for fairness in asked.fairness]
        sections += [_slices(asked, asked.slices)] if asked.slices is not None else []
        sections += [_robustness(asked)] if asked.robustness else []
        sections += [_privacy(asked, asked.privacy)] if asked.privacy is not None else []
    sections += [_security(audit.security)] if audit.security is not None else []
    return whole_page(say("{name}: audit", name=audit.name), [*sections, _reading()])


def _heading(eyebrow: str, asked: AskedAudit) -> str:
    about = say("from {given}", given=sources(asked.given))
    if asked.rows:
        about += say(", {n:,} rows", n=asked.rows)
    return (
        f'<p class="eyebrow">{escaped(eyebrow)}</p><h2>{literal_name(asked.ask)} <small>{escaped(about)}</small></h2>'
    )


# -- fairness ------------------------------------------------------------------------------------------------
def _by_group(asked: AskedAudit, fairness: Fairness) -> str:
    parts = {"column": fairness.column, "how": called(fairness.how)}
    if fairness.given:
        about = say("Groups by {column} ({how}), which is given to the model.", **parts)
    else:
        about = say("Groups by {column} ({how}), which is not given to the model.", **parts)
    if fairness.missing:
        about += say(" {n:,} rows have no value of it and are left out.", n=fairness.missing)
    about += say(" {note}", note=called(fairness.note)) if fairness.note else ""
    figures = "".join(map(_group_metric, fairness.metrics))
    cures = "".join(f"<p>{escaped(mitigation_sentence(each))}</p>{_settings(each.settings)}" for each in
                    fairness.mitigations)  # fmt: skip
    return (
        f"<section>{_heading(say('Fairness'), asked)}"
        f'<p class="lead">{escaped(by_group(asked, fairness))}</p><p class="note">{escaped(about)}</p>{figures}'
        + (f"<h3>{say('What would make gaps smaller, and its cost')}</h3>{cures}" if cures else "")
        + "</section>"
    )


def _group_metric(metric: GroupMetric) -> str:
    rows = [
        ("them", say("{group} ({rows:,} rows)", group=group_name(figure.group), rows=figure.rows), figure.value)
        for figure in metric.groups
        if figure.value is not None
    ]
    if not rows:
        return ""
    label = word(metric.name).label
    title = say("{label} of {ask}", label=label, ask=metric.of) if metric.of else label
    sentence, meaning = gap_sentence(metric), word(metric.name).meaning
    caption = say("{meaning}; 95 % intervals.", meaning=meaning) if meaning else say("95 % intervals.")
    title = f"<h3>{literal_name(title)}</h3>"
    return f"{title}{forest(rows, metric.name, caption)}<p>{escaped(begun(sentence))}</p>"


def _settings(settings: dict[str, float]) -> str:
    lines = [f'<tr><th>{literal_name(group_name(name))}</th><td class="num">{value:.3f}</td></tr>' for name, value in
             settings.items()]  # fmt: skip
    return table(f'<th></th><th class="num">{say("threshold or weight")}</th>', lines) if lines else ""


def _slices(asked: AskedAudit, found: Slices) -> str:
    lines = []
    for each in found.worst:
        group = say("missing") if each.group == "missing" else group_name(each.group)
        lines.append(
            f"<tr><th>{literal_name(called(each.column))}</th><td>{literal_name(group)}</td>"
            f'<td class="num">{each.rows:,}</td>'
            f'<td class="num">{escaped(amount(asked.metric, each.score.value))}<br><small>'
            f'{escaped(span(asked.metric, each.score))}</small></td><td class="num">'
            f'{escaped(amount(asked.metric, each.elsewhere))}</td><td class="num">{each.behind:.1f}</td></tr>'
        )
    words = (say("rows"), say("there"), say("elsewhere"), say("behind"))
    heads = "".join(f'<th class="num">{head}</th>' for head in words)
    note = say(
        "Behind: by how many standard errors it is worse than on all rows. Of {tried:,} slices of shuffled scores the "
        "worst is {behind:.1f} behind at most, in 99 of 100 shuffles.",
        tried=found.tried,
        behind=found.by_chance,
    )
    body = table(f"<th>{say('column')}</th><th>{say('group')}</th>{heads}", lines) if lines else ""
    body += f'<p class="note">{escaped(note)}</p>' if lines else ""
    lead = f'<p class="lead">{escaped(worst(asked, found))}</p>'
    return f"<section>{_heading(say('Slices'), asked)}{lead}{body}</section>"


# -- robustness ----------------------------------------------------------------------------------------------
def _robustness(asked: AskedAudit) -> str:
    out = []
    for column, ways in groupby(asked.robustness, key=lambda each: each.column):
        title = literal_name(column) if column else say("All given columns")
        out.append(f"<h3>{title}</h3>{''.join(_way(asked, way) for way in ways)}")
    lead_sentence = f'<p class="lead">{escaped(weakest(asked))}</p>'
    if asked.adversary is not None:
        found = asked.adversary
        rows = [("me", say("as they are"), found.unmoved)]
        for shift in found.shifts:
            rows += [("them", say("{share:g} %, against the truth", share=100 * shift.share), shift.against)]
            rows += [("them", say("{share:g} %, anywhere", share=100 * shift.share), shift.anywhere)]
        caption = say("Rows whose true class is above one half, with embeddings moved by so much of their length.")
        out.append(f"<h3>{say('Somebody who knows the model')}</h3>{forest(rows, 'accuracy', caption)}")
        out.append(f"<p>{escaped(withstood(asked, found))}</p>")
    return f"<section>{_heading(say('Robustness'), asked)}{lead_sentence}{''.join(out)}</section>"


def _way(asked: AskedAudit, way: Robustness) -> str:
    rows = [("me", say("as they are"), asked.undisturbed)] if asked.undisturbed is not None else []
    steps = [(severity_in_words(way, step.severity), step) for step in way.steps]
    rows += [("them", how, step.score) for how, step in steps if step.score is not None]
    if not rows:
        return ""
    lost = "; ".join(
        say("{name}: {rest}", name=how, rest=points(asked.metric, step.lost))
        for how, step in steps
        if step.lost is not None
    )
    caption = say(
        "{name}: {what}; {share:.0f} % of the values changed at the last. How much worse, on the same rows: {lost}.",
        name=called(way.name),
        what=called(way.what),
        share=100 * way.steps[-1].changed,
        lost=lost or say("undefined"),
    )
    return forest(rows, asked.metric, caption)


# -- privacy -------------------------------------------------------------------------------------------------
def _privacy(asked: AskedAudit, found: Privacy) -> str:
    sentences = "".join(f"<p>{escaped(begun(s))}</p>" for s in private(found))
    out = [f"<section>{_heading(say('Privacy'), asked)}{sentences}"]
    if found.membership is not None:
        m = found.membership
        for attack in m.attacks:
            rows = [("them", say("training rows found"), attack.tpr)]
            caption = say(
                "At 1 % false alarms, by the {score}; {members:,} training rows beside {others:,} others; shuffled "
                "memberships find up to {by_chance}.",
                score=called(attack.score),
                members=m.members,
                others=m.others,
                by_chance=amount("accuracy", attack.tpr_by_chance),
            )
            out.append(forest(rows, "accuracy", caption))
        out.append(f'<p class="note">{escaped(called(m.note))}</p>' if m.note else "")
    if found.canaries:
        lines = [
            f'<tr><th>{literal_name(canary.value)}</th><td class="num">{canary.exposure:.2f}</td>'
            f'<td class="num">{canary.most:.2f}</td><td class="num">{canary.alternatives:,}</td></tr>'
            for canary in found.canaries[:_MOST_CANARIES]
        ]
        numbers = (say("exposure, bits"), say("at most"), say("alternatives"))
        heads = f"<th>{say('planted')}</th>" + "".join(f'<th class="num">{head}</th>' for head in numbers)
        out.append(table(heads, lines))
    if found.repetition is not None and found.repetition.examples:
        lines = [f"<tr><td>{literal_name(text)}</td></tr>" for text in found.repetition.examples]
        out.append(table(f"<th>{say('training texts that it repeats')}</th>", lines))
    if found.copies is not None and found.copies.examples:
        lines = [
            f'<tr><td>{shown(each.answer)}</td><td>{shown(each.nearest)}</td><td class="num">{each.distance:.3g}</td>'
            "</tr>"
            for each in found.copies.examples
        ]
        heads = f"<th>{say('answer')}</th><th>{say('the nearest training value')}</th>"
        out.append(table(f'{heads}<th class="num">{say("distance")}</th>', lines))
    return "".join(out) + "</section>"


# -- security ------------------------------------------------------------------------------------------------
def _security(found: Security) -> str:
    ordered = sorted(found.findings, key=lambda finding: not finding.serious)
    lines = [
        f"<tr><th>{literal_name(finding.file)}</th><td>{escaped(called(finding.what))}</td>"
        f"<td>{literal_name(called(finding.where))}</td>"
        f"<td>{say('serious') if finding.serious else say('worth a look')}</td></tr>"
        for finding in ordered[:_MOST_FINDINGS]
    ]
    rest = len(ordered) - len(lines)
    more = f'<p class="note">{say("{n:,} more are in audit.json.", n=rest)}</p>' if rest > 0 else ""
    heads = f"<th>{say('file')}</th><th>{say('what')}</th><th>{say('where')}</th><th></th>"
    body = table(heads, lines) + more if lines else ""
    return (
        f'<section><p class="eyebrow">{say("Security")}</p><h2>{say("The folder")}</h2>'
        f'<p class="lead">{escaped(secure(found))}</p>{body}</section>'
    )


def _reading() -> str:
    paragraphs = (
        say(
            "Intervals are of 95 %, over the choice of rows. A gap is between the groups with the highest and the "
            "lowest figure. Some group is always the lowest, so groups are compared with groups that were shuffled: p "
            "is the share of shuffles whose groups differ as much, all of them together, and a gap is called more than "
            "chance gives from p .01 down. Only groups of 30 rows or more have a part in gaps."
        ),
        say(
            "Different figures ask for different things, and where groups differ in what is true of them, no model can "
            "make all of them equal. Which one matters is for people to say."
        ),
        say(
            "An attack that fails here says that this attack fails. Rows that were learnt and rows that were not must "
            "be of the same source: where they differ otherwise, such as in time, an attack may work without anything "
            "learnt by heart."
        ),
    )
    return f"<section><h2>{say('How to read this')}</h2>{''.join(f'<p>{each}</p>' for each in paragraphs)}</section>"
