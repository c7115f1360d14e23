"""Each optimizer against PyTorch's own, bit for bit; Muon against a loop, and against the SVD."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from onetrunk.core.errors import UsageError
from onetrunk.engine.eight_bits import pack, unpack
from onetrunk.engine.optim import Muon, OptimConfig, Optimizer, build_optimizer, orthogonalise
from onetrunk.engine.step import Updates


def model() -> nn.Sequential:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 7), nn.Linear(7, 2))
    return module


def built(module: nn.Sequential, config: OptimConfig) -> Optimizer:
    """Of all parameters; the two hidden matrices in the middle may be Muon's."""
    return Updates([module[2], module[4]]).optimizer(dict(module.named_parameters()), module, config, False)


def descend(module: nn.Module, optimizer, steps: int = 5, factor: float | None = None) -> None:
    torch.manual_seed(1)
    for _ in range(steps):
        module.zero_grad()
        module(torch.randn(9, 5)).square().sum().backward()
        optimizer.step() if factor is None else optimizer.step(factor)


def bits_equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


REFERENCES = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.01),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.9),
    "adagrad": lambda groups: torch.optim.Adagrad(groups, lr=0.01),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.01, betas=(0.9, 0.95), fused=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), fused=True),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_each_is_exactly_pytorchs(name: str) -> None:
    ours, theirs = model(), model()
    config = OptimConfig(optimizer=name, lr=0.02, weight_decay=0.1)
    descend(ours, built(ours, config), factor=0.5)
    matrices = [p for p in theirs.parameters() if p.ndim == 2]
    vectors = [p for p in theirs.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    descend(theirs, REFERENCES[name](groups))
    assert bits_equal(ours, theirs)
    assert not bits_equal(ours, model())


def test_vectors_do_not_decay() -> None:
    ours = model()
    optimizer = built(ours, OptimConfig(optimizer="adamw", lr=0.1, weight_decay=0.5))
    before = copy.deepcopy(ours)
    for parameter in ours.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(1.0)
    assert torch.equal(ours[0].bias, before[0].bias)
    assert torch.allclose(ours[2].weight, before[2].weight * (1 - 0.1 * 0.5))


@pytest.mark.parametrize("copied", [False, True])
def test_muon_takes_the_hidden_matrices_and_adamw_the_rest(copied: bool) -> None:
    module = copy.deepcopy(model()) if copied else model()
    optimizer = built(module, OptimConfig(optimizer="muon", lr=0.1, muon_lr=0.2))
    descend(module, optimizer, 1, factor=1.0)
    kinds = {name.rpartition(".")[0]: set() for name in optimizer.tensors()}
    for name in optimizer.tensors():
        kinds[name.rpartition(".")[0]].add(name.rpartition(".")[2])
    momentum, adam = {"momentum_buffer"}, {"step", "exp_avg", "exp_avg_sq"}
    assert {n: kinds[n] for n, _ in module.named_parameters()} == {
        n: momentum if n in ("2.weight", "4.weight") else adam for n, _ in module.named_parameters()
    }


@pytest.mark.parametrize("bf16", [False, True])
def test_batched_muon_has_the_bits_of_a_loop(bf16: bool) -> None:
    """One matrix at a time, written out from Jordan's description, against ours on several of one shape."""
    torch.manual_seed(0)
    shapes = [(6, 4), (6, 4), (4, 6), (6, 4), (5, 5), (6, 2, 3, 3), (6, 2, 3, 3)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [p.detach().clone() for p in ours]
    buffers = [torch.zeros(shape) for shape in shapes]
    optimizer = Muon([{"params": ours, "weight_decay": 0.1}], lr=0.03, bf16=bf16)
    for _ in range(4):
        grads = [torch.randn(shape) for shape in shapes]
        for parameter, grad in zip(ours, grads, strict=True):
            parameter.grad = grad
        optimizer.step()
        for i, grad in enumerate(grads):
            buffers[i].lerp_(grad, 0.05)
            update = orthogonalise(grad.lerp(buffers[i], 0.95).flatten(1)[None], bf16)[0].float()
            scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
            theirs[i].mul_(1 - 0.03 * 0.1).add_(update.view(shapes[i]), alpha=-0.03 * scale)
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("shape", [(32, 32), (48, 16), (16, 48)])
def test_newton_schulz_comes_near_the_svd(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    g = torch.randn(3, *shape)
    u, s, vh = torch.linalg.svd(g, full_matrices=False)
    ours = orthogonalise(g)
    values = torch.linalg.svdvals(ours)
    large = s > 0.02 * s[:, :1]  # the smallest need more than five steps
    assert values.max() < 1.3 and values[large].min() > 0.5
    cosine = (ours * (u @ vh)).sum((1, 2)) / (ours.norm(dim=(1, 2)) * (u @ vh).norm(dim=(1, 2)))
    assert cosine.min() > 0.97
    in_bf16 = orthogonalise(g, bf16=True)
    assert in_bf16.dtype == torch.bfloat16
    assert (in_bf16.float() - ours).norm() / ours.norm() < 0.05


def test_a_matrix_of_zeros_stays_finite() -> None:
    assert torch.equal(orthogonalise(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))


@pytest.mark.parametrize("name", ["sgd", "momentum", "adagrad", "adam", "adamw", "muon"])
def test_state_goes_out_and_comes_back(name: str) -> None:
    config = OptimConfig(optimizer=name, lr=0.01)
    straight, first = model(), model()
    descend(straight, built(straight, config), 5, factor=1.0)
    optimizer = built(first, config)
    descend(first, optimizer, 5, factor=1.0)
    second = copy.deepcopy(first)
    again = built(second, config)
    again.load_tensors({name: tensor.clone() for name, tensor in optimizer.tensors().items()})
    assert again.tensors().keys() == optimizer.tensors().keys()
    forgetful = copy.deepcopy(first)
    descend(first, optimizer, 3, factor=1.0)
    descend(second, again, 3, factor=1.0)
    descend(forgetful, built(forgetful, config), 3, factor=1.0)
    assert bits_equal(first, second)
    assert bits_equal(first, forgetful) == (name == "sgd")  # the control: only plain descent has no state


def test_a_frozen_model_is_refused() -> None:
    module = model().requires_grad_(False)
    with pytest.raises(UsageError, match="every parameter of the model is frozen"):
        built(module, OptimConfig())


def test_a_parameter_without_gradient_is_left_alone() -> None:
    """A frozen or unused part neither decays nor drifts."""
    module = model()
    optimizer = built(module, OptimConfig(weight_decay=0.5))
    module[4].weight.requires_grad_(False)
    before = module[4].weight.detach().clone()
    descend(module, optimizer, 2, factor=1.0)
    assert torch.equal(module[4].weight, before)


# -- state in 8 bits -------------------------------------------------------------------------------------------------
def wide() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 256),
                         nn.Linear(256, 2))  # fmt: skip


def eight(name: str, **more: Any) -> OptimConfig:
    return OptimConfig(optimizer=name, lr=0.002, muon_lr=0.01, optimizer_bits=8, **more)


@pytest.mark.parametrize("name", ["momentum", "adagrad", "adam", "adamw"])
def test_state_in_8_bits_leads_where_32_lead(name: str) -> None:
    small, whole, start = wide(), wide(), wide()
    optimizer = built(small, eight(name))
    descend(small, optimizer, steps=12, factor=1.0)
    full = built(whole, eight(name).model_copy(update={"optimizer_bits": 32}))
    descend(whole, full, steps=12, factor=1.0)
    way = torch.cat([(a - b).flatten() for a, b in zip(whole.parameters(), start.parameters(), strict=True)])
    off = torch.cat([(a - b).flatten() for a, b in zip(whole.parameters(), small.parameters(), strict=True)])
    assert 0 < off.norm() < 0.1 * way.norm()
    held, before = (sum(t.nbytes for t in each.tensors().values()) for each in (optimizer, full))
    assert held < 0.3 * before


def test_muons_state_keeps_32_bits() -> None:
    optimizer = built(module := wide(), eight("muon"))
    descend(module, optimizer, steps=1, factor=1.0)
    bits = {name: tensor.dtype for name, tensor in optimizer.tensors().items()}
    assert bits["2.weight.momentum_buffer"] == torch.float32 and bits["5.weight.exp_avg"] == torch.uint8


def test_adamw_in_8_bits_is_the_librarys() -> None:
    """On matrices whose rows its blocks of 256 fill."""
    import bitsandbytes

    weights = [nn.Parameter(torch.randn(64, 256, generator=torch.Generator().manual_seed(0))) for _ in range(2)]
    ours = build_optimizer({"w": weights[0]}, eight("adamw", weight_decay=0.1))
    theirs = bitsandbytes.optim.AdamW8bit(
        weights[1:], lr=0.002, betas=(0.9, 0.95), weight_decay=0.1, min_8bit_size=0
    )  # fmt: skip
    start = weights[0].detach().clone()
    for step in range(10):
        gradient = torch.randn(64, 256, generator=torch.Generator().manual_seed(step + 1))
        for weight in weights:
            weight.grad = gradient.clone()
        ours.step(1.0)
        theirs.step()
    way = (weights[1] - start).norm()
    assert (weights[0] - weights[1]).norm() < 0.02 * way


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_state_in_8_bits_goes_on_to_the_same_bits(name: str) -> None:
    straight, stopped = wide(), wide()
    optimizer = built(straight, eight(name))
    descend(straight, optimizer, steps=4, factor=1.0)
    descend(straight, optimizer, steps=4, factor=1.0)
    first = built(stopped, eight(name))
    descend(stopped, first, steps=4, factor=1.0)
    again = built(stopped, eight(name))
    again.load_tensors({key: tensor.clone() for key, tensor in first.tensors().items()})
    descend(stopped, again, steps=4, factor=1.0)
    assert bits_equal(straight, stopped)


def test_a_part_without_rows_has_state_without_numbers() -> None:
    state = {"exp_avg": torch.zeros(0, 256), "step": torch.tensor(1.0)}
    pack(state)
    assert state["exp_avg"].dtype == torch.uint8 and state["exp_avg_scales"].shape == (0, 1)
    unpack(state)
    assert state["exp_avg"].shape == (0, 256) and set(state) == {"exp_avg", "step"}
