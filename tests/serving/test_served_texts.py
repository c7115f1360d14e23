"""Texts, vectors, pictures and sounds through the client that people have."""

from __future__ import annotations

import base64
import http.client
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
import sites
import soundfile
import torch
import worlds
from openai import OpenAI
from PIL import Image
from sites import Site, until

from onetrunk.core.answer import Sampling
from onetrunk.data.table import Table
from onetrunk.inference.embeddings import embed_rows
from onetrunk.inference.model_folder import Model, Task
from onetrunk.inference.session import Session
from onetrunk.nn.heads.categorical import choose
from onetrunk.serving.growing_text import GrowingText

CHATS = [
    [{"role": "user", "content": f"Is room {i} warm?"}, {"role": "assistant", "content": f"Room {i} is {word}. 三月"}]
    for i, word in enumerate(["warm", "cold", "clean", "loud"] * 3)
]
ASKED = [{"role": "user", "content": "Is room 3 warm?"}]


def made(table: dict[str, Any], types: dict[str, str], tasks: list[Task], **options: Any) -> Model:
    torch.manual_seed(0)
    model = worlds.model(table, types, options=options)
    model.tasks = tasks
    return model


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    titles = worlds._SENTENCES
    return {
        "chat": made({"messages": CHATS}, {"messages": "text"}, [Task([], ["messages"])], messages={"length": 64}),
        "writer": made({"title": titles}, {"title": "text"}, [], title={"length": 64}),
        "painter": made(
            {"caption": titles, "picture": [worlds._drawing(i) for i in range(12)]},
            {"caption": "text", "picture": "image"},
            [Task(["caption"], ["picture"])],
        ),
        "speaker": made(
            {"said": titles, "voice": ["ann", "bob"] * 6, "sound": [worlds.sound(i) for i in range(12)]},
            {"said": "text", "voice": "category", "sound": "audio"},
            [Task(["said", "voice"], ["sound"]), Task(["sound"], ["said"])],
            sound={"bands": 8, "stem": 2, "length": 12},
        ),
    }


@pytest.fixture(scope="module")
def site(models: dict[str, Model]) -> Iterator[Site]:
    with sites.served(models, positions=128) as running:
        yield running


@pytest.fixture(scope="module")
def client(site: Site) -> OpenAI:
    return OpenAI(base_url=f"{site.url}/v1", api_key="none", max_retries=0)


# -- chats -----------------------------------------------------------------------------------------------------------
def test_a_chat_is_what_the_model_answers(client: OpenAI, models: dict[str, Model]) -> None:
    result = client.chat.completions.create(model="chat", messages=ASKED, temperature=0, max_tokens=12, logprobs=True)
    [expected] = models["chat"].answer({"messages": [ASKED]}, "messages", [], Sampling(max_length=12))
    choice = result.choices[0]
    assert choice.message.role == "assistant" and choice.message.content == expected.value
    assert choice.finish_reason == "length" and result.object == "chat.completion"
    tokens = choice.logprobs.content
    assert sum(token.logprob for token in tokens) == pytest.approx(expected.logprob, rel=1e-4)
    assert result.usage.completion_tokens == len(tokens) == 12 and result.usage.prompt_tokens > 5


def test_a_stream_says_the_same_piece_by_piece(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "chat", "messages": ASKED, "seed": 5, "max_tokens": 30, "n": 2}
    whole = client.chat.completions.create(**asked)
    texts, reasons, usage, pieces = ["", ""], ["", ""], None, 0
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        assert chunk.object == "chat.completion.chunk" and chunk.model == "chat"
        usage = chunk.usage or usage
        for choice in chunk.choices:
            pieces += 1
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [choice.message.content for choice in whole.choices] and texts[0] != texts[1]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert usage == whole.usage and pieces > 8


def test_a_seed_is_drawn_where_none_is_told(client: OpenAI) -> None:
    result = {client.chat.completions.create(model="chat", messages=ASKED, max_tokens=20).choices[0].message.content
             for _ in range(4)}  # fmt: skip
    assert len(result) > 1


