"""Texts of a form, and log-probabilities of their tokens, through the client that people have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
import sites
import torch
import worlds
from openai import OpenAI
from pydantic import BaseModel, Field
from sites import Site, until

from onetrunk.inference.model_folder import Model, Task

CHATS = [
    [{"role": "user", "content": f"Is room {i} warm?"}, {"role": "assistant", "content": f'{{"室": {i}}} {word}. 三月'}]
    for i, word in enumerate(["warm", "cold", "clean", "loud"] * 3)
]
ASKED: Any = [{"role": "user", "content": "Is room 3 warm?"}]
SCHEMA = {
    "type": "object",
    "properties": {"word": {"enum": ["warm", "cold"]}, "room": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["word", "room"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    torch.manual_seed(0)
    chat = worlds.model({"messages": CHATS}, {"messages": "text"}, options={"messages": {"length": 256}})
    chat.tasks = [Task([], ["messages"])]
    texts = [*worlds._SENTENCES, 'The 三月 a.b warm room 0123456789, [1, "x"] true false A']
    options = {"title": {"length": 64, "unit": "character"}}  # so that a text has but one way to be tokens
    writer = worlds.model({"title": texts}, {"title": "text"}, options=options)
    return {"chat": chat, "writer": writer}


@pytest.fixture(scope="module")
def site(models: dict[str, Model]) -> Iterator[Site]:
    with sites.served(models, positions=300) as running:
        yield running


@pytest.fixture(scope="module")
def client(site: Site) -> OpenAI:
    return OpenAI(base_url=f"{site.url}/v1", api_key="none", max_retries=0)


# -- forms -----------------------------------------------------------------------------------------------------------
def form(schema: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "room", "schema": schema, "strict": True}}


def test_a_chat_answers_in_json(client: OpenAI) -> None:
    for seed in range(3):
        asked: dict[str, Any] = {"model": "chat", "messages": ASKED, "seed": seed, "response_format": form(SCHEMA)}
        choice = client.chat.completions.create(**asked).choices[0]
        answer = json.loads(choice.message.content or "")
        assert answer["word"] in ("warm", "cold") and 0 <= answer["room"] <= 99 and choice.finish_reason == "stop"
        streamed = client.chat.completions.create(**asked, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == choice.message.content
    [cut] = client.chat.completions.create(**asked, max_tokens=3).choices
    assert cut.finish_reason == "length"


def test_a_class_of_python_is_a_schema(client: OpenAI) -> None:
    class Bed(BaseModel):
        wide: bool

    class Room(BaseModel):
        word: Literal["warm", "三月"]
        beds: list[Bed] = Field(max_length=2)

    parsed = client.chat.completions.parse(model="chat", messages=ASKED, seed=1, response_format=Room)
    assert isinstance(parsed.choices[0].message.parsed, Room)


@pytest.mark.parametrize(
    ("outputs", "pattern"),
    [
        ({"regex": r"room \d{1,2}(, 三月)?"}, r"room \d{1,2}(, 三月)?"),
        ({"choice": ["warm", "三月", "a.b"]}, r"warm|三月|a\.b"),
        ({"json": {"type": "boolean"}}, "true|false"),
        ({"json": '{"const": [1, "x"]}'}, r' ?\[ ?1 ?, ?"x" ?\] ?'),
    ],
)
@pytest.mark.parametrize("route", ["chat", "completions"])
def test_other_forms(client: OpenAI, route: str, outputs: dict[str, Any], pattern: str) -> None:
    extra = {"structured_outputs": outputs}
    if route == "chat":
        choices = client.chat.completions.create(
            model="chat", messages=ASKED, seed=2, n=3, max_tokens=60, extra_body=extra
        ).choices
        texts = [choice.message.content or "" for choice in choices]
    else:
        made = client.completions.create(model="writer", prompt=["The", "A"], seed=2, max_tokens=50, extra_body=extra)
        texts = [choice.text for choice in made.choices]
    for text in texts:
        assert re.fullmatch(pattern, text), text


def test_any_text_and_any_object(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "chat", "messages": ASKED, "seed": 3, "max_tokens": 40}
    free = client.chat.completions.create(**asked).choices[0].message.content
    text = client.chat.completions.create(**asked, response_format={"type": "text"}).choices[0].message.content
    assert text == free
    some = client.chat.completions.create(**asked, response_format={"type": "json_object"}).choices[0]
    assert (some.message.content or "").startswith("{")
    if some.finish_reason == "stop":
        assert isinstance(json.loads(some.message.content or ""), dict)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"response_format": form({"type": "foo"})}, "no JSON schema"),
        ({"response_format": form({"$ref": "file:///etc/passwd"})}, "no JSON schema"),
        ({"response_format": form({"not": {}})}, "keywords"),
        ({"response_format": form({"enum": []})}, "contradicts itself"),
        ({"response_format": {"type": "json_schema"}}, "json_schema"),
        ({"response_format": {"type": "xml"}}, "'response_format.type'"),
        ({"response_format": {"type": "json_object", "json_schema": {"name": "a", "schema": {}}}}, "without it"),
        ({"structured_outputs": {"regex": "["}}, "no regular expression"),
        ({"structured_outputs": {"regex": "(a{1000}){1000}"}}, "too large"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "found regex and choice"),
        ({"structured_outputs": {}}, "found none"),
        ({"structured_outputs": {"json": "[1]"}}, "as an object"),
        ({"structured_outputs": {"grammar": "root ::= x"}}, "Unknown key 'structured_outputs.grammar'"),
        ({"structured_outputs": {"choice": []}}, "choice"),
        ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "found both"),
        ({"guided_regex": "a"}, "Unknown key 'guided_regex'"),
    ],
)
def test_forms_that_there_are_not(site: Site, client: OpenAI, extra: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="chat", messages=ASKED, max_tokens=4, extra_body=extra)
    assert words in error.value.message and "error:" not in error.value.message.removeprefix("Error code")
    session = site.service.folders.get("chat").lanes.sessions[0]
    until(lambda: not session.busy and session.free_slots == session.slots)


# -- log-probabilities -------------------------------------------------------------------------------------------------
def test_log_probabilities_are_those_of_one_pass_over_the_text(client: OpenAI, models: dict[str, Model]) -> None:
    """Also where the text is held to a form: they are what the model says without it."""
    writer = models["writer"]
    encoder: Any = writer.encoder("title")
    for extra in ({}, {"structured_outputs": {"regex": "[a-z三 ]{8}"}}):
        result = client.completions.create(
            model="writer", prompt="the red", max_tokens=9, seed=4, logprobs=5, extra_body=extra
        )
        text, told = result.choices[0].text, result.choices[0].logprobs
        assert told is not None and told.tokens and told.token_logprobs and told.top_logprobs
        assert "".join(told.tokens) == text and told.text_offset == list(range(len(text)))
        whole = worlds.token_logprobs(writer, "title", "the red" + text)[len("the red") :]
        ids = encoder.tokenizer.encode(text, add_special_tokens=False).ids
        for i, (token, logprob, top) in enumerate(zip(ids, told.token_logprobs, told.top_logprobs, strict=True)):
            assert logprob == pytest.approx(float(whole[i, token]), rel=1e-3)
            likeliest = zip(*(each.tolist() for each in whole[i].topk(5)), strict=True)
            assert top == pytest.approx({encoder.decode([i]): value for value, i in likeliest}, rel=1e-3)


@pytest.mark.parametrize("stop", [None, "e"])
def test_a_stream_tells_of_each_token_once(client: OpenAI, stop: str | None) -> None:
    asked: dict[str, Any] = {"model": "chat", "messages": ASKED, "seed": 5, "max_tokens": 24, "logprobs": True}
    asked |= {"n": 2, "top_logprobs": 3} | ({"stop": stop} if stop else {})
    whole = client.chat.completions.create(**asked)
    content: list[list[Any]] = [[], []]
    texts = ["", ""]
    for chunk in client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            content[choice.index] += choice.logprobs.content if choice.logprobs and choice.logprobs.content else []
            texts[choice.index] += choice.delta.content or ""
    for choice, streamed, text in zip(whole.choices, content, texts, strict=True):
        assert choice.logprobs is not None and choice.logprobs.content is not None
        assert streamed == choice.logprobs.content and text == choice.message.content
        spelt = b"".join(bytes(token.bytes or []) for token in streamed)
        assert spelt.decode(errors="replace").startswith(text)
        for token in streamed:
            assert len(token.top_logprobs) == 3 and token.top_logprobs[0].logprob >= token.logprob - 1e-6
            assert bytes(token.bytes or []).decode(errors="replace") == token.token
            values = [each.logprob for each in token.top_logprobs]
            assert values == sorted(values, reverse=True)


def test_a_streamed_completion_tells_of_tokens_too(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "writer", "prompt": "今天", "seed": 1, "max_tokens": 30, "logprobs": 0}
    whole = client.completions.create(**asked).choices[0].logprobs
    pieces = [c.choices[0].logprobs for c in client.completions.create(**asked, stream=True)]
    assert whole is not None and whole.top_logprobs is None and whole.tokens
    for name in ("tokens", "token_logprobs", "text_offset"):
        told = [value for piece in pieces if piece is not None for value in getattr(piece, name)]
        assert told == getattr(whole, name)


@pytest.mark.parametrize(
    ("extra", "words"),
    [({"top_logprobs": 3}, "logprobs: true"), ({"logprobs": True, "top_logprobs": 21}, "top_logprobs")],
)
def test_log_probabilities_that_there_are_not(client: OpenAI, extra: Any, words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        client.chat.completions.create(model="chat", messages=ASKED, **extra)


# -- beginnings --------------------------------------------------------------------------------------------------------
def test_a_long_beginning_is_read_once(site: Site, client: OpenAI) -> None:
    def counted(name: str) -> float:
        text = site.ask("/metrics").body.decode()
        return float(re.findall(rf"^onetrunk_prefix_{name} (\S+)$", text, re.MULTILINE)[0])

    long: Any = [{"role": "user", "content": "Is room 3 warm? " * 24}]
    asked: dict[str, Any] = {"model": "chat", "messages": long, "seed": 6, "max_tokens": 12, "logprobs": True}
    before = counted("reused_tokens_total")
    first, second = (client.chat.completions.create(**asked) for _ in range(2))
    cached = [
        r.usage.prompt_tokens_details.cached_tokens
        for r in (first, second)
        if r.usage and r.usage.prompt_tokens_details
    ]
    assert cached[0] == 0 and cached[1] >= 64 and counted("reused_tokens_total") - before == cached[1]
    assert first.choices == second.choices, "to the bit"
    assert counted("bytes") > 0 and counted("read_tokens_total") >= cached[1]
