"""Kills: a command that is killed at any moment, or before any file operation, and given again, ends as if nothing had
been; with the same bits, complete, and nothing left over."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onetrunk
from bench.trials.attempts import DONE, KILLED, REFUSED, Limits, Outcome, attempt
from bench.trials.checks import Checks
from onetrunk.core.errors import OnetrunkError
from onetrunk.storage import atomic

QUICK = ["pretrain.steps=3", "finetune.steps=3", "finetune.folds=2", "train.tensorboard=false", "train.save_every=1"]
# What tells of a run, with what it took: it must be there, and what is computed with must be the same.
_TOLD = {"README.md", "manifest.json", "metrics.jsonl", "provenance.json", "report.html"}
_TIMED = re.compile(r"second|time|date|created|_per_|memory|version")  # keys of JSON
_MOST_TIMES = 3  # that one attempt is killed


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
    return lambda: getattr(onetrunk, verb)(table(rows), **_told(*more, **rest))


@dataclass(frozen=True)
class Setting:
    """A command, run in a folder that holds `begins` of what `prepare` made."""

    run: Callable[[], Any]
    begins: tuple[str, ...] = ()
    made: str = "m/model.safetensors"  # whose bits must be the same in any case


_START = {"start": "foundation", "size": None}
_WIDE = ("train.save_every=2", "finetune.steps=6")
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
    "train beside simple models": Setting(_train("train", *_WIDE, rows=700)),
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
    """What commands begin with, and every module they import: a fork then starts at once."""
    from bench.trials import checkpoints

    place.mkdir(parents=True)
    os.chdir(place)
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
    """All kills of one setting."""

    def __init__(self, name: str, ready: Path, place: Path, limits: Limits, checks: Checks) -> None:
        self.name, self.setting, self.ready, self.place = name, SETTINGS[name], ready, place
        self.limits, self.checks = limits, checks

    def undisturbed(self) -> Whole:
        ends: list[tuple[Outcome, dict[str, str]]] = []
        for _ in range(2):
            self._begin()
            outcome = self._attempt()
            ends.append((outcome, ended_as(self.place)))
            self.checks.add("undisturbed runs", self.name, outcome.kind == DONE, outcome)
        (first, one), (second, other) = ends
        same = {file: digest for file, digest in one.items() if other.get(file) == digest}
        alike = self.setting.made in same and one.keys() == other.keys()
        self.checks.add("undisturbed runs are alike", self.name, alike, first,
                        f"{self.setting.made} twice the same; {sorted(one.keys() ^ other.keys())}")  # fmt: skip
        return Whole(frozenset(one), same, max(first.seconds, second.seconds), first.operations)

    def kill(self, whole: Whole, number: int, at_operation: int | None) -> None:
        """One attempt: killed once or more, then given again until it ends."""
        kind = "kills at random" if at_operation is None else "kills before a file operation"
        dice = self.checks.dice(kind, f"{self.name}/{number}")
        self._begin()
        history: list[Outcome] = []
        times = 1 if at_operation is not None else dice.choice([1, 1, 1, 2, _MOST_TIMES])
        for _ in range(times):
            after = dice.uniform(0, 1.05 * whole.seconds) if at_operation is None else None
            history.append(self._attempt(at_operation, after))
            if history[-1].kind != KILLED:
                break
        if history[-1].kind != DONE:
            history.append(self._attempt())
        ended = history[-1]
        finished_before = ended.kind == REFUSED and "already exists" in ended.said
        problems = [] if ended.kind == DONE or finished_before else [f"the same command: {ended.kind}"]
        problems += self._problems(whole)
        self.checks.add(kind, f"{self.name}/{number}{'' if at_operation is None else f' at {at_operation}'}",
                        not problems, ended, "; ".join(problems))  # fmt: skip

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

    def _attempt(self, die_before: int | None = None, die_after: float | None = None) -> Outcome:
        def work() -> None:
            os.chdir(self.place)
            self.setting.run()

        return attempt(work, self.limits, watched=self.place, die_before=die_before, die_after=die_after)

    def _begin(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        for name in self.setting.begins:
            shutil.copytree(self.ready / name, self.place / name)


def run(checks: Checks, place: Path, limits: Limits, kills: int, every: int, settings: int) -> None:
    """So many random `kills` in the whole, and one before every n-th file operation (`every`; 0: none), over the first
    `settings` ones."""
    ready = place / "ready"
    prepare(ready)
    chosen = list(SETTINGS)[:settings]
    for i, name in enumerate(chosen):
        one = Kills(name, ready, place / "now", limits, checks)
        whole = one.undisturbed()
        for number in range(kills // len(chosen) + (i < kills % len(chosen))):
            one.kill(whole, number, None)
        if every:
            first = checks.dice("operations", name).randrange(every) + 1
            for number, operation in enumerate(range(first, whole.operations + 1, every)):
                one.kill(whole, number, operation)
        print(f"{name}: {whole.seconds:.1f} s, {whole.operations} file operations", file=sys.stderr, flush=True)
