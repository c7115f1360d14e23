"""Runs of several processes end as a run of one does, over the same micro-batches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks import KINDS, LOST
from tiny import CONFIG, digest, loss_bits, trainer
from torch import Tensor

from onetrunk.engine.losses import Gradients
from onetrunk.engine.shares import add_up, fold, presence, shares_of
from onetrunk.engine.world import World

HERE = Path(__file__).parent


def ranks(scenario: str, place: Path) -> Any:
    done = subprocess.run(
        [sys.executable, str(HERE / "ranks.py"), scenario, str(place)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_kind_of_step_has_the_same_bits_on_one_rank_two_and_four(tmp_path: Path) -> None:
    """Also where ranks have different numbers of micro-batches, or none, and a part of the model is one rank's only."""
    found = ranks("equal", tmp_path)
    for name, other in (("two", "one"), ("four", "one"), ("four-shares", "one-of-four")):
        for kind, end in found[name].items():
            assert end == found[other][kind], (name, kind)
    assert found["two"].keys() == {*KINDS, "diverged", "dry"}
    assert "in table rows" in found["two"]["diverged"][0]


def test_sharded_weights_are_those_of_one_process(tmp_path: Path) -> None:
    """By Muon, AdamW and SGD, with PCGrad, losses in turn and a critic; averaged, validated, saved and gone on with."""
    found = ranks("sharded", tmp_path)
    for name in ("two", "four", "again"):
        for kind, theirs in found[name].items():
            for part, expected in found["one"][kind].items():
                assert theirs[part].keys() == expected.keys()
                for key, value in expected.items():
                    np.testing.assert_allclose(
                        theirs[part][key], value, rtol=1e-5, atol=1e-6, err_msg=f"{name} {kind} {key}"
                    )
    assert any(".momentum_buffer" in key for key in found["two"]["sum"]["optimizer"]), "Muon's"


def test_gradients_of_sharded_weights_are_added_in_the_order_of_ranks(tmp_path: Path) -> None:
    found = ranks("sums", tmp_path)
    assert found["kept"] == found["expected"]


def test_state_in_8_bits_is_divided_as_its_parameter_is(tmp_path: Path) -> None:
    for divided, whole in ranks("eight_bits", tmp_path):
        assert divided == whole and set(whole) == {"exp_avg", "exp_avg_scales"}


def test_a_rank_that_is_killed_ends_the_run_which_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    run = trainer(tmp_path / "straight", CONFIG.updated(shares=2))
    run.run()
    straight = [digest(run.module), [list(each) for each in loss_bits(tmp_path / "straight")]]
    for killed, codes, seconds, end in ranks("kill", tmp_path):
        assert codes[killed] == -9 and codes[1 - killed] == LOST and seconds < 60
        assert end == straight


def test_a_rank_that_hangs_is_not_waited_for_longer_than_told(tmp_path: Path) -> None:
    code, seconds = ranks("hang", tmp_path)
    assert code == LOST and 2 < seconds < 60


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux tells which threads there are")
def test_no_thread_of_a_group_outlives_it(tmp_path: Path) -> None:
    """One that puts its last message away while the interpreter goes would abort the process."""
    assert ranks("left", tmp_path) == [1, 1]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("shares", [1, 2, 4, 5])
def test_every_share_has_one_rank(size: int, shares: int) -> None:
    assert [share for rank in range(size) for share in shares_of(rank, size, shares)] == list(range(shares))


def test_shares_are_added_in_order_and_what_is_missing_is_zero() -> None:
    parameters = [torch.zeros(3), torch.zeros(2)]
    values = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    shares: list[Gradients] = [{"a": [torch.from_numpy(row), None]} for row in values]
    shares[1]["b"] = [None, torch.ones(2)]
    total: Gradients | None = None
    for share in shares:
        total = fold(total, share, parameters)
    assert total is not None
    torch.testing.assert_close(total["a"][0], torch.from_numpy((values[0] + values[1]) + values[2]), rtol=0, atol=0)
    assert total["a"][1] is None and total["b"][0] is None and torch.equal(total["b"][1], torch.ones(2))


class Mirror(World):
    """A world of one, in which what is sent comes back."""

    def _swap(self, received: Tensor, pieces: Tensor, got: list[int], sent: list[int]) -> None:
        received.copy_(pieces)


@pytest.mark.parametrize("shares", [1, 2])
@pytest.mark.parametrize("at_once", [4, 7, 1000])
def test_sums_take_the_place_of_gradients_unless_something_else_reads_them(
    at_once: int, shares: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onetrunk.engine.shares._AT_ONCE", at_once)
    draw = torch.Generator().manual_seed(0)
    sizes = [(2, 3), (3, 5), (5,), (5,), (4,), (0,)]
    parameters = [torch.zeros(size) for size in sizes]

    def share() -> Gradients:
        whole, turned, twice = (torch.randn(size, generator=draw) for size in ((2, 3), (5, 3), (5,)))
        return {
            "a": [whole, turned.T, twice, twice, None, torch.zeros(0)],
            "b": [None, None, None, whole[0, 0] * twice, None, None],
        }

    own = [share() for _ in range(shares)]
    own[-1]["b"][4] = torch.randn(4, generator=draw)
    expected: Gradients | None = None
    for each in own:
        expected = fold(
            expected, {name: [None if g is None else g.clone() for g in of] for name, of in each.items()}, parameters
        )
    whole = own[0]["a"][0]
    total = add_up(Mirror(), own, [[presence(each) for each in own]], parameters)
    assert expected is not None and total.keys() == expected.keys()
    for name, gradients in expected.items():
        for ours, theirs in zip(total[name], gradients, strict=True):
            assert (ours is None) == (theirs is None) and (ours is None or torch.equal(ours, theirs))
    assert total["a"][0] is whole
