"""The recipe of a training run: every setting it has, strict, in YAML, from flags and from `--set`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from onetrunk.core.config import Config, read_yaml, with_settings
from onetrunk.core.errors import UsageError
from onetrunk.core.objective import ObjectiveConfig
from onetrunk.data.events import EventsConfig
from onetrunk.engine.runtime import find_device
from onetrunk.engine.trainer import TrainSettings
from onetrunk.nn.lora import LoRAConfig
from onetrunk.objectives.distil import DistilOptions

# One dial: width, depth and heads follow.
SIZES: dict[str, dict[str, int]] = {
    "nano": {"width": 64, "layers": 2, "heads": 2},
    "tiny": {"width": 96, "layers": 4, "heads": 4},
    "small": {"width": 192, "layers": 6, "heads": 6},
    "base": {"width": 512, "layers": 8, "heads": 8},
    "large": {"width": 768, "layers": 12, "heads": 12},
}


class PretrainConfig(Config):
    """Self-supervised training over every column. `steps` 0: `epochs` passes over the rows, within bounds."""

    objectives: list[ObjectiveConfig] = Field(
        default_factory=lambda: [
            ObjectiveConfig(kind="contrast", documents=64, weight=0.5),
            ObjectiveConfig(kind="masked", documents=32),
            ObjectiveConfig(kind="predict", documents=160),
        ]
    )
    steps: int = Field(0, ge=0)
    epochs: float = Field(60.0, gt=0)
    least_steps: int = Field(300, ge=1)
    most_steps: int = Field(3000, ge=1)


class FinetuneConfig(Config):
    """Training on one task. `freeze`: 0 trains the whole model, k leaves the first k blocks as they are, "trunk" trains
    asked columns only."""

    documents: int = Field(0, ge=0)  # a step; 0: from the number of rows
    steps: int = Field(0, ge=0)
    epochs: float = Field(12.0, gt=0)
    least_steps: int = Field(100, ge=1)
    most_steps: int = Field(3000, ge=1)
    rate: float = Field(0.5, gt=0)  # learning rates, relative to pretraining's, when starting from a pretrained model
    layer_rate: float = Field(1.0, gt=0, le=1)  # every block learns at this share of the rate of the one above it
    freeze: int | Literal["trunk"] = 0
    lora: LoRAConfig | None = None  # the trunk learns changes of low rank only
    distil: DistilOptions = Field(default_factory=DistilOptions)  # with --teacher
    metric: str | None = None  # chooses the best step; None: the asked column's main one
    repeats: int = Field(1, ge=1)  # seeds; the best on validation is kept and the spread reported
    spread: bool = False  # let rows without the asked value learn from their neighbours' (a closed set of answers)
    folds: int = Field(5, ge=2)  # of cross-validation, where there are too few labels for a validation part


class Recipe(Config):
    """Everything a training verb can be told; the same keys in YAML (`--config`) and in `--set`."""

    size: Literal["nano", "tiny", "small", "base", "large"] = "tiny"
    trunk: dict[str, Any] = Field(default_factory=dict)
    given: Literal["bidirectional", "causal"] = "bidirectional"
    columns: dict[str, dict[str, Any]] = Field(default_factory=dict)
    events: EventsConfig | None = None  # how a table of events becomes rows; None: its lines are rows
    row_weight: str | None = None  # a column of weights, one a row
    cache: str | None = None  # a folder that keeps vocabularies and encoded texts for later runs on the same data
    tokens_per_batch: int = Field(16_384, ge=64)
    device: str = "auto"  # cpu, cuda, cuda:N or mps; auto is CUDA where there is one, else the CPU
    train: TrainSettings = Field(default_factory=TrainSettings)
    pretrain: PretrainConfig = Field(default_factory=PretrainConfig)
    finetune: FinetuneConfig = Field(default_factory=FinetuneConfig)

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
    if "events" in given:
        given["events"] = {**(data.get("events") or {}), **given["events"]}
    data |= given
    recipe = Recipe.parse(with_settings(data, list(settings or [])), str(config) if config else "the settings")
    find_device(recipe.device)
    return recipe


def budget_seconds(budget: str | float | None) -> float | None:
    """`"10min"`, `"90s"`, `"2h"` or a number of seconds."""
    if budget is None or isinstance(budget, int | float):
        return None if budget is None else float(budget)
    text = budget.strip().lower()
    for unit, factor in (("min", 60), ("h", 3600), ("s", 1), ("", 1)):
        if text.endswith(unit):
            try:
                return float(text.removesuffix(unit)) * factor
            except ValueError:
                break
    raise UsageError(f"--budget expects a time like 90s, 10min or 2h; found {budget!r}.")
