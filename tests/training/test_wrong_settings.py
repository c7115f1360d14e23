"""A setting that cannot be is one plain sentence, before any work: never a traceback, never a long wait."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from onetrunk.core.answer import Sampling
from onetrunk.core.config import read_yaml
from onetrunk.core.errors import UsageError
from onetrunk.core.registry import column_types
from onetrunk.inference.tables import read_rows
from onetrunk.nn.trunk import build_trunk
from onetrunk.training.options import DataOptions, TrainingOptions
from onetrunk.training.output import Output, check_free
from onetrunk.training.recipe import budget_seconds, make_recipe, recipe_of

NUMBER = "input should be a finite number"
NOT_YAML = "the value is not valid YAML"


@pytest.mark.parametrize(
    "setting, message",
    [
        ("train.lr=nan", NUMBER),
        ("train.lr=inf", NUMBER),
        ("train.lr=1e400", NUMBER),
        ("train.lr=-1", "greater than or equal to 0, found -1"),
        ("train.lr=", "input should be a valid number, found None"),
        ("train.lr=[", NOT_YAML),
        ("train.lr={", NOT_YAML),
        ("train.lr=2024-13-45", NOT_YAML),
        ("train.lr=!!python/object:os.system x", NOT_YAML),
        ("train.lr=&a [*a]", "uses YAML aliases"),
        ("train.lr=" + "[" * 100_000, "nested more than 50 levels deep"),
        ("train.lr=" + "{a: " * 10_000, "nested more than 50 levels deep"),
        ("train.lr=" + "9" * 5_000, NOT_YAML),
        ("train.muon_lr=nan", NUMBER),
        ("train.weight_decay=-1", "greater than or equal to 0"),
        ("train.momentum=2", "less than 1, found 2"),
        ("train.betas=[2,2]", r"Key 'train.betas' in the settings: input should be less than 1, found 2"),
        ("train.betas=[nan,.9]", NUMBER),
        ("train.clip=nan", NUMBER),
        ("train.ema=nan", NUMBER),
        ("train.loss_weights={a: nan}", NUMBER),
        ("train.loss_weights={a: -1}", "greater than or equal to 0"),
        ("train.schedule=[]", "input should be 'constant'"),
        ("tokens_per_batch=99999999999999999999999", "a whole number should be at most 9007199254740992"),
        ("finetune.steps=99999999999999999999", "a whole number should be at most"),
        ("finetune.epochs=inf", NUMBER),
        ("finetune.distil={temperature: nan}", NUMBER),
        ("finetune.lora={rank: 8, alpha: nan}", NUMBER),
        ("pretrain.objectives=[{kind: predict, weight: nan}]", NUMBER),
        ("size=[]", "input should be 'nano'"),
        ("trunk=5", "input should be a valid dictionary"),
    ],
)
def test_a_setting_that_cannot_be(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        make_recipe(None, [setting])
    assert len(str(error.value)) < 700, "what was found is told, not repeated at length"


@pytest.mark.parametrize(
    "trunk, message",
    [
        ({"width": 17, "heads": 1}, r"Trunk \(transformer\): .* should be even; it is 17"),
        ({"width": 16, "heads": 3}, "should be even; it is 5"),
        ({"width": 8, "heads": 16}, "should be even; it is 0"),
        ({"heads": 2, "kv_heads": 3}, r"kv_heads should divide heads \(2\)"),
        ({"rope_theta": math.nan}, NUMBER),
        ({"kind": [1]}, r"Unknown trunk '\[1\]'"),
    ],
)
def test_a_trunk_that_cannot_be(trunk: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_trunk(trunk)


@pytest.mark.parametrize("kind", [[1], 5, "x"])
def test_a_column_type_that_is_none(kind: Any) -> None:
    with pytest.raises(UsageError, match="Unknown column type"):
        column_types.get(kind)


@pytest.mark.parametrize("text", ["nan", "-1", "inf", "0", "1e400", "-5min", "nans", "", "9" * 5_000])
def test_a_budget_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="--budget expects a time like 90s, 10min or 2h"):
        recipe_of(TrainingOptions(budget=text))


def test_budgets() -> None:
    assert [budget_seconds(b) for b in (None, "90s", " 1.5H ", ".5min", "3", 3, 2.5)] == [None, 90, 5400, 30, 3, 3, 2.5]


@pytest.mark.parametrize(
    "options", [{"max_bad": math.nan}, {"max_bad": -1}, {"max_bad": 2}, {"seed": -1}, {"seed": 10**30}]
)
def test_an_option_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"--(max-bad|seed) expects"):
        DataOptions(**options)


@pytest.mark.parametrize(
    "wish",
    [{"temperature": math.nan}, {"temperature": -1}, {"top_k": -1}, {"top_p": math.nan}, {"top_p": 0}, {"steps": 0},
     {"max_length": 0}, {"guidance": math.inf}, {"beams": 0}],
)  # fmt: skip
def test_a_way_to_draw_that_cannot_be(wish: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wish))} expects"):
        Sampling(**wish)


@pytest.mark.parametrize("text", ["a: " * 3, "[" * 100_000, "- " * 5_000 + "1", "a: " + "9" * 5_000, "a: \x00", "- a"])
def test_a_file_of_settings_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"The configuration .*run\.yaml"):
        read_yaml(tmp_path / "run.yaml")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, '{"a": ' + "9" * 5_000 + "}", "{"])
def test_rows_that_are_no_json(text: str) -> None:
    with pytest.raises(UsageError, match="not valid JSON"):
        read_rows(text, network=False)


@pytest.mark.parametrize(("out", "message"), [("/", "whole disk"), ("a\0b", "null"), ("x" * 300, "too long")])
def test_a_place_where_no_folder_can_be(out: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Output(out)
    with pytest.raises(UsageError, match=message):
        check_free(out, True)
