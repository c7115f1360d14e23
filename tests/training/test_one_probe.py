"""One clock: what `Runtime.time` says decides --budget, the precision, compiling, and what `plan` tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import worlds

import onetrunk
from onetrunk.engine import mode, runtime
from onetrunk.engine.mode import Mode, decide, set_compiled
from onetrunk.engine.runtime import Runtime
from onetrunk.engine.trainer import TrainConfig
from onetrunk.training import batches as made_batches
from onetrunk.training.batches import steps_within

CPU = torch.device("cpu")
Clock = Callable[..., None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """`clock(2.0, 3.0)`: the probe does nothing and says that calls took 2 and 3 seconds in turn."""

    def says(*seconds: float) -> None:
        calls = iter(range(10**6))

        def time(self: Runtime, work: Any, *, at_least: int = 1, **_: Any) -> list[float]:
            return [seconds[next(calls) % len(seconds)] for _ in range(at_least)]

        monkeypatch.setattr(Runtime, "time", time)

    return says


def learner() -> tuple[Any, Any]:
    table = {"x": [float(i) for i in range(8)], "label": ["a", "b"] * 4}
    made = worlds.model(table, {"x": "number", "label": "category"})
    store = worlds.store_of(made, table)
    return worlds.learner(made, worlds.objective(store, given=["x"], ask=["label"])), worlds.batch(
        store, range(8), ["x"], ["label"]
    )


@pytest.mark.parametrize(("step_seconds", "steps"), [(2.0, 40), (0.5, 162), (0.001, 1000)])
def test_a_budget_is_spent_at_the_speed_that_it_measures(
    clock: Clock, step_seconds: float, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_batches, "_BESIDE", 0.1)
    monkeypatch.setattr(made_batches, "time", SimpleNamespace(monotonic=iter([5.0, 15.0]).__next__))  # of measuring
    run, batch = learner()
    clock(step_seconds)
    config = TrainConfig(precision="fp32", compile=False, tensorboard=False)
    assert steps_within(run, lambda step: [batch], config, 1000, 100.0, tmp_path) == steps


@pytest.mark.parametrize(("bf16", "fp32", "autocast"), [(1.0, 2.0, True), (2.0, 1.0, False), (1.9, 2.0, False)])
def test_the_precision_is_the_one_that_it_finds_faster(
    clock: Clock, bf16: float, fp32: float, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mode, "has_fast_bf16", lambda device: True)
    run, batch = learner()
    clock(bf16, fp32)
    timed = Runtime(CPU).pass_timer(run, batch)
    decided = decide(Mode.before("auto", CPU), "auto", False, run, (), timed, steps=1000, passes=1)
    assert decided.autocast is autocast and decided.timed


@pytest.mark.parametrize(("compiled_seconds", "compiled"), [(50.0, True), (99.0, False)])
def test_blocks_are_compiled_where_it_finds_that_faster(clock: Clock, compiled_seconds: float, compiled: bool) -> None:
    run, batch = learner()
    blocks = run.model.blocks
    clock(100.0, 100.0, compiled_seconds, compiled_seconds)  # eager, the compiling itself, and two compiled passes
    timed = Runtime(CPU).pass_timer(run, batch)
    try:
        decided = decide(Mode.before("fp32", CPU), "fp32", "auto", run, blocks, timed, steps=1000, passes=1)
    finally:
        set_compiled(blocks, False)
    assert decided.compiled is compiled and decided.timed


def test_a_plan_tells_what_it_measures(clock: Clock) -> None:
    clock(3.0)
    runtime._gemm_rate.cache_clear()
    settings = ["columns.text={length: 32, vocabulary: 300}", "pretrain.objectives=[{kind: predict, documents: 8}]",
                "train.precision=fp32"]  # fmt: skip
    planned = onetrunk.plan(quiet=True, settings=settings, size="nano", tokens=1e4)
    runtime._gemm_rate.cache_clear()
    assert planned["step"]["seconds"] == pytest.approx(3.0)
    assert planned["run"]["seconds"] == pytest.approx(3.0 * planned["run"]["steps"])
