"""Compiled blocks are the eager ones: states and gradients of packed documents."""

from __future__ import annotations

import shutil

import pytest
import torch
import worlds

from onetrunk.engine.mode import set_compiled

TEXTS = ["to be or not to be", "that is the question", "whether"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-4), (True, 0.03)])
def test_states_and_gradients_are_those_of_eager_blocks(bf16: bool, tolerance: float) -> None:
    """In bf16 attention is by its formula, which is not compiled."""
    made = worlds.model({"text": TEXTS}, {"text": "text"}, trunk={**worlds.TRUNK, "width": 16})
    network = made.network
    torch.manual_seed(0)
    for p in network.trunk.parameters():  # what begins as zeros hides the gradients behind it
        p.data.add_(0.2 * torch.randn_like(p))
    batch = worlds.batch(worlds.store_of(made, {"text": TEXTS}), range(3), ["text"], [])

    def run() -> list[torch.Tensor]:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            h = network.encode(batch).h_ND
        h.square().sum().backward()
        return [h.detach(), *(p.grad.clone() for p in network.trunk.parameters())]

    eager = run()
    set_compiled(network.blocks, True)
    try:
        compiled = run()
    finally:
        set_compiled(network.blocks, False)
    for a, b in zip(compiled, eager, strict=True):
        assert b.norm() > 0
        assert (a - b).norm() < tolerance * b.norm()
    assert torch.equal(run()[0], eager[0])  # eager again, to the bit
