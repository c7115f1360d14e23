"""The figures of an event, by name, as trackers plot them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from onetrunk.core.events import BaselineDone, Event, FoldDone, StageFinished, StepDone, TrialDone
from onetrunk.evaluation.record import Evaluated


@dataclass(frozen=True)
class Figures:
    """Of one event. `series` names what goes on in steps, of which this is one; it is empty for figures of the whole
    run. Undefined figures are left out."""

    values: dict[str, float] = field(default_factory=dict)
    series: str = ""
    step: int = 0


def figures_of(event: Event) -> Figures:
    """What there is to plot; nothing of most events."""
    values: dict[str, float | None] = {}
    series, step = "", 0
    match event:
        case StepDone():
            series, step = event.stage, event.step
            values = {
                "loss": event.loss, "tokens_per_s": event.tokens_per_s, "mfu": event.mfu,
                "memory_bytes": event.memory_bytes, "epsilon": event.epsilon, "wh": event.wh, "co2_g": event.co2_g,
            }  # fmt: skip
        case FoldDone():
            series, step = "folds", event.fold
            values = {f"pretrained {event.metric}": event.pretrained, f"tuned {event.metric}": event.tuned}
        case TrialDone():
            series, step = "trials", event.number
            values = {"score": event.score, "seconds": event.seconds}
        case StageFinished():
            whole = {"value": event.value, "best_step": event.best_step, "steps": event.steps, "seconds": event.seconds}
            values = {f"{event.stage} {name}": value for name, value in whole.items()}
        case BaselineDone():
            values = {f"baselines/{plottable(event.ask)}/{plottable(f'{event.name} {event.metric}')}": event.value}
        case Evaluated():
            for task in event.evidence.tasks:
                values |= {f"test/{plottable(task.ask)}/{name}": value for name, value in task.metrics.items()}
                if task.score is not None:
                    ends = {"low": task.score.low, "high": task.score.high}
                    values |= {f"test/{plottable(task.ask)}/{task.metric} {end}": v for end, v in ends.items()}
    named = {f"{series}/{name}" if series else name: value for name, value in values.items()}
    return Figures({name: float(value) for name, value in named.items() if value is not None}, series, step)


def plottable(name: str) -> str:
    """A name of letters, digits, spaces, dots and dashes, as MLflow wants it; no two are alike."""
    plain = re.sub(r"[^\w .-]", "_", name)[:100].strip(" .")
    if plain == name:
        return name
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


def flat(settings: dict[str, object], above: str = "") -> dict[str, object]:
    """Nested settings under dotted names, as trackers list them."""
    out: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            out |= flat(value, f"{above}{name}.")
        else:
            out[f"{above}{name}"] = value
    return out
