"""The recipe of a training run: every setting it has, strict, in YAML, from flags and from `--set`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from onetrunk.core.config import Config, read_yaml, with_settings
from onetrunk.core.errors import UsageError
from onetrunk.core.objective import ObjectiveConfig
from onetrunk.engine.cost import CostSettings
from onetrunk.engine.private import PrivateConfig
from onetrunk.engine.runtime import find_device
from onetrunk.engine.trainer import TrainSettings
from onetrunk.nn.lora import LoRAConfig
from onetrunk.objectives.distil import DistilOptions
from onetrunk.training.options import TrainingOptions
from onetrunk.training.table_recipe import TableRecipe

# One dial: width, depth and heads follow.
SIZES: dict[str, dict[str, int]] = {
    "nano": {"width": 64, "layers": 2, "heads": 2},
    "tiny": {"width": 96, "layers": 4, "heads": 4},
    "small": {"width": 192, "layers": 6, "heads": 6},
    "base": {"width": 512, "layers": 8, "heads": 8},
    "large": {"width": 768, "layers": 12, "heads": 12},
}


_UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "": 1e9}


def _default_objectives() -> list[ObjectiveConfig]:
    return [
        ObjectiveConfig(kind="contrast", documents=64, weight=0.5),
        ObjectiveConfig(kind="masked", documents=32),
        ObjectiveConfig(kind="predict", documents=160),
    ]


class PretrainConfig(Config):
    """Self-supervised training over every column."""

    objectives: list[ObjectiveConfig] = Field(
        default_factory=_default_objectives, description="What the model learns, and from how many documents a step."
    )
    steps: int = Field(0, ge=0, description="Steps of the run; 0 means `epochs` passes over the rows, within bounds.")
    epochs: float = Field(60.0, gt=0, description="Passes over the rows.")
    min_steps: int = Field(300, ge=1, description="The fewest steps that `epochs` may come to.")
    max_steps: int = Field(3000, ge=1, description="The most steps that `epochs` may come to.")


class FinetuneConfig(Config):
    """Training on one task."""

    documents: int = Field(0, ge=0, description="Rows a step; 0 chooses by the number of labelled rows.")
    steps: int = Field(0, ge=0, description="Steps of the run; 0 means `epochs` passes over the rows, within bounds.")
    epochs: float = Field(20.0, gt=0, description="Passes over the labelled rows.")
    min_steps: int = Field(100, ge=1, description="The fewest steps that `epochs` may come to.")
    max_steps: int = Field(3000, ge=1, description="The most steps that `epochs` may come to.")
    rate: float = Field(0.5, gt=0, description="Learning rates of a pretrained model, relative to pretraining's.")
    layer_rate: float = Field(
        1.0, gt=0, le=1, description="Every block learns at this share of the rate of the block above it."
    )
    freeze: int | Literal["trunk"] = Field(
        0, description='0 trains everything, k freezes the first k blocks, "trunk" trains asked columns only.'
    )
    lora: LoRAConfig | None = Field(None, description="The trunk learns changes of low rank only.")
    distil: DistilOptions = Field(default_factory=DistilOptions, description="How it learns from a teacher.")
    metric: str | None = Field(
        None,
        description="The metric that chooses the best step; by default a proper score of the first asked column (log "
        "loss, squared error), else its main one.",
    )
    wide: bool = Field(
        True,
        description="`train` begins with what linear models and boosted trees know, and skips pretraining where nearly "
        "every row has its answer; private fine-tuning from nothing learns a linear model, and no trunk.",
    )
    repeats: int = Field(1, ge=1, description="Seeds to train with; the best on the validation rows is kept.")
    label_propagation: bool = Field(
        False, description="Rows without a label learn from the labels of their neighbours (a closed set of answers)."
    )
    folds: int = Field(
        5, ge=2, description="Of the cross-validation, where there are too few labels for validation rows."
    )


class Recipe(TableRecipe):
    """Every setting of a training run; the same keys in YAML (`--config`) and in `--set`."""

    size: Literal["nano", "tiny", "small", "base", "large"] = Field("tiny", description="Width, depth and heads.")
    trunk: dict[str, Any] = Field(default_factory=dict, description="Settings of the trunk, instead of the size's.")
    attention: Literal["bidirectional", "causal"] = Field(
        "bidirectional", description="Given columns see all of one another, or only what stands before them."
    )
    row_weight: str | None = Field(None, description="The column that holds a weight for every row.")
    mixture: dict[str, float] = Field(
        default_factory=dict, description="How often each of several tables is drawn from, by the name of its file."
    )
    cache: str | None = Field(
        None, description="A folder that keeps vocabularies and encoded texts for later runs on the same data."
    )
    cost: CostSettings = Field(default_factory=CostSettings, description="What is assumed of energy and its CO2.")
    gates: dict[str, float | dict[str, float]] = Field(
        default_factory=dict,
        description="Bounds of metrics, of every asked column or of one, that the model must keep to be exported or "
        "served.",
    )
    private: PrivateConfig | None = Field(
        None, description="What training promises to each row (differential privacy); by default nothing."
    )
    device: str = Field("auto", description="cpu, cuda, cuda:N or mps; auto is CUDA where there is one, else the CPU.")
    tokens_per_batch: int = Field(16_384, ge=64, description="Positions of a micro-batch; more are accumulated.")
    train: TrainSettings = Field(default_factory=TrainSettings, description="Optimizer, schedule, precision, saving.")
    pretrain: PretrainConfig = Field(default_factory=PretrainConfig, description="Self-supervised training.")
    finetune: FinetuneConfig = Field(default_factory=FinetuneConfig, description="Training on one task.")

    def trunk_config(self) -> dict[str, Any]:
        kind = self.trunk.get("kind", "transformer")
        size = dict(SIZES[self.size])
        if kind != "transformer":
            del size["heads"]
        return {"kind": kind, **size, **self.trunk}


def make_recipe(config: str | Path | dict[str, Any] | None, settings: Sequence[str] | None, **flags: Any) -> Recipe:
    """A YAML file or dict, then flags, then `key=value` settings; later ones win. Raises UsageError for unknown keys,
    values that cannot be, and a device that this machine has not."""
    data = read_yaml(config) if isinstance(config, str | Path) else dict(config or {})
    given = {name: value for name, value in flags.items() if value is not None}
    for name in ("events", "private"):
        if name in given:
            given[name] = {**(data.get(name) or {}), **given[name]}
    data |= given
    recipe = Recipe.parse(with_settings(data, list(settings or [])), str(config) if config else "the settings")
    find_device(recipe.device)
    return recipe


def recipe_of(options: TrainingOptions) -> Recipe:
    """The settings of a run: its YAML file, then its flags, then `key=value` settings. What is wrong in them, or in its
    budget, is refused before any work."""
    budget_seconds(options.budget)
    memory_bytes(options.max_memory)
    flags = {"size": options.size, "events": options.events, "private": options.private, "device": options.device}
    return make_recipe(options.config, options.settings, mixture=options.mixture, **flags)


def budget_seconds(budget: str | float | None) -> float | None:
    """`"10min"`, `"90s"`, `"2h"` or a number of seconds."""
    if budget is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|min|h|)\s*", str(budget).lower())
    seconds = float(match[1]) * {"s": 1, "": 1, "min": 60, "h": 3600}[match[2]] if match else 0.0
    if 0 < seconds < math.inf:
        return seconds
    raise UsageError(f"--budget expects a time like 90s, 10min or 2h; found {str(budget)[:40]!r}.")


def memory_bytes(amount: str | float | None) -> float | None:
    """`"8GB"`, `"500MB"`, or a number of GB, in bytes. Raises UsageError."""
    if amount is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]B)?", str(amount).strip().upper())
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"--max-memory expects an amount like 8GB or 500MB; found {amount!r}.")
    return float(match[1]) * _UNITS[match[2] or ""]


def json_schema() -> dict[str, Any]:
    """The recipe as JSON Schema, for editors and forms; `python -m onetrunk.training.recipe` prints it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))
