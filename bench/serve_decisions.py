"""serve_decisions: decisions a second of a served model of rows with a text; against FastAPI and LitServe.

    python -m bench serve_decisions             about 3 minutes on 2 cores
    python -m bench serve_decisions --quick     a small run; nothing is kept

A row is a text of 8 to 40 words, a number and a category; a decision is one choice of two. 32 clients ask without a
pause, then one alone. The rivals are a BERT of the same width, layers and heads in transformers' pipeline, which is
given the row as one text: in a route of FastAPI, and in LitServe, which answers requests together. All in fp32, all
weights random: speed does not depend on what was learnt. Clients and server share the machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bench.common import Figures, Run

QUICK = ["width=32", "layers=1", "seconds=0.4", "rounds=1", "clients=4"]
LENGTH, ROWS = 256, 256


class Amounts(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int = Field(256, ge=16)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    clients: int = Field(32, ge=1)
    seconds: float = Field(8.0, gt=0)  # of the load of many clients
    rounds: int = Field(3, ge=1)
    rivals: list[str] = ["fastapi", "litserve"]

    @property
    def shape(self) -> dict[str, Any]:
        mlp = {"activation": "gelu", "mlp_width": 4 * self.width}
        return {"width": self.width, "layers": self.layers, "heads": self.heads, **mlp}


def rows() -> dict[str, list[Any]]:
    from bench.load import texts

    dice = np.random.default_rng(1)
    return {
        "review": texts(ROWS, 8, 40),
        "nights": dice.integers(1, 15, ROWS).tolist(),
        "plan": dice.choice(["free", "pro", "team"], ROWS).tolist(),
        "label": ["good", "bad"] * (ROWS // 2),
    }


def ours(shape: dict[str, Any], clients: int, seconds: float, place: str) -> dict[str, float]:
    from bench.load import classifier_folder, free_port, measure

    table, port = rows(), free_port()
    folder = classifier_folder(Path(place), table, shape, LENGTH)
    question = {"type": "choice", "name": "label", "instructions": "", "choices": [{"value": "good"}, {"value": "bad"}]}
    bodies = []
    for i in range(ROWS):
        row = {name: values[i] for name, values in table.items() if name != "label"}
        content = [{"type": "input_json", "data": row}]
        bodies.append({"model": "model", "input": [{"role": "user", "content": content}], "questions": [question]})
    command = ["-m", "onetrunk", "serve", str(folder), "--port", str(port), "--device", "cpu"]
    return measure(command, port, "/ready", "/v1/decisions", bodies, clients, seconds)


def rival(kind: str, shape: dict[str, Any], clients: int, seconds: float, place: str) -> dict[str, float]:
    from bench.load import as_texts, bert_folder, free_port, measure

    table, port = rows(), free_port()
    folder = bert_folder(Path(place), table, shape, LENGTH)
    bodies = [{"text": text} for text in as_texts(table)]
    command = ["-m", "bench.rival_servers", kind, str(folder), str(port)]
    return measure(command, port, "/health", "/predict", bodies, clients, seconds)


def compare(run: Run) -> Figures:
    from bench.speed import alternate, amounts_of, figures, median, versions

    amounts = amounts_of(run, Amounts)
    shared = {"shape": amounts.shape, "clients": amounts.clients, "seconds": amounts.seconds}
    sides = {"ours": {"call": "bench.serve_decisions:ours", **shared}}
    for kind in amounts.rivals if run.rival else []:
        sides[f"pipeline, {kind}"] = {"call": "bench.serve_decisions:rival", "kind": kind, **shared}
    found = alternate(run, sides, amounts.rounds)
    best = sorted(list(found)[1:], key=lambda name: -median(found[name], "requests_per_s"))
    found = {name: found[name] for name in ["ours", *best]}  # against the faster rival
    return figures(
        found, "requests_per_s", "requests/s", faster_is_more=True, split=amounts.model_dump(),
        medians={name: {key: median(each, key) for key in each[0] if key != "whole_seconds"}
                 for name, each in found.items()},
        peers=versions("transformers", "fastapi", "litserve", "uvicorn"),
    )  # fmt: skip
