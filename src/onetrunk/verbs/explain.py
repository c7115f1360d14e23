"""explain: why a model answers rows as it does, and how much the explanation is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.training.options import AnswerOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    from onetrunk.explanation.attribution import Attribution, Finding
    from onetrunk.explanation.trace import Trace
    from onetrunk.training.explaining import Explained
    from onetrunk.verbs.show import Printer

_MOST_COLUMNS = 5  # of a row, in the terminal
_MOST_PARTS = 6  # of a column


@takes(
    AnswerOptions,
    "ask given map seed device max_bad allow_network missing separator lang out prompted max_length",
    helps={
        "ask": "the column whose answer is explained; by default that of the model's task.",
        "given": "the columns to answer from; by default the task's.",
        "lang": "the language of the page: en or zh.",
        "seed": "the seed of what sampling methods and random orders draw.",
        "out": "an .html page, a .json file, or .png pictures.",
    },
)
def explain(
    model: Any = None,
    data: Any = None,
    options: AnswerOptions = AnswerOptions(),  # noqa: B008 - frozen
    *,
    method: str = "marginals",
    target: str | None = None,
    train: Any = None,
    compare: list[str] | str | None = None,
    first: int = 8,
    quick: bool = False,
    board: str | None = None,
    trace: Any = None,
    quiet: bool = False,
) -> Explained | Trace:
    """Explain a model's answers: how much every given column counts, and every token, patch, frame or item of it.

    Args:
        model: a model folder.
        data: a file, folder, DataFrame, dataset, or hf://name; or one row as JSON.
        method: how it is explained: marginals, shapley, integrated_gradients, or another one of docs/explain.md.
        target: the class or text to explain; by default what the model answers.
        train: rows that the model learnt from, for nearest_rows and counterfactual.
        compare: other methods, to see whether they agree.
        first: explain at most so many rows, the first ones.
        quick: do not compare the explanation with random orders.
        board: a folder for TensorBoard: the rows as the model sees them (projector), activations, and the graph.
        trace: instead of a model, a small dense network forward and backward, number by number: a YAML or JSON file,
            or example.
        quiet: print nothing.

    Returns:
        The explanations, one for each row, as `.explanations`, and `.faithfulness`: whether they are better than
        random. With `trace`, its lines.

    Examples:
        onetrunk explain model rows.csv --out why.html
        onetrunk explain model '{"review": "The room was quiet."}' --method integrated_gradients --json
        onetrunk explain --trace example
    """
    from onetrunk.core.errors import UsageError
    from onetrunk.training.explaining import run_explanation, run_trace
    from onetrunk.verbs.show import Printer

    printer = Printer(quiet)
    if trace is not None:
        if model is not None or data is not None:
            raise UsageError("--trace explains a network of its own: leave the model and the rows out.")
        traced = run_trace(trace)
        _show_trace(traced, printer)
        return traced
    if model is None or data is None:
        raise UsageError("explain expects a model folder and rows (onetrunk explain MODEL ROWS), or --trace example.")
    compare = [compare] if isinstance(compare, str) else compare or []
    made = run_explanation(
        model, data, options, printer, method=method, target=target, train=train, compare=compare, first=first,
        quick=quick, board=board,
    )  # fmt: skip
    _show(made, printer)
    return made


def _show(made: Explained, printer: Printer) -> None:
    from onetrunk.explanation.attribution import Attribution, plain

    for each in made.explanations:
        printer.line(("Row ", "bold"), str(each.row), ", ", (each.ask, "bold"), f": {_short(plain(each.answer), 60)}")
        if isinstance(each, Attribution):
            _show_values(each, printer)
        else:
            _show_table(each, printer)
        for note in each.notes:
            printer.note(note)
    judged = made.faithfulness
    if judged is None:
        return
    printer.line((judged.sentence(), "green" if judged.better_than_random else "yellow"))
    if judged.stability is not None:
        printer.line(f"Stability {judged.stability:.2f}: the rank correlation when a row loses one part.")
    for name, value in judged.agreement.items():
        printer.line(f"Agreement with {name}: {value:.2f}, the mean rank correlation.")


def _show_trace(traced: Trace, printer: Printer) -> None:
    from onetrunk.explanation.trace import number

    parts = {
        "Forward: what every number makes of the answer": traced.forward,
        "Backward: what the error says of every number (chain rule)": traced.backward,
        "One step of gradient descent": traced.update,
    }
    for title, lines in parts.items():
        printer.line((title, "bold"))
        for line in lines:
            printer.line(f"  {line}")
    printer.line(
        ("Forward again: ", "bold"), f"the loss goes from {number(traced.loss)} to {number(traced.loss_after)}"
    )


def _show_values(each: Attribution, printer: Printer) -> None:
    """The columns, and the parts of each, that count most."""
    from onetrunk.explanation.attribution import in_words

    unit = f" {each.unit}" if each.unit else ""
    columns = sorted(each.columns, key=lambda c: -abs(float(c.values.sum())))
    for column in columns[:_MOST_COLUMNS]:
        line = f"  {float(column.values.sum()):+.3g}{unit}  "
        parts = ""
        if column.by_part is not None and len(column.parts) > 1:
            values = column.by_part.sum(0)
            best = sorted(range(len(values)), key=lambda k: -abs(values[k]))[:_MOST_PARTS]
            parts = ": " + ", ".join(f"{_short(column.parts.labels[k].strip(), 24)} {values[k]:+.3g}" for k in best)
        printer.line(line, (column.column, "bold"), parts)
    kind = "" if each.additive else " (this method does not promise that its values add up)"
    printer.line((f"  completeness error {in_words(each.completeness_error)}{kind}", "dim"))


def _show_table(each: Finding, printer: Printer) -> None:
    from rich.table import Table

    from onetrunk.verbs.show import literal

    table = Table(title=literal(each.title), title_justify="left")
    for name in each.header:
        table.add_column(literal(name))
    for row in each.rows:
        cells = ["" if x is None else f"{x:.4g}" if isinstance(x, float) else _short(x, 40) for x in row]
        table.add_row(*map(literal, cells))
    printer.console.print(table)


def _short(value: Any, most: int) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"
