"""Decisions through the clients that people have: an asked column is a question, and its probabilities are the
model's."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
import sites
import torch
import worlds
from openai import OpenAI
from PIL import Image
from sites import Site, row
from systemone import Choice, Client, Noul, Score, SystemOneError
from typesafe_sdk import Box as TypeSafeBox
from typesafe_sdk import Choice as TypeSafeChoice
from typesafe_sdk import Image as TypeSafeImage
from typesafe_sdk import Noul as TypeSafeNoul
from typesafe_sdk import RetryPolicy, TypeSafeBadRequestError, TypeSafeClient
from typesafe_sdk import Score as TypeSafeScore

from onetrunk.core.calibration import Calibration
from onetrunk.inference.model_folder import Model, Task


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    stays = sites.stays_model()
    torch.manual_seed(1)
    pictures = worlds.model(
        {"picture": [worlds._drawing(i) for i in range(12)], "dark": [bool(i % 2) for i in range(12)]},
        {"picture": "image", "dark": "category"},
    )
    pictures.tasks = [Task(["picture"], ["dark"])]
    return {"stays": stays, "pictures": pictures}


@pytest.fixture(scope="module")
def site(models: dict[str, Model]) -> Iterator[Site]:
    with sites.served(models, key="a-key") as running:
        yield running


@pytest.fixture(scope="module")
def client(site: Site) -> OpenAI:
    return OpenAI(base_url=f"{site.url}/v1", api_key="a-key", max_retries=0)


def probabilities(site: Site, column: str, of: dict[str, Any] | None = None) -> dict[str, float]:
    return site.predict(model="stays", rows=[of or row(0)], ask=column)["answers"][0][column]["probabilities"]


def as_input(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


ROW = {"type": "input_json", "data": row(0)}


def test_models_through_the_client(client: OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert listed.keys() == {"stays", "pictures"}
    stays = client.models.retrieve("stays")
    assert stays.object == "model" and stays.model_extra is not None
    assert {column["name"]: column["type"] for column in stays.model_extra["columns"]} == sites.TYPES
    assert stays.model_extra["questions"]["label"] == ["predicate", "choice", "score"]
    assert stays.model_extra["questions"]["price"] == ["score"]
    with pytest.raises(openai.NotFoundError, match="Did you mean 'stays'"):
        client.models.retrieve("stay")


def test_every_kind_of_question(client: OpenAI, site: Site) -> None:
    decision = client.decisions.create(
        model="stays",
        input=as_input(ROW),
        questions=[
            {"type": "choice", "name": "label", "instructions": "?", "choices": [{"value": "good"}, {"value": "bad"}]},
            {"type": "predicate", "name": "label=good", "instructions": "Was it good?"},
            {"type": "score", "name": "stars", "instructions": "?", "levels": [{"label": str(i)} for i in range(1, 6)]},
        ],
    )
    choice, predicate, score = decision.answers
    label, stars = probabilities(site, "label"), probabilities(site, "stars")
    assert choice.type == "choice" and choice.name == "label" and choice.choice == max(label, key=label.__getitem__)
    assert {each.value: each.probability for each in choice.probabilities} == pytest.approx(label, rel=1e-4)
    assert choice.confidence == pytest.approx(max(label.values()), rel=1e-4)
    assert predicate.type == "predicate" and predicate.probability == pytest.approx(label["good"], rel=1e-4)
    assert score.type == "score" and [each.value for each in score.probabilities] == [0, 1, 2, 3, 4]
    assert score.score == pytest.approx(sum((int(name) - 1) * p for name, p in stars.items()), rel=1e-4)
    assert decision.model == "stays" and decision.usage.total_tokens == decision.usage.input_tokens + 3


def test_some_of_the_classes_share_what_they_have(client: OpenAI, site: Site) -> None:
    stars = probabilities(site, "stars")

    def asked(*options: str) -> dict[str, float]:
        question = {"type": "choice", "name": "stars", "instructions": "", "choices": [{"value": v} for v in options]}
        answer = client.decisions.create(model="stays", input=as_input(ROW), questions=[question]).answers[0]
        return {each.value: each.probability for each in answer.probabilities}

    result = asked("2", "5")
    assert result == pytest.approx({name: stars[name] / (stars["2"] + stars["5"]) for name in ("2", "5")}, rel=1e-4)
    assert asked("5", "2") == pytest.approx(result, rel=1e-6), "in any order"


def test_a_number_is_scored_at_the_nearest_level(client: OpenAI, site: Site, models: dict[str, Model]) -> None:
    levels = [100.0, 300.0, 500.0]
    question = {"type": "score", "name": "price", "instructions": "", "levels": [{"label": str(v)} for v in levels]}
    answer = client.decisions.create(model="stays", input=as_input(ROW), questions=[question]).answers[0]
    drawn: list[float] = []  # an independent way to the same shares: draws from the distribution
    for seed in range(40):
        body = {"model": "stays", "rows": [row(0)], "ask": "price", "temperature": 1.0, "seed": seed}
        drawn += site.predict(**body)["answers"][0]["price"]["samples"]
    nearest = np.abs(np.array(drawn)[:, None] - levels).argmin(1)
    shares = np.bincount(nearest, minlength=3) / len(drawn)
    result = [each.probability for each in answer.probabilities]
    assert sum(result) == pytest.approx(1) and np.abs(result - shares).max() < 4 * np.sqrt(0.25 / len(drawn))


def test_calibration_reaches_the_answers(models: dict[str, Model], site: Site) -> None:
    module = models["stays"].module("label")
    before = probabilities(site, "label")
    module.calibration = Calibration(100, "validation rows", temperature=4.0)
    try:
        after = probabilities(site, "label")
    finally:
        module.calibration = None
    logit = {name: np.log(p) / 4 for name, p in before.items()}
    total = sum(np.exp(v) for v in logit.values())
    assert after == pytest.approx({name: np.exp(v) / total for name, v in logit.items()}, rel=1e-4)


def test_text_goes_to_the_text_column(client: OpenAI, site: Site) -> None:
    question = {"type": "predicate", "name": "label=good", "instructions": ""}
    expected = probabilities(site, "label", {"review": "The room was warm."})["good"]
    for message in (
        "The room was warm.",
        [{"role": "user", "content": "The room was warm."}],
        as_input({"type": "input_text", "text": "The room was warm."}),
    ):
        answer = client.decisions.create(model="stays", input=message, questions=[question]).answers[0]
        assert answer.probability == pytest.approx(expected, rel=1e-4)


def picture(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), level).save(file, "PNG")
    return file.getvalue()


def test_pictures_go_to_the_picture_column_and_truth_values_are_typed(client: OpenAI, site: Site) -> None:
    url = f"data:image/png;base64,{base64.b64encode(picture(20)).decode()}"
    expected = site.predict(model="pictures", rows=[{"picture": url}])["answers"][0]["dark"]["probabilities"]
    decision = client.decisions.create(
        model="pictures",
        input=as_input({"type": "input_image", "image_url": url}),
        questions=[
            {"type": "predicate", "instructions": "Is it dark?"},
            {"type": "choice", "instructions": "", "choices": [{"value": True}, {"value": False}]},
        ],
    )
    predicate, choice = decision.answers
    assert predicate.name is None and predicate.probability == pytest.approx(expected["True"], rel=1e-4)
    assert {each.value: each.probability for each in choice.probabilities} == pytest.approx(
        {True: expected["True"], False: expected["False"]}, rel=1e-4
    )
    assert choice.choice is (expected["True"] > 0.5)


LABEL = {"type": "choice", "name": "label", "instructions": "", "choices": [{"value": "good"}, {"value": "bad"}]}


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({**LABEL, "choices": [{"value": "good"}, {"value": "awful"}]}, "no class of 'label'. They are bad, good"),
        ({**LABEL, "choices": [{"value": "good"}, {"value": "good"}]}, "two options are equal"),
        ({**LABEL, "choices": [{"value": "good"}]}, "expected 2 to 255 options, found 1"),
        ({**LABEL, "name": "labl"}, "Did you mean 'label'?"),
        ({**LABEL, "name": "price"}, "'price' is no choice; it answers score"),
        ({"type": "predicate", "name": "label", "instructions": ""}, "label=bad or label=good"),
        ({"type": "predicate", "name": "label=awful", "instructions": ""}, "no class of 'label'"),
        ({"type": "score", "name": "price", "levels": [{"label": "2"}, {"label": "1"}]}, "should rise"),
        ({"type": "score", "name": "price", "instructions": "", "levels": [{"label": "a"}, {"label": "b"}]}, "'a'"),
        ({"type": "essay", "instructions": ""}, "questions"),
    ],
)  # fmt: skip
def test_questions_that_cannot_be_answered(client: OpenAI, question: Any, words: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.decisions.create(model="stays", input=as_input(ROW), questions=[question])
    assert words in error.value.message


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (as_input({"type": "input_json", "data": {"wallet": 1}}), "none of the columns review, nights, guest.plan"),
        (as_input(ROW, ROW), "stands in it twice"),
        (as_input({"type": "input_image", "image_url": "http://example.org/a.png"}), "no column for it"),
        (as_input({"type": "input_json", "data": {"nights": "many"}}), "nights"),
        (as_input(ROW, {"type": "input_text", "text": "More."}), "no column for it"),
        (as_input(), "nothing is said"),
        ([{"type": "function_call", "name": "f", "call_id": "1", "arguments": "{}"}], "found 'function_call'"),
        ([{"role": "assistant", "content": "Hello"}], "reads messages of the user"),
    ],
)
def test_inputs_that_cannot_be_read(client: OpenAI, message: Any, words: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.decisions.create(model="stays", input=message, questions=[LABEL])
    assert words in error.value.message


def test_what_is_not_read_is_said(client: OpenAI) -> None:
    messages = [{"role": "developer", "content": "Be kind."}, *as_input(ROW)]
    decision = client.decisions.create(model="stays", input=messages, questions=[LABEL])
    assert "not read" in decision.model_extra["notes"][0]


def test_a_wrong_key_and_a_wrong_model(site: Site, client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        OpenAI(base_url=f"{site.url}/v1", api_key="another", max_retries=0).models.list()
    with pytest.raises(openai.NotFoundError, match="There is no model 'gpt-6-luna'"):
        client.decisions.create(model="gpt-6-luna", input="x", questions=[LABEL])


# -- System One ------------------------------------------------------------------------------------------------------
def test_systemone_client(site: Site) -> None:
    label, stars = probabilities(site, "label"), probabilities(site, "stars")
    with Client(site.url, api_key="a-key", model="stays") as client:
        result = client.system_one(
            state=row(0),
            questions={
                "label": Choice("Good or bad?", {"good": None, "bad": "Not good"}),
                "label=bad": Noul("Was it bad?"),
                "stars": Score("How many stars?", ["1", "2", "3", "4", "5"]),
            },
        )
        assert result.choices["label"].probabilities == pytest.approx(label, rel=1e-4)
        assert result.nouls["label=bad"].noul == pytest.approx(label["bad"], rel=1e-4)
        assert result.scores["stars"].probabilities == pytest.approx(
            {str(int(name) - 1): p for name, p in stars.items()}, rel=1e-4
        )
        assert result.scores["stars"].legend["4"] == "5" and result.latency_ms > 0 and result.usage.input_tokens > 0
        described = client.system_one(row(0), {"stars": Score("", ["awful", "poor", "fair", "fine", "lovely"])})
        assert described.scores["stars"].score == pytest.approx(result.scores["stars"].score, rel=1e-4)
        with pytest.raises(SystemOneError, match=r"HTTP 400.*no class of 'label'"):
            client.system_one(row(0), {"label": Choice("", {"good": None, "awful": None})})


def test_typesafe_client(site: Site) -> None:
    label = probabilities(site, "label")
    with TypeSafeClient(api_key="a-key", model="stays", base_url=site.url, retry=RetryPolicy(max_retries=0)) as client:
        assert {model.name for model in client.models.list().models} == {"stays", "pictures"}
        result = client.system_one(
            state=row(0),
            questions={
                "label": TypeSafeChoice(instructions="Good or bad?", criteria={"good": None, "bad": None}),
                "label=good": TypeSafeNoul(instructions="Was it good?"),
                "price": TypeSafeScore(instructions="What did it cost?", criteria=["100", "300", "500"]),
            },
        )
        assert result.choices["label"].probabilities == pytest.approx(label, rel=1e-4)
        assert result.nouls["label=good"].noul == pytest.approx(label["good"], rel=1e-4)
        assert sum(result.scores["price"].probabilities.values()) == pytest.approx(1)
        assert result.scores["price"].legend == {0: "100", 1: "300", 2: "500"}
        with pytest.raises(TypeSafeBadRequestError, match="does not know which column"):
            client.system_one(row(0), {"mood": TypeSafeChoice(criteria={"good": None, "bad": None})})


def test_pictures_of_system_one(site: Site) -> None:
    data = base64.b64encode(picture(20)).decode()
    expected = site.predict(model="pictures", rows=[{"picture": data}])["answers"][0]["dark"]["probabilities"]["True"]
    for state in ("photo", {"picture": "photo"}):
        body = {"model": "pictures", "state": state, "questions": {"dark": {"type": "noul", "instructions": "?"}},
                "assets": {"photo": {"type": "image", "format": "png", "data_base64": data}}}  # fmt: skip
        assert site.ask("/v1/systemone", body).json()["answers"]["dark"]["noul"] == pytest.approx(expected, rel=1e-4)


def test_pictures_come_as_parts_of_a_form(site: Site) -> None:
    """As typesafe-sdk sends them: as the state, in a list with a row, and as a column's value; one of a path too."""
    one, other = picture(20), picture(200)
    expected = [
        row["dark"]["probabilities"]["True"]
        for row in site.predict(
            model="pictures", rows=[{"picture": base64.b64encode(each).decode()} for each in (one, other)]
        )["answers"]
    ]
    question = {"dark": TypeSafeNoul(instructions="Is it dark?")}
    with TypeSafeClient(
        api_key="a-key", model="pictures", base_url=site.url, retry=RetryPolicy(max_retries=0)
    ) as client:
        image = TypeSafeImage(one)
        for state in (image, [image], {"picture": image}):
            assert client.system_one(state, question).nouls["dark"].noul == pytest.approx(expected[0], rel=1e-4)
        named = client.system_one({"picture": "photo"}, question, assets={"photo": TypeSafeImage(other)})
        assert named.nouls["dark"].noul == pytest.approx(expected[1], rel=1e-4)
        with client.attach_assets(image), pytest.raises(TypeSafeBadRequestError, match="In the middle of a text"):
            client.system_one(f"What is {image}?", question)
        with pytest.raises(TypeSafeBadRequestError, match="picture"):
            client.system_one({"picture": TypeSafeImage(b"no picture at all, but some bytes")}, question)


