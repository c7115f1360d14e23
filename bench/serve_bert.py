"""serve_bert: texts of ragged length a second through a served BERT-base; against LitServe with a pipeline, with ONNX.

    python -m bench serve_bert             about 8 minutes on 2 cores
    python -m bench serve_bert --quick     a small run; nothing is kept

12 layers x 768, texts of 4 to 120 words, 32 clients that ask without a pause. The rivals: a BERT of the same shape in
transformers' pipeline behind LitServe, which answers up to 32 requests together (dynamic batching); and the same with
ONNX Runtime. All in fp32; where the processor is fast in bf16, ours (`--precision bf16`) and the pipeline in it too.
Clients and server share the machine.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bench import served
from bench.common import Figures, Run

QUICK = ["width=32", "layers=1", "heads=2", "seconds=0.4", "rounds=1", "clients=4", "rivals=[litserve, onnx]"]


class Amounts(served.ServerAmounts):
    width: int = Field(768, ge=16)
    layers: int = Field(12, ge=1)
    heads: int = Field(12, ge=1)
    seconds: float = Field(16.0, gt=0)
    rounds: int = Field(2, ge=1)
    rivals: list[str] = Field(default_factory=lambda: ["litserve", "onnx"])
    bf16: bool = True


def rows() -> dict[str, list[Any]]:
    from bench.load import texts

    return {"review": texts(served.ROWS, 4, 120), "label": ["good", "bad"] * (served.ROWS // 2)}


def ours(**how: Any) -> dict[str, float]:
    table = rows()
    return served.ours(table, "/v1/predict", [{"rows": [{"review": text}]} for text in table["review"]], **how)


def rival(**how: Any) -> dict[str, float]:
    table = rows()
    return served.rival(table, table["review"], **how)


def compare(run: Run) -> Figures:
    from bench.speed import amounts_of

    return served.compare(run, amounts_of(run, Amounts), "bench.serve_bert")
