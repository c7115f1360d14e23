"""The pages of an audit and of an explanation in Chinese: no English is left but names."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest

from onetrunk.core.parts import Parts
from onetrunk.evaluation.audit.page import page
from onetrunk.evaluation.audit.record import (
    Adversary,
    AskedAudit,
    Attack,
    Audit,
    Canary,
    Copies,
    Copy,
    Disturbed,
    Fairness,
    Finding,
    Gap,
    GroupFigure,
    GroupMetric,
    Membership,
    Mitigation,
    Privacy,
    Repetition,
    Robustness,
    Security,
    Shift,
    Slice,
    Slices,
)
from onetrunk.evaluation.explanation_page import explanation_page
from onetrunk.evaluation.faithfulness import Faithfulness
from onetrunk.evaluation.intervals import Interval
from onetrunk.explanation.attribution import Attribution, ColumnValues
from onetrunk.explanation.attribution import Finding as Table

HAN = re.compile("[\u4e00-\u9fff]")
HALF = Interval(0.5, 0.4, 0.6)


def _left(page: str, known: set[str]) -> set[str]:
    """Words of three letters or more that are no names."""
    page = re.sub("<style>.*?</style>", "", page, flags=re.DOTALL)
    text = html.unescape(re.sub(r"<[^>]*>", "\n", page))
    return set(re.findall(r"[A-Za-z]{3,}", text)) - known


def _gap(p: float) -> Gap:
    return Gap("sun", "rain", Interval(0.2, 0.1, 0.3), 0.1, p)


def _audit(language: str) -> Audit:
    groups = [GroupFigure("sun", 50, HALF), GroupFigure("rain", 60, HALF), GroupFigure("1 to 3", 20, HALF)]
    metrics = [
        GroupMetric("accuracy", "", groups, _gap(0.5)),
        GroupMetric("selection_rate", "yes", groups, _gap(0.001)),
        GroupMetric("precision", "yes", groups, _gap(0.001)),
        GroupMetric("f1_macro", "", groups, None),
    ]
    cures = [
        Mitigation("a threshold of its own for each group", "selection_rate", "yes", 50, 60, HALF, HALF, HALF, HALF,
                   {"sun": 0.4}),
        Mitigation("weights in training that make groups and classes independent", "selection_rate", "yes", 50, 60,
                   HALF, HALF, HALF, HALF, {"sun, yes": 0.4}, "logistic regression on the same columns"),
    ]  # fmt: skip
    ways = [
        Robustness("note", "typos", "letters swapped, left out, doubled, or taken from the next key", "of the letters",
                   [Disturbed(0.05, 1.0, HALF, HALF)]),
        Robustness("", "missing cells", "given values left out at random", "of all given values",
                   [Disturbed(0.3, 0.3, HALF, None)]),
    ]  # fmt: skip
    asked = AskedAudit(
        "label", ["note"], 90, "accuracy", True, HALF,
        fairness=[Fairness("weather", "one for each value", True, 80, 10, metrics, cures),
                  Fairness("day", "quarters of the rows, by value", False, 80, 0, metrics[:1])],
        slices=Slices(9, 1.0, [Slice("length of note", "1 to 3", 30, HALF, 0.9, 3.0, 0.01),
                               Slice("note", "missing", 30, HALF, 0.9, 2.0, 0.01)]),
        robustness=ways, undisturbed=HALF,
        adversary=Adversary(50, HALF, [Shift(0.05, HALF, HALF)],
                            "Its wide read-out looks at values and was not moved."),
        privacy=Privacy(
            Membership(50, 50, [Attack("loss", HALF, 0.6, 0.1, HALF, 0.1, 0.1),
                                Attack("loss, less how hard the row is", HALF, 0.4, 0.1, HALF, 0.1, 0.1)],
                       "Of 50 rows that were not learnt, 1 % is less than one: the threshold lets none of them pass."),
            [Canary("pin 1", 3.0, 5.0, 31)], Repetition(HALF, HALF, 20, 20, 10, 10, ["sun"]),
            copies=Copies(50, 60, HALF, 0.02, 0.1, 0.2, 0.2, 3, [Copy({"text": "sun"}, {"text": "rain"}, 0.0)]),
            note="Membership was not tried: too few rows that are known to be learnt, or not learnt, have answers.",
        ),
    )  # fmt: skip
    findings = [
        Finding("a.pkl", "a pickle: opening it can run code"), Finding("a.txt", "a GitHub token: ghp… (40)", "line 3"),
        Finding("b.txt", "a path of somebody's machine: sun", "line 3", serious=False),
    ]  # fmt: skip
    what = ["fairness", "slices", "robustness", "privacy", "security"]
    return Audit("judge", what, [asked], Security(5, 100, 3, findings), "2026-11-29", language=language)


NAMES = {
    "Onetrunk",
    "judge",
    "label",
    "note",
    "weather",
    "day",
    "sun",
    "rain",
    "yes",
    "pin",
    "AUC",
    "pkl",
    "txt",
    "ghp",
}
NAMES |= {"pickle", "GitHub", "audit", "json"}


def test_the_page_of_an_audit() -> None:
    english, chinese = page(_audit("en")), page(_audit("zh"))
    assert not HAN.search(re.sub("<style>.*?</style>", "", english, flags=re.DOTALL))
    assert _left(chinese, NAMES) == set()
    assert chinese.count("<section") == english.count("<section") and chinese.count("<table") == english.count("<table")
    assert "超出偶然" in chinese and "5 % 的字母" in chinese and "note 的长度 为 1 至 3" in html.unescape(chinese)
    assert "a gap of 20.0 points" in english and "length of note is 1 to 3" in english


def _explained() -> list[Attribution | Table]:
    parts = Parts(np.arange(2), ["sun", "rain"], "token", spans=[(0, 3), (4, 8)], text="sun rain")
    patches = Parts(np.arange(2), ["sun", "rain"], "patch")
    values = np.array([[0.5, -0.25]])
    columns = [
        ColumnValues("note", "sun rain", parts, values.sum(1), values),
        ColumnValues("so", ["sun", "rain"], patches, values.sum(1), values, asked=True),
    ]
    note = (
        "Gradients pass through the trunk alone. The wide read-out (linear and trees) beside it moves the outcome by "
        "+0.3 more, which these values do not hold: occlusion and shapley include it."
    )
    made = Attribution(
        "marginals", 0, "label", "yes", "the log-probability of label = yes", "nats", ["one"], columns,
        np.array([0.0]), np.array([-1.0]), False, 1, 2, [note],
    )  # fmt: skip
    table = Table(
        "decision_path", 1, "label", "yes", "What the model would answer after each block",
        ["stopped", "answer", "the log-probability of label = yes"], [["after block 1", "yes", -0.5]], 1,
    )  # fmt: skip
    return [made, table]


@pytest.mark.parametrize("low", [0.1, -0.1])
def test_the_page_of_an_explanation(low: float) -> None:
    judged = Faithfulness(2, Interval(0.2, low, 0.3), Interval(0.2, low, 0.3), "nats", 0.5, {"lime": 0.9}, 0.1)
    english, chinese = (explanation_page(_explained(), judged, "judge", language) for language in ("en", "zh"))
    assert not HAN.search(re.sub("<style>.*?</style>", "", english, flags=re.DOTALL))
    methods = {"marginals", "decision", "path", "occlusion", "shapley", "lime"}
    assert _left(chinese, NAMES | methods) == set()
    assert ("优于随机" in chinese) and ("不优于随机" in chinese) == (low < 0) and "label = yes 的对数概率" in chinese
    assert chinese.count("<section") == english.count("<section") == 2
