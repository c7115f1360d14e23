"""One step is what its formula says; faults stop it with a plain message and lose nothing."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import CONFIG, Tiny, batch, batches, digest, loss_bits, stopping_at, table, trainer

from onetrunk.core.batch import Loss
from onetrunk.core.errors import DivergedError, ResourceError, UsageError
from onetrunk.engine import trainer as module
from onetrunk.engine.checkpoint import planned_steps
from onetrunk.engine.progress import Progress
from onetrunk.engine.trainer import LEAST_STEPS, TrainConfig
from onetrunk.storage import atomic
from onetrunk.storage.tensors import load_tensors, save_tensors

PLAIN = TrainConfig(steps=4, tensorboard=False)


# -- the step ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_a_step_is_its_formula(tmp_path: Path, clip: float) -> None:
    """Sums over counts, weights by name or prefix, clipping and schedule, by hand in plain PyTorch."""
    weights = {"predict": 0.5, "predict/sign": 3.0}
    config = TrainConfig(
        ema=0.0, steps=5, optimizer="sgd", lr=0.1, weight_decay=0, clip=clip, loss_weights=weights, tensorboard=False
    )
    ours, theirs = Tiny(dropout=0), Tiny(dropout=0)
    result = trainer(tmp_path, config, module=ours, validate=None).run()

    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    for step in range(5):
        losses = theirs(batches(step, micro=1)[0])
        y, sign = losses["predict/y"], losses["predict/sign"]
        loss = 0.5 * y.sum / y.count + 3.0 * sign.sum / sign.count
        optimizer.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 5)  # 5 % of 5 steps is no warm-up
        optimizer.step()
        assert result.history[step]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("micro", [1, 3, 4, 12])
def test_accumulation_is_one_big_batch(tmp_path: Path, micro: int) -> None:
    """In float64, where only the order of additions differs. Counts differ between micro-batches."""
    config = TrainConfig(steps=6, optimizer="adamw", precision="fp32", tensorboard=False)

    def run(parts: int) -> Tiny:
        module = Tiny(dropout=0).double()
        x = table().double()

        def make(step: int):
            rows = batches(step, micro=1)[0].row
            return [batch(part, x) for part in np.array_split(rows, parts)]

        trainer(tmp_path / str(parts), config, make, module, validate=None).run()
        return module

    for p, q in zip(run(micro).parameters(), run(2).parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


def test_dropout_is_keyed_by_seed_step_and_micro_batch(tmp_path: Path) -> None:
    def first_losses(name: str, seed: int) -> list[dict[str, float]]:
        run = trainer(tmp_path / name, PLAIN, validate=None)
        run.seed = seed
        torch.manual_seed(hash(name))  # the running state must not matter
        return [record["losses"] for record in run.run().history]

    assert first_losses("a", 1) == first_losses("b", 1)
    assert first_losses("a2", 1) != first_losses("c", 2)


def test_the_average_follows_its_formula_and_is_what_is_validated_and_left(tmp_path: Path) -> None:
    config = TrainConfig(steps=6, ema=0.7, validate_every=1, tensorboard=False)
    seen, weights = [], []
    module = Tiny()
    weight = module.out.weight

    def make(step: int):
        weights.append(weight.detach().clone())
        return batches(step)

    def validate():
        seen.append(weight.detach().clone())
        return float(len(seen)), True, {}

    trainer(tmp_path, config, make, module, validate=validate).run()
    expected = weights[0].clone()
    for step in range(1, 6):
        decay = min(0.7, (1 + step - 1) / (10 + step - 1))
        expected = decay * expected + (1 - decay) * weights[step]
        torch.testing.assert_close(seen[step - 1], expected)
        assert not torch.equal(seen[step - 1], weights[step])
    assert torch.equal(weight, seen[-1])  # the last was the best


def test_a_loss_with_a_count_its_batch_does_not_know_is_a_bug_not_a_silence(tmp_path: Path) -> None:
    def make(step: int):
        return [batch(np.arange(4))]

    run = trainer(tmp_path, PLAIN, make, validate=None)
    real = run.module.forward
    run.module.forward = lambda b: real(b) | {"extra": Loss(torch.tensor(1.0), torch.tensor(4.0))}
    with pytest.raises(ValueError, match="'extra'"):
        run.run()


# -- validation --------------------------------------------------------------------------------------------
def metrics_at(values: dict[int, float], higher: bool):
    """A validation that answers what the table says of the step."""

    def attach(run):
        run.validate = lambda: (values[run.step], higher, {"seen": values[run.step]})
        return run

    return attach


@pytest.mark.parametrize(("higher", "best"), [(True, 6), (False, 2)])
def test_the_best_validated_weights_are_left(tmp_path: Path, higher: bool, best: int) -> None:
    config = TrainConfig(steps=8, validate_every=2, tensorboard=False)
    attach = metrics_at({2: 1.0, 4: 2.0, 6: 3.0, 8: float("nan")}, higher)
    run = attach(trainer(tmp_path / "a", config))
    result = run.run()
    assert (result.best_step, result.best_metric) == (best, {2: 1.0, 6: 3.0}[best])
    shapes = {n: tuple(t.shape) for n, t in run.module.state_dict().items()}
    left = run.checkpoints.best(shapes)
    assert all(torch.equal(left[n], t) for n, t in run.module.state_dict().items())
    last = load_tensors(tmp_path / "a/checkpoints/step-8/model.safetensors")
    assert not torch.equal(left["out.weight"], last["out.weight"])
    assert not run.module.training


def test_patience_stops_early(tmp_path: Path) -> None:
    config = TrainConfig(steps=20, validate_every=2, patience=3, tensorboard=False)
    attach = metrics_at({2: 1.0, 4: 5.0, 6: 4.0, 8: 5.0, 10: 4.0, 12: 9.0}, True)
    result = attach(trainer(tmp_path, config)).run()
    assert (result.step, result.best_step) == (10, 4)
    again = attach(trainer(tmp_path, config)).run()  # a finished run has nothing to do
    assert (again.step, again.best_step, again.history) == (10, 4, result.history)


def test_a_run_whose_steps_become_slow_ends_in_time_with_its_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another program takes the cores: the steps were planned before."""
    seconds = itertools.count(0.0, 10.0)  # as often as it is asked what time it is
    clock = SimpleNamespace(monotonic=lambda: next(seconds), perf_counter=time.perf_counter)
    config = TrainConfig(steps=60, validate_every=30, tensorboard=False)
    with monkeypatch.context() as patched:
        patched.setattr(module, "time", clock)
        told: list[str] = []
        run = trainer(tmp_path, config, limit=25.0, progress=Progress("", lambda event: told.append(str(event))))
        result = run.run()
    ended = LEAST_STEPS + 2
    assert result.step == result.best_step == ended, "and it was validated there, before its time"
    assert any(f"Ending after {ended} of 60 steps" in note for note in told)
    straight = trainer(tmp_path / "straight", TrainConfig(steps=60, validate_every=30, tensorboard=False)).run()
    assert straight.step == 60, "without a limit"


