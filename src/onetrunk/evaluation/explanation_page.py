"""Explanations for a person: one HTML file that needs nothing else. No scripts; all that is shown is escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.evaluation.explanation_pictures import heat_map
from onetrunk.evaluation.faithfulness import Faithfulness
from onetrunk.evaluation.html_parts import escaped as _e
from onetrunk.evaluation.html_parts import literal_name, table, whole_page
from onetrunk.evaluation.language import called, say, speaking
from onetrunk.explanation.attribution import Attribution, ColumnValues, Explanation, Finding, in_words, plain

_MOST_BARS = 30  # columns of a row
_MOST_CHIPS = 80  # parts of a value that is no text and no picture
_SHOWN = 120  # characters of a value

_CSS = """
:root { --for: 0, 114, 178; --against: 213, 94, 0; }
.told { white-space: pre-wrap; line-height: 2; font-size: 1.05rem; margin: .3rem 0 1rem; }
.told span { border-radius: 3px; padding: .12em 0; }
.bars { font-variant-numeric: tabular-nums; margin: .8rem 0 1.2rem; }
.bars > div { display: grid; grid-template-columns: minmax(6rem, 14rem) 1fr 6rem; gap: .1rem .9rem; padding: .18rem 0;
  grid-template-areas: "who axis value"; align-items: center; }
.bars .who { grid-area: who; } .bars .axis { grid-area: axis; } .bars .num { grid-area: value; }
.bars .axis { position: relative; height: 1.15rem; background: linear-gradient(var(--them), var(--them)) center /
  1px 100% no-repeat; }
.bars .axis i { position: absolute; top: .15rem; bottom: .15rem; border-radius: 2px; }
.for { background: rgb(var(--for)); } .against { background: rgb(var(--against)); }
.bars b { font-weight: 600; } .bars small { display: block; }
.parts { display: flex; flex-wrap: wrap; gap: .3rem; margin: .4rem 0 1rem; padding: 0; list-style: none; }
.parts li { border-radius: 5px; padding: .1rem .5rem; font-size: .9rem; border: 1px solid var(--line); }
.heat { max-width: 100%; width: 22rem; image-rendering: pixelated; border-radius: 8px; display: block; }
.heat.long { width: 100%; max-width: 44rem; }
.legend { display: flex; gap: 1.2rem; font-size: .85rem; color: var(--soft); margin: .2rem 0 .8rem; }
.legend i { display: inline-block; width: .9rem; height: .9rem; border-radius: 3px; vertical-align: -.12rem;
  margin-right: .35rem; }
.warn { border-left: 4px solid var(--bad); padding: .4rem .9rem; } .fine { border-left: 4px solid var(--good);
  padding: .4rem .9rem; }
details { margin: .4rem 0; } summary { cursor: pointer; }
@media (max-width: 42rem) { .bars > div { grid-template-columns: 1fr 5rem;
  grid-template-areas: "who value" "axis axis"; } }
