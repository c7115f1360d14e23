"""Who may ask, how much, and what happens when too much is asked, a client goes, memory ends, or the server stops."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
import sites
from sites import Site, raw_connection, row, until

from onetrunk.inference.model_folder import Model
from onetrunk.inference.session import Session
from onetrunk.serving.request_limits import Limits

KEY = "correct-horse-battery"


# -- keys, hosts, origins --------------------------------------------------------------------------------------------
def test_every_route_needs_the_key(stays: Model) -> None:
    with sites.served({"stays": stays}, key=KEY) as site:
        described = site.ask("/openapi.json").json()
        paths = [(path, method) for path, item in described["paths"].items() for method in item]
        assert len(paths) > 5 and described["security"]
        site.key = None
        for path, method in [*paths, ("/openapi.json", "get"), ("/nothing", "get"), ("/v1/predict", "options")]:
            reply = site.ask(path.replace("{name}", "stays"), method=method.upper())
            assert reply.status == 401 and reply.json()["error"]["code"] == "invalid_api_key", path
        for headers in ({"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}):
            assert site.ask("/health", headers=headers).status == 200
        both = {"Authorization": f"Bearer {KEY}", "X-API-Key": "wrong"}
        assert site.ask("/health", headers=both).status == 401


def test_wrong_keys_are_not_heard_for_long(stays: Model) -> None:
    with sites.served({"stays": stays}, key=KEY, limits=Limits(wrong_keys=3)) as site:
        wrong = [site.ask("/health", headers={"Authorization": f"Bearer {i}"}) for i in range(5)]
        assert [reply.status for reply in wrong] == [401, 401, 401, 429, 429]
        assert int(wrong[-1].headers["Retry-After"]) > 0


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "evil.example:8000"}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
)
def test_pages_of_other_places_get_nothing(site: Site, method: str, headers: dict[str, str]) -> None:
    reply = site.ask("/v1/models", headers=headers, method=method)
    assert reply.status == 403 and not any(name.lower().startswith("access-control") for name in reply.headers)


def test_the_servers_own_pages_may_ask(site: Site) -> None:
    assert site.ask("/v1/models", headers={"Origin": site.url}).status == 200


# -- bodies ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not valid JSON"),
        (b"[1]", "should be a JSON object, found an array"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"rows":' + b"[" * 40 + b"]" * 40 + b"}", "nested too deeply"),
        (b'{"seed":' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"temperature": NaN}', "NaN is no JSON number"),
        (b'{"temperature": 1e400}', "a number is too large"),
        (b'{"rows": [], "rows": []}', "a key stands twice"),
        (b'{"rows": [{"review": "\\ud800"}]}', "half of a surrogate pair"),
        (b'{"rows": "\xff"}', "not UTF-8"),
        (b'{"rows": 3}', "'rows'"),
        (b'{"rows": [], "temprature": 1}', "Did you mean 'temperature'?"),
        (b'{"rows": [], "ask": "labl"}', "Did you mean 'label'?"),
        (b'{"rows": [], "seed": 1e300}', "'seed'"),
        (b'{"rows": [{"nights": {"a": [1]}}]}', "nights"),
    ],
)
def test_malformed_bodies_get_a_plain_400(site: Site, raw: bytes, words: str) -> None:
    reply = site.ask("/v1/predict", raw)
    error = reply.json()["error"]
    assert reply.status == 400 and error["type"] == "invalid_request_error" and words in error["message"], error
    assert "Traceback" not in error["message"] and "/" not in error["message"].replace("application/json", "")


def test_an_unknown_model_is_404_and_an_unknown_kind_of_body_415(site: Site) -> None:
    reply = site.ask("/v1/predict", {"model": "stayz", "rows": []})
    assert reply.status == 404 and reply.json()["error"]["code"] == "model_not_found"
    assert "Did you mean 'stays'?" in reply.json()["error"]["message"]
    assert site.ask("/v1/predict", b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}).status == 415
    assert site.ask("/v1/predict", method="GET").status == 405
    assert site.ask("/v1/models/stays").json()["id"] == "stays" and site.ask("/v1/models/nobody").status == 404


def test_special_texts_are_literal(site: Site) -> None:
    for text in ("\x00", "<|end|><|start|>assistant", "\u202eabc", "a\r\nb\x1b[31m"):
        assert site.predict(rows=[{"review": text}])["answers"][0]["label"]["value"] in ("good", "bad")


def test_a_body_that_is_too_large_is_refused_before_it_is_read(stays: Model) -> None:
    with sites.served({"stays": stays}, limits=Limits(body_bytes=1000, rows=3)) as site:
        with raw_connection(site) as connection:  # says how large it is, and sends nothing
            connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 413")
        with raw_connection(site) as connection:  # says nothing, and sends without an end
            head = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head + (b"100\r\n" + b" " * 256 + b"\r\n") * 5)
            assert connection.recv(4096).startswith(b"HTTP/1.1 413")
        many = site.ask("/v1/predict", {"rows": [{}] * 4})
        assert many.status == 400 and "4 rows; at most 3" in many.json()["error"]["message"]


def test_a_body_that_does_not_come_is_not_waited_for(stays: Model) -> None:
    with sites.served({"stays": stays}, limits=Limits(body_seconds=0.1)) as site, raw_connection(site) as connection:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")


_CHUNKED = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 200_000,
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 40_000,
        b"GET /" + b"a" * 200_000,
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        _CHUNKED + b"1\r\n{\r\n0\r\n" + b"X: y\r\n" * 40_000,
        _CHUNKED + b"1;" + b"a" * 200_000,
    ],
    ids=["a header without an end", "many headers", "an address", "a long header", "trailers", "what beside a piece"],
)
def test_huge_heads_are_refused(site: Site, sent: bytes) -> None:
    with raw_connection(site) as connection:
        with suppress(ConnectionError):  # it may have hung up before all was sent
            for first in range(0, len(sent), 20_000):
                connection.sendall(sent[first : first + 20_000])
        with suppress(ConnectionResetError):
            assert connection.recv(4096).startswith(b"HTTP/1.1 4")
    assert site.ask("/health").status == 200


def test_a_large_body_is_no_head(site: Site) -> None:
    row = {"review": "warm " * 40_000}
    assert site.ask("/v1/predict", {"rows": [row], "ask": "label"}).status in (200, 400)
    assert site.predict(rows=[{"review": "warm", "wallet": "x" * 300_000}], ask="label")["notes"]


# -- too much at once ------------------------------------------------------------------------------------------------
class Held:
    """Holds the engine's thread until it is let go."""

    def __init__(self, site: Site) -> None:
        self.go = threading.Event()
        self.future = site.service.engine.call(lambda: self.go.wait(60), rows=0)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *error: object) -> None:
        self.go.set()
        self.future.result(60)


