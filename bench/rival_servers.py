"""The servers that ours is compared with: `python -m bench.rival_servers KIND FOLDER PORT PRECISION`, one model, one
process.

- fastapi: a transformers pipeline behind FastAPI. A pipeline serves one thread (its tokenizer is changed by each call),
  so one thread answers whatever has come meanwhile, up to 32 requests together, and waits for nothing more;
- litserve: the pipeline in LitServe, which answers up to 32 requests together (5 ms are waited for more);
- onnx: the same with ONNX Runtime in fp32 in place of PyTorch.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any

MOST_TOGETHER, WAIT_SECONDS = 32, 0.005
TYPES = {"fp32": "float32", "bf16": "bfloat16"}


def pipeline_of(folder: str, precision: str = "fp32") -> Callable[[Sequence[str]], list[dict[str, Any]]]:
    """Texts to labels and scores."""
    import torch
    from transformers import pipeline

    dtype = getattr(torch, TYPES[precision])
    made = pipeline("text-classification", model=folder, tokenizer=folder, device="cpu", dtype=dtype)
    return lambda texts: made(list(texts), batch_size=len(texts), truncation=True)


def onnx_of(folder: str, precision: str = "fp32") -> Callable[[Sequence[str]], list[dict[str, Any]]]:
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


class Together:
    """Texts of several requests to one call, in a thread of its own: what has come while it was busy."""

    def __init__(self, answer: Callable[[Sequence[str]], list[dict[str, Any]]]) -> None:
        self._answer, self._waiting = answer, asyncio.Queue[tuple[str, asyncio.Future[dict[str, Any]]]]()

    async def ask(self, text: str) -> dict[str, Any]:
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((text, future))
        return await future

    async def run(self) -> None:
        while True:
            some = [await self._waiting.get()]
            while not self._waiting.empty() and len(some) < MOST_TOGETHER:
                some.append(self._waiting.get_nowait())
            answers = await asyncio.to_thread(self._answer, [text for text, _ in some])
            for (_, future), answer in zip(some, answers, strict=True):
                if not future.done():  # else its client has gone
                    future.set_result(answer)


def serve_fastapi(folder: str, port: int, precision: str) -> None:
    from contextlib import asynccontextmanager

    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Body(BaseModel):
        text: str

    together = Together(pipeline_of(folder, precision))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        running = asyncio.create_task(together.run())
        yield
        running.cancel()

    app = FastAPI(lifespan=lifespan)

    async def predict(body: Body) -> dict[str, Any]:
        return await together.ask(body.text)

    predict.__annotations__["body"] = Body  # a class of this function, whose name FastAPI could not find
    app.post("/predict")(predict)
    app.get("/health")(lambda: {"status": "ok"})
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def serve_litserve(kind: str, folder: str, port: int, precision: str) -> None:
    import litserve

    from bench.litserve_api import Api

    server = litserve.LitServer(Api(kind, folder, precision), accelerator="cpu", workers_per_device=1, timeout=120)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    kind, folder, port, precision = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    if kind == "fastapi":
        serve_fastapi(folder, port, precision)
    else:
        serve_litserve(kind, folder, port, precision)
