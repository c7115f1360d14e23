"""Requests of nobody's good will: whatever comes, it gets a plain answer, and the server is as it was."""

from __future__ import annotations

import copy
import json
import resource
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import schemathesis
import sites
import worlds
from hypothesis import HealthCheck, Phase, given, settings
from requests import Request as Prepared
from schemathesis.generation import GenerationMode
from sites import Site, row, until

from onetrunk.inference.model_folder import Task
from onetrunk.serving.request_limits import Limits

REQUESTS = 1700
MADE = 20  # of each route by schemathesis, of what is right and of what is wrong: with the others 2,000
Asked = tuple[str, bytes, Mapping[str, str], str | None]  # path, body, headers, method
ROW = row(0)
QUESTIONS = [
    {"type": "choice", "name": "label", "instructions": "?", "choices": [{"value": "good"}, {"value": "bad"}]},
    {"type": "score", "name": "price", "instructions": "?", "levels": [{"label": "100"}, {"label": "300"}]},
]
PROPER: list[tuple[str, dict[str, Any]]] = [
    ("/v1/predict", {"model": "stays", "rows": [ROW, ROW], "ask": ["label", "price"], "given": ["review", "nights"]}),
    ("/v1/predict", {"model": "stays", "rows": [ROW], "ask": "review", "temperature": 0.5, "max_length": 3, "seed": 1}),
    ("/v1/decisions", {"model": "stays", "input": [{"role": "user", "content": [{"type": "input_json", "data": ROW}]}],
                       "questions": QUESTIONS}),
    ("/v1/decisions", {"model": "stays", "input": "The room was warm.", "questions": QUESTIONS[:1]}),
    ("/v1/systemone", {"model": "stays", "state": ROW, "questions": {"stars": {"type": "score", "instructions": "?",
                       "criteria": ["1", "2", "3", "4", "5"]}, "label=good": {"type": "noul", "instructions": "?"}}}),
    ("/v1/chat/completions", {"model": "stays", "messages": [{"role": "user", "content": "a"}], "max_tokens": 2}),
    ("/v1/completions", {"model": "stays", "prompt": "The", "max_tokens": 2, "stop": ["x"], "column": "review"}),
    ("/v1/completions", {"model": "stays", "prompt": ["The"], "max_tokens": 2, "stream": True, "column": "review"}),
    ("/v1/embeddings", {"model": "stays", "input": ["a", "b"], "encoding_format": "float"}),
    ("/v1/explain", {"model": "stays", "rows": [ROW], "ask": "label", "given": ["review", "nights"], "method": "lime",
                     "samples": 8, "seed": 1}),
    ("/v1/images/generations", {"model": "pictures", "prompt": "dark", "steps": 1, "n": 1}),
    ("/v1/audio/speech", {"model": "pictures", "input": "dark", "voice": "a"}),
]  # fmt: skip
HOSTILE: list[Any] = [
    None, True, -1, 0, 1 << 60, 10**400, 1e308, -0.0, "", "\x00", "\u202e", "a" * 5000, "../../etc/passwd", "file:///x",
    "data:image/png;base64,AAAA", "<|end|>", "\r\nX: 1", [], {}, [[]], [None], {"": None}, {"a": {"b": {}}},
    ["label"] * 300, [{"type": "input_json", "data": []}], {"path": "/etc/passwd"}, {"bytes": "AA"},
]  # fmt: skip
RAW = [
    b"", b"null", b"[]", b"{", b"[" * 100_000, b'{"rows":' * 500, b"9" * 10_000, b"\xff\xfe", b'{"a":1,"a":2}',
    b'{"rows":[{"x":NaN}]}', b'{"rows":[{"x":1e999}]}', b'{"model":"\\ud800"}', b'"\\u0000"',
]  # fmt: skip
ALLOWED = {200, 400, 401, 403, 404, 405, 413, 415, 429}


def changed(body: Any, dice: np.random.Generator) -> Any:
    """One or two values of it are others, are gone, or have another name."""
    body = copy.deepcopy(body)
    for _ in range(dice.integers(1, 3)):
        places: list[tuple[Any, Any]] = []
        open_ = [body]
        while open_:
            inner = open_.pop()
            keys = list(inner) if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else []
            places += [(inner, key) for key in keys]
            open_ += [inner[key] for key in keys]
        if not places:
            return body
        holder, key = places[dice.integers(len(places))]
        what = dice.integers(4)
        if what == 0 and isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        elif what == 1 and isinstance(holder, dict):
            del holder[key]
        else:
            holder[key] = HOSTILE[dice.integers(len(HOSTILE))]
    return body