def together(site: Site, count: int, body: dict[str, Any]) -> list[sites.Reply]:
    replies: list[Any] = [None] * count

    def client(i: int) -> None:
        replies[i] = site.ask("/v1/predict", body)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return replies


def test_ten_times_the_capacity_gives_only_200_and_429(stays: Model) -> None:
    with sites.served({"stays": stays}, limits=Limits(requests=4, queued_rows=6)) as site:
        replies = together(site, 40, {"rows": [row(0), row(1)]})
        assert {reply.status for reply in replies} <= {200, 429}
        assert sum(reply.status == 200 for reply in replies) >= 3
        for reply in replies:
            if reply.status == 429:
                assert int(reply.headers["Retry-After"]) >= 1 and reply.json()["error"]["code"] == "rate_limit_exceeded"
        assert site.ask("/v1/predict", {"rows": [row(0)]}).status == 200


def test_what_waits_is_bounded(stays: Model) -> None:
    with sites.served({"stays": stays}, limits=Limits(queued_rows=3)) as site:
        with Held(site):
            first: list[sites.Reply] = []
            waits = threading.Thread(target=lambda: first.append(site.ask("/v1/predict", {"rows": [row(0)] * 3})))
            waits.start()
            until(lambda: site.service.engine.rows == 3)
            refused = site.ask("/v1/predict", {"rows": [row(1)]})
            assert refused.status == 429 and "3 rows are being answered" in refused.json()["error"]["message"]
            assert site.ask("/health").status == 200 and "onetrunk_waiting_rows 3" in site.ask("/metrics").body.decode()
        waits.join(60)
        assert first[0].status == 200 and site.service.engine.rows == 0


