"""prepare_10gb: MB/s of `onetrunk prepare` against `datasets` (load, map, save_to_disk) on the same table of texts.

    python -m bench prepare_10gb                         10 GB of Parquet: about an hour and 45 GB of disk on 2 cores
    python -m bench prepare_10gb --quick                 a few MB; nothing is kept
    python -m bench prepare_10gb --set gb=1 --set csv=true

Both tokenise the same column with the same tokenizer, in as many processes as there are cores, one thread each, and
keep the texts and the tokens. Ours also splits the rows, finds equal ones, and signs what it keeps. Each side is a
process of its own, timed from its start to its end. `ratio` is how many times as fast ours is: at least 1 is wanted.
The peak is of private memory (what is mapped from files does not belong to it), of all processes of a side together.

The texts are words drawn by Zipf's law, of 50,000 that do not exist: about 2 kB a row.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import ROOT, Figures, Run
from bench.large import TEXT_BYTES, watched, write_table
from onetrunk.core.config import with_settings
from onetrunk.core.errors import UsageError
from onetrunk.core.events import Note
from onetrunk.data.prepared.crew import cores

QUICK = ["gb=0.004", "rounds=1"]
LEARNT_FROM = 4000  # rows from which the tokenizer is made
SINGLE = {
    "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
}  # fmt: skip

RIVAL = """
import sys
from datasets import load_dataset
from tokenizers import Tokenizer

kind, data, tokenizer, out, processes = sys.argv[1:]
tokenizer = Tokenizer.from_file(tokenizer)

def tokenise(rows):
    return {"id": [each.ids for each in tokenizer.encode_batch_fast(rows["text"], add_special_tokens=False)]}

rows = load_dataset(kind, data_files=data, split="train", cache_dir=out + "-cache")
rows = rows.map(tokenise, batched=True, num_proc=int(processes))
rows.save_to_disk(out, num_proc=int(processes))
"""


def compare(run: Run) -> Figures:
    options = with_settings({"gb": 10.0, "csv": False, "rounds": 1, "processes": cores()}, run.settings)
    data = _table(run.place / f"rows.{'csv' if options['csv'] else 'parquet'}", options["gb"], run.seed)
    sample = _table(run.place / "sample.csv", 0.0, run.seed + 1)
    model, tokenizer = _tokenizer(sample, run.place)
    size, processes = data.stat().st_size / 1e6, str(options["processes"])
    ours, rival, peaks = [], [], dict[str, int]()
    for turn in range(options["rounds"]):
        out = run.place / f"ours-{turn}"
        words = [
            "-m",
            "onetrunk",
            "prepare",
            str(data),
            "--out",
            str(out),
            "--from",
            str(model),
            "--workers",
            processes,
        ]
        words += ["--allow-equal-rows", "--given", "text"]
        seconds, peaks["ours"] = watched([sys.executable, *words], SINGLE)
        ours.append(size / seconds)
        run.on_event(Note(f"ours: {ours[-1]:.1f} MB/s, {peaks['ours'] / 1e9:.2f} GB"))
        shutil.rmtree(out)
        if not run.rival:
            continue
        out = run.place / f"rival-{turn}"
        words = ["-c", RIVAL, data.suffix[1:], str(data), str(tokenizer), str(out), processes]
        seconds, peaks["rival"] = watched([sys.executable, *words], SINGLE)
        rival.append(size / seconds)
        run.on_event(Note(f"datasets: {rival[-1]:.1f} MB/s, {peaks['rival'] / 1e9:.2f} GB"))
        shutil.rmtree(out)
        shutil.rmtree(f"{out}-cache")
    middle = [float(np.median(each)) if each else None for each in (ours, rival)]
    assert middle[0] is not None
    return Figures(
        ours=middle[0],
        interval=[min(ours), max(ours)],
        unit="MB/s",
        rival_name="datasets (load, map, save_to_disk)",
        rival=middle[1],
        split={"gb": size / 1e3, "format": data.suffix[1:], "processes": options["processes"]},
        ratio=None if middle[1] is None else middle[0] / middle[1],
        also={"wanted": 1.0, "peak_gb": {side: peak / 1e9 for side, peak in peaks.items()},
              "interval_is": "least and most of the rounds"},
    )  # fmt: skip


def _table(path: Path, gb: float, seed: int) -> Path:
    """A table of one column, of about so many GB as text; at least enough rows to learn from."""
    import pyarrow as pa

    rows = max(LEARNT_FROM, int(gb * 1e9 / TEXT_BYTES))
    return write_table(path, {"text": pa.string()}, rows, seed, lambda texts, _: {"text": texts})


def _tokenizer(sample: Path, place: Path) -> tuple[Path, Path]:
    """A model folder whose vocabulary is learnt from the sample, and its tokenizer as a file."""
    out = place / "model"
    words = ["pretrain", str(sample), "--out", str(out), "--size", "nano", "--set", "pretrain.steps=1"]
    made = subprocess.run([sys.executable, "-m", "onetrunk", *words], cwd=ROOT, capture_output=True, text=True)
    if made.returncode:
        raise UsageError(f"onetrunk {' '.join(words)} failed: {made.stderr[-2000:]}")
    from onetrunk.inference.model_folder import load

    model = load(out, device="cpu")
    encoder: Any = model.encoder("text")
    (place / "rival-tokenizer.json").write_text(encoder.tokenizer.to_str(), encoding="utf-8")
    return out, place / "rival-tokenizer.json"
