"""Private training: rows' own gradients, how they are bounded, what is added, who is drawn; and going on exactly."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from worlds import CASES, Case

from onetrunk.core.batch import Batch
from onetrunk.core.documents import Documents, alike
from onetrunk.core.errors import ModelFileError, UsageError
from onetrunk.core.events import Event, StepDone
from onetrunk.core.kernels import kernels
from onetrunk.core.objective import ObjectiveConfig, RoleAssignment
from onetrunk.core.registry import column_types, objectives
from onetrunk.core.secret import Secret
from onetrunk.data.pack import assemble
from onetrunk.data.poisson import PoissonLoader
from onetrunk.engine.losses import Weights
from onetrunk.engine.per_row import RowGradients, row_norms
from onetrunk.engine.private import Privacy, PrivateStep
from onetrunk.engine.progress import Progress
from onetrunk.engine.runtime import Runtime
from onetrunk.engine.step import StepSettings, Updates
from onetrunk.engine.trainer import TrainConfig, Trainer
from onetrunk.nn.lora import LoRAConfig, add
from onetrunk.objectives import Learner

KEY = bytes(32)
SMALL = {"kind": "transformer", "width": 16, "layers": 1, "heads": 2}
ROWS = {"x": [1.0, 2.5, -3.0, 4.0, 0.5, 7.0, -2.0, 3.0], "y": list("abcabcab")}
OF_TYPES = {case.type: case for case in reversed(CASES.values())} | {
    name: CASES[name] for name in ("image in colour, with a stem", "items with fields")
}


def learning(made: Any, store: Any, kind: str = "predict", given: Sequence[str] = (), ask: Sequence[str] = ()) -> Any:
    config = ObjectiveConfig(kind=kind, documents=4, given=list(given) or None, ask=list(ask) or None)
    objective = objectives.get(kind)(kind, config, store.names, store.encoders)
    return objective, Learner(made.network, [objective]).train()


def rows_of(objective: Any, store: Any, rows: np.ndarray) -> list[Batch]:
    """Each row by itself."""
    assigned = objective.assign_roles(rows, store.present[rows], worlds.keys(len(rows)))
    each = [RoleAssignment(assigned.rows[[i]], assigned.roles[[i]], assigned.keys[[i]]) for i in range(len(rows))]
    return [assemble({objective.tag: one}, store) for one in each]


def one_by_one(learner: Learner, batches: Sequence[Batch]) -> list[dict[str, torch.Tensor]]:
    """By PyTorch's own backward pass, a row at a time."""
    out = []
    for batch in batches:
        learner.zero_grad()
        losses = [loss.sum / loss.count for loss in learner(batch).values() if loss.count > 0]
        if losses:
            torch.stack(losses).sum().backward()
        out.append({name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None})
    learner.zero_grad()
    return out


def assert_made_together_as_alone(objective: Any, store: Any, rows: np.ndarray) -> None:
    """A batch of several rows that is taken apart is that of each."""
    assigned = objective.assign_roles(rows, store.present[rows], worlds.keys(len(rows)))
    each = [RoleAssignment(assigned.rows[[i]], assigned.roles[[i]], assigned.keys[[i]]) for i in range(len(rows))]
    singles = [assemble({objective.tag: one}, store, apart=True) for one in each]
    split = Documents.split(assemble({objective.tag: assigned}, store, apart=True), singles[0], singles[-1])
    if len(alike(singles)) == 1:  # of some types no two rows have one shape
        alone = Documents.of(singles)
        assert split is not None and split.counts == pytest.approx(alone.counts) and split.tokens == alone.tokens
        for name, tensor in {**alone.own, **alone.shared}.items():
            found = split.own.get(name, split.shared.get(name))
            torch.testing.assert_close(torch.broadcast_to(found, tensor.shape), tensor, equal_nan=True)
        assert split.own.keys() == alone.own.keys() and split.row.tolist() == alone.row.tolist()