"""


def explanation_page(
    explained: Sequence[Explanation], judged: Faithfulness | None, name: str, language: str = "en"
) -> str:
    """The whole page: what is known of the method on these rows, then row after row."""
    with speaking(language):
        method = explained[0].method if explained else ""
        many = say("{n:,} rows", n=len(explained)) if len(explained) != 1 else say("{n:,} row", n=1)
        head = [
            f'<p class="eyebrow">{say("Onetrunk explanation")}</p><h1>{literal_name(name)}</h1>',
            f'<p class="meta">{_e(method)} · {_e(many)}</p>',
            "" if judged is None else _judged(judged),
        ]
        return whole_page(say("{name}: why it answers so", name=name), [*head, *map(_row, explained)], _CSS)


def _judged(judged: Faithfulness) -> str:
    kind = {True: "fine", False: "warn", None: ""}[judged.better_than_random]
    facts = []
    if judged.insertion is not None:
        facts.append(say("insertion gain {value:+.3g}", value=judged.insertion.value))
    if judged.stability is not None:
        facts.append(say("stability {value:.2f} (rank correlation when a row loses one part)", value=judged.stability))
    if judged.completeness_error is not None:
        facts.append(_completeness(judged.completeness_error))
    facts += [say("agreement with {name} {value:.2f}", name=k, value=v) for k, v in judged.agreement.items()]
    more = f'<p class="note">{_e(" · ".join(facts))}</p>' if facts else ""
    return f'<div class="{kind}"><p class="lead">{_e(judged.sentence())}</p>{more}</div>'


def _completeness(error: float) -> str:
    return say("completeness error {value}", value=called(in_words(error)))


def _row(each: Explanation) -> str:
    answer = say("answered {answer}", answer=_short(each.answer))
    eyebrow = say("Row {n}", n=each.row)
    head = f'<p class="eyebrow">{_e(eyebrow)}</p><h2>{literal_name(each.ask)} <small>{_e(answer)}</small></h2>'
    inside = _attributed(each) if isinstance(each, Attribution) else _table(each)
    notes = "".join(f'<p class="note">{_e(called(note))}</p>' for note in each.notes)
    facts = [each.method, say("forward passes: {n}", n=each.forward_passes)]
    if isinstance(each, Attribution):
        facts += [say("backward passes: {n}", n=each.backward_passes)] if each.backward_passes else []
        facts.append(_completeness(each.completeness_error))
    return f'<section>{head}{inside}{notes}<p class="note">{_e(" · ".join(facts))}</p></section>'


def _attributed(each: Attribution) -> str:
    unit = f" {called(each.unit)}" if each.unit else ""
    change = float((each.score - each.nothing).sum())
    lead = say(
        "Explained: {what}. What is given moves it by {change:+.3g}{unit} in all.",
        what=called(each.explained),
        change=change,
        unit=unit,
    )
    legend = (
        f'<p class="legend"><span><i class="for"></i>{say("for the answer (more)")}</span>'
        f'<span><i class="against"></i>{say("against it (less)")}</span></p>'
    )
    shown = [_bars(each.columns)] if len(each.columns) > 1 or each.columns[0].by_part is None else []
    for column in each.columns:
        if column.by_part is not None and len(column.parts) > 1:
            shown.append(f"<h3>{_name(column)}</h3>" + _parts(column, column.by_part.sum(0)))
    if not shown:
        shown = [_bars(each.columns)]
    return f"<p>{_e(lead)}</p>{legend}{''.join(shown)}{_by_outcome(each)}"


def _by_outcome(each: Attribution) -> str:
    """Of a written answer, what every token rests on."""
    if len(each.outcomes) < 2:
        return ""
    out = []
    for j, outcome in enumerate(each.outcomes):
        inside = "".join(
            f'<p class="note">{_name(c)}</p>{_parts(c, c.by_part[j])}' for c in each.columns if c.by_part is not None
        )
        out.append(f"<details><summary>{_e(repr(outcome)[1:-1])}</summary>{inside}</details>")
    return f"<h3>{say('Token by token')}</h3>{''.join(out)}"


def _bars(columns: Sequence[ColumnValues]) -> str:
    values = [(float(c.values.sum()), c) for c in columns]
    values.sort(key=lambda pair: -abs(pair[0]))
    largest = max((abs(v) for v, _ in values), default=0.0) or 1.0
    lines = []
    for value, column in values[:_MOST_BARS]:
        width = 50 * abs(value) / largest
        left = 50 if value >= 0 else 50 - width
        kind = "for" if value >= 0 else "against"
        as_it_is = column.parts.spans is not None or len(column.parts) == 1
        shown = _e(_short(column.shown) if as_it_is else f"{len(column.parts)} {called(column.parts.nouns)}")
        lines.append(
            f'<div><div class="who"><b>{_name(column)}</b><small>{shown}</small></div><div class="axis">'
            f'<i class="{kind}" style="left:{left:.2f}%;width:{width:.2f}%"></i></div>'
            f'<div class="num">{_e(f"{value:+.3g}")}</div></div>'
        )
    more = len(values) - _MOST_BARS
    rest = f'<p class="note">{say("and {n} more", n=more)}</p>' if more > 0 else ""
    return f'<div class="bars">{"".join(lines)}</div>{rest}'


def _parts(column: ColumnValues, values: np.ndarray) -> str:
    """A value, each part coloured by how much it counts beside the strongest: a text, a picture, or one part after the
    other."""
    parts = column.parts
    strongest = float(values[np.abs(values).argmax()])
    largest = abs(strongest)
    sentence = say("strongest {noun} {value:+.3g}", noun=called(parts.noun), value=strongest)
    note = f'<p class="note">{_e(sentence)}</p>'
    if column.view is not None and parts.grid:
        png = base64.b64encode(heat_map(column.view, parts.grid, values, largest)).decode()
        long = " long" if column.view.shape[1] > 2 * column.view.shape[0] else ""
        return f'<img class="heat{long}" alt="{_e(column.column)}" src="data:image/png;base64,{png}">{note}'
    if parts.spans is not None:
        return f'<p class="told" dir="auto">{_told(parts.text, parts.spans, values, largest)}</p>{note}'
    order = range(len(parts)) if len(parts) <= _MOST_CHIPS else np.sort(np.argsort(-np.abs(values))[:_MOST_CHIPS])
    chips = [
        f'<li style="{_colour(float(values[k]), largest)}" title="{_e(f"{values[k]:+.3g}")}">{_e(parts.labels[k])}</li>'
        for k in order
    ]
    return f'<ul class="parts">{"".join(chips)}</ul>{note}'


def _told(text: str, spans: Sequence[tuple[int, int]], values: np.ndarray, largest: float) -> str:
    """A text with coloured tokens. Tokens that end inside of a character are told with the one that completes it."""
    out, waiting, end = [], 0.0, 0
    for (a, b), value in zip(spans, values.tolist(), strict=True):
        waiting += value
        if b > a:
            out.append(_e(text[end:a]))
            style = _colour(waiting, largest)
            out.append(f'<span style="{style}" title="{_e(f"{waiting:+.3g}")}">{_e(text[a:b])}</span>')
            waiting, end = 0.0, b
    return "".join(out) + _e(text[end:])


def _colour(value: float, largest: float) -> str:
    strength = min(1.0, abs(value) / largest) if largest > 0 else 0.0
    return f"background:rgba(var(--{'for' if value >= 0 else 'against'}),{0.62 * strength:.3f})"


def _table(found: Finding) -> str:
    head = "".join(f"<th>{_e(called(name))}</th>" for name in found.header)
    rows = ["<tr>" + "".join(f"<td>{_e(_cell(x))}</td>" for x in row) + "</tr>" for row in found.rows]
    return f"<h3>{_e(called(found.title))}</h3>{table(head, rows)}"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else called(_short(value))


def _name(column: ColumnValues) -> str:
    return literal_name(column.column) + (f" <small>{say('so far')}</small>" if column.asked else "")


def _short(value: Any) -> str:
    text = str(plain(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
