"""The recipe is strict, and its schema is published."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from onetrunk.core.errors import UsageError
from onetrunk.training.recipe import Recipe, json_schema, make_recipe


def test_the_schema_is_printed_for_editors() -> None:
    done = subprocess.run([sys.executable, "-m", "onetrunk.training.recipe"], capture_output=True, check=True)
    assert json.loads(done.stdout) == json_schema()
    assert json_schema()["properties"].keys() == Recipe.model_fields.keys()


def test_every_own_key_is_described_and_no_other_allowed() -> None:
    schema = json_schema()
    groups = {"Recipe": schema, **schema["$defs"]}
    assert all(group["additionalProperties"] is False for group in groups.values())
    for name in ("Recipe", "PretrainConfig", "FinetuneConfig"):
        for key, field in groups[name]["properties"].items():
            same = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})  # its class says the same
            assert (field | same)["description"].endswith("."), f"{name}.{key}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["finetune.min_step=3"], "Unknown key 'finetune.min_step' in the settings. Did you mean 'min_steps'?"),
        (["attention=both"], "Key 'attention' in the settings: input should be 'bidirectional' or 'causal'"),
        (["pretrain.max_steps=0"], "Key 'pretrain.max_steps' in the settings: input should be greater than or equal"),
    ],
)
def test_a_wrong_key_or_value_is_named(settings: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        make_recipe(None, settings)
    assert message in str(error.value)


def test_later_ones_win(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("size: nano\nevents: {window: 5, order: day}\n")
    flags: dict[str, Any] = {"size": None, "events": {"window": 7}}
    recipe = make_recipe(tmp_path / "run.yaml", ["finetune.epochs=2"], **flags)
    assert recipe.size == "nano" and recipe.finetune.epochs == 2
    assert recipe.events is not None and (recipe.events.window, recipe.events.order) == (7, "day")
    assert Recipe() == make_recipe(None, None)
