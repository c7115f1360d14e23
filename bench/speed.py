"""What the comparisons of speed share: sides in processes of their own, alternating, and their medians; language models
and their texts. `python -m bench.speed SIDE` is one such process: JSON on stdin, one JSON object on its last line."""

from __future__ import annotations

import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bench.common import ROOT, Figures, Run
from onetrunk.core.config import with_settings
from onetrunk.core.errors import UsageError
from onetrunk.core.events import Note

Found = dict[str, Any]
A = TypeVar("A", bound=BaseModel)


def alternate(run: Run, sides: dict[str, dict[str, Any]], rounds: int) -> dict[str, list[Found]]:
    """Runs every side once a round, in turn, each in a process of its own: what one leaves in caches, threads and
    memory does not touch the next. `sides` maps a name to {"call": "module:function", ...arguments}."""
    result: dict[str, list[Found]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name, arguments in sides.items():
            result[name].append(one_side(run, f"{name} {turn + 1}/{rounds}", arguments))
    return result


def one_side(run: Run, title: str, arguments: dict[str, Any], root: Path = ROOT) -> Found:
    """One side, once, in a process of its own that takes its code from the checkout at `root`."""
    start = time.monotonic()
    place = run.place / "".join(letter if letter.isalnum() else "-" for letter in title)
    done = subprocess.run(
        [sys.executable, "-m", "bench.speed"],
        input=json.dumps(arguments | {"place": str(place)}),
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        text=True,
        check=True,
    )
    one: Found = json.loads(done.stdout.splitlines()[-1]) | {"whole_seconds": time.monotonic() - start}
    run.on_event(Note(f"{title} {one}"))
    return one


def amounts_of(run: Run, kind: type[A]) -> A:
    """How much is done: what `kind` says, where the run's settings say nothing else. Raises UsageError."""
    try:
        return kind.model_validate(with_settings({}, run.settings))
    except ValidationError as error:
        raise UsageError(f"The settings of {run.name}: {error}") from None


def median(result: list[Found], key: str) -> float:
    return statistics.median(one[key] for one in result)


def figures(
    result: dict[str, list[Found]], key: str, unit: str, *, faster_is_more: bool, split: dict[str, Any], **also: Any
) -> Figures:
    """Ours against the rival, the first two sides (or ours alone): medians over the rounds, and how many times faster
    ours is."""
    (ours_name, ours), (rival_name, rival) = (*result.items(), ("not run", None))[:2]
    a, b = median(ours, key), median(rival, key) if rival else None
    every = {name: {k: [one[k] for one in rounds] for k in rounds[0]} for name, rounds in result.items()}
    return Figures(
        ours=a,
        interval=[min(one[key] for one in ours), max(one[key] for one in ours)],
        unit=unit,
        rival_name=rival_name,
        rival=b,
        split=split,
        ratio=None if b is None else a / b if faster_is_more else b / a,
        also={"ours_is": ours_name, "interval_is": "least and most of the rounds", "rounds": every, **also},
    )


def peak_gb(device: str = "cpu") -> float:
    """The most memory this process held, there."""
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def fast_precision(device: str = "cpu") -> str:
    """What both sides compute in: bf16 where the device is fast in it, else fp32 (where bf16 is many times slower, the
    rival's too)."""
    import torch

    from onetrunk.engine.mode import has_fast_bf16

    return "bf16" if has_fast_bf16(torch.device(device)) else "fp32"


def in_fast_precision(settings: dict[str, Any]) -> dict[str, Any]:
    return settings | {"train": {"precision": fast_precision(), **settings["train"]}}


def versions(*packages: str) -> dict[str, str]:
    from importlib.metadata import version

    return {package: version(package) for package in packages}


# -- language models -------------------------------------------------------------------------------------------------
def train_ours(
    shape: dict[str, int],
    batch: int,
    length: int,
    steps: int,
    train: dict[str, Any],
    place: str,
    warm: int = 2,
    device: str = "cpu",
) -> Found:
    """Steps of a causal language model through our trainer; the median step after those that warm up."""
    from onetrunk.core.encoder import Column
    from onetrunk.core.objective import ObjectiveConfig
    from onetrunk.data.loader import Loader
    from onetrunk.engine.runtime import Runtime
    from onetrunk.engine.trainer import TrainConfig, Trainer
    from onetrunk.model import FoundationModel
    from onetrunk.model.flops import StepOperations
    from onetrunk.objectives import Learner
    from onetrunk.training.batches import make_objectives, updates_of
    from onetrunk.training.dry_run import random_store

    runtime = Runtime.open(device)  # as every command does
    store = random_store(shape["vocabulary"], 50 * batch, length=length)
    trunk = {name: value for name, value in shape.items() if name != "vocabulary"}
    network = FoundationModel(trunk, [Column("text", "text", "text")], {"text": store.encoders[0]}, "causal")
    objectives = make_objectives([ObjectiveConfig(kind="predict", documents=batch)], store)
    loader = Loader(store, objectives, seed=0, tokens_per_batch=batch * length)
    config = TrainConfig.parse({"tensorboard": False, "ema": 0.0, **train, "steps": steps})
    learner = runtime.place(Learner(network, objectives))
    trainer = Trainer(learner, loader, config, place, flops=StepOperations(network), updates=updates_of(learner))
    records = trainer.run().history[warm:]
    shares = [record["mfu"] for record in records if "mfu" in record]  # a short run does not measure its share
    return {
        "tokens_per_s": statistics.median(r["tokens_per_s"] for r in records),
        "mfu": statistics.median(shares) if shares else None,
        "peak_gb": peak_gb(device),
        "parameters": sum(p.numel() for p in network.parameters()),
    }


def compare_training(
    run: Run,
    shape: dict[str, int],
    batch: int,
    length: int,
    steps: int,
    rounds: int,
    device: str = "cpu",
    nanogpt: str | None = None,
) -> Figures:
    """The same steps by Hugging Face's Trainer (AdamW) and by ours, compiled, as ours are in a run of ten minutes, and
    eager, as Hugging Face's are; by ours also with Muon; and by nanoGPT, where there is a checkout of it."""
    shared = {"shape": shape, "batch": batch, "length": length, "steps": steps, "device": device}
    ours = {"call": "bench.speed:train_ours", **shared}
    precision = fast_precision(device)
    same = {"precision": precision, "optimizer": "adamw", "compile": True}
    theirs = {"call": "bench.peers:gpt2", **shared, "bf16": precision == "bf16"}
    sides = {
        "ours": {**ours, "train": same},
        f"HF Trainer {precision}": theirs,
        "ours, eager": {**ours, "train": same | {"compile": False}},
        f"HF Trainer {precision}, compiled": {**theirs, "compiled": True},
        "ours, Muon": {**ours, "train": same | {"optimizer": "muon"}},
    }
    if precision == "bf16":
        sides["HF Trainer fp32"] = {**theirs, "bf16": False}
    if nanogpt is not None:
        call = {"call": "bench.peers:nanogpt", "source": nanogpt}
        sides[f"nanoGPT {precision}"] = {**shared, **call, "bf16": precision == "bf16"}
    if not run.rival:
        sides = {name: side for name, side in sides.items() if name.startswith("ours")}
    seconds = alternate(run, sides, rounds)
    return figures(
        seconds,
        "tokens_per_s",
        "tokens/s",
        faster_is_more=True,
        split={
            "precision": precision,
            "shape": shape,
            "batch": batch,
            "length": length,
            "steps": steps,
            "rounds": rounds,
        },
        medians={name: median(each, "tokens_per_s") for name, each in seconds.items()},
        mfu={name: median(each, "mfu") for name, each in seconds.items() if name.startswith("ours")},
        peak_gb={name: median(each, "peak_gb") for name, each in seconds.items()},
        peers=versions("transformers", "accelerate"),
    )


def main() -> None:
    """One side, once."""
    result = json.loads(sys.stdin.read())
    module, _, name = result.pop("call").partition(":")
    Path(result["place"]).mkdir(parents=True)
    print(json.dumps(getattr(importlib.import_module(module), name)(**result)))


if __name__ == "__main__":
    main()
