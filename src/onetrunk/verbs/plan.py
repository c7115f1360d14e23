"""plan: estimates what a pretraining needs, on this machine or on others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onetrunk.training.options import TrainingOptions
from onetrunk.verbs.shared import takes

if TYPE_CHECKING:
    from rich.console import Console

    from onetrunk.training.plan import Plan, StepPlan
    from onetrunk.training.plan_after import Compared


@takes(
    TrainingOptions,
    "ask given ignore types split seed device allow_network missing separator size events budget max_memory config "
    "settings",
    helps={
        "ask": "the columns that you will ask for later.",
        "max_memory": "the memory that there is for one process, like 8GB; by default all of the device.",
        "size": "nano, tiny, small, base or large.",
        "budget": "the time there is, like 2h; sizes are then compared, too.",
        "settings": "one setting as key=value, like trunk.width=1024; may be repeated.",
    },
)
def plan(
    data: Any = None,
    options: TrainingOptions = TrainingOptions(),  # noqa: B008 - frozen
    *,
    tokens: float | None = None,
    hardware: str | None = None,
    efficiency: float = 0.4,
    watts: float | None = None,
    steps: int | None = None,
    processes: int = 1,
    after: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Estimate memory, time and energy of a pretraining, and which model size suits the data and the budget.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name.
        tokens: the number of tokens of text, if there are no data yet; each is read once.
        hardware: accelerators, like h100, 8xh100 or 4x8xh100 (4 machines with 8 each); by default this machine.
        efficiency: the share of its published rate that an accelerator reaches.
        watts: the power of all the hardware; by default as published, or an assumption for each core.
        steps: the number of training steps; by default as many as pretrain would make.
        processes: how many torchrun would start on this machine; memory is then that of rank 0, which holds the most.
        after: a model folder that such a pretraining has made: what it took stands beside the plan.
        quiet: print nothing.

    Returns:
        The plan, by part: data, step, run, memory, hardware, advice; with `after`, what the run took.

    Examples:
        onetrunk plan data.csv --budget 2h
        onetrunk plan data.csv --size tiny --after model
    """
    from onetrunk.training.plan import plan_pretraining
    from onetrunk.training.plan_after import compared
    from onetrunk.verbs.show import Printer

    printer = Printer(quiet)
    made = plan_pretraining(
        data, options, printer,
        tokens=tokens, hardware=hardware, efficiency=efficiency, watts=watts, steps=steps, processes=processes,
    )  # fmt: skip
    _show(made, printer.console)
    if after is None:
        return made.as_json()
    figures = compared(made, after, printer)
    _show_after(figures, printer.console)
    return {**made.as_json(), "after": {name: each.as_json() for name, each in figures.items()}}


def _show(plan: Plan, console: Console) -> None:
    from rich.table import Table

    from onetrunk.training.plan import short
    from onetrunk.verbs.show import literal

    data, step, run, hardware = plan.data, plan.step, plan.run, plan.hardware
    terms = ", ".join(f"{name} {size:.3g}" for name, size in plan.memory_gb.items() if name != "peak")
    memory = f"{plan.memory_gb['peak']:.3g} GB of {hardware.memory_gb:.4g} on each device: {terms}"
    if plan.other_processes_gb is not None:
        memory += f"; {plan.other_processes_gb:.3g} GB in each other process"
    energy = "not known" if run.kwh is None else f"{run.kwh:.3g} kWh at {hardware.watts:.4g} W ({hardware.watts_from})"
    trunk = f"{plan.trunk['kind']} {plan.trunk['layers']} x {plan.trunk['width']}"
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, line in {
        "model": f"{short(plan.parameters)} parameters, {trunk}",
        "data": f"{short(data.tokens)} tokens; {short(data.read)} read: {data.passes:.3g} passes",
        "step": f"{step.tokens:,} tokens, {step.micro_batches} micro-batches, {step.operations:.3g} FLOP",
        "hardware": f"{hardware.name}: {hardware.tflops:.4g} TFLOP/s ({hardware.tflops_from})",
        "memory": memory,
        "fits": "yes" if plan.fits else "no",
        "time": f"{run.steps:,} steps, {_duration(run.seconds, step)}",
        "energy": energy,
    }.items():
        table.add_row(literal((name, "bold")), literal(line))
    console.print(table)
    for name, size in (plan.sizes or {}).items():
        line = f" {short(size.parameters)} parameters, {short(size.tokens)} tokens in the budget"
        console.print(literal((name, "bold"), line))
    for line in plan.advice:
        console.print(literal(line))


def _show_after(figures: dict[str, Compared], console: Console) -> None:
    from rich.table import Table

    from onetrunk.verbs.show import literal

    table = Table("", "planned", "it took", "ratio", box=None, pad_edge=False)
    for name, each in figures.items():
        told = [f"{x:.4g} {each.unit}".strip() if x is not None else "not known" for x in (each.planned, each.measured)]
        ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
        table.add_row(literal((name, "bold")), *map(literal, told), literal(ratio))
    console.print(table)


def _duration(seconds: float | None, step: StepPlan) -> str:
    if seconds is None or step.tokens_per_s is None or step.mfu is None:
        return "not timed: it does not fit"
    from onetrunk.training.plan import short

    units = [("days", 86400), ("hours", 3600), ("minutes", 60), ("seconds", 1)]
    unit, length = next((u for u in units if seconds > 2 * u[1]), units[-1])
    return f"{seconds / length:.3g} {unit}; {short(step.tokens_per_s)} tokens/s, MFU {step.mfu:.0%}"
