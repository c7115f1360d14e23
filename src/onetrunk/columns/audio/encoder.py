"""Recordings as log-mel spectrograms in patches of a few frames: how they are normed, cut and masked."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from onetrunk.columns.audio.augment import DECIBEL, augmented
from onetrunk.columns.families.media import fingerprint_of, opened_sample
from onetrunk.columns.families.patches.levels import asked_level, denoising_targets, noisy
from onetrunk.columns.families.patches.sketch import cell_means, stretched
from onetrunk.columns.families.scalar.bars import Bars, fit_bars
from onetrunk.core import rng
from onetrunk.core.config import Config
from onetrunk.core.content import Content, Role, Segment, local_positions
from onetrunk.core.encoder import Beside, Encoder, FileAnswers, SegmentContext
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.core.parts import Arrays, Divided, Parts
from onetrunk.core.wide import Wide, WideFeatures, numbers
from onetrunk.media.audio import SUFFIXES, LogMel, open_audio, resampled, same_loudness, wav
from onetrunk.media.image import as_png, resize

_MAX_RATE = 16_000  # Hz, unless told: speech holds little above 8 kHz
_SAMPLE = 200  # recordings that the scale is learnt from
_SEEN_FRAMES, _SEEN_BANDS = 12, 64  # that simple models see, at most
_MAX_SECONDS_SHOWN = 20
SLOT, NOTHING = -1, -2  # instead of a patch's position: the slot where the length is asked, and padding


class AudioEncoder(Encoder, FileAnswers, Wide, Divided):
    """Patches with one noise level each, as those of pictures. What is asked begins with a slot, whose answer is how
    many patches there are; they see it, and each other."""

    type_name = "audio"
    ragged = True
    divisible = True
    shared = True

    class Options(Config):
        rate: int | None = Field(None, ge=4000, le=48_000)  # Hz inside the model; None: the recordings', 16,000 at most
        even: bool = True  # bring every recording to one loudness
        bands: int = Field(64, ge=8, le=256)  # of the mel scale
        step: int = Field(4, ge=1, le=32)  # frames of 10 ms in one patch
        length: int = Field(750, ge=1, le=100_000)  # patches of one recording that the trunk sees: the context
        mask_rate: float = Field(0.5, gt=0, le=1)  # share of patches masked, about
        span: int = Field(3, ge=1, le=100)  # neighbouring patches masked together (wav2vec 2.0, arXiv 2006.11477)
        speed: float = Field(0.1, ge=0, lt=1)  # augmentation in training: share of the speed,
        pitch: float = Field(0.1, ge=0, lt=1)  # share of all frequencies (Jaitly and Hinton 2013),
        gain: float = Field(6.0, ge=0)  # decibels, of all bands and of some more than of others,
        noise: float = Field(0.5, ge=0, le=1)  # how often noise is added,
        mask: float = Field(0.1, ge=0, lt=1)  # share of time, and of bands, left out (SpecAugment, arXiv 1904.08779)
        stem: int = Field(16, ge=1, le=1024)  # channels of the convolutional stem

    options: Options
    sampling_rate: int  # Hz inside the model
    mean: float  # of the log-mel spectrograms,
    scale: float  # and their standard deviation
    longest: int  # patches of the longest training recording
    length_bars: Bars  # of lengths, the longest being 1
    spectra: LogMel

    # -- values ------------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        return 1.0 if all(_looks_like_sound(v) for v in values) else 0.0

    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        lengths, rates, unreadable = [], set(), 0
        for opened in opened_sample(values, _open, _SAMPLE):
            if opened is None:
                unreadable += 1
            else:
                rate, samples = opened
                lengths.append(len(samples) / rate)
                rates.add(rate)
        if not lengths:
            return {"readable": 0}
        return {
            "shortest": f"{min(lengths):.2f} s",
            "median": f"{float(np.median(lengths)):.2f} s",
            "longest": f"{max(lengths):.2f} s",
            "samples a second": " and ".join(f"{rate:,}" for rate in sorted(rates)),
            "unreadable in the sample": unreadable,
        }

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        return fingerprint_of(value, _open, lambda opened: f"{opened[0]}".encode() + opened[1].tobytes())

    @classmethod
    def show(cls, value: Any, on: Any = None) -> dict[str, str]:
        """A player, and the spectrogram: time to the right, low sounds below."""
        try:
            own_rate, samples = open_audio(value, _MAX_RATE)
        except BadValueError as error:
            return {"text": str(error)}
        rate = min(own_rate, _MAX_RATE)
        samples = resampled(samples, own_rate, rate)[: _MAX_SECONDS_SHOWN * rate]
        mel = LogMel(rate, 64)(samples).T[::-1]
        grey = np.clip((mel - mel.max()) / (60 * DECIBEL) + 1, 0, 1)
        picture = resize((255 - 255 * grey).astype(np.uint8), (np.clip(2 * mel.shape[1], 128, 256), 96), "bicubic")
        return {"wav": base64.b64encode(wav(samples, rate)).decode(), "png": as_png(picture)}

    media = "audio"
    suffix = ".wav"

    @classmethod
    def as_file(cls, answer: bytes) -> bytes:
        return answer  # it is one

    # -- knowledge ---------------------------------------------------------------------------------------------------
    def fit(self, values: Sequence[Any]) -> None:
        sample = opened_sample(values, partial(open_audio, rate=self.options.rate or _MAX_RATE), _SAMPLE)
        recordings = [opened for opened in sample if opened is not None]
        if not recordings:
            raise DataError("An audio column needs at least one readable recording in the training rows; found none.")
        median = int(np.median([rate for rate, _ in recordings]))
        self.sampling_rate = self.options.rate or min(_MAX_RATE, median)
        self.spectra = LogMel(self.sampling_rate, self.options.bands)
        spectrograms = [self._spectrogram(rate, samples) for rate, samples in recordings]
        frames = np.concatenate(spectrograms)
        self.mean, self.scale = float(frames.mean()), float(frames.std()) + 1e-3
        lengths = np.array([len(s) / self.options.step for s in spectrograms])
        self.longest = int(lengths.max())
        self.length_bars = fit_bars(lengths / self.longest)

    def _spectrogram(self, rate: int, samples: np.ndarray) -> np.ndarray:
        """Log-mel [frames, bands] of whole patches."""
        samples = resampled(samples, rate, self.sampling_rate)
        samples = same_loudness(samples, self.sampling_rate) if self.options.even else samples
        return self.spectra(samples, self.options.step)

    def knowledge(self) -> dict[str, Any]:
        return {
            "rate": self.sampling_rate,
            "mean": self.mean,
            "scale": self.scale,
            "longest": self.longest,
            "lengths": self.length_bars.knowledge(),
        }

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.sampling_rate, self.longest = knowledge["rate"], knowledge["longest"]
        self.mean, self.scale = knowledge["mean"], knowledge["scale"]
        self.length_bars = Bars(**knowledge["lengths"])
        self.spectra = LogMel(self.sampling_rate, self.options.bands)

    @property
    def patch_size(self) -> int:
        """Numbers of one patch."""
        return self.options.step * self.options.bands

    # -- values to arrays ----------------------------------------------------------------------------------------------
    def log_mel(self, value: Any) -> np.ndarray:
        """[frames, bands], as far as `encode` keeps it. Raises BadValueError."""
        patches = self.encode(value)["mel"].astype(np.float32)
        return patches.reshape(-1, self.options.bands) * self.scale + self.mean

    def sound_of(self, log_mel: np.ndarray) -> bytes:
        """A WAV file that sounds like a spectrogram [frames, bands]."""
        return wav(self.spectra.invert(log_mel), self.sampling_rate)

    def encode(self, value: Any) -> dict[str, np.ndarray]:
        mel = (self._spectrogram(*open_audio(value, self.sampling_rate)) - self.mean) / self.scale
        return {"mel": mel.astype(np.float16).reshape(-1, self.patch_size)}

    def blank(self) -> dict[str, np.ndarray]:
        return {"mel": np.zeros((1, self.patch_size), dtype=np.float16)}

    def sketch(self, mel: np.ndarray) -> np.ndarray:
        """What simple models see of a recording's patches: its seconds, the whole spectrogram in a few frames, each
        band's mean and spread; under 1,000 numbers."""
        frames = mel.astype(np.float32).reshape(-1, self.options.bands)
        seen = cell_means(frames, min(_SEEN_BANDS, frames.shape[1]), axis=1)
        return np.concatenate([[len(seen) / 100], stretched(seen, _SEEN_FRAMES).ravel(), seen.mean(0), seen.std(0)])

    def wide_features(self, content: Content) -> WideFeatures:
        """Its sketch."""
        mel, ends = content.gather()["mel"], np.cumsum(content.lens)
        sketches = [
            self.sketch(mel[end - n : end]) for n, end in zip(content.lens.tolist(), ends.tolist(), strict=True)
        ]
        dense = np.stack(sketches) if sketches else np.zeros((0, len(self.sketch(self.blank()["mel"]))))
        return WideFeatures(len(content), {"sketch": numbers(dense)}, dense)

    def dropped(self, content: Content, read_on: Beside | None = None) -> dict[str, int]:
        longer = int((content.lens > self.options.length).sum())
        seconds = self.options.length * self.options.step / 100
        return {f"recordings longer than {seconds:g} s, heard up to there": longer} if longer else {}

    @property
    def window_length(self) -> int:
        return self.options.length

    def max_positions(self, content: Content) -> np.ndarray:
        slowest = np.ceil(content.lens * (1 + self.options.speed)).astype(np.int64)
        return np.minimum(slowest, self.options.length) + 1

    # -- parts -------------------------------------------------------------------------------------------------------
    def parts(self, content: Content, asked: bool) -> Parts:
        count = 0 if asked else int(min(content.lens[0], self.options.length))
        seconds = self.options.step / 100
        labels = [f"{i * seconds:.2f} to {(i + 1) * seconds:.2f} s" for i in range(count)]
        return Parts(np.arange(count), labels, "frame", grid=(1, count))

    def hide(self, arrays: Arrays, hidden: np.ndarray) -> Arrays:
        """As loud everywhere as training was on average."""
        return {**arrays, "mel": np.where(hidden[:, None], np.float32(0), arrays["mel"])}

    def view(self, content: Content) -> np.ndarray | None:
        """The spectrogram, dark where it is loud, low pitches below."""
        mel = content.gather()["mel"][: self.options.length].astype(np.float32).reshape(-1, self.options.bands)
        loud = (mel - mel.min()) / max(float(np.ptp(mel)), 1e-6)
        return (255 - 255 * loud.T[::-1]).round().astype(np.uint8)

    def without(self, content: Content, left_out: np.ndarray, asked: bool) -> Content:
        out = np.zeros((len(content), int(content.lens.max(initial=0))), dtype=bool)
        out[:, : left_out.shape[1]] = left_out
        flat = out[np.repeat(np.arange(len(content)), content.lens), local_positions(content.lens)]
        mel = np.where(flat[:, None], np.float16(0), content.gather()["mel"])
        return Content({**content.gather(), "mel": mel}, content.lens)

    # -- arrays to positions -------------------------------------------------------------------------------------------
    def segment(self, content: Content, context: SegmentContext) -> Segment:
        keys, role = context.keys, context.role
        lens = np.minimum(content.lens, self.options.length)
        first = np.zeros_like(lens)
        if context.augment and role == Role.MASKED:
            first = rng.integers(rng.mix(keys, "window"), content.lens - lens + 1)
        mel = content.window(first, lens).gather()["mel"].astype(np.float32)
        if role == Role.ASKED:
            return self._asked(mel, lens, keys)
        if context.augment:
            mel, lens = augmented(self, mel, lens, keys)
        position = local_positions(lens)
        level = np.ones(len(mel), dtype=np.float32)
        embedded = {"position": position, "count": np.zeros_like(position)}  # how many there are stays unknown
        if role == Role.GIVEN:
            return Segment({"mel": mel, "level": level, **embedded}, lens)
        level[self._masked(lens, keys)] = 0
        reads = np.flatnonzero(level == 0)
        seen = noisy(mel, self.noise(lens, keys), level[:, None])
        targets = self._targets(mel[reads], level[reads], position[reads], embedded["count"][reads])
        return Segment({"mel": seen, "level": level, **embedded}, lens, reads=reads, targets=targets)

    def _asked(self, mel: np.ndarray, lens: np.ndarray, keys: np.ndarray) -> Segment:
        """The slot, then all patches at one noise level."""
        level = np.repeat(asked_level(keys), lens).astype(np.float32)
        seen = noisy(mel, self.noise(lens, keys), level[:, None])
        position = local_positions(lens + 1) - 1
        is_patch = position >= 0

        def beside_slots(array: np.ndarray) -> np.ndarray:
            whole = np.zeros((len(position), *array.shape[1:]), dtype=np.float32)
            whole[is_patch] = array
            return whole

        seen, mel, level = beside_slots(seen), beside_slots(mel), beside_slots(level)
        count = np.repeat(lens, lens + 1)
        return Segment(
            {"mel": seen, "level": level, "position": position, "count": count},
            lens + 1,
            order=is_patch.astype(np.int64),
            reads=np.arange(len(position), dtype=np.int64),
            targets=self._targets(mel, level, position, count),
        )

    def _targets(
        self, mel: np.ndarray, level: np.ndarray, position: np.ndarray, count: np.ndarray
    ) -> dict[str, np.ndarray]:
        length = (count / self.longest).astype(np.float32)
        return {**denoising_targets(mel, level), "position": position, "length": length}

    def noise(self, lens: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Normal numbers [n, numbers of a patch], each patch's of its own key."""
        return rng.normal(rng.mix(np.repeat(rng.mix(keys, "noise"), lens), local_positions(lens)), self.patch_size)

    def _masked(self, lens: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """bool [n]: runs of `span` patches that begin anywhere, one at least."""
        o, local = self.options, local_positions(lens)
        u = rng.uniform(rng.mix(np.repeat(rng.mix(keys, "hide"), lens), local))
        begins = u < 1 - (1 - o.mask_rate) ** (1 / o.span)
        begins[np.cumsum(lens) - lens + rng.integers(rng.mix(keys, "begin"), lens)] = True
        masked = begins.copy()
        for shift in range(1, min(o.span, int(lens.max(initial=1)))):
            masked[shift:] |= begins[:-shift] & (local[shift:] >= shift)
        return masked


def _open(value: Any) -> tuple[int, np.ndarray]:
    return open_audio(value, _MAX_RATE)


def _looks_like_sound(value: Any) -> bool:
    if isinstance(value, dict):
        return "bytes" in value and str(value.get("path") or "").lower().endswith(SUFFIXES)
    if isinstance(value, tuple):
        return len(value) == 2 and isinstance(value[0], int) and isinstance(value[1], np.ndarray)
    if isinstance(value, bytes):
        wav = value[:4] == b"RIFF" and value[8:12] == b"WAVE"  # other RIFF files are pictures (WebP) or films
        return wav or value[:4] in (b"fLaC", b"OggS", b"FORM") or value[:3] == b"ID3"
    return isinstance(value, Path) and value.name.lower().endswith(SUFFIXES)
