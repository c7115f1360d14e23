"""Compiled blocks are the eager ones: states and gradients of packed documents."""

from __future__ import annotations

import shutil

import pytest
import torch
import worlds

from onetrunk.engine.mode import set_compiled
from onetrunk.nn import attention, packed

TEXTS = ["to be or not to be", "that is the question", "whether"]


_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.parametrize(
    ("device", "bf16", "tolerance"),
    [
        ("cpu", False, 1e-4),
        ("cpu", True, 0.03),
        pytest.param("cuda", False, 1e-3, marks=_CUDA),
        pytest.param("cuda", True, 0.2, marks=_CUDA),  # another kernel, which rounds elsewhere
    ],
)
def test_states_and_gradients_are_those_of_eager_blocks(device: str, bf16: bool, tolerance: float) -> None:
    """In bf16 a CPU's attention is by its formula, which is not compiled; on CUDA it skips tiles of the mask."""
    trunk = {**worlds.TRUNK, "width": 16, "heads": 1 if device == "cuda" else 2}  # tiles are skipped by heads of 16
    made = worlds.model({"text": TEXTS}, {"text": "text"}, trunk=trunk)
    network = made.network.to(device)
    torch.manual_seed(0)
    for p in network.trunk.parameters():  # what begins as zeros hides the gradients behind it
        p.data.add_(0.2 * torch.randn_like(p))
    batch = worlds.batch(worlds.store_of(made, {"text": TEXTS}), range(3), ["text"], []).to(device)

    def run() -> list[torch.Tensor]:
        network.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
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


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_compiled_blocks_can_skip_tiles_of_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they do on CUDA, forward on a CPU, where FlexAttention has no backward pass."""
    trunk = {**worlds.TRUNK, "width": 32, "heads": 2, "kv_heads": 1}
    columns = {"text": TEXTS, "label": ["a", "b", "a"]}
    made = worlds.model(columns, {"text": "text", "label": "category"}, trunk=trunk)
    network = made.network
    torch.manual_seed(0)
    for p in network.trunk.parameters():
        p.data.add_(0.2 * torch.randn_like(p))
    batch = worlds.batch(worlds.store_of(made, columns), range(3), ["text"], ["label"])
    assert not batch.layout.causal and len(batch.layout.lengths()) == 3
    with torch.no_grad():
        eager = network.encode(batch).h_ND
        monkeypatch.setattr(packed, "_DEVICES", ("cpu",))
        set_compiled(network.blocks, True)
        try:
            compiled = network.encode(batch).h_ND
            torch.compiler.reset()
            monkeypatch.setattr(attention, "tiled_by_mask", lambda q, k, v, layout: 2 * v.repeat_interleave(2, dim=1))
            other = network.encode(batch).h_ND
        finally:
            set_compiled(network.blocks, False)
    torch.testing.assert_close(compiled, eager, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(other, eager, atol=1e-2), "the tiles were not asked for"
