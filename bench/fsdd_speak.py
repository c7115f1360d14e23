"""fsdd_speak: digits spoken by the model, heard by a recogniser of real speech; against real clips it has not heard.

    python -m bench fsdd_speak      about 15 minutes on 2 cores

Both models learn from the 780 training clips: one speaks (audio from the digit), the other recognises (the digit from
audio) and never hears the first. Accuracy of the recogniser on 300 spoken digits and on the real clips.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import fsdd
from bench.common import Figures, Run, data_folder

SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 4, "heads": 4},
    "columns": {"audio": {"type": "audio", "stem": 8}, "digit": {"type": "category"}},
    "train": {"lr": 2e-3, "tensorboard": False},
    "pretrain": {
        "steps": 900,
        "objectives": [
            {"kind": "predict", "documents": 80, "given": ["digit"], "ask": ["audio"]},
            {"kind": "predict", "documents": 16, "given": [], "ask": ["audio"]},  # without a digit: for guidance
        ],
    },
}
EACH = 30  # spoken clips a digit
GUIDANCE, TEMPERATURE, STEPS = 2.0, 0.7, 24


def compare(run: Run) -> Figures:

    from onetrunk.core.answer import Sampling
    from onetrunk.training.finetune import finetune_model
    from onetrunk.training.pretrain import pretrain_model
    from onetrunk.training.recipe import Recipe
    from onetrunk.training.stage import new_model

    folder = data_folder("fsdd")
    config, _ = run.config(SETTINGS)
    hears = Recipe.parse(fsdd.SETTINGS, "the settings of fsdd")
    heard = run.open(fsdd.read(folder), hears, ask=["digit"], ignore=["speaker"])
    recogniser = new_model(heard, hears, run.seed)
    recogniser = finetune_model(heard, run.context(hears, run.place / "hears"), recogniser, pretrained=False).model
    spoken = run.open(fsdd.read(folder), config, ask=["audio"], ignore=["speaker"])
    speaker = pretrain_model(spoken, run.context(config, run.place / "speaks"))

    digits = [digit for digit in range(10) for _ in range(EACH)]
    sampling = Sampling(temperature=TEMPERATURE, guidance=GUIDANCE, steps=STEPS, seed=run.seed)
    clips = [answer.value for answer in speaker.answer({"digit": digits}, "audio", ["digit"], sampling)]
    right = _right(recogniser, clips, digits)
    real = heard.rows(run.split)
    truly = _right(recogniser, real["audio"], real["digit"])
    evaluation = speaker.evaluation("audio")
    nearest = (
        _nearest(evaluation, clips, spoken.rows("train")["audio"]),
        _nearest(evaluation, real["audio"], spoken.rows("train")["audio"]),
    )
    return Figures(
        ours=float(right.mean()),
        interval=_wilson(right),
        unit="recognised",
        rival_name="real clips",
        rival=float(truly.mean()),
        split={"part": run.split, "spoken": len(clips), "real": len(truly)},
        also={
            "by_digit": {str(d): float(right[np.array(digits) == d].mean()) for d in range(10)},
            "real_interval": _wilson(truly),
            "seconds_spoken": _seconds(clips),
            "seconds_real": _seconds(real["audio"]),
            "distance_to_nearest_training_clip": {"spoken": nearest[0], "real": nearest[1]},
        },
    )


def _right(recogniser: Any, clips: list[Any], digits: list[int]) -> np.ndarray:
    answers = recogniser.answer({"audio": clips}, "digit", ["audio"])
    return np.array([answer.value == digit for answer, digit in zip(answers, digits, strict=True)])


def _nearest(evaluation: Any, clips: list[Any], training: list[Any]) -> float:
    """Median distance to the nearest training clip, of spectrograms in 32 frames: copies would be much nearer than
    real clips are."""
    from onetrunk.metrics.images import nearest

    distances, _ = nearest(evaluation.target(clips)[:, 1:], evaluation.target(training)[:, 1:])
    return float(np.median(distances))


def _seconds(clips: list[Any]) -> float:
    from onetrunk.media.audio import open_audio

    opened = [open_audio(clip) for clip in clips]
    return float(np.mean([len(samples) / rate for rate, samples in opened]))


def _wilson(right: np.ndarray) -> list[float]:
    from onetrunk.evaluation.intervals import wilson

    bounds = wilson(float(right.sum()), len(right))
    return [bounds.low, bounds.high]
