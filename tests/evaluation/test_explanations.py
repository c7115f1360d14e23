"""Explanations are judged against random orders, and shown so that a person reads them and nothing they hold runs."""

from __future__ import annotations

import io
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from matplotlib.axes import Axes
from PIL import Image
from scipy.stats import spearmanr
from worlds import CASES

from onetrunk.data.table import Table
from onetrunk.evaluation import figures
from onetrunk.evaluation.explanation_page import explanation_page
from onetrunk.evaluation.explanation_pictures import AGAINST, FOR, bars, heat_map
from onetrunk.evaluation.faithfulness import curves_of, judge, rank_correlation, stability
from onetrunk.evaluation.language import speaking
from onetrunk.explanation.attribution import Attribution
from onetrunk.explanation.method import Settings, explain, method_named
from onetrunk.explanation.question import Question, ask_about
from onetrunk.inference.model_folder import Model


def asked(name: str, values: list[Any] | None = None, column: str = "x") -> tuple[Model, list[Question]]:
    case = CASES[name]
    torch.manual_seed(0)
    options = {column: dict(case.options)}
    table = {column: case.values, "y": list("abcabcabcabc")}
    made = worlds.model(table, {column: case.type, "y": "category"}, options=options)
    rows = Table({column: values or case.values[:6]})
    return made, ask_about(made, rows, "y", [column])


def attributed(questions: list[Question], method: str = "occlusion") -> list[Attribution]:
    found = [explain(question, method) for question in questions]
    assert all(isinstance(each, Attribution) for each in found)
    return found  # type: ignore[return-value]


def turned_round(found: Attribution) -> Attribution:
    """What it says, the other way round."""
    columns = [replace(c, by_part=None if c.by_part is None else -c.by_part, values=-c.values) for c in found.columns]
    return replace(found, columns=columns)


def test_an_explanation_is_better_than_random_and_its_opposite_is_said_not_to_be() -> None:
    _, questions = asked("image")
    found = attributed(questions)
    judged, opposite = judge(questions, found), judge(questions, list(map(turned_round, found)))
    assert judged.better_than_random and judged.deletion is not None and judged.deletion.low > 0
    assert judged.sentence().startswith("Better than random") and judged.insertion is not None
    assert opposite.better_than_random is False and "No better than random" in opposite.sentence()
    assert judged.as_json()["better_than_random"] is True


def test_curves_are_outcomes_of_rows_that_lose_one_part_after_the_other() -> None:
    _, (question, *_) = asked("items")
    (found,) = attributed([question])
    curves = curves_of(question, found)
    assert curves is not None
    assert curves.deletion[0] == pytest.approx(found.score.sum()) == pytest.approx(curves.insertion[-1])
    assert curves.deletion[-1] == pytest.approx(found.nothing.sum()) == pytest.approx(curves.insertion[0])
    assert len(curves.deletion) == question.part_count + 1
    # Of two parts deletion of the stronger one leaves the row with the weaker one.
    first = int(found.total().argmax())
    assert curves.deletion[1] == pytest.approx(found.score.sum() - found.total()[first])


def test_one_row_has_an_interval_of_random_orders_and_one_part_none() -> None:
    _, questions = asked("text")
    judged = judge(questions[:1], attributed(questions[:1]))
    assert judged.deletion is not None and judged.deletion.low <= judged.deletion.value <= judged.deletion.high
    _, questions = asked("number")
    judged = judge(questions[:1], attributed(questions[:1]))
    assert judged.deletion is None and judged.better_than_random is None and "one part" in judged.sentence()


def test_stability_and_agreement_are_rank_correlations() -> None:
    _, questions = asked("text")
    method = method_named("occlusion", Settings())
    found = attributed(questions[:2])
    value = stability(questions[0], found[0], method)
    assert value is not None and -1 <= value <= 1
    theirs = attributed(questions[:2], "kernel_shap")
    judged = judge(questions[:2], found, method, {"kernel_shap": theirs, "itself": found})
    expected = np.mean([spearmanr(a.total(), b.total()).statistic for a, b in zip(found, theirs, strict=True)])
    assert judged.agreement["kernel_shap"] == pytest.approx(expected)
    assert judged.agreement["itself"] == pytest.approx(1) and judged.stability is not None


def test_rank_correlation_is_spearmans() -> None:
    a, b = np.array([3.0, 1, 2, 2, 5]), np.array([1.0, 0, 7, 2, 9])
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert rank_correlation(a[:2], b[:2]) is None and rank_correlation(np.ones(4), np.arange(4)) is None


