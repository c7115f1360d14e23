"""Trains any module whose `forward(batch)` gives named losses, as sums and counts.

A step is `batches(step)`: micro-batches, a pure function of the step. Its loss is the weighted sum, over
names, of (sum over micro-batches of the losses' sums) / (sum of their counts). Counts are known beforehand,
so every micro-batch is differentiated at its final scale: accumulation equals one big batch. Dropout is keyed
by (seed, step, micro-batch). So a run killed at any instant goes on from its newest checkpoint bit for bit
(in the same mode; on CUDA as far as the kernels are deterministic).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from pydantic import Field
from torch import Tensor, nn

from onetrunk.core.errors import DivergedError, ResourceError, UsageError, is_out_of_memory
from onetrunk.core.kernels import Kernels, kernels
from onetrunk.engine.ahead import Ahead
from onetrunk.engine.checkpoint import Checkpoints, clear_run, load_file, load_state
from onetrunk.engine.helper import Batches, StepsTogether, move_average, own_batches
from onetrunk.engine.log import MetricsLog, Record
from onetrunk.engine.losses import Weights
from onetrunk.engine.memory import give_back_freed_memory, keep_freed_memory
from onetrunk.engine.mode import Choice, Compile, Mode, decide, set_compiled
from onetrunk.engine.progress import Progress, resident_bytes
from onetrunk.engine.runtime import Runtime
from onetrunk.engine.schedule import Schedule, factor
from onetrunk.engine.signals import Signals
from onetrunk.engine.step import MicroBatch, NotFiniteError, Step, StepSettings, Updates
from onetrunk.engine.world import packed, unpacked
from onetrunk.storage import atomic
from onetrunk.storage.disk import disk_errors
from onetrunk.storage.strict_json import write_json

# Between a run and its resumption: they move no weight, `sharded` but for its last bits.
_MAY_CHANGE = {"save_every", "keep", "tensorboard", "sharded", "activation_checkpointing"}
LEAST_STEPS = 20  # fewer teach nothing, however little time there is
_RATE_FROM = 3.0  # seconds of training that are worth half a second, in which the machine's rate is measured
_STATE = {"step", "seed", "identity", "config", "mode", "best", "waited", "validated", "totals", "levels", "optimizer"}


Validate = Callable[[], tuple[float | None, bool, dict[str, Any]]]  # main metric, is higher better, all metrics


class TrainSettings(StepSettings):
    """How to train. 0 switches a field off unless it says otherwise."""

    schedule: Schedule = "linear"
    warmup: float = Field(0.05, ge=0, lt=1)  # fraction of the steps
    precision: Choice = "auto"  # auto: by a short probe
    compile: Compile = "auto"  # auto: runs that are long enough to gain from it
    kernels: Kernels = "auto"  # plain: nothing is computed by hand, where auto does so on a CPU
    ema: float = Field(0.99, ge=0, lt=1)  # decay of the moving average of the weights, which then is the model
    validate_every: int = Field(0, ge=0)  # steps; 0: at the end only
    patience: int = Field(0, ge=0)  # validations without a better one before it stops
    save_every: int = Field(0, ge=0)  # steps; the last step is always saved
    keep: int = Field(2, ge=2)  # checkpoints, besides the best
    tensorboard: bool = True
    shares: int = Field(0, ge=0)  # of a step, summed each by itself, then in order; 0: one for each process of the run
    sharded: bool = False  # are weights, gradients and optimizer state divided among the processes (FSDP2)?

    def keeps_freed_memory(self, alone: bool) -> bool:
        """For the next step; not where a setting says that memory is short. `alone`: is there but one process?"""
        return not (self.activation_checkpointing or (self.sharded and not alone))


class TrainConfig(TrainSettings):
    """One run: how, and for how many steps."""

    steps: int = Field(1000, ge=1)


@dataclass
class TrainResult:
    """`interrupted` is the signal's number, or 0. `history` holds the records of metrics.jsonl."""

    step: int
    best_metric: float | None
    best_step: int | None
    history: list[Record]
    interrupted: int
    seconds: float  # of training steps, over all resumptions
    tokens: int
    mode: str  # how steps were computed, and why
    device: str
    facts: dict[str, Any] = field(default_factory=dict)  # what the kind of step tells of the run (`Step.facts`)


