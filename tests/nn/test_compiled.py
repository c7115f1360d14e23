"""Compiled blocks are the eager ones: states and gradients of packed documents."""

from __future__ import annotations

import shutil

import pytest
import torch
import worlds

from onetrunk.engine.mode import set_compiled

TEXTS = ["to be or not to be", "that is the question", "whether"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_states_and_gradients_are_those_of_eager_blocks() -> None:
    made = worlds.model({"text": TEXTS}, {"text": "text"}, trunk={**worlds.TRUNK, "width": 16})
    network = made.network
    batch = worlds.batch(worlds.store_of(made, {"text": TEXTS}), range(3), ["text"], [])

    def run() -> list[torch.Tensor]:
        network.zero_grad()
        h = network.states(batch)
        h.square().sum().backward()
        return [h.detach(), *(p.grad.clone() for p in network.trunk.parameters())]

    eager = run()
    set_compiled(network, True)
    try:
        compiled = run()
    finally:
        set_compiled(network, False)
    for a, b in zip(compiled, eager, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert torch.equal(run()[0], eager[0])  # eager again, to the bit
