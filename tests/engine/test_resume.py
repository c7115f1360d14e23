"""A run that was stopped, killed or damaged ends with the same bits as one that was not."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, batches, digest, loss_bits, stopping_at, trainer

from onetrunk.core.errors import ModelFileError
from onetrunk.engine import mode
from onetrunk.engine.checkpoint import Checkpoints
from onetrunk.storage import atomic
from onetrunk.storage.strict_json import read_json, write_json
from onetrunk.storage.tensors import load_tensors, save_tensors

HERE = Path(__file__).parent
SCORES = {4: 3.0, 8: 1.0, 12: 2.0}  # the best is the first: a run resumed after it must remember


def run_to_the_end(place: Path, **rest) -> tuple:
    """Everything a run leaves that must not depend on where it was stopped."""
    run = trainer(place, **rest)
    run.validate = lambda: (SCORES[run.step], True, {})
    result = run.run()
    averaged = load_tensors(place / "checkpoints/step-12/average.safetensors")
    last = load_tensors(place / "checkpoints/step-12/model.safetensors")
    hashes = [{n: t.numpy().tobytes() for n, t in part.items()} for part in (averaged, last)]
    totals = (result.tokens, run.totals["documents"], run.waited)
    return digest(run.module), hashes, loss_bits(place), result.best_step, totals


def stop_at(place: Path, step: int, **rest) -> None:
    """Trains until `step` updates are done, then stops as a signal would make it."""
    run = trainer(place, make_batches=stopping_at(step), **rest)
    run.validate = lambda: (SCORES[run.step], True, {})
    assert run.run().step == step


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return run_to_the_end(tmp_path_factory.mktemp("straight"))


@pytest.mark.parametrize("step", range(1, 13))
def test_every_stop_step_ends_with_the_same_bits(tmp_path: Path, straight: tuple, step: int) -> None:
    stop_at(tmp_path, step)
    assert run_to_the_end(tmp_path) == straight


def test_two_stops_in_a_row(tmp_path: Path, straight: tuple) -> None:
    stop_at(tmp_path, 5)
    stop_at(tmp_path, 10)
    assert run_to_the_end(tmp_path) == straight


@pytest.mark.parametrize("name", ["sgd", "momentum", "adagrad", "adam", "adamw"])
def test_every_optimizer_resumes(tmp_path: Path, name: str) -> None:
    config = CONFIG.updated(optimizer=name)
    stop_at(tmp_path / "cut", 7, config=config)
    whole = run_to_the_end(tmp_path / "whole", config=config)
    assert run_to_the_end(tmp_path / "cut", config=config) == whole


@pytest.mark.parametrize("forgotten", [False, True])
def test_learnt_weights_and_merged_gradients_resume(tmp_path: Path, forgotten: bool) -> None:
    config = CONFIG.updated(balance="learnt", merge="pcgrad")
    trainer(tmp_path / "straight", config).run()
    trainer(tmp_path / "stopped", config, stopping_at(7)).run()
    if forgotten:
        edit_state(tmp_path / "stopped/checkpoints/step-7", levels={})
    trainer(tmp_path / "stopped", config).run()
    assert (loss_bits(tmp_path / "stopped") == loss_bits(tmp_path / "straight")) != forgotten


def test_bf16_resumes_and_keeps_its_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIG.updated(precision="bf16")
    whole = run_to_the_end(tmp_path / "whole", config=config)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/checkpoints/step-12")
    monkeypatch.setattr("onetrunk.engine.mode.has_fast_bf16", lambda device: False)  # another machine
    assert run_to_the_end(tmp_path / "cut", config=config) == whole


@pytest.mark.parametrize("kept", [True, False])
def test_what_the_clock_said_is_kept_before_the_first_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Killed at the second step, before any checkpoint of its own, and begun again when the clock says otherwise."""

    def clock(bf16: bool):
        def decide(before: mode.Mode, *_: object) -> mode.Mode:
            return replace(before, autocast=bf16, reason="by the clock", timed=kept)

        monkeypatch.setattr("onetrunk.engine.trainer.decide", decide)

    def dies(step: int) -> list:
        if step == 1:
            raise KeyboardInterrupt
        return batches(step)

    clock(bf16=True)
    whole = run_to_the_end(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "cut", make_batches=dies).run()
    clock(bf16=False)
    assert (run_to_the_end(tmp_path / "cut") == whole) == kept


