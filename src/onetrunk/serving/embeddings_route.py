"""`/v1/embeddings`: texts, or whole rows, as vectors of unit length."""

from __future__ import annotations

import base64
from typing import Any, Literal

import numpy as np
from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from onetrunk.core.config import Config
from onetrunk.data.ledger import Ledger
from onetrunk.inference.embeddings import embed_rows
from onetrunk.serving.folders import Folder
from onetrunk.serving.request_errors import bad
from onetrunk.serving.service import Endpoint, Service, as_json


class EmbeddingsBody(Config):
    model: str | None = None
    input: str | list[str] | None = Field(None, description="Texts, for the model's column of text.")
    rows: list[dict[str, Any]] | None = Field(None, description="Not OpenAI's: rows instead of texts.")
    column: str | None = Field(None, description="Not OpenAI's: the column of text, where there are several.")
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None


def endpoints(service: Service) -> list[Endpoint]:
    async def embeddings(request: HttpRequest) -> Response:
        body = await service.body(request, EmbeddingsBody)
        folder = service.folders.get(body.model)
        if (body.input is None) == (body.rows is None):
            raise bad("Expected either input, of texts, or rows.", "input")
        count = len(body.rows or []) or (1 if isinstance(body.input, str) else len(body.input or []))
        if not count:
            raise bad("There is nothing to embed: expected one text at least.", "input")
        vectors, tokens = await service.alone(lambda: _embedded(folder, body), count)
        data = [
            {"object": "embedding", "index": i, "embedding": _spelt(vector, body.encoding_format)}
            for i, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return as_json({"object": "list", "model": folder.name, "data": data, "usage": usage})

    return [Endpoint("/v1/embeddings", "POST", "Make vectors of texts or rows.", embeddings, EmbeddingsBody)]


def _embedded(folder: Folder, body: EmbeddingsBody) -> tuple[np.ndarray, int]:
    """float32 [rows, D] of unit length, and how many positions were read."""
    if body.rows is not None:
        table = folder.table_of(body.rows)
        columns = [name for name in folder.given() or folder.types if name in table.columns]
        if not columns:
            raise bad(f"The rows have none of the columns {', '.join(folder.given() or folder.types)}.", "rows")
    else:
        columns = [folder.text_column(body.column)]
        texts = [body.input] if isinstance(body.input, str) else body.input or []
        table = folder.table_of([{columns[0]: text} for text in texts])
    folder.check_files(table)
    ledger = Ledger()
    vectors = embed_rows(folder.model, table, columns, "mean", ledger)
    if ledger.bad():
        raise bad(f"Some values cannot be used: {'; '.join(ledger.lines()[:5])}.", "input")
    if not np.isfinite(vectors).all():
        raise bad("A row has none of the model's columns.", "input")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny), folder.positions_of(table, columns)


def _spelt(vector: np.ndarray, how: str) -> Any:
    if how == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()
