"""Why a model answers rows of a table as it does: what the verb explain does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core.answer import Sampling
from onetrunk.core.config import read_yaml
from onetrunk.core.errors import UsageError
from onetrunk.core.events import LedgerLine, Listener, Note, Saved, ignore
from onetrunk.core.terminal import json_line
from onetrunk.data.ledger import Ledger
from onetrunk.data.table import Table
from onetrunk.engine.runtime import Runtime, find_device
from onetrunk.evaluation.explanation_page import explanation_page
from onetrunk.evaluation.explanation_pictures import bars
from onetrunk.evaluation.faithfulness import Faithfulness, judge
from onetrunk.evaluation.language import speaking
from onetrunk.explanation.attribution import Attribution, Explanation
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import DEFAULT, Method, Settings, method_named, named_methods
from onetrunk.explanation.question import Question, ask_about, needs_parts
from onetrunk.explanation.trace import EXAMPLE, Network, Trace, trace
from onetrunk.inference.given import nothing_given
from onetrunk.inference.model_folder import Model, load
from onetrunk.inference.tables import read_rows
from onetrunk.storage.disk import disk_errors
from onetrunk.training.board import MAX_ROWS, write_board
from onetrunk.training.open_data import check_map, missing_words, renamed
from onetrunk.training.options import AnswerOptions

SUFFIXES = (".html", ".json", ".png")


@dataclass(frozen=True)
class Explained:
    """Explanations of some rows, and how much they are worth."""

    explanations: list[Explanation]
    faithfulness: Faithfulness | None

    def as_json(self) -> dict[str, Any]:
        judged = self.faithfulness
        return {
            "explanations": [each.as_json() for each in self.explanations],
            "faithfulness": None if judged is None else judged.as_json(),
        }


def run_explanation(
    model: Model | str,
    data: Any,
    options: AnswerOptions,
    on_event: Listener = ignore,
    *,
    method: str = DEFAULT,
    target: str | None = None,
    train: Any = None,
    compare: Sequence[str] = (),
    first: int = 8,
    quick: bool = False,
    board: str | None = None,
) -> Explained:
    """Explains the model's answers to the `first` rows by a method, and compares it with random orders and with the
    methods `compare`; with `quick` it does not. `train` are rows that the model learnt from. `board` is a folder that
    TensorBoard opens."""
    out = None if options.out is None else Path(options.out)
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out expects a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file, found {out.name!r}.")
    if first < 1:
        raise UsageError(f"--first expects 1 or more, found {first}.")
    named_methods([method, *compare])
    opened = _opened(model, options)
    ask = _one_asked(opened, options)
    settings = Settings(options.seed, model=opened, train=_training_rows(opened, train, options))
    ledger = Ledger()
    whole = _rows(opened, data, ask, options, ledger)
    table = whole.take(np.arange(min(len(whole), first)))
    if len(whole) > first:
        on_event(Note(f"The first {first} of {len(whole):,} rows are explained; --first says how many."))
    result = explain_table(
        opened, table, ask, settings, given=options.given, method=method, compare=compare, target=target,
        prompted=options.prompted, quick=quick, sampling=Sampling(max_length=options.max_length), ledger=ledger,
    )  # fmt: skip
    ledger.check(len(table), options.max_bad)
    for line in ledger.lines():
        on_event(LedgerLine(line))
    if out is not None:
        write(result, out, _name(opened), options.lang)
        on_event(Saved(f"explanation of {len(result.explanations)} rows", str(out)))
    if board is not None:
        write_board(Path(board), opened, whole, ask, options.given)
        on_event(Saved(f"{min(len(whole), MAX_ROWS):,} rows for TensorBoard (tensorboard --logdir {board})", board))
    return result


def run_trace(network: Any) -> Trace:
    """A small dense network forward and backward, number by number: `example`, a YAML or JSON file, or a mapping."""
    if network == "example":
        return trace(EXAMPLE)
    settings, where = (network, "network") if isinstance(network, dict) else (read_yaml(network), str(network))
    return trace(Network.parse(settings, where))


def explain_table(
    model: Model,
    table: Table,
    ask: str,
    settings: Settings,
    *,
    given: Sequence[str] | None = None,
    method: str = DEFAULT,
    compare: Sequence[str] = (),
    target: str | None = None,
    prompted: bool = False,
    quick: bool = False,
    sampling: Sampling | None = None,
    ledger: Ledger | None = None,
) -> Explained:
    """Explains the answers to all rows of a table. See `run_explanation`."""
    used = method_named(method, settings)
    others = {name: method_named(name, settings) for name in compare if name != method}
    questions = ask_about(model, table, ask, given, target, prompted, settings.seed, sampling, ledger)
    explained = [_explained(used, question) for question in questions]
    return Explained(explained, None if quick else _judged(used, others, questions, explained, settings.seed))


def _explained(method: Method, question: Question) -> Explanation:
    needs_parts(question)
    return method.explain(Game(question))


def _judged(
    method: Method,
    others: dict[str, Method],
    questions: Sequence[Question],
    explained: Sequence[Explanation],
    seed: int,
) -> Faithfulness | None:
    own = [each for each in explained if isinstance(each, Attribution)]
    if len(own) < len(explained):
        return None
    theirs = {name: [_explained(other, question) for question in questions] for name, other in others.items()}
    alike = {name: [e for e in each if isinstance(e, Attribution)] for name, each in theirs.items()}
    alike = {name: each for name, each in alike.items() if len(each) == len(own)}
    return judge(questions, own, method, alike, seed)


def _rows(model: Model, data: Any, ask: str, options: AnswerOptions, ledger: Ledger) -> Table:
    check_map(model, options.map)
    read = read_rows(data, options.allow_network, missing_words(options, model), options.separator)
    table = model.to_answer(renamed(read, options.map), [ask], ledger, options.max_bad)
    given = model.task([ask], options.given).given
    if not any(name in table.columns for name in given) and ask not in table.columns:
        raise nothing_given(given or [ask], table)
    return table


def _training_rows(model: Model, train: Any, options: AnswerOptions) -> Table | None:
    if train is None:
        return None
    read = read_rows(train, options.allow_network, missing_words(options, model), options.separator)
    return renamed(read, options.map)


def _one_asked(model: Model, options: AnswerOptions) -> str:
    asked = model.task(options.ask, options.given).ask
    if len(asked) != 1:
        raise UsageError(f"One column's answers are explained at a time; name it with --ask: {', '.join(asked)}.")
    return asked[0]


def _opened(model: Model | str, options: AnswerOptions) -> Model:
    device = options.device or "auto"
    find_device(device)  # a device that is not there is refused before a model is read
    opened = model if isinstance(model, Model) else load(model, device="cpu", allow_network=options.allow_network)
    Runtime.open(device).place(opened.network)
    return opened


def _name(model: Model) -> str:
    return "model" if model.folder is None else model.folder.name or "model"


# -- files -----------------------------------------------------------------------------------------------------------
def write(explained: Explained, out: Path, name: str, language: str = "en") -> None:
    """An .html page, a .json file, or .png pictures of bars: of several rows one each, numbered."""
    suffix = out.suffix.lower()
    if suffix == ".html":
        page = explanation_page(explained.explanations, explained.faithfulness, name, language)
        files = {out: page.encode("utf-8", "backslashreplace")}
    elif suffix == ".json":
        files = {out: (json_line(explained.as_json()) + "\n").encode()}
    else:
        own = [each for each in explained.explanations if isinstance(each, Attribution)]
        if not own:
            raise UsageError("This method leaves a table, which is no picture: write it to an .html or .json file.")
        paths = [out] if len(own) == 1 else [out.with_name(f"{out.stem}-{i:04d}{out.suffix}") for i in range(len(own))]
        with speaking(language):
            files = {path: bars(each) for path, each in zip(paths, own, strict=True)}
    for path, content in files.items():
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            staging = path.with_name(f".{path.name}.tmp")
            staging.write_bytes(content)
            staging.replace(path)
