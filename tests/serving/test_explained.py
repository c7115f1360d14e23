"""`/v1/explain` says what `onetrunk explain` says, and refuses what a server should not do."""

from __future__ import annotations

from typing import Any

import pytest
from sites import Site, row

from onetrunk.data.table import Table
from onetrunk.explanation.method import Settings
from onetrunk.inference.model_folder import Model
from onetrunk.training.explaining import explain_table


def asked(site: Site, **body: Any) -> Any:
    return site.ask("/v1/explain", {"model": "stays", "rows": [row(0), row(1)], "ask": "label", **body})


@pytest.mark.parametrize("method", ["marginals", "integrated_gradients", "kernel_shap"])
def test_explanations_are_those_of_python(site: Site, stays: Model, method: str) -> None:
    result = asked(site, method=method, given=["review", "nights"], samples=32).json()
    rows = [row(0), row(1)]
    table = Table({"review": [r["review"] for r in rows], "nights": [r["nights"] for r in rows]})
    settings = Settings(samples=32, model=stays)
    made = explain_table(stays, table, "label", settings, given=["review", "nights"], method=method, quick=True)
    assert result["object"] == "explanations" and result["faithfulness"] is None
    for explained, expected in zip(result["explanations"], made.as_json()["explanations"], strict=True):
        assert explained["answer"] == expected["answer"]
        assert [c["column"] for c in explained["columns"]] == ["review", "nights"]
        for column, other in zip(explained["columns"], expected["columns"], strict=True):
            assert column["values"] == pytest.approx(other["values"], rel=1e-3, abs=1e-5)
            assert column["parts"] == other["parts"]


def test_it_says_what_it_is_worth(site: Site) -> None:
    judged = asked(site, quick=False).json()["faithfulness"]
    assert judged["better_than_random"] in (True, False) and judged["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"method": "nearest_rows"}, "which a server does not have"),
        ({"method": "lim"}, "Did you mean 'lime'"),
        ({"ask": "labl"}, "has no column 'labl'"),
        ({"target": "z"}, "is no class of 'label'"),
        ({"rows": []}, "rows"),
        ({"rows": [row(0)] * 17}, "rows"),
        ({"rows": [{"other": 1}]}, "Nothing is given in row 0"),
        ({"rows": [{"nights": "many", "review": "a"}]}, "cannot be used"),
        ({"samples": 10**6}, "samples"),
    ],
)
def test_what_cannot_be_is_a_plain_error(site: Site, body: dict[str, Any], message: str) -> None:
    answer = asked(site, **body)
    assert answer.status == 400 and message in answer.json()["error"]["message"]
