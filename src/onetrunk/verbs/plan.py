"""plan: what a pretraining will take, on this machine or on others, before it is made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from onetrunk.engine.planning import Cluster
    from onetrunk.training.recipe import Recipe
    from onetrunk.verbs._rehearsal import Rehearsal

_DIAL = ("width", "layers", "heads", "kv_heads", "head_width", "mlp_width")  # what a size stands for


def plan(
    data: Any = None,
    *,
    tokens: float | None = None,
    ask: list[str] | None = None,
    given: list[str] | None = None,
    ignore: list[str] | None = None,
    types: dict[str, str] | None = None,
    events: dict[str, str] | None = None,
    split: str = "auto",
    size: str | None = None,
    hardware: str | None = None,
    efficiency: float = 0.4,
    watts: float | None = None,
    steps: int | None = None,
    budget: str | None = None,
    seed: int = 0,
    config: Any = None,
    settings: list[str] | None = None,
    allow_network: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Predict memory, time and energy of a pretraining, whether it fits, and which size suits the data and the budget.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name.
        tokens: how many tokens of text there will be, where there are no data yet; each is read once.
        ask: columns that matter most later.
        given: columns to use; by default all but ids, constants and leaks.
        ignore: columns to leave out.
        types: column=type, where the inferred type is wrong.
        events: key=value, how a table of events becomes rows, like by=user,order=time,window=50.
        split: auto, random, stratified, or group, scaffold, time or given:COLUMN; with :80/10/10.
        size: nano, tiny, small, base or large.
        hardware: accelerators, like h100, 8xh100 or 4x8xh100 (machines x each); by default this machine, measured.
        efficiency: share of its published rate that an accelerator reaches.
        watts: what all of the hardware draws; by default published, or assumed for each core.
        steps: for so many; by default what pretrain would make.
        budget: at most this long, like 2h: compares sizes, too.
        seed: of the split and the batches.
        config: a YAML file with any setting.
        settings: key=value, like trunk.width=1024.
        allow_network: allow hf:// names to use the network.
        quiet: print nothing.

    Returns:
        The plan, by part: data, step, run, memory, hardware, advice.
    """
    from onetrunk.core.errors import UsageError
    from onetrunk.engine.planning import Cluster, best_size
    from onetrunk.training.open_data import open_data
    from onetrunk.training.options import DataOptions
    from onetrunk.training.recipe import SIZES, budget_seconds, make_recipe
    from onetrunk.verbs._rehearsal import Rehearsal, Source
    from onetrunk.verbs.show import Printer

    run = make_recipe(config, settings, size=size, events=events)
    printer = Printer(quiet)
    if (data is None) == (tokens is None):
        raise UsageError("plan expects data, or --tokens where there are none yet; not both.")
    if efficiency > 1:
        raise UsageError(f"--efficiency expects a share, at most 1; found {efficiency}.")
    for name, value in (("tokens", tokens), ("steps", steps), ("watts", watts), ("efficiency", efficiency)):
        if value is not None and not value > 0:
            raise UsageError(f"--{name} expects a number above 0; found {value}.")
    cluster, limit = Cluster.parse(hardware) if hardware else None, budget_seconds(budget)
    if data is None:
        source = Source.stand_in(run)
    else:
        source = Source.of(
            open_data(
                data,
                DataOptions(
                    ask=ask, given=given, ignore=ignore, types=types, split=split, seed=seed,
                    allow_equal_rows=True, allow_network=allow_network,
                ),
                run,
                printer,
            )
        )  # fmt: skip

    def forecast(config: Recipe) -> dict[str, Any]:
        return _forecast(Rehearsal(source, config, seed), cluster, tokens, steps, limit, efficiency, watts)

    found = forecast(run)
    if limit is not None:
        rest = {key: value for key, value in run.trunk.items() if key not in _DIAL}
        sizes = {name: forecast(run.model_copy(update={"size": name, "trunk": rest})) for name in SIZES}
        can = {n: (s["parameters"], s["step"]["tokens_per_s"] * limit) for n, s in sizes.items() if s["fits"]}
        found["sizes"] = {name: {"parameters": parameters, "tokens": read} for name, (parameters, read) in can.items()}
        found["best_size"] = best_size(can, found["data"]["tokens"]) if can else None
    found["advice"] = _advice(found, limit)
    _show(found, printer.console)
    return found


