"""A model whose weights are fixed answers as it did: in float32 to the last digits, in bf16 to three."""

from __future__ import annotations

import pytest
import sites
import torch

from onetrunk.core.answer import Answer, Sampling
from onetrunk.engine import mode
from onetrunk.inference.fixed_weights import fix_weights
from onetrunk.inference.model_folder import Model
from onetrunk.nn.fixed import product_dtype

# As docs/serving.md says: of probabilities, and of numbers as a share of their own interval.
TOLERANCE = {"fp32": 1e-5, "bf16": 0.02}
ASKED = ("label", "stars", "price", "arrived", "review")


def answers(model: Model, ask: str) -> list[Answer]:
    flat = {name: values for name, values in sites.STAYS.items() if name in ("review", "nights", "guest.plan")}
    given = [name for name in flat if name != ask]
    return model.answer(flat, ask, given, Sampling(max_length=4))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_answers_stay_what_they_were(precision: mode.Choice) -> None:
    model = sites.stays_model()
    before = {ask: answers(model, ask) for ask in ASKED}
    assert fix_weights(model.network, precision).startswith(precision)
    assert product_dtype(model.network.trunk) == (torch.bfloat16 if precision == "bf16" else torch.float32)
    tolerance = TOLERANCE[precision]
    differs = False
    for ask in ASKED:
        for old, new in zip(before[ask], answers(model, ask), strict=True):
            if isinstance(old.probability, dict):
                assert new.of_classes == pytest.approx(old.of_classes, abs=tolerance)
                differs |= new.of_classes != old.of_classes
            elif ask == "price":
                low, high = (float(end) for end in old.interval or ())
                assert float(new.value) == pytest.approx(float(old.value), abs=tolerance * (high - low))
            elif ask == "review" and precision == "fp32":
                assert new.value == old.value
    assert differs or precision == "fp32", "bf16 has other digits"


def test_auto_takes_bf16_for_wide_models_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    model = sites.stays_model()
    monkeypatch.setattr(mode, "has_fast_bf16", lambda device: True)
    assert fix_weights(model.network, "auto") == "fp32", "it is not wide"
    monkeypatch.setattr(mode, "width_of", lambda module: 512)
    assert fix_weights(model.network, "auto").startswith("bf16")
    monkeypatch.setattr(mode, "has_fast_bf16", lambda device: False)
    assert fix_weights(model.network, "auto") == "fp32"
