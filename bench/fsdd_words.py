"""fsdd_words: the spoken digit written down letter by letter (speech recognition); word error rate.

    python -m bench fsdd_words      about 6 minutes on 2 cores

As `fsdd`, but a text is asked, and no list of words is given: "seven" is written as s, e, v, e, n. The rival, logistic
regression, chooses one of ten words.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.common import Figures, Run, data_folder
from onetrunk.training.digits import WORDS

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 4, "heads": 4, "dropout": 0.1},
    "columns": {"audio": {"type": "audio"}, "word": {"type": "text", "unit": "character"}},
    "train": {"lr": 2e-3, "tensorboard": False},
    "finetune": {"documents": 64, "steps": 400, "rate": 1.0},
}


def compare(run: Run) -> Figures:
    from bench import fsdd
    from onetrunk.evaluation.intervals import wilson
    from onetrunk.training.finetune import finetune_model
    from onetrunk.training.stage import new_model

    config, _ = run.config(SETTINGS)
    rows = fsdd.read(data_folder("fsdd"))
    rows["word"] = [WORDS[digit] for digit in rows.pop("digit")]
    data = run.open(rows, config, ask=["word"], ignore=["speaker"])
    model = new_model(data, config, run.seed)
    model = finetune_model(data, run.context(config, run.place / "model"), model, pretrained=False).model
    heard = data.rows(run.split)
    answers = model.answer(heard, "word", ["audio"])
    metrics = model.evaluation("word").measure(answers, heard["word"])
    wrong = np.array([a.value != word for a, word in zip(answers, heard["word"], strict=True)])
    share = wilson(int(wrong.sum()), len(wrong))
    rival = None
    if run.rival:
        train = data.rows("train")
        frames = {name: part.select(["audio"]).frame() for name, part in (("train", train), ("heard", heard))}
        fitted = fsdd.rival().fit(frames["train"], train["word"])
        rival = float((fitted.predict(frames["heard"]) != np.array(heard["word"])).mean())
    return Figures(
        ours=share.value,
        interval=[share.low, share.high],
        unit="word error rate (less is better)",
        rival_name="12-frame spectra, LR, of ten words",
        rival=rival,
        split={"part": run.split, "rows": {name: len(index) for name, index in data.split.indices().items()}},
        also={"metrics": metrics, "not_a_word": float(np.mean([a.value not in WORDS for a in answers]))},
    )
