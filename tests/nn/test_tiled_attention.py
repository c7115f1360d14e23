"""Attention by its formula, the faster way for short sequences in bf16 on some CPUs, against PyTorch's kernel."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import worlds

from onetrunk.nn import attention
from onetrunk.nn.kernels.cpu import attention as tiled
from onetrunk.nn.kernels.cpu.attention import tiled_attention

B, H, T, WIDTH = 2, 4, 12, 8


def inputs(dtype: torch.dtype, kv_heads: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = [(B, H, T, WIDTH), (B, kv_heads, T, WIDTH), (B, kv_heads, T, WIDTH)]
    return [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]


def mask() -> torch.Tensor:
    """Two documents in each sequence, a block each."""
    doc = torch.arange(T) // 7
    return (doc[:, None] == doc).expand(B, 1, T, T)


@pytest.mark.parametrize("kv_heads", [H, 2])
@pytest.mark.parametrize("kind", ["causal", "masked", "full"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.bfloat16, 0.03)])
def test_values_and_gradients_are_the_kernels(kind: str, kv_heads: int, dtype: torch.dtype, tolerance: float) -> None:
    """In float64 to rounding; in bf16, against float64, as far as its 8 bits go."""
    seen, causal = mask() if kind == "masked" else None, kind == "causal"
    ours = inputs(dtype, kv_heads)
    theirs = [x.detach().double().requires_grad_() for x in ours]
    y = tiled_attention(*ours, seen, causal)
    expected = F.scaled_dot_product_attention(*theirs, attn_mask=seen, is_causal=causal, enable_gqa=kv_heads != H)
    weight = torch.randn(B, H, T, WIDTH, dtype=torch.float64)
    (y.double() * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=tolerance)
    for x, r in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.grad.double(), r.grad, rtol=tolerance, atol=3 * tolerance)


def test_a_query_that_sees_nothing_gets_the_mean_and_no_nan() -> None:
    q, k, v = inputs(torch.float32, H)
    y = tiled_attention(q, k, v, torch.zeros(B, 1, T, T, dtype=torch.bool), False)
    torch.testing.assert_close(y, v.mean(2, keepdim=True).expand_as(y))
    y.sum().backward()
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("heads", [1, 3, H, 2 * H, 2 * H + 1], ids=lambda n: f"{n} heads a tile")
@pytest.mark.parametrize("kind", ["causal", "masked", "full"])
def test_tiles_sum_to_the_whole(kind: str, heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some heads and some queries at a time, the last tiles smaller; of keys those that are seen."""
    monkeypatch.setattr(tiled, "_ROWS", 5)
    monkeypatch.setattr(tiled, "_EVEN", 2)
    monkeypatch.setattr(tiled, "_TILE", heads * 5 * T)
    test_values_and_gradients_are_the_kernels(kind, H, torch.float64, 1e-12)


def test_documents_that_no_query_of_a_tile_sees_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled, "_ROWS", 7)
    monkeypatch.setattr(tiled, "_EVEN", 1)
    monkeypatch.setattr(tiled, "_TILE", H * 7 * T)
    q, k, _ = inputs(torch.float32, H)
    tiles = list(tiled._tiles(q, k, mask(), causal=False))
    assert [(tile.t, tile.T) for tile in tiles] == [(slice(0, 7), slice(0, 7)), (slice(7, T), slice(7, T))] * B


@pytest.mark.parametrize(
    ("dtype", "keys", "learns", "in_tiles"),
    [
        (torch.bfloat16, 640, True, True),
        (torch.bfloat16, 641, True, False),
        (torch.bfloat16, 64, False, False),
        (torch.float32, 64, True, False),
    ],
)
def test_when(dtype: torch.dtype, keys: int, learns: bool, in_tiles: bool) -> None:
    q = torch.zeros(1, 1, keys, WIDTH, dtype=dtype, requires_grad=learns)
    assert attention._in_tiles(q, q) == in_tiles


def test_answers_are_written_in_bf16_too() -> None:
    """Validation answers inside autocast: the cache begins empty, in float32."""
    made = worlds.model({"t": ["ab", "ba"], "u": ["b", "a"]}, {"t": "text", "u": "text"})
    with torch.autocast("cpu", torch.bfloat16):
        answers = made.answer({"t": ["ab", "a"]}, "u", ["t"])
    assert len(answers) == 2