def assert_rows_have_their_own_gradients(learner: Learner, batches: Sequence[Batch], together: bool = True) -> None:
    parameters = {name: p for name, p in learner.named_parameters() if p.requires_grad}
    gradients = RowGradients(learner, parameters, lambda name: 1.0)
    with kernels("plain"):
        for group in alike(batches):
            found = [each for each, _ in gradients(Documents.of(group))]
            joined = {name: torch.cat([each[name] for each in found]) for name in parameters}
            for i, expected in enumerate(one_by_one(learner, group)):
                size = max((float(g.abs().max()) for g in expected.values()), default=0.0)
                for name, gradient in joined.items():
                    wanted = expected.get(name, torch.zeros_like(gradient[i]))
                    torch.testing.assert_close(gradient[i], wanted, atol=2e-5 * size + 1e-7, rtol=1e-3)
    assert not together or not gradients.apart, "rows of one shape go together"


# -- each row's own gradient -------------------------------------------------------------------------------------------
def test_every_registered_type_is_among_them() -> None:
    assert {case.type for case in OF_TYPES.values()} == set(column_types.names())


@pytest.mark.parametrize("case", OF_TYPES.values(), ids=OF_TYPES.keys())
def test_gradients_of_rows_together_are_those_of_each_alone(case: Case) -> None:
    """Of every column type, given, asked and masked."""
    table = {"x": case.values[:3], "c": ["a", "b", "a"]}
    types = {"x": case.type, "c": "category"}
    if case.on is not None:
        table, types = {"image": case.on[1][:3], **table}, {"image": case.on[0], **types}
    made = worlds.model(table, types, options={"x": case.options}, trunk=SMALL)
    store = worlds.store_of(made, table)
    others = [name for name in types if name != "x"]
    batches: list[Batch] = []
    for kind, given, ask in (("predict", others, ["x"]), ("predict", ["x"], ["c"]), ("masked", [], [])):
        objective, learner = learning(made, store, kind, given, ask)
        able = np.flatnonzero(store.present.all(1))
        batches = rows_of(objective, store, able)
        # Sampled negatives are as many as differ from what is true, so that each row has another shape.
        assert_rows_have_their_own_gradients(learner, batches, together=case.type != "items")
        assert_made_together_as_alone(objective, store, able)


def test_so_are_those_of_low_rank_changes() -> None:
    made = worlds.model(ROWS, {"x": "number", "y": "category"}, trunk=SMALL)
    store = worlds.store_of(made, ROWS)
    for parameter in made.network.parameters():
        parameter.requires_grad_(False)
    add(made.network.trunk, LoRAConfig(rank=2))
    worlds.wake(made.network)
    objective, learner = learning(made, store, given=["x"], ask=["y"])
    assert sum(p.requires_grad for p in learner.parameters()) == 14  # two for each of a block's seven maps
    assert_rows_have_their_own_gradients(learner, rows_of(objective, store, np.arange(4)))


# -- a step ----------------------------------------------------------------------------------------------------------
def made_step(noise: float, clip: float, rows: float = 4.0, lr: float = 0.1) -> tuple[PrivateStep, Any, Any]:
    made = worlds.model(ROWS, {"x": "number", "y": "category"}, trunk=SMALL)
    store = worlds.store_of(made, ROWS)
    objective, learner = learning(made, store, given=["x"], ask=["y"])
    privacy = Privacy(1e-5, clip, noise, 0.5, rows, 4)
    config = StepSettings(optimizer="sgd", lr=lr)
    step = PrivateStep(
        learner, config, Updates(), Runtime.of(learner), 0, Weights({}, False), privacy=privacy, secret=Secret(KEY)
    )
    return step, objective, store


def gradient_of(step: PrivateStep, batches: Sequence[Batch]) -> torch.Tensor:
    """What a step leaves in the parameters, all in one."""
    step(0, [Documents.of(group) for group in alike(batches)], 0.0, nullcontext)
    return torch.cat([p.grad.flatten() for p in step.module.parameters()])


