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
    mitigation_sentence,
    points,
    private,
    secure,
    summary,
    weakest,
    withstood,
    worst,
)
from onetrunk.evaluation.html_parts import escaped, forest, literal_name, table, whole_page
from onetrunk.evaluation.words import amount, sources, span, word

_MOST_FINDINGS = 60
_MOST_CANARIES = 20


def page(audit: Audit) -> str:
    """The whole page."""
    found = "".join(f"<li>{escaped(sentence)}</li>" for sentence in summary(audit))
    sections = [
        f'<p class="eyebrow">Onetrunk audit</p><h1>{literal_name(audit.name)}</h1>'
        f'<p class="meta">{escaped(" · ".join(filter(None, [audit.made, ", ".join(audit.what)])))}</p>',
        f"<section><h2>In short</h2><ul>{found}</ul></section>",
    ]
    for asked in audit.asked:
        sections += [_by_group(asked, fairness) for fairness in asked.fairness]
        sections += [_slices(asked, asked.slices)] if asked.slices is not None else []
        sections += [_robustness(asked)] if asked.robustness else []
        sections += [_privacy(asked, asked.privacy)] if asked.privacy is not None else []
    sections += [_security(audit.security)] if audit.security is not None else []
    return whole_page(f"{audit.name}: audit", [*sections, _READING])


def _heading(eyebrow: str, asked: AskedAudit, rest: str = "") -> str:
    rows = f", {asked.rows:,} rows" if asked.rows else ""
    return (
        f'<p class="eyebrow">{escaped(eyebrow)}</p><h2>{literal_name(asked.ask)} '
        f"<small>from {escaped(sources(asked.given))}{rows}{rest}</small></h2>"
    )


# -- fairness ------------------------------------------------------------------------------------------------
def _by_group(asked: AskedAudit, fairness: Fairness) -> str:
    seen = "is given to the model" if fairness.given else "is not given to the model"
    missing = f" {fairness.missing:,} rows have no value of it and are left out." if fairness.missing else ""
    about = f"Groups by {fairness.column} ({fairness.how}), which {seen}.{missing}"
    figures = "".join(map(_group_metric, fairness.metrics))
    cures = "".join(f"<p>{escaped(mitigation_sentence(each))}</p>{_settings(each.settings)}" for each in
                    fairness.mitigations)  # fmt: skip
    return (
        f"<section>{_heading('Fairness', asked)}"
        f'<p class="lead">{escaped(by_group(asked, fairness))}</p><p class="note">{escaped(about)}</p>{figures}'
        + (f"<h3>What would make gaps smaller, and its cost</h3>{cures}" if cures else "")
        + "</section>"
    )


def _group_metric(metric: GroupMetric) -> str:
    rows = [
        ("them", f"{figure.group} ({figure.rows:,} rows)", figure.value)
        for figure in metric.groups
        if figure.value is not None
    ]
    if not rows:
        return ""
    of = f" of {literal_name(metric.of)}" if metric.of else ""
    sentence = gap_sentence(metric)
    caption = f"{word(metric.name).meaning}; 95 % intervals." if word(metric.name).meaning else "95 % intervals."
    title = f"<h3>{escaped(word(metric.name).label)}{of}</h3>"
    return f"{title}{forest(rows, metric.name, caption)}<p>{escaped(sentence[:1].upper() + sentence[1:])}</p>"


def _settings(settings: dict[str, float]) -> str:
    lines = [f'<tr><th>{literal_name(name)}</th><td class="num">{value:.3f}</td></tr>' for name, value in
             settings.items()]  # fmt: skip
    return table('<th></th><th class="num">threshold or weight</th>', lines) if lines else ""


def _slices(asked: AskedAudit, found: Slices) -> str:
    lines = [
        f'<tr><th>{literal_name(each.column)}</th><td>{literal_name(each.group)}</td><td class="num">{each.rows:,}</td>'
        f'<td class="num">{escaped(amount(asked.metric, each.score.value))}<br><small>'
        f'{escaped(span(asked.metric, each.score))}</small></td><td class="num">'
        f'{escaped(amount(asked.metric, each.elsewhere))}</td><td class="num">{each.behind:.1f}</td></tr>'
        for each in found.worst
    ]
    heads = "".join(f'<th class="num">{head}</th>' for head in ("rows", "there", "elsewhere", "behind"))
    note = (
        f"Behind: by how many standard errors it is worse than on all rows. Of {found.tried:,} slices of shuffled "
        f"scores the worst is {found.by_chance:.1f} behind at most, in 99 of 100 shuffles."
    )
    body = table(f"<th>column</th><th>group</th>{heads}", lines) if lines else ""
    body += f'<p class="note">{escaped(note)}</p>' if lines else ""
    lead = f'<p class="lead">{escaped(worst(asked, found))}</p>'
    return f"<section>{_heading('Slices', asked)}{lead}{body}</section>"


