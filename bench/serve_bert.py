"""serve_bert: texts of ragged length a second through a served BERT-base; against LitServe with a pipeline, with ONNX.

    python -m bench serve_bert             about 5 minutes on 2 cores
    python -m bench serve_bert --quick     a small run; nothing is kept

12 layers x 768, texts of 4 to 120 words, 32 clients that ask without a pause. The rivals: a BERT of the same shape in
transformers' pipeline behind LitServe, which answers up to 32 requests together (dynamic batching); and the same with
ONNX Runtime. All in fp32. Clients and server share the machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bench.common import Figures, Run

QUICK = ["width=32", "layers=1", "heads=2", "seconds=0.4", "rounds=1", "clients=4", "rivals=[litserve, onnx]"]
LENGTH, ROWS = 256, 256


class Amounts(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int = Field(768, ge=16)
    layers: int = Field(12, ge=1)
    heads: int = Field(12, ge=1)
    clients: int = Field(32, ge=1)
    seconds: float = Field(16.0, gt=0)  # of the load of many clients
    rounds: int = Field(2, ge=1)
    rivals: list[str] = ["litserve", "onnx"]

    @property
    def shape(self) -> dict[str, Any]:
        mlp = {"activation": "gelu", "mlp_width": 4 * self.width}
        return {"width": self.width, "layers": self.layers, "heads": self.heads, **mlp}


def rows() -> dict[str, list[Any]]:
    from bench.load import texts

    return {"review": texts(ROWS, 4, 120), "label": ["good", "bad"] * (ROWS // 2)}


def ours(shape: dict[str, Any], clients: int, seconds: float, place: str) -> dict[str, float]:
    from bench.load import classifier_folder, free_port, measure

    table, port = rows(), free_port()
    folder = classifier_folder(Path(place), table, shape, LENGTH)
    bodies = [{"rows": [{"review": text}]} for text in table["review"]]
    command = ["-m", "onetrunk", "serve", str(folder), "--port", str(port), "--device", "cpu"]
    return measure(command, port, "/ready", "/v1/predict", bodies, clients, seconds)


def rival(kind: str, shape: dict[str, Any], clients: int, seconds: float, place: str) -> dict[str, float]:
    from bench.load import bert_folder, free_port, measure
    from bench.rival_servers import write_onnx

    table, port = rows(), free_port()
    folder = bert_folder(Path(place), table, shape, LENGTH)
    if kind == "onnx":
        write_onnx(str(folder))
    bodies = [{"text": text} for text in table["review"]]
    command = ["-m", "bench.rival_servers", kind, str(folder), str(port)]
    return measure(command, port, "/health", "/predict", bodies, clients, seconds)


def compare(run: Run) -> Figures:
    from bench.speed import alternate, amounts_of, figures, median, versions

    amounts = amounts_of(run, Amounts)
    shared = {"shape": amounts.shape, "clients": amounts.clients, "seconds": amounts.seconds}
    sides = {"ours": {"call": "bench.serve_bert:ours", **shared}}
    names = {"litserve": "pipeline, LitServe", "onnx": "ONNX Runtime, LitServe"}
    for kind in amounts.rivals if run.rival else []:
        sides[names[kind]] = {"call": "bench.serve_bert:rival", "kind": kind, **shared}
    found = alternate(run, sides, amounts.rounds)
    return figures(
        found, "requests_per_s", "requests/s", faster_is_more=True, split=amounts.model_dump(),
        medians={name: {key: median(each, key) for key in each[0] if key != "whole_seconds"}
                 for name, each in found.items()},
        peers=versions("transformers", "litserve", "onnxruntime"),
    )  # fmt: skip
