"""The dry run of a pretraining: its steps are counted without computing, and a few of them timed on this machine.

A trunk is a row of equal blocks, so whatever a step takes grows linearly with their number: it is counted, and timed,
with one block and with three of the very shape.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Self

import numpy as np

from onetrunk.core.batch import Batch
from onetrunk.core.encoder import Column, Encoder
from onetrunk.core.errors import UsageError
from onetrunk.core.registry import column_types
from onetrunk.data.prepare import encode, fit_columns
from onetrunk.data.store import Store
from onetrunk.engine.counting import Counts, count, fake
from onetrunk.engine.memory import trim_freed_memory
from onetrunk.engine.mode import Mode, Pass, decide
from onetrunk.engine.planning import DEVICE_PROCESS, StepCost
from onetrunk.engine.progress import resident_bytes
from onetrunk.engine.runtime import Runtime
from onetrunk.engine.trainer import TrainConfig, Trainer
from onetrunk.model import FoundationModel
from onetrunk.model.flops import StepOperations
from onetrunk.objectives import Learner
from onetrunk.training.batches import updates_of
from onetrunk.training.open_data import Data
from onetrunk.training.pretrain import schedule
from onetrunk.training.recipe import Recipe

_BLOCKS = 1, 3
_STEPS = 3  # after so many a heap has found its size
_SECONDS = 1.0  # to time steps for, of each depth
_TIMED = 4096  # tokens of a micro-batch that is timed, at most: larger ones are about as fast
_ENCODED_ROWS = 100_000  # of which a plan is made, at most
_LETTERS = 0x10000  # the first of a million code points in a row
_VOCABULARY, _PIECES = 32_000, 512  # of text that is not there yet


def random_store(vocabulary: int, pieces: int, **options: Any) -> Store:
    """One long text of random characters, as many of them as the vocabulary has tokens, read in pieces of the column's
    `length`: speed does not depend on what is said."""
    make: Any = column_types.get("text").encoder  # whose `size` is its vocabulary
    options |= {"unit": "character"}
    empty = make(options)
    empty.fit(["a"])
    encoder, letters = make(options), vocabulary - (empty.size - 1)  # the rest are special tokens
    if letters < 1:
        raise UsageError(f"A vocabulary needs {empty.size} tokens or more; found {vocabulary}.")
    encoder.fit(["".join(chr(_LETTERS + i) for i in range(letters))])
    drawn = np.random.default_rng(0).integers(_LETTERS, _LETTERS + letters, pieces * encoder.options.length)
    content, _ = encoder.encode_all(["".join(map(chr, drawn.tolist()))], lambda row, reason: None)
    return Store(["text"], [encoder], [content], np.zeros((1, 1), dtype=np.int64))


@dataclass
class Source:
    """What a model is to learn from: columns, their fitted encoders, encoded rows, which are this share of all."""

    columns: list[Column]
    encoders: dict[str, Encoder]
    store: Store
    share: float = 1.0

    @classmethod
    def of(cls, data: Data) -> Self:
        """The training rows of opened data; of many a sample is encoded."""
        train = data.rows("train")
        columns, encoders = fit_columns(train, data.names, data.types, data.options, data.cache)
        some = train.sample(_ENCODED_ROWS, "plan")
        return cls(columns, encoders, encode(some, columns, encoders, data.ledger, data.cache), len(some) / len(train))

    @classmethod
    def stand_in(cls, recipe: Recipe) -> Self:
        """One column `text` of random tokens, with the options that the recipe has for it. Raises UsageError where it
        has some for other columns."""
        if others := sorted(recipe.columns.keys() - {"text"}):
            raise UsageError(f"Without data there is one column, text; columns.{others[0]} needs data.")
        options = dict(recipe.columns.get("text", {}))
        store = random_store(options.pop("vocabulary", _VOCABULARY), _PIECES, **options)
        return cls([Column("text", "text", "text")], {"text": store.encoders[0]}, store)


class DryRun:
    """Pretraining of a recipe on a source, before it is made. `batches`, a step's, are the run's own first."""

    def __init__(self, source: Source, recipe: Recipe, seed: int) -> None:
        self.source, self.recipe, self.runtime = source, recipe, Runtime.open(recipe.device)
        self.loader, self.objectives, self.steps = schedule(source.store, recipe, seed, source.share)
        self.batches: list[Batch] = self.loader(0)
        small = recipe.model_copy(update={"tokens_per_batch": min(_TIMED, recipe.tokens_per_batch)})
        self._timed = _largest(schedule(source.store, small, seed)[0](0))
        whole = self._timed.tokens == self.tokens_per_step
        self._micro_batches = (1,) if whole else (1, 2)  # of the steps that are timed, in turn
        self.layers: int = recipe.trunk_config()["layers"]
        self._shapes = [self._learner(blocks, fake()) for blocks in _BLOCKS]
        self._operations = [StepOperations(shape.model) for shape in self._shapes]

    @property
    def tokens_per_step(self) -> int:
        return sum(batch.tokens for batch in self.batches)

    @property
    def passes(self) -> float:
        """Of a step, over the data."""
        rows = max(self.loader.rows_per_epoch(objective.tag) for objective in self.objectives) / self.source.share
        return max(objective.config.documents for objective in self.objectives) / rows

    def mode(self, steps: int) -> Mode:
        """How a run of so many steps computes here; compiling, which long runs try, is left out."""
        precision = self.recipe.train.precision
        before = Mode.before(precision, self.runtime.device)

        @cache
        def timer() -> Pass:  # of a real model: only where the clock decides, of narrow ones
            return self.runtime.pass_timer(self._learner(_BLOCKS[1]), self._timed)

        return decide(
            before, precision, False, self._shapes[1], (), lambda bf16: timer()(bf16), steps, len(self.batches)
        )

    def step(self, mode: Mode, heap: bool, recomputed: bool = False, processes: int = 1) -> StepCost:
        """What a step takes, counted; with what the `heap` of a CPU takes beyond it. `recomputed`: where activations of
        blocks are computed again, whatever the recipe says. `processes` share the step."""
        largest, micro_batches = _largest(self.batches), len(self.batches)
        one, more = (
            self._count(shape, largest, mode, micro_batches, heap, recomputed, processes) for shape in self._shapes
        )
        block = (more.weights - one.weights) / (_BLOCKS[1] - _BLOCKS[0])
        counts = one.line(more, self._beyond)
        return replace(self._as_step(counts, self.batches), block=block, outside=counts.weights - self.layers * block)

    def _count(
        self,
        shape: Learner,
        batch: Batch,
        mode: Mode,
        micro_batches: int,
        heap: bool,
        recomputed: bool = False,
        processes: int = 1,
    ) -> Counts:
        train = self.recipe.train
        return count(
            shape, batch, train, mode, updates_of(shape),
            recomputed=recomputed or train.activation_checkpointing, heap_of=_STEPS if heap else 0,
            micro_batches=micro_batches, averaged=train.ema > 0, processes=processes,
        )  # fmt: skip

    def _as_step(self, counts: Counts, batches: list[Batch]) -> StepCost:
        one, more = (sum(map(operations, batches)) for operations in self._operations)
        return StepCost(
            counts=counts,
            operations=one + self._beyond * (more - one),
            tokens=sum(batch.tokens for batch in batches),
            micro_batches=len(batches),
            averaged=self.recipe.train.ema > 0,
            largest=_largest(batches).tokens,
        )

    @property
    def process_bytes(self) -> float:
        """What the device holds before a model is there: on a CPU this process, with libraries and data."""
        return DEVICE_PROCESS if self.runtime.device.type == "cuda" else resident_bytes()

    def measure(self, mode: Mode, steps: int) -> tuple[float, float]:
        """Seconds of a step, and the bytes that this process holds beside what is counted, once it has made some
        shallower ones: libraries, with their code and threads, and data."""
        one, more = (
            self._seconds(operations, blocks, mode, steps)
            for operations, blocks in zip(self._operations, _BLOCKS, strict=True)
        )
        trim_freed_memory()
        return one + self._beyond * max(0.0, more - one), self.process_bytes

    @property
    def _beyond(self) -> float:
        """How many times the way from the first depth to the second leads to the run's own."""
        return (self.layers - _BLOCKS[0]) / (_BLOCKS[1] - _BLOCKS[0])

    def _learner(self, blocks: int, inside: AbstractContextManager[None] | None = None) -> Learner:
        """A model of so many blocks and its objectives: on the device, or `inside` what makes it without numbers."""
        trunk, encoders = {**self.recipe.trunk_config(), "layers": blocks}, copy.deepcopy(self.source.encoders)
        objectives = copy.deepcopy(self.objectives)
        with inside or nullcontext():
            model = FoundationModel(trunk, self.source.columns, encoders, self.recipe.attention)
            learner = Learner(model, objectives)
        return learner if inside else self.runtime.place(learner)

    def _seconds(self, operations: StepOperations, blocks: int, mode: Mode, steps: int) -> float:
        """Of a step with so many blocks. Steps of one micro-batch and of two are timed in turn: a whole step is on the
        line through both, by its operations."""

        def micro_batches(step: int) -> int:
            return self._micro_batches[step % len(self._micro_batches)]

        def batches(step: int) -> list[Batch]:
            self.loader(step)  # making a step's own takes time, too
            return [self._timed] * micro_batches(step)

        precision = "bf16" if mode.autocast else "fp32"
        train = {**self.recipe.train.model_dump(), "precision": precision, "compile": False, "steps": steps}
        with tempfile.TemporaryDirectory() as folder:
            learner, config = self._learner(blocks), TrainConfig.parse(train)
            times = Trainer(learner, batches, config, folder, updates=updates_of(learner)).dry_run(_SECONDS)
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for step, taken in enumerate(times, 1):  # step 0 warmed up
            seconds[micro_batches(step)].append(taken)
        single = statistics.median(seconds[1])
        if self._micro_batches == (1,):
            return single
        share = sum(map(operations, self.batches)) / operations(self._timed)
        return single + (share - 1) * max(0.0, statistics.median(seconds[2]) - single)


def _largest(batches: list[Batch]) -> Batch:
    """Padding takes memory, too."""
    return max(batches, key=lambda batch: batch.layout.doc_BT.numel())
