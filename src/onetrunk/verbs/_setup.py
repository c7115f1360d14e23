"""What several verbs share: the run's configuration, opening a table for a model, from options to batches."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from rich.console import Console

from onetrunk.core import folder as files
from onetrunk.core.config import Config, read_yaml, with_settings
from onetrunk.core.errors import UsageError
from onetrunk.core.objective import Objective, ObjectiveConfig
from onetrunk.core.registry import objectives as objective_kinds
from onetrunk.data.cache import Cache
from onetrunk.data.fold import FoldConfig, fold
from onetrunk.data.ledger import Ledger
from onetrunk.data.loader import Loader
from onetrunk.data.met import parts_before, unknowable
from onetrunk.data.pack import Store
from onetrunk.data.split import Split, split
from onetrunk.data.table import Table, infer_types, read, roles
from onetrunk.engine.trainer import TrainSettings, planned_steps
from onetrunk.inference.model_folder import Model
from onetrunk.nn.lora import LoRAConfig
from onetrunk.objectives.distil import DistilOptions

# One dial: width, depth and heads follow; the learning rate of vectors and read-outs falls with the width.
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
    distil: DistilOptions = Field(default_factory=DistilOptions)
    metric: str | None = None  # chooses the best step; None: the asked column's main one
    repeats: int = Field(1, ge=1)  # seeds; the best on validation is kept and the spread reported
    spread: bool = False  # let rows without the asked value learn from their neighbours' (a closed set of answers)
    folds: int = Field(5, ge=2)  # of cross-validation, where there are too few labels for a validation part


class RunConfig(Config):
    """Everything a training verb can be told; the same keys in YAML (`--config`) and in `--set`."""

    size: Literal["nano", "tiny", "small", "base", "large"] = "tiny"
    trunk: dict[str, Any] = Field(default_factory=dict)
    given: Literal["bidirectional", "causal"] = "bidirectional"
    columns: dict[str, dict[str, Any]] = Field(default_factory=dict)
    fold: FoldConfig | None = None  # how a table of events becomes rows; None: its lines are rows
    row_weight: str | None = None  # a column of weights, one a row
    cache: str | None = None  # a folder that keeps vocabularies and encoded texts for later runs on the same data
    tokens_per_batch: int = Field(16_384, ge=64)
    train: TrainSettings = Field(default_factory=TrainSettings)
    pretrain: PretrainConfig = Field(default_factory=PretrainConfig)
    finetune: FinetuneConfig = Field(default_factory=FinetuneConfig)

    def trunk_config(self) -> dict[str, Any]:
        kind = self.trunk.get("kind", "transformer")
        size = dict(SIZES[self.size])
        if kind != "transformer":
            del size["heads"]
        return {"kind": kind, **size, **self.trunk}


def run_config(config: str | Path | dict[str, Any] | None, settings: Sequence[str] | None, **flags: Any) -> RunConfig:
    """A YAML file or dict, then flags, then `key=value` settings; later ones win."""
    data = read_yaml(config) if isinstance(config, str | Path) else dict(config or {})
    given = {name: value for name, value in flags.items() if value is not None}
    if "fold" in given:
        given["fold"] = {**(data.get("fold") or {}), **given["fold"]}
    data |= given
    return RunConfig.parse(with_settings(data, list(settings or [])), str(config) if config else "the settings")


def console(quiet: bool) -> Console:
    """Where a verb tells a person what it does: standard error, so that results can be piped."""
    return Console(stderr=True, quiet=quiet)


def check_free(out: str | Path, overwrite: bool) -> None:
    """Raises UsageError before any work when the result could not be put at `out`; with `overwrite` clears the way."""
    place = Path(out)
    for path in (place, *place.parents):
        if path.is_file():
            raise UsageError(f"{path} is a file; name another --out.")
    finished = (place / files.MANIFEST).exists()
    if finished and not overwrite:
        raise UsageError(f"{place} already exists; name another --out or pass --overwrite.")
    if place.is_dir() and not finished and any(entry.name not in files.TRAINING for entry in place.iterdir()):
        raise UsageError(f"{place} holds other files and no model; name another --out.")
    if overwrite:
        for name in files.TRAINING:  # of the run that is replaced
            path = place / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@dataclass
class Data:
    """A table opened for training: types, roles and parts chosen and explained."""

    table: Table
    types: dict[str, str]
    options: dict[str, dict[str, Any]]
    given: list[str]
    ask: list[str]
    reasons: dict[str, str]
    split: Split
    ledger: Ledger = field(default_factory=Ledger)
    fold: FoldConfig | None = None
    cache: Cache | None = None

    def part(self, name: str) -> Table:
        return self.table.take(self.split.parts()[name])

    @property
    def names(self) -> list[str]:
        return [*self.given, *self.ask]


def types_and_options(
    table: Table, config: RunConfig, types: dict[str, str] | None
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Every column's type, inferred where nobody said it, and its options. Raises UsageError for unknown columns."""
    options = {name: dict(o) for name, o in config.columns.items()}
    for name in options:
        table[name]
    told = {name: o.pop("type") for name, o in options.items() if "type" in o}
    return infer_types(table, {**told, **(types or {})}, folded=config.fold is not None), options


def renamed(table: Table, map: dict[str, str] | None) -> Table:
    """`{"model_column": "table_column"}`: the table under the model's names."""
    return table.rename({theirs: ours for ours, theirs in (map or {}).items()})


