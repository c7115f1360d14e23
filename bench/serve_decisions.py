"""serve_decisions: decisions a second of a served model of rows with a text; against FastAPI and LitServe.

    python -m bench serve_decisions             about 3 minutes on 2 cores
    python -m bench serve_decisions --quick     a small run; nothing is kept

A row is a text of 8 to 40 words, a number and a category; a decision is one choice of two. 32 clients ask without a
pause, then one alone. The rivals are a BERT of the same width, layers and heads in transformers' pipeline, which is
given the row as one text: behind FastAPI and behind LitServe, which both answer together what has come. All in fp32,
all weights random: speed does not depend on what was learnt. Clients and server share the machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from bench import served
from bench.common import Figures, Run

QUICK = ["width=32", "layers=1", "seconds=0.4", "rounds=1", "clients=4"]


class Amounts(served.ServerAmounts):
    width: int = Field(256, ge=16)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    rivals: list[str] = Field(default_factory=lambda: ["fastapi", "litserve"])


def rows() -> dict[str, list[Any]]:
    from bench.load import texts

    dice = np.random.default_rng(1)
    return {
        "review": texts(served.ROWS, 8, 40),
        "nights": dice.integers(1, 15, served.ROWS).tolist(),
        "plan": dice.choice(["free", "pro", "team"], served.ROWS).tolist(),
        "label": ["good", "bad"] * (served.ROWS // 2),
    }


def ours(**how: Any) -> dict[str, float]:
    table = rows()
    question = {"type": "choice", "name": "label", "instructions": "", "choices": [{"value": "good"}, {"value": "bad"}]}
    bodies = []
    for i in range(served.ROWS):
        row = {name: values[i] for name, values in table.items() if name != "label"}
        content = [{"type": "input_json", "data": row}]
        bodies.append({"model": "model", "input": [{"role": "user", "content": content}], "questions": [question]})
    return served.ours(table, "/v1/decisions", bodies, **how)


def rival(**how: Any) -> dict[str, float]:
    from bench.load import as_texts

    return served.rival(table := rows(), as_texts(table), **how)


def compare(run: Run) -> Figures:
    from bench.speed import amounts_of

    return served.compare(run, amounts_of(run, Amounts), "bench.serve_decisions")
