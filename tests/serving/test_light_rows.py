"""A few small rows are encoded by the engine, those together that are alike: nobody's answer depends on that."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import sites
from sites import Site, row

from onetrunk.core.answer import Sampling
from onetrunk.inference.model_folder import Model
from onetrunk.serving.engine_thread import Lanes
from onetrunk.serving.folders import Folder
from onetrunk.serving.light_rows import LightRows
from onetrunk.serving.request_errors import RequestError
from onetrunk.serving.request_limits import Limits

LABEL = {"label": Sampling()}


@pytest.fixture(scope="module")
def folder(stays: Model) -> Folder:
    return Folder("stays", stays, Lanes(stays.network, 4, 64), Limits())


def light(folder: Folder, *rows: dict[str, Any], samplings: Any = None, **options: Any) -> LightRows:
    return LightRows(folder, folder.flat(list(rows)), samplings or LABEL, **options)


def test_rows_that_are_alike_share_one_table(folder: Folder) -> None:
    every = [light(folder, row(0)), light(folder, row(1), row(2)), light(folder, row(3))]
    assert len({each.alike for each in every}) == 1 and [each.count for each in every] == [1, 2, 1]
    requests = [request for (request,) in every[0].read(every[1:])]  # type: ignore[misc]
    assert len({id(request.store.contents[0]) for request in requests}) == 1
    assert [request.rows.tolist() for request in requests] == [[0], [1, 2], [3]]
    keys = [(request.rows + request.first_row).tolist() for request in requests]
    assert keys == [[0], [0, 1], [0]], "what is drawn goes by a row's number in its own request"
    assert [each.asked.tokens for each in every] == [  # type: ignore[union-attr]
        folder.ask(folder.table_of(rows), LABEL).tokens for rows in ([row(0)], [row(1), row(2)], [row(3)])
    ]


def test_what_is_not_alike_is_apart(folder: Folder, stays: Model) -> None:
    others = [
        light(folder, {**row(0), "wallet": 1}),
        light(folder, row(0), samplings={"label": Sampling(coverage=0.5)}),
        light(folder, row(0), samplings={"price": Sampling()}),
        light(folder, row(0), given=["review"]),
        light(folder, row(0), prompted=True),
    ]
    keys = {each.alike for each in [light(folder, row(0)), *others]}
    assert len(keys) == 6
    written = [light(folder, row(0), samplings={"review": Sampling()}) for _ in range(2)]
    repeatable = Folder("stays", stays, Lanes(stays.network, 4, 64, repeatable=True), Limits())
    alone = [*written, light(repeatable, row(0)), light(repeatable, row(0))]
    assert len({each.alike for each in alone}) == 4


def test_a_bad_value_is_told_to_whoever_sent_it(folder: Folder) -> None:
    every = [light(folder, {**row(0), "nights": nights}) for nights in (1, "many", 3)]
    every.append(light(folder, {**row(1), "nights": "many"}, max_bad=1.0))
    every.append(light(folder, {**row(1), "guest": {"plan": "new"}}))
    assert every[0].alike == every[1].alike
    first, second, third, fourth, fifth = every[0].read(every[1:])
    assert isinstance(second, RequestError) and "1 of 1 values cannot be used" in second.message
    for result in (first, third, fourth, fifth):
        assert not isinstance(result, Exception) and np.array_equal(result[0].store.index[:, 0], [0])
    notes = [[] if each.asked is None else each.asked.notes for each in every]
    assert notes[0] == notes[2] == [] and "nights" in notes[3][0] and "guest.plan" in notes[4][0]


def test_many_clients_at_once_get_their_own(site: Site) -> None:
    bodies: list[dict[str, Any]] = [{"rows": [row(i % 24)], "ask": ["label", "price"]} for i in range(40)]
    bodies[7]["rows"][0]["nights"] = bodies[23]["rows"][0]["nights"] = "many"
    alone = [site.ask("/v1/predict", body) for body in bodies]
    held = threading.Event()
    site.service.engine.call(lambda: held.wait(30), rows=0)  # so that all come within one tick
    with ThreadPoolExecutor(40) as threads:
        futures = [threads.submit(site.ask, "/v1/predict", body) for body in bodies]
        sites.until(lambda: site.service.open == 40)
        held.set()
        together = [future.result() for future in futures]
    for i, (one, other) in enumerate(zip(alone, together, strict=True)):
        assert one.status == other.status == (400 if i in (7, 23) else 200)
        if one.status == 400:
            assert one.json() == other.json() and "1 of 1 values" in one.json()["error"]["message"]
            continue
        (a,), (b,) = one.json()["answers"], other.json()["answers"]
        assert a["label"]["value"] == b["label"]["value"]
        assert a["label"]["probability"] == pytest.approx(b["label"]["probability"], rel=1e-4)
        assert a["price"]["value"] == pytest.approx(b["price"]["value"], rel=1e-4)
