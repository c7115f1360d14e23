"""A plan beside what such a run then took: its steps, time, energy and memory, as the model folder that it made keeps
them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from onetrunk.core.errors import UsageError
from onetrunk.core.events import Listener, Note, ignore
from onetrunk.engine.cost import Cost
from onetrunk.inference.model_folder import Model, load
from onetrunk.training.context import RUNS
from onetrunk.training.plan import Plan


@dataclass(frozen=True)
class Compared:
    """One figure; `ratio` is how many times as much it took as was planned. None: not planned, or not known."""

    unit: str
    planned: float | None
    measured: float | None

    @property
    def ratio(self) -> float | None:
        return self.measured / self.planned if self.planned and self.measured is not None else None

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio}


def compared(plan: Plan, folder: str | Model, on_event: Listener = ignore) -> dict[str, Compared]:
    """What was planned of a pretraining beside what it took. Raises UsageError for a folder that no pretraining made;
    says where it made another model than the planned one."""
    model = folder if isinstance(folder, Model) else load(folder, device="cpu")
    stages = [stage for stage in model.provenance.get("stages", []) if stage["stage"] == "pretrain"]
    runs = [run for run in model.provenance.get(RUNS, []) if run["verb"] == "pretrain"]
    if not stages:
        raise UsageError("--after expects a model folder that pretrain has made: plan is of a pretraining.")
    stage, cost = stages[-1], Cost.of_json(runs[-1]) if runs else None
    parameters = sum(p.numel() for p in model.network.parameters())
    if parameters != plan.parameters:
        made = f"That run made a model of {parameters:,} parameters, and the plan is of one of {plan.parameters:,}"
        on_event(Note(f"{made}: plan it with the same data, --size and settings."))
    steps, seconds = stage["steps"], stage["seconds"]
    return {
        "steps": Compared("", plan.run.steps, steps),
        "a step": Compared("s", plan.step.seconds, seconds / steps if steps else None),
        "all steps": Compared("s", plan.run.seconds, seconds),
        "energy": Compared("kWh", plan.run.kwh, None if cost is None else cost.wh / 1000),
        "memory": Compared("GB", plan.memory_gb["peak"], None if cost is None else cost.peak_bytes / 1e9),
    }
