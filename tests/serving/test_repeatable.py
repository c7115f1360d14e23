"""`--repeatable`: a row's answer is the same to the last bit alone and among others, whatever arrives meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sites
import worlds
from sites import Site, row

from onetrunk.inference.model_folder import Model, Task
from onetrunk.training.wide import fit_wide, wide_rows


@pytest.fixture(scope="module")
def model() -> Model:
    return sites.stays_model()


@pytest.fixture(scope="module")
def site(model: Model) -> Iterator[Site]:
    with sites.served({"stays": model}, repeatable=True) as running:
        yield running


def rows() -> list[dict[str, Any]]:
    """32 rows of many lengths."""
    return [{**row(i % 24), "review": "warm and quiet " * (1 + i % 9), "nights": i} for i in range(32)]


@pytest.mark.parametrize(
    "asked", [{"ask": ["label", "price", "stars"]}, {"ask": "review", "temperature": 1.0, "seed": 3, "max_length": 9}]
)
def test_bits_do_not_depend_on_others(site: Site, asked: dict[str, Any]) -> None:
    alone = [site.predict(rows=[each], **asked)["answers"][0] for each in rows()]
    assert site.predict(rows=rows(), **asked)["answers"] == alone
    assert site.predict(rows=rows()[::-1], **asked)["answers"] == alone[::-1]
    found: list[Any] = [None] * 32

    def client(i: int) -> None:
        found[i] = site.predict(rows=[rows()[i]], **asked)["answers"][0]

    threads = [threading.Thread(target=client, args=(i,)) for i in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def test_beams_and_more_rows_than_lanes(site: Site) -> None:
    asked = {"ask": "review", "beams": 3, "max_length": 4}
    some = [rows()[i % 32] for i in range(70)]
    assert site.predict(rows=some, **asked)["answers"][-1] == site.predict(rows=some[-1:], **asked)["answers"][0]


def test_wide_read_outs_are_computed_alone_too() -> None:
    table = {"x": [float(i % 7) for i in range(60)], "y": [float(i % 5) for i in range(60)]}
    table["label"] = ["odd" if (i % 7 + i % 5) % 2 else "even" for i in range(60)]  # type: ignore[assignment]
    made = worlds.model(table, {"x": "number", "y": "number", "label": "category"})
    store = worlds.store_of(made, table)
    fitted = fit_wide(wide_rows(store, ["x", "y"], "label", np.arange(60)))
    made.network.add_wide("label", fitted.readout)
    made.tasks = [Task(["x", "y"], ["label"])]
    rows = [{"x": table["x"][i] + i / 9, "y": table["y"][i]} for i in range(32)]
    with sites.served({"wide": made}, repeatable=True) as site:
        alone = [site.predict(rows=[each])["answers"][0] for each in rows]
        assert site.predict(rows=rows)["answers"] == alone
