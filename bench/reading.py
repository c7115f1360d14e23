"""reading: Chinese and English text to packed batches of tokens, MB/s; against datasets and tokenizers.

    python -m bench reading      about 2 minutes on 2 cores

Song poems, wikitext and tinyshakespeare, line by line, with one tokenizer of 32,000 (learnt before, not timed), to rows
of 512 tokens: ours to the batches of a training run, the rival as Hugging Face's run_clm.py does, cache and all.
Beside them, three runs of `pretrain` with one cache, from the call to a first step saved: the first learns a tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.common import Figures, Run, data_folder

LENGTH, VOCABULARY = 512, 32_000


def ours(files: list[str], tokenizer: str, place: str) -> dict[str, float]:
    """Texts to content, and once through all of it in batches."""
    import time

    import numpy as np

    from onetrunk.core.objective import ObjectiveConfig
    from onetrunk.core.registry import column_types
    from onetrunk.data.loader import Loader
    from onetrunk.data.store import Store
    from onetrunk.training.batches import make_objectives

    texts = [line for name in files for line in Path(name).read_text(encoding="utf-8").splitlines() if line]
    encoder = column_types.get("text").encoder({"length": LENGTH})
    encoder.set_knowledge({"tokenizer": Path(tokenizer).read_text(encoding="utf-8")})
    start = time.perf_counter()
    content, present = encoder.encode_all(texts, lambda i, reason: None)
    store = Store(["text"], [encoder], [content], np.arange(int(present.sum()))[:, None])
    objectives = make_objectives([ObjectiveConfig(kind="predict", documents=512)], store)
    batches = Loader(store, objectives, seed=0, tokens_per_batch=16_384)
    tokens = sum(batch.tokens for step in range(-(-len(texts) // 512)) for batch in batches(step))
    seconds = time.perf_counter() - start
    return {"mb_per_s": sum(len(t.encode()) for t in texts) / 1e6 / seconds, "tokens": tokens}


def first_step(files: list[str], cache: str, place: str) -> dict[str, float]:
    """Seconds of a pretraining of one small step, modules imported before."""
    import time

    from onetrunk import pretrain

    pretrain({"x": [0.0, 1.0] * 32, "text": [f"some words, then {i}" for i in range(64)]}, types={"text": "text"},
             out=f"{place}-warm", quiet=True, settings=["pretrain.steps=1", "size=nano"])  # fmt: skip
    texts = [line for name in files for line in Path(name).read_text(encoding="utf-8").splitlines() if line]
    start = time.perf_counter()
    pretrain({"text": texts}, types={"text": "text"}, out=place, quiet=True,
             settings=["pretrain.steps=1", "tokens_per_batch=256", "size=nano", f"cache={cache}",
                       "pretrain.objectives=[{kind: predict, documents: 8}]"])  # fmt: skip
    return {"seconds": time.perf_counter() - start}


def texts_as_files(run: Run) -> list[str]:
    """One line a text, as files in the run's folder."""
    import json

    files = []
    for name in ("songci_zh/train.jsonl", "wikitext2_small/train.txt", "tinyshakespeare/train.txt"):
        folder, _, file = name.partition("/")
        text = (data_folder(folder) / file).read_text(encoding="utf-8")
        if file.endswith("jsonl"):
            text = "\n".join(json.loads(line)["text"].replace("\n", "") for line in text.splitlines())
        files.append(run.place / f"{folder}.txt")
        files[-1].write_text(text, encoding="utf-8")
    return [str(file) for file in files]


def compare(run: Run) -> Figures:
    from bench.speed import alternate, figures, versions
    from onetrunk.columns.families.tokens.tokenizers import train_bpe

    files: list[Any] = texts_as_files(run)
    lines = [line for file in files for line in Path(file).read_text(encoding="utf-8").splitlines()]
    tokenizer = str(run.place / "tokenizer.json")
    train_bpe(lines, VOCABULARY).save(tokenizer)
    shared = {"files": files, "tokenizer": tokenizer}
    sides = {"ours": {"call": "bench.reading:ours", **shared}}
    if run.rival:
        sides["datasets + tokenizers"] = {"call": "bench.peers:read_and_pack", "length": LENGTH, **shared}
    sides["a first step, with a cache"] = {
        "call": "bench.reading:first_step", "files": files, "cache": str(run.place / "cache"),
    }  # fmt: skip
    seconds = alternate(run, sides, 3)
    return figures(
        seconds, "mb_per_s", "MB/s", faster_is_more=True, split={"texts": len(lines), "length": LENGTH},
        peers=versions("datasets", "tokenizers", "transformers"),
    )  # fmt: skip
