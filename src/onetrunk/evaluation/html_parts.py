"""The pieces that the report's pages are made of: everything shown is escaped, and a page needs nothing else."""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from onetrunk.evaluation._style import CSS
from onetrunk.evaluation.intervals import Interval
from onetrunk.evaluation.language import html_language, say
from onetrunk.evaluation.words import amount, plain, span, word

_POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


PICTURE = re.compile(r"[A-Za-z0-9+/=\s]+")  # base64


def whole_page(title: str, sections: Sequence[str], style: str = "") -> str:
    """One file: no scripts, nothing from elsewhere. `style` is what its style sheet has beyond the usual."""
    return (
        f'<!doctype html>\n<html lang="{html_language()}"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escaped(title)}</title>'
        f"<style>{CSS}{style}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, sections))
        + "\n</main></body></html>\n"
    )


def forest(rows: Sequence[tuple[str, str, Interval]], metric: str, caption: str) -> str:
    """Figures with their intervals, one under the other on one scale: (`me` or `them`, a name, the figure)."""
    ends = [end for _, _, s in rows for end in (s.low, s.high)]
    ticks = _ticks(min(ends), max(ends), word(metric).kind == "share")
    low, width = ticks[0], ticks[-1] - ticks[0]

    def at(value: float) -> str:
        return f"{100 * (value - low) / width:.2f}%"

    lines = []
    for kind, name, score in rows:
        bar = f'<i class="bar" style="left:{at(score.low)};width:{at(low + score.high - score.low)}"></i>'
        dot = f'<i class="dot" style="left:{at(score.value)}"></i>'
        lines.append(
            f'<div class="{kind}"><span class="who">{literal_name(name)}</span><span class="track">{bar}{dot}</span>'
            f'<span class="value">{escaped(amount(metric, score.value))}'
            f"<small>{escaped(span(metric, score))}</small></span></div>"
        )
    marks = "".join(f'<span style="left:{at(tick)}">{escaped(_tick(metric, tick))}</span>' for tick in ticks)
    lines.append(f'<div class="axis"><span></span><span class="track">{marks}</span><span></span></div>')
    return f'<div class="forest">{"".join(lines)}</div><p class="note">{escaped(caption)}</p>'


def _ticks(low: float, high: float, share: bool) -> list[float]:
    """Three to six round numbers that enclose the range; shares stay between 0 and 1."""
    raw = max(high - low, 1e-9 * max(abs(low), abs(high), 1e-9)) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    ticks = [i * step for i in range(first, last + 1)]
    inside = [tick for tick in ticks if not share or -1e-9 <= tick <= 1 + 1e-9]
    return inside if len(inside) > 1 else ticks


def _tick(metric: str, value: float) -> str:
    return f"{100 * value:.4g} %" if word(metric).kind == "share" else f"{value:,.4g}".replace("-", "−")


def escaped(text: object) -> str:
    """Escaped, and free of control characters and lone surrogates."""
    return html.escape(plain(str(text)), quote=True)


def literal_name(name: str) -> str:
    """A name from outside: its writing direction must not reach what stands beside it."""
    return f"<bdi>{escaped(name)}</bdi>"


def table(heads: str, lines: Sequence[str]) -> str:
    body = "".join(lines)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def facts_list(facts: Mapping[str, str]) -> str:
    items: Iterable[str] = (f"<div><dt>{escaped(k)}</dt><dd>{escaped(v)}</dd></div>" for k, v in facts.items() if v)
    return f'<dl class="facts">{"".join(items)}</dl>'


def as_source(png: bytes) -> str:
    """A picture as part of the page."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def shown(display: Mapping[str, str]) -> str:
    """A value as `Encoder.show` gives it: a picture, a sound to play, or text."""
    if "png" not in display and "wav" not in display:
        text = escaped(" ".join(display.values()))
        return f"<bdi>{text}</bdi>" if any(display.values()) else f"<small>{say('empty')}</small>"
    if not all(PICTURE.fullmatch(data) for data in display.values()):
        return f"<small>{say('not a picture or a sound')}</small>"
    picture = f'<img alt="" src="data:image/png;base64,{escaped(display["png"])}">' if "png" in display else ""
    player = (
        f'<audio controls src="data:audio/wav;base64,{escaped(display["wav"])}"></audio>' if "wav" in display else ""
    )
    return f'<span class="shot">{picture}{player}</span>'
