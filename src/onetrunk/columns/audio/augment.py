"""Recordings as they might have been made otherwise: faster, higher, louder, with noise, with gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onetrunk.core import rng
from onetrunk.core.content import local_positions
from onetrunk.media.audio import hz_to_mel

if TYPE_CHECKING:
    from onetrunk.columns.audio.encoder import AudioEncoder

DECIBEL = np.log(10) / 10  # in natural logarithms of power


def augmented(
    encoder: AudioEncoder, mel: np.ndarray, lens: np.ndarray, keys: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Normed patches [n, step * bands] of m recordings with `lens` [m] patches, each changed in its own way; and
    how many patches they have then."""
    o, bands, step = encoder.options, encoder.options.bands, encoder.options.step
    u = rng.uniform(rng.mix(keys, "augment"), 12)
    slower = 1 + o.speed * (2 * u[:, 0] - 1)
    new_lens = np.clip(np.round(lens * slower), 1, o.length).astype(np.int64)
    frames = step * new_lens
    whose = np.repeat(np.arange(len(frames)), frames)
    x = _at_other_speed(mel.reshape(-1, bands), step * lens, frames)
    x = np.take_along_axis(x, _other_bands(encoder, 1 + o.pitch * (2 * u[:, 1] - 1))[whose], axis=1)
    x = x * encoder.scale + encoder.mean
    noise = encoder.noise(new_lens, rng.mix(keys, "grain")).reshape(-1, bands)
    x = _with_noise_and_gain(x, noise, whose, u, o.noise, o.gain)
    x = ((x - encoder.mean) / encoder.scale).astype(np.float32)
    _leave_out(x, frames, whose, u, o.mask)
    return x.reshape(-1, encoder.patch_size), new_lens


def _at_other_speed(mel: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Spectrograms of `old` [m] frames in `new` [m] frames, [sum(new), bands], linear between them."""
    whose = np.repeat(np.arange(len(new)), new)
    last = (old - 1)[whose]
    at = np.clip((local_positions(new) + 0.5) * (old / new)[whose] - 0.5, 0, last).astype(np.float32)
    before = np.minimum(at.astype(np.int64), np.maximum(last - 1, 0))
    start = (np.cumsum(old) - old)[whose]
    rest = (at - before)[:, None]
    return mel[start + before] * (1 - rest) + mel[start + np.minimum(before + 1, last)] * rest


def _other_bands(encoder: AudioEncoder, ratio: np.ndarray) -> np.ndarray:
    """Which band each takes its value from when all frequencies are multiplied by `ratio` [m]: int64 [m, bands]."""
    bands, top = encoder.options.bands, hz_to_mel(encoder.sampling_rate / 2)
    mel = hz_to_mel(encoder.spectra.centres / ratio[:, None])
    return np.clip(np.round(mel / top * (bands + 1)) - 1, 0, bands - 1).astype(np.int64)


def _with_noise_and_gain(
    x: np.ndarray, noise: np.ndarray, whose: np.ndarray, u: np.ndarray, noise_rate: float, gain: float
) -> np.ndarray:
    """Log-mel frames [n, bands] with noise at another level in each recording, louder or quieter, and as another
    microphone hears them."""
    bands = x.shape[1]
    loudest = np.full(len(u), -np.inf, dtype=np.float32)
    np.maximum.at(loudest, whose, x.mean(1))
    below = (10 + 30 * u[:, 3]) * DECIBEL  # 10 to 40 dB under the loudest frame,
    across = np.linspace(-1, 1, bands, dtype=np.float32)
    tilt = 2 * (2 * u[:, 4:5] - 1) * across  # darker or lighter
    level = np.where(u[:, 2] < noise_rate, loudest - below, -50).astype(np.float32)[:, None] + tilt
    shapes = np.stack([np.ones(bands), across, 2 * across**2 - 1])  # louder, and another microphone
    gains = gain * DECIBEL * (2 * u[:, [5, 10, 11]] - 1) @ shapes
    return np.logaddexp(x, level[whose] + 0.7 * noise) + gains[whose].astype(np.float32)


def _leave_out(x: np.ndarray, frames: np.ndarray, whose: np.ndarray, u: np.ndarray, share: float) -> None:
    """Sets a stretch of time and a stretch of bands of each recording to the mean, at most `share` of each on
    average, in place."""
    bands, here = x.shape[1], local_positions(frames)
    long = np.round(share * u[:, 6] * frames)[whose]
    first = ((u[:, 7] * frames)[whose]).astype(np.int64)
    x[(here >= first) & (here < first + long)] = 0
    high, low = np.round(2 * share * u[:, 8] * bands)[:, None], np.floor(u[:, 9] * bands)[:, None]
    band = np.arange(bands)
    x[((band >= low) & (band < low + high))[whose]] = 0
