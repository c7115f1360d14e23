"""Translation: ours, trained on pairs both ways, judged by sacreBLEU; against a rival's run or a kept figure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.common import Figures, Run
from onetrunk.core.answer import Sampling
from onetrunk.training.finetune import finetune_model
from onetrunk.training.pretrain import pretrain_model

BEAMS = 4
_RESAMPLES = 300
_PARTS = ("train", "val", "test")

Pairs = dict[str, tuple[list[str], list[str]]]  # part: sentences, their translations


def compare_translations(
    run: Run,
    settings: dict[str, Any],
    pairs: Pairs,
    source: str,
    target: str,
    *,
    tokenize: str,
    rival_name: str,
    rival: float | Callable[[Pairs], list[str]],
) -> Figures:
    """Pretrains on both columns, each asked from the other, fine-tunes on source to target, and writes
    with a search of `BEAMS` beams.

    `tokenize` is sacreBLEU's. `rival` is a kept BLEU, or makes the rival's translations of the split `run.split`.
    """
    config, _ = run.config(settings)
    columns: dict[str, list[str]] = {source: [], target: [], "split": []}
    for part in _PARTS:
        sentences, translations = pairs[part]
        columns[source] += sentences
        columns[target] += translations
        columns["split"] += [part] * len(sentences)
    data = run.open(columns, config, ask=[target], given=[source])
    start = time.monotonic()
    model = pretrain_model(data, run.context(config, run.place / "foundation"))
    model = finetune_model(data, run.context(config, run.place / "tuned"), model, pretrained=True).model
    minutes = (time.monotonic() - start) / 60
    sentences, truths = pairs[run.split]
    start = time.monotonic()
    written = [
        str(a.value) for a in model.answer({source: sentences}, target, [source], Sampling(max_length=100, beams=BEAMS))
    ]
    seconds = time.monotonic() - start
    ours = _Judged(written, truths, tokenize)
    also: dict[str, Any] = {
        "chrF": ours.chrf,
        "signature": ours.signature,
        "training_minutes": minutes,
        "sentences_a_second": len(written) / seconds,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "samples": [f"{s} → {w} ({t})" for s, w, t in zip(sentences[:3], written[:3], truths[:3], strict=True)],
    }
    theirs = None
    if run.rival and callable(rival):
        judged = _Judged(rival(pairs), truths, tokenize)
        theirs, also["rival_chrF"] = judged.bleu, judged.chrf
        draws = np.random.default_rng(run.seed).integers(0, len(truths), (_RESAMPLES, len(truths)))
        differences = [ours.of(i) - judged.of(i) for i in draws]
        also["difference_interval"] = [float(x) for x in np.quantile(differences, [0.025, 0.975])]
    elif run.rival:
        theirs = rival
    draws = np.random.default_rng(run.seed).integers(0, len(truths), (_RESAMPLES, len(truths)))
    return Figures(
        ours=ours.bleu,
        interval=[float(x) for x in np.quantile([ours.of(i) for i in draws], [0.025, 0.975])],
        unit="BLEU",
        rival_name=rival_name,
        rival=theirs,
        split={"part": run.split, "rows": {name: len(index) for name, index in data.split.indices().items()}},
        also=also,
    )


class _Judged:
    """BLEU (Papineni et al. 2002) as sacreBLEU counts it (Post 2018), of all sentences and of any choice of them."""

    def __init__(self, written: list[str], truths: list[str], tokenize: str) -> None:
        from sacrebleu.metrics import BLEU, CHRF

        metric = BLEU(tokenize=tokenize)
        self.bleu = metric.corpus_score(written, [truths]).score
        self.signature = str(metric.get_signature())
        self.chrf = CHRF().corpus_score(written, [truths]).score
        self._metric = metric
        counts = metric._extract_corpus_statistics(written, [truths])
        self._counts = np.array(counts)  # [sentences, lengths and matches]

    def of(self, index: np.ndarray) -> float:
        return self._metric._compute_score_from_stats(self._counts[index].sum(0).tolist()).score
