"""`/v1/chat/completions` and `/v1/completions`: a text column goes on from a conversation or a text."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse

from onetrunk.core.answer import MOST_TOP_LOGPROBS, Answer, Sampling, Written
from onetrunk.core.config import Config
from onetrunk.core.errors import UsageError
from onetrunk.core.grammar import Grammar
from onetrunk.inference.grammars import matcher_for
from onetrunk.inference.request import Request
from onetrunk.serving.engine_thread import Watch
from onetrunk.serving.folders import Folder
from onetrunk.serving.growing_text import GrowingText
from onetrunk.serving.request_errors import RequestError, as_request_error, bad
from onetrunk.serving.service import Endpoint, Service, as_json
from onetrunk.serving.structured_output import ResponseFormat, StructuredOutputs, grammar_of
from onetrunk.serving.text_forms import ChatForm, CompletionForm, Form
from onetrunk.serving.token_logprobs import GrowingLogprobs, TokenLogprob

_MOST_CHOICES = 16
_MOST_STOPS = 16
_USUAL_TOKENS = 16  # of a completion, as OpenAI's
_MOST_COMPLETION_LOGPROBS = 5  # as OpenAI's


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
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = Field(None, description="As vLLM's: what the text must be.")
    row: dict[str, Any] | None = Field(None, description="Not OpenAI's: values of the model's other columns.")
    column: str | None = Field(None, description="Not OpenAI's: the column that is written, where there are several.")

    def stops(self) -> list[str]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > _MOST_STOPS or not all(stops) or any(len(stop) > 256 for stop in stops):
            raise bad(f"stop: expected at most {_MOST_STOPS} texts of 1 to 256 characters.", "stop")
        return stops

    def likeliest(self) -> int | None:
        """How many of the likeliest tokens are told of at each place; None where no log-probabilities are asked for."""
        raise NotImplementedError


class ChatBody(TextBody):
    messages: list[dict[str, Any]] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(None, ge=0, le=MOST_TOP_LOGPROBS, description="Needs logprobs.")
    safety_identifier: str | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None

    def likeliest(self) -> int | None:
        if self.top_logprobs and not self.logprobs:
            raise bad("top_logprobs: expected logprobs: true beside it.", "top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionBody(TextBody):
    prompt: str | list[str]
    max_tokens: int | None = Field(_USUAL_TOKENS, ge=1)
    logprobs: int | None = Field(
        None,
        ge=0,
        le=_MOST_COMPLETION_LOGPROBS,
        description="Of each token that is written, and so many likeliest ones.",
    )
    echo: bool | None = False

    def likeliest(self) -> int | None:
        return self.logprobs


@dataclass
class Writing:
    """What is to be written: one request a choice."""

    folder: Folder
    requests: list[Request]
    prompts: list[str]  # of a completion that echoes its prompt, by choice
    prompt_tokens: int
    texts: list[GrowingText]
    logprobs: list[GrowingLogprobs] | None  # of each choice; None where nobody asked
    stopped: set[int] = field(default_factory=set)  # choices that a stop string ended

    def new_logprobs(self, choice: int, written: Written, visible: str | None) -> list[TokenLogprob] | None:
        """Of the tokens that what is visible is made of (None: of all), those that have not been told of."""
        return None if self.logprobs is None else self.logprobs[choice].grow(written, visible)

    def last_logprobs(self, choice: int, written: Written) -> list[TokenLogprob] | None:
        """Of the tokens of a finished text that have not been told of."""
        return self.new_logprobs(choice, written, written.text if choice in self.stopped else None)


def _prepared(folder: Folder, body: TextBody, prompts: Sequence[Any], most: int | None, echo: bool) -> Writing:
    """Requests of every prompt's choices. Raises RequestError."""
    column, likeliest = _column(folder, body.column), body.likeliest()
    encoder, temperature = folder.model.encoder(column), 1.0 if body.temperature is None else body.temperature
    sampling = Sampling(
        temperature=temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        seed=secrets.randbelow(1 << 32) if body.seed is None else body.seed,
        max_length=min(most or folder.limits.tokens, folder.limits.tokens),
        top_logprobs=likeliest or 0,
        grammar=_grammar(encoder, body),
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
    stops, logprobs = body.stops(), None
    if likeliest is not None:
        logprobs = [GrowingLogprobs(folder.spelling(column)) for _ in requests]
    return Writing(folder, requests, echoed, tokens, [GrowingText(stops) for _ in requests], logprobs)


def _grammar(encoder: Any, body: TextBody) -> Grammar | None:
    """Compiled here, so that the engine need not wait for it."""
    grammar = grammar_of(body.response_format, body.structured_outputs)
    if grammar is not None:
        try:
            matcher_for(encoder, grammar)
        except UsageError as error:
            where = "structured_outputs" if body.structured_outputs is not None else "response_format"
            raise bad(f"{where}: {error}", where) from None
    return grammar


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


# Takes a choice, what is new of its text, and the log-probabilities of what is new.
_Show = Callable[[int, str, Sequence[TokenLogprob] | None], None]


def _watch(writing: Writing, show: _Show | None) -> Watch:
    """Ends an answer at a stop string, and shows what is new of each."""

    def watch(choice: int, answer: Answer, finished: bool) -> Answer | None:
        written, growing = _written(answer), writing.texts[choice]
        fresh, stopped = growing.grow(written.text, finished)
        if stopped:
            writing.stopped.add(choice)
        if fresh and show is not None:
            visible = None if finished and not stopped else growing.sent
            show(choice, fresh, writing.new_logprobs(choice, written, visible))
        return replace(answer, written=replace(written, text=growing.sent, cut=False)) if stopped else None

    return watch


def endpoints(service: Service) -> list[Endpoint]:
    async def chat(request: HttpRequest) -> Response:
        body = await service.body(request, ChatBody)
        folder = service.folders.get(body.model)
        most = body.max_completion_tokens or body.max_tokens
        writing = await service.front(lambda: _prepared(folder, body, [body.messages], most, False))
        return await _respond(service, request, body, writing, ChatForm(folder.name))

    async def completions(request: HttpRequest) -> Response:
        body = await service.body(request, CompletionBody)
        folder = service.folders.get(body.model)
        prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        if not prompts or len(prompts) * body.n > folder.limits.rows:
            raise bad(f"prompt: expected 1 to {folder.limits.rows // body.n:,} texts.", "prompt")
        writing = await service.front(lambda: _prepared(folder, body, prompts, body.max_tokens, bool(body.echo)))
        return await _respond(service, request, body, writing, CompletionForm(folder.name, body.logprobs or 0))

    return [
        Endpoint("/v1/chat/completions", "POST", "Go on from a conversation.", chat, ChatBody),
        Endpoint("/v1/completions", "POST", "Go on from a text.", completions, CompletionBody),
    ]


def _reason(written: Written) -> str:
    return "length" if written.cut else "stop"


def _usage(writing: Writing, body: TextBody, answers: Sequence[Answer]) -> dict[str, Any]:
    completion = sum(len(_written(answer).tokens) for answer in answers)
    reused = sum(_written(answer).reused for answer in answers[:: body.n])  # of each prompt once
    return {
        "prompt_tokens": writing.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": writing.prompt_tokens + completion,
        "prompt_tokens_details": {"cached_tokens": reused},
    }


async def _respond(service: Service, request: HttpRequest, body: TextBody, writing: Writing, form: Form) -> Response:
    if body.stream:
        return await _stream(service, body, writing, form)
    future = service.engine.submit(writing.folder.lanes, writing.requests, _watch(writing, None))
    answers = [each[0] for each in await service.wait(request, future)]
    choices = []
    for i, written in enumerate(map(_written, answers)):
        logprobs = writing.last_logprobs(i, written)
        choices.append(form.choice(i, writing.prompts[i] + written.text, _reason(written), logprobs))
    return as_json({**form.head, "object": form.whole, "choices": choices, "usage": _usage(writing, body, answers)})


# -- streams ---------------------------------------------------------------------------------------------------------
_Piece = tuple[int, str, Sequence[TokenLogprob] | None]


async def _stream(service: Service, body: TextBody, writing: Writing, form: Form) -> Response:
    loop, pieces = asyncio.get_running_loop(), asyncio.Queue[_Piece | None]()

    def show(*piece: Any) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, piece)

    future = service.engine.submit(writing.folder.lanes, writing.requests, _watch(writing, show))
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(pieces.put_nowait, None))
    return StreamingResponse(_events(writing, body, form, future, pieces), media_type="text/event-stream")


