"""Charts as PNG for light and dark pages, in colours that everyone can tell apart (Okabe and Ito 2008)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.evaluation.language import called
from onetrunk.evaluation.record import TaskEvidence
from onetrunk.evaluation.words import amount, span, word

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DARK_PALETTE = ("#5AB4E8", "#F0884A", "#3CC79B", "#E3A1C4", "#F2B945", "#8CCBF0")
_GREY = "#8A8F98"
_LATIN = ("Inter", "Source Sans 3", "Noto Sans", "Helvetica Neue", "Arial", "Liberation Sans")
_CHINESE = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "SimHei", "Noto Serif CJK SC",
    "Noto Serif CJK JP", "Source Han Serif SC", "Songti SC", "SimSun", "Droid Sans Fallback", "AR PL UMing CN",
    "Arial Unicode MS",
)  # fmt: skip
_CHINESE_FILES = ("cjk", "wqy", "sourcehan", "msyh", "pingfang", "hiragino", "simhei", "simsun", "songti", "uming")
_MOST_LINES = 5
_MOST_NAMED = 24  # characters of a name in a legend

Draw = Callable[[Any], bool]  # on matplotlib axes; false when there is nothing to draw


def render(draw: Draw, size: tuple[float, float] = (6.4, 4.0)) -> dict[str, bytes]:
    """`{"": PNG, "-dark": PNG}` of what `draw` puts on one pair of axes; empty when it draws nothing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out = {}
    for suffix, dark in (("", False), ("-dark", True)):
        with _style(dark):
            figure = Figure(figsize=size, layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.add_subplot()
            if not draw(axes):
                return {}
            _translate(axes)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
            out[suffix] = buffer.getvalue()
    return out


def _translate(axes: Any) -> None:
    """Title, labels and legend in the language that is spoken, where there is a font for it; what stands at ticks is
    data."""
    if not set(_fonts()) & set(_CHINESE):
        return
    axes.set_title(called(axes.get_title("left")), loc="left")
    axes.set_xlabel(called(axes.get_xlabel()))
    axes.set_ylabel(called(axes.get_ylabel()))
    legend = axes.get_legend()
    for text in [] if legend is None else legend.get_texts():
        text.set_text(called(text.get_text()))


def comparison(task: TaskEvidence) -> dict[str, bytes]:
    """The model's main metric and each baseline's, best first, with their intervals."""
    if task.score is None:
        return {}
    bars = [("this model", task.score), *((baseline.name, score) for baseline, score in task.ranked)]

    def draw(axes: Any) -> bool:
        percent = word(task.metric).kind == "share"
        scale = 100 if percent else 1
        for index, (_, score) in enumerate(bars):
            colour = "C0" if index == 0 else _GREY
            axes.plot([score.low * scale, score.high * scale], [index, index], color=colour, lw=5, alpha=0.35)
            axes.plot(score.value * scale, index, "o", color=colour, ms=8)
            weight = "bold" if index == 0 else "normal"
            figure = f"{amount(task.metric, score.value)}   {span(task.metric, score)}"
            axes.text(1.02, index, figure, transform=axes.get_yaxis_transform(), va="center", weight=weight)
        axes.set_yticks(range(len(bars)), [name for name, _ in bars])
        axes.get_yticklabels()[0].set_fontweight("bold")
        axes.tick_params("y", length=0)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(word(task.metric).label + (" (%)" if percent else ""))
        return True

    return render(draw, (8.0, 1.0 + 0.42 * len(bars)))


def reliability(task: TaskEvidence) -> dict[str, bytes]:
    """How often answers are right, by how sure they are; below the line they are too sure."""
    bins = task.reliability

    def draw(axes: Any) -> bool:
        axes.plot([0, 1], [0, 1], color=_GREY, lw=1, ls=":", label="as sure as right")
        for each in bins:
            axes.plot([each["confidence"]] * 2, [each["low"], each["high"]], color="C0", lw=5, alpha=0.35)
        axes.plot([each["confidence"] for each in bins], [each["right"] for each in bins], "o-", color="C0", ms=6)
        least = min(each["confidence"] for each in bins)
        axes.set_xlim(max(0.0, min(least, 0.5) - 0.05), 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("confidence")
        axes.set_ylabel("right")
        axes.legend(loc="upper left")
        return True

    return render(draw, (5.4, 4.2)) if len(bins) > 1 else {}


def abstention(task: TaskEvidence) -> dict[str, bytes]:
    """The main metric of the surest rows, by how many are answered."""
    points = [(each["share"], each["value"]) for each in task.abstention if each["value"] is not None]

    def draw(axes: Any) -> bool:
        scale = 100 if word(task.metric).kind == "share" else 1
        axes.plot([100 * share for share, _ in points], [scale * value for _, value in points], "o-", color="C0", ms=5)
        axes.set_xlabel("share of the rows answered, %")
        axes.set_ylabel(word(task.metric).label + (" (%)" if scale == 100 else ""))
        return True

    return render(draw, (5.4, 3.4)) if len(points) > 1 else {}


def labels_curve(task: TaskEvidence) -> dict[str, bytes]:
    """The main metric of a baseline by the number of labelled rows, and the model's own."""
    found = task.labels_curve

    def draw(axes: Any) -> bool:
        assert found is not None
        scale = 100 if word(task.metric).kind == "share" else 1
        rows = [point["rows"] for point in found["points"]]
        scores = [point["score"] for point in found["points"]]
        low, high = ([scale * score[end] for score in scores] for end in ("low", "high"))
        axes.fill_between(rows, low, high, color=_GREY, alpha=0.2, lw=0)
        axes.plot(rows, [scale * score["value"] for score in scores], "o-", color=_GREY, label=found["baseline"])
        if task.score is not None:
            axes.plot(rows[-1], scale * task.score.value, "o", color="C0", ms=8, label="this model")
        axes.set_xscale("log", base=2)
        axes.set_xticks(rows, [f"{n:,}" for n in rows])
        axes.minorticks_off()
        axes.set_xlabel("labelled training rows")
        axes.set_ylabel(word(task.metric).label + (" (%)" if scale == 100 else ""))
        axes.legend(loc="best")
        return True

    return {} if found is None else render(draw, (5.4, 3.6))


def curves(records: Sequence[dict[str, Any]]) -> dict[str, bytes]:
    """Losses of a training run by step, faint as measured, strong smoothed, from metrics.jsonl's records."""
    from matplotlib.ticker import LogLocator

    series = _losses(records)

    def draw(axes: Any) -> bool:
        for colour, (name, (steps, values)) in enumerate(series.items()):
            axes.plot(steps, values, color=f"C{colour}", alpha=0.22, lw=0.8)
            axes.plot(steps, _smoothed(values), color=f"C{colour}", lw=2, label=name[:_MOST_NAMED])
        positive = np.concatenate([values for _, values in series.values()])
        if positive.min() > 0 and positive.max() > 20 * positive.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        axes.set_xlabel("step")
        axes.set_ylabel("training loss")
        if len(series) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
        return True

    return render(draw, (6.4, 3.4)) if series else {}


def validation(records: Sequence[dict[str, Any]]) -> dict[str, bytes]:
    """The validation metric by step, the best point marked. Nothing with fewer than two validations."""
    points = [(r["step"], r["validation"]) for r in records if isinstance(r.get("validation"), dict)]
    points = [(step, record) for step, record in points if isinstance(record.get("metric"), int | float)]
    if len(points) < 2:
        return {}
    first = points[0][1]
    name = next((k for k, v in first.items() if k != "metric" and v == first["metric"]), "metric")

    def draw(axes: Any) -> bool:
        steps, values = zip(*((step, record["metric"]) for step, record in points), strict=True)
        axes.plot(steps, values, "o-", color="C2", ms=4)
        axes.set_xlabel("step")
        axes.set_ylabel(f"validation: {word(name).label}")
        return True

    return render(draw, (6.4, 2.8))


def trials(made: Sequence[dict[str, Any]]) -> dict[str, bytes]:
    """The validation loss of each finished trial, by method, and the best so far. Nothing of fewer than two."""
    scored = [trial for trial in made if trial["score"] is not None]
    if len(scored) < 2:
        return {}
    methods = list(dict.fromkeys(trial["method"] for trial in scored))

    def draw(axes: Any) -> bool:
        for colour, method in enumerate(methods):
            own = [trial for trial in scored if trial["method"] == method]
            at, losses = [trial["trial"] for trial in own], [trial["score"] for trial in own]
            axes.plot(at, losses, "o", color=f"C{colour}", ms=6, label=method)
        stopped = [trial["trial"] for trial in made if trial["score"] is None]
        axes.plot(stopped, [0.02] * len(stopped), "|", color=_GREY, transform=axes.get_xaxis_transform())
        numbers = [trial["trial"] for trial in scored]
        axes.step(numbers, np.minimum.accumulate([trial["score"] for trial in scored]), where="post", color=_GREY, lw=1)
        axes.set_xlabel("trial (a tick: stopped early)" if stopped else "trial")
        axes.set_ylabel("validation loss")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, borderaxespad=0.2)
        return True

    return render(draw, (6.4, 3.4))


def _losses(records: Sequence[dict[str, Any]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name to steps and values; the whole loss first when it is a mix."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        named = {"all together": record.get("loss"), **(record.get("losses") or {})}
        for name, value in named.items():
            if isinstance(value, int | float) and np.isfinite(value):
                curves.setdefault(name, []).append((record["step"], float(value)))
    if len(curves) == 2:  # one loss, and the sum of it alone
        curves.pop("all together", None)
    kept = list(curves.items())[:_MOST_LINES]
    arrays = {name: np.array(points, dtype=np.float64).T for name, points in kept if len(points) > 1}
    return {name: (steps, values) for name, (steps, values) in arrays.items()}


def _smoothed(values: np.ndarray) -> np.ndarray:
    """A centred mean over a twentieth of the run; shorter at the ends."""
    half = max(1, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


@contextmanager
def _style(dark: bool) -> Iterator[None]:
    """Evaluations draw under it too: they leave colours to it, or use C0 to C5."""
    import matplotlib
    from cycler import cycler
    from matplotlib.colors import LinearSegmentedColormap

    ink, page = ("#E6E8EB", "#171A1F") if dark else ("#23272E", "#FFFFFF")
    palette = _DARK_PALETTE if dark else PALETTE
    ramp = LinearSegmentedColormap.from_list(f"onetrunk{'-dark' if dark else ''}", [page, palette[0]])
    if ramp.name not in matplotlib.colormaps:
        matplotlib.colormaps.register(ramp)
    settings: dict[Any, object] = {
        "font.family": _fonts(),
        "axes.titlesize": 10,
        "font.size": 11,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": _GREY,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": page,
        "figure.facecolor": page,
        "savefig.facecolor": page,
        "axes.grid": False,
        "axes.prop_cycle": cycler(color=palette),
        "text.parse_math": False,  # a column may be called "$cost$"
        "xtick.color": _GREY,
        "ytick.color": _GREY,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "legend.frameon": False,
        "image.cmap": ramp.name,
        "lines.solid_capstyle": "round",
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # then a box
        yield


@cache
def _fonts() -> list[str]:
    """One Latin and one Chinese family, of those this machine has."""
    from matplotlib import font_manager

    there = set(font_manager.get_font_names())
    if not there & set(_CHINESE):
        there = _looked_for_again()
    fonts = [next((name for name in names if name in there), None) for names in (_LATIN, _CHINESE)]
    return [*filter(None, fonts), "DejaVu Sans"]


def _looked_for_again() -> set[str]:
    """Matplotlib keeps a list of fonts, which may be older than the Chinese ones of this machine."""
    from matplotlib import font_manager

    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known and any(mark in Path(path).name.lower() for mark in _CHINESE_FILES):
            with suppress(OSError, RuntimeError):  # a damaged font: then without it
                font_manager.fontManager.addfont(path)
    return set(font_manager.get_font_names())
