"""tatoeba_en_zh: everyday sentences, 18,930 pairs, English to Chinese from scratch; against Marian's architecture.

    python -m bench tatoeba_en_zh      about 25 minutes on 2 cores

The rival is trained beside ours on the same pairs: an encoder-decoder of about as many parameters, through Hugging
Face's Trainer. Both write with a search of 4 beams; sacreBLEU by Chinese characters, and chrF. Each English sentence
lies in one part.
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run

RIVAL = {"vocabulary": 6000, "width": 128, "layers": 3, "epochs": 15, "lr": 1e-3, "batch": 64}
SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 4, "heads": 4, "dropout": 0.2},
    "columns": {
        "en": {"type": "text", "vocabulary": 3000, "length": 64, "word_dropout": 0.05, "smoothing": 0.1},
        "zh": {"type": "text", "vocabulary": 3000, "length": 64, "word_dropout": 0.05, "smoothing": 0.1},
    },
    "train": {"lr": 2e-3, "muon_lr": 0.01, "tensorboard": False},
    "pretrain": {"steps": 500, "objectives": [{"kind": "predict", "documents": 128}]},
    "finetune": {"documents": 128, "steps": 1800, "rate": 1.0},
}


def compare(run: Run) -> Figures:
    from bench.peers import marian
    from bench.translate import BEAMS, Pairs, compare_translations

    def part(name: str) -> tuple[list[str], list[str]]:
        lines = (run.data() / f"{name}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        sentences, translations = zip(*(line.split("\t") for line in lines), strict=True)
        return list(sentences), list(translations)

    def rival(pairs: Pairs) -> list[str]:
        return marian(pairs, run.split, str(run.place / "marian"), beams=BEAMS, seed=run.seed, **RIVAL)

    return compare_translations(
        run, SETTINGS, {name: part(name) for name in ("train", "val", "test")}, "en", "zh", tokenize="zh",
        rival_name="Marian, encoder-decoder of the same size", rival=rival,
    )  # fmt: skip