def test_a_stop_string_ends_a_text_and_is_no_part_of_it(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "chat", "messages": ASKED, "seed": 5, "max_tokens": 30}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    stop = whole[len(whole) // 2 :][:2]
    expected = whole[: whole.index(stop)]
    result = client.chat.completions.create(**asked, stop=["never there", stop])
    assert result.choices[0].message.content == expected and result.choices[0].finish_reason == "stop"
    assert result.usage.completion_tokens < 30, "it was not written on"
    streamed = list(client.chat.completions.create(**asked, stop=stop, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in streamed) == expected
    assert streamed[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"model": "chat", "messages": [{"role": "user", "content": "a " * 200}]}, "64 tokens at most"),
        ({"model": "chat", "messages": [{"role": "user"}]}, "turn 0 of a conversation"),
        ({"model": "chat", "messages": []}, "messages"),
        ({"model": "writer", "messages": ASKED}, "learnt from texts only"),
        ({"model": "painter", "messages": ASKED}, "learnt from texts only"),
        ({"model": "chat", "messages": ASKED, "tools": []}, "Unknown key 'tools'"),
        ({"model": "chat", "messages": ASKED, "stop": [""]}, "stop"),
    ],
)
def test_chats_that_cannot_be_gone_on_with(client: OpenAI, asked: Any, words: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**asked)
    assert words in error.value.message
    if "at most" in words:
        assert error.value.code == "context_length_exceeded"