@pytest.mark.parametrize(
    ("assets", "files", "words"),
    [
        ({"a": {"part": "x"}}, {}, "no part 'x'"),
        ({"a": {"part": "x"}, "b": {"part": "x"}}, {"x": b"1"}, "for it alone"),
        ({"a": {"type": "image"}}, {}, "expected data_base64"),
        (None, {"x": b"1"}, "No asset names the form's part 'x'"),
        ({"a": {"part": "x"}}, {"x": b"1"}, "no value of the state"),
    ],
)
def test_forms_whose_parts_do_not_fit(site: Site, assets: Any, files: dict[str, bytes], words: str) -> None:
    body = {"model": "pictures", "state": {"picture": "b"}, "questions": {"dark": {"type": "noul"}}, "assets": assets}
    parts = [('name="request"', json.dumps(body).encode())]
    parts += [(f'name="{name}"; filename="{name}"', data) for name, data in files.items()]
    head = b"--x\r\nContent-Disposition: form-data; "
    raw = b"".join(head + name.encode() + b"\r\n\r\n" + data + b"\r\n" for name, data in parts)
    reply = site.ask("/v1/systemone", raw + b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"})
    assert reply.status == 400 and words in reply.json()["error"]["message"]
    for other in (b"", b"--x--\r\n", raw[:40]):
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        assert site.ask("/v1/systemone", other, kind).status == 400


def test_places_in_pictures() -> None:
    """A box, as typesafe-sdk asks for it, against what /v1/predict finds, in pixels."""
    case = worlds.CASES["boxes"]
    name, scenes = case.on
    options = {"found": {**case.options, "on": name}}
    made = worlds.model({name: scenes, "found": case.values}, {name: "image", "found": "boxes"}, options=options)
    made.tasks = [Task([name], ["found"])]
    file = io.BytesIO()
    Image.fromarray(scenes[0]).save(file, "PNG")
    height, width = scenes[0].shape[:2]
    with sites.served({"scenes": made}) as site:
        [answer] = site.predict(rows=[{name: base64.b64encode(file.getvalue()).decode()}])["answers"]
        found = answer["found"]["value"]
        assert len({each["label"] for each in found}) > 1
        with TypeSafeClient(api_key="k", model="scenes", base_url=site.url, retry=RetryPolicy(max_retries=0)) as client:
            for label in dict.fromkeys(each["label"] for each in found):
                best = next(each for each in found if each["label"] == label)
                for question in ({f"found={label}": TypeSafeBox()}, {"it": TypeSafeBox(instructions=label.upper())}):
                    [box] = client.system_one(TypeSafeImage(file.getvalue()), question).boxes.values()
                    x, y, w, h = best["box"]
                    edges = [box.box.left, box.box.top, box.box.right, box.box.bottom]
                    expected = np.clip([x / width, y / height, (x + w) / width, (y + h) / height], 0, 1)
                    assert edges == pytest.approx(expected.tolist(), abs=1e-3)
                    assert box.confidence == pytest.approx(best["score"], abs=1e-3)
            [any_] = client.system_one(TypeSafeImage(file.getvalue()), {"found": TypeSafeBox()}).boxes.values()
            assert any_.confidence == pytest.approx(found[0]["score"], abs=1e-3)
            for question, words in (
                ({"found=zebra": TypeSafeBox()}, "no class of 'found'"),
                ({"found": TypeSafeNoul(instructions="?")}, "it answers box"),
            ):
                with pytest.raises(TypeSafeBadRequestError, match=words):
                    client.system_one(TypeSafeImage(file.getvalue()), question)


def test_compressed_bodies_unpack_within_bounds(site: Site) -> None:
    import gzip

    import pyarrow as pa

    body = b'{"model": "stays", "state": {"nights": 3}, "questions": {"label=good": {"type": "noul"}}}'
    for encoding, raw in (("gzip", gzip.compress(body)), ("zstd", pa.compress(body, "zstd", asbytes=True))):
        assert site.ask("/v1/systemone", raw, {"Content-Encoding": encoding}).status == 200
    assert site.ask("/v1/systemone", gzip.compress(b" " * (40 << 20)), {"Content-Encoding": "gzip"}).status == 413
    assert site.ask("/v1/systemone", body, {"Content-Encoding": "gzip"}).status == 400
    assert site.ask("/v1/systemone", body, {"Content-Encoding": "br"}).status == 415