# -- faults ------------------------------------------------------------------------------------------------
def poisoned(step: int):
    out = batches(step)
    if step == 3:
        out[1].x = out[1].x.clone()
        out[1].x[2] = float("nan")
    return out


def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_the_rows(tmp_path: Path) -> None:
    run = trainer(tmp_path / "a", make_batches=poisoned)
    bad = int(batches(3)[1].row[2])
    with pytest.raises(DivergedError, match=rf"step 3: the loss 'predict/\w+' is nan, in table rows {bad}\. "):
        run.run()
    assert json.loads((tmp_path / "a/bad_step.json").read_text())["rows"] == [bad]
    stopped = trainer(tmp_path / "b", make_batches=stopping_at(3))
    stopped.run()
    assert digest(run.module) == digest(stopped.module)  # weights as after step 3, to the bit
    atomic.verify(tmp_path / "a/checkpoints/step-3")


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    run = trainer(tmp_path, PLAIN, validate=None)
    before = digest(run.module)
    real = run.module.forward

    def forward(b):
        losses = real(b)
        zero = (run.module.out.bias * 0).sum()
        losses["predict/y"].sum = losses["predict/y"].sum + torch.sqrt(zero)  # 0, with an infinite slope
        return losses

    run.module.forward = forward
    rows = np.unique(np.concatenate([b.row for b in batches(0)]))
    with pytest.raises(DivergedError, match=r"the loss is finite but the gradient of 'out\.bias' is not"):
        run.run()
    assert json.loads((tmp_path / "bad_step.json").read_text())["rows"] == rows.tolist()
    assert digest(run.module) == before


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_out_of_memory_is_said_with_a_way_out(tmp_path: Path, error: Exception) -> None:
    run = trainer(tmp_path, PLAIN, validate=None)

    def forward(b):
        raise error

    run.module.forward = forward
    with pytest.raises(ResourceError, match=r"step 0, after a peak of .* GB.*largest.* 48 tokens; try 24"):
        run.run()