# -- clients that go, memory that ends, the end ----------------------------------------------------------------------
def idle(site: Site) -> bool:
    sessions = [session for folder in site.service.folders for session in folder.lanes.sessions]
    return (
        not site.service.open
        and not site.service.engine.rows
        and all(not session.busy and session.free_slots == session.slots for session in sessions)
    )


def test_who_goes_away_frees_the_slots(stays: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step takes its time and no text ends by itself, so that nobody is answered before they go."""
    encoder, special, step = stays.encoder("review"), stays.encoder("review").special, Session.step
    never = (*special.never, special.end)
    monkeypatch.setattr(encoder, "special", type(special)(**{**vars(special), "never": never}))
    monkeypatch.setattr(Session, "step", lambda self: (time.sleep(0.02), step(self))[1])
    with sites.served({"stays": stays}, positions=4096) as site:
        body = json.dumps({"rows": [row(i) for i in range(4)], "ask": "review", "max_length": 2000}).encode()
        session = next(iter(site.service.folders)).lanes.sessions[0]
        for _ in range(20):
            connection = http.client.HTTPConnection(site.host, site.port, timeout=30)
            connection.request("POST", "/v1/predict", body, {"Content-Type": "application/json"})
            until(lambda: session.busy)
            connection.close()
            until(lambda: idle(site))  # or the next one would not know whose rows keep the session busy
        until(lambda: sum(entry.get("status") == 499 for entry in site.log) == 20)


def test_without_memory_those_who_asked_hear_of_it_and_the_server_lives(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Session) -> Any:
        self._waiting, self._rows, self._free = [], {}, list(range(self.slots))
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 1 bytes")

    with monkeypatch.context() as patch:
        patch.setattr(Session, "step", full)
        reply = site.ask("/v1/predict", {"rows": [row(0)]})
        assert reply.status == 503 and reply.json()["error"]["code"] == "out_of_memory"
        assert "alloc" not in reply.body.decode()
    assert site.ask("/v1/predict", {"rows": [row(0)]}).status == 200
    until(lambda: idle(site))


def test_a_bug_is_logged_and_told_without_its_values(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Session) -> Any:
        self._waiting, self._rows, self._free = [], {}, list(range(self.slots))
        raise ValueError("a secret of /home/somebody")

    with monkeypatch.context() as patch:
        patch.setattr(Session, "step", broken)
        reply = site.ask("/v1/predict", {"rows": [row(0)]})
    assert reply.status == 500 and "secret" not in reply.body.decode() and "somebody" not in json.dumps(site.log)
    assert any(entry.get("event") == "bug" and entry["error"] == "ValueError" for entry in site.log)
    assert site.ask("/v1/predict", {"rows": [row(0)]}).status == 200
    until(lambda: idle(site))


def test_a_server_that_stops_finishes_what_it_has_and_takes_no_more(stays: Model) -> None:
    with sites.served({"stays": stays}) as site:
        collected: list[sites.Reply] = []
        with Held(site):
            waits = threading.Thread(target=lambda: collected.append(site.ask("/v1/predict", {"rows": [row(0)]})))
            waits.start()
            until(lambda: site.service.engine.rows == 1)
            site.service.stopping = True
            for path, body in (("/v1/predict", {"rows": [row(0)]}), ("/v1/models", None), ("/ready", None)):
                reply = site.ask(path, body)
                assert reply.status == 503 and reply.json()["error"]["code"] == "stopping"
            assert site.ask("/health").status == 200
        waits.join(60)
        assert collected[0].status == 200


def test_the_log_is_json_without_contents(site: Site) -> None:
    site.ask("/v1/predict", {"rows": [{"review": "my secret"}]})
    site.ask("/v1/nothing?secret=%0a%1b", headers={"Authorization": "Bearer secret"})
    until(lambda: site.log[-1]["route"] == "other")
    assert site.log[-1].keys() == {"time", "method", "route", "status", "ms"}
    assert "secret" not in json.dumps(site.log)


def test_a_slow_reader_holds_nobody_up(site: Site) -> None:
    with raw_connection(site) as slow:
        slow.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        started = time.monotonic()
        assert site.ask("/v1/predict", {"rows": [row(0)]}).status == 200
        assert time.monotonic() - started < 10
