"""`/v1/chat/completions` and `/v1/completions`: a text column goes on from a conversation or a text."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse

from onetrunk.core.answer import Answer, Sampling, Written
from onetrunk.core.config import Config
from onetrunk.core.encoder import Encoder
from onetrunk.inference.session import Request
from onetrunk.serving.engine_thread import Watch
from onetrunk.serving.folders import Folder
from onetrunk.serving.growing_text import GrowingText
from onetrunk.serving.request_errors import RequestError, as_request_error, bad
from onetrunk.serving.service import Endpoint, Service, as_json

_MOST_CHOICES = 16
_MOST_STOPS = 16
_USUAL_TOKENS = 16  # of a completion, as OpenAI's


class StreamOptions(Config):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class TextBody(Config):
    """What both routes take. What they cannot do is no key here, and refused."""

    model: str | None = None
    n: int = Field(1, ge=1, le=_MOST_CHOICES)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(1.0, ge=0, le=2)
    top_p: float | None = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="Not OpenAI's: draw only from the k likeliest.")
    min_p: float = Field(
        0.0, ge=0, le=1, description="Not OpenAI's: only what is this share as likely as the likeliest."
    )
    seed: int | None = Field(None, ge=0, lt=1 << 32)
    stop: str | list[str] | None = None
    user: str | None = None
    row: dict[str, Any] | None = Field(None, description="Not OpenAI's: values of the model's other columns.")
    column: str | None = Field(None, description="Not OpenAI's: the column that is written, where there are several.")

    def stops(self) -> list[str]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > _MOST_STOPS or not all(stops) or any(len(stop) > 256 for stop in stops):
            raise bad(f"stop: expected at most {_MOST_STOPS} texts of 1 to 256 characters.", "stop")
        return stops


class ChatBody(TextBody):
    messages: list[dict[str, Any]] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = False
    safety_identifier: str | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None


class CompletionBody(TextBody):
    prompt: str | list[str]
    max_tokens: int | None = Field(_USUAL_TOKENS, ge=1)
    logprobs: int | None = Field(None, ge=0, le=0, description="0: of each token that is written.")
    echo: bool | None = False


@dataclass
class Writing:
    """What is to be written: one request a choice."""

    folder: Folder
    encoder: Encoder
    requests: list[Request]
    prompts: list[str]  # of a completion that echoes its prompt, by choice
    prompt_tokens: int
    texts: list[GrowingText]


def _prepared(folder: Folder, body: TextBody, prompts: Sequence[Any], most: int | None, echo: bool) -> Writing:
    """Requests of every prompt's choices. Raises RequestError."""
    column = _column(folder, body.column)
    encoder, temperature = folder.model.encoder(column), 1.0 if body.temperature is None else body.temperature
    sampling = Sampling(
        temperature=temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        seed=secrets.randbelow(1 << 32) if body.seed is None else body.seed,
        max_length=min(most or folder.limits.tokens, folder.limits.tokens),
    )
    requests, tokens = [], 0
    given = [name for name in folder.model.task([column]).given if name in (body.row or {})] if folder.given() else []
    for prompt in prompts:
        for choice in range(body.n):
            table = folder.table_of([{**(body.row or {}), column: prompt}])
            asked = folder.ask(table, {column: sampling}, given or None, prompted=True, first_row=choice)
            request = asked.requests[column]
            requests.append(replace(request, sampling=_fitted(folder, encoder, request, asked.tokens, sampling, most)))
            tokens += asked.tokens if choice == 0 else 0
    echoed = [str(prompt) if echo else "" for prompt in prompts for _ in range(body.n)]
    stops = body.stops()
    return Writing(folder, encoder, requests, echoed, tokens, [GrowingText(stops) for _ in requests])


def _column(folder: Folder, named: str | None) -> str:
    able = folder.writes()
    if named is not None and named in able:
        return named
    if named is None and len(able) == 1:
        return able[0]
    has = f"Name one of its columns of text, in column: {', '.join(able)}" if able else "It writes no text"
    raise bad(f"The model {folder.name!r} does not know what to write. {has}.", "column")


