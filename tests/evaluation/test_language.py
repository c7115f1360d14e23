"""The report in Chinese: one table, in which nothing is missing and nothing stands in vain."""

from __future__ import annotations

import ast
import html
import re
import string
from pathlib import Path

import pytest
from evidence_fakes import Amount, Colour, FakeModel

import onetrunk.evaluation
from onetrunk.core.answer import Answer
from onetrunk.core.errors import UsageError
from onetrunk.evaluation import words
from onetrunk.evaluation.card import card
from onetrunk.evaluation.chinese import METRICS, NAMES, SENTENCES
from onetrunk.evaluation.gather import gather_evidence
from onetrunk.evaluation.language import called, say, speaking
from onetrunk.evaluation.record import Evidence, Verdict
from onetrunk.evaluation.report import report
from onetrunk.training.options import DataOptions

SOURCES = [p for p in Path(onetrunk.evaluation.__path__[0]).rglob("*.py") if not p.name.startswith("chinese")]
EVERYWHERE = Path(onetrunk.evaluation.__path__[0]).parent
HAN = re.compile("[\u4e00-\u9fff]")


def _constants(nodes: list[ast.AST]) -> set[str]:
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def _values(template: str) -> set[tuple[str, str | None]]:
    return {(name, form) for _, name, form, _ in string.Formatter().parse(template) if name is not None}


def test_every_sentence_that_is_said_has_its_chinese_and_no_other_stands_there() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    said = {
        node.args[0].value
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say"
        if isinstance(node.args[0], ast.Constant)
    }
    assert said <= SENTENCES.keys(), "said, and not in the table"
    assert SENTENCES.keys() <= _constants(nodes), "in the table, and never said"
    assert len(said) > 80


def test_both_languages_put_in_the_same_values() -> None:
    for english, chinese in SENTENCES.items():
        assert _values(english) == _values(chinese), english


def test_every_metric_has_its_chinese() -> None:
    assert METRICS.keys() == words._WORDS.keys()
    for name, (label, meaning) in METRICS.items():
        assert label and bool(meaning) == bool(words._WORDS[name].meaning), name


def test_names_are_those_that_data_bring() -> None:
    written = "".join(
        path.read_text(encoding="utf-8") for path in EVERYWHERE.rglob("*.py") if not path.name.startswith("chinese")
    )
    written = re.sub(r'"\s*\n\s*f?"', "", written)
    assert [name for name in NAMES if name not in written] == []


def _template(node: ast.AST) -> str | None:
    """A message with X where values stand; None of what is no literal."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
    return None


IN_PIECES = {"X, left out", "X; found X, X", "X is not a numberX"}  # a value is a phrase itself: whole, they are known


def _reasons() -> set[str]:
    """Why values are bad, or cut: what the ledger of a report quotes."""
    out = set()
    for path in EVERYWHERE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "BadValueError":
                out |= {_template(node.args[0])} if node.args else set()
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "ledger.add":
                out.add(_template(node.args[0]))
    return {reason for reason in out - IN_PIECES if reason is not None and re.search("[a-z]{3}", reason)}


def test_every_reason_that_a_ledger_quotes_has_its_chinese() -> None:
    reasons = _reasons()
    assert len(reasons) > 60
    with speaking("zh"):
        assert [reason for reason in sorted(reasons) if not HAN.search(called(reason))] == []


def test_what_stands_in_a_phrase_is_kept() -> None:
    with speaking("zh"):
        assert called("'abc' is not a number") == "'abc' 不是数值"
        assert called("'1.5' is not a number written with a decimal comma, as this column is").startswith("'1.5' 不是")
        assert called("events without it (no date), left out") == "缺少它的事件（no date），已去掉"
        assert called('expected shares of classes that sum to 1, like {"yes": 0.7}; found {}, x').startswith("应为总和")
        assert called("length of 评论") == "评论 的长度"
        assert called("items never seen in training") == "训练中从未见过的项目"
        assert called('box 2 should be like {"label": "cat", "box": [x, y, width, height]}, found 7').endswith("得到 7")
        assert called("a column of mine") == "a column of mine"


def _evidence() -> Evidence:
    hue = ["blue", "green", "red"] * 20
    size = [float(i % 3) + 10 for i in range(60)]
    sides = {"hue": Colour(["blue", "green", "red"]), "label": Colour(["blue", "green", "red"]), "size": Amount()}
    model = FakeModel(sides, lambda hue: Answer(hue, {"blue": 0.2, "green": 0.2, "red": 0.6}))
    test = {"hue": hue, "label": hue[:50] + ["red"] * 10, "size": size}
    evidence = gather_evidence(model, test, [(["hue"], "label")], train=test)
    evidence.gates = [
        Verdict("accuracy", "label", 0.99, True, 0.9, False),
        Verdict("training_kwh", "", 1, False, None, False),
    ]
    evidence.overridden = [{"when": "2026-11-29", "doing": "served", "gates": "x"}]
    return evidence


def test_a_report_in_chinese_has_no_english_sentence() -> None:
    evidence = _evidence()
    evidence.origin.ledger = [{"column": "hue", "reason": "'7' is not a number", "count": 2}]
    evidence.origin.split = "at random, each label in proportion, 80/10/10"
    english = report(evidence)
    evidence.language = "zh"
    chinese = report(evidence)
    assert '<html lang="en">' in english and '<html lang="zh-CN">' in chinese
    assert not HAN.search(re.sub("<style>.*?</style>", "", english, flags=re.DOTALL))
    text = html.unescape(re.sub(r"<[^>]*>", "\n", re.sub("<style>.*?</style>", "", chinese, flags=re.DOTALL)))
    known = {"Onetrunk", "metrics", "json", "AUC", "Brier", "mWh", "CO2", "RAPL"}
    known |= {
        "hue",
        "label",
        "model",
        "blue",
        "green",
        "red",
        "known",
        "logistic",
        "boosting",
    }  # names of data and fakes
    left = set(re.findall(r"[A-Za-z0-9]{3,}", re.sub(r"\b[0-9.]+\b", "", text))) - known
    assert not left, "words that nobody has told in Chinese"
    assert "'7' 不是数值" in text and "随机，label 各值按比例、80/10/10" in text
    assert "准确率" in text and "多数类" in text and "未通过" in text and "提供服务" in text
    assert chinese.count("<section") == english.count("<section") and chinese.count("<table") == english.count("<table")
    assert not HAN.search(card(evidence)), "the card is for the Hub, in English"


def test_a_language_is_spoken_inside_only_and_unknown_ones_are_refused() -> None:
    assert say("Time") == "Time" and called("train") == "train"
    with speaking("zh"):
        assert say("Time") == "时间" and called("train") == "训练" and called("of somebody") == "of somebody"
        assert words.word("nobody_knows").label == "nobody knows"
    assert say("Time") == "Time"
    with pytest.raises(UsageError, match="--lang expects en or zh, found 'fr'"):
        DataOptions(lang="fr")


def test_names_of_columns_and_classes_stay_as_data_have_them() -> None:
    with speaking("zh"):
        assert called("answer") == "答案" and called("right") != "right"
        assert called("the log-probability of answer = right") == "answer = right 的对数概率"