# -- robustness ----------------------------------------------------------------------------------------------
def _robustness(asked: AskedAudit) -> str:
    out = []
    for column, ways in groupby(asked.robustness, key=lambda each: each.column):
        title = literal_name(column) if column else "All given columns"
        out.append(f"<h3>{title}</h3>{''.join(_way(asked, way) for way in ways)}")
    lead_sentence = f'<p class="lead">{escaped(weakest(asked))}</p>'
    if asked.adversary is not None:
        found = asked.adversary
        rows = [("me", "as they are", found.unmoved)]
        for shift in found.shifts:
            rows += [("them", f"{100 * shift.share:g} %, against the truth", shift.against)]
            rows += [("them", f"{100 * shift.share:g} %, anywhere", shift.anywhere)]
        caption = "Rows whose true class is above one half, with embeddings moved by so much of their length."
        out.append(f"<h3>Somebody who knows the model</h3>{forest(rows, 'accuracy', caption)}")
        out.append(f"<p>{escaped(withstood(asked, found))}</p>")
    return f"<section>{_heading('Robustness', asked)}{lead_sentence}{''.join(out)}</section>"


def _way(asked: AskedAudit, way: Robustness) -> str:
    rows = [("me", "as they are", asked.undisturbed)] if asked.undisturbed is not None else []
    steps = [(severity_in_words(way, step.severity), step) for step in way.steps]
    rows += [("them", how, step.score) for how, step in steps if step.score is not None]
    if not rows:
        return ""
    lost = "; ".join(f"{how}: {points(asked.metric, step.lost)}" for how, step in steps if step.lost is not None)
    changed = f"{100 * way.steps[-1].changed:.0f} % of the values changed at the last"
    return forest(
        rows,
        asked.metric,
        f"{way.name}: {way.what}; {changed}. How much worse, on the same rows: {lost or 'undefined'}.",
    )


# -- privacy -------------------------------------------------------------------------------------------------
def _privacy(asked: AskedAudit, found: Privacy) -> str:
    sentences = "".join(f"<p>{escaped(s[:1].upper() + s[1:])}</p>" for s in private(found))
    out = [f"<section>{_heading('Privacy', asked)}{sentences}"]
    if found.membership is not None:
        m = found.membership
        for attack in m.attacks:
            rows = [("them", "training rows found", attack.tpr)]
            caption = (
                f"At 1 % false alarms, by the {attack.score}; {m.members:,} training rows beside {m.others:,} others; "
                f"shuffled memberships find up to {amount('accuracy', attack.tpr_by_chance)}."
            )
            out.append(forest(rows, "accuracy", caption))
        out.append(f'<p class="note">{escaped(m.note)}</p>' if m.note else "")
    if found.canaries:
        lines = [
            f'<tr><th>{literal_name(canary.value)}</th><td class="num">{canary.exposure:.2f}</td>'
            f'<td class="num">{canary.most:.2f}</td><td class="num">{canary.alternatives:,}</td></tr>'
            for canary in found.canaries[:_MOST_CANARIES]
        ]
        heads = '<th>planted</th><th class="num">exposure, bits</th><th class="num">at most</th>'
        out.append(table(heads + '<th class="num">alternatives</th>', lines))
    if found.repetition is not None and found.repetition.examples:
        lines = [f"<tr><td>{literal_name(text)}</td></tr>" for text in found.repetition.examples]
        out.append(table("<th>training texts that it repeats</th>", lines))
    return "".join(out) + "</section>"


# -- security ------------------------------------------------------------------------------------------------
def _security(found: Security) -> str:
    ordered = sorted(found.findings, key=lambda finding: not finding.serious)
    lines = [
        f"<tr><th>{literal_name(finding.file)}</th><td>{escaped(finding.what)}</td><td>{literal_name(finding.where)}</td>"
        f"<td>{'serious' if finding.serious else 'worth a look'}</td></tr>"
        for finding in ordered[:_MOST_FINDINGS]
    ]
    rest = len(ordered) - len(lines)
    more = f'<p class="note">{rest:,} more are in audit.json.</p>' if rest > 0 else ""
    body = table("<th>file</th><th>what</th><th>where</th><th></th>", lines) + more if lines else ""
    return (
        f'<section><p class="eyebrow">Security</p><h2>The folder</h2><p class="lead">{escaped(secure(found))}</p>{body}'
        "</section>"
    )


_READING = """<section><h2>How to read this</h2>
<p>Intervals are of 95 %, over the choice of rows. A gap is between the groups with the highest and the lowest figure.
Some group is always the lowest, so groups are compared with groups that were shuffled: p is the share of shuffles
whose groups differ as much, all of them together, and a gap is called more than chance gives from p .01 down.
Only groups of 30 rows or more have a part in gaps.</p>
<p>Different figures ask for different things, and where groups differ in what is true of them, no model can make all of
them equal. Which one matters is for people to say.</p>
<p>An attack that fails here says that this attack fails. Rows that were learnt and rows that were not must be of the
same source: where they differ otherwise, such as in time, an attack may work without anything learnt by heart.</p>
</section>"""