def _fitted(
    folder: Folder, encoder: Any, request: Request, tokens: int, sampling: Sampling, most: int | None
) -> Sampling:
    """As many tokens as there is room for, unless a number was named that does not fit."""
    prompt = 0 if request.prompt is None else int(request.prompt.lens.max(initial=0))
    room = min(encoder.options.length - 1 - prompt, folder.lanes.positions - 2 - tokens)
    if room < 1 or (most is not None and most > room and tokens + most > folder.lanes.positions - 2):
        limit = min(encoder.options.length, folder.lanes.positions)
        raise bad(
            f"The model {folder.name!r} reads and writes {limit:,} tokens at most; the prompt has {prompt:,} and what "
            f"is given {tokens - prompt:,}, and {most or 1:,} should be written. Shorten one of them.",
            code="context_length_exceeded",
        )
    return replace(sampling, max_length=max(1, min(sampling.max_length, room)))


def _written(answer: Answer) -> Written:
    if answer.written is None:
        raise bad("This column does not write token by token.")
    return answer.written


def _watch(writing: Writing, show: Callable[[int, str], None] | None) -> Watch:
    """Ends an answer at a stop string, and shows what is new of each."""

    def watch(choice: int, answer: Answer, finished: bool) -> Answer | None:
        written, growing = _written(answer), writing.texts[choice]
        fresh, stopped = growing.grow(written.text, finished)
        if fresh and show is not None:
            show(choice, fresh)
        return replace(answer, written=replace(written, text=growing.sent, cut=False)) if stopped else None

    return watch


def endpoints(service: Service) -> list[Endpoint]:
    async def chat(request: HttpRequest) -> Response:
        body = await service.body(request, ChatBody)
        folder = service.folders.get(body.model)
        most = body.max_completion_tokens or body.max_tokens
        writing = await service.front(lambda: _prepared(folder, body, [body.messages], most, False))
        return await _respond(service, request, body, writing, _Chat(folder.name, bool(body.logprobs)))

    async def completions(request: HttpRequest) -> Response:
        body = await service.body(request, CompletionBody)
        folder = service.folders.get(body.model)
        prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        if not prompts or len(prompts) * body.n > folder.limits.rows:
            raise bad(f"prompt: expected 1 to {folder.limits.rows // body.n:,} texts.", "prompt")
        writing = await service.front(lambda: _prepared(folder, body, prompts, body.max_tokens, bool(body.echo)))
        return await _respond(service, request, body, writing, _Completion(folder.name, body.logprobs is not None))

    return [
        Endpoint("/v1/chat/completions", "POST", "Go on from a conversation.", chat, ChatBody),
        Endpoint("/v1/completions", "POST", "Go on from a text.", completions, CompletionBody),
    ]