class Trainer:
    """One training run in `folder` (`checkpoints/`, `metrics.jsonl`, `tensorboard/`), resumed where it ended.

    `run` leaves the module in eval mode with the weights to use: the best validated ones if there is a
    validation, else the average if there is one, else the last. An interrupted run leaves the last.
    `identity` (plain JSON: the table's digest, the model it starts from) must be the same for a run to go on. Another
    is refused; with `resume="same"` it begins anew, as with False every run does. `flops` counts a batch's
    floating-point operations: then the progress line says which share of the machine's rate is used (MFU). `updates`
    says how parameters are updated: by default all by one optimizer, Muon none. `step_kind` makes the steps. A run
    that takes longer than `limit` seconds, for the machine became slower, ends before its last step.
    """

    def __init__(
        self,
        module: nn.Module,
        batches: Batches,
        config: TrainConfig,
        folder: str | Path,
        *,
        seed: int = 0,
        identity: dict[str, Any] | None = None,
        validate: Validate | None = None,
        progress: Progress | None = None,
        resume: bool | Literal["same"] = True,
        flops: Callable[[Any], float] | None = None,
        updates: Updates | None = None,
        step_kind: Callable[..., Step] = Step,
        limit: float | None = None,
    ) -> None:
        self.runtime, self.step_kind = Runtime.of(module), step_kind
        config = config.model_copy(update={"shares": config.shares or self.runtime.world.size})
        self.module, self.batches, self.config, self.folder = module, batches, config, Path(folder)
        self.seed, self.identity, self.validate, self.resume = seed, identity or {}, validate, resume
        self.flops, self.updates, self.limit = flops, updates or Updates(), limit or math.inf
        self.progress = progress or Progress()
        self.parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.device = self.runtime.device
        keep_freed_memory() if config.keeps_freed_memory(self.runtime.world.alone) else give_back_freed_memory()
        weights = sum(p.untyped_storage().nbytes() for p in module.parameters())
        self._process = 0.0 if self.device.type == "cuda" else resident_bytes() - weights  # beside the model
        self.weights = Weights(config.loss_weights, config.balance == "learnt")
        self.mode = Mode.before(config.precision, self.device)
        self.step = 0  # updates done
        self.best: dict[str, Any] | None = None  # step, metric, metrics
        self.waited = 0  # validations since the best
        self.validated = 0  # the last step that was validated
        self.totals: dict[str, Any] = {"tokens": 0, "documents": 0, "seconds": 0.0}
        self._saved = -1  # the last step that was saved
        self._writes = True  # not in a dry run
        self._part: StepsTogether | None = None  # what this process does of steps with sharded weights

    def run(self) -> TrainResult:
        """Trains to the end, to a signal, or until patience ends.

        Raises DivergedError (nothing updated, bad_step.json written), ResourceError, ModelFileError (no
        checkpoint can be used) or UsageError (the configuration is not the checkpoint's).
        """
        config = self.config
        self._prepare()
        self.module.train()
        log = MetricsLog(self.folder, self.step, self.validated, config.tensorboard)
        self.progress.start(self.step, config.steps)
        began = time.monotonic() - self.totals["seconds"]
        try:
            with kernels(config.kernels), Signals() as signals, self._helpers():
                while not signals.received:
                    late = LEAST_STEPS <= self.step < config.steps and time.monotonic() - began > self.limit
                    if self._validation_due(late):
                        with self._memory():
                            log.write(self._validation())
                    if self.step and config.save_every and self.step % config.save_every == 0:
                        self._save()
                    if late:
                        self.progress.note(
                            f"Ending after {self.step:,} of {config.steps:,} steps: they took longer than at the "
                            "beginning, and the time is over."
                        )
                    if late or self.step >= config.steps or 0 < config.patience <= self.waited:
                        break
                    with self._memory():
                        record = self._training_step()
                    log.write(record)
                    self.progress.update(
                        self.step, record["loss"], record["tokens_per_s"], record.get("mfu"), record.get("epsilon")
                    )
                self._save()
        finally:
            self._own_batches.close()
            if self.mode.compiled:
                set_compiled(self.updates.blocks, False)
            log.close()
            self.progress.close()
        if not signals.received:
            self._take_best_weights()
        self.module.eval()
        best = self.best or {"metric": None, "step": None}
        return TrainResult(
            self.step,
            best["metric"],
            best["step"],
            log.records,
            signals.received,
            self.totals["seconds"],
            self.totals["tokens"],
            self.mode.reason,
            self.runtime.name,
            self.make_step.facts(),
        )

    def dry_run(self, seconds: float, at_least: int = 3) -> list[float]:
        """Makes steps as `run` does, for about so long and at least so many after one that warms up; returns the
        seconds of each. Writes nothing, and leaves the module as it was. For a Trainer that makes no run."""
        changing = {**self.parameters, **dict(self.module.named_buffers())}
        kept = {name: tensor.detach().clone() for name, tensor in changing.items()}
        training, self._writes = self.module.training, False
        self._begin(None)
        self.module.train()
        try:
            with self._memory(), kernels(self.config.kernels), self._helpers():
                return self.runtime.time(self._training_step, seconds=seconds, at_least=at_least, warm_up=1)
        finally:
            self._own_batches.close()
            if self.mode.compiled:
                set_compiled(self.updates.blocks, False)
            self.module.zero_grad(set_to_none=True)
            with torch.no_grad():
                for name, tensor in changing.items():
                    tensor.copy_(kept[name])
            self.module.train(training)
            self.step, self._writes = 0, True

    # -- one step --------------------------------------------------------------------------------------------
    def _training_step(self) -> Record:
        started, world = time.perf_counter(), self.runtime.world
        batches = self._own_batches(self.step)
        if not self.mode.reason:
            self._decide(batches)
            started = time.perf_counter()
        scale = factor(self.step, self.config.steps, self.config.warmup, self.config.schedule)
        try:
            with world.together():
                world.tell(("step", self.step, scale, self.mode))
                if self._part is None:
                    result = self.make_step(self.step, batches, scale, lambda: self.mode.context(self.device))
                else:
                    result = self._part.step(self.step, scale, self.mode, batches)
        except NotFiniteError as error:
            self._diverged(error)
        if self._part is None:
            move_average(self.average, self.parameters, self.config.ema, self.step)
        self.step += 1

        seconds = time.perf_counter() - started
        self.totals["tokens"] += result.tokens
        self.totals["documents"] += result.documents
        self.totals["seconds"] += seconds
        record = {
            "step": self.step,
            "loss": result.loss,
            "losses": result.losses,
            "lr": self.config.lr * scale,
            "grad_norm": result.norm,
            "tokens": self.totals["tokens"],
            "tokens_per_s": round(result.tokens / seconds, 1),
            "seconds": round(self.totals["seconds"], 3),
            **result.figures,
        }
        if self.flops is not None and self.totals["seconds"] >= _RATE_FROM:
            rate = sum(self.flops(batch) for batch in batches if batch is not None) / seconds  # this process's
            record["mfu"] = round(rate / self.runtime.gemm_rate(self.mode.dtype), 4)
        return record

    @contextmanager
    def _helpers(self) -> Iterator[None]:
        """Inside, the other processes of the world, where there are any, make the steps too."""
        world = self.runtime.world
        if world.alone:
            yield
            return
        task = StepsTogether(
            self.module, self.batches, self.updates, self.config, self.seed, self.mode,
            self.make_step.tensors(), self.average, dict(self.weights.levels), self.device.type,
        )  # fmt: skip
        world.hand_out(task)
        try:
            if self.config.sharded:
                with world.together():
                    arrays: list[Any] = []
                    self._part = unpacked(packed(task, arrays.append), arrays)
                    self._part.begin()
                self.weights = self._part.made.weights
                self.make_step.load_tensors({})  # the parts have it
            del task
            yield
        finally:
            world.tell(None)
            if self._part is not None:
                self._part.end()
            self._part = None

    @torch.no_grad()
    def _put_together(self) -> None:
        """Of sharded weights and averages: the whole, in the module of this process, rank 0."""
        if self._part is not None:
            with self.runtime.world.together():
                self.runtime.world.tell(("weights",))
                self._part.weights(self.parameters, self.average)

    def _optimizer_state(self) -> dict[str, Tensor]:
        if self._part is None:
            return self.make_step.tensors()
        with self.runtime.world.together():
            self.runtime.world.tell(("state",))
            return self._part.state()

    def _decide(self, batches: Sequence[MicroBatch | None]) -> None:
        """How the run computes, from its first micro-batch. What the clock said is kept at once: a run that is killed
        and begins again computes alike."""
        choices, steps = (self.config.precision, self.config.compile), self.config.steps
        own = [batch for batch in batches if batch is not None]
        if not own:  # of rows that are drawn by themselves there may be none; a later step decides
            return
        timed = self.runtime.pass_timer(self.module, own[0])
        self.mode = decide(self.mode, *choices, self.module, self.updates.blocks, timed, steps, len(own))
        if "auto" in choices:
            self.progress.note(f"Computing in {self.mode.reason}.")
        if self.mode.timed:
            self._save()

    def _diverged(self, error: NotFiniteError) -> NoReturn:
        """Called before the update: saves the last good state, writes which rows it was, and raises."""
        self.module.zero_grad(set_to_none=True)
        bad = {"step": self.step, "problem": error.problem, "rows": error.rows.tolist()}
        if self._writes:
            with disk_errors(self.folder):
                write_json(self.folder / "bad_step.json", bad)
        if not error.updated and all(p.isfinite().all() for p in self.parameters.values()):
            self._save()
        rows = ", ".join(map(str, error.rows[:10]))
        rows += f" and {len(error.rows) - 10} more" if len(error.rows) > 10 else ""
        raise DivergedError(
            f"Training stopped in step {self.step}: {error.problem}, in table rows {rows}. The model was not "
            f"updated; its last good state is in {self.folder / 'checkpoints'}. Look at these rows (all are "
            f"listed in {self.folder / 'bad_step.json'}), or start anew with a lower learning rate (train.lr "
            "and train.muon_lr)."
        ) from error

    # -- averages and validation -----------------------------------------------------------------------------
    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Inside, the module holds the average, where there is one."""
        held = {name: self.parameters[name].detach().clone() for name in self.average}
        self._set(self.average)
        try:
            yield
        finally:
            self._set(held)

    @torch.no_grad()
    def _set(self, weights: dict[str, Tensor]) -> None:
        for name, weight in weights.items():
            self.parameters[name].copy_(weight)

    def _validation_due(self, late: bool) -> bool:
        if self.validate is None or self.step in (0, self.validated):
            return False
        every = self.config.validate_every
        return late or self.step == self.config.steps or (every > 0 and self.step % every == 0)

    def _validation(self) -> Record:
        """Validates, and keeps a copy of the weights when they are the best so far."""
        self._put_together()
        with self._averaged(), torch.no_grad(), self.mode.context(self.device):
            self.module.eval()
            assert self.validate is not None  # else none is due
            metric, higher_is_better, metrics = self.validate()
            self.module.train()
            self.waited += 1
            if metric is not None and math.isfinite(metric):
                sign = 1 if higher_is_better else -1
                if self.best is None or sign * metric > sign * self.best["metric"]:
                    self.best, self.waited = {"step": self.step, "metric": metric, "metrics": metrics}, 0
                    self.checkpoints.save_best(self.module.state_dict(), self.best)
        self.validated = self.step
        return {"step": self.step, "validation": {"metric": metric, **metrics}}

    def _take_best_weights(self) -> None:
        if self.best is not None:
            self.module.load_state_dict(self.checkpoints.best(_shapes(self.module.state_dict())))
        else:
            self._set(self.average)

    # -- state -----------------------------------------------------------------------------------------------
    def _prepare(self) -> None:
        """Builds the optimizer, and takes up the newest checkpoint if there is one."""
        atomic.recover(self.folder)
        with disk_errors(self.folder):
            atomic.real(self.folder).mkdir(parents=True, exist_ok=True)
        if not self.resume:
            clear_run(self.folder)
        (self.folder / "bad_step.json").unlink(missing_ok=True)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", self.config.keep)
        newest = self.checkpoints.latest(self.progress.note)
        state = {} if newest is None else load_state(newest, _STATE)
        changes = self._changes(state) if state else ""
        if changes and self.resume == "same":
            self.progress.note(f"What was trained before cannot be continued exactly ({changes}): it begins anew.")
            self.checkpoints.clear()
        if newest is None or (changes and self.resume == "same"):
            self._begin(None)
            return
        if changes:
            raise UsageError(
                f"The run to be continued from {newest} has another configuration ({changes}). Give the "
                "same values to go on, or start anew: another --out, or --overwrite."
            )
        self._begin(state)
        self._restore(state, newest)
        self.checkpoints.prune(self.step)  # a kill may have come between the last one and this
        self.progress.note(f"Going on from {newest}.")

    def _begin(self, state: dict[str, Any] | None) -> None:
        """The mode, that of a checkpoint's state if there is one; a new optimizer, a new average."""
        self.mode = Mode(**state["mode"]) if state else Mode.before(self.config.precision, self.device)
        if self.mode.compiled:
            set_compiled(self.updates.blocks, True)
        self.make_step = self.step_kind(
            self.module, self.config, self.updates, self.runtime, self.seed, self.weights, self.mode.muon,
            self.config.shares,
        )  # fmt: skip
        make = partial(own_batches, self.batches, config=self.config, runtime=self.runtime)
        self._own_batches = Ahead(make, self.config.steps - 1, self.device)
        self.average = {}
        if self.config.ema:
            self.average = {n: p.detach().clone() for n, p in self.parameters.items()}

    def _changes(self, state: dict[str, Any]) -> str:
        """What differs from a checkpoint's run and would make another model of it, for a person; else nothing."""
        old = {"seed": state["seed"], "shares": 1, **state["identity"], **state["config"]}
        new = {"seed": self.seed, **self.identity, **self._config()}
        keys = sorted(k for k in old.keys() | new.keys() if k not in _MAY_CHANGE and old.get(k) != new.get(k))
        return ", ".join(f"{key}: {old.get(key)!r} -> {new.get(key)!r}" for key in keys)

    def _config(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json")

    def _restore(self, state: dict[str, Any], checkpoint: Path) -> None:
        self.module.load_state_dict(load_file(checkpoint, "model", _shapes(self.module.state_dict())))
        shapes = {name: tuple(shape) for name, shape in state["optimizer"].items()}
        self.make_step.load_tensors(load_file(checkpoint, "optimizer", shapes))
        self.make_step.load_state(state.get("step_kind", {}))
        if self.average:
            saved = load_file(checkpoint, "average", _shapes(self.average))
            self.average = {name: saved[name].to(self.device) for name in self.average}
        self.step = self._saved = state["step"]
        self.best, self.waited, self.validated = state["best"], state["waited"], state["validated"]
        self.totals, self.weights.levels = state["totals"], state["levels"]

    def _save(self) -> None:
        """Saves this step unless it is saved already."""
        if self.step == self._saved or not self._writes:
            return
        self._put_together()
        optimizer = self._optimizer_state()
        tensors = {"model": self.module.state_dict(), "optimizer": optimizer}
        if self.average:
            tensors["average"] = self.average
        state = {
            "seed": self.seed,
            "identity": self.identity,
            "config": self._config(),
            "mode": vars(self.mode),
            "best": self.best,
            "waited": self.waited,
            "validated": self.validated,
            "totals": self.totals,
            "levels": self.weights.levels,
            "step_kind": self.make_step.state(),
            "optimizer": {name: list(shape) for name, shape in _shapes(optimizer).items()},
        }
        self.checkpoints.save(self.step, tensors, state)
        self._saved = self.step

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """Turns an allocation that failed into a plain ResourceError."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            from onetrunk.engine.room import out_of_memory

            peak = self.runtime.peak_bytes
            self.module.zero_grad(set_to_none=True)
            raise ResourceError(
                f"Out of memory on {self.device} in step {self.step}, after a peak of {peak / 1e9:.1f} GB. "
                f"{out_of_memory(self.module, self.batches(self.step), self.config, self.updates, peak, self._process)}"
            ) from error


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
