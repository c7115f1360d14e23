"""finetune_ragged: fine-tuning a BERT-base-shaped encoder on texts of ragged length, samples/s; against HF Trainer.

    python -m bench finetune_ragged      about 12 minutes on 2 cores

Hotel reviews of chnsenticorp, by character, at most 512: both see the same rows, once each, 32 a step, in bf16 where
the processor is fast in it, else in fp32. The rival groups them by length. Both start from random weights, without
dropout: speed does not depend on what is learnt, and dropout would put the rival's attention on a slow path.
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run, data_folder

ROWS, BATCH, LENGTH, VOCABULARY = 320, 32, 512, 21_128
SHAPE = {"width": 768, "layers": 12, "heads": 12, "activation": "gelu", "mlp_width": 3072}


def _rows(file: str) -> Any:
    import pandas as pd

    return pd.read_csv(file).sample(ROWS, random_state=0)


def ours(file: str, tokens_per_batch: int, precision: str, place: str) -> dict[str, float]:
    """One pass over the rows through our trainer."""
    import time

    from bench.speed import peak_gb
    from onetrunk.core.objective import ObjectiveConfig
    from onetrunk.data.ledger import Ledger
    from onetrunk.data.loader import Loader
    from onetrunk.data.prepare import encode, fit_columns
    from onetrunk.data.table import Table
    from onetrunk.engine.trainer import TrainConfig, Trainer
    from onetrunk.model import FoundationModel
    from onetrunk.objectives import Learner
    from onetrunk.training.batches import make_objectives, updates_of

    frame = _rows(file)
    table = Table({"review": frame["review"].tolist(), "label": frame["label"].astype(str).tolist()})
    options = {"review": {"unit": "character", "length": LENGTH}}
    columns, encoders = fit_columns(table, ["review", "label"], {"review": "text", "label": "category"}, options)
    encoders["review"].size = VOCABULARY
    network = FoundationModel(SHAPE, columns, encoders, "bidirectional")
    store = encode(table, columns, encoders, Ledger())
    objectives = make_objectives(
        [ObjectiveConfig(kind="predict", documents=BATCH, given=["review"], ask=["label"])], store
    )
    loader = Loader(store, objectives, seed=0, tokens_per_batch=tokens_per_batch)
    keywords = {"steps": ROWS // BATCH, "precision": precision, "optimizer": "adamw", "ema": 0.0, "tensorboard": False}
    learner = Learner(network, objectives)
    trainer = Trainer(learner, loader, TrainConfig.parse(keywords), place, updates=updates_of(learner))
    start = time.perf_counter()
    trainer.run()
    seconds = trainer.totals["seconds"]
    return {
        "samples_per_s": ROWS / seconds,
        "with_saving": ROWS / (time.perf_counter() - start),
        "tokens": trainer.totals["tokens"],
        "peak_gb": peak_gb(),
    }


def rival(file: str, precision: str, place: str) -> dict[str, float]:
    """The same rows as character ids; what they say does not matter."""
    from bench.peers import bert

    frame = _rows(file)
    ids = [[101, *(1 + ord(c) % (VOCABULARY - 1) for c in text[: LENGTH - 2]), 102] for text in frame["review"]]
    return bert(ids, frame["label"].tolist(), VOCABULARY, BATCH, 1, precision == "bf16", place)


def compare(run: Run) -> Figures:
    from bench.speed import alternate, fast_precision, figures, versions

    file = str(data_folder("chnsenticorp_hotel") / "train.csv")
    shared = {"file": file, "precision": fast_precision()}
    sides = {"ours": {"call": "bench.finetune_ragged:ours", **shared, "tokens_per_batch": 16_384}}
    if run.rival:
        name = f"HF Trainer {shared['precision']}, grouped by length"
        sides[name] = {"call": "bench.finetune_ragged:rival", **shared}
    seconds = alternate(run, sides, 2)
    return figures(
        seconds, "samples_per_s", "samples/s", faster_is_more=True,
        split={"precision": shared["precision"], "rows": ROWS, "batch": BATCH, "longest": LENGTH},
        peers=versions("transformers", "accelerate"),
    )  # fmt: skip
