"""`/v1/explain`: why a model answers rows as it does."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from onetrunk.core.answer import Sampling
from onetrunk.core.config import Config
from onetrunk.data.ledger import Ledger
from onetrunk.explanation.method import DEFAULT, Settings, named_methods
from onetrunk.serving.folders import Folder
from onetrunk.serving.request_errors import bad
from onetrunk.serving.service import Endpoint, Service, as_json
from onetrunk.training.explaining import Explained, explain_table

_MOST_ROWS = 16  # of one request: an explanation asks about hundreds of rows
_MOST_TOKENS = 64  # of an answer that is written to be explained


class ExplainBody(Config):
    model: str | None = Field(None, description="The model's name; may be left out where only one is served.")
    rows: list[dict[str, Any]] = Field(
        min_length=1, max_length=_MOST_ROWS, description="Column to value; files as data URLs."
    )
    ask: str | None = Field(None, description="The column whose answer is explained; by default the model's.")
    given: list[str] | None = Field(None, description="The columns to answer from; by default the task's.")
    method: str = Field(DEFAULT, max_length=100, description="How it is explained; onetrunk explain lists how.")
    target: str | None = Field(None, description="The class or text to explain; by default what the model answers.")
    prompted: bool = Field(False, description="The rows' own values of the asked column are what answers go on from.")
    samples: int = Field(256, ge=8, le=1024, description="Rows without some parts that sampling methods ask about.")
    quick: bool = Field(True, description="Leave out the comparison with random orders.")
    seed: int = Field(0, ge=0, lt=1 << 32)


def endpoints(service: Service) -> list[Endpoint]:
    async def explain(request: HttpRequest) -> Response:
        body = await service.body(request, ExplainBody)
        folder = service.folders.get(body.model)
        (method,) = named_methods([body.method])
        if method.needs_train:
            raise bad(f"{body.method} looks at training rows, which a server does not have.", "method")
        made, notes = await service.alone(lambda: _explained(folder, body, service.limits.tokens), len(body.rows))
        out = {"model": folder.name, "object": "explanations", **made.as_json(), "notes": notes}
        return as_json(out)

    return [Endpoint("/v1/explain", "POST", "Explain the answers to rows.", explain, ExplainBody)]


def _explained(folder: Folder, body: ExplainBody, most_tokens: int) -> tuple[Explained, list[str]]:
    task = folder.task(None if body.ask is None else [body.ask], body.given)
    if len(task.ask) != 1:
        raise bad(f"One column's answers are explained at a time; name it in ask: {', '.join(task.ask)}.", "ask")
    table, ledger = folder.table_of(body.rows), Ledger()
    folder.check_files(table)
    settings = Settings(body.seed, body.samples, model=folder.model)
    sampling = Sampling(max_length=min(most_tokens, _MOST_TOKENS))
    made = explain_table(
        folder.model, table, task.ask[0], settings, given=body.given, method=body.method, target=body.target,
        prompted=body.prompted, quick=body.quick, sampling=sampling, ledger=ledger,
    )  # fmt: skip
    if ledger.bad():
        raise bad(f"Some values cannot be used: {'; '.join(ledger.lines()[:5])}.", "rows")
    return made, ledger.lines()[:50]
