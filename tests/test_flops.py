"""A step's floating-point operations against closed forms and PyTorch's count; what the progress line says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import worlds
from torch.utils.flop_counter import FlopCounterMode
from worlds import CASES, Case

from onetrunk.core.events import Collected, StepDone
from onetrunk.engine import runtime, trainer
from onetrunk.engine.progress import Progress
from onetrunk.engine.trainer import TrainConfig, Trainer
from onetrunk.model.flops import StepOperations
from onetrunk.objectives import Learner

WIDTH, LAYERS = 32, 2
TEXTS = ["to be or not to be", "that is the question", "whether"]


def texts(**trunk) -> tuple:
    made = worlds.model(
        {"text": TEXTS}, {"text": "text"}, options={"text": {"unit": "character"}}, trunk={**worlds.TRUNK, **trunk}
    )
    return made.network, worlds.batch(worlds.store_of(made, {"text": TEXTS}), range(3), [], ["text"], apart=True)


@pytest.mark.parametrize("activation", ["swiglu", "relu2"])
def test_a_language_model_is_six_for_each_weight_and_twelve_for_each_pair(activation: str) -> None:
    network, batch = texts(activation=activation)
    lens = [len(text) + 1 for text in TEXTS]
    hidden = 88 if activation == "swiglu" else 4 * WIDTH  # 8/3 of 32, rounded up to eights
    block = 4 * WIDTH**2 + (3 if activation == "swiglu" else 2) * WIDTH * hidden
    vocabulary = network.encoder("text").size
    pairs = sum(n * n for n in lens)
    expected = 6 * sum(lens) * (LAYERS * block + vocabulary * WIDTH) + 12 * LAYERS * WIDTH * pairs
    assert StepOperations(network)(batch) == pytest.approx(expected)


def test_a_causal_stream_compares_half_of_the_pairs() -> None:
    network, batch = texts()
    masked = network.trunk.flops(batch.layout)
    batch.layout.causal = True
    saved = sum((len(t) + 1) ** 2 - (len(t) + 1) * (len(t) + 2) / 2 for t in TEXTS)
    assert masked - network.trunk.flops(batch.layout) == 12 * LAYERS * WIDTH * saved


def test_it_is_what_pytorch_counts_but_for_padding_and_attention() -> None:
    """Every product of a real forward and backward pass; attention's kernel on a CPU is not in PyTorch's count."""
    network, batch = texts()
    with FlopCounterMode(display=False) as counter:
        sum(
            loss.sum for loss in [network.module("text").loss(network.encode(batch).h_ND, everywhere(batch))]
        ).backward()
    batch.layout.doc_BT = torch.arange(3)[:, None].expand_as(batch.layout.doc_BT)  # as if nothing were padding
    n, T = batch.layout.doc_BT.numel(), batch.layout.doc_BT.shape[1]
    whole = network.trunk.flops(batch.layout) + StepOperations(network).of_column(
        "text", n, everywhere(batch), reading=True
    )
    assert counter.get_total_flops() == pytest.approx(whole - 12 * LAYERS * WIDTH * 3 * T * T, rel=1e-9)


def everywhere(batch) -> dict[str, torch.Tensor]:
    n = batch.layout.doc_BT.numel()
    return {"id": torch.zeros(n, dtype=torch.int64), "w": torch.ones(n)}


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_a_recurrent_trunk_compares_no_pairs(kind: str) -> None:
    made = worlds.model({"text": TEXTS}, {"text": "text"}, trunk={"kind": kind, "width": WIDTH, "layers": LAYERS})
    batch = worlds.batch(worlds.store_of(made, {"text": TEXTS}), range(3), [], ["text"])
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind]
    assert made.network.trunk.flops(batch.layout) == 6 * LAYERS * gates * 2 * WIDTH**2 * batch.tokens


def costs(case: Case, rows: int = 3) -> tuple[float, float, int, int]:
    """Operations of embedding and of reading one position of a column, and how many positions and reads there are."""
    values = {"x": list(case.values[:rows]), "y": ["a", "b", "c"][:rows]}
    other = "y"
    types = {"x": case.type, "y": "category"}
    if case.on is not None:
        other = worlds.fitted(case).on
        values[other], types[other] = list(case.on[1][:rows]), case.on[0]
    made = worlds.model(values, types, options={"x": case.options})
    store = worlds.store_of(made, values)
    given, asked = worlds.batch(store, range(rows), ["x"], ["y"]), worlds.batch(store, range(rows), [other], ["x"])
    embed, read = given.embeds["x"], asked.reads["predict"]["x"]
    n, r = len(embed.flat_n), len(read.flat_r)
    operations = StepOperations(made.network)
    embedded = operations.of_column("x", n, embed.content) / n
    return embedded, operations.of_column("x", r, read.targets, reading=True) / r, n, r


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_column_type_can_be_counted(case: Case) -> None:
    embedded, read, _, _ = costs(case)
    assert embedded >= 0 and read > 0


def test_a_picture_counts_its_convolutions_and_a_category_its_read_out() -> None:
    case = Case("image", [np.zeros((8, 8), np.uint8)] * 2, None, None, {"patch": 4, "stem": 4, "size": 8})
    sides = worlds.fitted(case, 32)
    maps = sum(
        p.numel() * (16 if name.startswith(("blocks.0", "blocks.1")) else 4)  # 4 x 4 positions at half the side, 2 x 2
        for name, p in sides.stem.named_parameters()
        if p.ndim == 4
    )
    after = 4 * (sides.to_width.weight.numel() + sides.level_embedding.weight.numel())
    embedded, read, n, _ = costs(case, 2)
    assert (embedded, read) == pytest.approx((6 * (maps + after) / 4, 6 * sides.head.weight.numel())) and n == 8
    assert costs(CASES["category"])[1] == 6 * (2 * 32) * 3


def test_what_is_rounded_up_for_one_is_not_counted_for_all() -> None:
    """Sounds go through their convolutions 64 parts at least at a time."""
    many = Case("audio", [worlds.sound(i, 4.0) for i in range(3)], None, None, CASES["audio"].options)
    embedded, _, n, _ = costs(many)
    sides = worlds.fitted(many, 32)
    least = sides.to_width.weight.numel() + sum(
        p.numel() for m in (sides.narrow, sides.wide, sides.deep) for p in [m.weight]
    )
    assert embedded < 6 * least * sides.options.step * sides.options.bands * 1.5, "no more than every weight everywhere"
    assert n > 64


def test_the_share_is_operations_over_seconds_over_the_rate(tmp_path: Path, monkeypatch) -> None:
    network, batch = texts()
    store = worlds.store_of(worlds.model({"text": TEXTS}, {"text": "text"}), {"text": TEXTS})
    learner, flops = Learner(network, [worlds.objective(store, given=[], ask=["text"])]), StepOperations(network)
    monkeypatch.setattr(runtime, "_gemm_rate", lambda device, dtype: 1e9)
    monkeypatch.setattr(trainer, "_RATE_FROM", 0.0)
    config, events = TrainConfig(steps=2, tensorboard=False), Collected()
    result = Trainer(
        learner, lambda step: [batch], config, tmp_path, progress=Progress("train", events), flops=flops
    ).run()
    record = result.history[0]
    seconds = batch.tokens / record["tokens_per_s"]
    assert record["mfu"] == pytest.approx(flops(batch) / seconds / 1e9, rel=0.02, abs=1e-4)
    assert [event.mfu for event in events.of(StepDone)] == [one["mfu"] for one in result.history]
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["mfu"] == record["mfu"]


def test_the_rate_is_measured_once(monkeypatch) -> None:
    monkeypatch.setattr(runtime, "_SIDE", 64)
    monkeypatch.setattr(runtime, "_RATE_SECONDS", 0.0)
    runtime._gemm_rate.cache_clear()
    cpu = runtime.Runtime(torch.device("cpu"))
    rate = cpu.gemm_rate(torch.float32)
    assert rate > 1e6 and cpu.gemm_rate(torch.float32) == rate
    runtime._gemm_rate.cache_clear()
