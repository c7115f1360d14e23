"""What a person may say about a run, once for all verbs: each option with its default and a sentence of help.

The command line makes flags of these fields, and the verbs of Python take them as keyword arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

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

    def but(self, **changes: Any) -> Self:
        """The same with some options changed."""
        return replace(self, **changes)


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


@dataclass(frozen=True, kw_only=True)
class AnswerOptions(DataOptions):
    """How a model answers."""

    out: Annotated[
        str | None,
        "a .csv, .jsonl or .parquet file for the rows and their answers (pictures and sounds go in a folder beside).",
    ] = None
    temperature: Annotated[float, "0 answers the likeliest; higher varies more."] = 0.0
    top_k: Annotated[int, "draw among the k likeliest only; 0 is no limit."] = 0
    top_p: Annotated[float, "draw among the likeliest that make up this probability."] = 1.0
    max_length: Annotated[int, "tokens of a written answer at most."] = 256
    beams: Annotated[
        int, "search for the likeliest text or molecule, so many kept at once (4 is usual); 1 takes token by token."
    ] = 1
    guidance: Annotated[float, "how strongly a drawing follows what is given; 1 is plain."] = 1.0
    steps: Annotated[int, "steps of a drawing."] = 24
