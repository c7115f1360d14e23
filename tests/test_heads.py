"""Drawing from probabilities, and the flow's numbers, against slow references."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onetrunk.columns.families.patches.levels import noisy, velocity_weight
from onetrunk.core import rng
from onetrunk.nn.heads.categorical import choose, linear_cross_entropy, sampled_cross_entropy
from onetrunk.nn.heads.flow import SINUSOIDS, denoised, ode_step, sinusoidal_embedding


def drawn_slowly(logits: list[float], u: float, temperature: float, top_k: int, top_p: float) -> int:
    """The same, one number at a time: likeliest first, cut, and walked through until u is passed."""
    if temperature == 0:
        return max(range(len(logits)), key=lambda i: logits[i])
    p = np.exp(np.array(logits) / temperature)
    p /= p.sum()
    ordered = sorted(range(len(p)), key=lambda i: -p[i])
    kept, reached = [], 0.0
    for rank, i in enumerate(ordered):
        if (top_k and rank >= top_k) or reached >= top_p:
            break
        kept.append(i)
        reached += p[i]
    passed = 0.0
    for i in kept:
        passed += p[i]
        if u * reached <= passed:
            return i
    return kept[-1]


def each(n: int, temperature: float, top_k: int, top_p: float) -> tuple[torch.Tensor, ...]:
    """One way of drawing for n rows."""
    return torch.full((n,), float(temperature)), torch.full((n,), top_k), torch.full((n,), float(top_p))


def test_every_row_is_drawn_in_its_own_way() -> None:
    logits = torch.randn(8, 9) * 2
    u = torch.from_numpy(rng.uniform(rng.mix(np.arange(8), "u")))
    ways = [(0.0, 0, 1.0), (1.0, 0, 1.0), (0.5, 4, 1.0), (3.0, 0, 0.7), (1.0, 1, 0.01), (0.0, 3, 0.5), (2.0, 2, 0.9)]
    ways.append(ways[1])
    columns = zip(*ways, strict=True)
    result = choose(logits, u, *(torch.tensor(column) for column in columns))
    alone = [choose(logits[i : i + 1], u[i : i + 1], *each(1, *way)) for i, way in enumerate(ways)]
    assert torch.equal(result, torch.cat(alone))


@pytest.mark.parametrize("temperature", [0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("top_k", [0, 1, 4])
@pytest.mark.parametrize("top_p", [1.0, 0.7, 0.01])
def test_choosing_is_what_the_slow_way_gives(temperature: float, top_k: int, top_p: float) -> None:
    logits = torch.randn(200, 9) * 2
    u = torch.from_numpy(rng.uniform(rng.mix(np.arange(200), "u")))
    result = choose(logits, u, *each(200, temperature, top_k, top_p)).tolist()
    expected = [
        drawn_slowly(row, x, temperature, top_k, top_p) for row, x in zip(logits.tolist(), u.tolist(), strict=True)
    ]
    assert result == expected


def test_what_is_impossible_is_never_drawn() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 1.0]]).expand(500, -1)
    u = torch.linspace(0, 1 - 2**-24, 500)
    assert set(choose(logits, u, *each(500, 1.0, 0, 1.0)).tolist()) == {0, 2}


def test_noise_levels_go_from_noise_to_the_picture() -> None:
    x, noise = np.ones((2, 3), np.float32), np.full((2, 3), -1.0, np.float32)
    assert (noisy(x, noise, np.float32(1)) == x).all() and (noisy(x, noise, np.float32(0)) == noise).all()
    assert velocity_weight(np.array([0, 0.5, 0.8, 0.99, 1.0])).tolist() == pytest.approx([1, 4, 25, 25, 25])


def test_the_ode_follows_the_exact_flow_of_a_gaussian() -> None:
    """For data N(m, s²) the best denoiser is known in closed form, and the flow maps noise z to m + s z."""
    m, s, z, steps = 0.7, 0.3, torch.linspace(-2, 2, 9), 400
    x = z.clone()
    for k in range(steps):
        t = k / steps
        gain = t * s**2 / (t**2 * s**2 + (1 - t) ** 2)
        x = ode_step(x, m + gain * (x - t * m), torch.full((9,), k), torch.full((9,), steps))
    torch.testing.assert_close(x, m + s * z, rtol=0, atol=0.01)


def test_levels_become_sines_and_cosines_that_tell_them_apart() -> None:
    level = torch.tensor([[0.0, 0.25], [0.5, 1.0]])
    result = sinusoidal_embedding(level)
    assert result.shape == (2, 2, SINUSOIDS)
    for k in range(1, SINUSOIDS // 2 + 1):
        torch.testing.assert_close(result[..., k - 1], torch.sin(np.pi * k * level))
        torch.testing.assert_close(result[..., SINUSOIDS // 2 + k - 1], torch.cos(np.pi * k * level))


def test_guidance_goes_from_the_unconditional_past_the_conditional() -> None:
    head, h, unconditional = torch.nn.Linear(5, 3), torch.randn(4, 2, 5), torch.randn(4, 2, 5)
    guidance = torch.tensor([7.0, 1.0, 0.0, 2.0])
    assert torch.equal(denoised(head, h, None, guidance), head(h))
    result, conditional, without = denoised(head, h, unconditional, guidance), head(h), head(unconditional)
    torch.testing.assert_close(result[1], conditional[1])
    torch.testing.assert_close(result[2], without[2])
    torch.testing.assert_close(result[3], 2 * conditional[3] - without[3])
    torch.testing.assert_close(result[0], 7 * conditional[0] - 6 * without[0])


# -- a catalogue from a part of it ---------------------------------------------------------------------------
def catalogue() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    h, weight, bias = (torch.randn(shape, generator=generator) for shape in ((5, 8), (40, 8), (40,)))
    q = torch.rand(40, generator=generator) + 0.1
    return h, weight, bias, torch.tensor([0, 3, 39, 7, 3]), torch.tensor([1.0, 1, 0, 2, 1]), (q / q.sum()).log()


def test_sampled_cross_entropy_is_written_out() -> None:
    h, weight, bias, ids, w, log_q = catalogue()
    drawn = torch.tensor([3, 8, 8, 20])
    total, each = sampled_cross_entropy(h, weight, bias, ids, w, drawn, log_q)
    for r in range(5):
        score = weight @ h[r] + bias
        others = [score[d] - log_q[d] - np.log(4) for d in drawn.tolist() if d != ids[r]]
        expected = torch.stack([score[ids[r]], *others]).logsumexp(0) - score[ids[r]]
        assert each[r].item() == pytest.approx(expected.item(), rel=1e-5)
    assert total.item() == pytest.approx((each * w).sum().item(), rel=1e-5)


def test_with_many_draws_it_is_the_whole_catalogues() -> None:
    h, weight, bias, ids, w, log_q = catalogue()
    drawn = torch.multinomial(log_q.exp(), 400_000, replacement=True, generator=torch.Generator().manual_seed(1))
    _, each = sampled_cross_entropy(h, weight, bias, ids, w, drawn, log_q)
    _, whole = linear_cross_entropy(h, weight, bias, ids, w)
    torch.testing.assert_close(each, whole, rtol=0.02, atol=0.02)
    uncorrected, _ = sampled_cross_entropy(h, weight, bias, ids, w, drawn, torch.full((40,), -np.log(40)))
    assert abs(uncorrected - (whole * w).sum()) > 0.1, "the correction matters"
