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
_SENT, _COPIES = 4 * (1 << 22), 4  # bytes of gradients that are sent at once (`engine.shares`), and copies of them

TOKENS_PER_PARAMETER = 20.0  # compute-optimal (Chinchilla, arXiv 2203.15556)
FEW_PASSES = 4.0  # so often read, data are worth about as much as new data (arXiv 2305.16264)
_TWO_NUMBERS = 1.5  # bytes of the optimizer's state for each of the weights', above which it is Adam's in 32 bits
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
    largest: float = 0.0  # tokens of its largest micro-batch
    block: float = 0.0  # bytes of a block's weights
    outside: float = 0.0  # bytes of the weights outside of blocks


@dataclass(frozen=True)
class Spread:
    """Over how many processes a step is spread, and whether weights and what follows them are (fully sharded,
    arXiv 1910.02054), or each process has all of them. `first`: rank 0, which keeps a whole model beside its part."""

    processes: int = 1
    sharded: bool = False
    first: bool = False


def memory(step: StepCost, process: float, spread: Spread = Spread()) -> dict[str, float]:
    """Bytes in each process at the worst moment, by term. `peak` is less than the sum: gradients come as activations
    go, and what passes and update need is not needed together. Where weights are divided, memory that is freed goes
    back to the system (`engine.memory`): there are no gaps in the heap."""
    c, n = step.counts, spread.processes
    part = n if spread.sharded else 1
    averaged = step.averaged and (n == part or spread.first)  # where all have all weights, rank 0 alone averages them
    kept = {
        "weights": c.weights / part,
        "average": c.weights * averaged / part,
        "optimizer": c.optimizer / part,
    }
    gradients = c.gradients / part
    update, passes, exchanged, heap = gradients + c.update - c.gradients, c.passes, 0.0, c.heap
    beside = max(c.passes - c.gradients, c.activations + c.loss)
    if step.micro_batches > n or n > part:  # gradients are held already, or come from others
        passes = gradients + beside
    elif part > 1:  # parts of gradients come as activations go
        passes = max(gradients, beside)
    if part > 1:
        # What is outside of blocks stays together during the passes, and its gradient whole until they end; of blocks
        # there are two together, and what of them is fetched and sent.
        exchanged, heap = 2 * step.outside + 4 * step.block, 0.0
        passes += exchanged
        if spread.first:
            kept |= {"whole": c.weights * (1 + step.averaged)}
            update = max(update, gradients + c.optimizer)  # which is put together where it is saved
    elif n > 1:
        exchanged = _COPIES * min(c.gradients, _SENT)  # what is sent and what comes; the sum takes the gradients' place
        update = max(update, gradients + exchanged)
    peak = process + sum(kept.values()) + max(passes, update) + heap
    terms = {"gradients": gradients, "activations": c.activations, "loss": c.loss, "update": c.update - c.gradients}
    return {"process": process, **kept, **terms, "exchanged": exchanged, "heap": heap, "peak": peak}


def tokens_within(step: StepCost, process: float, limit: float, spread: Spread) -> int:
    """The largest micro-batch that fits in `limit` bytes, where its largest does not; 0 where
    none does. What passes hold is taken to grow with the tokens."""
    held = memory(step, process, spread)
    fixed = sum(held[name] for name in ("process", "weights", "average", "optimizer", "gradients", "exchanged"))
    fixed += held.get("whole", 0.0)
    if limit < fixed + held["update"]:
        return 0
    moving = max(step.counts.passes - step.counts.gradients, step.counts.activations + step.counts.loss)
    return _round_down(step.largest * (limit - fixed) / max(1.0, moving + held["heap"]))


def cures(step: StepCost, again: StepCost | None, process: float, limit: float, spread: Spread) -> list[str]:
    """What to switch on where a step does not fit in `limit` bytes, in sentences. `again`: the same step where
    activations of blocks are computed again, which takes about a third longer; None: it does already, or cannot."""
    ways = []
    settings = "--set train.activation_checkpointing=true"
    if (tokens := tokens_within(step, process, limit, spread)) > 0:
        ways.append(f"Micro-batches of {tokens:,} tokens fit: --set tokens_per_batch={tokens}.")
    if again is not None:
        peak = memory(again, process, spread)["peak"]
        if peak <= limit:
            ways.append(f"It fits, and takes about a third longer, with {settings}: {peak / 1e9:.3g} GB.")
        elif (tokens := tokens_within(again, process, limit, spread)) > 0 and not ways:
            ways.append(f"It fits with {settings} and --set tokens_per_batch={tokens}.")
    if step.counts.optimizer > _TWO_NUMBERS * step.counts.weights:
        ways.append(
            f"--set train.optimizer_bits=8 keeps about a quarter of the optimizer's state, which takes "
            f"{step.counts.optimizer / 1e9:.3g} GB."
        )
    if not ways and spread.processes > 1 and not spread.sharded:
        ways.append("Divide weights and optimizer among the processes: --set train.sharded=true.")
    return ways or [
        f"A smaller --size does, or more devices: weights, gradients and optimizer alone take "
        f"{(memory(step, process, spread)['peak'] - step.counts.activations) / 1e9:.3g} GB."
    ]


def _round_down(tokens: float) -> int:
    """To two digits in binary and more: a number that one can remember."""
    whole = max(0, int(tokens))
    return whole if whole < 16 else whole >> (whole.bit_length() - 3) << (whole.bit_length() - 3)


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
