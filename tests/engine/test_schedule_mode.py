"""The learning rate's factor in closed form; what decides precision and compiling."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from onetrunk.engine import mode
from onetrunk.engine.mode import Mode, decide
from onetrunk.engine.schedule import factor


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_warm_up_rises_to_one_and_never_jumps(kind: str) -> None:
    values = [factor(step, 100, 0.1, kind) for step in range(100)]
    assert values[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert values[10] == 1.0 and all(0 < v <= 1 for v in values)
    after = values[10:]
    assert after == sorted(after, reverse=True)


def test_closed_forms() -> None:
    assert [factor(s, 100, 0.0, "constant") for s in (0, 99)] == [1.0, 1.0]
    assert factor(50, 100, 0.0, "linear") == pytest.approx(0.5)
    assert factor(99, 100, 0.0, "linear") == pytest.approx(0.01)
    assert factor(25, 100, 0.0, "cosine") == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert factor(0, 1, 0.5, "linear") == 1.0


CPU = torch.device("cpu")


def clock(bf16: float, fp32: float, compiled: float = 0.0):
    """A pass's seconds; after the first eight (which decide the precision) and one that compiles, `compiled`."""
    calls = []

    def timed(autocast: bool) -> float:
        calls.append(autocast)
        return compiled if compiled and len(calls) > 8 else (bf16 if autocast else fp32)

    timed.calls = calls
    return timed


@pytest.mark.parametrize(
    ("choice", "fast", "width", "steps", "seconds", "expected", "probed"),
    [
        ("fp32", True, 512, 100, (1, 9), (False, False), 0),
        ("bf16", False, 64, 100, (9, 1), (True, False), 0),
        ("auto", False, 512, 100, (1, 9), (False, False), 0),
        ("auto", True, 512, 10, (9, 1), (True, True), 0),
        ("auto", True, 511, 10, (1, 9), (False, True), 0),
        ("auto", True, 64, 100, (0.85, 1.0), (True, True), 8),
        ("auto", True, 64, 100, (0.89, 1.0), (False, True), 8),
    ],
)
def test_the_precision(monkeypatch, choice, fast, width, steps, seconds, expected, probed) -> None:
    monkeypatch.setattr(mode, "has_fast_bf16", lambda device: fast)
    timed = clock(*seconds)
    module = nn.Linear(width, width)
    decided = decide(Mode.before(choice, CPU), choice, False, module, (), timed, steps, 1)
    assert (decided.autocast, decided.muon) == expected and len(timed.calls) == probed
    assert decided.timed == (probed > 0)
    assert decided.reason.startswith("bf16" if decided.autocast else "fp32")
    with decided.context(CPU):
        assert (
            (nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.bfloat16)
            == expected[0]
            == (decided.dtype != torch.float32)
        )


@pytest.mark.parametrize(
    ("choice", "seconds", "compiled", "steps", "expected"),
    [
        (True, 0.01, 0.0, 100, True),
        (False, 60.0, 0.5, 100, False),
        ("auto", 1.0, 0.5, 100, False),  # 100 s: too short a run
        ("auto", 60.0, 30.0, 100, True),
        ("auto", 60.0, 59.0, 100, False),  # tried, and hardly faster
        ("auto", 60.0, 1.0, 10, False),
    ],
)
def test_whether_to_compile(monkeypatch, choice, seconds, compiled, steps, expected) -> None:
    monkeypatch.setattr(mode, "has_fast_bf16", lambda device: True)
    blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    try:
        timed = clock(seconds, seconds, compiled)
        decided = decide(Mode.before("auto", CPU), "auto", choice, blocks, blocks, timed, steps, 1)
        assert decided.compiled == expected == torch.are_deterministic_algorithms_enabled()
        assert all((block._compiled_call_impl is not None) == expected for block in blocks)
    finally:
        mode.set_compiled(blocks, False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_compiler_that_fails_leaves_the_run_eager(monkeypatch) -> None:
    monkeypatch.setattr(mode, "has_fast_bf16", lambda device: False)
    blocks = nn.ModuleList([nn.Linear(4, 4)])

    def timed(autocast: bool) -> float:
        if blocks[0]._compiled_call_impl is not None:
            raise RuntimeError("no C++ compiler")
        return 60.0

    decided = decide(Mode.before("auto", CPU), "auto", "auto", blocks, blocks, timed, 100, 1)
    assert not decided.compiled and "compiling failed (RuntimeError)" in decided.reason


def test_width_is_the_trunks() -> None:
    blocks = [nn.Embedding(1000, 64), nn.Linear(64, 256), nn.Linear(256, 64), nn.Linear(64, 3)]
    assert mode.width_of(nn.ModuleList(blocks)) == 64
    assert mode.width_of(nn.LayerNorm(4)) == 0


def test_rounds_that_contradict_each_other_keep_fp32(monkeypatch) -> None:
    """A busy machine: the fastest pass in bf16 is twice as fast, but one was slower than the one in fp32 beside it."""
    monkeypatch.setattr(mode, "has_fast_bf16", lambda device: True)
    times = iter([9, 9, 0.5, 1.0, 1.2, 1.1, 0.5, 1.0])
    decided = decide(
        Mode.before("auto", CPU), "auto", False, nn.Linear(64, 64), (), lambda autocast: next(times), 100, 1
    )
    assert not decided.autocast and decided.reason == "fp32: a pass takes 500 ms in bf16, 1000 ms in fp32"
