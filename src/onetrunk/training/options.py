"""What a person may say about a run, once for all verbs: each option with its default and a sentence of help.

The command line makes flags of these fields, and the verbs of Python take them as keyword arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

Names = list[str] | None
Pairs = dict[str, str] | None


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which columns of a table are used for what, and how its rows are divided."""

    ask: Annotated[Names, "the columns to predict."] = None
    given: Annotated[Names, "columns to predict from; by default all but ids, constants and leaks."] = None
    ignore: Annotated[Names, "columns to leave out."] = None
    types: Annotated[Pairs, "column=type, where the inferred type is wrong."] = None
    map: Annotated[Pairs, "model_column=table_column, where names differ."] = None
    split: Annotated[str, "auto, random, stratified, or group, scaffold, time or given:COLUMN; with :80/10/10."] = (
        "auto"
    )
    seed: Annotated[int, "the seed of everything random."] = 0
    allow_equal_rows: Annotated[bool, "allow equal rows on both sides of the split."] = False
    device: Annotated[str | None, "cpu, cuda, cuda:N or mps; by default CUDA where there is one, else the CPU."] = None
    max_bad: Annotated[float, "the share of unusable values in a column from which it stops."] = 0.01
    allow_network: Annotated[bool, "allow hf:// names to use the network."] = False

    def __post_init__(self) -> None:
        for name in ("ask", "given", "ignore"):  # one column's name is a list of one
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, [value])


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(DataOptions):
    """A run that leaves a model folder."""

    out: Annotated[str, "the model folder to make."] = "model"
    overwrite: Annotated[bool, "replace an existing model folder."] = False
    start: Annotated[
        str | None, "the model folder to start from (or a Hugging Face folder, hf://name); else from nothing."
    ] = None
    size: Annotated[str | None, "nano, tiny, small, base or large; for a model from nothing."] = None
    events: Annotated[Pairs, "key=value, how a table of events becomes rows, like by=user,order=time,window=50."] = None
    budget: Annotated[str | None, "train for at most this long, like 10min."] = None
    config: Annotated[Any, "a YAML file with any setting."] = None
    settings: Annotated[Names, "key=value, like train.lr=3e-4."] = None