def test_save_load_save_is_byte_identical(tmp_path: Path) -> None:
    stop_at(tmp_path, 7)
    path = tmp_path / "checkpoints/step-7"
    before = {f.name: f.read_bytes() for f in path.iterdir()}
    run = trainer(tmp_path)
    run._prepare()
    run._saved = -1
    run._save()
    assert {f.name: f.read_bytes() for f in path.iterdir()} == before


# -- negative controls: each item of the state, left out or reset, must be seen ------------------------------
def edit_state(checkpoint: Path, **changes: object) -> None:
    """Rewrites state.json and its manifest, as a version that forgot something would have written them."""
    tensors = {f.name: f.read_bytes() for f in checkpoint.glob("*.safetensors")}
    state = read_json(checkpoint / "state.json")
    state.update(changes)

    def write(staging: Path) -> None:
        for name, content in tensors.items():
            (staging / name).write_bytes(content)
        write_json(staging / "state.json", state)

    atomic.commit(checkpoint, write, replace=True)


def edit_tensors(checkpoint: Path, part: str, edit) -> None:
    tensors = load_tensors(checkpoint / f"{part}.safetensors")

    def write(staging: Path) -> None:
        save_tensors(staging / f"{part}.safetensors", {n: edit(n, t) for n, t in tensors.items()})

    atomic.add_files(checkpoint, write)


FORGET = {
    "the first moments": lambda c: edit_tensors(c, "optimizer", lambda n, t: t * 0 if n.endswith("exp_avg") else t),
    "the second moments": lambda c: edit_tensors(c, "optimizer", lambda n, t: t * 0 + 1 if n.endswith("_sq") else t),
    "the step of AdamW": lambda c: edit_tensors(c, "optimizer", lambda n, t: t * 0 if n.endswith(".step") else t),
    "the momentum of Muon": lambda c: edit_tensors(c, "optimizer", lambda n, t: t * 0 if n.endswith("buffer") else t),
    "the average": lambda c: edit_tensors(c, "average", lambda n, t: t * 0),
    "one bit of one weight": lambda c: edit_tensors(
        c, "model", lambda n, t: torch.nextafter(t, t + 1) if n == "out.bias" else t
    ),
    "the step": lambda c: edit_state(c, step=6),
    "the best": lambda c: edit_state(c, best=None),
    "the wait": lambda c: edit_state(c, waited=0),
    "what was validated": lambda c: edit_state(c, validated=0),
    "the totals": lambda c: edit_state(c, totals={"tokens": 0, "documents": 0, "seconds": 0.0}),
}


@pytest.mark.parametrize("item", [None, *FORGET])
def test_forgetting_any_item_of_the_state_is_seen(tmp_path: Path, straight: tuple, item: str | None) -> None:
    stop_at(tmp_path, 9)
    checkpoint = tmp_path / "checkpoints/step-9"
    edit_state(checkpoint)  # rewriting alone changes nothing
    if item is not None:
        FORGET[item](checkpoint)
    assert (run_to_the_end(tmp_path) == straight) == (item is None)


STATE = [
    "step",
    "seed",
    "identity",
    "config",
    "mode",
    "best",
    "waited",
    "validated",
    "totals",
    "levels",
    "optimizer",
]


@pytest.mark.parametrize("key", STATE)
def test_a_missing_item_is_an_error_never_a_silence(tmp_path: Path, key: str) -> None:
    stop_at(tmp_path, 5)
    checkpoint = tmp_path / "checkpoints/step-5"
    state = read_json(checkpoint / "state.json")
    del state[key]
    atomic.add_files(checkpoint, lambda staging: write_json(staging / "state.json", state))
    with pytest.raises(ModelFileError, match=f"lacks '{key}'"):
        trainer(tmp_path).run()


@pytest.mark.parametrize("part", ["model", "optimizer", "average"])
def test_a_missing_tensor_is_an_error(tmp_path: Path, part: str) -> None:
    stop_at(tmp_path, 5)
    path = tmp_path / "checkpoints/step-5"
    tensors = load_tensors(path / f"{part}.safetensors")
    name = sorted(tensors)[0]
    del tensors[name]
    atomic.add_files(path, lambda staging: save_tensors(staging / f"{part}.safetensors", tensors))
    with pytest.raises(ModelFileError, match=f"'{name}' is missing"):
        trainer(tmp_path).run()


