"""No tensor is left behind: whatever a model does, it does on its device, and there are the CPU's numbers.

The device is that of tests/second_device.py, where an operation on tensors of two devices raises.
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from second_device import DEVICE, is_there, second_device
from torch import nn
from worlds import CASES, Case

from onetrunk.core.answer import Sampling
from onetrunk.core.registry import objectives
from onetrunk.data.loader import Loader
from onetrunk.data.split import Split
from onetrunk.data.table import Table
from onetrunk.engine.runtime import Runtime
from onetrunk.engine.trainer import TrainConfig, Trainer
from onetrunk.inference.answer_rows import pooled_states
from onetrunk.inference.likelihood import row_losses
from onetrunk.inference.model_folder import load
from onetrunk.nn import lora
from onetrunk.nn.lora import LoRAConfig
from onetrunk.training.batches import updates_of
from onetrunk.training.open_data import Data
from onetrunk.training.stage import extend_model

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
DEVICE_RUNTIME = Runtime(DEVICE)


def moved(module: nn.Module) -> nn.Module:
    """A copy on the second device, in its own mode."""
    return DEVICE_RUNTIME.place(copy.deepcopy(module))


def stays(module: nn.Module) -> bool:
    return all(map(is_there, module.state_dict().values()))


# -- the device itself -----------------------------------------------------------------------------------------------
def test_the_device_refuses_what_a_real_one_refuses() -> None:
    with second_device() as device:
        there, here = torch.arange(6.0, device=device), torch.arange(6.0)
        for mixed in (lambda: there + here, lambda: here[there.long()], lambda: there.gather(0, here.long())):
            with pytest.raises(RuntimeError, match=r"second device|same device"):
                mixed()
        for numpy in (there.numpy, lambda: np.asarray(there)):
            with pytest.raises((RuntimeError, TypeError)):
                numpy()
        assert (there * 2 + here[2]).cpu().tolist() == (here * 2 + 2).tolist() == (there * 2 + 2).tolist()
        assert there[here.long()].device == there[there > 2].device == device
        there[2:4] = 9.0
        assert there.tolist() == [0, 1, 9, 9, 4, 5] and there.sum().item() == 28


def test_the_device_differentiates_and_trains() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with second_device() as device:
        there = moved(plain)
        x = torch.randn(5, 4)
        for module, inputs in ((plain, x), (there, x.to(device))):
            optimizer = torch.optim.AdamW(module.parameters(), 0.1)
            for _ in range(3):
                module.zero_grad()
                module(inputs).square().sum().backward()
                optimizer.step()
        assert stays(there)
        for a, b in zip(plain.parameters(), there.parameters(), strict=True):
            assert torch.allclose(a, b.cpu())


# -- every type ------------------------------------------------------------------------------------------------------
def made_for(case: Case, **rest: Any) -> tuple[Any, dict[str, list[Any]], Any]:
    """A model of the case's column `y` beside a number, its table, and the table's store."""
    beside = {} if case.on is None else {case.on[0]: case.on[1][:8]}
    table = {"number": [1.5 * i for i in range(7)] + [None], **beside, "y": [*case.values[:7], None]}
    types = {"number": "number", **({} if case.on is None else {case.on[0]: case.on[0]}), "y": case.type}
    made = worlds.model(table, types, options={"y": case.options}, **rest)
    return made, table, worlds.store_of(made, table)


def losses_and_gradients(network: nn.Module, batch: Any) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    losses = network(batch)
    network.zero_grad()
    sum(loss.sum for loss in losses.values()).backward()
    gradients = {name: p.grad.cpu() for name, p in network.named_parameters() if p.grad is not None}
    return {name: float(loss.sum) for name, loss in losses.items()}, gradients


@every_case
def test_losses_and_gradients_are_the_cpus(case: Case) -> None:
    made, _, store = made_for(case)
    others = [name for name in made.columns if name != "y"]
    for given, asked, masked in ((others, ["y"], []), (["y"], ["number"], []), (others, [], ["y"])):
        learner = worlds.learner(made, worlds.objective(store, given=given, ask=[*asked, *masked]))
        batch = worlds.batch(store, range(8), given, asked, masked=masked, augment=True)
        with second_device():
            there = moved(learner)
            expected = losses_and_gradients(learner, batch)
            result = losses_and_gradients(there, batch.to(DEVICE))
            assert stays(there)
        assert result[0] == pytest.approx(expected[0], rel=1e-4, abs=1e-5)
        assert result[1].keys() == expected[1].keys()
        for name, gradient in result[1].items():
            torch.testing.assert_close(gradient, expected[1][name], rtol=2e-3, atol=2e-4, msg=name)


SAMPLINGS = {
    "likeliest": Sampling(max_length=6, steps=2),
    "drawn": Sampling(temperature=0.9, top_k=4, top_p=0.9, max_length=6, steps=2, seed=3),
    "guided": Sampling(temperature=0.9, guidance=2.0, max_length=6, steps=2, seed=3),
    "searched": Sampling(beams=2, max_length=6, steps=2),
}


@every_case
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_answers_are_the_cpus(case: Case, sampling: Sampling) -> None:
    made, table, _ = made_for(case)
    others = [name for name in made.columns if name != "y"]
    tasks = (("y", others), ("number", ["y"]), ("y", []))
    with second_device():
        there = copy.deepcopy(made)
        DEVICE_RUNTIME.place(there.network)
        for ask, given in tasks:
            for a, b in zip(*(m.answer(table, ask, given, sampling) for m in (made, there)), strict=True):
                same(a.value, b.value)
                if a.probability is not None:
                    assert a.probability == pytest.approx(b.probability, rel=1e-3, abs=1e-5)


def same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, float | int) and not isinstance(one, bool):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
    elif isinstance(one, np.ndarray):
        np.testing.assert_allclose(one.astype(float), other.astype(float), rtol=1e-3, atol=1.5)
    else:
        assert one == other or isinstance(one, bytes)


# -- what else is done with a model ----------------------------------------------------------------------------------
TABLE = {
    "note": ["red car", "blue car", "red bike", "blue bike", "a red train", "a blue train"] * 4,
    "label": ["red", "blue"] * 12,
    "price": [3.0 * i for i in range(24)],
}
TYPES = {"note": "text", "label": "category", "price": "number"}
TRUNKS = {
    "transformer": worlds.TRUNK,
    "gru": {"kind": "gru", "width": 16, "layers": 2},
    "lstm": {"kind": "lstm", "width": 16, "layers": 1},
}


@pytest.mark.parametrize("given", ["causal", "bidirectional"])
@pytest.mark.parametrize("trunk", TRUNKS.values(), ids=TRUNKS)
def test_every_trunk_reads_and_writes_there(trunk: dict[str, Any], given: str) -> None:
    made = worlds.model(TABLE, TYPES, trunk=trunk, given=given)
    store = worlds.store_of(made, TABLE)
    with second_device():
        there = copy.deepcopy(made)
        DEVICE_RUNTIME.place(there.network)
        for ask in TYPES:
            others = [name for name in TYPES if name != ask]
            for one, other in zip(
                row_losses(made.network, store, others, ask), row_losses(there.network, store, others, ask), strict=True
            ):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
            expected, result = (pooled_states(m.network, store, others) for m in (made, there))
            np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4)
            for a, b in zip(*(m.answer(TABLE, ask, others) for m in (made, there)), strict=True):
                same(a.value, b.value)


@pytest.mark.parametrize("kind", objectives.names())
def test_every_objective_trains_there(kind: str, tmp_path: Path) -> None:
    """Whole runs of the trainer: optimizers, averages, checkpoints and their resumption, to the CPU's weights."""
    made = worlds.model(TABLE, TYPES)
    store = worlds.store_of(made, TABLE)
    options = {"given": ["note"], "ask": ["price"]} if kind == "adversarial" else {}  # it draws numbers
    objective = worlds.objective(store, kind, documents=8, **options)
    learner = worlds.learner(made, objective)
    if kind == "distil":
        objective.learn_from(worlds.model(TABLE, TYPES).network)
    loader = Loader(store, [objective], seed=0, tokens_per_batch=256)
    with second_device():
        for optimizer in ("muon", "sgd"):
            here, there = copy.deepcopy(learner), moved(learner)
            config = TrainConfig(steps=4, optimizer=optimizer, save_every=2, tensorboard=False, precision="fp32")
            Trainer(here, loader, config, tmp_path / optimizer / "here", updates=updates_of(here)).run()
            run = Trainer(there, loader, config, tmp_path / optimizer / "there", updates=updates_of(there))
            assert len(run.dry_run(0.0)) == 3
            assert run.run().step == 4 and stays(there) and all(map(is_there, run.average.values()))
            for (name, a), b in zip(here.state_dict().items(), there.state_dict().values(), strict=True):
                torch.testing.assert_close(b.cpu(), a, rtol=2e-2, atol=2e-3, msg=name)
            last = tmp_path / optimizer / "there" / "checkpoints"
            shutil.rmtree(last / "step-4")
            fresh = moved(learner)
            again = Trainer(fresh, loader, config, tmp_path / optimizer / "there", updates=updates_of(fresh))
            again.run()
            for a, b in zip(there.state_dict().values(), again.module.state_dict().values(), strict=True):
                assert torch.equal(a.cpu(), b.cpu())