def change(batch: Batch, by: float) -> None:
    """Multiplies what is given of x."""
    content = batch.embeds["x"].content
    content |= {name: tensor * by for name, tensor in content.items() if tensor.is_floating_point()}


def test_without_noise_and_bound_it_is_the_mean_gradient() -> None:
    step, objective, store = made_step(noise=0.0, clip=1e6)
    batches = rows_of(objective, store, np.arange(4))
    mean = [
        sum(row.get(name, torch.zeros_like(p)) for row in one_by_one(step.module, batches)) / 4
        for name, p in step.module.named_parameters()
    ]
    torch.testing.assert_close(gradient_of(step, batches), torch.cat([m.flatten() for m in mean]), atol=1e-6, rtol=1e-4)


def test_a_row_more_changes_the_sum_by_the_bound_at_most_whatever_it_says() -> None:
    step, objective, store = made_step(noise=0.0, clip=0.05)
    batches = rows_of(objective, store, np.arange(5))
    with_it, without = gradient_of(step, batches), gradient_of(step, batches[:4])
    assert 4 * float((with_it - without).norm()) == pytest.approx(0.05, rel=1e-3), "its own norm is above the bound"
    wild = rows_of(objective, store, np.arange(5))
    change(wild[4], 1e30)
    assert 4 * float((gradient_of(step, wild) - without).norm()) <= 0.05 * 1.001
    broken = rows_of(objective, store, np.arange(5))
    change(broken[4], torch.nan)
    torch.testing.assert_close(gradient_of(step, broken), without)  # no stop, which would tell of the row


def test_no_row_at_all_is_a_step_of_noise() -> None:
    step, _, _ = made_step(noise=2.0, clip=0.5)
    noise = gradient_of(step, []) * 4
    assert float(noise.std()) == pytest.approx(1.0, rel=0.05) and abs(float(noise.mean())) < 0.05
    assert len(noise.unique()) > 0.99 * len(noise)
    result = step(1, [], 0.0, nullcontext)
    other = torch.cat([p.grad.flatten() for p in step.module.parameters()]) * 4
    assert abs(float((noise * other).mean())) < 0.05, "each step has its own"
    assert (result.loss, result.figures["rows"]) == (0.0, 0.0) and result.figures["epsilon"] > 0
    step.secret.key = bytes(31) + b"\1"
    assert not torch.equal(gradient_of(step, []) * 4, noise), "the secret says which"


def test_noise_is_beside_what_rows_give() -> None:
    quiet, objective, store = made_step(noise=0.0, clip=0.5)
    loud, _, _ = made_step(noise=2.0, clip=0.5)
    loud.module.load_state_dict(quiet.module.state_dict())
    batches = rows_of(objective, store, np.arange(4))
    given, noise = gradient_of(quiet, batches), gradient_of(loud, [])
    torch.testing.assert_close(gradient_of(loud, batches), given + noise, atol=1e-6, rtol=1e-4)


# -- who is drawn ----------------------------------------------------------------------------------------------------
def drawing(documents: int = 2, secret: Secret | None = None) -> tuple[Any, PoissonLoader]:
    torch.manual_seed(0)
    made = worlds.model(ROWS, {"x": "number", "y": "category"}, trunk=SMALL)
    store = worlds.store_of(made, ROWS)
    configs = [ObjectiveConfig(kind=kind, documents=documents) for kind in ("predict", "masked")]
    several = [objectives.get(c.kind)(c.kind, c, store.names, store.encoders) for c in configs]
    learner = Learner(made.network, several)
    return learner, PoissonLoader(store, several, seed=3, tokens_per_batch=64, secret=secret or Secret(KEY))