class _Form:
    """How a route spells what is written."""

    prefix, whole, chunk = "", "", ""

    def __init__(self, model: str, logprobs: bool) -> None:
        self.logprobs = logprobs
        self.head = {"id": f"{self.prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def choice(self, index: int, text: str, reason: str, logprobs: Any) -> dict[str, Any]:
        raise NotImplementedError

    def begin(self, index: int, echoed: str) -> dict[str, Any] | None:
        raise NotImplementedError

    def piece(self, index: int, text: str, reason: str | None) -> dict[str, Any]:
        raise NotImplementedError

    def logprobs_of(self, tokens: Sequence[str], logprobs: Sequence[float]) -> Any:
        raise NotImplementedError


class _Chat(_Form):
    prefix, whole, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def choice(self, index: int, text: str, reason: str, logprobs: Any) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "finish_reason": reason, "logprobs": logprobs}

    def begin(self, index: int, echoed: str) -> dict[str, Any] | None:
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "finish_reason": None, "logprobs": None}

    def piece(self, index: int, text: str, reason: str | None) -> dict[str, Any]:
        delta = {"content": text} if text else {}
        return {"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}

    def logprobs_of(self, tokens: Sequence[str], logprobs: Sequence[float]) -> Any:
        pairs = zip(tokens, logprobs, strict=True)
        content = [{"token": t, "logprob": p, "bytes": list(t.encode()), "top_logprobs": []} for t, p in pairs]
        return {"content": content, "refusal": None}


class _Completion(_Form):
    prefix, whole, chunk = "cmpl", "text_completion", "text_completion"

    def choice(self, index: int, text: str, reason: str, logprobs: Any) -> dict[str, Any]:
        return {"index": index, "text": text, "finish_reason": reason, "logprobs": logprobs}

    def begin(self, index: int, echoed: str) -> dict[str, Any] | None:
        return self.piece(index, echoed, None) if echoed else None

    def piece(self, index: int, text: str, reason: str | None) -> dict[str, Any]:
        return {"index": index, "text": text, "finish_reason": reason, "logprobs": None}

    def logprobs_of(self, tokens: Sequence[str], logprobs: Sequence[float]) -> Any:
        return {"tokens": list(tokens), "token_logprobs": list(logprobs), "top_logprobs": None, "text_offset": None}


def _reason(writing: Writing, choice: int, answer: Answer) -> str:
    return "length" if _written(answer).cut else "stop"


def _usage(writing: Writing, answers: Sequence[Answer]) -> dict[str, int]:
    completion = sum(len(_written(answer).tokens) for answer in answers)
    return {
        "prompt_tokens": writing.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": writing.prompt_tokens + completion,
    }


async def _respond(service: Service, request: HttpRequest, body: TextBody, writing: Writing, form: _Form) -> Response:
    if body.stream:
        if form.logprobs:
            raise bad("logprobs: a stream has none. Ask without stream, or without logprobs.", "logprobs")
        return await _stream(service, body, writing, form)
    future = service.engine.submit(writing.folder.lanes, writing.requests, _watch(writing, None))
    answers = [each[0] for each in await service.wait(request, future)]
    choices = [form.choice(i, *_finished(writing, form, i, answer)) for i, answer in enumerate(answers)]
    return as_json({**form.head, "object": form.whole, "choices": choices, "usage": _usage(writing, answers)})


def _finished(writing: Writing, form: _Form, choice: int, answer: Answer) -> tuple[str, str, Any]:
    """Text, reason and log-probabilities."""
    written = _written(answer)
    logprobs = None
    if form.logprobs:
        decode = writing.encoder.decode  # type: ignore[attr-defined]  # of a column that writes
        logprobs = form.logprobs_of([decode([token]) for token in written.tokens], written.logprobs)
    return writing.prompts[choice] + written.text, _reason(writing, choice, answer), logprobs


# -- streams ---------------------------------------------------------------------------------------------------------
async def _stream(service: Service, body: TextBody, writing: Writing, form: _Form) -> Response:
    loop, pieces = asyncio.get_running_loop(), asyncio.Queue[tuple[int, str] | None]()

    def show(choice: int, text: str) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, (choice, text))

    future = service.engine.submit(writing.folder.lanes, writing.requests, _watch(writing, show))
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(pieces.put_nowait, None))
    usage = body.stream_options is not None and body.stream_options.include_usage
    return StreamingResponse(_events(writing, form, future, pieces, usage), media_type="text/event-stream")


async def _events(
    writing: Writing,
    form: _Form,
    future: Future[list[list[Answer]]],
    pieces: asyncio.Queue[tuple[int, str] | None],
    usage: bool,
) -> AsyncIterator[str]:
    """One a piece, the ends, the usage, and a last one that says that all is there. Where something fails there is no
    such, but the error."""
    head = {**form.head, "object": form.chunk}
    try:
        for i, echoed in enumerate(writing.prompts):
            if (first := form.begin(i, echoed)) is not None:
                yield _event({**head, "choices": [first]})
        while (piece := await pieces.get()) is not None:
            yield _event({**head, "choices": [form.piece(*piece, None)]})
        try:
            answers = [each[0] for each in future.result()]
        except Exception as error:  # the client hears of it in the stream: its status has been sent
            request_error = as_request_error(error) or RequestError(500, "The server failed.", code="server_error")
            yield _event(request_error.as_json())
            return
        for i, answer in enumerate(answers):
            yield _event({**head, "choices": [form.piece(i, "", _reason(writing, i, answer))]})
        if usage:
            yield _event({**head, "choices": [], "usage": _usage(writing, answers)})
        yield "data: [DONE]\n\n"
    finally:
        future.cancel()


def _event(data: Any) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
