"""Shows events to a person, on standard error, so that results can be piped.

Names and values come from data: they are printed literally, brackets and escape sequences too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from onetrunk.core.events import (
    AnsweringEnded,
    BaselineDone,
    CalibrationDone,
    ColumnAdded,
    ColumnExtended,
    CostCounted,
    Decision,
    Event,
    FoldDone,
    Heading,
    LedgerLine,
    Note,
    PartPrepared,
    RolesChosen,
    RowsAnswered,
    RowsSplit,
    Saved,
    StageStarted,
    StepDone,
    StepsEnded,
    StepsStarted,
    TrialDone,
)
from onetrunk.core.terminal import printable
from onetrunk.evaluation.audit.record import Audited
from onetrunk.evaluation.audit.sentences import summary
from onetrunk.evaluation.gates import gate_sentence
from onetrunk.evaluation.record import Evaluated, Evidence
from onetrunk.evaluation.words import cost_line, energy, headline, weight

if TYPE_CHECKING:
    from rich.progress import Progress

Part = str | tuple[str, str]  # text, or text and its style


def literal(*parts: Part) -> Text:
    """One line of parts, none of which is read as markup; a line break in a name is written out."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((printable(text).replace("\n", "\\n"), style) for text, style in pairs))


class Printer:
    """A listener that prints what it hears: one live line while steps are made, or rows answered, on a terminal, a line
    every tenth of them elsewhere. With `quiet` nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet, highlight=False, emoji=False)
        self._live: Progress | None = None
        self._tenth = 0  # of the rows that are answered, so many tenths have been told of

    def __call__(self, event: Event) -> None:
        match event:
            case Note(message):
                self.note(message)
            case Heading(title):
                self.console.rule(literal(title))
            case RolesChosen():
                self._roles(event)
            case RowsSplit(rows, how):
                sizes = " · ".join(f"{name} {count:,}" for name, count in rows.items())
                self.line(("Rows:", "bold"), f" {sizes}, ", (how, "dim"))
            case LedgerLine(message):
                self.line(("Ledger:", "yellow"), f" {message}")
            case ColumnAdded(name, kind):
                self.line("New column ", (name, "bold"), " ", (f"({kind})", "dim"))
            case ColumnExtended(name, added):
                self.line("Column ", (name, "bold"), f": {added:,} new classes or words")
            case StageStarted(stage, rows, steps, parameters, documents):
                each = " + ".join(f"{count:,} rows ({name})" for name, count in documents.items())
                size = f" on {rows:,} rows: {steps:,} steps of {each}, {parameters:,} parameters"
                self.line((stage.capitalize(), "bold"), size)
            case FoldDone(fold, folds, metric, pretrained, tuned):
                scores = f"as pretrained {_figure(pretrained)}, fine-tuned {_figure(tuned)}"
                self.line(f"Fold {fold} of {folds}, {metric}: {scores}")
            case Decision(chosen, reason, values):
                figures = ", ".join(f"{name} {_figure(value)}" for name, value in values.items())
                self.line("Using ", (chosen, "bold"), f", {reason}" + (f": {figures}" if figures else "") + ".")
            case CalibrationDone(column, rows, fitted_on, before, after):
                changes = [f"{name} {_figure(value)} → {_figure(after.get(name))}" for name, value in before.items()]
                self.line("Calibrated ", (column, "bold"), f" on {rows:,} {fitted_on}: {', '.join(changes)}")
            case TrialDone():
                self._trial(event)
            case BaselineDone():
                self._baseline(event)
            case Saved(what, path):
                self.line(f"The {what} is in ", (path, "bold"), ".")
            case CostCounted(_, seconds, wh, co2_g, peak_bytes, measured):
                self.line(("Cost:", "bold"), f" {cost_line(seconds, wh, co2_g, peak_bytes, measured)}.")
            case Evaluated(evidence):
                self.evidence(evidence)
            case Audited(audit):
                for sentence in summary(audit):
                    self.line(("Audit:", "bold"), f" {sentence}")
            case StepsStarted() | StepDone() | StepsEnded():
                self._steps(event)
            case RowsAnswered() | AnsweringEnded():
                self._rows(event)
            case PartPrepared(what, done, of):
                if 10 * done // of > 10 * (done - 1) // of:  # at each tenth
                    self.line(f"{done:,} of {of:,} {what}")

    def line(self, *parts: Part) -> None:
        """One line, literally."""
        console = self.console if self._live is None else self._live.console
        console.print(literal(*parts), soft_wrap=not console.is_terminal)

    def note(self, message: str) -> None:
        """A sentence that a person should read."""
        self.line(("Note:", "yellow"), f" {message}")

    def evidence(self, evidence: Evidence) -> None:
        """Of each task first whether the model is better than simple baselines, level or worse; then its main metric
        beside theirs."""
        for task in evidence.tasks:
            self.line((headline(task), "bold"))
            table = Table(title=literal(f"{task.ask}, {task.rows:,} held-out rows"))
            table.add_column("")
            metric = f"{task.metric} in {task.unit}" if task.unit and task.unit not in task.metric else task.metric
            table.add_column(literal(metric), justify="right")
            table.add_column("95 % interval", justify="right")
            scored = [(literal(baseline.name), baseline.score) for baseline in task.baselines if baseline.score]
            for name, score in [*scored, (literal(("this model", "bold")), task.score)]:
                if score is not None:
                    table.add_row(name, f"{score.value:.3f}", f"{score.low:.3f} to {score.high:.3f}")
            self.console.print(table)
            others = {k: v for k, v in task.metrics.items() if k != task.metric and v is not None}
            self.line("  ".join(f"{name} {value:.3f}" for name, value in others.items()))
        for verdict in evidence.gates:
            how = ("Gate kept:", "green") if verdict.passed else ("Gate failed:", "red")
            self.line(how, f" {gate_sentence(verdict)}")

    def _roles(self, event: RolesChosen) -> None:
        for title, columns in (("Given:", event.given), ("Asked:", event.asked)):
            if columns or title == "Given:":
                self.line((title, "bold"), " ", *(_typed(columns.items()) or ["nothing"]))
        for name, reason in event.left_out.items():
            self.line(("Left out:", "bold"), f" {name} ", (f"({reason})", "dim"))

    def _baseline(self, event: BaselineDone) -> None:
        if event.value is None:
            result, seconds = event.note or "not measured", ""
        else:
            result, seconds = f"{event.metric} {event.value:.3f}", f" ({event.seconds:.1f} s)"
        self.line("Baseline of ", (event.ask, "bold"), f", {event.name}: {result}", (seconds, "dim"))

    def _trial(self, event: TrialDone) -> None:
        result = event.state if event.score is None else f"loss {event.score:.4f}"
        why = f" ({event.note})" if event.note else ""
        best = (", the best so far", "bold") if event.is_best else ""
        trial = f"Trial {event.number}"
        self.line((trial, "bold"), f", {event.settings}: {result}{why}", best, (f" ({event.seconds:.0f} s)", "dim"))

    def _steps(self, event: StepsStarted | StepDone | StepsEnded) -> None:
        if self.quiet:
            return
        if isinstance(event, StepsStarted):
            if self.console.is_terminal:
                self._live = _live(self.console)
                self._live.start()
                self._live.add_task(event.stage, total=event.steps, completed=event.step, facts="")
        elif isinstance(event, StepDone):
            share = "" if event.mfu is None else f"  MFU {100 * event.mfu:.0f} %"
            speed = f"{event.tokens_per_s:,.0f} tokens/s{share}  " if event.tokens_per_s else ""
            spent = "" if event.epsilon is None else f"ε {event.epsilon:.2f}  "
            facts = f"loss {event.loss:.4f}  {spent}{speed}{event.memory_bytes / 1e9:.1f} GB{_energy(event)}"
            if self._live is not None:
                self._live.update(self._live.task_ids[0], completed=event.step, facts=facts)
            elif event.step == event.steps or event.step % max(1, event.steps // 10) == 0:
                self.line(f"{event.stage} {event.step}/{event.steps}  {facts}")
        elif self._live is not None:
            self._live.stop()
            self._live = None

    def _rows(self, event: RowsAnswered | AnsweringEnded) -> None:
        if self.quiet:
            return
        if isinstance(event, AnsweringEnded):
            self._tenth = 0
            if self._live is not None:
                self._live.stop()
                self._live = None
        elif self.console.is_terminal:
            if self._live is None:
                self._live = _live(self.console)
                self._live.start()
                self._live.add_task("rows", total=event.of, completed=event.rows, facts="")
            self._live.update(self._live.task_ids[0], completed=event.rows)
        elif (tenth := 10 * event.rows // max(1, event.of)) > self._tenth:
            self._tenth = tenth
            self.line(f"Answered {event.rows:,} of {event.of:,} rows")


def _live(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    facts = TextColumn("{task.fields[facts]}")
    left = TimeRemainingColumn(compact=True)
    return Progress(TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), facts, left, console=console)


def _energy(event: StepDone) -> str:
    """`  ≈ 41 mWh, 19 mg CO2`: units alone, which are the same in all languages; ≈ where they are estimated."""
    if event.wh is None or event.co2_g is None:
        return ""
    return f"  {'' if event.energy_measured else '≈ '}{energy(event.wh)}, {weight(event.co2_g)} CO2"


def _typed(columns: Iterable[tuple[str, str]]) -> list[Part]:
    """Names, each with its type, and commas between."""
    parts: list[Part] = []
    for name, kind in columns:
        parts += [f"{', ' if parts else ''}{name} ", (f"({kind})", "dim")]
    return parts


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
