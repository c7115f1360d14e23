"""Cross entropy over a vocabulary, in chunks where the logits would be large; over a catalogue, from a part of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from onetrunk.nn.autograd import apply_function

_MOST_LOGITS = 1 << 24  # above this many numbers, logits are made and dropped chunk by chunk
_TILE = 1 << 19  # numbers: on a CPU, what stays in the cache from one operation to the next


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Forward computes each chunk's loss and, at once, its gradients, so that all logits never exist together.

    A row's gradient is p - q: what the model gives each id, less what is true, (1 - smoothing) of the id and
    smoothing / V of every one. It takes the place of the logits.
    """

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor, w: Tensor, smoothing: float, rows: int
    ) -> tuple[Tensor, Tensor]:
        products = torch.get_autocast_dtype(h.device.type) if torch.is_autocast_enabled(h.device.type) else h.dtype
        low_h, low_weight = h.to(products), weight.to(products)
        low_bias = None if bias is None else bias.to(products)
        each = torch.empty(len(h), dtype=torch.float32, device=h.device)
        grad_h = torch.empty_like(low_h)
        exact = torch.promote_types(weight.dtype, torch.float32)
        grad_weight = torch.zeros_like(weight, dtype=exact)
        grad_bias = None if bias is None else torch.zeros_like(bias, dtype=exact)
        for i in range(0, len(h), rows):
            chunk = slice(i, i + rows)
            logits = F.linear(low_h[chunk], low_weight, low_bias)
            for tile, loss, true, wt in _tiles(logits, each[chunk], ids[chunk, None], w[chunk, None]):
                log_p = tile.to(exact).log_softmax(1)
                loss.copy_(-(1 - smoothing) * log_p.gather(1, true)[:, 0])
                if smoothing:
                    loss.sub_(smoothing * log_p.mean(1))
                p = log_p.exp_().scatter_add_(1, true, torch.full_like(wt, smoothing - 1, dtype=log_p.dtype))
                if smoothing:
                    p.sub_(smoothing / len(weight))
                tile.copy_(p.mul_(wt))
            grad_h[chunk] = logits @ low_weight
            if grad_bias is not None:
                grad_bias += logits.sum(0, dtype=exact)
            for total, more in _tiles(grad_weight, logits.mT @ low_h[chunk]):
                total.add_(more)  # of another type, which would be converted as a whole
        if bias is not None and grad_bias is not None:
            grad_bias = grad_bias.to(bias.dtype)
        ctx.save_for_backward(grad_h.to(h.dtype), grad_weight.to(weight.dtype), grad_bias)
        ctx.mark_non_differentiable(each)
        return (each * w).sum(), each

    @staticmethod
    def backward(ctx: Any, grad_sum: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (None if g is None else g * grad_sum.to(g.dtype) for g in ctx.saved_tensors)
        return (*gradients, *[None] * 4)


def _tiles(*rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of as many rows, some rows at a time; the first is the widest."""
    several = max(1, _TILE // rows[0].shape[1]) if rows[0].device.type == "cpu" else len(rows[0])
    return zip(*(x.split(several) for x in rows), strict=True)


def linear_cross_entropy(
    h: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor, w: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """h [r, D], weight [V, D], bias [V], ids int64 [r], w float32 [r] to (weighted sum, each [r] detached), nats."""
    rows = max(1, _MOST_LOGITS // len(weight))
    learning = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (h, weight, bias))
    if learning and len(h) > rows:
        return apply_function(_ChunkedCrossEntropy, h, weight, bias, ids, w, smoothing, rows)
    chunks = zip(h.split(rows), ids.split(rows), strict=True)
    losses = torch.cat([_losses(hi, weight, bias, i, smoothing) for hi, i in chunks])
    return (losses * w).sum(), losses.detach()


def _losses(h: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor, smoothing: float) -> Tensor:
    return F.cross_entropy(F.linear(h, weight, bias).float(), ids, reduction="none", label_smoothing=smoothing)


def sampled_cross_entropy(
    h: Tensor, weight: Tensor, bias: Tensor, ids: Tensor, w: Tensor, drawn: Tensor, log_q: Tensor
) -> tuple[Tensor, Tensor]:
    """As `linear_cross_entropy`, from the true id and `drawn` ids [s] of the catalogue only.

    `log_q` [V] is the natural log of the probability with which each id is drawn. What is drawn stands for the rest of
    the catalogue, so its logits are corrected for how often it is; the true one is not drawn, so its logit is not
    (arXiv 2507.09331).
    """
    true = (h * F.embedding(ids, weight)).sum(-1) + bias[ids]
    others = F.linear(h, weight[drawn], bias[drawn]) - log_q[drawn] - math.log(max(1, len(drawn)))
    others = others.masked_fill(drawn == ids[:, None], -torch.inf)
    losses = torch.cat([true[:, None], others], dim=1).float().logsumexp(-1) - true.float()
    return (losses * w).sum(), losses.detach()


def divergence(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(teacher's || own) of two softmaxes [r, V] at temperature T: [r]. The factor keeps gradients as large as
    those of the truth (arXiv 1503.02531)."""
    own, theirs = (x.float().div(temperature).log_softmax(-1) for x in (logits, teacher))
    return temperature**2 * (theirs.exp() * (theirs - own)).sum(-1)


def linear_divergence(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    h_teacher: Tensor,
    weight_teacher: Tensor,
    bias_teacher: Tensor | None,
    temperature: float,
) -> Tensor:
    """`divergence` of h weight^T + bias: h [r, D], weight [V, D]; of the teacher, which may have another D. Logits that
    would be large are made chunk by chunk, and again for the gradient."""

    def part(h: Tensor, h_teacher: Tensor) -> Tensor:
        own = F.linear(h, weight.to(h.dtype), None if bias is None else bias.to(h.dtype))
        return divergence(own, F.linear(h_teacher, weight_teacher, bias_teacher), temperature)

    rows = max(1, _MOST_LOGITS // len(weight))
    if len(h) <= rows:
        return part(h, h_teacher)
    chunks = zip(h.split(rows), h_teacher.split(rows), strict=True)
    return torch.cat([checkpoint(part, own, theirs, use_reentrant=False) for own, theirs in chunks])


def choose(
    logits: Tensor, uniform: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor | None = None
) -> Tensor:
    """Draws ids [n] from logits [n, V] with keyed uniform numbers [n], each row in its own way [n]: the likeliest where
    its `temperature` is 0; from all ids where its `top_k` is 0; from those that are at least `min_p` times as likely as
    the likeliest, whatever the temperature."""
    if min_p is not None and bool((min_p > 0).any()):
        unlikely = logits < logits.amax(-1, keepdim=True) + min_p.log()[:, None]
        logits = logits.masked_fill(unlikely, -torch.inf)
    chosen = logits.argmax(-1)
    rows = (temperature > 0).nonzero()[:, 0]
    if len(rows):
        chosen[rows] = _drawn(*(x[rows] for x in (logits, uniform, temperature, top_k, top_p)))
    return chosen


def _drawn(logits: Tensor, uniform: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    ordered, ids = (logits.float() / temperature[:, None]).sort(dim=-1, descending=True)
    p = ordered.softmax(-1)
    rank = torch.arange(p.shape[1], device=p.device)
    p = p.masked_fill((top_k > 0)[:, None] & (rank >= top_k[:, None]), 0)
    # nucleus (arXiv 1904.09751): the fewest ids whose probability reaches top_p
    p = p.masked_fill((top_p < 1)[:, None] & (p.cumsum(-1) - p >= top_p[:, None]), 0)
    cumulative = p.cumsum(-1)
    drawn = (cumulative < (uniform * cumulative[:, -1])[:, None]).sum(-1, keepdim=True)
    return ids.gather(1, drawn.clamp(max=logits.shape[1] - 1))[:, 0]