def open_data(
    data: Any,
    *,
    ask: Sequence[str] | None,
    given: Sequence[str] | None,
    ignore: Sequence[str] | None,
    types: dict[str, str] | None,
    map: dict[str, str] | None,
    split_spec: str,
    seed: int,
    allow_equal_rows: bool,
    network: bool,
    config: RunConfig,
    console: Console,
    start: Model | None = None,
    max_bad: float = 0.01,
) -> Data:
    """Reads, folds, types, chooses roles and splits, and says what it chose. Rows keep the part they had for `start`,
    the model that training goes on from."""
    cache = None if config.cache is None else Cache(config.cache)
    table, ledger = renamed(read(data, allow_network=network), map), Ledger()
    if config.fold is not None:
        table = fold(table, config.fold, ask or [], split=split_spec, seed=seed, ledger=ledger, max_bad=max_bad)
    kinds, options = types_and_options(table, config, types)
    given_names, asked, reasons = roles(table, kinds, ask, given, ignore)
    if config.row_weight in given_names:
        given_names.remove(config.row_weight)
        reasons[config.row_weight] = "the rows' weights"
    before = None if start is None else rows_met(start, table, console)
    if config.fold is not None:  # its rows are in parts; what an asked column has seen tells equal ones apart
        parts = split(table, kinds, "given:split", seed, given=[], ask=asked, before=before)
    else:
        parts = split(
            table, kinds, split_spec, seed, given=given_names, ask=asked, allow_equal_rows=allow_equal_rows,
            before=before,
        )  # fmt: skip
    for note in [*table.notes, *parts.notes]:
        console.print(f"[yellow]Note:[/] {note}", highlight=False)
    shown = ", ".join(f"{n} [dim]{kinds[n]}[/]" for n in given_names) or "nothing"
    console.print(f"[bold]Given[/] {shown}", highlight=False)
    if asked:
        console.print("[bold]Asked[/] " + ", ".join(f"{n} [dim]{kinds[n]}[/]" for n in asked), highlight=False)
    for name, reason in reasons.items():
        console.print(f"[bold]Left out[/] {name} [dim]{reason}[/]", highlight=False)
    sizes = " · ".join(f"{name} {len(index):,}" for name, index in parts.parts().items())
    console.print(f"[bold]Rows[/] {sizes} [dim]{parts.how}[/]", highlight=False)
    return Data(table, kinds, options, given_names, asked, reasons, parts, ledger, config.fold, cache)


def rows_met(model: Model, table: Table, console: Console) -> np.ndarray:
    """The part each row had when the model was trained, int64 [rows], -1 where it was not met (`data.met`)."""
    records = [stage["met"] for stage in model.provenance.get("stages", []) if "met" in stage]
    if absent := unknowable(table, records):
        console.print(
            f"[yellow]Note:[/] rows that the model learnt from cannot be told here, for want of {', '.join(absent)}: "
            "do not hold them out.",
            highlight=False,
        )
    return parts_before(table, records)


def with_row_weights(store: Store, table: Table, column: str | None) -> Store:
    """Gives the store its rows' weights. Raises UsageError where one is missing or negative."""
    if column is not None:
        values = table[column]
        try:
            weights = np.array([float(v) for v in values], dtype=np.float32)
        except (TypeError, ValueError):
            weights = np.full(len(values), np.nan, dtype=np.float32)
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise UsageError(f"The column {column!r} must hold a weight of 0 or more in every row.")
        store.row_weight = weights
    return store


def make_objectives(configs: Sequence[ObjectiveConfig], store: Store) -> list[Objective]:
    """Objectives from their configurations; two of one kind are told apart by number."""
    made: list[Objective] = []
    for config in configs:
        same = sum(o.config.kind == config.kind for o in made)
        tag = config.kind if not same else f"{config.kind}{same + 1}"
        made.append(objective_kinds.get(config.kind)(tag, config, store.names, store.codecs))
    return made


def count_steps(rows: int, documents: int, epochs: float, least: int, most: int) -> int:
    """Steps for some passes over the rows, within bounds."""
    return int(np.clip(math.ceil(rows * epochs / max(1, documents)), least, most))


def seconds(budget: str | float | None) -> float | None:
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


def steps_within(
    module: torch.nn.Module, batches: Callable[[int], list], steps: int, limit: float | None, out: Path
) -> int:
    """How many of the steps fit in `limit` seconds, from a short probe; decided before step 0, and for a run in `out`
    that goes on as it was decided then. The module is not changed."""
    if limit is None:
        return steps
    if (planned := planned_steps(out)) is not None:
        return planned
    tried = 3
    for step in range(tried + 1):
        if step == 1:
            start = time.monotonic()  # the first step warms up
        for batch in batches(step):
            sum(loss.sum for loss in module(batch).values()).backward()
    module.zero_grad(set_to_none=True)
    one = (time.monotonic() - start) / tried * 1.1
    return int(np.clip(limit / one, 20, steps))


def loader(
    store: Store, configs: Sequence[ObjectiveConfig], config: RunConfig, seed: int
) -> tuple[Loader, list[Objective]]:
    made = make_objectives(configs, store)
    given_causal = config.given == "causal"
    return Loader(store, made, seed=seed, tokens_per_batch=config.tokens_per_batch, given_causal=given_causal), made
