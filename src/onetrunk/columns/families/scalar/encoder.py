"""Values on a line: one position each, standardised by the median and the spread of the training values."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from onetrunk.columns.families.scalar.bars import Bars, fit_bars
from onetrunk.core.config import Config
from onetrunk.core.content import Content, Role, Segment
from onetrunk.core.encoder import Encoder, Ordered, SegmentContext
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.core.parts import Arrays, Divided, Parts
from onetrunk.core.values import in_memory
from onetrunk.core.wide import Wide, WideFeatures, WideTarget, numbers, one_each

_WIDE_BINS = 16  # of equal counts, as classes for a linear read-out
_WIDE_BOUND = 4.0  # standardised values are cut there for it
_MAX_STANDARDISED = 1e15  # standardised values end here: their squares are still finite in float32


class ScalarEncoder(Encoder, Ordered, Wide, WideTarget, Divided):
    """A type says how its values map to the line (`to_line`) and back (`from_line`)."""

    class Options(Config):
        bars: int = Field(64, ge=2, le=1024)  # of the distribution, and steps of the encoding
        dropout: float = Field(0.0, ge=0, lt=1)  # before the read-out

    options: Options
    centre: float
    scale: float
    bars: Bars  # of standardised values

    @abstractmethod
    def to_line(self, value: Any) -> float:
        """A finite position. Raises BadValueError with the reason."""

    def to_lines(self, values: Sequence[Any]) -> tuple[np.ndarray, str]:
        """The positions of the values that have one, float64 [k]; and why the last other one has none."""
        line, reason = [], "no values"
        for value in values:
            try:
                line.append(self.to_line(value))
            except BadValueError as error:
                reason = str(error)
        return np.array(line, dtype=np.float64), reason

    @abstractmethod
    def from_line(self, position: float) -> Any:
        """The value at a position, in the column's own units."""

    def value(self, standardised: float) -> Any:
        """The value of a standardised position."""
        return self.from_line(self.centre + self.scale * standardised)

    # -- knowledge ---------------------------------------------------------------------------------------------------
    def fit(self, values: Sequence[Any]) -> None:
        positions, reason = self.to_lines(in_memory(values))
        if not len(positions):
            raise DataError(
                f"A {self.type_name} column needs at least one usable value in the training rows: {reason}."
            )
        # Robust, so that a heavy tail does not squeeze the rest together. Deviations of 0 are left out: a
        # value that most rows share says nothing about the scale.
        self.centre = float(np.median(positions))
        deviations = np.abs(positions - self.centre)
        deviations = deviations[deviations > 0]
        self.scale = float(np.median(deviations)) * 1.4826 if len(deviations) else 1.0
        self.bars = fit_bars(self._standardised(positions), self.options.bars)

    def knowledge(self) -> dict[str, Any]:
        return {"centre": self.centre, "scale": self.scale, "bars": self.bars.knowledge()}

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.centre, self.scale = knowledge["centre"], knowledge["scale"]
        self.bars = Bars(**knowledge["bars"])

    def _standardised(self, position: Any) -> Any:
        return np.clip((position - self.centre) / self.scale, -_MAX_STANDARDISED, _MAX_STANDARDISED)

    # -- values to arrays ----------------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        return {"value": np.asarray(self._standardised(self.to_line(value)), dtype=np.float32)}

    def blank(self) -> dict[str, np.ndarray]:
        return {"value": np.asarray(0, dtype=np.float32)}

    def traits(self, item: dict[str, np.ndarray]) -> np.ndarray:
        """What a simple model sees of one encoded value, float64 [k]: as much as ours does."""
        return np.atleast_1d(item["value"]).astype(np.float64)

    def wide_target(self, content: Content) -> tuple[np.ndarray, int]:
        return content.gather()["value"].astype(np.float64), 0

    def expect_around(self, outputs: np.ndarray, residuals: np.ndarray) -> None:
        self.bars = fit_bars(np.clip(residuals, -_MAX_STANDARDISED, _MAX_STANDARDISED), self.options.bars)

    def wide_features(self, content: Content) -> WideFeatures:
        """The standardised value and what else a type knows, cut where it is far out; and its bin."""
        arrays = content.gather()
        dense = (
            np.stack([self.traits({n: a[i] for n, a in arrays.items()}) for i in range(len(content))], axis=0)
            if len(content)
            else np.zeros((0, len(self.traits(self.blank()))))
        )
        borders = np.array(self.bars.borders)
        borders = borders[np.linspace(0, len(borders) - 1, min(len(borders), _WIDE_BINS - 1)).round().astype(int)]
        bins = one_each(np.searchsorted(borders, arrays["value"]))
        sparse = {"value": numbers(np.clip(dense, -_WIDE_BOUND, _WIDE_BOUND)), "bin": bins}
        return WideFeatures(len(content), sparse, dense)

    # -- parts -------------------------------------------------------------------------------------------------------
    def parts(self, content: Content, asked: bool) -> Parts:
        count = 0 if asked else 1
        value = self.value(float(content.gather()["value"][0]))
        label = f"{value:.6g}" if isinstance(value, float) else str(value)
        return Parts(np.arange(count), [label][:count], "value")

    def hide(self, arrays: Arrays, hidden: np.ndarray) -> Arrays:
        """As values that training had, those hidden together spread evenly over all of them: what is given always has a
        value, and every single one of them says something."""
        levels = (np.arange(hidden.sum()) + 0.5) / max(1, hidden.sum())
        values = [self.value(z) for z in self.bars.quantiles(levels).tolist()]
        shown = self.stack([self.encode(value) for value in values]).gather() if values else {}
        out = {name: array.copy() for name, array in arrays.items()}
        for name, array in shown.items():
            out[name][hidden] = array
        return out

    # -- arrays to positions -------------------------------------------------------------------------------------------
    def segment(self, content: Content, context: SegmentContext) -> Segment:
        arrays, m = content.gather(), len(content)
        lens = np.ones(m, dtype=np.int64)
        if context.role == Role.GIVEN:
            return Segment({**arrays, "hidden": np.zeros(m, dtype=bool)}, lens)
        blank = {name: np.zeros_like(array) for name, array in arrays.items()}
        targets = {"value": arrays["value"], "w": np.ones(m, dtype=np.float32)}
        content_shown = {**blank, "hidden": np.ones(m, dtype=bool)}
        return Segment(content_shown, lens, reads=np.arange(m, dtype=np.int64), targets=targets)
