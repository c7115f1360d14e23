"""Low-rank adaptation: zero at first, the formula after, and nothing but rounding when merged and taken out again."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from onetrunk.core.batch import Layout
from onetrunk.core.errors import UsageError
from onetrunk.nn import lora
from onetrunk.nn.trunk import build_trunk

CONFIG = lora.LoRAConfig(rank=3, alpha=6.0, targets=["q_proj", "up_proj"])


def adapted(bias: str = "none") -> tuple[torch.nn.Module, torch.nn.Module]:
    """A trunk, and the same with random changes."""
    torch.manual_seed(0)
    trunk = build_trunk({"width": 16, "layers": 2, "heads": 2, "bias": bias})
    for parameter in trunk.parameters():
        parameter.data.normal_(0, 0.3)
    other = copy.deepcopy(trunk)
    lora.add(other, CONFIG)
    return trunk.eval(), other.eval()


def states(trunk: torch.nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    pos = torch.arange(5).expand(2, 5)
    layout = Layout(torch.zeros_like(pos), pos * 0, pos, pos, causal=True)
    with torch.no_grad():
        return trunk(torch.randn(2, 5, 16, generator=generator), layout)


def test_a_change_is_nothing_at_first_and_only_it_has_new_names() -> None:
    trunk, other = adapted()
    assert torch.equal(states(trunk), states(other))
    new = other.state_dict().keys() - trunk.state_dict().keys()
    assert new == {
        f"layers.{i}.{m}.lora_{x}" for i in (0, 1) for m in ("self_attn.q_proj", "mlp.up_proj") for x in "AB"
    }
    assert trunk.state_dict().keys() < other.state_dict().keys()


@pytest.mark.parametrize("bias", ["none", "all"])
def test_merging_keeps_what_it_does(bias: str) -> None:
    trunk, other = adapted(bias)
    for name, parameter in other.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.3)
    map_ = other.layers[0].mlp.up_proj
    x = torch.randn(4, 16)
    expected = F.linear(x, map_.weight + 2.0 * map_.lora_B @ map_.lora_A, map_.bias)
    torch.testing.assert_close(map_(x), expected, atol=1e-5, rtol=1e-5)
    apart = states(other)
    assert not torch.allclose(apart, states(trunk), atol=1e-2)
    learnt = lora.take(other)
    assert type(other.layers[0].mlp.up_proj) is torch.nn.Linear and len(learnt) == 8
    torch.testing.assert_close(states(other), apart, atol=1e-5, rtol=1e-5)
    lora.merge(trunk, learnt, CONFIG.scale)
    torch.testing.assert_close(states(trunk), apart, atol=1e-5, rtol=1e-5)


def test_a_base_in_four_bits_is_the_nearest_of_normal_quantiles_and_comes_back_whole() -> None:
    pytest.importorskip("bitsandbytes")
    from scipy.stats import norm

    torch.manual_seed(0)
    base = torch.nn.Linear(64, 48)
    plain, packed = (lora.LoRALinear(copy.deepcopy(base), lora.LoRAConfig(rank=2, bits=bits)) for bits in (32, 4))
    assert packed.packed.nbytes * 8 == base.weight.nbytes and packed.weight is None
    held = packed(torch.eye(64)).T.detach() - base.bias[:, None]  # of the weight, [48, 64]: one block a row
    # QLoRA's values: 8 quantiles of a normal distribution above nothing, 7 below it, and nothing; scaled to -1 .. 1
    offset = 0.9677083
    above, below = norm.ppf(torch.linspace(offset, 0.5, 9)[:-1]), -norm.ppf(torch.linspace(offset, 0.5, 8)[:-1])
    code = torch.tensor([*below, 0.0, *above], dtype=torch.float32) / above.max()
    largest = base.weight.detach().abs().amax(1, keepdim=True)
    nearest = code[((base.weight.detach() / largest)[..., None] - code).abs().argmin(-1)] * largest
    torch.testing.assert_close(held, nearest, atol=1e-4, rtol=0)
    x = torch.randn(5, 64, requires_grad=True)
    packed(x).square().sum().backward()
    y = torch.nn.functional.linear(x.detach(), nearest, base.bias)
    torch.testing.assert_close(x.grad, 2 * y.detach() @ nearest, atol=1e-3, rtol=1e-3)
    assert packed.lora_B.grad.abs().max() > 0 and plain.weight is not None
    with pytest.raises(UsageError, match="dora learns from the lengths of whole weights"):
        lora.LoRAConfig.parse({"dora": True, "bits": 4}, "here")


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_lengths_are_learnt_as_in_peft(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    peft = pytest.importorskip("peft")
    monkeypatch.setattr(lora, "dropout", torch.nn.functional.dropout)  # the same draws
    torch.manual_seed(0)
    base = torch.nn.Linear(6, 5)
    config = lora.LoRAConfig(rank=2, alpha=6.0, dropout=dropout, dora=True)
    map_ = lora.LoRALinear(copy.deepcopy(base), config)
    x = torch.randn(4, 6)
    torch.testing.assert_close(map_.eval()(x), base(x), atol=1e-6, rtol=1e-6)
    wanted = peft.LoraConfig(r=2, lora_alpha=6.0, lora_dropout=dropout, use_dora=True, target_modules=["0"])
    theirs = peft.get_peft_model(torch.nn.Sequential(copy.deepcopy(base)), wanted)
    for name, tensor in map_.learnt().items():
        tensor.data.normal_(0, 0.5)
        (own,) = [p for n, p in theirs.named_parameters() if name in n]
        own.data.copy_(tensor)
    for training in (False, True):
        outputs = []
        for module in (map_.train(training), theirs.train(training)):
            torch.manual_seed(3)
            outputs.append(module(x))
            module.zero_grad()
            outputs[-1].square().sum().backward()
        torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)
        for name, tensor in map_.learnt().items():
            (own,) = [p for n, p in theirs.named_parameters() if name in n]
            torch.testing.assert_close(tensor.grad, own.grad, atol=1e-4, rtol=1e-4)


def test_learnt_lengths_are_merged() -> None:
    trunk, other = adapted()
    lora.take(other)
    config = CONFIG.updated(dora=True)
    lora.add(other, config)
    for name, parameter in other.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.3)
    apart = states(other)
    learnt = lora.take(other)
    torch.testing.assert_close(states(other), apart, atol=1e-4, rtol=1e-4)
    lora.merge(trunk, learnt, config.scale)
    torch.testing.assert_close(states(trunk), apart, atol=1e-4, rtol=1e-4)


def test_dropout_is_of_the_change_alone() -> None:
    trunk, _ = adapted()
    base = trunk.layers[0].mlp.up_proj
    map_ = lora.LoRALinear(base, lora.LoRAConfig(rank=2, dropout=0.5)).train()
    x = torch.randn(3, 16)
    assert torch.equal(map_(x), base(x))
    map_.lora_B.data.fill_(1)
    assert not torch.equal(map_(x), map_(x))
    assert torch.equal(map_.eval()(x), map_(x))


def test_trunks_without_such_maps_are_refused() -> None:
    with pytest.raises(UsageError, match="none of the maps"):
        lora.add(build_trunk({"kind": "gru", "width": 16, "layers": 1}), CONFIG)
    with pytest.raises(UsageError, match="targets"):
        lora.LoRAConfig.parse({"targets": ["everything"]})
