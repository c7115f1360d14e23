"""The bar distribution against numerical integration and scipy."""

import itertools
import json

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from onetrunk.columns.families.scalar.bars import Bars, fit_bars
from onetrunk.nn.heads.distribution import BarDistribution


def samples(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    return {
        "normal": rng.normal(size=500),
        "heavy": rng.standard_cauchy(500),
        "hours": (np.where(rng.random(400) < 0.5, 40, rng.integers(1, 99, 400)) - 40) / 10,
        "gains": np.where(rng.random(400) < 0.9, 0.0, rng.exponential(3.0, 400)),
        "binary": rng.integers(0, 2, 60).astype(float),
        "few": np.array([0.0, 1.0, 5.0]),
        "constant": np.zeros(30),
        "one": np.array([2.0]),
    }[kind]


KINDS = ["normal", "heavy", "hours", "gains", "binary", "few", "constant", "one"]


def made(kind: str, rows: int = 3) -> tuple[BarDistribution, torch.Tensor]:
    bars = BarDistribution(**fit_bars(samples(kind)).knowledge())
    generator = torch.Generator().manual_seed(1)
    return bars, torch.randn(rows, bars.size, generator=generator)


def pieces(bars: BarDistribution) -> list[float]:
    """Borders, with the far ends of both tails."""
    edges, widths = bars.borders.tolist(), bars.widths.tolist()
    return [edges[0] - 12 * widths[0], *edges, edges[-1] + 12 * widths[-1]]


@pytest.mark.parametrize("kind", KINDS)
def test_density_integrates_to_one_and_to_the_mean(kind: str) -> None:
    bars, logits = made(kind, rows=1)

    def density(x: np.ndarray) -> np.ndarray:
        return bars.log_prob(logits.expand(len(x), -1), torch.tensor(x)).exp().numpy().astype(np.float64)

    total = first = 0.0
    edges = pieces(bars)
    for a, b in itertools.pairwise(edges):
        x = a + (b - a) * (np.arange(2000) + 0.5) / 2000  # midpoint rule
        y = density(x) * (b - a) / 2000
        total, first = total + y.sum(), first + (x * y).sum()
    assert total == pytest.approx(1, abs=2e-3)
    assert first == pytest.approx(bars.mean(logits).item(), rel=2e-3, abs=2e-3)


def reference_cdf(bars: BarDistribution, logits: torch.Tensor, x: np.ndarray) -> np.ndarray:
    """The same mixture from scipy's half-normal and uniform."""
    p = logits.double().softmax(-1).numpy()
    edges, widths = bars.borders.double().numpy(), bars.widths.double().numpy()
    out = p[0] * stats.halfnorm.sf(edges[0] - x, scale=widths[0])
    out += p[-1] * stats.halfnorm.cdf(x - edges[-1], scale=widths[-1])
    for held, left, right in zip(p[1:-1], edges, edges[1:], strict=False):
        out += held * stats.uniform.cdf(x, left, right - left)
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_quantile_inverts_scipys_cumulative_distribution(kind: str) -> None:
    bars, logits = made(kind)
    p = torch.linspace(0.001, 0.999, 101).expand(3, -1)
    x = bars.quantile(logits, p).double().numpy()
    assert (np.diff(x, axis=1) >= 0).all()
    for row in range(3):
        # A narrow bar far from zero is steep: float32 values cannot hit p more closely.
        np.testing.assert_allclose(reference_cdf(bars, logits[row], x[row]), p[row], atol=5e-3)


def test_log_prob_is_scipys_mixture() -> None:
    bars, logits = made("normal", rows=1)
    scale, edge = bars.widths[-1].item(), bars.borders[-1].item()
    p = logits[0].softmax(0)
    far = edge + 2 * scale
    expected = np.log(p[-1].item()) + stats.halfnorm.logpdf(far - edge, scale=scale)
    assert bars.log_prob(logits, torch.tensor([far])).item() == pytest.approx(expected, rel=1e-5)
    middle = bars.centres[5].item()
    expected = np.log(p[5].item() / bars.widths[5].item())
    assert bars.log_prob(logits, torch.tensor([middle])).item() == pytest.approx(expected, rel=1e-5)
    value = torch.tensor([middle])
    assert torch.equal(bars.loss(logits, value), -bars.log_prob(logits, value))


def test_samples_follow_the_distribution() -> None:
    bars, logits = made("normal", rows=1)
    u = (torch.arange(4000) + 0.5)[None] / 4000
    drawn = bars.sample(logits, u, torch.ones(1))[0].double().numpy()
    result = stats.kstest(drawn, lambda x: reference_cdf(bars, logits[0], x))
    assert result.statistic < 1e-3
    assert drawn.mean() == pytest.approx(bars.mean(logits).item(), abs=5e-3)
    low, high = bars.interval(logits)
    one = torch.ones(1)
    assert ((drawn >= low.item()) & (drawn <= high.item())).mean() == pytest.approx(0.9, abs=2e-3)
    assert bars.sample(logits * 3, u, one).var() == pytest.approx(bars.sample(logits, u, one / 3).var())


def test_mass_starts_at_the_training_distribution() -> None:
    values = samples("normal")
    bars = BarDistribution(**fit_bars(values).knowledge())
    logits = torch.tensor(bars.mass).log()[None]
    assert bars.size <= 64
    for level in (0.1, 0.5, 0.9):
        expected = np.quantile(values, level)
        assert bars.quantile(logits, torch.tensor([[level]])).item() == pytest.approx(expected, abs=0.05)
    assert bars.mean(logits).item() == pytest.approx(values.mean(), abs=0.02)


@pytest.mark.parametrize("kind", ["hours", "gains", "binary"])
def test_a_repeated_value_has_a_narrow_bar_of_its_own(kind: str) -> None:
    values = samples(kind)
    bars = BarDistribution(**fit_bars(values).knowledge())
    common = 0.0 if kind != "binary" else 1.0
    share = float((values == common).mean())
    logits = torch.tensor(bars.mass).log()[None]
    index = torch.bucketize(torch.tensor(common), bars.borders)
    assert bars.mass[index].item() == pytest.approx(share, abs=0.05)
    assert bars.centres[index].item() == pytest.approx(common, abs=1e-4)
    inside = [[bars.mass[:index].sum() + 0.5 * bars.mass[index]]]
    assert bars.quantile(logits, torch.tensor(inside)).item() == pytest.approx(common, abs=1e-3)
    assert bars.mean(logits).item() == pytest.approx(values.mean(), abs=0.1)
    assert torch.isfinite(bars.loss(logits, torch.tensor([common]))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_widths_are_positive_and_losses_finite(kind: str) -> None:
    values = samples(kind)
    bars = BarDistribution(**fit_bars(values).knowledge())
    assert (bars.widths > 4e-3).all()
    assert bars.borders.diff().gt(0).all()
    loss = bars.loss(torch.tensor(bars.mass).log().expand(len(values), -1), torch.tensor(values))
    assert torch.isfinite(loss).all()
    extreme = torch.tensor([-1e15, 1e15])
    assert torch.isfinite(bars.loss(torch.tensor(bars.mass).log().expand(2, -1), extreme)).all()


def test_learning_recovers_a_distribution() -> None:
    rng = np.random.default_rng(2)
    bars = BarDistribution(**fit_bars(rng.normal(size=1000)).knowledge())
    target = torch.tensor(rng.normal(0.5, 0.3, size=2000))
    logits = torch.zeros(1, bars.size, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=50)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = bars.loss(logits.expand(len(target), -1), target).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert bars.mean(logits).item() == pytest.approx(0.5, abs=0.03)
    low, high = bars.interval(logits)
    assert (low.item(), high.item()) == pytest.approx(stats.norm.interval(0.9, 0.5, 0.3), abs=0.05)
    wanted = stats.norm(0.5, 0.3)
    entropy = integrate.quad(lambda x: -wanted.pdf(x) * wanted.logpdf(x), -2, 3)[0]
    assert closure().item() == pytest.approx(entropy, abs=0.05)


def test_knowledge_is_json_and_comes_back_exactly() -> None:
    known = fit_bars(samples("hours"))
    again = Bars(**json.loads(json.dumps(known.knowledge())))
    assert again == known
    bars, logits = made("hours")
    other, value = BarDistribution(**again.knowledge()), torch.tensor([-30.0, 0.0, 4.2])
    assert torch.equal(bars.log_prob(logits, value), other.log_prob(logits, value))
    assert torch.equal(bars.mean(logits), other.mean(logits))
