"""The trunk's block, position by position, against the formulas written out for one query at a time."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import worlds
from torch import Tensor

from onetrunk.core.batch import Layout
from onetrunk.core.errors import UsageError
from onetrunk.nn.attention import Attention, Rotary
from onetrunk.nn.trunk import TRUNKS, build_trunk

B, T, WIDTH, HEADS, HEAD = 2, 11, 24, 4, 6


def layout(seed: int) -> Layout:
    """Random documents, branches and orders, with padding at the end of the second sequence."""
    generator = torch.Generator().manual_seed(seed)
    doc, branch, order, pos = (torch.randint(0, high, (B, T), generator=generator) for high in (3, 3, 4, 9))
    doc[1, -2:] = -1
    return Layout(doc, branch, order, pos)


def rotated(x: Tensor, pos: int, theta: float) -> Tensor:
    """RoPE as multiplication by e^(i pos w) of the complex numbers (x_j, x_{j + h/2})."""
    half = len(x) // 2
    w = torch.tensor([theta ** (-2 * j / len(x)) for j in range(half)])
    turned = torch.complex(x[:half], x[half:]) * torch.polar(torch.ones(half), pos * w)
    return torch.cat([turned.real, turned.imag])


def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / (x.square().mean() + eps).sqrt() * weight


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("seed", [0, 1])
def test_attention_is_what_the_rule_says(kv_heads: int, seed: int) -> None:
    layer = Attention(WIDTH, HEADS, kv_heads, HEAD, 1e-6)
    torch.nn.init.uniform_(layer.q_norm.weight, 0.5, 2)
    torch.nn.init.uniform_(layer.k_norm.weight, 0.5, 2)
    p, x = layout(seed), torch.randn(B, T, WIDTH)
    with torch.no_grad():
        result = layer(x, p, Rotary(HEAD, 100.0)(p.pos_BT))
        for b in range(B):
            for t in range(T):
                expected = slowly(layer, x[b], p, b, t, kv_heads)
                torch.testing.assert_close(result[b, t], expected, rtol=1e-4, atol=1e-5)


def slowly(layer: Attention, x_TD: Tensor, p: Layout, b: int, t: int, kv_heads: int) -> Tensor:
    """Attention of one query over the keys it may see."""
    doc, branch, order = (a[b].tolist() for a in (p.doc_BT, p.branch_BT, p.order_BT))
    seen = [s for s in range(T) if doc[s] == doc[t] and branch[s] in (0, branch[t]) and order[s] <= order[t]]
    out = []
    for head in range(HEADS):
        own, shared = slice(head * HEAD, (head + 1) * HEAD), head * kv_heads // HEADS
        theirs = slice(shared * HEAD, (shared + 1) * HEAD)
        q = rotated(normed((layer.q_proj.weight @ x_TD[t])[own], layer.q_norm.weight, 1e-6), int(p.pos_BT[b, t]), 100.0)
        scores, values = [], []
        for s in seen:
            k = normed((layer.k_proj.weight @ x_TD[s])[theirs], layer.k_norm.weight, 1e-6)
            scores.append(q @ rotated(k, int(p.pos_BT[b, s]), 100.0) / math.sqrt(HEAD))
            values.append((layer.v_proj.weight @ x_TD[s])[theirs])
        out.append(F.softmax(torch.stack(scores), 0) @ torch.stack(values))
    return layer.o_proj.weight @ torch.cat(out)


@pytest.mark.parametrize("kind", TRUNKS)
def test_every_kind_is_built_and_takes_one_call(kind: str) -> None:
    trunk = build_trunk({"kind": kind, "width": 16, "layers": 2, **({"heads": 2} if kind == "transformer" else {})})
    p = layout(0)
    p.order_BT.zero_()
    assert trunk(torch.randn(B, T, 16), p).shape == (B, T, 16)
    cache = trunk.start_cache(B, worlds.CPU)
    there = torch.ones(B, T, dtype=torch.bool)
    h, cache = trunk.extend(torch.randn(B, T, 16), p.pos_BT, there, cache, causal=True, keep=True)
    assert h.shape == (B, T, 16)


def test_unknown_kinds_and_keys_name_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"Unknown trunk 'transfomer'\. Did you mean 'transformer'\?"):
        build_trunk({"kind": "transfomer"})
    with pytest.raises(UsageError, match=r"Unknown key 'layer' in trunk \(gru\)\. Did you mean 'layers'\?"):
        build_trunk({"kind": "gru", "layer": 2})


def test_deep_trunks_start_as_the_identity() -> None:
    trunk = build_trunk({"kind": "transformer", "width": 16, "layers": 6, "heads": 2})
    x = torch.randn(B, T, 16)
    torch.testing.assert_close(trunk(x, layout(0)), trunk.norm(x))


def plain(B: int, T: int, **flags: bool) -> Layout:
    """One document a row, everything in one block."""
    doc = torch.arange(B)[:, None].expand(B, T)
    return Layout(doc, torch.zeros_like(doc), torch.zeros_like(doc), torch.arange(T).expand(B, T), **flags)


@pytest.mark.parametrize("place", ["pre", "post"])
def test_other_families_blocks_are_torchs_encoder_layer(place: str) -> None:
    """BERT's, ViT's and GPT-2's block is `torch.nn.TransformerEncoderLayer`'s."""
    config = {"width": WIDTH, "layers": 1, "heads": HEADS, "mlp_width": 40, "norm": "layer", "norm_place": place}
    trunk = build_trunk({**config, "activation": "gelu", "bias": "all", "qk_norm": False, "positions": "none"})
    torch.manual_seed(0)
    for parameter in trunk.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.5)
    layer = torch.nn.TransformerEncoderLayer(
        WIDTH, HEADS, 40, 0.0, F.gelu, layer_norm_eps=1e-6, batch_first=True, norm_first=place == "pre"
    )
    ours = {name.removeprefix("layers.0."): tensor for name, tensor in trunk.state_dict().items()}
    theirs = {"self_attn.out_proj": "self_attn.o_proj", "linear1": "mlp.up_proj", "linear2": "mlp.down_proj",
              "norm1": "input_layernorm", "norm2": "post_attention_layernorm"}  # fmt: skip
    state = {f"{a}.{kind}": ours[f"{b}.{kind}"] for a, b in theirs.items() for kind in ("weight", "bias")}
    for kind in ("weight", "bias"):
        state[f"self_attn.in_proj_{kind}"] = torch.cat([ours[f"self_attn.{x}_proj.{kind}"] for x in "qkv"])
    layer.load_state_dict(state)
    x = torch.randn(B, T, WIDTH)
    with torch.no_grad():
        expected = trunk.norm(layer(x)) if place == "pre" else layer(x)
        torch.testing.assert_close(trunk(x, plain(B, T, full=True)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"norm": "layer", "norm_place": "post", "norm_first": True, "bias": "all", "positions": "learned"},
        {"positions": "learned", "qk_norm": False, "bias": "qkv", "activation": "gelu_tanh"},
        {"positions": "none", "activation": "quick_gelu", "head_width": 10},
        {"rope_scaling": {"factor": 4.0, "low": 1.0, "high": 4.0, "original": 16}},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_the_cache_is_exact_whatever_the_block(options: dict) -> None:
    trunk = build_trunk({"width": WIDTH, "layers": 2, "heads": HEADS, "max_positions": T, **options})
    worlds.wake(trunk)
    x, p = torch.randn(B, T, WIDTH), plain(B, T, causal=True)
    there = torch.ones(B, T, dtype=torch.bool)
    with torch.no_grad():
        whole = trunk(x, p)
        cache, collected = trunk.start_cache(B, worlds.CPU), []
        for part in (slice(0, 4), slice(4, T)):
            h, cache = trunk.extend(x[:, part], p.pos_BT[:, part], there[:, part], cache, causal=True, keep=True)
            collected.append(h)
    torch.testing.assert_close(torch.cat(collected, 1), whole, atol=1e-5, rtol=1e-5)


def test_more_positions_than_were_learnt_are_refused() -> None:
    trunk = build_trunk({"width": 16, "layers": 1, "heads": 2, "positions": "learned", "max_positions": T - 1})
    with pytest.raises(UsageError, match=f"knows {T - 1} positions; a column takes {T}"):
        trunk(torch.randn(B, T, 16), plain(B, T, full=True))