@pytest.fixture(scope="module")
def hostile_site() -> Iterator[Site]:
    pictures = worlds.model(
        {"picture": [worlds._drawing(i) for i in range(12)], "label": ["dark", "light"] * 6},
        {"picture": "image", "label": "category"},
    )
    pictures.tasks = [Task(["label"], ["picture"])]
    models = {"stays": sites.stays_model(), "pictures": pictures}
    with sites.served(models, limits=Limits(rows=50, tokens=4, body_bytes=1 << 20)) as site:
        yield site


def checked(site: Site, requests: Sequence[Asked]) -> set[int]:
    """The statuses of all replies, each of which is a plain one; afterwards nothing is left behind."""
    seen = set()
    for (path, raw, *_), reply in zip(requests, site.ask_all(requests), strict=True):
        assert reply.status in ALLOWED, (path, raw[:300], reply.body[:300])
        if reply.status != 200:
            message = reply.json()["error"]["message"]
            assert message and "Traceback" not in message and "site-packages" not in message
        seen.add(reply.status)
    assert not [entry for entry in site.log if entry.get("event") == "bug"]
    session = next(iter(site.service.folders)).lanes.sessions[0]
    until(lambda: not site.service.open and not site.service.engine.rows and not session.busy)
    assert session.free_slots == session.slots and site.ask("/health").status == 200
    return seen


def test_hostile_requests_get_plain_answers_and_leave_nothing_behind(hostile_site: Site) -> None:
    dice = np.random.default_rng(0)
    for path, body in PROPER:
        assert hostile_site.ask(path, body).status == (400 if "chat" in path or "speech" in path else 200), path
    requests: list[Asked] = []
    for i in range(REQUESTS):
        path, body = PROPER[dice.integers(len(PROPER))]
        raw = json.dumps(changed(body, dice)).encode() if i % 5 else RAW[i // 5 % len(RAW)]
        headers = {"Content-Type": "application/vnd.apache.arrow.stream"} if i % 97 == 0 else {}
        requests.append((path, raw, headers, "PUT" if i % 101 == 0 else None))
    seen = checked(hostile_site, requests[: REQUESTS // 4])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen |= checked(hostile_site, requests[REQUESTS // 4 :])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert {200, 400, 404, 405} <= seen
    assert grown < 64 << 10, f"{grown} kB more than after the first quarter"


def made(url: str, operation: Any, mode: GenerationMode) -> list[Asked]:
    """What schemathesis makes of one route. Three of four name a model that there is: hardly any would come further
    than its name."""
    known = {"model": "stays"} | (
        {"column": "review"} if operation.path in ("/v1/completions", "/v1/embeddings") else {}
    )
    out: list[Asked] = []

    @settings(max_examples=MADE, database=None, deadline=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def collect(case: Any) -> None:
        if isinstance(case.body, dict) and len(out) % 4:
            case.body |= known
        sent = case.as_transport_kwargs(base_url=url)
        prepared = Prepared(sent["method"], sent["url"], json=sent.get("json"), data=sent.get("data")).prepare()
        body = prepared.body or b""
        out.append((prepared.path_url, body if isinstance(body, bytes) else body.encode(), {}, prepared.method))

    collect()
    return out


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_what_our_own_description_allows_and_forbids(hostile_site: Site, mode: GenerationMode) -> None:
    """Requests as `/openapi.json` says, and such as it does not."""
    described = schemathesis.openapi.from_dict(hostile_site.ask("/openapi.json").json())
    operations = [result.ok() for result in described.get_all_operations()]
    operations = [each for each in operations if "application/json" in each.get_request_payload_content_types()]
    requests = [request for each in operations for request in made(hostile_site.url, each, mode)]
    assert len(operations) >= 8 and len(requests) > 0.9 * MADE * len(operations)
    seen = checked(hostile_site, requests)
    assert 400 in seen and (200 in seen) == (mode == GenerationMode.POSITIVE)


@pytest.mark.parametrize(
    "path", ["/v1/../etc/passwd", "/v1/models/..%2f..%2fetc", "/v1/models/%252e", "//", "/%00", "/v1\\x"]
)
def test_no_address_leads_out(path: str) -> None:
    with sites.served({"stays": sites.stays_model()}) as site:
        assert site.ask(path).status == 404
