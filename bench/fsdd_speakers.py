"""fsdd_speakers: which digit is spoken, by a speaker never heard? Each of 4 left out in turn; against the same spectra.

    python -m bench fsdd_speakers      about 12 minutes on 2 cores

Accuracy on the 200 clips of each left-out speaker, from the 1,000 of the others; the mean of 4. `--split val` leaves
out each of the other two: settings were chosen on them."""

from __future__ import annotations

import copy
import csv
from pathlib import Path
from typing import Any

import numpy as np

from bench import fsdd
from bench.common import Figures, Run, data_folder

SETTINGS: dict[str, Any] = copy.deepcopy(fsdd.SETTINGS)
SPEAKERS = {"val": ["george", "theo"], "test": ["jackson", "lucas", "nicolas", "yweweler"]}


def read(folder: Path, speaker: str = "theo") -> dict[str, list[Any]]:
    """All clips of one speaker are the test split; of the others takes 5 and 6 choose the best step."""
    with (folder / "metadata.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        "audio": [folder / row["file"] for row in rows],
        "digit": [int(row["digit"]) for row in rows],
        "split": ["test" if r["speaker"] == speaker else "val" if r["take"] in ("5", "6") else "train" for r in rows],
    }


def compare(run: Run) -> Figures:
    from onetrunk.training.finetune import finetune_model
    from onetrunk.training.stage import new_model

    config, _ = run.config(SETTINGS)
    right: dict[str, list[np.ndarray]] = {"ours": [], "rival": []}
    for speaker in SPEAKERS[run.split]:
        data = run.open(read(data_folder("fsdd"), speaker), config, ask=["digit"])
        model = new_model(data, config, run.seed)
        model = finetune_model(data, run.context(config, run.place / speaker), model, pretrained=False).model
        test, train = data.rows("test"), data.rows("train")
        truth = np.array(test["digit"])
        right["ours"].append(np.array([a.value for a in model.answer(test, "digit", data.given)]) == truth)
        if run.rival:
            rival = fsdd.rival().fit(train.frame(), np.array(train["digit"]))
            right["rival"].append(rival.predict(test.frame()) == truth)
    mean = {name: float(np.mean(np.concatenate(each))) if each else None for name, each in right.items()}
    return Figures(
        ours=mean["ours"],
        interval=_over_speakers(right["ours"], run.seed),
        unit="accuracy",
        rival_name="12-frame spectra, LR",
        rival=mean["rival"],
        split={"part": run.split, "speakers": SPEAKERS[run.split], "clips": 200},
        also={
            name: {s: float(e.mean()) for s, e in zip(SPEAKERS[run.split], each, strict=True)}
            for name, each in right.items()
            if each
        },
    )


def _over_speakers(right: list[np.ndarray], seed: int) -> list[float]:
    """Speakers are resampled, and the clips of each: 95 %."""
    dice = np.random.default_rng(seed)
    draws = [
        np.mean([dice.choice(right[s], len(right[s])).mean() for s in dice.integers(0, len(right), len(right))])
        for _ in range(1000)
    ]
    return [float(x) for x in np.quantile(draws, [0.025, 0.975])]
