"""Sound: files of any kind to samples, samples to a log-mel spectrogram and back (Griffin-Lim)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from fractions import Fraction
from itertools import count, takewhile
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from onetrunk.core.errors import BadValueError
from onetrunk.core.unpacking import Unpacked
from onetrunk.media.limits import media_limits
from onetrunk.media.source import as_file, source_of
from onetrunk.media.video import container_of, opened_container

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".opus", ".aiff", ".aif", ".au", ".m4a", ".aac")
_BLOCK = 1 << 20
_RATES = (1_000, 768_000)
_MIN_SECONDS = 0.01
_SILENCE = 1e-5  # of full scale; half a step of 16 bits is 1.5e-5
_UNKNOWN_LENGTH = 0xFFFF_FF00  # a WAV that was written to a pipe promises this much, or more
_FLOOR = 1e-8  # power of a mel band: 80 dB below full scale
_LOUDNESS = 0.1  # of full scale: root mean square of the louder frames
_FRAMES_AT_ONCE = 4096
_ITERATIONS = 48
_MOMENTUM = 0.99


# -- reading and writing ---------------------------------------------------------------------------------------------
def open_audio(value: Any, rate: int | None = None) -> tuple[int, np.ndarray]:
    """A path, bytes, a `{"bytes", "path"}` dict, a pair (rate, array), or, where `rate` is given, an array: its rate in
    Hz and its samples, float32 [n], channels averaged, 1 full scale.

    Arrays are [n] or [n, channels], floats or whole numbers (of which the type's range is full scale). Files are
    decoded in blocks, whatever their headers say. Raises BadValueError with the reason.
    """
    if isinstance(value, np.ndarray) and rate is not None:
        value = (rate, value)
    if isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[0], int | np.integer):
        name, own_rate, samples = "the array", int(value[0]), _averaged(np.asarray(value[1]))
    else:
        source, name = source_of(value, "a recording")
        own_rate, samples = _decoded(source, name)
    if not _RATES[0] <= own_rate <= _RATES[1]:
        raise BadValueError(f"{name}: {own_rate:,} samples a second; expected {_RATES[0]:,} to {_RATES[1]:,}")
    if len(samples) < _MIN_SECONDS * own_rate:
        raise BadValueError(f"{name} is too short: {len(samples)} samples at {own_rate:,} Hz, expected 10 ms at least")
    if not np.isfinite(samples).all():
        raise BadValueError(f"{name} holds samples that are no finite numbers")
    if float(np.ptp(samples)) < _SILENCE:
        raise BadValueError(f"{name} is silent")
    return own_rate, samples


def _averaged(array: np.ndarray) -> np.ndarray:
    """[n] or [n, channels] of any number type to float32 [n]."""
    if array.ndim not in (1, 2) or not array.size or array.dtype.kind not in "iuf":
        raise BadValueError(f"expected samples [n] or [n, channels], found {array.dtype} {list(array.shape)}")
    samples = array.astype(np.float32)
    if array.dtype.kind in "iu":
        ends = np.iinfo(array.dtype)
        samples = samples / (2.0 ** (ends.bits - 1)) - (ends.min == 0)
    return samples.mean(1) if samples.ndim == 2 else samples


def _decoded(value: str | Path | bytes, name: str) -> tuple[int, np.ndarray]:
    try:
        with soundfile.SoundFile(as_file(value)) as file:
            promised = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
            if promised and int(promised[2]) < int(promised[1]) < _UNKNOWN_LENGTH:
                raise BadValueError(f"{name}: its header promises {int(promised[1]):,} bytes, it holds {promised[2]}")
            unpacked = Unpacked(_size(value))
            blocks = (file.read(_BLOCK, dtype="float32", always_2d=True) for _ in count())
            samples = _within_bounds(blocks, name, unpacked)
            if len(samples) < file.frames and file.format != "MP3":  # whose header may be an estimate
                raise BadValueError(f"{name}: its header promises {file.frames:,} samples, it holds {len(samples):,}")
            return file.samplerate, samples
    except soundfile.LibsndfileError as error:
        if not isinstance(value, bytes) and not Path(value).is_file():
            raise BadValueError(f"{name}: no such file") from None
        if (kind := container_of(value)) is not None:  # a film, or sound in a container of films (m4a)
            return _of_video(value, kind, name)
        raise BadValueError(f"{name} is not a readable recording ({error.error_string.strip(' .')})") from None


def _size(value: str | Path | bytes) -> int:
    return len(value) if isinstance(value, bytes) else Path(value).stat().st_size


def _within_bounds(blocks: Iterable[np.ndarray], name: str, unpacked: Unpacked) -> np.ndarray:
    """Blocks [n, channels] up to the first empty one, averaged and joined."""
    means, total, most = [], 0, media_limits.get().samples
    for block in takewhile(len, blocks):
        total += block.size
        if total > most:
            raise BadValueError(f"{name} is too long: more than {most:,} samples, all channels together")
        if (bomb := unpacked.bomb(block.nbytes)) is not None:
            raise BadValueError(f"{name}: {bomb}")
        means.append(block.mean(1))
    return np.concatenate(means) if means else np.zeros(0, dtype=np.float32)


def _of_video(value: str | Path | bytes, kind: str, name: str) -> tuple[int, np.ndarray]:
    with opened_container(value, kind, name) as film:
        if not film.streams.audio:
            raise BadValueError(f"{name} has no sound")
        stream = film.streams.audio[0]
        blocks = (_channels_last(frame) for frame in film.decode(stream))
        return int(stream.rate), _within_bounds(blocks, name, Unpacked(_size(value)))


def _channels_last(frame: Any) -> np.ndarray:
    """A decoded frame of any sample format as float32 [n, channels]."""
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T
    if array.dtype.kind in "iu":
        ends = np.iinfo(array.dtype)
        array = array / (2.0 ** (ends.bits - 1)) - (ends.min == 0)
    return array.T.astype(np.float32)


def wav(samples: np.ndarray, rate: int) -> bytes:
    """Samples [n], 1 full scale, as a WAV file of 16 bits; what is louder than that is made quieter as a whole."""
    peak = max(1.0, float(np.abs(samples).max(initial=0)))
    data = np.round(samples / peak * 32767).astype("<i2").tobytes()
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return (
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + form + b"data" + struct.pack("<I", len(data)) + data
    )


def resampled(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """The same sound at another rate, float32."""
    if rate == target:
        return samples
    from scipy.signal import resample_poly

    # Odd rates would need filters of a million taps: the nearest simple ratio is off by less than a cent.
    ratio = Fraction(target // gcd(rate, target), rate // gcd(rate, target)).limit_denominator(2000)
    return resample_poly(samples, ratio.numerator, ratio.denominator).astype(np.float32)


def same_loudness(samples: np.ndarray, rate: int) -> np.ndarray:
    """The same sound at one loudness: that of its louder frames of 10 ms, whatever lies between them."""
    frame = max(1, rate // 100)
    whole = samples[: max(1, len(samples) // frame) * frame]
    power = np.square(whole, dtype=np.float64).reshape(-1, min(frame, len(whole))).mean(1)
    return samples * np.float32(_LOUDNESS / np.sqrt(np.quantile(power, 0.9) + 1e-12))


# -- spectra ---------------------------------------------------------------------------------------------------------
class LogMel:
    """The logarithm of the power in mel bands (Stevens et al. 1937; O'Shaughnessy's formula), a frame every 10 ms."""

    def __init__(self, rate: int, bands: int) -> None:
        self.rate, self.bands = rate, bands
        self.hop = rate // 100
        self.size = 1 << int(np.ceil(np.log2(0.03 * rate)))  # of the transform: 30 ms or a little more
        # Hann's window, as periodic as the transform is.
        self.window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.size) / self.size)).astype(np.float32)
        ends = np.linspace(0, hz_to_mel(rate / 2), bands + 2)
        self.centres = mel_to_hz(ends[1:-1])  # Hz
        self.filters = self._filters(mel_to_hz(ends))  # [bands, size / 2 + 1]

    def _filters(self, edges: np.ndarray) -> np.ndarray:
        """Triangles from centre to centre, at least a bin wide, each of unit sum."""
        bins = np.arange(self.size // 2 + 1) * self.rate / self.size
        one_bin = self.rate / self.size
        low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
        rise = (bins - centre) / np.maximum(centre - low, one_bin) + 1
        fall = (centre - bins) / np.maximum(high - centre, one_bin) + 1
        triangles = np.clip(np.minimum(rise, fall), 0, None)
        return (triangles / triangles.sum(1, keepdims=True)).astype(np.float32)

    def __call__(self, samples: np.ndarray, multiple: int = 1) -> np.ndarray:
        """Samples [n] to float32 [frames, bands], natural logarithms; as many frames as a multiple of `multiple`
        needs, silent at the end. A full-scale sine is near 0."""
        frames = multiple * max(1, -(-len(samples) // (self.hop * multiple)))
        x = np.pad(samples, (0, frames * self.hop - len(samples)))
        windows = self._windows(x)[:frames]
        full_scale = np.float32((self.window.sum() / 2) ** 2)
        out = np.empty((frames, self.bands), dtype=np.float32)
        for first in range(0, frames, _FRAMES_AT_ONCE):  # an hour at once would take gigabytes
            block = slice(first, first + _FRAMES_AT_ONCE)
            power = _squared(self._transformed(windows[block])) / full_scale
            out[block] = np.log(power @ self.filters.T + np.float32(_FLOOR))
        return out

    def _windows(self, x: np.ndarray) -> np.ndarray:
        """Samples [n] as overlapping windows [1 + n / hop, size], each around its frame's first sample."""
        around = np.pad(x.astype(np.float32, copy=False), self.size // 2)
        return np.lib.stride_tricks.sliding_window_view(around, self.size)[:: self.hop]

    def _transformed(self, windows: np.ndarray) -> np.ndarray:
        """complex64 [frames, size / 2 + 1]."""
        return np.fft.rfft(windows * self.window, axis=1).astype(np.complex64, copy=False)

    def invert(self, log_mel: np.ndarray) -> np.ndarray:
        """[frames, bands] to samples [frames * hop]: magnitudes from the bands, phases by fast Griffin-Lim
        (Perraudin, Balazs and Søndergaard 2013)."""
        frames = len(log_mel)
        power = np.clip(np.exp(log_mel.astype(np.float32)) - np.float32(_FLOOR), 0, None)
        magnitude = np.sqrt(_not_negative(self.filters, power)) * np.float32(self.window.sum() / 2)
        magnitude = np.concatenate([magnitude, np.zeros_like(magnitude[:1])])  # the frame after the last
        phase = _first_phases(*magnitude.shape)
        before = np.zeros_like(phase)
        for _ in range(_ITERATIONS):
            spectrum = self._transformed(self._windows(self._signal(magnitude * phase, frames)))
            ahead = spectrum + np.float32(_MOMENTUM) * (spectrum - before)
            phase, before = ahead / np.maximum(np.abs(ahead), np.float32(1e-12)), spectrum
        return self._signal(magnitude * phase, frames)

    def _signal(self, spectrum: np.ndarray, frames: int) -> np.ndarray:
        """The samples [frames * hop] whose windows are nearest to a spectrum [frames + 1, bins] (Griffin and Lim
        1984)."""
        windows = np.fft.irfft(spectrum, self.size, axis=1).astype(np.float32, copy=False) * self.window
        weight = np.broadcast_to(self.window**2, windows.shape)
        inside = slice(self.size // 2, self.size // 2 + frames * self.hop)
        return self._overlapped(windows)[inside] / self._overlapped(weight)[inside]

    def _overlapped(self, windows: np.ndarray) -> np.ndarray:
        """The sum of windows [frames, size], each a hop after the one before it."""
        count, hops = len(windows), -(-self.size // self.hop)
        pieces = np.pad(windows, ((0, 0), (0, hops * self.hop - self.size))).reshape(count, hops, self.hop)
        out = np.zeros((count + hops - 1, self.hop), dtype=np.float32)
        for k in range(hops):
            out[k : k + count] += pieces[:, k]
        return out.reshape(-1)


def _squared(z: np.ndarray) -> np.ndarray:
    """Squared magnitudes of complex numbers."""
    return z.real**2 + z.imag**2


def _not_negative(filters: np.ndarray, power: np.ndarray, iterations: int = 60) -> np.ndarray:
    """x >= 0 [t, bins] with x @ filters.T near power [t, bands]: multiplicative updates (Lee and Seung 1999)."""
    up = power @ filters
    x = up + np.float32(1e-12)
    gram = filters.T @ filters
    for _ in range(iterations):
        x = x * up / np.maximum(x @ gram, np.float32(1e-20))
    return x


def _first_phases(frames: int, bins: int) -> np.ndarray:
    """Where Griffin-Lim begins: the same scattered phases every time, complex64 [frames, bins]."""
    golden = 0.6180339887498949
    turns = (np.arange(bins) * golden + np.arange(frames)[:, None] ** 2 * golden / 2) % 1
    return np.exp(2j * np.pi * turns).astype(np.complex64)


def hz_to_mel(hz: Any) -> Any:
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def mel_to_hz(mel: Any) -> Any:
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)
