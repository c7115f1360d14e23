"""Sides of the comparisons of speed on tinyshakespeare: ours, and a clone of nanoGPT."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.speed import Found, peak_gb

_CPU = (
    "--device=cpu --compile=False --eval_iters=20 --log_interval=100 --block_size=64 --batch_size=12 --n_layer=4 "
    "--n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)


def learn(folder: str, settings: dict[str, Any], place: str) -> Found:
    """Reads the text, trains on it, and takes the loss over the whole validation part."""
    import numpy as np

    from onetrunk.data.ledger import Ledger
    from onetrunk.data.prepare import encode
    from onetrunk.data.split import Split
    from onetrunk.data.table import Table
    from onetrunk.inference.likelihood import mean_loss
    from onetrunk.training.context import RunContext
    from onetrunk.training.open_data import Data, types_and_options
    from onetrunk.training.pretrain import pretrain_model
    from onetrunk.training.recipe import Recipe

    config = Recipe.parse(settings, "the settings")
    texts = [(Path(folder) / name).read_text(encoding="utf-8") for name in ("train.txt", "val.txt")]
    table = Table({"text": texts}, "tinyshakespeare")
    split = Split(np.array([0]), np.zeros(0, dtype=np.int64), np.array([1]), "as nanoGPT cuts it")
    data = Data(table, *types_and_options(table, config, None), ["text"], [], {}, split)
    model = pretrain_model(data, RunContext(config, Path(place)))
    store = encode(data.rows("test"), list(model.columns.values()), model.network.encoders, Ledger())
    made = model.provenance["stages"][-1]
    return {
        "loss": mean_loss(model.network, store, [], "text"),
        "tokens": made["tokens"],
        "training_seconds": made["seconds"],
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "peak_gb": peak_gb(),
    }


def nanogpt(folder: str, clone: str, place: str) -> Found:
    """nanoGPT's README run for a CPU, in the clone; its data are made first, of the same text."""
    data = Path(clone) / "data" / "shakespeare_char"
    if not (data / "input.txt").exists():
        whole = "".join((Path(folder) / name).read_text(encoding="utf-8") for name in ("train.txt", "val.txt"))
        (data / "input.txt").write_text(whole, encoding="utf-8")
    if not (data / "train.bin").exists():
        subprocess.run([sys.executable, "prepare.py"], cwd=data, check=True, stdout=subprocess.DEVNULL)
    command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *_CPU.split(), f"--out_dir={place}"]
    done = subprocess.run(command, cwd=clone, check=True, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    losses = re.findall(r"step \d+: train loss [\d.]+, val loss ([\d.]+)", done.stdout)
    head = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(head, cwd=clone, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return {"loss": float(losses[-1]), "commit": commit}