def test_what_a_model_learns_anew_is_there_too(tmp_path: Path) -> None:
    """New columns, new classes and words; a folder that was saved from there opens on the CPU."""
    made = worlds.model(TABLE, TYPES)
    with second_device():
        DEVICE_RUNTIME.place(made.network)
        more = {"note": ["zebra zebra"] * 24, "label": ["green", "red"] * 12, "price": TABLE["price"],
                "size": ["S", "L"] * 12}  # fmt: skip
        rows = Table({name: list(values) for name, values in more.items()})
        split = Split(np.arange(24), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), "all")
        data = Data(rows, {**TYPES, "size": "category"}, {}, list(TYPES), ["size"], {}, split)
        extend_model(made, data, 0)
        assert stays(made.network) and "size" in made.columns
        answers = made.answer(more, "size", list(TYPES))
        made.save(tmp_path / "m")
    again = load(tmp_path / "m", device="cpu").answer(more, "size", list(TYPES))
    for a, b in zip(answers, again, strict=True):
        assert a.value == b.value and a.probability == pytest.approx(b.probability, rel=1e-3)


def test_changes_of_low_rank_are_there(tmp_path: Path) -> None:
    made = worlds.model(TABLE, TYPES)
    store = worlds.store_of(made, TABLE)
    with second_device():
        DEVICE_RUNTIME.place(made.network)
        lora.add(made.network.trunk, LoRAConfig(rank=2))
        assert stays(made.network)
        learner = worlds.learner(made, worlds.objective(store, given=["note"], ask=["label"]))
        (loss,) = learner(worlds.batch(store, range(4), ["note"], ["label"]).to(DEVICE)).values()
        loss.sum.backward()
        lora.merge(made.network.trunk, lora.take(made.network.trunk), LoRAConfig(rank=2).scale)
        assert stays(made.network)