# -- damage --------------------------------------------------------------------------------------------------
def test_damage_of_any_kind_is_found_and_an_older_checkpoint_is_taken(tmp_path: Path) -> None:
    """50 seeded mutations of one file of the newest checkpoint."""
    stop_at(tmp_path, 7)
    place = tmp_path / "checkpoints"
    good = {f.name: f.read_bytes() for f in (place / "step-7").iterdir()}
    draw = random.Random(1)
    for _ in range(50):
        name = draw.choice(sorted(good))
        bad = bytearray(good[name])
        kind = draw.choice(["flip", "cut", "grow", "remove"])
        if kind == "flip":
            bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del bad[draw.randrange(len(bad)) :]
        elif kind == "grow":
            bad += b"x"
        (place / "step-7" / name).write_bytes(bad)
        if kind == "remove":
            (place / "step-7" / name).unlink()
        warnings: list[str] = []
        assert Checkpoints(place).latest(warnings.append) == place / "step-6", (name, kind)
        assert len(warnings) == 1 and "step-7 is not used" in warnings[0]
        (place / "step-7" / name).write_bytes(good[name])
    assert Checkpoints(place).latest(lambda message: pytest.fail(message)) == place / "step-7"


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_run_goes_on_from_an_older_checkpoint_to_the_same_end(tmp_path: Path, straight: tuple, name: str) -> None:
    stop_at(tmp_path, 7)
    (tmp_path / "checkpoints/step-7" / name).write_bytes(b"")
    assert run_to_the_end(tmp_path) == straight


def test_when_all_are_damaged_it_stops(tmp_path: Path) -> None:
    stop_at(tmp_path, 7)
    for checkpoint in (tmp_path / "checkpoints").glob("step-*"):
        (checkpoint / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"Every checkpoint in .* is damaged.*Delete that folder"):
        trainer(tmp_path).run()


def test_newest_is_by_step_and_the_last_few_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (8, 9, 10):
        checkpoints.save(step, {"model": {"w": torch.ones(step)}}, {})
    os.utime(tmp_path / "step-9", (2e9, 2e9))  # a clock that jumped
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-10", "step-9"]
    assert checkpoints.latest(pytest.fail) == tmp_path / "step-10"
    checkpoints.save(4, {"model": {"w": torch.ones(4)}}, {})  # after falling back behind damaged ones
    assert (tmp_path / "step-4").exists()


def test_what_a_killed_save_left_is_swept(tmp_path: Path) -> None:
    stop_at(tmp_path, 5)
    leftover = tmp_path / "checkpoints" / ("step-9.tmp-" + "0" * 32)
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    Checkpoints(tmp_path / "checkpoints")
    assert not leftover.exists()


# -- kill -9 and signals, in processes of their own ---------------------------------------------
def script(name: str, *arguments: object) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def outcome(place: Path) -> tuple:
    run = trainer(place)
    run.run()
    return digest(run.module), loss_bits(place)


@pytest.mark.parametrize("mode", ["writes", "random"])
def test_kill_9_at_any_instant_then_the_same_bits(tmp_path: Path, mode: str) -> None:
    """`killed.py` kills runs in every phase of a save, or at 20 random instants; here they are finished."""
    process = script("killed.py", mode, tmp_path / "killed")
    kills = int(process.communicate(timeout=300)[0])
    assert process.returncode == 0 and kills >= 10
    expected = outcome(tmp_path / "straight")
    places = list((tmp_path / "killed").iterdir())
    assert len(places) >= 5
    for place in places:
        assert outcome(place) == expected
        assert not [p for p in (place / "checkpoints").iterdir() if "-" in p.name.partition(".")[2]]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_from_outside_saves_and_the_run_goes_on(tmp_path: Path, number: int, code: int) -> None:
    process = script("tiny.py", tmp_path / "a", "--slow", 0.05)
    log = tmp_path / "a/metrics.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= 2):
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    done = json.loads(log.read_text().splitlines()[-1])["step"]
    assert done < 12
    atomic.verify(tmp_path / f"a/checkpoints/step-{done}")
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
