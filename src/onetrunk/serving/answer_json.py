"""Answers as JSON: a value of the column's own kind, and how sure it is."""

from __future__ import annotations

import base64
import datetime
import math
import mimetypes
from typing import Any

import numpy as np

from onetrunk.core.answer import Answer
from onetrunk.core.encoder import Encoder, FileAnswers
from onetrunk.media.marking import Mark


def answer_json(answer: Answer, encoder: Encoder, mark: Mark) -> dict[str, Any]:
    """One answer; files in it carry the mark. `probability` is that of the value, `probabilities` are those of all
    classes; both calibrated where the folder is."""
    out: dict[str, Any] = {"value": value_json(answer.value, encoder, mark)}
    if isinstance(answer.probability, dict):
        out["probability"] = answer.certainty
        out["probabilities"] = answer.probability
    elif answer.probability is not None:
        out["probability"] = answer.probability
    out |= coverage_json(answer)
    if answer.samples is not None:
        out["samples"] = [value_json(sample, encoder, mark) for sample in answer.samples]
    if answer.scores is not None:
        out["scores"] = answer.scores
    if answer.quantiles is not None:
        out["quantiles"] = {str(level): value_json(value, encoder, mark) for level, value in answer.quantiles.items()}
    if answer.logprob is not None:
        out["logprob"] = answer.logprob
    if encoder.unit:
        out["unit"] = encoder.unit
    return plain(out)


def coverage_json(answer: Answer) -> dict[str, Any]:
    """The interval or the conformal set of an answer, and how likely it holds what is true; nothing where there is
    none."""
    out: dict[str, Any] = {}
    if answer.interval is not None:
        out["interval"] = list(answer.interval)
    if answer.conformal_set is not None:
        out["set"] = answer.conformal_set
    return {**out, "coverage": answer.coverage} if out else {}


def value_json(value: Any, encoder: Encoder, mark: Mark) -> Any:
    """A file as a data URL."""
    if isinstance(encoder, FileAnswers) and value is not None:
        kind = mimetypes.guess_type(f"x{encoder.suffix}")[0] or "application/octet-stream"
        return f"data:{kind};base64,{base64.b64encode(mark.on_file(encoder.as_file(value))).decode()}"
    return value


def plain(value: Any) -> Any:
    """As JSON has it: no number that is not finite, dates as text."""
    if isinstance(value, dict):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if isinstance(value, str | bool | int | type(None)) else str(value)
