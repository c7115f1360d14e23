"""The servers that ours is compared with: `python -m bench.rival_servers KIND FOLDER PORT`, one model, one process.

- fastapi: a transformers pipeline in an ordinary route of FastAPI, which runs it in a thread a request;
- litserve: the pipeline in LitServe, which answers up to 32 requests together (5 ms are waited for more);
- onnx: the same with ONNX Runtime in fp32 in place of PyTorch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

MOST_TOGETHER, WAIT_SECONDS = 32, 0.005


def pipeline_of(folder: str) -> Callable[[Sequence[str]], list[dict[str, Any]]]:
    """Texts to labels and scores."""
    from transformers import pipeline

    made = pipeline("text-classification", model=folder, tokenizer=folder, device="cpu")
    return lambda texts: made(list(texts), batch_size=len(texts), truncation=True)


def onnx_of(folder: str) -> Callable[[Sequence[str]], list[dict[str, Any]]]:
    """The same by ONNX Runtime, of a graph that `write_onnx` wrote."""
    import numpy as np
    import onnxruntime
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])

    def answer(texts: Sequence[str]) -> list[dict[str, Any]]:
        read = tokenizer(list(texts), padding=True, truncation=True, return_tensors="np")
        given = {name: read[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
        (logits,) = session.run(["logits"], given)
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        return [{"label": f"LABEL_{row.argmax()}", "score": float(row.max())} for row in p]

    return answer


def write_onnx(folder: str) -> None:
    """The folder's BERT as a graph of any number of texts of any length."""
    import torch
    from transformers import BertForSequenceClassification

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = BertForSequenceClassification.from_pretrained(folder, attn_implementation="sdpa").eval()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.bert(input_ids=input_ids, attention_mask=attention_mask).logits

    ids = torch.ones(2, 8, dtype=torch.int64)
    sizes = {0: torch.export.Dim("texts", min=1, max=4096), 1: torch.export.Dim("tokens", min=1, max=512)}
    torch.onnx.export(
        Logits(), (ids, ids), f"{folder}/model.onnx", input_names=["input_ids", "attention_mask"],
        output_names=["logits"], dynamic_shapes=(sizes, sizes), dynamo=True,
    )  # fmt: skip


def serve_fastapi(folder: str, port: int) -> None:
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Body(BaseModel):
        text: str

    answer, app = pipeline_of(folder), FastAPI()

    def predict(body: Body) -> dict[str, Any]:
        return answer([body.text])[0]

    predict.__annotations__["body"] = Body  # a class of this function, whose name FastAPI could not find
    app.post("/predict")(predict)
    app.get("/health")(lambda: {"status": "ok"})
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def serve_litserve(kind: str, folder: str, port: int) -> None:
    import litserve

    from bench.litserve_api import Api

    server = litserve.LitServer(Api(kind, folder), accelerator="cpu", workers_per_device=1, timeout=120)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    kind, folder, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if kind == "fastapi":
        serve_fastapi(folder, port)
    else:
        serve_litserve(kind, folder, port)
