"""A small module and its batches, a pure function of the step, that the engine tests train. Also a script:
`python tiny.py FOLDER [--slow S]` trains to the end and prints the weights' hash; the kill tests run it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.core import rng
from onetrunk.core.batch import Loss
from onetrunk.engine.progress import Progress
from onetrunk.engine.step import Updates
from onetrunk.engine.trainer import TrainConfig, Trainer

ROWS, WIDTH = 40, 8
CONFIG = TrainConfig(
    steps=12, save_every=3, validate_every=4, ema=0.9, tensorboard=False, loss_weights={"predict": 0.5}
)


@dataclass
class TinyBatch:
    x: Tensor  # [m, WIDTH]
    row: np.ndarray
    counts: dict[str, float]
    tokens: int

    def to(self, device: torch.device) -> TinyBatch:
        return self

    def pinned(self) -> TinyBatch:
        return self


def table() -> Tensor:
    return torch.from_numpy(rng.normal(rng.mix(np.arange(ROWS), "table"), WIDTH))


def batch(rows: np.ndarray, x: Tensor | None = None) -> TinyBatch:
    x = table() if x is None else x
    counts = {"predict/y": float(len(rows)), "predict/sign": float((rows % 2 == 0).sum()), "never/seen": 0.0}
    return TinyBatch(x[torch.from_numpy(rows)], rows, counts, len(rows) * WIDTH)


def batches(step: int, micro: int = 2) -> list[TinyBatch]:
    rows = rng.permutation(rng.key(7, step), ROWS)[:12]
    return [batch(part) for part in np.array_split(rows, micro)]


class Tiny(nn.Module):
    """Hidden matrices for Muon, a bias, dropout, two losses with different counts, and one that never is."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: TinyBatch) -> dict[str, Loss]:
        y, sign = self.out(self.dropout(torch.tanh(self.second(torch.relu(self.first(batch.x)))))).unbind(1)
        each = (y - batch.x.sum(1)) ** 2
        even = torch.from_numpy(batch.row % 2 == 0)
        every_sign = (sign[even] - batch.x[even, 0].sign()) ** 2
        documents = torch.arange(len(batch.row))
        none = y[:0].sum()
        return {
            "predict/y": Loss(each.sum(), torch.tensor(len(each)), each.detach(), documents),
            "predict/sign": Loss(every_sign.sum(), even.sum(), every_sign.detach(), documents[even]),
            "never/seen": Loss(none, torch.tensor(0)),
        }


def trainer(
    folder: Path, config: TrainConfig = CONFIG, make_batches=batches, module: Tiny | None = None, **rest
) -> Trainer:
    """A trainer with dropout, averages, validation and two micro-batches a step."""
    module = module or Tiny()

    def validate() -> tuple[float, bool, dict[str, float]]:
        loss = module(batch(np.arange(ROWS)))["predict/y"]
        mean = float(loss.sum / loss.count)
        return mean, False, {"error": mean}

    rest = {"validate": validate, "updates": Updates([module.first, module.second]), **rest}
    return Trainer(module, make_batches, config, folder, seed=3, **rest)


def digest(module: nn.Module) -> str:
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in module.state_dict().values())).hexdigest()


def loss_bits(folder: Path) -> list[tuple[int, str]]:
    """Step and exact losses (or validation) of every record of metrics.jsonl."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [(r["step"], json.dumps(r.get("losses") or r["validation"])) for r in records]


def stopping_at(step: int):
    """Batches that send SIGTERM while those of update number `step` are made: the run stops after it."""

    def make(now: int) -> list[TinyBatch]:
        if now == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return batches(now)

    return make


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slow", type=float, default=0.0, help="seconds a step waits")
    options = parser.parse_args()

    def slow_batches(step: int) -> list[TinyBatch]:
        time.sleep(options.slow)
        return batches(step)

    run = trainer(options.folder, make_batches=slow_batches, progress=Progress())
    result = run.run()
    print(digest(run.module))
    raise SystemExit(128 + result.interrupted if result.interrupted else 0)
