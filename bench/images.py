"""images: an epoch of cifar10_subset with augmentation, seconds; against a plain PyTorch loop.

    python -m bench images      about 5 minutes on 2 cores

8,000 pictures, 32 x 32, the model of `cifar10_subset`: the same convolutions and width in both, 128 a step, in
bf16 where the processor is fast in it, else in fp32. The plain loop augments picture by picture in a DataLoader.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from bench.cifar10_subset import SETTINGS
from bench.common import Figures, Run, data_folder

BATCH, PASSES = 128, 3


def ours(file: str, precision: str, place: str) -> dict[str, float]:
    """Passes over the training pictures through our trainer; the fastest one."""
    from onetrunk.core.objective import ObjectiveConfig
    from onetrunk.data.ledger import Ledger
    from onetrunk.data.loader import Loader
    from onetrunk.data.prepare import encode, fit_columns
    from onetrunk.data.table import read
    from onetrunk.engine.trainer import TrainConfig, Trainer
    from onetrunk.model import FoundationModel
    from onetrunk.objectives import Learner
    from onetrunk.training.batches import make_objectives, updates_of
    from onetrunk.training.open_data import types_and_options
    from onetrunk.training.recipe import Recipe

    table = read(file)
    config = Recipe.parse({name: SETTINGS[name] for name in ("trunk", "columns")}, "the settings")
    kinds, options = types_and_options(table, config, None)
    columns, encoders = fit_columns(table, ["image", "label"], kinds, options)
    network = FoundationModel(config.trunk_config(), columns, encoders, "bidirectional")
    store = encode(table, columns, encoders, Ledger())
    objectives = make_objectives(
        [ObjectiveConfig(kind="predict", documents=BATCH, given=["image"], ask=["label"])], store
    )
    steps = -(-len(store.index) // BATCH)
    keywords: dict[str, Any] = {
        "precision": precision,
        "optimizer": "adamw",
        "ema": 0.0,
        "compile": False,
        "steps": PASSES * steps,
    }
    loader = Loader(store, objectives, seed=0, tokens_per_batch=16_384)
    learner, config = Learner(network, objectives), TrainConfig.parse({**keywords, "tensorboard": False})
    records = Trainer(learner, loader, config, place, updates=updates_of(learner)).run().history
    ends = [0.0, *(records[k * steps - 1]["seconds"] for k in range(1, PASSES + 1))]
    seconds = min(b - a for a, b in pairwise(ends))
    return {"seconds": seconds, "parameters": sum(p.numel() for p in network.parameters())}


def compare(run: Run) -> Figures:
    from bench.speed import alternate, fast_precision, figures

    file = str(data_folder("cifar10_subset") / "train.parquet")
    precision = fast_precision()
    sides: dict[str, dict[str, Any]] = {"ours": {"call": "bench.images:ours", "file": file, "precision": precision}}
    if run.rival:
        shape = {"width": 128, "layers": 1, "heads": 4}
        sides["plain PyTorch"] = {
            "call": "bench.peers:picture_loop", "file": file, **shape, "batch": BATCH, "passes": PASSES,
            "bf16": precision == "bf16",
        }  # fmt: skip
    seconds = alternate(run, sides, 2)
    return figures(
        seconds,
        "seconds",
        "seconds an epoch",
        faster_is_more=False,
        split={"precision": precision, "batch": BATCH, "passes": PASSES},
    )