def test_every_row_is_drawn_with_one_probability_whoever_else_is() -> None:
    _, loader = drawing()
    assert loader.rate == 4 / 8
    drawn = np.zeros((2000, 8), dtype=bool)
    for step in range(2000):
        drawn[step, loader.drawn(step)] = True
    assert np.abs(drawn.mean(0) - 0.5).max() < 0.05
    assert np.abs(np.corrcoef(drawn.T) - np.eye(8)).max() < 0.1
    counts = drawn.sum(1)
    assert counts.min() == 0 and counts.max() == 8 and counts.var() == pytest.approx(2.0, abs=0.25)  # binomial
    other = drawing(secret=Secret())[1]
    assert any(not np.array_equal(other.drawn(step), loader.drawn(step)) for step in range(9)), "not by the seed"


def test_a_drawn_row_is_one_document_of_one_objective() -> None:
    _, loader = drawing()
    tags: list[str] = []
    for step in range(20):
        batches = loader(step)
        assert sorted(np.concatenate([b.row for b in batches] or [[]]).tolist()) == loader.drawn(step).tolist()
        tags += [tag for batch in batches for tag in batch.like.docs for _ in range(len(batch))]
    assert 0.3 < np.mean([tag == "predict" for tag in tags]) < 0.7


# -- going on --------------------------------------------------------------------------------------------------------
def run(folder: Path, steps: int, stop: int | None = None, secret: Secret | None = None) -> dict[str, Any]:
    """Trains to the end, or as far as a signal after so many steps."""
    learner, loader = drawing(secret=secret)
    privacy = Privacy(1e-3, 1.0, 2.0, loader.rate, 4.0, steps)
    config = TrainConfig(
        steps=steps, save_every=1, ema=0.5, tensorboard=False, optimizer="adamw", precision="fp32", compile=False
    )

    def hear(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == stop:
            signal.raise_signal(signal.SIGTERM)

    trainer = Trainer(
        learner, loader, config, folder,
        step_kind=partial(PrivateStep, privacy=privacy, secret=loader.secret), progress=Progress("training", hear),
    )  # fmt: skip
    result = trainer.run()
    assert result.step == (stop or steps)
    return {"weights": learner.state_dict(), "result": result}


def test_a_run_that_goes_on_draws_the_same_rows_and_the_same_noise(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 5, secret=Secret(KEY))
    run(tmp_path / "parts", 5, stop=2, secret=Secret(KEY))
    parts = run(tmp_path / "parts", 5, secret=Secret())  # a new process has a secret of its own, until it has read it
    assert all(torch.equal(whole["weights"][name], parts["weights"][name]) for name in whole["weights"])
    facts = parts["result"].facts["private"]
    assert facts["spent"] == [[2.0, 0.5, 5]] and facts["steps"] == 5
    records = parts["result"].history
    spent = [record["epsilon"] for record in records]
    assert spent == sorted(spent) and spent[-1] == pytest.approx(facts["epsilon"])
    step, _, _ = made_step(1.0, 1.0)
    for state in ({}, {"secret": KEY.hex(), "spent": [[9.0, 0.5, 2]]}):
        with pytest.raises(ModelFileError, match="it cannot be gone on from"):
            step.load_state(state)


def test_several_losses_that_are_weighed_by_rows_are_refused() -> None:
    step, _, _ = made_step(1.0, 1.0)
    for change in ({"merge": "pcgrad"}, {"balance": "learnt"}):
        config = StepSettings(optimizer="sgd", **change)
        with pytest.raises(UsageError, match=r"expected train\.merge=sum"):
            PrivateStep(
                step.module, config, Updates(), step.runtime, 0, Weights({}, False),
                privacy=step.privacy, secret=step.secret,
            )  # fmt: skip


def test_norms_are_of_the_whole_gradient() -> None:
    parts = {"a": torch.ones(2, 3, 2), "b": torch.full((2, 10), -1.0)}
    assert row_norms(parts).tolist() == [4.0, 4.0]
