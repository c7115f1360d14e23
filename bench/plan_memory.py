"""plan_memory: the worst relative error of the memory that `onetrunk plan` predicts for a training, over twelve shapes.

    python -m bench plan_memory            about 7 minutes on 2 cores
    python -m bench plan_memory --quick    two shapes; nothing is kept

Language models of several widths, depths, contexts, vocabularies and optimizers, with activation checkpointing and
without, in fp32 and bf16, in one micro-batch and in several, by one process and by two, whole and sharded (FSDP2). Each
is predicted in one process and trained in another, for enough steps that a step, a save and the making of the next
batches fall together at least once, which takes the most.

What is compared is what training takes beyond what a process holds anyway: the most resident memory (VmHWM of Linux)
that the process ever had, and the most that the plan expects, each less the resident memory of that process once it
has made a few steps of a tiny model (which loads the code and starts all threads). That is less kind than to compare
all that a process holds, four tenths of a gigabyte of which are PyTorch. Of two processes both are compared: rank 0
also keeps a whole model.

`python -m bench.plan_memory` is one such process, or a rank of torchrun: JSON on stdin or in $PLAN_MEMORY.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.common import ROOT, Figures, Run
from onetrunk.core.config import with_settings
from onetrunk.core.errors import UsageError
from onetrunk.core.events import Note

WANTED = 0.1
QUICK = ['shapes=["narrow", "checkpointing"]', "steps=3"]
_ADAMW, _RECOMPUTED = {"optimizer": "adamw"}, {"activation_checkpointing": True}
_DEFAULTS: dict[str, Any] = {
    "width": 256, "layers": 4, "context": 256, "vocabulary": 512, "documents": 8, "tokens": 2048, "train": {},
    "processes": 1, "precision": "fp32",
}  # fmt: skip
TINY = {"width": 64, "layers": 1, "documents": 4, "context": 64, "vocabulary": 256, "steps": 2}
SHAPES: dict[str, dict[str, Any]] = {
    "narrow": {},
    "checkpointing": {"train": _RECOMPUTED},
    "deep": {"width": 128, "layers": 12, "tokens": 4096, "documents": 8, "context": 512, "train": _ADAMW},
    "deep, checkpointing": {
        "width": 128, "layers": 12, "tokens": 4096, "documents": 8, "context": 512, "train": _ADAMW | _RECOMPUTED,
    },
    "wide, bf16": {"width": 768, "layers": 2, "context": 128, "documents": 4, "precision": "bf16"},
    "wide, momentum": {"width": 768, "layers": 3, "context": 64, "documents": 4, "train": {"optimizer": "momentum"}},
    "long": {"width": 128, "context": 2048, "documents": 2, "tokens": 4096},
    "many words, no average": {"width": 384, "vocabulary": 16384, "context": 128, "train": {"ema": 0.0}},
    "three micro-batches": {"documents": 12, "tokens": 1024},
    "two processes": {"width": 512, "context": 64, "processes": 2, "tokens": 256},
    "two processes, sharded": {"width": 512, "context": 64, "processes": 2, "tokens": 256, "train": {"sharded": True}},
    "two processes, sharded, AdamW": {
        "width": 512, "layers": 6, "context": 64, "processes": 2, "tokens": 256, "train": {"sharded": True} | _ADAMW,
    },
}  # fmt: skip


def compare(run: Run) -> Figures:
    options = with_settings({"shapes": list(SHAPES), "steps": 15}, run.settings)
    errors: dict[str, float] = {}
    points: dict[str, Any] = {}
    for name in options["shapes"]:
        shape = _DEFAULTS | SHAPES[name] | {"steps": options["steps"], "seed": run.seed}
        planned, held = _told(shape | {"side": "planned"}), _told(shape | {"side": "trained"})
        points[name] = {
            f"rank {rank}": {"planned_mb": round(p / 1e6), "held_mb": round(h / 1e6), "error": round(p / h - 1, 4)}
            for rank, (p, h) in enumerate(zip(planned, held, strict=True))
        }
        errors[name] = max((p / h - 1 for p, h in zip(planned, held, strict=True)), key=abs)
        run.on_event(Note(f"{name}: {points[name]}"))
    off = sorted(map(abs, errors.values()))
    return Figures(
        ours=off[-1],
        interval=[off[0], off[-1]],
        unit="worst relative error of the planned peak memory (less is better; brackets: least and most)",
        rival_name="wanted",
        rival=WANTED,
        split={"shapes": len(errors), "steps": options["steps"]},
        also={"by_shape": points, "holds": off[-1] <= WANTED},
    )


def _told(shape: dict[str, Any]) -> list[float]:
    """What processes of their own say, one number each: bytes. Raises UsageError where they fail."""
    processes = shape["processes"] if shape["side"] == "trained" else 1
    launcher = ["torch.distributed.run", f"--nproc-per-node={processes}", "-m"] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as place:
        environment["PLAN_MEMORY"] = json.dumps(shape | {"place": place})
        done = subprocess.run(
            [sys.executable, "-m", *launcher, "bench.plan_memory"],
            cwd=ROOT, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        files = sorted(Path(place).glob("rank-*.json"))
        if done.returncode or not files:
            raise UsageError(f"A process of plan_memory failed: {done.stderr[-2000:]}")
        return [number for file in files for number in json.loads(file.read_text())]


# -- one process -----------------------------------------------------------------------------------------------------
def _settings(shape: dict[str, Any]) -> list[str]:
    return [
        f"trunk={{width: {shape['width']}, layers: {shape['layers']}, heads: {max(1, shape['width'] // 64)}}}",
        f"columns.text={{length: {shape['context']}, vocabulary: {shape['vocabulary']}}}",
        f"pretrain.objectives=[{{kind: predict, documents: {shape['documents']}}}]",
        f"tokens_per_batch={shape['tokens']}", "attention=causal", f"train.precision={shape['precision']}",
        "train.compile=false", f"train.shares={shape['processes']}",
        *(f"train.{name}={json.dumps(value)}" for name, value in shape["train"].items()),
    ]  # fmt: skip


def planned(shape: dict[str, Any]) -> list[float]:
    """What `onetrunk plan` expects, of each rank."""
    import onetrunk
    from onetrunk.engine.progress import resident_bytes

    _train(shape | TINY)
    before = resident_bytes()
    plan = onetrunk.plan(
        tokens=1e6, quiet=True, settings=_settings(shape), device="cpu", seed=shape["seed"],
        processes=shape["processes"],
    )  # fmt: skip
    peaks = [plan["memory_gb"]["peak"], *[plan["other_processes_gb"]] * (shape["processes"] - 1)]
    return [1e9 * peak - before for peak in peaks]


def trained(shape: dict[str, Any]) -> list[float]:
    """What training takes in this process: of one alone, or of this rank."""
    from onetrunk.engine import world
    from onetrunk.engine.progress import resident_bytes

    joined, before = world.join() if world.launched() else world.current(), 0
    if joined.rank:
        while (task := joined.take_task()) is not None:
            task(joined)
            before = before or resident_bytes()  # after the first, the tiny model's
            del task
    else:
        _train(shape | TINY)
        before = resident_bytes()
        _train(shape)
    held = _most_resident() - before
    if not joined.alone:
        joined.leave()
    return [held]


def _train(shape: dict[str, Any]) -> None:
    from onetrunk.engine.runtime import Runtime
    from onetrunk.engine.trainer import TrainConfig, Trainer
    from onetrunk.model import FoundationModel
    from onetrunk.objectives import Learner
    from onetrunk.training.batches import updates_of
    from onetrunk.training.dry_run import Source
    from onetrunk.training.options import TrainingOptions
    from onetrunk.training.pretrain import schedule
    from onetrunk.training.recipe import recipe_of

    recipe = recipe_of(TrainingOptions(settings=_settings(shape), device="cpu"))
    source = Source.stand_in(recipe)
    loader, objectives, _ = schedule(source.store, recipe, shape["seed"])
    model = FoundationModel(recipe.trunk_config(), source.columns, source.encoders, recipe.attention)
    learner = Runtime.open("cpu").place(Learner(model, objectives))
    train = {**recipe.train.model_dump(), "steps": shape["steps"], "tensorboard": False, "save_every": 2}
    with tempfile.TemporaryDirectory() as folder:
        Trainer(learner, loader, TrainConfig.parse(train), folder, updates=updates_of(learner)).run()


def _most_resident() -> int:
    """Bytes; Linux tells."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def main() -> None:
    shape = json.loads(os.environ["PLAN_MEMORY"])
    told = {"planned": planned, "trained": trained}[shape["side"]](shape)
    (Path(shape["place"]) / f"rank-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
