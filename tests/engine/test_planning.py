"""From counts to memory, time and energy: closed forms; the scaling laws' own statements."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from onetrunk.core.errors import UsageError
from onetrunk.engine.counting import Counts
from onetrunk.engine.planning import (
    ACCELERATORS,
    NETWORK,
    Cluster,
    Spread,
    StepCost,
    best_size,
    compute_optimal,
    cures,
    kwh,
    law,
    memory,
    seconds_on,
    tokens_within,
    worth,
)

COUNTS = Counts(
    parameters=1e9, weights=4e9, gradients=4e9, optimizer=6e9, activations=8e9, loss=1e9, passes=10e9, update=5e9,
    update_operations=2e12,
)  # fmt: skip


def step(**changes: float) -> StepCost:
    return StepCost(
        **{"counts": COUNTS, "operations": 6e14, "tokens": 1e5, "micro_batches": 1, "averaged": True} | changes
    )


@pytest.mark.parametrize(
    ("text", "machines", "each"), [("h100", 1, 1), ("8xh100", 1, 8), ("4x8xH100", 4, 8), (" 2xa100 ", 1, 2)]
)
def test_hardware_is_read(text: str, machines: int, each: int) -> None:
    result = Cluster.parse(text)
    assert (result.machines, result.each, result.devices) == (machines, each, machines * each)
    assert result.device is ACCELERATORS[text.strip().lower().split("x")[-1]]


@pytest.mark.parametrize(
    ("text", "message"), [("h10", "Did you mean 'h100'"), ("8 h100", "expects"), ("0xh100", "least")]
)
def test_what_is_no_hardware_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Cluster.parse(text)


def test_one_device_holds_what_is_kept_and_the_larger_of_passes_and_update() -> None:
    held = memory(step(), 0.5e9)
    assert held["peak"] == 0.5e9 + 4e9 + 4e9 + 6e9 + 10e9
    assert memory(step(averaged=False), 0)["peak"] == 4e9 + 6e9 + 10e9
    assert held["update"] == 1e9  # beyond the gradients


def test_gradients_of_earlier_micro_batches_are_held_beside_activations() -> None:
    assert memory(step(micro_batches=2), 0)["peak"] == 14e9 + 4e9 + 8e9 + 1e9


def test_what_follows_the_weights_is_spread_over_devices_and_activations_are_not() -> None:
    held = memory(step(micro_batches=8), 0, Spread(8, sharded=True))
    assert held["weights"] == 0.5e9 and held["optimizer"] == 0.75e9 and held["activations"] == 8e9
    assert held["peak"] == pytest.approx(14e9 / 8 + 9e9)  # parts of gradients come as activations go
    assert memory(step(micro_batches=9), 0, Spread(8, sharded=True))["peak"] == pytest.approx((14e9 + 4e9) / 8 + 9e9)


def test_processes_that_hold_all_sum_gradients_in_their_place() -> None:
    held = memory(step(micro_batches=2), 0, Spread(2))
    assert held["exchanged"] == 4 * 4 * (1 << 22)  # pieces on their way
    assert held["peak"] == 10e9 + 4e9 + 9e9
    few = step(micro_batches=2, counts=replace(COUNTS, activations=0, loss=0, passes=4e9, update=4e9))
    assert memory(few, 0, Spread(2))["peak"] == 10e9 + 4e9 + held["exchanged"]
    assert memory(step(micro_batches=2), 0, Spread(2, first=True))["peak"] == held["peak"] + 4e9  # it has the average


def test_rank_0_of_sharded_processes_keeps_a_whole_model() -> None:
    cost = step(micro_batches=2, outside=1e9, block=5e8)
    first, other = (memory(cost, 0, Spread(2, sharded=True, first=rank == 0)) for rank in range(2))
    assert other["exchanged"] == 2 * 1e9 + 4 * 5e8
    assert first["peak"] - other["peak"] == 8e9  # weights and their average
    heavy = replace(cost, counts=replace(COUNTS, optimizer=40e9, heap=1e9))  # and it saves a whole optimizer
    first, other = (memory(heavy, 0, Spread(2, sharded=True, first=rank == 0)) for rank in range(2))
    assert first["peak"] == (4e9 + 4e9 + 40e9 + 4e9) / 2 + 8e9 + 40e9 and first["heap"] == 0
    assert other["peak"] == (4e9 + 4e9 + 40e9) / 2 + 9e9 + 4e9


def test_what_fits_is_told_and_does_fit() -> None:
    cost = step(micro_batches=4, largest=4096)
    whole = memory(cost, 1e9)["peak"]
    for limit in (24e9, 26e9, whole - 1):
        tokens = tokens_within(cost, 1e9, limit, Spread())
        share = tokens / 4096
        smaller = replace(COUNTS, activations=8e9 * share, loss=1e9 * share, passes=4e9 + 6e9 * share)
        assert 0 < tokens < 4096 and memory(replace(cost, counts=smaller), 1e9)["peak"] <= limit
    assert tokens_within(cost, 1e9, 19e9, Spread()) == 0  # weights, gradients and optimizer alone take that


def test_what_to_switch_on_is_what_helps() -> None:
    cost = step(micro_batches=4, largest=4096)
    again = replace(cost, counts=replace(COUNTS, activations=1e9, passes=5e9))
    both = cures(cost, again, 0, 25e9, Spread())
    assert any("--set tokens_per_batch=" in way for way in both)
    assert any("train.activation_checkpointing=true: 20 GB" in way for way in both)
    (only,) = cures(cost, None, 0, 25e9, Spread())
    assert "tokens_per_batch" in only
    adam = replace(cost, counts=replace(COUNTS, optimizer=8e9))
    assert any("train.optimizer_bits=8" in way and "8 GB" in way for way in cures(adam, None, 0, 25e9, Spread()))
    (divided,) = cures(cost, None, 0, 15e9, Spread(4))
    assert "train.sharded=true" in divided
    (smaller,) = cures(cost, None, 0, 10e9, Spread())
    assert "A smaller --size" in smaller


def test_seconds_on_one_device_are_products_and_the_update() -> None:
    result = seconds_on(Cluster("h100"), step(), 0.4)
    update = 2e12 / (0.4 * 989e12) + (2 * (4e9 + 4e9 + 6e9) + 4e9) / 3350e9
    assert result["links"] == 0
    assert result["step"] == pytest.approx(6e14 / (0.4 * 989e12) + update)


def test_devices_share_micro_batches_and_those_left_over_wait() -> None:
    products = [seconds_on(Cluster("a100", 1, n), step(micro_batches=8), 0.5)["products"] for n in (1, 4, 8, 16)]
    assert products[0] == pytest.approx(4 * products[1]) == pytest.approx(8 * products[2])
    assert products[2] == products[3]


def test_between_machines_the_network_is_what_is_slow() -> None:
    near, far = (seconds_on(Cluster("h100", m, 16 // m), step(micro_batches=16), 0.4)["links"] for m in (1, 2))
    assert near == pytest.approx(6 * 1e9 * 15 / 16 / 450e9) and far == pytest.approx(6 * 1e9 * 15 / 16 / NETWORK)


def test_a_kilowatt_for_an_hour() -> None:
    assert kwh(1000, 3600) == 1


def test_chinchillas_own_budget_is_spent_as_chinchilla_did() -> None:
    """5.76e23 operations: 70B parameters on 1.4T tokens (arXiv 2203.15556)."""
    parameters, tokens = compute_optimal(5.76e23)
    assert parameters == pytest.approx(70e9, rel=0.02) and tokens == pytest.approx(1.4e12, rel=0.02)
    assert 6 * parameters * tokens == pytest.approx(5.76e23)


def test_the_law_has_its_least_loss_near_twenty_tokens_a_parameter() -> None:
    operations = 5.76e23
    sizes = [10 ** (9 + k / 100) for k in range(300)]
    best = min(sizes, key=lambda n: law(n, operations / 6 / n))
    assert 10 < operations / 6 / best / best < 40


def test_repeated_tokens_are_worth_less_and_less() -> None:
    assert worth(0.5, 1.0) == 0.5 and worth(1.0, 1.0) == 1.0
    assert worth(4.0, 1.0) == pytest.approx(1 + 15.387756 * (1 - math.exp(-3 / 15.387756)))
    assert worth(4.0, 1.0) / 4 > 0.9 and worth(1e6, 1.0) < 16.4  # arXiv 2305.16264: up to four passes as good as new


def test_the_best_size_grows_with_the_data_and_the_time() -> None:
    def sizes(seconds: float) -> dict[str, tuple[float, float]]:
        return {"small": (1e6, 1e5 * seconds), "large": (1e8, 1e3 * seconds)}

    assert best_size(sizes(1e3), 1e12) == "small" and best_size(sizes(1e8), 1e12) == "large"
