"""multi30k_en_de: captions from English to German, 29,000 pairs, from scratch; sacreBLEU on test_2016_flickr.

    python -m bench multi30k_en_de      about 35 minutes on 2 cores

The rival is a kept figure, not run here: small Transformers trained on these pairs reach 35 to 39 with a search of
beams, as ours writes too.
"""

from __future__ import annotations

from typing import Any

from bench.common import Figures, Run

RIVAL = 35.0
SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 6, "heads": 4, "dropout": 0.2},
    "columns": {
        "en": {"type": "text", "vocabulary": 5000, "length": 64, "word_dropout": 0.05, "smoothing": 0.1},
        "de": {"type": "text", "vocabulary": 5000, "length": 64, "word_dropout": 0.05, "smoothing": 0.1},
    },
    "train": {"lr": 2e-3, "muon_lr": 0.01, "tensorboard": False},
    "pretrain": {"steps": 600, "objectives": [{"kind": "predict", "documents": 128}]},
    "finetune": {"documents": 128, "steps": 2400, "rate": 1.0},
}


def compare(run: Run) -> Figures:
    from bench.translate import compare_translations

    def lines(name: str) -> list[str]:
        return (run.data() / name).read_text(encoding="utf-8").splitlines()

    pairs = {part: (lines(f"{part}.en"), lines(f"{part}.de")) for part in ("train", "val", "test")}
    return compare_translations(
        run, SETTINGS, pairs, "en", "de", tokenize="13a", rival_name="small Transformers (kept figure)", rival=RIVAL
    )
