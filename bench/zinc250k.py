"""zinc250k: 10,000 new molecules; how many are valid, unique and novel, against a character RNN's kept figure.

    python -m bench zinc250k      about 40 minutes on 1 core

The rival is a kept figure, not run here: validity .975 of the character RNN in MOSES (arXiv 1811.12823, table 2), of
30,000 molecules of another, larger part of ZINC. Molecules are drawn at a temperature below 1, which is said: it gives
more valid ones, and fewer that are unlike the training rows. There is no rival run and nothing to fine-tune: writing
molecules is the pretraining. The part named is what the likelihood is of.
"""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np

from bench.common import Figures, Run

RIVAL = 0.975
COUNT, TEMPERATURE = 10_000, 0.7

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 192, "layers": 4, "heads": 4},
    "columns": {"molecule": {"type": "molecule", "length": 120}},
    "train": {"lr": 3e-3, "muon_lr": 0.01, "tensorboard": False, "weight_decay": 0.0},
    "pretrain": {"steps": 1800, "objectives": [{"kind": "predict", "documents": 96}]},
}


def compare(run: Run) -> Figures:
    from onetrunk.core.answer import Sampling
    from onetrunk.data.ledger import Ledger
    from onetrunk.data.prepare import encode
    from onetrunk.data.split import Split
    from onetrunk.data.table import Table
    from onetrunk.evaluation.intervals import wilson
    from onetrunk.inference.likelihood import mean_loss
    from onetrunk.training.open_data import Data, types_and_options
    from onetrunk.training.pretrain import pretrain_model

    config, _ = run.config(SETTINGS)
    parts = {
        part: gzip.decompress((run.data() / f"{part}.smi.gz").read_bytes()).decode().split()
        for part in ("train", "val", "test")
    }
    table = Table({"molecule": [smiles for part in parts.values() for smiles in part]}, "zinc250k")
    ends = np.cumsum([len(part) for part in parts.values()])
    split = Split(*np.split(np.arange(ends[-1]), ends[:-1]), "as the source says")
    data = Data(table, *types_and_options(table, config, None), ["molecule"], [], {}, split)
    model = pretrain_model(data, run.context(config, run.place))
    made = model.provenance["stages"][-1]

    evaluation = model.evaluation("molecule")
    sampling = Sampling(temperature=TEMPERATURE, max_length=config.columns["molecule"]["length"], seed=run.seed)
    answers = model.answer({"molecule": [None] * COUNT}, "molecule", [], sampling)
    some = [parts["val"][0]] * COUNT
    metrics = evaluation.measure(answers, some) | evaluation.novelty(answers, some, parts["train"])
    held = encode(
        data.rows(run.split).take(np.arange(2000)), list(model.columns.values()), model.network.encoders, Ledger()
    )
    valid = round(metrics["validity"] * COUNT)
    ends = wilson(valid, COUNT)
    return Figures(
        ours=metrics["validity"],
        interval=[ends.low, ends.high],
        unit=f"validity of {COUNT:,} molecules",
        rival_name="character RNN (MOSES, kept figure)",
        rival=RIVAL if run.rival else None,
        split={"part": run.split, "rows": {name: len(part) for name, part in parts.items()}},
        also={
            "uniqueness": metrics["uniqueness"],
            "novelty": metrics["novelty"],
            "temperature": TEMPERATURE,
            "samples": [answer.value for answer in answers[:8]],
            "nats_a_token": mean_loss(model.network, held, [], "molecule"),
            "training_seconds": made["seconds"],
            "tokens": made["tokens"],
            "parameters": sum(p.numel() for p in model.network.parameters()),
            "rival_source": "arXiv 1811.12823, table 2: CharRNN, trained on 1.6 million molecules",
        },
    )
