"""From what a training step takes to memory, time and energy of a run, on this machine or on others; and which size a
scaling law advises. Arithmetic alone: what is counted and measured comes in.

Units: bytes, seconds, watts, floating-point operations; decimal GB (1e9 bytes).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onetrunk.core.errors import UsageError, unknown

if TYPE_CHECKING:
    from onetrunk.engine.counting import Counts

NETWORK = 50e9  # bytes a second of one device to other machines: a port of 400 Gb/s
DEVICE_WATTS = 300.0  # of an accelerator that is not listed
CORE_WATTS = 6.0  # of a busy CPU core: a Xeon Platinum 8480+ has 350 W for 56
DEVICE_PROCESS = 0.6e9  # bytes that CUDA and its libraries take on a device

TOKENS_PER_PARAMETER = 20.0  # compute-optimal (Chinchilla, arXiv 2203.15556)
FEW_PASSES = 4.0  # so often read, data are worth about as much as new data (arXiv 2305.16264)
_WORTH = 15.387756  # R*_D of arXiv 2305.16264: at most so many passes beyond the first count
# E, A, alpha, B, beta of the loss's law E + A / N^alpha + B / D^beta, fitted again in arXiv 2404.10102: there the
# optimum is about 20 tokens a parameter, as Chinchilla's other two ways of fitting say.
_LAW = (1.8172, 482.01, 0.3478, 2085.43, 0.3658)


@dataclass(frozen=True)
class Accelerator:
    """Published figures: dense bf16 TFLOP/s, memory and its bandwidth, the board's power, and bytes a second to another
    device of the same machine, one way."""

    tflops: float
    memory_gb: float
    gb_per_s: float
    watts: float
    link_gb_per_s: float


# From the makers' data sheets, without sparsity.
ACCELERATORS: dict[str, Accelerator] = {
    "a100": Accelerator(312, 80, 2039, 400, 300),
    "h100": Accelerator(989, 80, 3350, 700, 450),
    "h200": Accelerator(989, 141, 4800, 700, 450),
    "b200": Accelerator(2250, 180, 7700, 1000, 900),
    "mi300x": Accelerator(1307, 192, 5300, 750, 448),
    "l4": Accelerator(121, 24, 300, 72, 32),
    "l40s": Accelerator(362, 48, 864, 350, 32),
    "rtx4090": Accelerator(165, 24, 1008, 450, 32),
}


def published_watts(name: str) -> float | None:
    """Of an accelerator by its driver's name, like NVIDIA H100 80GB HBM3; None where it is not listed."""
    written = name.lower().replace(" ", "")
    known = max((key for key in ACCELERATORS if key in written), key=len, default=None)
    return None if known is None else ACCELERATORS[known].watts


@dataclass(frozen=True)
class Cluster:
    """`machines` with `each` accelerators of one kind."""

    name: str
    machines: int = 1
    each: int = 1

    @classmethod
    def parse(cls, text: str) -> Cluster:
        """`h100`, `8xh100` or `4x8xh100`. Raises UsageError."""
        match = re.fullmatch(r"(?:(\d+)x)?(?:(\d+)x)?([a-z][a-z0-9]*)", text.strip().lower())
        if match is None:
            raise UsageError(f"--hardware expects an accelerator, 8xh100 or 4x8xh100; found {text!r}.")
        first, second, name = match.groups()
        if name not in ACCELERATORS:
            raise unknown("accelerator", name, ACCELERATORS)
        machines, each = (int(first), int(second)) if second else (1, int(first or 1))
        if not machines * each:
            raise UsageError(f"--hardware {text}: at least one accelerator.")
        return cls(name, machines, each)

    @property
    def device(self) -> Accelerator:
        return ACCELERATORS[self.name]

    @property
    def devices(self) -> int:
        return self.machines * self.each


@dataclass(frozen=True)
class StepCost:
    """One step of a run: what its largest micro-batch takes (`counts`), and all of it."""

    counts: Counts
    operations: float  # as MFU counts them
    tokens: float
    micro_batches: int
    averaged: bool  # is an average of the weights kept?


def memory(step: StepCost, process: float, devices: int = 1) -> dict[str, float]:
    """Bytes on each device at the worst moment, by term; weights and what follows them are spread over the devices
    (fully sharded, arXiv 1910.02054). `peak` is less than the sum: gradients come as activations go, and what passes
    and update need is not needed together."""
    c = step.counts
    kept = {
        "weights": c.weights / devices,
        "average": c.weights * step.averaged / devices,
        "optimizer": c.optimizer / devices,
    }
    gradients, update = c.gradients / devices, c.update / devices
    passes = c.passes
    if step.micro_batches > 1 or devices > 1:  # gradients are held already, or spread as they come
        passes = gradients + max(c.passes - c.gradients, c.activations + c.loss)
    peak = process + sum(kept.values()) + max(passes, update)
    terms = {"gradients": gradients, "activations": c.activations, "loss": c.loss, "update": update - gradients}
    return {"process": process, **kept, **terms, "peak": peak}


def seconds_on(cluster: Cluster, step: StepCost, efficiency: float) -> dict[str, float]:
    """Seconds of a step, by what takes them. Devices share the micro-batches and the update; weights are fetched twice
    and gradients sent once for every micro-batch, in bf16, while products run."""
    device, n, c = cluster.device, cluster.devices, step.counts
    turns = math.ceil(step.micro_batches / n)
    rate = device.tflops * 1e12 * efficiency
    products = turns * step.operations / step.micro_batches / rate
    link = NETWORK if cluster.machines > 1 else device.link_gb_per_s * 1e9
    talk = turns * 3 * 2 * c.parameters * (n - 1) / n / link
    touched = 2 * (c.weights * (1 + step.averaged) + c.optimizer) + c.gradients  # read and written; gradients read
    update = (c.update_operations / rate + touched / (device.gb_per_s * 1e9)) / n
    return {"products": products, "links": talk, "update": update, "step": max(products, talk) + update}


def kwh(watts: float, seconds: float) -> float:
    return watts * seconds / 3.6e6


# -- scaling laws ----------------------------------------------------------------------------------------------------
def compute_optimal(operations: float) -> tuple[float, float]:
    """Parameters and tokens that make the best use of so many operations, 6 for each parameter and token
    (arXiv 2203.15556)."""
    parameters = math.sqrt(operations / (6 * TOKENS_PER_PARAMETER))
    return parameters, TOKENS_PER_PARAMETER * parameters


def worth(tokens: float, unique: float) -> float:
    """What `tokens` read from `unique` ones, pass after pass, are worth in new ones (arXiv 2305.16264)."""
    if tokens <= unique:
        return tokens
    return unique * (1 + _WORTH * (1 - math.exp(-(tokens / unique - 1) / _WORTH)))


def law(parameters: float, tokens: float) -> float:
    """Nats a token that the law expects of natural text: to compare sizes, not to promise."""
    irreducible, a, alpha, b, beta = _LAW
    return float(irreducible + a / parameters**alpha + b / tokens**beta)


def best_size(sizes: Mapping[str, tuple[float, float]], unique: float) -> str:
    """The size of least expected loss; `sizes` maps a name to parameters and to the tokens it can read."""
    return min(sizes, key=lambda name: law(sizes[name][0], worth(sizes[name][1], unique)))
