"""HTTP on the wire: uvicorn's parser in C, with a bound that it lacks."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 << 10


class BoundedProtocol(HttpToolsProtocol):
    """What is neither a whole head nor a body is kept until it is whole: a head that never ends, or what follows the
    last piece of a body. Here it may be so long, and not longer."""

    _kept = 0  # bytes since the last head or piece of a body
    _whole = False  # did any come with the data that are read now?
    _fields = 0  # bytes of a message's headers

    def data_received(self, data: bytes) -> None:
        self._whole = False
        super().data_received(data)
        self._kept = 0 if self._whole else self._kept + len(data)
        if self._kept > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too long.")

    def on_message_begin(self) -> None:
        self._fields = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._whole = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._whole = True
        super().on_body(body)

    def _count(self, more: int) -> None:
        self._fields += more
        if self._fields > MOST_HEAD_BYTES:
            raise ValueError("the head is too long")  # the parser stops, and the client gets status 400


def event_loop() -> Callable[[], AbstractEventLoop] | None:
    """Makes the quicker event loop, on systems for which there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    made: Callable[[], AbstractEventLoop] = uvloop.new_event_loop
    return made
