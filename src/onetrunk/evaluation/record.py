"""What is known of a model, as plain data: `evidence/metrics.json`, `evidence/samples.json` and the figures.

Card and report are made from this alone, so they can be made again from the folder.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from onetrunk.core.errors import ModelFileError
from onetrunk.core.events import Event
from onetrunk.evaluation.intervals import Interval
from onetrunk.storage.regular import size_of_file

FORMAT = 3
FOLDER = "evidence"
Display = dict[str, str]  # what Encoder.show makes of a value


@dataclass
class BaselineResult:
    """A simple baseline on the same rows. `lead`: how much better the model is (below 0: worse)."""

    name: str
    metrics: dict[str, float | None] | None = None  # None: skipped, for the reason in `note`
    score: Interval | None = None
    lead: Interval | None = None
    seconds: float = 0.0
    note: str = ""


@dataclass
class Sample:
    """One held-out row. A given value is None where it is missing."""

    group: str
    given: dict[str, Display | None]
    truth: Display  # empty where the given value itself was judged by its likelihood
    answer: Display
    right: bool | None = None  # None where answers are near or far
    confidence: float | None = None
    between: list[Display] | None = None  # the ends of the answer's interval


@dataclass
class TaskEvidence:
    """One asked column on the held-out rows."""

    ask: str
    given: list[str]
    rows: int  # with a truth
    without_truth: int
    metric: str  # the main one
    higher_is_better: bool
    metrics: dict[str, float | None]
    score: Interval | None  # of the main metric
    baselines: list[BaselineResult] = field(default_factory=list)
    classes: list[dict[str, Any]] = field(default_factory=list)  # metrics.classification.per_class
    seconds: float = 0.0  # to answer all rows
    label: str = ""  # its figures are "comparison-LABEL" and "answers-LABEL"
    samples: list[Sample] = field(default_factory=list)
    unit: str = ""  # of the main metric, as a person writes it: kg; empty where it has none
    ece: Interval | None = None  # of classes: how far confidence and accuracy differ on these rows
    cost: dict[str, Any] | None = None  # of 1,000 answers: engine.cost.Cost.as_json(); None: not measured
    calibration: dict[str, Any] | None = None  # core.calibration.Calibration.as_json(); None: there is none
    reliability: list[dict[str, float]] = field(default_factory=list)  # certainty.reliability
    abstention: list[dict[str, Any]] = field(default_factory=list)  # certainty.abstention
    leaks: dict[str, Any] | None = None  # what held-out rows give away; None: no training rows to compare them with
    labels_curve: dict[str, Any] | None = None  # labels_curve.labels_curve; None: not asked for

    @property
    def ranked(self) -> list[tuple[BaselineResult, Interval]]:
        """The baselines that have a score, and their scores, the strongest first."""
        scored = [(baseline, baseline.score) for baseline in self.baselines if baseline.score is not None]
        return sorted(scored, key=lambda each: each[1].value, reverse=self.higher_is_better)

    @property
    def best(self) -> BaselineResult | None:
        """The strongest baseline."""
        return self.ranked[0][0] if self.ranked else None


@dataclass
class Origin:
    """How the model was made; whoever made it fills what is known."""

    data: str = ""  # a name for people, never an absolute path
    rows: dict[str, int] = field(default_factory=dict)  # split to rows
    columns: list[dict[str, str]] = field(default_factory=list)  # Column.as_json()
    split: str = ""  # how, in plain words
    ledger: list[dict[str, Any]] = field(default_factory=list)  # Ledger.as_json()
    parameters: int = 0
    seconds: dict[str, float] = field(default_factory=dict)  # stage to wall time
    hardware: str = ""
    runs: list[dict[str, Any]] = field(default_factory=list)  # each one's verb, begin and engine.cost.Cost.as_json()
    co2_g_per_kwh: float = 0.0  # that their CO2 is reckoned with
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    made: str = ""  # date and time, UTC
    trials: list[dict[str, Any]] = field(default_factory=list)  # what was tried (training.trials.Trial.as_json())
    private: dict[str, Any] | None = None  # what private training promises (evaluation.promise); None: nothing


@dataclass
class Verdict:
    """What the evidence says of one gate. `ask` is empty where it is of the whole model; `value` is None where the
    figure was not measured, which does not pass."""

    metric: str
    ask: str
    bound: float
    at_least: bool  # else at most
    value: float | None
    passed: bool


@dataclass
class Evidence:
    """`figures` are PNG files by name, without suffix; `NAME-dark` is the same for a dark page."""

    name: str
    tasks: list[TaskEvidence]
    origin: Origin = field(default_factory=Origin)
    figures: dict[str, bytes] = field(default_factory=dict)
    language: str = "en"  # of the report
    gates: list[Verdict] = field(default_factory=list)
    overridden: list[dict[str, str]] = field(default_factory=list)  # what was done although a gate failed, and when

    def as_json(self) -> dict[str, Any]:
        """All but samples and figures."""
        tasks = [{k: v for k, v in asdict(task).items() if k != "samples"} for task in self.tasks]
        gates = [asdict(verdict) for verdict in self.gates]
        whole = {"name": self.name, "tasks": tasks, "origin": asdict(self.origin)}
        return finite({**whole, "language": self.language, "gates": gates, "overridden": self.overridden})

    def save(self, folder: str | Path) -> None:
        """Writes metrics.json, samples.json and figures/ under `folder`/evidence."""
        path = Path(folder) / FOLDER
        (path / "figures").mkdir(parents=True, exist_ok=True)
        samples = [[asdict(sample) for sample in task.samples] for task in self.tasks]
        _write(path / "metrics.json", {"format": FORMAT, **self.as_json()})
        _write(path / "samples.json", samples)
        for name, png in self.figures.items():
            (path / "figures" / f"{name}.png").write_bytes(png)

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """The inverse of `save`. Raises ModelFileError when files are missing, damaged or too new."""
        path = Path(folder) / FOLDER
        try:
            data, samples = (_told(path / name) for name in ("metrics.json", "samples.json"))
            if data["format"] > FORMAT:
                raise ModelFileError(f"{path} has format {data['format']}, newer than {FORMAT}: update onetrunk.")
            tasks = [_task(task, display) for task, display in zip(data["tasks"], samples, strict=True)]
            figures = {
                path.stem: path.read_bytes() for path in sorted((path / "figures").glob("*.png")) if path.is_file()
            }
            gates = [Verdict(**verdict) for verdict in data.get("gates", [])]
            language, overridden = data.get("language", "en"), list(data.get("overridden", []))
            return cls(data["name"], tasks, Origin(**data["origin"]), figures, language, gates, overridden)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFileError(
                f"The evidence in {path} cannot be read ({type(error).__name__}: {error}). Run onetrunk evaluate again."
            ) from None


def _task(data: dict[str, Any], samples: list[dict[str, Any]]) -> TaskEvidence:
    first_edition = {"rivals": "baselines"}  # folders of format 1
    data = {first_edition.get(name, name): value for name, value in data.items()}
    baselines = [
        BaselineResult(**{**baseline, "score": _interval(baseline["score"]), "lead": _interval(baseline["lead"])})
        for baseline in data["baselines"]
    ]
    kept = [Sample(**sample) for sample in samples]
    intervals = {"score": _interval(data["score"]), "ece": _interval(data.get("ece"))}
    return TaskEvidence(**{**data, **intervals, "baselines": baselines, "samples": kept})


def _interval(data: dict[str, float] | None) -> Interval | None:
    return None if data is None else Interval(**data)


def _told(path: Path) -> Any:
    size_of_file(path)  # refuses what is none
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, data: Any) -> None:
    text = json.dumps(finite(data), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    # A lone surrogate in a sample has no UTF-8; written as \\udXXX it is JSON's own escape.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def finite(data: Any) -> Any:
    """JSON has no NaN and no infinity: what is undefined is null."""
    if isinstance(data, dict):
        return {str(key): finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    return data


@dataclass(frozen=True)
class Evaluated(Event):
    """A model has been judged."""

    evidence: Evidence

    def as_json(self) -> dict[str, Any]:
        return {"event": "Evaluated", "evidence": self.evidence.as_json()}
