"""What is counted on shapes alone is what a real step takes."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import worlds
from torch import nn
from worlds import CASES

from onetrunk.core.batch import Loss
from onetrunk.data.loader import Loader
from onetrunk.engine.counting import Counts, count, fake
from onetrunk.engine.mode import Mode
from onetrunk.engine.optim import Muon, OptimConfig
from onetrunk.model import FoundationModel
from onetrunk.objectives import Learner
from onetrunk.training.batches import updates_of

FP32, BF16 = (Mode(bf16, bf16, False, "") for bf16 in (False, True))


class Two(nn.Module):
    """Two maps: 8 to 16 to 4, and the sum of squares."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16, bias=False), nn.Linear(16, 4, bias=False)

    def forward(self, x: torch.Tensor) -> dict[str, Loss]:
        return {"sum": Loss(self.second(self.first(x)).square().sum(), torch.ones(()))}


@pytest.mark.parametrize(("optimizer", "copies"), [("adamw", 2), ("momentum", 1), ("sgd", 0), ("adagrad", 1)])
def test_a_step_by_hand(optimizer: str, copies: int) -> None:
    with fake():
        module = Two()
    weights = 4 * (8 * 16 + 16 * 4)
    counts = count(module, torch.ones(10, 8), OptimConfig(optimizer=optimizer), FP32)
    steps = 0 if copies == 0 or optimizer == "momentum" else 2 * 4  # how often each matrix was updated
    assert (counts.parameters, counts.weights, counts.gradients) == (weights / 4, weights, weights)
    assert counts.optimizer == copies * weights + steps
    hidden, out = 4 * 10 * 16, 4 * 10 * 4
    assert counts.activations == hidden + out + 3 * 4  # what the second map saw, what was squared; loss, count, total
    assert counts.update_operations == 0


def network(layers: int, shapes_only: bool, **options: object):
    table, types = {"text": ["to be or not to be", "that is the question"] * 6}, {"text": "text"}
    with fake() if shapes_only else nullcontext():
        made = worlds.model(table, types, trunk={**worlds.TRUNK, "layers": layers, **options}, awake=False)
    store = worlds.store_of(made, table)
    learner = worlds.learner(made, worlds.objective(store, documents=8, given=[], ask=["text"]))
    return learner, Loader(store, list(learner.objectives), seed=0, tokens_per_batch=4096)(0)[0]


def counts(layers: int, shapes_only: bool, mode: Mode) -> Counts:
    learner, batch = network(layers, shapes_only)
    return count(learner, batch, OptimConfig(), mode, updates_of(learner))


@pytest.mark.parametrize("mode", [FP32, BF16], ids=["fp32", "bf16"])
def test_shapes_alone_take_what_numbers_take(mode: Mode) -> None:
    counted = [counts(2, shapes_only, mode) for shapes_only in (True, False)]
    assert counted[0] == counted[1]
    real, _ = network(2, False)
    assert counted[0].parameters == sum(p.numel() for p in real.parameters())


def test_muon_keeps_one_number_for_each_of_its_own_and_adamw_two() -> None:
    made, batch = network(2, False)
    counts = count(made, batch, OptimConfig(), FP32, updates_of(made))
    matrices = sum(p.numel() for p in made.model.trunk.layers.parameters() if p.ndim == 2)
    learnt = int(counts.gradients / 4)
    optimizer = updates_of(made).optimizer(dict(made.named_parameters()), made, OptimConfig(), False)
    for parameter in made.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(1.0)
    counters = sum(4 for name in optimizer.tensors() if name.endswith(".step"))
    assert counts.optimizer <= 4 * (matrices + 2 * (counts.parameters - matrices)) + counters
    assert counts.optimizer >= 4 * (matrices + 2 * (learnt - matrices))
    # Five Newton-Schulz steps of three products for each matrix, on its shorter side (PyTorch's count of 2 each).
    sides = [sorted(p.shape) for p in made.model.trunk.layers.parameters() if p.ndim == 2]
    assert counts.update_operations == sum(5 * (2 * 2 * r * r * c + 2 * r**3) for r, c in sides)


def test_what_a_step_takes_is_a_line_in_the_blocks() -> None:
    one, three, six = (counts(layers, True, FP32) for layers in (1, 3, 6))
    line = one.line(three, 2.5)
    for name in Counts.__dataclass_fields__:
        exact = name not in ("passes", "update")  # these are the most of several lines
        assert getattr(line, name) == pytest.approx(getattr(six, name), rel=1e-9 if exact else 0.1), name


@pytest.mark.parametrize("case", ["boxes", "audio", "items with fields", "image in colour, with a stem"])
def test_a_type_whose_loss_looks_at_its_targets_can_be_counted(case: str) -> None:
    expected = CASES[case]
    table, types, options = {"x": expected.values}, {"x": expected.type}, {"x": expected.options}
    if expected.on is not None:
        other = worlds.fitted(expected).on
        table, types = {other: expected.on[1], **table}, {other: expected.on[0], **types}
    made = worlds.model(table, types, options=options, awake=False)  # fits the encoders
    store = worlds.store_of(made, table)
    columns, encoders = list(made.columns.values()), made.network.encoders
    with fake():
        network = FoundationModel(worlds.TRUNK, columns, encoders, "bidirectional")
    objective = worlds.objective(store, documents=4, ask=["x"])
    batch = Loader(store, [objective], seed=0, tokens_per_batch=10**6)(0)[0]
    counts = count(Learner(network, [objective]), batch, OptimConfig(), FP32)
    assert counts.activations > 0 and counts.passes >= counts.activations + counts.loss


@pytest.mark.parametrize("name", ["image", "video"])
def test_convolutions_of_a_stem_are_muons_as_the_trunks_matrices_are(name: str) -> None:
    case = CASES[name]
    made = worlds.model({"x": case.values}, {"x": case.type}, options={"x": {**case.options, "stem": 8, "patch": 4}})
    learner = worlds.learner(made, worlds.objective(worlds.store_of(made, {"x": case.values}), given=[], ask=["x"]))
    updates = updates_of(learner)
    optimizer = updates.optimizer(dict(learner.named_parameters()), learner, OptimConfig(), False)
    orthogonal = {optimizer.names[p] for group in optimizer.optimizers[0].param_groups for p in group["params"]}
    stem = {n for n, p in learner.named_parameters() if "stem.blocks" in n and "conv" in n and p.ndim == 4}
    assert isinstance(optimizer.optimizers[0], Muon) and stem and stem <= orthogonal
    assert {n for n in orthogonal if "stem" not in n} == {
        n for n, p in learner.named_parameters() if ".layers." in n and p.ndim == 2
    }
