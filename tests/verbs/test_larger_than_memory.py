"""All verbs on a table that memory could not hold as Python lists, and the same results as on one that it can."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import csv as arrow_csv

import onetrunk
from onetrunk.data import spool
from onetrunk.data.table import read

WORDS = "sea sand wind salt stone wave light shore boat rope sail mast deck hull tide moon star fog".split()  # noqa: SIM905
ROWS, NUMBERS, NOTE_WORDS = 40_000, 10, 1200
ABOVE = 210 << 20  # bytes of private memory beyond what the verbs take on a small table

LIMIT = """
import resource

def limit(above):
    # Private memory, as the kernel counts it: what is mapped from files does not belong to it.
    now = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (now + int(above), resource.RLIM_INFINITY))
"""

AS_LISTS = (
    LIMIT
    + """
import sys
from onetrunk.data.table import read

list(read(sys.argv[1])["label"])
limit(sys.argv[2])
kept = {name: list(values) for name, values in read(sys.argv[1]).columns.items()}
"""
)

CHILD = (
    LIMIT
    + """
import sys
import onetrunk
from onetrunk.data import inspection
from onetrunk.evaluation import evidence_folder

small, large, place, above = sys.argv[1:]
evidence_folder.MAX_JUDGED = 2000  # these two save time; memory does not need them
inspection.PREPARED = 1000


def verbs(data, place):
    quick = ["train.tensorboard=false", "columns.review.unit=character", "columns.review.length=32"]
    told = {"ask": ["label"], "given": ["review", "m0", "m1"], "size": "nano", "quiet": True}
    seen = onetrunk.inspect(data, ask=["label"], quiet=True)
    onetrunk.pretrain(data, out=f"{place}/base", settings=[*quick, "pretrain.steps=3"], **told)
    onetrunk.finetune(data, start=f"{place}/base", out=f"{place}/model", settings=[*quick, "finetune.steps=3"], **told)
    onetrunk.evaluate(f"{place}/model", data, quiet=True)
    onetrunk.predict(f"{place}/model", data, given=["m0", "m1"], out=f"{place}/answers.parquet", quiet=True)
    return seen


verbs(small, f"{place}/small")  # loads what all of them need
limit(above)
seen = verbs(large, f"{place}/large")
print("rows", seen.rows, "columns", len(seen.columns))
"""
)


def generate(path: Path, n: int) -> Path:
    dice = np.random.default_rng(1)

    def text(words: int) -> pa.Array:
        some = [" ".join(dice.choice(WORDS, words)) for _ in range(500)]
        return pa.array(some).take(pa.array(dice.integers(0, len(some), n)))

    number = pa.array(np.arange(n)).cast(pa.string())
    label = dice.integers(0, 2, n)
    columns = {
        "review": pc.binary_join_element_wise(text(4), number, " "),
        "label": pa.array(["good", "bad"]).take(pa.array(label)),
        "notes": pc.binary_join_element_wise(text(NOTE_WORDS), number, " "),
    }
    columns |= {f"m{i}": pa.array(np.round(dice.normal(size=n) * 100 + 9 * label, 4)) for i in range(NUMBERS)}
    arrow_csv.write_csv(pa.table(columns), path)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="counts private memory as Linux does")
def test_all_verbs_on_a_table_that_memory_could_not_hold(tmp_path: Path) -> None:
    small, large = generate(tmp_path / "small.csv", 3000), generate(tmp_path / "large.csv", ROWS)
    assert large.stat().st_size > 240e6
    command = [sys.executable, "-c", CHILD, str(small), str(large), str(tmp_path), str(ABOVE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"rows {ROWS} columns {NUMBERS + 3}\n"
    lists = [sys.executable, "-c", AS_LISTS, str(large), str(ABOVE)]
    burst = subprocess.run(lists, capture_output=True, text=True, check=False)
    assert burst.returncode != 0 and "MemoryError" in burst.stderr, "the limit is one that lists would burst"
    answers = read(tmp_path / "large" / "answers.parquet")
    assert len(answers) == ROWS and set(answers["label"]) <= {"good", "bad"}
    evidence = json.loads((tmp_path / "large" / "model" / "evidence" / "metrics.json").read_text(encoding="utf-8"))
    assert evidence["tasks"][0]["rows"] > 1500


def test_a_large_table_gives_what_a_small_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = np.random.default_rng(2)
    label = dice.integers(0, 2, 700)
    rows = pd.DataFrame(
        {
            "review": [" ".join(dice.choice(WORDS, dice.integers(1, 9))) + f" {i}" for i in range(700)],
            "m0": np.where(dice.random(700) < 0.1, np.nan, dice.normal(size=700) + label),
            "day": [f"2024-0{1 + i % 9}-1{i % 7}" for i in range(700)],
            "label": np.where(label == 1, "good", "bad"),
        }
    )
    rows.to_csv(tmp_path / "rows.csv", index=False)
    results: list[dict[str, Any]] = []
    for name, bound in (("small", spool.IN_MEMORY_BYTES), ("large", 0)):
        monkeypatch.setattr(spool, "IN_MEMORY_BYTES", bound)
        data, place = str(tmp_path / "rows.csv"), tmp_path / name
        options = {"ask": ["label"], "size": "nano", "quiet": True, "seed": 4}
        quick = ["train.tensorboard=false"]
        seen = onetrunk.inspect(data, ask=["label"], split="auto", quiet=True).as_json()
        onetrunk.pretrain(data, out=str(place / "base"), settings=[*quick, "pretrain.steps=6"], **options)
        model = onetrunk.finetune(
            data, start=str(place / "base"), out=str(place / "model"), settings=[*quick, "finetune.steps=6"], **options
        )
        evidence = onetrunk.evaluate(str(place / "model"), data, against=data, quiet=True)
        onetrunk.predict(str(place / "model"), data, out=str(place / "answers.csv"), quiet=True)
        losses = [
            {key: value for key, value in json.loads(line).items() if "loss" in key}
            for folder in ("base", "model")
            for line in (place / folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        known = {key: encoder.knowledge() for key, encoder in model.network.encoders.items()}
        stages = [
            {"seen_rows": stage["seen_rows"].digest(), "split": stage["split"], "ledger": stage["ledger"]}
            for stage in model.provenance["stages"]
        ]
        task = evidence.tasks[0]
        judged = (task.rows, task.metrics, [(baseline.name, baseline.metrics) for baseline in task.baselines])
        results.append({"seen": seen, "losses": losses, "known": known, "stages": stages, "judged": judged})
    small, large = results
    assert all(small[part] == large[part] for part in small), [part for part in small if small[part] != large[part]]
    assert len(small["losses"]) > 3 and small["losses"][0]
    texts = [(tmp_path / name / "answers.csv").read_text(encoding="utf-8") for name in ("small", "large")]
    assert texts[0] == texts[1]
