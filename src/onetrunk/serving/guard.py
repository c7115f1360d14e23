"""Who may ask at all: looks at every request before any route does, and lets nothing through by default."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from onetrunk.serving.request_errors import RequestError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_MOST_ADDRESSES = 4096  # whose wrong keys are counted
_MINUTE = 60.0
_LOCAL = ("localhost", "127.0.0.1", "::1")


class Guard:
    """Checks the key, the host that a browser believes to speak to, and the page that a request comes from."""

    def __init__(self, api_key: str | None, hosts: tuple[str, ...], wrong_keys: int) -> None:
        """
        Args:
            api_key: what every request must bring; None: none is needed.
            hosts: names that this server goes by; empty: any, where a key is needed.
            wrong_keys: of one address in a minute, after which it is not heard.
        """
        self._digest = None if api_key is None else hashlib.sha256(api_key.encode()).digest()
        self._hosts, self._wrong_keys = hosts, wrong_keys
        self._wrong: OrderedDict[str, tuple[float, int]] = OrderedDict()  # since when, and how many

    def check(self, scope: Scope) -> None:
        """Raises RequestError 401, 403 or 429."""
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        host = headers.get("host", [""])[-1]
        if self._hosts and _host_name(host) not in self._hosts:
            raise RequestError(403, f"This server does not go by that host. Ask it as {self._hosts[0]}.", code="host")
        for origin in headers.get("origin", []):  # a browser's page of another place has nothing to ask here
            if urlsplit(origin).netloc.lower() != host.lower():
                raise RequestError(403, "Pages of other places may not ask this server.", code="origin")
        if self._digest is not None:
            self._check_key(scope, headers)

    def _check_key(self, scope: Scope, headers: dict[str, list[str]]) -> None:
        address = (scope.get("client") or ("?", 0))[0]
        since, count = self._wrong.get(address, (0.0, 0))
        now = time.monotonic()
        if count >= self._wrong_keys and now - since < _MINUTE:
            seconds = max(1, round(_MINUTE - (now - since)))
            raise RequestError(
                429, "Too many wrong keys came from this address.", code="rate_limit_exceeded",
                headers={"Retry-After": str(seconds)},
            )  # fmt: skip
        keys = list(headers.get("x-api-key", []))
        for value in headers.get("authorization", []):
            scheme, _, key = value.partition(" ")
            keys += [key.strip()] if scheme.lower() == "bearer" else []
        assert self._digest is not None
        right = [hmac.compare_digest(hashlib.sha256(key.encode("latin-1")).digest(), self._digest) for key in keys]
        if right and all(right):
            return
        if keys:
            self._wrong[address] = (now, 1) if now - since >= _MINUTE else (since, count + 1)
            self._wrong.move_to_end(address)
            while len(self._wrong) > _MOST_ADDRESSES:
                self._wrong.popitem(last=False)
        message = "The key is wrong." if keys else "A key is needed: Authorization: Bearer KEY."
        raise RequestError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def _host_name(host: str) -> str:
    """Without the port, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def is_loopback(address: str) -> bool:
    """Can only this machine reach it?"""
    if address.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def known_hosts(address: str, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The names that a server bound to this address goes by."""
    return tuple(dict.fromkeys([*(name.lower() for name in more), *_LOCAL, address.lower().strip("[]")]))
