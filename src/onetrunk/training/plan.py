"""Estimates what a pretraining needs, on this machine or on others (memory, time, energy), and which size suits the
data and the budget."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from onetrunk.core.errors import UsageError
from onetrunk.core.events import Listener, ignore
from onetrunk.engine.mode import Mode
from onetrunk.engine.planning import (
    CORE_WATTS,
    DEVICE_PROCESS,
    DEVICE_WATTS,
    FEW_PASSES,
    TOKENS_PER_PARAMETER,
    Cluster,
    Spread,
    StepCost,
    best_size,
    compute_optimal,
    cures,
    kwh,
    memory,
    published_watts,
    seconds_on,
    worth,
)
from onetrunk.training.dry_run import DryRun, Source
from onetrunk.training.open_data import open_data
from onetrunk.training.options import TrainingOptions
from onetrunk.training.private import not_here
from onetrunk.training.recipe import SIZES, Recipe, budget_seconds, memory_bytes, recipe_of

_DIAL = ("width", "layers", "heads", "kv_heads", "head_width", "mlp_width")  # what a size stands for


@dataclass(frozen=True)
class DataPlan:
    """Tokens that there are, tokens that are read, and how often that is each."""

    tokens: int
    read: int
    passes: float


@dataclass(frozen=True)
class StepPlan:
    """One update. `operations` are floating-point ones, as MFU counts them; what is not timed is None."""

    tokens: int
    micro_batches: int
    operations: float
    seconds: float | None
    seconds_by: dict[str, float]  # what takes them, on other machines
    tokens_per_s: float | None
    mfu: float | None


@dataclass(frozen=True)
class RunPlan:
    """All updates."""

    steps: int
    operations: float
    seconds: float | None
    kwh: float | None


@dataclass(frozen=True)
class HardwarePlan:
    """Where it runs; memory and TFLOP/s are of each device, watts of all of them."""

    name: str
    devices: int
    memory_gb: float
    tflops: float
    tflops_from: str
    watts: float
    watts_from: str


@dataclass(frozen=True)
class SizePlan:
    """Another size that fits: its parameters, and the tokens that it reads within the budget."""

    parameters: int
    tokens: float


@dataclass(frozen=True)
class Plan:
    """The whole forecast. `memory_gb`: on each device at the worst moment, by term and as `peak` (decimal GB)."""

    trunk: dict[str, Any]
    parameters: int
    data: DataPlan
    step: StepPlan
    run: RunPlan
    memory_gb: dict[str, float]
    fits: bool
    hardware: HardwarePlan
    other_processes_gb: float | None = None  # the peak of those that are not rank 0, where there are several here
    sizes: dict[str, SizePlan] | None = None  # with a budget
    best_size: str | None = None
    advice: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain data; what only a budget has is left out without one."""
        return {name: value for name, value in asdict(self).items() if self.sizes is not None or "size" not in name}


@dataclass(frozen=True)
class Wish:
    """What is to be planned. Raises UsageError for what cannot be."""

    tokens: float | None = None  # of text, where there are no data yet
    steps: int | None = None
    limit: float | None = None  # seconds
    cluster: Cluster | None = None  # None: this machine, measured
    efficiency: float = 0.4  # share of its published rate that an accelerator reaches
    watts: float | None = None  # of all of the hardware
    processes: int = 1  # on this machine
    room: float | None = None  # bytes for one process; None: all that the device has

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise UsageError(f"--processes expects a whole number from 1, found {self.processes}.")
        if self.processes > 1 and self.cluster is not None:
            raise UsageError("--processes is about this machine; --hardware says itself how many devices there are.")
        if self.efficiency > 1:
            raise UsageError(f"--efficiency expects a share, at most 1; found {self.efficiency}.")
        for name in ("tokens", "steps", "watts", "efficiency"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"--{name} expects a number above 0; found {value}.")


