"""Serves model folders until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import uvicorn

from onetrunk.core.errors import UsageError
from onetrunk.core.events import Listener, Note, ignore
from onetrunk.engine.mode import Choice
from onetrunk.engine.runtime import Runtime, find_device
from onetrunk.evaluation.evidence_files import require_gates
from onetrunk.inference.answer_rows import CACHED_POSITIONS
from onetrunk.inference.fixed_weights import fix_weights
from onetrunk.inference.model_folder import load
from onetrunk.media.marking import Mark
from onetrunk.serving.app import log_line, make_app
from onetrunk.serving.engine_thread import Engine, Lanes
from onetrunk.serving.folders import Folder, named
from onetrunk.serving.guard import Guard, is_loopback, known_hosts
from onetrunk.serving.http_protocol import BoundedProtocol, event_loop
from onetrunk.serving.request_limits import Limits
from onetrunk.serving.service import Service

_MOST_SLOTS = 64
_KEEP_ALIVE_SECONDS = 30
_LOOK_SECONDS = 0.05  # between two looks whether everything is answered


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Where, for whom, and how."""

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    device: str = "auto"
    positions: int = 2048  # of one row: what is given, the prompt and the answer
    repeatable: bool = False
    precision: Choice = "fp32"
    allow_failed_gates: bool = False
    producer: str | None = None  # who answers for what is made; None: each folder's name
    limits: Limits = field(default_factory=Limits)

    def check(self) -> None:
        """Raises UsageError."""
        find_device(self.device)
        Mark.of(self.producer, None)
        if not is_loopback(self.host) and not self.api_key:
            raise UsageError(
                f"--host {self.host} can be reached by other machines, and there is no key. Give one with --api-key, "
                "or in the environment as ONETRUNK_API_KEY; or serve this machine alone: --host 127.0.0.1."
            )
        if self.api_key is not None and (not self.api_key.isascii() or not self.api_key.isprintable()):
            raise UsageError("--api-key expects printable ASCII characters.")
        if self.precision not in get_args(Choice):
            raise UsageError(f"--precision expects {', '.join(get_args(Choice))}; found {self.precision!r}.")
        if not 0 <= self.port < 1 << 16:
            raise UsageError(f"--port expects a number from 0 to 65535, found {self.port}.")
        if self.positions < 1:
            raise UsageError(f"--positions expects a number from 1, found {self.positions}.")


def bound(host: str, port: int) -> socket.socket:
    """A socket that nobody else has. Raises UsageError where it is taken, or the address is not this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"--host {host}: {error.strerror or error}.") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(2048)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"Port {port} of {host} is in use already. Name another one: --port {port + 1}") from None
        raise UsageError(f"Cannot listen on {host}, port {port}: {error.strerror}.") from None
    return made


def open_folders(models: Sequence[str], options: ServeOptions, on_event: Listener = ignore) -> list[Folder]:
    """Each folder, loaded and ready to answer. Raises UsageError and ModelFileError as `load` does, and EvidenceError
    for a model that does not keep its gates."""
    runtime, out = Runtime.open(options.device), []
    for name, path in named(models).items():
        model = load(path, device="cpu")
        require_gates(model, "served", options.allow_failed_gates, on_event)
        runtime.place(model.network)
        chosen = fix_weights(model.network, options.precision)
        if options.precision != "fp32":
            on_event(Note(f"{name}: answers are computed in {chosen}."))
        slots = max(1, min(_MOST_SLOTS, CACHED_POSITIONS // options.positions))
        limits, mark = options.limits, Mark.of(options.producer, Path(path).resolve().name)
        lanes = Lanes(model.network, slots, options.positions, options.repeatable, limits.prefix_bytes)
        out.append(Folder(name, model, lanes, limits, mark))
    return out


def serve_folders(models: Sequence[str], options: ServeOptions, on_event: Listener = ignore) -> None:
    """Serves until a signal: then what is being answered is answered, for a while, and nothing new is taken."""
    options.check()
    if not models:
        raise UsageError("Name at least one model folder.")
    with bound(options.host, options.port) as listening:
        service = Service(
            open_folders(models, options, on_event), Engine(options.limits.queued_rows).start(), options.limits
        )
        host, port = listening.getsockname()[:2]
        hosts = known_hosts(options.host) if is_loopback(options.host) else ()
        guard = Guard(options.api_key, hosts, options.limits.wrong_keys)
        app = make_app(service, guard, keyed=options.api_key is not None)
        names = ", ".join(folder.name for folder in service.folders)
        address = f"[{host}]" if ":" in host else host
        on_event(Note(f"{names}: ready at http://{address}:{port}/v1; /openapi.json lists the routes."))
        try:
            server = _Server(http_config(app, options.limits), service)
            with asyncio.Runner(loop_factory=event_loop()) as runner:
                runner.run(server.serve(sockets=[listening]))
        finally:
            service.close()


def http_config(app: Any, limits: Limits) -> uvicorn.Config:
    _log_as_json()
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(limits.drain_seconds),
    )


class _Server(uvicorn.Server):
    """Says from the first signal on that it takes no more."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service, self._drain_seconds = service, service.limits.drain_seconds

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._service.stopping = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The door stays open as long as something is being answered: who comes meanwhile is told, and not cut off."""
        began = time.monotonic()
        while self._service.open and not self.force_exit and time.monotonic() - began < self._drain_seconds:
            await asyncio.sleep(_LOOK_SECONDS)
        self.config.timeout_graceful_shutdown = max(0, round(began + self._drain_seconds - time.monotonic()))
        await super().shutdown(sockets)


class _JsonHandler(logging.Handler):
    """What the HTTP library has to say, as lines like ours; without values, which could be a client's."""

    def emit(self, record: logging.LogRecord) -> None:
        log_line({"event": "server", "level": record.levelname.lower(), "message": str(record.msg)[:200]})


def _log_as_json() -> None:
    logger = logging.getLogger("uvicorn")
    logger.handlers, logger.propagate = [_JsonHandler()], False
    logger.setLevel(logging.WARNING)