def _forecast(
    rehearsal: Rehearsal,
    cluster: Cluster | None,
    tokens: float | None,
    steps: int | None,
    limit: float | None,
    efficiency: float,
    watts: float | None,
) -> dict[str, Any]:
    """One configuration on some hardware."""
    from onetrunk.engine.planning import kwh

    per_step = sum(batch.tokens for batch in rehearsal.batches)
    unique = tokens or per_step / rehearsal.passes
    planned = steps or (math.ceil(tokens / per_step) if tokens else rehearsal.steps)
    found = _here(rehearsal, planned) if cluster is None else _there(rehearsal, cluster, efficiency)
    step, one, hardware = found["step"], found["seconds"], found["hardware"]
    if watts:
        hardware |= {"watts": watts, "watts_from": "told"}
    if limit is not None and one is not None:
        planned = min(planned, max(1, int(limit / one)))
    total = None if one is None else planned * one
    rate = hardware["devices"] * hardware["tflops"] * 1e12
    return {
        "trunk": rehearsal.config.trunk_config(),
        "parameters": round(step.counts.parameters),
        "data": {"tokens": round(unique), "read": planned * per_step, "passes": planned * per_step / unique},
        "step": {
            "tokens": per_step,
            "micro_batches": step.micro_batches,
            "operations": step.operations,
            "seconds": one,
            "seconds_by": found["seconds_by"],
            "tokens_per_s": None if one is None else per_step / one,
            "mfu": None if one is None else step.operations / one / rate,
        },
        "run": {
            "steps": planned,
            "operations": planned * step.operations,
            "seconds": total,
            "kwh": None if total is None else kwh(hardware["watts"], total),
        },
        "memory_gb": {name: size / 1e9 for name, size in found["memory"].items()},
        "fits": found["memory"]["peak"] < hardware["memory_gb"] * 1e9,
        "hardware": hardware,
    }


def _here(rehearsal: Rehearsal, steps: int) -> dict[str, Any]:
    """On this machine: counted, and timed where it fits."""
    import torch

    from onetrunk.engine.planning import CORE_WATTS, memory
    from onetrunk.engine.progress import resident_bytes

    mode, threads = rehearsal.mode(steps), torch.get_num_threads()
    room = rehearsal.runtime.memory_bytes
    step, seconds = rehearsal.step(mode), None
    held = memory(step, resident_bytes())
    if held["peak"] < room:
        seconds, process = rehearsal.measure(mode, steps)
        held = memory(step, process)
    hardware = {
        "name": "this machine",
        "devices": 1,
        "memory_gb": room / 1e9,
        "tflops": rehearsal.runtime.gemm_rate(mode.dtype) / 1e12,
        "tflops_from": f"a large product, measured here; {mode.reason}",
        "watts": CORE_WATTS * threads,
        "watts_from": f"assumed: {CORE_WATTS:g} for each of {threads} threads",
    }
    return {"step": step, "memory": held, "seconds": seconds, "seconds_by": {}, "hardware": hardware}


def _there(rehearsal: Rehearsal, cluster: Cluster, efficiency: float) -> dict[str, Any]:
    """On accelerators: counted, and reckoned from what their makers publish."""
    from onetrunk.engine.mode import Mode
    from onetrunk.engine.planning import DEVICE_PROCESS, memory, seconds_on

    step = rehearsal.step(Mode(autocast=True, muon=True, compiled=False, reason="bf16"))
    by = seconds_on(cluster, step, efficiency)
    hardware = {
        "name": f"{cluster.machines} x {cluster.each} x {cluster.name}",
        "devices": cluster.devices,
        "memory_gb": cluster.device.memory_gb,
        "tflops": cluster.device.tflops,
        "tflops_from": f"published, of each; {efficiency:.0%} of it assumed",
        "watts": cluster.device.watts * cluster.devices,
        "watts_from": "published for the boards; without hosts and cooling",
    }
    held = memory(step, DEVICE_PROCESS, cluster.devices)
    return {"step": step, "memory": held, "seconds": by.pop("step"), "seconds_by": by, "hardware": hardware}


