"""Explanations as pictures: heat maps on what a column shows, and bars of what counts most."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.evaluation.figures import render
from onetrunk.explanation.attribution import Attribution

FOR, AGAINST = (0, 114, 178), (213, 94, 0)  # as in the page (Okabe and Ito 2008)
_STRONGEST = 0.75  # share of colour where a part counts most
_DARKEST = 70.0  # of the picture beneath, so that colours show on black
_SIDE = 256  # pixels of a picture's shorter side, at least
_MOST_BARS = 20
_LABEL = 28  # characters


def heat_map(view: np.ndarray, grid: Sequence[int], values: np.ndarray, largest: float) -> bytes:
    """A PNG file: a picture uint8 [H, W] or [H, W, 3], in grey, whose parts are coloured by their values [p]. `grid` is
    rows and columns, or frames, rows and columns, frames beside one another."""
    from PIL import Image

    cells = values.reshape(grid)
    if cells.ndim == 3:
        cells = np.concatenate(list(cells), axis=1)
    picture = Image.fromarray(view).convert("L")
    enlarged = max(1, -(-_SIDE // max(1, min(picture.size))))
    picture = picture.resize((picture.width * enlarged, picture.height * enlarged), Image.Resampling.NEAREST)
    grey = _DARKEST + (1 - _DARKEST / 255) * np.asarray(picture, dtype=np.float32)[..., None]
    H, W = grey.shape[:2]
    rows = np.minimum(np.arange(H) * cells.shape[0] // H, cells.shape[0] - 1)
    columns = np.minimum(np.arange(W) * cells.shape[1] // W, cells.shape[1] - 1)
    spread = cells[rows][:, columns]
    share = _STRONGEST * np.clip(np.abs(spread) / largest if largest > 0 else 0 * spread, 0, 1)[..., None]
    colour = np.where(spread[..., None] >= 0, np.array(FOR), np.array(AGAINST)).astype(np.float32)
    mixed = (1 - share) * grey + share * colour
    out = io.BytesIO()
    Image.fromarray(mixed.round().astype(np.uint8)).save(out, format="PNG")
    return out.getvalue()


def bars(explained: Attribution) -> bytes:
    """A PNG file: the columns or, of one column, the parts that count most, the strongest first."""
    if len(explained.columns) > 1 or explained.columns[0].by_part is None:
        pairs = [(each.column, float(each.values.sum())) for each in explained.columns]
        whole = "columns"
    else:
        column = explained.columns[0]
        assert column.by_part is not None
        pairs = list(zip(column.parts.labels, column.by_part.sum(0).tolist(), strict=True))
        whole = column.parts.nouns
    pairs.sort(key=lambda pair: -abs(pair[1]))
    shown = pairs[:_MOST_BARS]

    def draw(axes: Any) -> bool:
        values = [value for _, value in shown]
        colours = ["C0" if value >= 0 else "C1" for value in values]
        axes.barh(range(len(shown)), values, color=colours, height=0.66)
        labels = [_label(label) for label, _ in shown]
        axes.set_yticks(range(len(shown)), labels)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.axvline(0, color="#8A8F98", lw=0.8)
        axes.tick_params("y", length=0)
        axes.spines["left"].set_visible(False)
        unit = f" ({explained.unit})" if explained.unit else ""
        axes.set_xlabel(_label(f"{explained.explained}{unit}", 70))
        many = f"the {len(shown)} strongest of " if len(pairs) > len(shown) else ""
        axes.set_title(f"{explained.method}: values of {many}{len(pairs)} {whole}", loc="left")
        return True

    return render(draw, (7.2, 1.2 + 0.32 * len(shown)))[""]


def _label(text: str, most: int = _LABEL) -> str:
    text = text.replace("$", r"\$").replace("\n", "⏎").strip("\t") or " "
    return text if len(text) <= most else f"{text[:most]}…"
