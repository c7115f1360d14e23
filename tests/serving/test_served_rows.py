"""`/v1/predict` gives the answers that the model gives in Python, however rows are sent and whoever asks beside."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sites
import torch
import worlds
from PIL import Image
from sites import Site, row

from onetrunk.core.answer import Sampling
from onetrunk.inference.model_folder import Model, Task
from onetrunk.media.limits import MediaLimits
from onetrunk.media.marking import Mark
from onetrunk.serving.answer_json import answer_json
from onetrunk.serving.request_limits import Limits

ARROW = "application/vnd.apache.arrow.stream"


def flat(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {
        "review": [each["review"] for each in rows],
        "nights": [each["nights"] for each in rows],
        "guest.plan": [each["guest"]["plan"] for each in rows],
    }


def alike(result: Any, expected: Any) -> None:
    """Numbers to one part in 10,000: others in the batch change their last bits."""
    assert type(result) is type(expected)
    if isinstance(result, dict):
        assert result.keys() == expected.keys()
        for key in result:
            alike(result[key], expected[key])
    elif isinstance(result, list):
        for a, b in zip(result, expected, strict=True):
            alike(a, b)
    elif isinstance(result, float):
        assert result == pytest.approx(expected, rel=1e-4, abs=1e-6)
    else:
        assert result == expected


@pytest.mark.parametrize("ask", ["label", "stars", "price", "arrived", "review"])
def test_answers_are_those_of_python(site: Site, stays: Model, ask: str) -> None:
    rows = [row(i) for i in range(5)]
    if ask == "review":
        rows = [{name: value for name, value in each.items() if name != "review"} | {"review": None} for each in rows]
    task = stays.task([ask])
    answers = site.predict(rows=rows, ask=ask, max_length=6)
    expected, mark = stays.answer(flat(rows), ask, task.given, Sampling(max_length=6)), Mark.of(None, "stays")
    alike([each[ask] for each in answers["answers"]], [answer_json(a, stays.encoder(ask), mark) for a in expected])


def test_several_columns_at_once_and_the_task_by_default(site: Site) -> None:
    answers = site.predict(rows=[row(0), row(1)], ask=["stars", "price"])
    assert [set(each) for each in answers["answers"]] == [{"stars", "price"}] * 2
    assert set(site.predict(model="stays", rows=[row(0)])["answers"][0]) == {"label"}
    assert site.predict(rows=[])["answers"] == []


def test_what_is_missing_is_said(site: Site) -> None:
    notes = " ".join(site.predict(rows=[{"nights": 3, "wallet": 1}])["notes"])
    assert "lack review, guest.plan" in notes and "does not know wallet" in notes
    reply = site.ask("/v1/predict", {"rows": [{"wallet": 1}]})
    assert (
        reply.status == 400
        and "none of the columns review, nights, guest.plan; found wallet" in reply.json()["error"]["message"]
    )


def test_thirty_clients_get_the_answers_that_each_gets_alone(site: Site) -> None:
    asks = [("label",), ("stars", "price"), ("review",)]
    bodies = [{"rows": [row(i % 24), row((5 * i) % 24)], "ask": list(asks[i % 3]), "max_length": 8} for i in range(30)]
    alone = [site.predict(**body) for body in bodies]
    together: list[Any] = [None] * len(bodies)

    def client(i: int) -> None:
        together[i] = site.predict(**bodies[i])

    threads = [threading.Thread(target=client, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alike(together, alone)


def test_a_seed_draws_the_same_again_and_another_seed_something_else(site: Site) -> None:
    body = {"rows": [row(0)], "ask": "review", "temperature": 1.0, "max_length": 12}
    first, again, other = (site.predict(**body, seed=seed)["answers"] for seed in (1, 1, 2))
    assert first == again != other


# -- Arrow -----------------------------------------------------------------------------------------------------------
def stream(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def test_arrow_in_and_out(site: Site) -> None:
    rows = [row(i) for i in range(6)]
    reply = site.ask(
        "/v1/predict?model=stays&ask=label&ask=price",
        stream(pa.table(flat(rows))),
        {"Content-Type": ARROW, "Accept": ARROW},
    )
    assert reply.status == 200 and reply.headers["content-type"] == ARROW
    opened = pa.ipc.open_stream(reply.body).read_all().to_pydict()
    expected = site.predict(rows=rows, ask=["label", "price"])["answers"]
    assert opened["label"] == [each["label"]["value"] for each in expected]
    assert opened["price"] == pytest.approx([each["price"]["value"] for each in expected], rel=1e-4)
    assert opened["label_p_good"] == pytest.approx(
        [each["label"]["probabilities"]["good"] for each in expected], rel=1e-4
    )


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"ARROW", "not a whole Arrow stream"),
        (stream(pa.table({"nights": [1]}))[:200], "not a whole Arrow stream"),
        (stream(pa.table({"review": ["a" * 100_000]}), compression="zstd"), "is compressed"),
        (stream(pa.table({"review": pa.array(["a"]).dictionary_encode()})), "has the Arrow type dictionary"),
        (stream(pa.table({"x": pa.nulls(100_000)})), "More than 4,096 rows"),
    ],
)
def test_arrow_that_lies_is_refused(site: Site, raw: bytes, words: str) -> None:
    reply = site.ask("/v1/predict", raw, {"Content-Type": ARROW})
    assert reply.status == 400 and words in reply.body.decode()


def test_changed_bytes_of_a_stream_never_break_the_server(site: Site) -> None:
    raw = stream(pa.table(flat([row(i) for i in range(3)])))
    dice = np.random.default_rng(0)
    for _ in range(60):
        changed = bytearray(raw)
        for at in dice.integers(0, len(raw), 3):
            changed[at] = dice.integers(256)
        assert site.ask("/v1/predict", bytes(changed), {"Content-Type": ARROW}).status in (200, 400)


# -- files -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pictures() -> Iterator[Site]:
    torch.manual_seed(0)
    made = worlds.model(
        {"picture": [worlds._drawing(i) for i in range(12)], "label": ["dark", "light"] * 6},
        {"picture": "image", "label": "category"},
    )
    made.tasks = [Task(["picture"], ["label"]), Task(["label"], ["picture"])]
    with sites.served({"pictures": made}, limits=Limits(media=MediaLimits(pixels=10_000))) as running:
        yield running


def png(size: tuple[int, int] = (8, 8)) -> str:
    file = io.BytesIO()
    Image.new("L", size, 100).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_pictures_come_and_go_as_data_urls(pictures: Site) -> None:
    as_url = pictures.predict(rows=[{"picture": f"data:image/png;base64,{png()}"}])
    assert as_url["answers"] == pictures.predict(rows=[{"picture": png()}])["answers"]
    made = pictures.predict(rows=[{"label": "dark"}], ask="picture", steps=2)["answers"][0]["picture"]["value"]
    assert Image.open(io.BytesIO(base64.b64decode(made.removeprefix("data:image/png;base64,")))).size == (8, 8)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("/etc/passwd", "expected a file as base64"),
        ("etcpasswd123", "cannot be used"),
        ({"path": "/etc/passwd"}, "expected a file"),
        ([[1, 2], [3, 4]], "expected a file"),
        ("http://169.254.169.254/", "fetches nothing"),
        ("file:///etc/passwd", "fetches nothing"),
        ("data:audio/wav;base64,AAAA", "expected image, found a data URL of audio"),
        (png((200, 100)), "200 × 100 pixels; at most 10,000"),
    ],
)
def test_no_path_and_no_address_is_ever_opened(pictures: Site, value: Any, words: str) -> None:
    reply = pictures.ask("/v1/predict", {"rows": [{"picture": value}]})
    assert reply.status == 400 and words in reply.json()["error"]["message"]


def test_a_path_in_an_arrow_stream_is_not_opened_either(pictures: Site) -> None:
    reply = pictures.ask("/v1/predict", stream(pa.table({"picture": ["/etc/passwd"]})), {"Content-Type": ARROW})
    assert reply.status == 400 and "expected a file's bytes" in reply.json()["error"]["message"]