def test_another_runtime_error_stays_a_bug(tmp_path: Path) -> None:
    run = trainer(tmp_path, PLAIN, validate=None)

    def forward(b):
        raise RuntimeError("shapes differ")

    run.module.forward = forward
    with pytest.raises(RuntimeError, match="shapes differ"):
        run.run()


def test_a_full_disk_keeps_the_checkpoints_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = trainer(tmp_path / "straight")
    straight.run()
    real = save_tensors

    def save(path: Path, tensors) -> None:
        if "step-6" in str(path) and path.name.startswith("optimizer"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, tensors)

    with monkeypatch.context() as patch:
        patch.setattr("onetrunk.engine.checkpoint.save_tensors", save)
        with pytest.raises(ResourceError, match="step-6"):
            trainer(tmp_path / "full").run()
    assert sorted(p.name for p in (tmp_path / "full/checkpoints").iterdir()) == ["best", "step-3"]
    resumed = trainer(tmp_path / "full")  # after space was made
    resumed.run()
    assert digest(resumed.module) == digest(straight.module)
    assert loss_bits(tmp_path / "full") == loss_bits(tmp_path / "straight")


def test_a_full_disk_for_the_log_is_said(tmp_path: Path) -> None:
    run = trainer(tmp_path, PLAIN, validate=None)
    os.symlink("/dev/full", tmp_path / "metrics.jsonl.tmp")
    with pytest.raises(ResourceError, match=r"No space to write .*metrics\.jsonl"):
        (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n')
        run.run()


# -- signals -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_so(tmp_path: Path, number: int) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]

    def make(step: int):
        if step == 4:
            os.kill(os.getpid(), number)
        return batches(step)

    result = trainer(tmp_path, make_batches=make).run()
    assert (result.step, result.interrupted) == (5, number)
    atomic.verify(tmp_path / "checkpoints/step-5")
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_signal_aborts_and_the_old_checkpoint_is_intact(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)

    def make(step: int):
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return batches(step)

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, make_batches=make).run()
    assert signal.getsignal(signal.SIGINT) is before
    assert [p.name for p in (tmp_path / "checkpoints").glob("step-*")] == ["step-3"]
    atomic.verify(tmp_path / "checkpoints/step-3")


def test_it_trains_outside_the_main_thread(tmp_path: Path) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(trainer(tmp_path, PLAIN).run()))
    thread.start()
    thread.join()
    assert results[0].step == 4


# -- configuration -----------------------------------------------------------------------------------------
def test_a_changed_configuration_is_refused_unless_it_moves_no_weight(tmp_path: Path) -> None:
    trainer(tmp_path, make_batches=stopping_at(3)).run()
    for change in ({"lr": 1e-4}, {"steps": 13}, {"ema": 0.0}, {"loss_weights": {}}):
        (key,) = change
        with pytest.raises(UsageError, match=rf"another configuration \({key}: .* -> .*\).*--overwrite"):
            trainer(tmp_path, CONFIG.updated(**change)).run()
    with pytest.raises(UsageError, match="seed: 3 -> 4"):
        run = trainer(tmp_path)
        run.seed = 4
        run.run()
    with pytest.raises(UsageError, match=r"\(table: None -> 'another'\)"):
        trainer(tmp_path, identity={"table": "another"}).run()
    assert planned_steps(tmp_path) == 12 and planned_steps(tmp_path / "nowhere") is None
    assert trainer(tmp_path, CONFIG.updated(save_every=5, keep=3)).run().step == 12


def test_starting_anew_forgets_the_old_run(tmp_path: Path) -> None:
    trainer(tmp_path, make_batches=stopping_at(5)).run()
    run = trainer(tmp_path, CONFIG.updated(lr=1e-4), resume=False)
    result = run.run()
    fresh = trainer(tmp_path / "fresh", CONFIG.updated(lr=1e-4))
    fresh.run()
    assert digest(run.module) == digest(fresh.module)
    assert [r["step"] for r in result.history if "losses" in r] == list(range(1, 13))


def test_tensorboard_and_history_hold_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = trainer(tmp_path, CONFIG.updated(tensorboard=True)).run()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = {r["step"]: r["losses"]["predict/y"] for r in result.history if "losses" in r}
    assert {e.step: e.value for e in board.Scalars("losses/predict/y")} == pytest.approx(losses)
    validated = {r["step"]: r["validation"]["metric"] for r in result.history if "validation" in r}
    assert {e.step: e.value for e in board.Scalars("validation/metric")} == pytest.approx(validated)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.history