async def _events(
    writing: Writing,
    body: TextBody,
    form: Form,
    future: Future[list[list[Answer]]],
    pieces: asyncio.Queue[_Piece | None],
) -> AsyncIterator[str]:
    """One a piece, the ends, the usage, and a last one that says that all is there. Where something fails there is no
    such, but the error."""
    head = {**form.head, "object": form.chunk}
    try:
        for i, echoed in enumerate(writing.prompts):
            if (first := form.begin(i, echoed)) is not None:
                yield _event({**head, "choices": [first]})
        while (piece := await pieces.get()) is not None:
            choice, text, logprobs = piece
            yield _event({**head, "choices": [form.piece(choice, text, None, logprobs)]})
        try:
            answers = [each[0] for each in future.result()]
        except Exception as error:  # the client hears of it in the stream: its status has been sent
            request_error = as_request_error(error) or RequestError(500, "The server failed.", code="server_error")
            yield _event(request_error.as_json())
            return
        for i, written in enumerate(map(_written, answers)):
            rest = writing.last_logprobs(i, written) or None
            yield _event({**head, "choices": [form.piece(i, "", _reason(written), rest)]})
        if body.stream_options is not None and body.stream_options.include_usage:
            yield _event({**head, "choices": [], "usage": _usage(writing, body, answers)})
        yield "data: [DONE]\n\n"
    finally:
        future.cancel()


def _event(data: Any) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
