"""Recordings as rooms, telephones and other people make them: noise, other sounds, another speed, another pitch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onetrunk.core import rng
from onetrunk.core.errors import BadValueError
from onetrunk.core.perturbation import Draw, Perturbation
from onetrunk.media.audio import open_audio, resampled

_RATE = 16_000  # of an array that does not tell its own
_DECIBELS = (20.0, 10.0, 0.0)

Sound = tuple[int, np.ndarray]  # rate, samples


def audio_perturbations() -> tuple[Perturbation, ...]:
    below = "dB below the recording"
    return (
        Perturbation("noise", "white noise", below, _DECIBELS, _of_sounds(_noisy)),
        Perturbation("background sound", "another recording of the column behind it", below, _DECIBELS,
                     _of_sounds(_with_another)),
        Perturbation("speed", "played faster or slower", "times as fast, or as slow", (1.1, 1.25, 1.5),
                     _of_sounds(_at_other_speed)),
        Perturbation("pitch", "higher or lower, as long as before", "semitones", (1, 2, 4),
                     _of_sounds(_at_other_pitch)),
    )  # fmt: skip


def _noisy(sound: Sound, severity: float, draw: Draw) -> Sound:
    rate, samples = sound
    return rate, mixed(samples, rng.normal(np.array([draw.key], dtype=np.uint64), len(samples))[0], severity)


def _with_another(sound: Sound, severity: float, draw: Draw) -> Sound | None:
    rate, samples = sound
    if not draw.others:
        return None
    chosen = draw.others[int(rng.integers(rng.mix(draw.key, "other"), len(draw.others))[0])]
    try:
        own_rate, other = open_audio(chosen, _RATE)
    except BadValueError:
        return None
    other = resampled(other, own_rate, rate)
    return rate, mixed(samples, np.resize(other, len(samples)), severity)


def mixed(samples: np.ndarray, other: np.ndarray, decibels: float) -> np.ndarray:
    """Another sound behind samples [n], so many decibels below them: a matter of mean power."""
    own, theirs = (float(np.mean(np.square(x, dtype=np.float64))) for x in (samples, other))
    gain = np.sqrt(own / max(theirs, 1e-12) / 10 ** (decibels / 10))
    return (samples + np.float32(gain) * other).astype(np.float32)


def _at_other_speed(sound: Sound, severity: float, draw: Draw) -> Sound:
    rate, samples = sound
    factor = severity if _up(draw) else 1 / severity
    return rate, resampled(samples, round(rate * factor), rate)


def _at_other_pitch(sound: Sound, severity: float, draw: Draw) -> Sound:
    rate, samples = sound
    factor = 2 ** ((severity if _up(draw) else -severity) / 12)
    longer = lengthened(samples, factor, rate)
    return rate, np.resize(resampled(longer, round(rate * factor), rate), len(samples))


def _up(draw: Draw) -> bool:
    return bool(rng.uniform(rng.mix(draw.key, "up"))[0] < 0.5)


def lengthened(samples: np.ndarray, factor: float, rate: int) -> np.ndarray:
    """The same sound at the same pitch, `factor` times as long: a phase vocoder (Flanagan and Golden 1966)."""
    from scipy.signal import istft, stft

    size = min(1 << int(np.ceil(np.log2(0.04 * rate))), len(samples) // 2 * 2)
    hop = size // 4
    _, _, spectrum = stft(samples, rate, nperseg=size, noverlap=size - hop)
    steps = np.arange(0, spectrum.shape[1] - 1, 1 / factor)
    before = steps.astype(np.int64)
    rest = (steps - before)[None]
    magnitude = (1 - rest) * np.abs(spectrum[:, before]) + rest * np.abs(spectrum[:, before + 1])
    expected = 2 * np.pi * hop * np.arange(spectrum.shape[0])[:, None] / size
    advance = np.angle(spectrum[:, before + 1]) - np.angle(spectrum[:, before]) - expected
    advance = expected + (advance + np.pi) % (2 * np.pi) - np.pi
    phase = np.angle(spectrum[:, :1]) + np.concatenate(
        [np.zeros_like(advance[:, :1]), np.cumsum(advance, axis=1)[:, :-1]], axis=1
    )
    _, out = istft(magnitude * np.exp(1j * phase), rate, nperseg=size, noverlap=size - hop)
    return out.astype(np.float32)


def _of_sounds(change: Callable[[Sound, float, Draw], Sound | None]) -> Callable[[Any, float, Draw], Any]:
    def changed(value: Any, severity: float, draw: Draw) -> Any:
        try:
            sound = open_audio(value, _RATE)
        except BadValueError:  # whoever reads it says so
            return value
        other = change(sound, severity, draw)
        return value if other is None else other

    return changed
