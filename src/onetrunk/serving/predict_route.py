"""`/v1/predict`: typed rows in, typed answers out, many at once, as JSON or as Arrow's stream."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.config import Config
from onetrunk.core.encoder import FileAnswers
from onetrunk.data.table import Table
from onetrunk.inference.model_folder import answer_columns
from onetrunk.serving.answer_json import answer_json, plain
from onetrunk.serving.arrow_bodies import STREAM, stream_of, table_of
from onetrunk.serving.folders import Folder
from onetrunk.serving.service import Endpoint, Service, as_json, parsed

Names = list[str] | str | None


class PredictOptions(Config):
    """How rows are answered. As JSON they stand beside the rows, with an Arrow stream in the address."""

    model: str | None = Field(None, description="The model's name; may be left out where only one is served.")
    ask: Names = Field(None, description="The columns to answer; by default those of the model's task.")
    given: Names = Field(None, description="The columns to answer from; by default the task's.")
    prompted: bool = Field(
        False, description="The rows' own values of the asked column are what its answers go on from."
    )
    max_bad: float = Field(0.0, ge=0, le=1, description="The share of a column's values that may be unusable.")
    coverage: float = Field(0.9, gt=0, lt=1, description="How likely intervals, and sets of classes, hold the truth.")
    temperature: float = Field(0.0, ge=0, le=100)
    top_k: int = Field(0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_length: int = Field(256, ge=1, description="The largest number of tokens of a written answer.")
    beams: int = Field(1, ge=1, le=16)
    guidance: float = Field(1.0, ge=-100, le=100)
    steps: int = Field(24, ge=1, le=1000)
    seed: int = Field(0, ge=0, lt=1 << 32)

    def sampling(self, most_tokens: int) -> Sampling:
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            max_length=min(self.max_length, most_tokens),
            beams=self.beams,
            guidance=self.guidance,
            steps=self.steps,
            seed=self.seed,
            coverage=self.coverage,
        )


class PredictBody(PredictOptions):
    rows: list[dict[str, Any]] = Field(description="Column to value; files as data URLs; nested objects by their path.")


def endpoints(service: Service) -> list[Endpoint]:
    async def predict(request: HttpRequest) -> Response:
        options: PredictOptions
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == STREAM:
            options = parsed(PredictOptions, _of_address(request))
            raw = await service.raw_body(request)
            folder = service.folders.get(options.model)
            table = await service.front(lambda: table_of(raw, service.limits))
            answers, notes = await _of_table(service, request, folder, table, options)
        else:
            options = body = await service.body(request, PredictBody)
            folder = service.folders.get(body.model)
            answers, notes = await _of_rows(service, request, folder, body)
        if STREAM in request.headers.get("accept", ""):
            return Response(await service.front(lambda: stream_of(_columns(folder, answers))), media_type=STREAM)
        if service.light(request, folder):
            return as_json(_json(folder, answers, notes))
        return as_json(await service.front(lambda: _json(folder, answers, notes)))

    return [
        Endpoint(
            "/v1/predict",
            "POST",
            "Answer rows of a table.",
            predict,
            PredictBody,
            media=("application/json", STREAM),
        )
    ]


def _of_address(request: HttpRequest) -> dict[str, Any]:
    """Options in the address; a column that is named several times is a list."""
    out: dict[str, Any] = {}
    for name in request.query_params:
        values = request.query_params.getlist(name)
        out[name] = values if name in ("ask", "given") else values[-1]
    return out


Answers = tuple[dict[str, list[Answer]], list[str]]  # each asked column's; and what a client should know of its rows


async def _of_rows(service: Service, request: HttpRequest, folder: Folder, body: PredictBody) -> Answers:
    task = folder.task(_names(body.ask), _names(body.given))
    if not body.rows or any(folder.fills(name) for name in task.ask):
        table = await service.front(lambda: folder.table_of(body.rows))
        return await _of_table(service, request, folder, table, body)
    samplings = dict.fromkeys(task.ask, body.sampling(service.limits.tokens))
    asked, answers = await service.ask(
        request, folder, body.rows, samplings, _names(body.given), prompted=body.prompted, max_bad=body.max_bad
    )
    return answers, asked.notes


async def _of_table(
    service: Service, request: HttpRequest, folder: Folder, table: Table, options: PredictOptions
) -> Answers:
    task = folder.task(_names(options.ask), _names(options.given))
    if not len(table):
        return {name: [] for name in task.ask}, []
    sampling = options.sampling(service.limits.tokens)
    if filling := [name for name in task.ask if folder.fills(name)]:
        return await _filled(service, folder, table, options, filling)
    samplings, given = dict.fromkeys(task.ask, sampling), _names(options.given)
    asked = await service.front(
        lambda: folder.ask(table, samplings, given, prompted=options.prompted, max_bad=options.max_bad)
    )
    return await service.answers(request, folder, asked.requests), asked.notes


async def _filled(service: Service, folder: Folder, table: Table, options: PredictOptions, names: list[str]) -> Answers:
    """Columns that fill gaps in, which is no session's work."""
    given, sampling = _names(options.given), options.sampling(service.limits.tokens)

    def work() -> dict[str, list[Answer]]:
        return {name: folder.model.answer(table, name, given, sampling) for name in names}

    return await service.alone(work, len(table)), []


def _names(names: Names) -> list[str] | None:
    return [names] if isinstance(names, str) else names


def _json(folder: Folder, answers: dict[str, list[Answer]], notes: list[str]) -> dict[str, Any]:
    made = {
        name: [answer_json(answer, folder.model.encoder(name), folder.mark) for answer in column]
        for name, column in answers.items()
    }
    rows = [dict(zip(made, row, strict=True)) for row in zip(*made.values(), strict=True)]
    return {"model": folder.name, "object": "predictions", "answers": rows, "notes": notes}


def _columns(folder: Folder, answers: dict[str, list[Answer]]) -> dict[str, list[Any]]:
    """As `predict` writes them to a file; files as their bytes."""
    out: dict[str, list[Any]] = {}
    for name, column in answers.items():
        encoder = folder.model.encoder(name)
        out |= answer_columns(name, column, encoder, sets=True)
        if isinstance(encoder, FileAnswers):
            out[name] = [None if a.value is None else folder.mark.on_file(encoder.as_file(a.value)) for a in column]
        elif any(not isinstance(value, str | bool | int | float | None) for value in out[name]):
            out[name] = plain(out[name])
    return out
