"""What all routes share: the folders, the engine, and the way from a request's body to its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.config import Config
from onetrunk.core.errors import UsageError
from onetrunk.inference.request import Request
from onetrunk.media.limits import media_limits
from onetrunk.serving.bodies import parse_object, too_large, unpacked
from onetrunk.serving.engine_thread import Engine
from onetrunk.serving.folders import Asked, Folder, Folders
from onetrunk.serving.light_rows import BODY_BYTES, ROWS, LightRows
from onetrunk.serving.request_errors import RequestError, bad
from onetrunk.serving.request_limits import Limits
from onetrunk.serving.server_metrics import Metrics

T = TypeVar("T")
C = TypeVar("C", bound=Config)


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class Endpoint:
    """One route, and what `/openapi.json` says of it."""

    path: str
    method: str
    summary: str
    handler: Callable[[HttpRequest], Any]
    body: type[Config] | None = None
    media: Sequence[str] = ("application/json",)  # that the body may be sent as
    answers: str = "application/json"


class Service:
    """One for a server. Its methods are called by the routes, on the event loop."""

    def __init__(self, folders: Sequence[Folder], engine: Engine, limits: Limits) -> None:
        self.folders, self.engine, self.limits = Folders(folders), engine, limits
        self.metrics = Metrics()
        self.open = 0  # requests that are worked on
        self.stopping = False
        # One thread reads all rows: tokenizers and readers are not made for several.
        self._front = ThreadPoolExecutor(1, "onetrunk-front", media_limits.set, (limits.media,))

    def close(self) -> None:
        self.stopping = True
        self.engine.stop()
        self._front.shutdown(wait=True, cancel_futures=True)

    # -- bodies ------------------------------------------------------------------------------------------------------
    async def raw_body(self, request: HttpRequest) -> bytes:
        """All of it, or RequestError 413 before more than what is allowed was kept, or 408."""
        length = request.headers.get("content-length")
        if length is not None and (not length.isascii() or not length.isdigit()):
            raise bad("Content-Length should be a whole number.")
        if length is not None and int(length[:20]) > self.limits.body_bytes:
            raise too_large(self.limits)
        pieces, size = [], 0
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                async for piece in request.stream():
                    size += len(piece)
                    if size > self.limits.body_bytes:
                        raise too_large(self.limits)
                    pieces.append(piece)
        except TimeoutError:
            seconds = f"{self.limits.body_seconds:g}"
            raise RequestError(408, f"The body did not arrive within {seconds} seconds.", code="timeout") from None
        raw, encoding = b"".join(pieces), request.headers.get("content-encoding", "identity").strip().lower()
        if encoding in ("", "identity"):
            return raw
        return await self.front(lambda: unpacked(raw, encoding, self.limits))

    async def body(self, request: HttpRequest, kind: type[C]) -> C:
        """The JSON body, checked."""
        content = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if content != "application/json":
            raise RequestError(415, f"Expected a body of application/json, found {content[:100]!r}.", code="media_type")
        raw = await self.raw_body(request)
        request.state.light = len(raw) <= BODY_BYTES
        if request.state.light:
            return parsed(kind, parse_object(raw, self.limits))
        return await self.front(lambda: parsed(kind, parse_object(raw, self.limits)))

    async def front(self, work: Callable[[], T]) -> T:
        """What `work` returns, which reads rows: one at a time, beside the engine."""
        return await asyncio.get_running_loop().run_in_executor(self._front, work)

    # -- answers -----------------------------------------------------------------------------------------------------
    async def ask(
        self,
        request: HttpRequest,
        folder: Folder,
        rows: Sequence[Mapping[str, Any]],
        samplings: Mapping[str, Sampling],
        given: Sequence[str] | None = None,
        *,
        prompted: bool = False,
        max_bad: float = 0.0,
    ) -> tuple[Asked, dict[str, list[Answer]]]:
        """What is asked of rows of JSON (`Folder.ask`), and the answers by asked column. Many rows, and files, are read
        beside the engine; a few small rows by itself."""
        if self.light(request, folder) and len(rows) <= ROWS:
            reading = LightRows(folder, folder.flat(rows), samplings, given, prompted, max_bad)
            answers = await self.wait(request, self.engine.submit_rows(folder.lanes, reading))
            assert reading.asked is not None, "it has been answered"
            return reading.asked, dict(zip(samplings, answers, strict=True))
        asked = await self.front(
            lambda: folder.ask(folder.table_of(rows), samplings, given, prompted=prompted, max_bad=max_bad)
        )
        return asked, await self.answers(request, folder, asked.requests)

    def light(self, request: HttpRequest, folder: Folder) -> bool:
        """Is what a request says so little that reading it holds nobody up?"""
        return bool(getattr(request.state, "light", False)) and not folder.has_media

    async def answers(self, request: HttpRequest, folder: Folder, asked: dict[str, Request]) -> dict[str, list[Answer]]:
        """By asked column, in the order of the rows."""
        answers = await self.wait(request, self.engine.submit(folder.lanes, list(asked.values())))
        return dict(zip(asked, answers, strict=True))

    async def alone(self, work: Callable[[], T], rows: int) -> T:
        """What `work` returns, which both reads rows and computes: the engine does it, and no rows are read beside."""
        return await self.front(lambda: self.engine.call(work, rows).result())

    async def wait(self, request: HttpRequest, future: Future[T]) -> T:
        """The future's result; it is cancelled when the client goes away."""
        answer = asyncio.wrap_future(future)
        gone = asyncio.ensure_future(_gone(request))
        gone.add_done_callback(lambda _: answer.cancel())
        try:
            return await answer
        except asyncio.CancelledError:
            if gone.done():
                raise ClientGoneError from None
            raise
        finally:
            gone.cancel()
            answer.cancel()


async def _gone(request: HttpRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def parsed(kind: type[C], data: dict[str, Any]) -> C:
    """The body's keys, of the right kinds. Raises RequestError."""
    try:
        return kind.parse(data, "the request")
    except UsageError as error:
        raise bad(str(error)) from None


def as_json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(content, status, headers)


def error_response(error: RequestError) -> Response:
    headers = dict(error.headers)
    if error.status in (401, 403, 408, 413, 429):  # what is left of the body is not read
        headers["Connection"] = "close"
    return as_json(error.as_json(), error.status, headers)