def test_what_fails_in_a_stream_is_told_in_it(client: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, real = [0], Session.step

    def failing(self: Session) -> Any:
        steps[0] += 1
        if steps[0] < 5:
            return real(self)
        self._waiting, self._rows, self._free = [], {}, list(range(self.slots))
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(Session, "step", failing)
        stream = client.chat.completions.create(model="chat", messages=ASKED, max_tokens=30, stream=True)
        with pytest.raises(openai.APIError, match="not enough memory"):
            list(stream)
    assert client.chat.completions.create(model="chat", messages=ASKED, max_tokens=2).choices


def test_who_leaves_a_stream_frees_its_slot(site: Site, models: dict[str, Model]) -> None:
    with sites.served({"stays": sites.stays_model()}, positions=2048) as other:
        session = next(iter(other.service.folders)).lanes.sessions[0]
        body = {"prompt": "The", "max_tokens": 250, "stream": True, "column": "review", "temperature": 1}
        for _ in range(5):
            connection = http.client.HTTPConnection(other.host, other.port, timeout=30)
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            assert connection.getresponse().read1(10)
            connection.sock.close() if connection.sock else None
            connection.close()
            until(lambda: not session.busy and session.free_slots == session.slots)
        until(lambda: not other.service.engine.rows and not other.service.open)


# -- texts -----------------------------------------------------------------------------------------------------------
def test_completions(client: OpenAI, models: dict[str, Model]) -> None:
    asked: dict[str, Any] = {"model": "writer", "temperature": 0, "max_tokens": 8}
    result = client.completions.create(prompt=["the red", "你好"], **asked)
    expected = models["writer"].answer(
        {"title": ["the red", "你好"]}, "title", [], Sampling(max_length=8), prompted=True
    )
    for choice, prompt, answer in zip(result.choices, ["the red", "你好"], expected, strict=True):
        assert prompt + choice.text == answer.value
    echoed = client.completions.create(prompt="the red", echo=True, logprobs=0, **asked).choices[0]
    assert echoed.text == expected[0].value
    assert sum(echoed.logprobs.token_logprobs) == pytest.approx(expected[0].logprob, rel=1e-4)
    streamed = client.completions.create(prompt="the red", stream=True, **asked)
    assert "".join(c.choices[0].text for c in streamed) == result.choices[0].text


def test_completions_never_split_a_character(client: OpenAI) -> None:
    for seed in range(4):
        asked: dict[str, Any] = {"model": "writer", "prompt": "今天", "seed": seed, "max_tokens": 30}
        whole = client.completions.create(**asked).choices[0].text
        pieces = [c.choices[0].text for c in client.completions.create(**asked, stream=True)]
        assert "".join(pieces) == whole


def test_growing_text_against_the_whole() -> None:
    dice = np.random.default_rng(0)
    for _ in range(300):
        text = "".join(dice.choice(list("abc"), 12))
        stops = ["".join(dice.choice(list("abc"), n)) for n in dice.integers(1, 4, 2)]
        growing, visible, ended = GrowingText(stops), "", False
        for end in range(1, len(text) + 1):
            fresh, ended = growing.grow(text[:end], end == len(text))
            visible += fresh
            if ended:
                break
        ends = [text[:end].find(stop) for end in range(1, 13) for stop in stops if stop in text[:end]]
        assert ended == bool(ends) and visible == (text if not ends else visible)
        if ended:
            first = next(end for end in range(1, 13) if any(stop in text[:end] for stop in stops))
            assert visible == text[: min(text[:first].find(stop) for stop in stops if stop in text[:first])]


def test_min_p_leaves_out_what_is_unlikely() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(400, 4)
    uniform = (torch.arange(400) + 0.5) / 400
    ones, zeros = torch.ones(400), torch.zeros(400, dtype=torch.int64)
    drawn = choose(logits, uniform, ones, zeros, ones, torch.full((400,), 0.5))
    assert drawn.bincount(minlength=4).tolist() == [250, 150, 0, 0]
    assert choose(logits, uniform, ones, zeros, ones, torch.zeros(400)).bincount(minlength=4).tolist() == [
        200,
        120,
        60,
        20,
    ]


# -- vectors ---------------------------------------------------------------------------------------------------------
def test_embeddings(client: OpenAI, site: Site, models: dict[str, Model]) -> None:
    texts = worlds._SENTENCES[:3]
    result = client.embeddings.create(model="writer", input=texts)
    vectors = np.array([each.embedding for each in result.data])
    expected = embed_rows(models["writer"], Table({"title": texts}), ["title"])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert vectors.shape == expected.shape and np.abs(vectors - expected).max() < 1e-5
    as_float = client.embeddings.create(model="writer", input=texts[0], encoding_format="float").data[0].embedding
    assert np.abs(np.array(as_float) - vectors[0]).max() < 1e-5
    assert result.usage.prompt_tokens > 3
    rows = site.ask("/v1/embeddings", {"model": "speaker", "rows": [{"said": "the red boat", "voice": "ann"}]}).json()
    assert np.linalg.norm(rows["data"][0]["embedding"]) == pytest.approx(1, rel=1e-4)
    for wrong in ({"model": "writer", "input": []}, {"model": "writer"}, {"model": "writer", "rows": [{"a": 1}]}):
        assert site.ask("/v1/embeddings", wrong).status == 400


# -- pictures and sounds ---------------------------------------------------------------------------------------------
def test_images(client: OpenAI) -> None:
    result = client.images.generate(model="painter", prompt="the red boat", n=2, extra_body={"steps": 2})
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(each.b64_json)))) for each in result.data]
    assert all(b"<TC260:AIGC>" in base64.b64decode(each.b64_json) for each in result.data), "they say who made them"
    assert [picture.shape for picture in pictures] == [(8, 8)] * 2 and (pictures[0] != pictures[1]).any()
    with pytest.raises(openai.BadRequestError, match="one column of image"):
        client.images.generate(model="writer", prompt="the red boat")


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "pcm"])
def test_speech(client: OpenAI, kind: Any) -> None:
    result = client.audio.speech.create(
        model="speaker", input="two blue birds", voice="bob", response_format=kind, extra_body={"steps": 2}
    ).read()
    if kind == "pcm":
        assert len(result) % 2 == 0 and result
    else:
        samples, rate = soundfile.read(io.BytesIO(result))
        assert rate == 8000 and len(samples) > 80
        assert b'"ContentProducer":"onetrunk"' in result, "it says who made it"


def test_a_voice_that_there_is_not(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="The voices are ann, bob"):
        client.audio.speech.create(model="speaker", input="two blue birds", voice="alloy")


def test_transcriptions(client: OpenAI, models: dict[str, Model]) -> None:
    rate, samples = worlds.sound(3)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    [expected] = models["speaker"].answer({"sound": [file.getvalue()]}, "said", ["sound"], Sampling(max_length=100))
    result = client.audio.transcriptions.create(model="speaker", file=("a.wav", file.getvalue()))
    assert result.text[:80] == expected.value[:80]
    text = client.audio.transcriptions.create(model="speaker", file=("a.wav", file.getvalue()), response_format="text")
    assert str(text).strip() == result.text.strip()
    with pytest.raises(openai.BadRequestError, match="cannot be used"):
        client.audio.transcriptions.create(model="speaker", file=("a.wav", b"no sound"))
    with pytest.raises(openai.BadRequestError, match="does not"):
        client.audio.transcriptions.create(model="writer", file=("a.wav", file.getvalue()))
