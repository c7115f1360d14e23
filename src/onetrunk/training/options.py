"""The options that several verbs share, each with its default and its help text.

The command line makes flags of these fields, and the verbs of Python take them as keyword arguments.
"""

from __future__ import annotations

import functools
import os
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Annotated, Any, Self

from onetrunk.core.errors import UsageError
from onetrunk.data.ledger import MAX_BAD
from onetrunk.evaluation.language import check_language

_LARGEST_SEED = (1 << 32) - 1  # that NumPy and scikit-learn take
Names = list[str] | None  # in Python one name may stand for itself
Pairs = dict[str, str] | None
_EXPECTED: dict[Any, tuple[Any, str]] = {  # in Python, where nothing is read from a command line
    Names: (list, "a text, or a list of texts"),
    Pairs: (Mapping, "a dictionary"),
    str: (str | os.PathLike, "a text"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (Integral, "True or False"),
}


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which columns of a table are used for what, and how its rows are divided."""

    ask: Annotated[Names, "the column to predict, or several: label,price."] = None
    given: Annotated[
        Names,
        "the columns to predict from; by default all except ids, constants and columns that give the answer away.",
    ] = None
    ignore: Annotated[Names, "columns to leave out."] = None
    types: Annotated[
        Pairs, "the types of columns, where a guess is wrong, and how values are written: zip=category,day=date:dmy."
    ] = None
    map: Annotated[Pairs, "model_column=table_column, if the names differ."] = None
    split: Annotated[
        str,
        "how rows are divided: auto, random, stratified, group:COLUMN, scaffold:COLUMN, time:COLUMN or given:COLUMN; "
        "with shares: random:80/10/10.",
    ] = "auto"
    seed: Annotated[int, "the seed of all random numbers."] = 0
    allow_equal_rows: Annotated[bool, "allow equal rows in different splits."] = False
    device: Annotated[str | None, "cpu, cuda, cuda:N or mps; by default CUDA where there is one, else the CPU."] = None
    max_bad: Annotated[float, "stop if a larger share of a column's values cannot be used."] = MAX_BAD
    allow_network: Annotated[bool, "allow downloads of hf:// names."] = False
    missing: Annotated[
        str | None, "words that mean a missing value, like NA,?; '' means none; by default the usual ones, unquoted."
    ] = None
    allow_failed_gates: Annotated[bool, "go on with a model that does not keep its gates; its card then says so."] = (
        False
    )
    producer: Annotated[
        str | None,
        "who answers for what is written or drawn, a name or code that the files then carry; by default the model's "
        "name.",
    ] = None
    lang: Annotated[str, "the language of the report: en or zh."] = "en"
    separator: Annotated[str | None, "the sign between the cells of CSV and TSV files, if it is not recognised."] = None

    def __post_init__(self) -> None:
        for name in ("ask", "given", "ignore", "settings"):  # one column's name is a list of one
            value = getattr(self, name, None)
            if isinstance(value, Collection) and not isinstance(value, Mapping):
                object.__setattr__(self, name, [value] if isinstance(value, str) else list(value))
        own: type = type(self)
        for name, (hint, optional) in _hints(own).items():
            _check_kind(name, getattr(self, name), hint, optional)
        check_language(self.lang)
        if not 0 <= self.max_bad <= 1:
            raise UsageError(f"--max-bad expects a share from 0 to 1, found {self.max_bad}.")
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise UsageError(f"--seed expects a whole number from 0 to {_LARGEST_SEED}, found {self.seed}.")

    def missing_words(self) -> list[str] | None:
        """None: the usual ones."""
        return None if self.missing is None else [word.strip() for word in self.missing.split(",") if word.strip()]

    def but(self, **changes: Any) -> Self:
        """The same with some options changed."""
        return replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(DataOptions):
    """A run that leaves a model folder."""

    out: Annotated[str, "the model folder to make."] = "model"
    overwrite: Annotated[bool, "replace an existing model folder."] = False
    start: Annotated[
        str | None, "the model folder to start from (or a Hugging Face folder, or hf://name); by default a new model."
    ] = None
    size: Annotated[str | None, "the size of a new model: nano, tiny, small, base or large."] = None
    mixture: Annotated[Pairs, "how often each of several tables is drawn from: web=3,books=1."] = None
    events: Annotated[Pairs, "how a table of events becomes rows, like by=user,order=time,window=50."] = None
    private: Annotated[
        Pairs,
        "train with differential privacy, like eps=3,delta=1e-5; also clip=1 (largest gradient of a row) and views=1.",
    ] = None
    budget: Annotated[str | None, "train for at most this long, like 10min."] = None
    max_memory: Annotated[
        str | None, "begin nothing that would need more memory than this, like 8GB, in one process."
    ] = None
    track: Annotated[str | None, "log the run with wandb or mlflow, on this machine unless --allow-network."] = None
    config: Annotated[Any, "a YAML file with settings."] = None
    settings: Annotated[Names, "one setting as key=value, like train.lr=3e-4; may be repeated."] = None

    def __post_init__(self) -> None:
        if isinstance(self.budget, Real):  # seconds
            object.__setattr__(self, "budget", str(self.budget))
        if isinstance(self.max_memory, Real):  # GB
            object.__setattr__(self, "max_memory", str(self.max_memory))
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class AnswerOptions(DataOptions):
    """How a model answers."""

    out: Annotated[
        str | None,
        "a .csv, .jsonl or .parquet file for the rows and their answers (images and sounds go in a folder beside it).",
    ] = None
    coverage: Annotated[
        float | None,
        "how likely intervals and sets of classes hold what is true; by default 0.9, and sets are not written.",
    ] = None
    shard: Annotated[
        str | None, "answer only one part of the rows, like 2/8; auto is the part of this process of torchrun."
    ] = None
    prompted: Annotated[bool, "continue the texts that the rows already have in the asked column."] = False
    visible_label: Annotated[
        bool, "label what is written or drawn for people, too: words in texts and pictures, a rhythm before sounds."
    ] = False
    temperature: Annotated[float, "0 gives the most likely answer; higher values give more varied ones."] = 0.0
    top_k: Annotated[int, "draw only from the k most likely; 0 means no limit."] = 0
    top_p: Annotated[float, "draw only from the most likely ones that together have this probability."] = 1.0
    max_length: Annotated[int, "the largest number of tokens of a written answer."] = 256
    beams: Annotated[int, "beams of a search for the most likely text or molecule (4 is usual); 1 means no search."] = 1
    guidance: Annotated[float, "how closely a drawing follows the given columns; 1 means no guidance."] = 1.0
    steps: Annotated[int, "the number of steps in which an image or a sound is drawn."] = 24


@functools.cache
def _hints(options: type) -> dict[str, tuple[Any, bool]]:
    """Of each option: what it is (a key of `_EXPECTED`), and may it be None? What may be anything is left out."""
    found = {}
    for name, hint in typing.get_type_hints(options).items():
        rest = [each for each in typing.get_args(hint) if each is not type(None)]
        kind = hint if hint in _EXPECTED or len(rest) != 1 else rest[0]
        if kind in _EXPECTED:
            found[name] = kind, type(None) in typing.get_args(hint)
    return found


def _check_kind(name: str, value: Any, hint: Any, optional: bool) -> None:
    if value is None and optional:
        return
    kind, expected = _EXPECTED[hint]
    if not isinstance(value, kind):
        raise UsageError(f"{name} expects {expected}, found {value!r:.100}.")
    if hint == Names and (odd := [each for each in value if not isinstance(each, str)]):
        raise UsageError(f"{name} expects {expected}; found {odd[0]!r:.100} among them.")
