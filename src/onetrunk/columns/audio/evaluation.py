"""How spoken answers are judged: by how well two draws together cover what is true, then by how differently they sound
from the true ones, and by their length.

The score of draws comes first: one that sounds unlike the true recording may be right, for it was one of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onetrunk.columns.audio.encoder import AudioEncoder
from onetrunk.columns.audio.perturbations import audio_perturbations
from onetrunk.columns.families.patches.sketch import stretched
from onetrunk.core.answer import Answer
from onetrunk.core.errors import BadValueError
from onetrunk.core.evaluation import Evaluation
from onetrunk.core.metric import Metric
from onetrunk.core.perturbation import Perturbation, Perturbed
from onetrunk.metrics.energy import ENERGY, energy_scores
from onetrunk.metrics.sound import SPOKEN, log_spectral_distance, mel_cepstral_distortion

_ANSWERED_FRAMES = 32  # that a simple model answers


class AudioEvaluation(Evaluation[AudioEncoder], Perturbed):
    def perturbations(self) -> tuple[Perturbation, ...]:
        return audio_perturbations()

    def metrics(self) -> tuple[Metric, ...]:
        return (ENERGY, *SPOKEN)

    @property
    def draws(self) -> int:
        return 2

    def measure(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        recordings = self._pairs(answers, truths)
        seconds = [abs(len(true) - len(answered)) / 100 for true, answered in recordings]
        return {
            ENERGY.name: float(self.per_row(answers, truths).mean()),
            "mel_cepstral_distortion": float(np.mean([mel_cepstral_distortion(*pair) for pair in recordings])),
            "log_spectral_distance": float(np.mean([log_spectral_distance(*pair) for pair in recordings])),
            "length_error": float(np.mean(seconds)),
        }

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray:
        """Distances are of spectrograms brought to one length, in units of the training recordings' spread."""
        return energy_scores(answers, truths, self.target)

    def _pairs(self, answers: Sequence[Answer], truths: Sequence[Any]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Spectrograms [frames, bands] of what is true and what was answered."""
        log_mel = self.encoder.log_mel
        return [(log_mel(t), log_mel(a.value)) for a, t in zip(answers, truths, strict=True)]

    # -- baselines ---------------------------------------------------------------------------------------------------
    def features(self) -> Any:
        from sklearn.preprocessing import FunctionTransformer

        return FunctionTransformer(lambda values: np.stack([self._seen(v) for v in values]))

    def _seen(self, value: Any) -> np.ndarray:
        """Nothing where there is no recording, or none that can be read."""
        try:
            if value is not None:
                return self.encoder.sketch(self.encoder.encode(value)["mel"])
        except BadValueError:
            pass
        return np.zeros_like(self.encoder.sketch(self.encoder.blank()["mel"]))

    def _sketch(self, value: Any, frames: int) -> np.ndarray:
        """Seconds, then the whole spectrogram in a few frames: [1 + frames * bands]. Raises BadValueError."""
        mel = self.encoder.log_mel(value)
        normed = (mel - self.encoder.mean) / self.encoder.scale
        return np.concatenate([[len(mel) / 100], stretched(normed, frames).ravel()])

    def baselines(self) -> dict[str, Any]:
        from sklearn.dummy import DummyRegressor
        from sklearn.linear_model import Ridge

        return {"mean recording": DummyRegressor(), "ridge": Ridge()}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        return np.stack([self._sketch(value, _ANSWERED_FRAMES) for value in values])

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        encoder, answers = self.encoder, []
        for row in estimator.predict(features):
            mel = row[1:].reshape(_ANSWERED_FRAMES, encoder.options.bands) * encoder.scale + encoder.mean
            frames = int(np.clip(round(100 * row[0]), 1, 100 * encoder.options.length))
            answers.append(Answer(encoder.sound_of(stretched(mel, frames))))
        return answers
