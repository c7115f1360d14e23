"""Tiny model folders, served on a free port by the real server in a thread, and a plain client of it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import uvicorn
import worlds

from onetrunk.inference.model_folder import Model, Task
from onetrunk.serving.app import make_app
from onetrunk.serving.engine_thread import Engine, Lanes
from onetrunk.serving.folders import Folder
from onetrunk.serving.guard import Guard, known_hosts
from onetrunk.serving.request_limits import Limits
from onetrunk.serving.server import bound, http_config
from onetrunk.serving.service import Service

WORDS = ["warm", "clean", "quiet", "cold", "dirty", "noisy"]
STAYS = {
    "review": [f"The room was {WORDS[i % 6]}." for i in range(24)],
    "nights": [1 + i % 7 for i in range(24)],
    "guest.plan": ["free", "paid", "team"] * 8,
    "label": ["bad" if i % 6 > 2 else "good" for i in range(24)],
    "stars": [1 + i % 5 for i in range(24)],
    "price": [80.0 * (1 + i % 7) + i for i in range(24)],
    "arrived": [worlds._DAYS[i % 12] for i in range(24)],
}
TYPES = {
    "review": "text",
    "nights": "number",
    "guest.plan": "category",
    "label": "category",
    "stars": "category",
    "price": "number",
    "arrived": "date",
}


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Site:
    """A running server."""

    host: str
    port: int
    service: Service
    key: str | None = None
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(
        self, path: str, body: Any = None, headers: Mapping[str, str] | None = None, method: str | None = None
    ) -> Reply:
        """`body`: bytes as they are, anything else as JSON."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kinds = {"Content-Type": "application/json"} if raw is not None else {}
        keys = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=60)) as connection:
            return _asked(connection, path, raw, {**kinds, **keys, **(headers or {})}, method)

    def ask_all(self, requests: Sequence[tuple[str, bytes, Mapping[str, str], str | None]]) -> Iterator[Reply]:
        """The replies to many requests, in their order: from several threads at once, each of which keeps its
        connection."""
        own = threading.local()

        def ask(request: tuple[str, bytes, Mapping[str, str], str | None]) -> Reply:
            if not hasattr(own, "connection"):
                own.connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
            path, raw, headers, method = request
            return _asked(own.connection, path, raw, {"Content-Type": "application/json", **headers}, method)

        with ThreadPoolExecutor(4) as threads:
            yield from threads.map(ask, requests)

    def predict(self, **body: Any) -> Any:
        reply = self.ask("/v1/predict", body)
        assert reply.status == 200, reply.body
        return reply.json()


def _asked(
    connection: http.client.HTTPConnection, path: str, raw: bytes | None, headers: dict[str, str], method: str | None
) -> Reply:
    connection.request(method or ("GET" if raw is None else "POST"), path, raw, headers)
    response = connection.getresponse()
    return Reply(response.status, response.headers, response.read())


@contextmanager
def served(
    models: Mapping[str, Model],
    *,
    key: str | None = None,
    limits: Limits | None = None,
    repeatable: bool = False,
    slots: int = 16,
    positions: int = 256,
) -> Iterator[Site]:
    limits = limits or Limits()
    folders = [
        Folder(name, model, Lanes(model.network, slots, positions, repeatable), limits)
        for name, model in models.items()
    ]
    service = Service(folders, Engine(limits.queued_rows).start(), limits)
    listening = bound("127.0.0.1", 0)
    host, port = listening.getsockname()
    site = Site(host, port, service, key)
    app = make_app(
        service, Guard(key, known_hosts(host), limits.wrong_keys), keyed=key is not None, log=site.log.append
    )
    server = uvicorn.Server(http_config(app, limits))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield site
    finally:
        server.should_exit = True
        thread.join(30)
        service.close()
        listening.close()


def stays_model() -> Model:
    torch.manual_seed(0)
    made = worlds.model(STAYS, TYPES, options={"stars": {}})
    given = ["review", "nights", "guest.plan"]
    made.tasks = [Task(given, ["label"]), Task(given, ["stars", "price", "arrived"])]
    return made


def row(i: int = 0) -> dict[str, Any]:
    return {"review": STAYS["review"][i], "nights": STAYS["nights"][i], "guest": {"plan": STAYS["guest.plan"][i]}}


def until(check: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "never"
        time.sleep(0.005)


def raw_connection(site: Site) -> socket.socket:
    return socket.create_connection((site.host, site.port), timeout=30)
