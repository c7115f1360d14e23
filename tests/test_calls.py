"""How the package's code is called: no keywords that are there or not by a condition, no verb that trains by itself."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from onetrunk.training.options import TrainingOptions

SOURCE = Path(__file__).parents[1] / "src" / "onetrunk"

# What a verb may import when it runs: the application, what happens there, and how it is shown.
_OF_VERBS = ("onetrunk.core", "onetrunk.training", "onetrunk.evaluation", "onetrunk.explanation", "onetrunk.serving",
            "onetrunk.trackers", "onetrunk.verbs")  # fmt: skip


def conditional_keywords(tree: ast.Module) -> list[int]:
    """Lines of calls like `f(**({"a": 1} if b else {}))` and `f(**(a or {}))`, and of those that spread a dict which
    holds such a part."""

    def by_condition(node: ast.expr) -> bool:
        if isinstance(node, ast.Dict):
            return any(by_condition(value) for key, value in zip(node.keys, node.values, strict=True) if key is None)
        return isinstance(node, ast.IfExp | ast.BoolOp)

    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if any(k.arg is None and by_condition(k.value) for k in call.keywords)]


def imports_when_run(tree: ast.Module) -> list[str]:
    """The package's modules that are imported, but for those that only types need."""
    types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    return [
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module
        and node.module.startswith("onetrunk.")
        and id(node) not in types
    ]


def test_no_call_has_keywords_by_a_condition() -> None:
    wrong = {
        path.relative_to(SOURCE).as_posix(): lines
        for path in SOURCE.rglob("*.py")
        if (lines := conditional_keywords(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert wrong == {}


@pytest.mark.parametrize("call", ["f(**({'a': 1} if b else {}))", "f(**(a or {}))", "f(x, **{**y, **(a or {})})"])
def test_planted_keywords_by_a_condition_are_found(call: str) -> None:
    assert conditional_keywords(ast.parse(call)) == [1]


def test_a_verb_calls_the_application_and_trains_nothing_itself() -> None:
    wrong = {}
    for path in (SOURCE / "verbs").glob("*.py"):
        modules = imports_when_run(ast.parse(path.read_text(encoding="utf-8")))
        if others := [module for module in modules if not module.startswith(_OF_VERBS)]:
            wrong[path.name] = others
    machine = ["onetrunk.engine.mode", "onetrunk.engine.runtime", "onetrunk.engine.self_test"]
    assert wrong == {"doctor.py": machine}, "doctor looks at the machine; the others at nothing below training"


def test_a_flag_that_verbs_share_is_written_once() -> None:
    """In `training.options`, from which a verb names those that it takes."""
    shared = {field.name for field in fields(TrainingOptions)}
    own: dict[str, list[str]] = {}
    for path in (SOURCE / "verbs").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.strip("_") == path.stem.strip("_"):
                for argument in node.args.kwonlyargs:
                    own.setdefault(argument.arg, []).append(path.stem)
    assert len(own.pop("quiet")) > 10
    assert own.pop("split") == ["inspect"], "which checks no split unless it is asked to"
    assert not shared & own.keys() and all(len(verbs) == 1 for verbs in own.values()), own