# -- what a person sees ----------------------------------------------------------------------------------------------
class Page(HTMLParser):
    """Tags, attributes and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = '<script>alert(1)</script><img src=x onerror=alert(2)>" style="x'


def test_hostile_names_and_values_are_shown_and_do_nothing() -> None:
    texts = [HOSTILE, "plain words here", *CASES["text"].values[:10]]
    table = {HOSTILE: texts, "c": [f"{HOSTILE}{i % 2}" for i in range(12)], "y": [HOSTILE, "b"] * 6}
    made = worlds.model(table, {HOSTILE: "text", "c": "category", "y": "category"})
    questions = ask_about(made, Table({k: v[:2] for k, v in table.items() if k != "y"}), "y", [HOSTILE, "c"])
    page = Page(explanation_page(attributed(questions), judge(questions, attributed(questions)), HOSTILE))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "embed", "link", "form"})
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all((a.get("src") or "data:image/png").startswith("data:image/png") for t, a in page.tags if t == "img")
    assert HOSTILE in page.text
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None and "default-src 'none'" in policy and "script" not in policy


@pytest.mark.parametrize("value", ["今天下雨了", "你好, world 🙂", "  two  spaces\nand a line", "never again"])
def test_a_text_stands_on_the_page_as_it_is_written(value: str) -> None:
    _, questions = asked("text", [value])
    page = Page(explanation_page(attributed(questions), None, "m"))
    assert value in page.text
    colours = [a["style"] for t, a in page.tags if t == "span" and "style" in a]
    assert colours and all("rgba(var(--" in (style or "") for style in colours)


def test_the_value_of_a_character_is_that_of_all_its_tokens() -> None:
    _, (question,) = asked("text", ["雨🙂雨"])
    (found,) = attributed([question])
    parts = found.columns[0].parts
    assert parts.spans is not None and len(parts) > 3 and parts.text == "雨🙂雨"
    assert [(a, b) for a, b in parts.spans if b > a] == [(0, 1), (1, 2), (2, 3)]
    page = Page(explanation_page([found], None, "m"))
    told = [a["title"] for t, a in page.tags if t == "span" and "title" in a]
    assert sum(float(x or "nan") for x in told) == pytest.approx(found.total().sum(), rel=0.02, abs=1e-3)


@pytest.mark.parametrize("name", ["image", "image in colour, with a stem", "video", "audio"])
def test_a_heat_map_has_a_cell_for_every_part(name: str) -> None:
    _, (question, *_) = asked(name)
    (found,) = attributed([question])
    column = found.columns[0]
    assert column.view is not None and column.by_part is not None
    values = np.zeros(len(column.parts))
    values[-1], values[0] = 1, -1
    picture = np.asarray(Image.open(io.BytesIO(heat_map(column.view, column.parts.grid, values, 1.0))), dtype=int)
    warm, cold = (np.abs(np.ptp(picture[at].reshape(-1, 3), axis=-1)).max() for at in (np.s_[-2:, -2:], np.s_[:2, :2]))
    assert warm > 60 and cold > 60  # the last and the first cell have a colour
    blue, orange = (picture[at].reshape(-1, 3).mean(0) for at in (np.s_[-2:, -2:], np.s_[:2, :2]))
    assert (blue.argmax(), orange.argmax()) == (int(np.argmax(FOR)), int(np.argmax(AGAINST)))
    assert '<img class="heat' in explanation_page([found], None, "m")


@pytest.mark.parametrize("name", ["items", "series", "boxes", "molecule", "number"])
def test_every_other_type_is_shown_part_by_part(name: str) -> None:
    case = CASES[name]
    if case.on:
        return
    _, questions = asked(name)
    found = attributed(questions[:1])
    page = Page(explanation_page(found, None, "m"))
    assert all(label.strip() in page.text for label in found[0].columns[0].parts.labels)


def test_bars_are_a_picture_in_the_language_that_is_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    _, questions = asked("text", ["$x_1$ and 今天 $"])
    found, titles = attributed(questions)[0], []
    drawn = Axes.set_title

    def watched(axes: Axes, label: str, **options: Any) -> Any:
        titles.append(label)
        return drawn(axes, label, **options)

    monkeypatch.setattr(Axes, "set_title", watched)
    monkeypatch.setattr(figures, "_fonts", lambda: ["SimHei", "DejaVu Sans"])
    for language in ("en", "zh"):
        with speaking(language):
            assert Image.open(io.BytesIO(bars(found))).size[0] > 400
    n = questions[0].part_count
    assert titles[0] == titles[1] == f"occlusion: values of {n} tokens"  # as drawn, and in English
    assert titles[-1] == f"occlusion：{n} 个词元的数值"