def plan_pretraining(
    data: Any,
    options: TrainingOptions,
    on_event: Listener = ignore,
    *,
    tokens: float | None = None,
    hardware: str | None = None,
    efficiency: float = 0.4,
    watts: float | None = None,
    steps: int | None = None,
    processes: int = 1,
) -> Plan:
    """Plans what `pretrain` would do with the same options, or, without data, a run over so many tokens of text. With a
    budget other sizes are compared, too. Raises UsageError."""
    recipe = not_here(recipe_of(options), "plan")
    if processes > 1 and not recipe.train.shares:
        recipe = recipe.model_copy(update={"train": recipe.train.updated(shares=processes)})
    if (data is None) == (tokens is None):
        raise UsageError("plan expects data, or --tokens where there are none yet; not both.")
    limit = budget_seconds(options.budget)
    cluster = Cluster.parse(hardware) if hardware else None
    wish = Wish(tokens, steps, limit, cluster, efficiency, watts, processes, memory_bytes(options.max_memory))
    if data is None:
        source = Source.stand_in(recipe)
    else:
        source = Source.of(open_data(data, replace(options, allow_equal_rows=True), recipe, on_event))
    return make_plan(source, recipe, wish, options.seed)


def make_plan(source: Source, recipe: Recipe, wish: Wish, seed: int = 0) -> Plan:
    """The plan of one recipe on one source, and of other sizes where there is a budget."""
    plan = _forecast(DryRun(source, recipe, seed), wish)
    if wish.limit is not None:
        rest = {key: value for key, value in recipe.trunk.items() if key not in _DIAL}
        fitting: dict[str, SizePlan] = {}
        for name in SIZES:
            other = _forecast(DryRun(source, recipe.model_copy(update={"size": name, "trunk": rest}), seed), wish)
            if other.fits and other.step.tokens_per_s is not None:
                fitting[name] = SizePlan(other.parameters, other.step.tokens_per_s * wish.limit)
        choice = {name: (size.parameters, size.tokens) for name, size in fitting.items()}
        plan = replace(plan, sizes=fitting, best_size=best_size(choice, plan.data.tokens) if choice else None)
    return replace(plan, advice=advise(plan, wish.limit))


# -- one forecast ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Costs:
    """Of a step somewhere."""

    step: StepCost
    memory: dict[str, float]  # bytes, in the process that has the most
    seconds: float | None
    seconds_by: dict[str, float]
    hardware: HardwarePlan
    cures: list[str]  # where it does not fit: what to do
    others: float | None = None  # GB in each of the other processes here


def _forecast(run: DryRun, wish: Wish) -> Plan:
    per_step = run.tokens_per_step
    unique = wish.tokens or per_step / run.passes
    steps = wish.steps or (math.ceil(wish.tokens / per_step) if wish.tokens else run.steps)
    costs = _here(run, steps, wish) if wish.cluster is None else _there(run, wish.cluster, wish)
    step, seconds, hardware = costs.step, costs.seconds, costs.hardware
    if wish.watts:
        hardware = replace(hardware, watts=wish.watts, watts_from="given")
    if wish.limit is not None and seconds is not None:
        steps = min(steps, max(1, int(wish.limit / seconds)))
    total = None if seconds is None else steps * seconds
    rate = hardware.devices * hardware.tflops * 1e12
    return Plan(
        trunk=run.recipe.trunk_config(),
        parameters=round(step.counts.parameters),
        data=DataPlan(round(unique), steps * per_step, steps * per_step / unique),
        step=StepPlan(
            tokens=per_step,
            micro_batches=step.micro_batches,
            operations=step.operations,
            seconds=seconds,
            seconds_by=costs.seconds_by,
            tokens_per_s=None if seconds is None else per_step / seconds,
            mfu=None if seconds is None else step.operations / seconds / rate,
        ),
        run=RunPlan(steps, steps * step.operations, total, None if total is None else kwh(hardware.watts, total)),
        memory_gb={name: size / 1e9 for name, size in costs.memory.items()},
        fits=not costs.cures,
        other_processes_gb=costs.others,
        hardware=hardware,
        advice=costs.cures,
    )


def _here(run: DryRun, steps: int, wish: Wish) -> _Costs:
    """On this machine: counted, and timed where it fits. Processes share the memory of a CPU, and its cores: they take
    as long as one."""
    mode, on_cpu = run.mode(steps), run.runtime.device.type == "cpu"
    spread = Spread(wish.processes, run.recipe.train.sharded and wish.processes > 1, first=True)
    step = run.step(mode, heap=on_cpu and not spread.sharded, processes=wish.processes)
    seconds, process = None, run.process_bytes
    room = run.runtime.memory_bytes / (wish.processes if on_cpu else 1)
    room = min(room, wish.room or room)
    if memory(step, process, spread)["peak"] < room:
        seconds, process = run.measure(mode, steps)
    held = memory(step, process, spread)
    watts, watts_from = _watts_here(run)
    hardware = HardwarePlan(
        name="this machine" if run.runtime.device.type == "cpu" else run.runtime.name,
        devices=1,
        memory_gb=room / 1e9,
        tflops=run.runtime.gemm_rate(mode.dtype) / 1e12,
        tflops_from=f"a large product, measured here; {mode.reason}",
        watts=watts,
        watts_from=watts_from,
    )
    others = memory(step, process, replace(spread, first=False))["peak"] / 1e9 if wish.processes > 1 else None
    return _Costs(step, held, seconds, {}, hardware, _cures(run, mode, step, process, room, spread), others)


