"""Ways to adapt one pretrained model: the whole of it, LoRA, its read-out alone; how good, how large, how dear."""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import gc
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.common import Figures, Run
from bench.tables import MOST_BAD, ends
from onetrunk.inference.model_folder import Model
from onetrunk.training.finetune import finetune_model
from onetrunk.training.open_data import Data
from onetrunk.training.pretrain import pretrain_model
from onetrunk.training.recipe import Recipe
from onetrunk.training.stage import extend_model

RESAMPLES = 1000
OURS, RIVAL = "LoRA", "whole fine-tuning"


def compare_ways(
    run: Run, settings: dict[str, Any], table: Any, *, ask: str, lora: dict[str, Any], split: str = "given:split"
) -> Figures:
    """Pretrains on the columns that are not `ask`, without its answers; then each way learns `ask` from there. `lora`
    is what LoRA sets of `finetune`."""
    ways: dict[str, dict[str, Any]] = {RIVAL: {}, OURS: lora, "read-out only": {"freeze": "trunk"}}
    config, _ = run.config(settings)
    data = run.open(table, config, split, ask=[ask])
    unlabelled = dataclasses.replace(data, ask=[])
    base = pretrain_model(unlabelled, run.context(config, run.place / "pretraining", max_bad=MOST_BAD))
    base.save(run.place / "base")
    extend_model(base, data, run.seed, on_event=run.on_event)
    test = data.rows(run.split)
    right: dict[str, np.ndarray] = {}
    costs: dict[str, dict[str, float | int | None]] = {}
    for name, options in ways.items():
        if name == RIVAL and not run.rival:
            continue
        chosen = config.model_copy(update={"finetune": config.finetune.updated(**options)})
        tuned, costs[name] = _adapted(run, data, chosen, base, run.place / name.replace(" ", "-"))
        answers = tuned.answer(test, ask, data.given)
        right[name] = tuned.evaluation(ask).per_row(answers, test[ask])
    draws = np.random.default_rng(run.seed).integers(0, len(test), (RESAMPLES, len(test)))
    resampled = {name: each[draws].mean(1) for name, each in right.items()}
    accuracy = {name: float(each.mean()) for name, each in right.items()}
    also: dict[str, Any] = {
        "accuracy": accuracy,
        "intervals": {name: ends(each) for name, each in resampled.items()},
        "parameters": sum(p.numel() for p in base.network.parameters()),
        **{key: {name: cost[key] for name, cost in costs.items()} for key in next(iter(costs.values()))},
    }
    if run.rival:
        also["difference_interval"] = ends(resampled[OURS] - resampled[RIVAL])
    return Figures(
        ours=accuracy[OURS],
        interval=ends(resampled[OURS]),
        unit="accuracy",
        rival_name=RIVAL,
        rival=accuracy.get(RIVAL),
        split={"part": run.split, "rows": {name: len(index) for name, index in data.split.indices().items()}},
        also=also,
    )


def _adapted(run: Run, data: Data, config: Recipe, base: Model, place: Path) -> tuple[Model, dict[str, Any]]:
    """The model, and what it cost. Memory is what training held at most beyond what was held before."""
    model = copy.deepcopy(base)
    before, start = _restart_peak(), time.monotonic()
    tuned = finetune_model(data, run.context(config, place, max_bad=MOST_BAD), model, pretrained=True).model
    seconds, peak = time.monotonic() - start, _memory("VmHWM")
    old = base.network.state_dict()
    changed = {n: t.numel() for n, t in tuned.network.state_dict().items() if not torch.equal(t, old[n])}
    if tuned.adapter is not None:  # merged: what was trained is the change
        changed = {n: k for n, k in changed.items() if not n.startswith("trunk.")}
        changed |= {n: t.numel() for n, t in tuned.adapter.learnt.items()}
    megabytes = None if before is None or peak is None else (peak - before) / 1000
    return tuned, {"trained_parameters": sum(changed.values()), "seconds": seconds, "peak_megabytes": megabytes}


def _restart_peak() -> int | None:
    """Kilobytes held now; from here on the peak is counted anew. None where the system does not say."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what was freed, and training would reuse it
    if trim is not None:
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _memory("VmRSS")


def _memory(key: str) -> int | None:
    """Kilobytes of main memory, by Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return next((int(x.split()[1]) for x in status.read_text().splitlines() if x.startswith(f"{key}:")), None)
