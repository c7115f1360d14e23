"""A generator and its critic: what is drawn passes a two-sample test that noise fails; two updates a step, resumed
exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worlds

from onetrunk.core.errors import UsageError
from onetrunk.core.objective import Objective
from onetrunk.data.loader import Loader
from onetrunk.engine.trainer import TrainConfig, Trainer
from onetrunk.inference.model_folder import Model
from onetrunk.objectives import Learner
from onetrunk.training.batches import updates_of

N = 200  # points of each side of a test
CONFIG = TrainConfig(
    steps=300, optimizer="adam", lr=2e-3, betas=(0.0, 0.99), weight_decay=0, ema=0.98, precision="fp32",
    compile=False, tensorboard=False,
)  # fmt: skip


def moons(n: int, seed: int) -> np.ndarray:
    """Two half circles, one in the other's hollow, a little blurred: [n, 2]."""
    dice = np.random.default_rng(seed)
    t, upper = np.pi * dice.random(n), dice.random(n) < 0.5
    x = np.where(upper, np.cos(t), 1 - np.cos(t))
    y = np.where(upper, np.sin(t), 0.5 - np.sin(t))
    return np.stack([x, y], 1) + 0.08 * dice.normal(size=(n, 2))


def world(n: int = 2000) -> tuple[Model, Any, Objective]:
    points = moons(n, 0)
    table = {"x": points[:, 0].tolist(), "y": points[:, 1].tolist()}
    torch.manual_seed(0)
    made = worlds.model(table, {"x": "number", "y": "number"}, awake=False)
    store = worlds.store_of(made, table)
    return made, store, worlds.objective(store, "adversarial", documents=128)


def trainer(place: Path, config: TrainConfig = CONFIG) -> tuple[Trainer, Model, Any, Objective]:
    made, store, objective = world()
    learner = Learner(made.network, [objective], seed=0)
    batches = Loader(store, [objective], seed=0, tokens_per_batch=100_000)
    return Trainer(learner, batches, config, place, updates=updates_of(learner)), made, store, objective


def drawn(made: Model, store: Any, objective: Any, seed: int) -> np.ndarray:
    batch = worlds.batch(store, range(N), [], ["x", "y"])
    batch.reads, batch.docs = ({objective.tag: x["predict"]} for x in (batch.reads, batch.docs))
    result = objective.generate(made.network, batch, seed)
    return np.stack([result["x"], result["y"]], axis=1)


def probability(a: np.ndarray, b: np.ndarray, permutations: int = 200) -> float:
    """That two samples of one distribution are at least as far apart: a permutation test of their maximum mean
    discrepancy (Gretton et al. 2012), of a wide and a narrow kernel."""
    both = np.concatenate([a, b])
    distance = ((both[:, None] - both[None]) ** 2).sum(-1)
    kernel = np.exp(-distance / np.median(distance)) + np.exp(-10 * distance / np.median(distance))

    def gap(side: np.ndarray) -> float:
        sign = np.where(side, 1 / len(a), -1 / len(b))
        return sign @ kernel @ sign

    side, dice = np.arange(len(both)) < len(a), np.random.default_rng(0)
    least = gap(side)
    return float(np.mean([gap(dice.permutation(side)) >= least for _ in range(permutations)]))


def test_two_moons_are_drawn_as_no_noise_could_be(tmp_path: Path) -> None:
    run, made, store, objective = trainer(tmp_path)
    assert run.run().step == CONFIG.steps
    true = moons(2 * N, 100)
    assert probability(true[:N], true[N:]) > 0.05, "the test lets true points pass"
    samples = [drawn(made, store, objective, seed) for seed in (1, 2)]
    assert np.array_equal(samples[0], drawn(made, store, objective, 1)) and not np.array_equal(*samples)
    assert max(probability(sample, true[:N]) for sample in samples) > 0.05
    assert min(probability(sample, true[:N]) for sample in samples) > 0.01
    dice = np.random.default_rng(5)
    noise = dice.multivariate_normal(true.mean(0), np.cov(true.T), N)
    apart = np.stack([dice.permutation(true[:N, 0]), true[:N, 1]], axis=1)
    assert probability(noise, true[N:]) < 0.01 and probability(apart, true[N:]) < 0.01


def test_each_side_learns_from_its_own_loss_alone() -> None:
    made, store, objective = world(200)
    learner = Learner(made.network, [objective], seed=0).train()
    (batch,) = Loader(store, [objective], seed=0, tokens_per_batch=100_000)(0)
    (group,) = learner.groups()
    assert batch.counts.keys() >= {"adversarial/critic", "adversarial/generator"}
    assert set(group.parameters) == set(objective.critic.parameters())
    for name, reached in (("adversarial/critic", True), ("adversarial/generator", False)):
        learner.zero_grad(set_to_none=True)
        losses = learner(batch, wanted=[name])
        assert losses.keys() == {name} and float(losses[name].count) == batch.counts[name]
        losses[name].sum.backward()
        model = [p.grad is not None and bool(p.grad.any()) for p in objective.noise.parameters()]
        assert all(model) != reached, "the critic's loss leaves the model alone"


def test_a_run_goes_on_exactly_with_the_critics_optimizer(tmp_path: Path) -> None:
    config = CONFIG.updated(steps=6, save_every=3)
    straight, *_ = trainer(tmp_path / "straight", config)
    history = straight.run().history
    assert all(record["losses"].keys() == {"adversarial/critic", "adversarial/generator"} for record in history)
    first, *_ = trainer(tmp_path / "resumed", config)
    batches = first.batches

    def stop(step: int) -> Any:
        if step == 4:
            raise KeyboardInterrupt
        return batches(step)

    first.batches = stop
    with pytest.raises(KeyboardInterrupt):
        first.run()
    resumed, *_ = trainer(tmp_path / "resumed", config)
    assert [record["losses"] for record in resumed.run().history] == [record["losses"] for record in history]
    for (name, a), b in zip(straight.module.state_dict().items(), resumed.module.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    state = straight.make_step.tensors()
    assert any(name.startswith("objectives.0.critic") for name in state)


def test_a_column_without_a_number_is_refused() -> None:
    table = {"kind": ["a", "b"] * 4}
    made = worlds.model(table, {"kind": "category"})
    objective = worlds.objective(worlds.store_of(made, table), "adversarial")
    with pytest.raises(UsageError, match="draws numbers and dates; the column 'kind' has other values"):
        worlds.learner(made, objective)


def test_nothing_else_knows_of_it() -> None:
    """A critic, its optimizer and its turns are one file's."""
    source = Path(__file__).parents[2] / "src" / "onetrunk"
    naming = {p.relative_to(source).as_posix() for p in source.rglob("*.py") if "adversarial" in p.read_text().lower()}
    assert naming == {"objectives/adversarial.py"}
