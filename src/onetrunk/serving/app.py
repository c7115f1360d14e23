"""The application: all routes, and the door before them, which every request passes."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router

from onetrunk.core.terminal import json_line
from onetrunk.serving import (
    decisions_route,
    embeddings_route,
    explain_route,
    media_route,
    predict_route,
    systemone_route,
    text_route,
)
from onetrunk.serving.guard import Guard, Receive, Scope, Send
from onetrunk.serving.openapi import document
from onetrunk.serving.request_errors import RequestError, as_request_error, busy, stopping
from onetrunk.serving.service import ClientGoneError, Endpoint, Service, as_json, error_response

_ALWAYS = ("/health", "/ready", "/metrics")  # are answered however much there is to do
_GONE = 499  # as the log has it: the client went away

Log = Callable[[dict[str, Any]], None]


def log_line(entry: dict[str, Any]) -> None:
    """One line of JSON on standard error. It never holds what a request or an answer says."""
    print(json_line(entry), file=sys.stderr, flush=True)


def make_app(service: Service, guard: Guard, *, keyed: bool = False, log: Log = log_line) -> Door:
    """The ASGI application."""
    endpoints = [*_own(service), *predict_route.endpoints(service), *decisions_route.endpoints(service)]
    endpoints += systemone_route.endpoints(service)
    endpoints += [
        *text_route.endpoints(service),
        *embeddings_route.endpoints(service),
        *explain_route.endpoints(service),
        *media_route.endpoints(service),
    ]
    described = document(endpoints, keyed)

    async def openapi(request: HttpRequest) -> Response:
        return as_json(described)

    endpoints.append(Endpoint("/openapi.json", "GET", "This description.", openapi))
    routes = [Route(each.path, each.handler, methods=[each.method]) for each in endpoints]
    router = Router(routes, default=_no_route, redirect_slashes=False)
    return Door(router, endpoints, service, guard, log)


def _own(service: Service) -> list[Endpoint]:
    async def health(request: HttpRequest) -> Response:
        return as_json({"status": "ok"} if service.engine.alive else {"status": "the engine has ended"},
                       200 if service.engine.alive else 503)  # fmt: skip

    async def ready(request: HttpRequest) -> Response:
        if service.stopping or not service.engine.alive:
            raise stopping()
        return as_json({"status": "ready"})

    async def models(request: HttpRequest) -> Response:
        described = [folder.describe() for folder in service.folders]
        return as_json({"object": "list", "data": described, "models": [_as_systemone(each) for each in described]})

    async def model(request: HttpRequest) -> Response:
        return as_json(service.folders.get(request.path_params["name"]).describe())

    async def metrics(request: HttpRequest) -> Response:
        engine, stores = service.engine, [folder.lanes.prefix_store for folder in service.folders]
        gauges = [
            ("onetrunk_open_requests", "gauge", "Requests that are worked on.", float(service.open)),
            ("onetrunk_waiting_rows", "gauge", "Rows that are answered or wait.", float(engine.rows)),
            ("onetrunk_answered_rows_total", "counter", "Rows answered.", float(engine.answered_rows)),
            ("onetrunk_ticks_total", "counter", "Steps of the engine's loop.", float(engine.ticks)),
            (
                "onetrunk_prefix_read_tokens_total",
                "counter",
                "Tokens of prompts that were read, in whole blocks.",
                float(sum(store.read for store in stores)),
            ),
            (
                "onetrunk_prefix_reused_tokens_total",
                "counter",
                "Tokens of prompts that another prompt had begun with.",
                float(sum(store.reused for store in stores)),
            ),
            (
                "onetrunk_prefix_bytes",
                "gauge",
                "Memory that kept beginnings of prompts take.",
                float(sum(store.bytes for store in stores)),
            ),
        ]
        return PlainTextResponse(service.metrics.text(gauges), media_type="text/plain; version=0.0.4")

    return [
        Endpoint("/health", "GET", "Is the process alive?", health),
        Endpoint("/ready", "GET", "Does it take requests?", ready),
        Endpoint("/metrics", "GET", "What it has done, for Prometheus.", metrics, answers="text/plain"),
        Endpoint("/v1/models", "GET", "The models, their columns and what they can be asked.", models),
        Endpoint("/v1/models/{name}", "GET", "One model.", model),
    ]


def _as_systemone(described: dict[str, Any]) -> dict[str, str]:
    """A model as clients of System One list it."""
    questions = ", ".join(described["questions"]) or "nothing"
    return {
        "name": described["id"],
        "description": f"Answers {questions}.",
        "release_date": time.strftime("%Y-%m-%d", time.gmtime(described["created"])),
    }


async def _no_route(scope: Scope, receive: Receive, send: Send) -> None:
    raise RequestError(404, "There is no such route; /openapi.json lists them.")


class Door:
    """Checks who asks, counts, logs, and says in plain words what went wrong."""

    def __init__(self, app: Router, endpoints: Sequence[Endpoint], service: Service, guard: Guard, log: Log) -> None:
        self.app, self.service, self.guard, self.log = app, service, guard, log
        self.paths = [endpoint.path for endpoint in endpoints]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started, status = time.monotonic(), 0
        scope["app"] = self  # or the router answers in words of its own

        async def sent(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
                message = {**message, "headers": [*message.get("headers", []), *headers]}
            async with asyncio.timeout(self.service.limits.write_seconds):
                await send(message)

        try:
            await self._let_in(scope, receive, sent)
        except (ClientGoneError, ClientDisconnect, TimeoutError):  # nobody reads any more
            status = status or _GONE
        except Exception as error:  # whatever it is, the client reads plain words, and a bug of ours is logged
            request_error = self._told(error)
            if not status:
                await error_response(request_error)(scope, receive, sent)
        finally:
            self._note(scope, status or _GONE, time.monotonic() - started)

    def _told(self, error: Exception) -> RequestError:
        if isinstance(error, HTTPException):  # of the router
            return RequestError(
                error.status_code, "This route takes another method.", headers=dict(error.headers or {})
            )
        if (request_error := as_request_error(error)) is not None:
            return request_error
        fault = secrets.token_hex(4)
        self.log({"event": "bug", "fault": fault, "error": type(error).__name__, "where": _where(error)})
        return RequestError(500, f"The server failed; its log has more under {fault}.", code="server_error")

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.guard.check(scope)
        if scope["path"] in _ALWAYS:
            await self.app(scope, receive, send)
            return
        service = self.service
        if service.stopping:
            raise stopping()
        if service.open >= service.limits.requests:
            raise busy(f"{service.open} requests are worked on already; at most {service.limits.requests} are.")
        service.open += 1
        try:
            await self.app(scope, receive, send)
        finally:
            service.open -= 1

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        """The route as it is written in the list of routes: an address can hold anything."""
        path = next((path for path in self.paths if path == scope["path"]), None)
        if path is None:
            path = "/v1/models/{name}" if scope["path"].startswith("/v1/models/") else "other"
        self.service.metrics.observe(path, status, seconds)
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.log({"time": moment, "method": scope["method"][:16], "route": path, "status": status,
                  "ms": round(1000 * seconds, 2)})  # fmt: skip


def _where(error: BaseException) -> list[str]:
    """Files and lines, without any value."""
    import traceback

    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)[-12:]]  # fmt: skip
