"""Kills: a command that is killed at any moment, or before any file operation, and given again, ends as if nothing had
been; with the same bits, complete, and nothing left over.

At a random moment it is killed. Before a file operation it is halted, for one run then shows all of these moments: what
is on the disk is copied, and the same command begins there, in a process that knows nothing of the first."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onetrunk
from bench.trials.attempts import DONE, KILLED, REFUSED, Limits, Outcome, attempt
from bench.trials.checks import Checks
from onetrunk.core.errors import OnetrunkError
from onetrunk.storage import atomic

QUICK = ["pretrain.steps=3", "finetune.steps=3", "finetune.folds=2", "train.tensorboard=false", "train.save_every=1",
         "finetune.wide=false"]  # fmt: skip
# What tells of a run, with what it took: it must be there, and what is computed with must be the same.
_TOLD = {"README.md", "manifest.json", "metrics.jsonl", "provenance.json", "report.html"}
_TIMED = re.compile(r"second|time|date|created|_per_|memory|version|^(cost|made)$")  # keys of JSON
_MOST_TIMES = 3  # that one attempt is killed
READY = "ready"  # the folder of what commands begin with


def table(rows: int = 60) -> dict[str, list[Any]]:
    return {
        "review": [f"{['warm', 'cold'][i % 2]} room {i}" for i in range(rows)],
        "price": [80.5 + (i * 37) % 23 for i in range(rows)],
        "label": [["good", "bad"][i % 2] for i in range(rows)],
    }


def _told(*more: str, **rest: Any) -> dict[str, Any]:
    return {"out": "m", "size": "nano", "settings": [*QUICK, *more], "quiet": True, **rest}


def _train(verb: str, *more: str, rows: int = 60, **rest: Any) -> Callable[[], Any]:
    rest = {"ask": ["label"], **rest} if verb != "pretrain" else rest
    return lambda: getattr(onetrunk, verb)(table(rows), **_told(*more) | rest)


@dataclass(frozen=True)
class Setting:
    """A command, run in a folder that holds `begins` of what `prepare` made."""

    run: Callable[[], Any]
    begins: tuple[str, ...] = ()
    made: str = "m/model.safetensors"  # whose bits must be the same in any case


_START = {"start": "foundation", "size": None}
# How long simple models search depends on the clock: their bits are not looked at where they differ of themselves.
_WIDE: dict[str, Any] = {
    "settings": [each for each in QUICK if not each.startswith(("pretrain", "finetune.wide"))],
    "rows": 240,
}
SETTINGS: dict[str, Setting] = {
    "pretrain": Setting(_train("pretrain")),
    "pretrain, cached": Setting(_train("pretrain", "cache=cached")),
    "pretrain, accumulated, averaged, with dropout": Setting(
        _train("pretrain", "tokens_per_batch=128", "train.ema=0.9", "trunk.dropout=0.1")
    ),
    "pretrain over a model": Setting(_train("pretrain", overwrite=True, seed=2), ("m",)),
    "finetune": Setting(_train("finetune")),
    "finetune a model": Setting(_train("finetune", **_START), ("foundation",)),
    "finetune by LoRA": Setting(
        _train("finetune", "finetune.lora.rank=4", **_START), ("foundation",), "m/adapter/adapter_model.safetensors"
    ),
    "finetune two columns, with TensorBoard": Setting(
        _train("finetune", "train.tensorboard=true", ask=["label", "price"])
    ),
    "finetune over a model": Setting(_train("finetune", overwrite=True, seed=2), ("m",)),
    "train": Setting(_train("train")),
    "train beside simple models": Setting(_train("train", **_WIDE)),
    "train over a model": Setting(_train("train", overwrite=True, seed=2), ("m",)),
    "train, cached, with TensorBoard": Setting(_train("train", "cache=cached", "train.tensorboard=true")),
    "evaluate": Setting(
        lambda: onetrunk.evaluate("m", table(), allow_equal_rows=True, quiet=True) and None, ("m",),
        "m/evidence/metrics.json",
    ),
    "predict to CSV": Setting(
        lambda: onetrunk.predict("m", table(), out="answers.csv", quiet=True) is None, ("m",), "answers.csv"
    ),
    "predict to Parquet": Setting(
        lambda: onetrunk.predict("m", table(), out="answers.parquet", quiet=True) is None, ("m",), "answers.parquet"
    ),
    "import": Setting(lambda: onetrunk.import_("checkpoint", out="m", quiet=True) and None, ("checkpoint",)),
    "export": Setting(
        lambda: onetrunk.export("imported", {"text": ["the room was clean", "a small boat"]}, to="huggingface", out="m",
                                quiet=True) and None,
        ("imported",),
    ),
}  # fmt: skip


def prepare(place: Path) -> None:
    """What commands begin with, in a folder of `place`, and every module they import: a fork then starts at once."""
    from bench.trials import checkpoints

    ready = place / READY
    ready.mkdir(parents=True)
    os.chdir(ready)
    onetrunk.train(table(), **_told(ask=["label"], seed=1) | {"out": "m"})
    shutil.rmtree("m-foundation")
    onetrunk.pretrain(table(), **_told(seed=1) | {"out": "foundation"})
    checkpoints.write("qwen2", Path("checkpoint"))
    onetrunk.import_("checkpoint", out="imported", quiet=True)


def ended_as(place: Path) -> dict[str, str]:
    """Every file there, and a digest of what it holds, but for what it tells of the run."""
    files = (path for path in sorted(place.rglob("*")) if path.is_file() and "tensorboard" not in path.parts)
    return {path.relative_to(place).as_posix(): _digest(path) for path in files}


def _digest(path: Path) -> str:
    if path.name in _TOLD or path.suffix == ".png":
        return ""
    data = path.read_bytes()
    if path.suffix == ".json":
        data = json.dumps(_untimed(json.loads(data))).encode()
    return hashlib.sha256(data).hexdigest()


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(each) for key, each in value.items() if not _TIMED.search(key)}
    return [_untimed(each) for each in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Whole:
    """What a command leaves that nothing disturbs: what it leaves alike twice is the same in every run."""

    names: frozenset[str]
    same: dict[str, str]
    seconds: float
    operations: int


class Kills:
    """All kills of one setting. What is disturbed goes on in `place`; commands that are halted stand beside it."""

    def __init__(self, name: str, ready: Path, place: Path, limits: Limits, checks: Checks) -> None:
        self.name, self.setting, self.ready = name, SETTINGS[name], ready
        self.place, self.halted = place / "now", place / "halted"
        self.limits, self.checks = limits, checks

    def undisturbed(self) -> Whole:
        ends: list[tuple[Outcome, dict[str, str]]] = []
        for _ in range(2):
            self._begin(self.place)
            outcome = self._attempt(self.place)
            ends.append((outcome, ended_as(self.place)))
            self.checks.add("undisturbed runs", self.name, outcome.kind == DONE, outcome)
        (first, one), (second, other) = ends
        same = {file: digest for file, digest in one.items() if other.get(file) == digest}
        alike = self.setting.made in same and one.keys() == other.keys()
        self.checks.add("undisturbed runs are alike", self.name, alike, first,
                        f"{self.setting.made} twice the same; {sorted(one.keys() ^ other.keys())}")  # fmt: skip
        return Whole(frozenset(one), same, max(first.seconds, second.seconds), first.operations)

    def at_random(self, whole: Whole, number: int) -> None:
        """One attempt: killed once or more, then given again until it ends."""
        dice = self.checks.dice("kills at random", f"{self.name}/{number}")
        self._begin(self.place)
        for _ in range(dice.choice([1, 1, 1, 2, _MOST_TIMES])):
            outcome = self._attempt(self.place, dice.uniform(0, 1.05 * whole.seconds))
            if outcome.kind != KILLED:
                break
        ended = outcome if outcome.kind == DONE else self._attempt(self.place)
        self._judge("kills at random", f"{self.name}/{number}", whole, ended)

    def at_operations(self, whole: Whole, every: int) -> None:
        """The command is halted before each n-th of its file operations, and given again beside, where what is on the
        disk then is all that there is. Where an operation has changed nothing, so has the one after it the same end."""
        first = self.checks.dice("operations", self.name).randrange(every) + 1
        before: dict[str, str] = {}
        ended: Outcome | None = None

        def halted(operation: int) -> None:
            nonlocal before, ended
            if operation % every != first % every:
                return
            there = left_as(self.halted)
            if ended is None or there != before:
                before = there
                _copy(self.halted, self.place)
                ended = self._attempt(self.place)
            self._judge("kills before a file operation", f"{self.name} at {operation}", whole, ended)

        self._begin(self.halted)
        outcome = self._attempt(self.halted, before=halted)
        self.checks.add("commands halted at each operation end", self.name, outcome.kind == DONE, outcome)

    def _judge(self, kind: str, name: str, whole: Whole, ended: Outcome) -> None:
        finished_before = ended.kind == REFUSED and "already exists" in ended.said
        problems = [] if ended.kind == DONE or finished_before else [f"the same command: {ended.kind}"]
        problems += self._problems(whole)
        self.checks.add(kind, name, not problems, ended, "; ".join(problems))

    def _problems(self, whole: Whole) -> list[str]:
        found = ended_as(self.place)
        out = [
            f"other bits in {file}" for file, digest in whole.same.items() if file in found and found[file] != digest
        ]
        out += [f"{file} is missing" for file in sorted(whole.names - found.keys())]
        out += [f"{file} is left over" for file in sorted(found.keys() - whole.names)]
        try:
            if (self.place / "m" / "manifest.json").exists():
                atomic.verify(self.place / "m")
        except OnetrunkError as error:
            out.append(str(error))
        return out

    def _attempt(
        self, place: Path, die_after: float | None = None, before: Callable[[int], object] | None = None
    ) -> Outcome:
        def work() -> None:
            os.chdir(place)
            self.setting.run()

        return attempt(work, self.limits, watched=place, before=before, die_after=die_after)

    def _begin(self, place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name in self.setting.begins:
            shutil.copytree(self.ready / name, place / name)


def left_as(place: Path) -> dict[str, str]:
    """Every file and folder there, and a digest of all that it holds."""
    out = {}
    for path in sorted(place.rglob("*")):
        with suppress(FileNotFoundError):  # TensorBoard writes in a thread of its own
            data = path.read_bytes() if path.is_file() else b""
            out[path.relative_to(place).as_posix()] = "" if path.is_dir() else hashlib.sha256(data).hexdigest()
    return out


def _copy(whole: Path, copy: Path) -> None:
    """As it is at this moment."""

    def take(source: str, target: str) -> None:
        with suppress(FileNotFoundError):
            shutil.copy2(source, target, follow_symlinks=False)

    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy, symlinks=True, copy_function=take)


def units(settings: int, **rest: int) -> list[str]:
    """The slowest first."""
    chosen = list(SETTINGS)[:settings]
    return sorted(chosen, key=lambda name: not name.startswith("train"))


def try_unit(name: str, checks: Checks, place: Path, limits: Limits, kills: int, every: int, settings: int) -> None:
    """Its share of the random `kills`, and one before every n-th file operation (`every`; 0: none)."""
    chosen = list(SETTINGS)[:settings]
    one = Kills(name, place.parent / READY, place, limits, checks)
    whole = one.undisturbed()
    for number in range(kills // len(chosen) + (chosen.index(name) < kills % len(chosen))):
        one.at_random(whole, number)
    if every:
        one.at_operations(whole, every)
    print(f"{name}: {whole.seconds:.1f} s, {whole.operations} file operations", file=sys.stderr, flush=True)