def _advice(found: dict[str, Any], limit: float | None) -> list[str]:
    """What the figures say, in sentences."""
    from onetrunk.engine.planning import FEW_PASSES, TOKENS_PER_PARAMETER, compute_optimal, worth

    data, step, hardware, memory = found["data"], found["step"], found["hardware"], found["memory_gb"]
    parameters, tokens = compute_optimal(found["run"]["operations"])
    said = [
        f"{found['run']['operations']:.2g} operations serve best {_short(parameters)} parameters that read "
        f"{_short(tokens)} tokens, {TOKENS_PER_PARAMETER:.0f} each (arXiv 2203.15556); here "
        f"{_short(found['parameters'])} read {_short(data['read'])}, {data['read'] / found['parameters']:.2g} each."
    ]
    if data["passes"] > FEW_PASSES:
        said.append(
            f"The data are read {data['passes']:.3g} times, worth {_short(worth(data['read'], data['tokens']))} new "
            f"tokens: beyond {FEW_PASSES:.0f} passes more data help more than more steps (arXiv 2305.16264)."
        )
    if found.get("best_size"):
        said.append(f"In {limit / 60:.4g} minutes the law expects most of --size {found['best_size']}.")
    if (idle := hardware["devices"] - step["micro_batches"]) > 0:
        said.append(
            f"{step['micro_batches']} micro-batches a step leave {idle} of {hardware['devices']} devices idle: more "
            "documents a step (pretrain.objectives), or smaller tokens_per_batch."
        )
    if not found["fits"]:
        most = max((name for name in memory if name != "peak"), key=memory.__getitem__)
        cure = "smaller tokens_per_batch" if most in ("activations", "loss") else "a smaller size, or more devices"
        said.append(f"It does not fit: {memory['peak']:.3g} GB of {hardware['memory_gb']:.3g}. Try {cure}.")
    return said


def _show(found: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    data, step, run, hardware = (found[part] for part in ("data", "step", "run", "hardware"))
    memory, trunk = found["memory_gb"], found["trunk"]
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, said in {
        "model": f"{_short(found['parameters'])} parameters, {trunk['kind']} {trunk['layers']} x {trunk['width']}",
        "data": f"{_short(data['tokens'])} tokens; {_short(data['read'])} read: {data['passes']:.3g} passes",
        "step": f"{step['tokens']:,} tokens, {step['micro_batches']} micro-batches, {step['operations']:.3g} FLOP",
        "hardware": f"{hardware['name']}: {hardware['tflops']:.4g} TFLOP/s ({hardware['tflops_from']})",
        "memory": f"{memory['peak']:.3g} GB of {hardware['memory_gb']:.4g} on each device: "
        + ", ".join(f"{name} {size:.3g}" for name, size in memory.items() if name != "peak"),
        "fits": "yes" if found["fits"] else "no",
        "time": f"{run['steps']:,} steps, " + _duration(run["seconds"], step),
        "energy": "not known" if run["kwh"] is None else f"{run['kwh']:.3g} kWh at {hardware['watts']:.4g} W "
        f"({hardware['watts_from']})",
    }.items():  # fmt: skip
        table.add_row(f"[bold]{name}[/]", said)
    console.print(table)
    for size, other in found.get("sizes", {}).items():
        console.print(
            f"[bold]{size}[/] {_short(other['parameters'])} parameters, {_short(other['tokens'])} tokens in the budget"
        )
    for line in found["advice"]:
        console.print(line, highlight=False)


def _duration(seconds: float | None, step: dict[str, Any]) -> str:
    if seconds is None:
        return "not timed: it does not fit"
    units = [("days", 86400), ("hours", 3600), ("minutes", 60), ("seconds", 1)]
    unit, length = next((u for u in units if seconds > 2 * u[1]), units[-1])
    return f"{seconds / length:.3g} {unit}; {_short(step['tokens_per_s'])} tokens/s, MFU {step['mfu']:.0%}"


def _short(number: float) -> str:
    """`1.23M`: three figures."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
