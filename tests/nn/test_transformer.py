"""The trunk against transformers' Qwen3, attention against a plain loop, heads against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from onetrunk.core.batch import Layout
from onetrunk.nn.heads import categorical
from onetrunk.nn.heads.categorical import choose, linear_cross_entropy
from onetrunk.nn.heads.flow import ode_step
from onetrunk.nn.transformer import Transformer, TransformerConfig


def randomised(config: TransformerConfig) -> Transformer:
    torch.manual_seed(0)
    trunk = Transformer(config)
    for parameter in trunk.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.1)
    return trunk.eval()


def stream(B: int, T: int) -> Layout:
    pos = torch.arange(T).expand(B, T)
    doc = torch.arange(B)[:, None].expand(B, T)
    return Layout(doc, torch.ones_like(pos), pos + 1, pos, causal=True)


def test_a_causal_stream_equals_qwen3() -> None:
    from transformers import Qwen3Config, Qwen3Model

    trunk = randomised(TransformerConfig(width=64, layers=3, heads=4, kv_heads=2, mlp_width=96))
    reference = Qwen3Model(
        Qwen3Config(
            vocab_size=10,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        )
    ).eval()
    missing, unexpected = reference.load_state_dict(trunk.state_dict(), strict=False)
    assert missing == ["embed_tokens.weight"]
    assert unexpected == []
    x = torch.randn(2, 11, 64)
    with torch.no_grad():
        expected = reference(inputs_embeds=x).last_hidden_state
        torch.testing.assert_close(trunk(x, stream(2, 11)), expected, atol=1e-5, rtol=1e-5)


def test_the_mask_is_the_rule() -> None:
    dice = np.random.default_rng(0)
    doc, branch, order = (torch.from_numpy(dice.integers(0, 3, (2, 9))) for _ in range(3))
    mask = Layout(doc, branch, order, order).mask()
    for b in range(2):
        for q in range(9):
            for k in range(9):
                seen = doc[b, q] == doc[b, k] and branch[b, k] in (0, branch[b, q]) and order[b, k] <= order[b, q]
                assert bool(mask[b, 0, q, k]) == bool(seen)


def test_the_causal_flag_equals_the_mask() -> None:
    trunk = randomised(TransformerConfig(width=32, layers=2, heads=4))
    layout, x = stream(2, 9), torch.randn(2, 9, 32)
    masked = Layout(layout.doc_BT, layout.branch_BT, layout.order_BT, layout.pos_BT)
    with torch.no_grad():
        torch.testing.assert_close(trunk(x, layout), trunk(x, masked), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_cross_entropy_in_chunks_equals_the_whole(
    monkeypatch: pytest.MonkeyPatch, smoothing: float, bf16: bool, biased: bool
) -> None:
    torch.manual_seed(0)
    h, weight = torch.randn(23, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    bias = torch.randn(50, requires_grad=True) if biased else None
    learnt = (h, weight, bias) if biased else (h, weight)
    ids, w = torch.randint(0, 50, (23,)), torch.rand(23)
    close = {"atol": 0.05, "rtol": 0.05} if bf16 else {"atol": 1e-5, "rtol": 1e-5}
    expected = (F.cross_entropy(F.linear(h, weight, bias), ids, reduction="none", label_smoothing=smoothing) * w).sum()
    gradients = torch.autograd.grad(3 * expected, learnt)
    monkeypatch.setattr(categorical, "_MOST_LOGITS", 200)
    monkeypatch.setattr(categorical, "_TILE", 150)  # three rows, then the fourth
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        total, each = linear_cross_entropy(h, weight, bias, ids, w, smoothing)
        for nothing_learnt in (torch.no_grad, torch.inference_mode):
            with nothing_learnt():
                again = linear_cross_entropy(h, weight, bias, ids, w, smoothing)
                torch.testing.assert_close(again, (total, each), **close)
    assert len(each) == 23
    torch.testing.assert_close(total, expected, **close)
    for result, right in zip(torch.autograd.grad(3 * total, learnt), gradients, strict=True):
        assert result.dtype == right.dtype
        torch.testing.assert_close(result, right, **close)


def _each(n: int, temperature: float, top_k: int, top_p: float) -> tuple[torch.Tensor, ...]:
    return torch.full((n,), temperature), torch.full((n,), top_k), torch.full((n,), top_p)


def test_choosing_follows_the_probabilities() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, -1.0]])
    assert choose(logits, torch.zeros(1), *_each(1, 0.0, 0, 1.0)).tolist() == [1]
    u = (torch.arange(4000) + 0.5) / 4000
    many = logits.expand(4000, -1)
    frequency = torch.bincount(choose(many, u, *_each(4000, 1.0, 0, 1.0)), minlength=4) / 4000
    torch.testing.assert_close(frequency, logits[0].softmax(-1), atol=2e-3, rtol=0)
    assert set(choose(many, u, *_each(4000, 1.0, 2, 1.0)).tolist()) == {1, 2}
    assert set(choose(many, u, *_each(4000, 1.0, 0, 0.6)).tolist()) == {1}  # its probability alone reaches 0.6


def test_ode_steps_towards_a_known_image_end_there() -> None:
    clean, x = torch.full((1, 4), 0.7), torch.randn(1, 4)
    for k in range(8):
        x = ode_step(x, clean, torch.tensor([k]), torch.tensor([8]))
    torch.testing.assert_close(x, clean)
