"""Changed trunks: what is added changes nothing, what is taken away is what weighs least, all else is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import worlds

from onetrunk.core.batch import Layout
from onetrunk.core.errors import UsageError
from onetrunk.nn.restructure import restructured
from onetrunk.nn.transformer import Transformer, TransformerConfig
from onetrunk.nn.trunk import build_trunk

PLAIN = {"width": 24, "layers": 3, "heads": 3}
LIKE_GPT2 = {**PLAIN, "norm": "layer", "bias": "all", "qk_norm": False, "positions": "learned", "max_positions": 16,
             "activation": "gelu_tanh"}  # fmt: skip


def trunk(config: dict[str, Any]) -> Transformer:
    made = Transformer(TransformerConfig.parse(config))
    worlds.wake(made)
    return made.eval()


def states(made: Transformer, T: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, T, 24, generator=generator)
    zero = torch.zeros(2, T, dtype=torch.long)
    pos = torch.arange(T).expand(2, T)
    with torch.no_grad():
        return made(x, Layout(zero, zero, pos, pos, causal=True))


@pytest.mark.parametrize("config", [PLAIN, LIKE_GPT2], ids=["rotary", "learned"])
@pytest.mark.parametrize("change", [{"layers": 5}, {"heads": 5}, {"mlp_width": 200}, {"dropout": 0.2}])
def test_growing_keeps_what_it_computes_and_learns_on(config: dict[str, Any], change: dict[str, Any]) -> None:
    old = trunk(config)
    new = restructured(old, change).eval()
    torch.testing.assert_close(states(new), states(old), rtol=1e-5, atol=1e-6)
    if "dropout" not in change:
        assert sum(p.numel() for p in new.parameters()) > sum(p.numel() for p in old.parameters())
        x = torch.randn(2, 9, 24)
        zero = torch.zeros(2, 9, dtype=torch.long)
        pos = torch.arange(9).expand(2, 9)
        new.train()(x, Layout(zero, zero, pos, pos, causal=True)).square().sum().backward()
        added = [p for name, p in new.named_parameters() if name.endswith(("o_proj.weight", "down_proj.weight"))]
        assert all(p.grad.abs().sum() > 0 for p in added), "new parts are not dead"


def test_more_positions_keep_the_first() -> None:
    old = trunk(LIKE_GPT2)
    new = restructured(old, {"max_positions": 40}).eval()
    torch.testing.assert_close(states(new), states(old))
    assert states(new, 30).shape == (2, 30, 24)
    with pytest.raises(UsageError, match="knows 16 positions"):
        states(old, 30)


def test_units_and_heads_that_do_nothing_are_the_ones_that_go() -> None:
    old = trunk(PLAIN)
    with torch.no_grad():
        for layer in old.layers:
            layer.mlp.down_proj.weight[:, [0, 7, 11]] = 0
            layer.self_attn.o_proj.weight[:, 8:16] = 0  # the second head
    hidden = old.layers[0].mlp.down_proj.weight.shape[1]
    new = restructured(old, {"mlp_width": hidden - 3, "heads": 2}).eval()
    torch.testing.assert_close(states(new), states(old), rtol=1e-5, atol=1e-6)


def test_fewer_blocks_are_spread_over_the_old_ones() -> None:
    old = trunk({**PLAIN, "layers": 5})
    new = restructured(old, {"layers": 3})
    for block, source in zip(new.layers, (0, 2, 4), strict=True):
        for ours, theirs in zip(block.parameters(), old.layers[source].parameters(), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (PLAIN, {"width": 32}, r"trunk\.width is fixed.*what can change: layers"),
        ({**PLAIN, "kv_heads": 1}, {"heads": 6}, "share keys"),
        ({**PLAIN, "norm_place": "post"}, {"layers": 4}, "norms after each block cannot grow"),
    ],
)
def test_what_cannot_be_kept_is_refused(config: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        restructured(trunk(config), change)
    with pytest.raises(UsageError, match="Only a transformer"):
        restructured(build_trunk({"kind": "lstm", "width": 24}), {"layers": 3})
