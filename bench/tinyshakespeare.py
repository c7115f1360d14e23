"""tinyshakespeare: a character language model; validation loss against nanoGPT's CPU run, at a quarter of its tokens.

    python -m bench tinyshakespeare      half a minute on 2 cores; expected: 1.7 nats a character

The rival is a kept figure, not run here: nanoGPT (github.com/karpathy/nanoGPT), README, "I only have a macbook":
`train.py config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --block_size=64
--batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0`, run with a
validation loss of 1.8857 (the README says 1.88). Same cut of the text, same 64 characters of context, depth and width.

There is no test split: `val.txt` is what is reported. While building, `--split val` trains on the first nine tenths of
`train.txt` and looks at its last tenth. Predicting text is the pretraining, so there is nothing without it.
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run

RIVAL, RIVAL_TOKENS = 1.8857, 768 * 2000
MOST_TOKENS = RIVAL_TOKENS // 4

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 4, "heads": 4, "activation": "swiglu"},
    "columns": {"text": {"type": "text", "unit": "character", "length": 64, "bigrams": 8192}},
    "train": {"lr": 0.01, "muon_lr": 0.01, "warmup": 0.0, "weight_decay": 0.0, "tensorboard": False},
    "pretrain": {"steps": 749, "objectives": [{"kind": "predict", "documents": 8}]},
}

_BLOCK = 16  # windows in a row that the bootstrap keeps together: neighbours in a text are alike


def compare(run: Run) -> Figures:
    import numpy as np

    from onetrunk.core.errors import UsageError
    from onetrunk.data.ledger import Ledger
    from onetrunk.data.prepare import encode
    from onetrunk.data.split import Split
    from onetrunk.data.store import Store
    from onetrunk.data.table import Table
    from onetrunk.evaluation.intervals import bootstrap
    from onetrunk.inference.likelihood import mean_loss
    from onetrunk.training.open_data import Data, types_and_options
    from onetrunk.training.pretrain import pretrain_model

    config, _ = run.config(SETTINGS)
    train = (run.data() / "train.txt").read_text(encoding="utf-8")
    held, how = (
        (run.data() / "val.txt").read_text(encoding="utf-8"),
        "the text's last tenth held out, as nanoGPT cuts it",
    )
    if run.split == "val":
        cut = len(train) * 9 // 10
        train, held, how = train[:cut], train[cut:], "the last tenth of the training text held out"
    table = Table({"text": [train, held]}, "tinyshakespeare")
    nobody = np.zeros(0, dtype=np.int64)
    split = Split(np.array([0]), nobody, np.array([1]), how)
    data = Data(table, *types_and_options(table, config, None), ["text"], [], {}, split)
    model = pretrain_model(data, run.context(config, run.place))
    made = model.provenance["stages"][-1]
    if made["tokens"] > MOST_TOKENS:
        raise UsageError(f"{made['tokens']:,} tokens were trained on; the comparison allows {MOST_TOKENS:,}.")

    store = encode(data.rows("test"), list(model.columns.values()), model.network.encoders, Ledger())
    loss = mean_loss(model.network, store, [], "text")
    # The same windows by the block, for the interval.
    windows, whose = store.encoders[0].successive_windows(store.contents[0])
    places = np.arange(len(whose))[:, None]
    blocks = [
        mean_loss(model.network, Store(store.names, store.encoders, [windows], places[i : i + _BLOCK]), [], "text")
        for i in range(0, len(places), _BLOCK)
    ]
    ends = bootstrap(np.array(blocks), seed=run.seed)
    tokens = {"ours": made["tokens"], "rival": RIVAL_TOKENS, "share": made["tokens"] / RIVAL_TOKENS}
    return Figures(
        ours=loss,
        interval=[ends.low, ends.high],
        unit="nats a character (less is better)",
        rival_name="nanoGPT's CPU run (kept figure)",
        rival=RIVAL if run.rival else None,
        split={"part": "val.txt" if run.split == "test" else "end of train.txt", "how": how,
               "characters": {"train": len(train), "held": len(held)}},
        also={
            "tokens": tokens,
            "parameters": sum(p.numel() for p in model.network.parameters()),
            "training_seconds": made["seconds"],
            "rival_source": "nanoGPT README, config/train_shakespeare_char.py on a CPU: 768 tokens x 2000 steps",
        },
    )  # fmt: skip