def _cures(run: DryRun, mode: Mode, step: StepCost, process: float, room: float, spread: Spread) -> list[str]:
    """None where it fits."""
    if memory(step, process, spread)["peak"] < room:
        return []
    can = run.recipe.trunk_config()["kind"] == "transformer" and not run.recipe.train.activation_checkpointing
    again = run.step(mode, heap=False, recomputed=True, processes=spread.processes) if can else None
    return cures(step, again, process, room, spread)


def _watts_here(run: DryRun) -> tuple[float, str]:
    if run.runtime.device.type == "cpu":
        threads = torch.get_num_threads()
        return CORE_WATTS * threads, f"assumed: {CORE_WATTS:g} for each of {threads} threads"
    watts = published_watts(run.runtime.name)
    if watts is not None:
        return watts, "published for the board; without host and cooling"
    return DEVICE_WATTS, "assumed for an accelerator"


def _there(run: DryRun, cluster: Cluster, wish: Wish) -> _Costs:
    """On accelerators: counted, and reckoned from what their makers publish."""
    mode = Mode(autocast=True, muon=True, compiled=False, reason="bf16")
    step = run.step(mode, heap=False)
    by = seconds_on(cluster, step, wish.efficiency)
    room = min(cluster.device.memory_gb * 1e9, wish.room or math.inf)
    hardware = HardwarePlan(
        name=f"{cluster.machines} x {cluster.each} x {cluster.name}",
        devices=cluster.devices,
        memory_gb=room / 1e9,
        tflops=cluster.device.tflops,
        tflops_from=f"published, of each; {wish.efficiency:.0%} of it assumed",
        watts=cluster.device.watts * cluster.devices,
        watts_from="published for the boards; without hosts and cooling",
    )
    spread = Spread(cluster.devices, sharded=cluster.devices > 1)
    held = memory(step, DEVICE_PROCESS, spread)
    ways = _cures(run, mode, step, DEVICE_PROCESS, room, spread)
    return _Costs(step, held, by.pop("step"), by, hardware, ways)


# -- advice ----------------------------------------------------------------------------------------------------------
def advise(plan: Plan, limit: float | None = None) -> list[str]:
    """What the figures mean, in sentences."""
    data, step, hardware, held = plan.data, plan.step, plan.hardware, plan.memory_gb
    parameters, tokens = compute_optimal(plan.run.operations)
    advice = [
        f"{plan.run.operations:.2g} operations serve best {short(parameters)} parameters that read "
        f"{short(tokens)} tokens, {TOKENS_PER_PARAMETER:.0f} each (arXiv 2203.15556); here "
        f"{short(plan.parameters)} read {short(data.read)}, {data.read / plan.parameters:.2g} each."
    ]
    if data.passes > FEW_PASSES:
        advice.append(
            f"The data are read {data.passes:.3g} times, worth {short(worth(data.read, data.tokens))} new "
            f"tokens: beyond {FEW_PASSES:.0f} passes more data help more than more steps (arXiv 2305.16264)."
        )
    if plan.best_size and limit is not None:
        advice.append(f"In {limit / 60:.4g} minutes the scaling law expects most of --size {plan.best_size}.")
    if (idle := hardware.devices - step.micro_batches) > 0:
        advice.append(
            f"{step.micro_batches} micro-batches a step leave {idle} of {hardware.devices} devices idle: more "
            "documents a step (pretrain.objectives), or smaller tokens_per_batch."
        )
    if not plan.fits:
        advice.append(f"It does not fit: {held['peak']:.3g} GB of {hardware.memory_gb:.3g}. {' '.join(plan.advice)}")
    return advice


def short(number: float) -> str:
    """`1.23M`: three figures."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
